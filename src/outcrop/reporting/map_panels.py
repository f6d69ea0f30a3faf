"""Panels of a class map: scene, map, confidence, area of applicability, errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.frames import Colour, indexed_png, reduced_size
from outcrop.mapping.layers import LAYERS, NODATA
from outcrop.mapping.openmap import open_raster
from outcrop.reporting.panels import Key, Panel, ScenePictures
from outcrop.reporting.rasters import read_values
from outcrop.sources.class_raster import ClassRaster, windows
from outcrop.sources.grids import same_grid
from outcrop.sources.opening import open_grid
from outcrop.sources.scene import Scene
from outcrop.sources.stretch import ways_to_show

_THRESHOLD = 100


@dataclass(frozen=True)
class Cells:
    """Number of pixels with data, and of those with a property, in each cell of a picture.

    Attributes:
        known: int64, `h × w`, pixels with data.
        holds: int64, `h × w`, pixels with data and the property.
    """

    known: np.ndarray
    holds: np.ndarray

    @property
    def overall(self) -> float:
        """Share of the pixels with data that have the property; NaN if no pixel has data."""
        known = int(self.known.sum())
        return int(self.holds.sum()) / known if known else np.nan

    @property
    def shares(self) -> np.ndarray:
        """The same by cell: float64, `h × w`, NaN without data."""
        nothing = np.full(self.known.shape, np.nan)
        return np.divide(self.holds, self.known, out=nothing, where=self.known > 0)


def count_cells(
    masks: Iterable[tuple[Any, np.ndarray]], shape: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Count the pixels of a raster in each cell of a smaller picture.

    Args:
        masks: windows that cover the raster once, each with bool `masks × rows × columns`.
        shape: rows and columns of the raster.
        size: rows and columns of the picture; at most those of the raster.

    Returns:
        int64, `masks × h × w`.
    """
    found: np.ndarray | None = None
    for window, mask in masks:
        corner, part = (window.row_off, window.col_off), mask.shape[1:]
        cells = [
            np.arange(start, start + length) * few // many
            for start, length, few, many in zip(corner, part, size, shape, strict=True)
        ]
        sums = mask.astype(np.int64)
        for axis, cell in enumerate(cells, start=1):
            first = np.flatnonzero(np.diff(cell, prepend=-1))
            sums = np.add.reduceat(sums, first, axis=axis)
        if found is None:
            found = np.zeros((len(mask), *size), np.int64)
        down, right = (slice(cell[0], cell[-1] + 1) for cell in cells)
        found[:, down, right] += sums
    assert found is not None
    return found


def wrong_cells(
    path: Path, truth: ClassRaster, classes: Sequence[str], size: tuple[int, int]
) -> tuple[Cells, np.ndarray]:
    """Count the pixels where a class map differs from a raster of true classes.

    Args:
        path: the map.
        truth: raster of true classes on any grid; it is resampled to the map's grid by nearest
            neighbour.
        classes: classes of the map, from value 1, then the other classes of the truth.
        size: height and width of the picture.

    Returns:
        The pixels that both know, and those that differ; and the truth at the size of the picture,
        by nearest neighbour: uint8, `h × w`, from 1 in the order of `classes`, the number after
        the last for any other class, 0 where the truth is unknown.

    Raises:
        OutcropError: a file is missing or damaged; the truth has no class in common with `classes`.
    """
    if not set(truth.classes) & set(classes):
        raise OutcropError(
            truth.path,
            f"has no class of the map: its classes are {', '.join(truth.classes)}, those of the "
            f"map {', '.join(classes)}; name its values with `classes`",
        )
    codes = np.array([_code(name, classes) for name in (*truth.classes, None)], np.uint8)
    with open_raster(path) as mapped:
        crs, transform = mapped.crs.to_wkt(), tuple(mapped.transform)[:6]
        with truth.reader(crs, transform, mapped.height, mapped.width) as reader:

            def masks() -> Iterator[tuple[Any, np.ndarray]]:
                for window in windows(mapped):
                    found = mapped.read(1, window=window)
                    where = window.row_off, window.col_off, window.height, window.width
                    true = codes[reader.read(*where)]
                    known = (found != NODATA) & (true != 0)
                    yield window, np.stack([known, known & (found != true)])

            known, wrong = count_cells(masks(), mapped.shape, size)
            sample = codes[reader.sample(size)]
    return Cells(known, wrong), sample


def outside_cells(path: Path, size: tuple[int, int]) -> Cells:
    """Count the pixels of a dissimilarity layer, and those outside the area of applicability.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    with open_raster(path) as dataset:

        def masks() -> Iterator[tuple[Any, np.ndarray]]:
            for window in windows(dataset):
                dissimilarity = dataset.read(1, window=window)
                known = dissimilarity != LAYERS["dissimilarity"].nodata
                yield window, np.stack([known, known & (dissimilarity > _THRESHOLD)])

        return Cells(*count_cells(masks(), dataset.shape, size))


def _code(name: str | None, classes: Sequence[str]) -> int:
    """Code of a class: from 1 in the order of `classes`, then one for all others; 0 for None."""
    if name is None:
        return 0
    return classes.index(name) + 1 if name in classes else len(classes) + 1


_AGREES, _DIFFERS = (222, 228, 232), (200, 30, 60)
_OTHER = (150, 150, 150)
_VEIL, _HATCH = (245, 245, 245), (60, 60, 60)
_VEIL_OPACITY = 0.72
_HATCHES = 90
_STEPS = 20


def scene_panel(scene: Scene, longest: int) -> Panel:
    """The scene in colour; only the displayed bands are read."""
    bands, _ = ways_to_show([band.name for band in scene.bands], scene.sensor)[0]
    return ScenePictures(scene.take_bands(list(dict.fromkeys(bands))), longest).in_colour()


def class_panel(path: Path, palette: Sequence[Colour], longest: int) -> Panel:
    """A class map in the colours of its classes."""
    codes = np.nan_to_num(read_values(path, longest)).astype(np.uint8)
    height, width = codes.shape
    return Panel("Class map", height, width, (indexed_png(codes, palette),))


def truth_panels(
    path: Path, truth: ClassRaster, classes: Mapping[str, Colour], longest: int
) -> list[Panel]:
    """The truth in the colours of its classes, and the local share of wrong pixels.

    Args:
        classes: colours of the classes of the map, then of the other classes of the truth.

    Raises:
        OutcropError: a file is missing or damaged.
    """
    whole = open_grid(path)
    size = reduced_size(whole.height, whole.width, longest)
    wrong, codes = wrong_cells(path, truth, list(classes), size)
    ramp = _ramp(_AGREES, _DIFFERS)
    levels = np.rint(np.nan_to_num(_STEPS * wrong.shares, nan=-1)).astype(np.int64) + 1
    errors = indexed_png(levels.astype(np.uint8), ramp)
    key = Key(tuple(ramp), "map and truth agree", "they differ")
    return [
        Panel("Truth", *size, (indexed_png(codes, [*classes.values(), _OTHER]),)),
        Panel("Errors", *size, (errors,), key=key),
    ]


def percent_panel(path: Path, layer: str, longest: int) -> Panel:
    """Confidence or entropy, 0 to 100 %: reliable pixels are bright, no data is transparent.

    Args:
        layer: "confidence" or "entropy".
    """
    percent = read_values(path, longest, averages=True)
    codes = np.rint(np.nan_to_num(np.clip(percent, 0, 100), nan=-1)).astype(np.int64) + 1
    scale = _viridis()[:: 1 if layer == "confidence" else -1]
    picture, key = indexed_png(codes.astype(np.uint8), scale), Key(tuple(scale[::10]))
    height, width = codes.shape
    return Panel(layer.capitalize(), height, width, (picture,), key=key)


def applicability_panel(path: Path, below: Panel) -> tuple[Panel, float]:
    """The class map, with a hatched veil outside the area of applicability.

    Args:
        path: layer of the dissimilarity in per cent of its threshold.
        below: panel of the class map.

    Returns:
        The panel, and the share of the pixels with data that are outside; NaN if none has data.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    size = below.height, below.width
    cells = outside_cells(path, size)
    outside = np.nan_to_num(cells.shares) > 0.5
    veil = indexed_png(_hatched(outside), [_VEIL, _HATCH], _VEIL_OPACITY)
    key = Key(words="hatched veil: outside the area of applicability")
    return Panel("Area of applicability", *size, (*below.layers, veil), key=key), cells.overall


def check_layer(path: Path, layer: str, grid: Scene) -> None:
    """Check that a file is this layer of a map.

    Args:
        layer: name in `LAYERS`.
        grid: grid of the map.

    Raises:
        OutcropError: the file is not a raster, has another grid, or holds another layer.
    """
    check_grid(open_grid(path, grid.crs), grid)
    with open_raster(path) as dataset:
        title, dtype = dataset.descriptions[0], dataset.dtypes[0]
    kind = (title or "").partition(" (")[0]
    others = [other.title.partition(" (")[0] for other in LAYERS.values() if other.name != layer]
    if dtype != "uint8" or kind in others:
        held = title if kind in others else f"{dtype} numbers"
        raise OutcropError(
            path, f"holds {held}; pass the {layer} layer that was written with the map"
        )


def check_grid(scene: Scene, grid: Scene) -> None:
    """Check that a scene has the grid of a map.

    Raises:
        OutcropError: size, transform or coordinate reference system differ.
    """
    if not same_grid(scene, grid):
        raise OutcropError(
            scene.title,
            f"is not on the grid of {grid.title}; pass the mapped scene, or a layer of this map",
        )


def _hatched(mask: np.ndarray) -> np.ndarray:
    """Hatch a mask: 2 on lines from lower left to upper right, 1 between them, 0 outside; uint8."""
    height, width = mask.shape
    period = max(4, max(height, width) // _HATCHES)
    down, right = np.ogrid[:height, :width]
    return np.where(mask, 1 + ((down + right) % period < max(1, period // 4)), 0).astype(np.uint8)


def _ramp(start: Colour, end: Colour) -> list[Colour]:
    """Colours in equal steps from one to another."""
    steps = np.rint(np.linspace(start, end, _STEPS + 1)).astype(int).tolist()
    return [(red, green, blue) for red, green, blue in steps]


def _viridis() -> list[Colour]:
    """The colour of each integer per cent."""
    from matplotlib import colormaps

    colours = np.rint(255 * colormaps["viridis"](np.linspace(0, 1, 101))[:, :3]).astype(int)
    return [(red, green, blue) for red, green, blue in colours.tolist()]
