"""Pictures of scenes with labels, split and blocks; and the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from outcrop.frames import Colour, indexed_png
from outcrop.metrics.scores import worst_mistakes
from outcrop.patches.palette import colours
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import upper_left
from outcrop.reporting.rasters import jpeg, png, read_scene
from outcrop.sources.geodesy import pixel_areas
from outcrop.sources.grids import pixel_metres
from outcrop.sources.names import file_name
from outcrop.sources.scene import Scene
from outcrop.sources.stretch import Stretch, stretches
from outcrop.splits import BUFFER, TEST, TRAIN, VALIDATION, Folds
from outcrop.training.run import Predictions

SIDE_COLOURS: dict[int, Colour] = {
    TRAIN: (0, 114, 178),
    VALIDATION: (230, 120, 0),
    TEST: (204, 121, 167),
    BUFFER: (120, 120, 120),
}
_MOST_LINES = 200
# Part of the width of a picture: about four pixels of a screen, on which it is 350 pixels wide.
_LEAST_MARK = 1 / 85
_LINE_POINTS = 9


@dataclass(frozen=True)
class Key:
    """Explanation of the colours of a panel.

    Attributes:
        scale: colours of a colour bar from left to right; empty if there is none.
        low, high: labels of its ends.
        words: further explanation.
    """

    scale: tuple[Colour, ...] = ()
    low: str = "0 %"
    high: str = "100 %"
    words: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture: layers of one size over each other, with lines on top.

    Attributes:
        title: caption.
        height, width: size of the layers in pixels.
        layers: data URIs, the lowest layer first.
        lines: SVG path in pixels of the layers.
        key: explanation of the colours that are not in the legend of classes.
    """

    title: str
    height: int
    width: int
    layers: tuple[str, ...]
    lines: str = ""
    key: Key | None = None


@dataclass(frozen=True)
class Mistake:
    """A wrong patch with a high confidence.

    Attributes:
        pictures: data URIs, one for each combination of bands.
        height, width: size of the patch in pixels.
        row, column: position of the labelled pixel in the patch.
        truth, predicted: class names.
        confidence: probability of the predicted class, 0 to 1.
        where: position in words; empty if the patch has none.
        alike: number of wrong patches in the same labelled polygon, this one included.
    """

    pictures: tuple[str, ...]
    height: int
    width: int
    row: int
    column: int
    truth: str
    predicted: str
    confidence: float
    where: str
    alike: int


@dataclass(frozen=True)
class ScenePictures:
    """A scene that is read once at reduced size, and the panels made from it.

    Attributes:
        scene: the scene.
        longest: longer side of the pictures in pixels.
    """

    scene: Scene
    longest: int

    @cached_property
    def pixels(self) -> np.ndarray:
        """float32, `bands × h × w`."""
        return read_scene(self.scene, self.longest)

    @cached_property
    def ways(self) -> tuple[Stretch, ...]:
        """Combinations of bands that show this scene."""
        return stretches(self.pixels, [band.name for band in self.scene.bands], self.scene.sensor)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def in_colour(self) -> Panel:
        """The scene itself."""
        way = self.ways[0]
        return Panel(f"Scene, {way.words}", *self.size, (jpeg(way(self.pixels)),))

    @cached_property
    def paper(self) -> str:
        """The scene in light grey, as a background."""
        grey = self.ways[0](self.pixels).astype(np.float32).mean(axis=2)
        return jpeg(np.rint(135 + 120 / 255 * grey).astype(np.uint8))

    def drawn(
        self,
        title: str,
        patches: PatchSet,
        source: int,
        codes: np.ndarray,
        palette: Sequence[Colour],
        stride: int,
    ) -> Panel:
        """The labelled pixels of this scene, in the colours of the codes of their patches.

        Args:
            source: index of this scene in the sources of the patches.
            codes: int, index into `palette` for each patch.
            stride: side in pixels of the square drawn for a patch.
        """
        assert patches.positions is not None
        index = np.flatnonzero(patches.positions.source == source)
        height, width = self.size
        layer = np.zeros((height, width), np.uint8)
        centre_row = patches.positions.row[index]
        centre_column = patches.positions.column[index]
        for down in range(stride):
            for right in range(stride):
                row = np.clip(upper_left(centre_row, stride) + down, 0, self.scene.height - 1)
                column = np.clip(upper_left(centre_column, stride) + right, 0, self.scene.width - 1)
                at = row * height // self.scene.height, column * width // self.scene.width
                layer[at] = codes[index] + 1
        layer = with_visible_marks(layer, max(1, round(width * _LEAST_MARK)))
        return Panel(title, height, width, (self.paper, indexed_png(layer, palette)))


def with_visible_marks(layer: np.ndarray, least: int) -> np.ndarray:
    """Enlarge marks that are too small to be seen to about `least` pixels across.

    Connected marks that are larger keep their shape. Enlarged marks cover no other mark, and where
    two meet, each pixel belongs to the nearer one.

    Args:
        layer: uint8, `h × w`, codes of marks; 0 is empty.

    >>> layer = np.zeros((5, 9), np.uint8)
    >>> layer[2, 2], layer[:, 6:] = 1, 2
    >>> with_visible_marks(layer, 3)
    array([[0, 0, 0, 0, 0, 0, 2, 2, 2],
           [0, 1, 1, 1, 0, 0, 2, 2, 2],
           [0, 1, 1, 1, 0, 0, 2, 2, 2],
           [0, 1, 1, 1, 0, 0, 2, 2, 2],
           [0, 0, 0, 0, 0, 0, 2, 2, 2]], dtype=uint8)
    """
    from scipy.ndimage import distance_transform_edt, find_objects, label

    connected, _ = label(layer > 0, np.ones((3, 3)))
    extents = [max(s.stop - s.start for s in part) for part in find_objects(connected)]
    small = np.array([False, *(extent < least for extent in extents)])[connected]
    if not small.any():
        return layer
    distance, nearest = distance_transform_edt(~small, return_indices=True)
    grown = (layer == 0) & (distance <= least / 2)
    return np.where(grown, layer[tuple(nearest)], layer)


def size_words(scene: Scene) -> str:
    """The size of a scene and its pixels, and its coordinate reference system."""
    from pyproj import CRS

    crs = CRS.from_wkt(scene.crs)
    unit = crs.axis_info[0].unit_name
    unit = {"metre": "m", "degree": "°"}.get(unit, unit)
    where = "" if crs.name == "unnamed" else f" in {crs.name}"
    pixel = f"{abs(scene.transform[0]):.4g} {unit}"
    areas = pixel_areas(scene)
    if unit == "m" and not areas.are_equal:
        middle = areas.at(np.array([scene.height // 2]), np.array([scene.width // 2]))
        pixel += f" ({float(np.sqrt(middle[0])):.3g} m on the earth)"
    if unit == "°":
        wide, tall = pixel_metres(scene)
        pixel += f" (about {wide:.3g} × {tall:.3g} m)"
    return f"{scene.width:,} × {scene.height:,} pixels of {pixel}{where}"


def with_grid(panel: Panel, scene: Scene, crs: str, block: float) -> Panel:
    """Draw the borders of blocks of `block` metres in `crs` on a panel of a scene."""
    from pyproj import Transformer

    there = Transformer.from_crs(scene.crs, crs, always_xy=True)
    back = Transformer.from_crs(crs, scene.crs, always_xy=True)
    left, bottom, right, top = there.transform_bounds(*scene.bounds)
    across = np.arange(np.ceil(left / block), np.floor(right / block) + 1) * block
    along = np.arange(np.ceil(bottom / block), np.floor(top / block) + 1) * block
    if len(across) + len(along) > _MOST_LINES:
        return panel
    x, y = np.linspace(left, right, _LINE_POINTS), np.linspace(bottom, top, _LINE_POINTS)
    lines = [(np.full_like(y, at), y) for at in across] + [(x, np.full_like(x, at)) for at in along]
    a, b, c, d, e, f = scene.transform
    inverse = np.linalg.inv(np.array([[a, b], [d, e]]))
    path = []
    for line in lines:
        at_x, at_y = back.transform(*line)
        column, row = inverse @ np.stack([at_x - c, at_y - f])
        column, row = column * panel.width / scene.width, row * panel.height / scene.height
        path.append("M" + "L".join(f"{u:.1f} {v:.1f}" for u, v in zip(column, row, strict=True)))
    return replace(panel, lines="".join(path))


def split_panel(
    pictures: ScenePictures, patches: PatchSet, folds: Folds, source: int, stride: int
) -> Panel:
    """The labelled pixels of a scene by side of the split, or by the fold that holds them out."""
    if len(folds) > 1:
        title, palette, codes = "Folds", fold_colours(len(folds)), folds.held_out
    else:
        title, palette = "Split", [SIDE_COLOURS[side] for side in sorted(SIDE_COLOURS)]
        codes = folds.splits[0].sides
    panel = pictures.drawn(title, patches, source, codes, palette, stride)
    crs = patches.crs_of(source)
    if folds.how.get("splitter") == "BlockSplit" and crs is not None:
        return with_grid(panel, pictures.scene, crs, float(folds.how["block"]))
    return panel


def fold_colours(number: int) -> list[tuple[int, int, int]]:
    """A colour for each fold."""
    return colours(tuple(f"fold {fold}" for fold in range(number)))


def mistakes(
    patches: PatchSet, found: Predictions, scenes: dict[int, ScenePictures], count: int = 18
) -> list[Mistake]:
    """The wrong patches with the highest confidence, in descending order.

    Only the worst patch of each labelled polygon is returned, because its patches look alike.
    """
    worst = worst_mistakes(found.truth, found.probabilities, len(found.truth))
    polygon = worst if patches.positions is None else patches.positions.polygon[found.index[worst]]
    _, first, alike = np.unique(polygon, return_index=True, return_counts=True)
    chosen = np.argsort(first)[:count]
    worst, alike = worst[first[chosen]], alike[chosen]
    images = patches.take(found.index[worst])
    height, width = patches.size
    made = []
    for image, which, number in zip(images, worst, alike, strict=True):
        index = found.index[which]
        source = -1 if patches.positions is None else int(patches.positions.source[index])
        ways = scenes[source].ways if source in scenes else stretches(image, patches.bands)
        made.append(
            Mistake(
                pictures=tuple(png(way(image)) for way in ways),
                height=height,
                width=width,
                row=-upper_left(0, height),
                column=-upper_left(0, width),
                truth=patches.classes[found.truth[which]],
                predicted=patches.classes[found.probabilities[which].argmax()],
                confidence=float(found.probabilities[which].max()),
                where=_where(patches, index),
                alike=int(number),
            )
        )
    return made


def _where(patches: PatchSet, index: int) -> str:
    if patches.positions is None:
        return ""
    at = patches.positions
    source = file_name(patches.sources[at.source[index]].opened[0])
    pixel = f"row {at.row[index]}, column {at.column[index]}"
    if patches.from_volume:
        return f"{source}, slice {at.index[index]} across axis {at.axis[index]}\n{pixel}"
    return f"{source}, {pixel}\nx {at.x[index]:.0f}, y {at.y[index]:.0f}"
