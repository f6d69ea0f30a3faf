"""Labelled ground: polygons, points and label rasters, as labelled pixels of a scene."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from outcrop.errors import OutcropError
from outcrop.sources.scene import Scene
from outcrop.sources.seam import Overlaid, turns_within
from outcrop.sources.systems import check_way
from outcrop.sources.vector import is_vector, read_vector, reproject

_TILE = 2048
_WALL_TO_WALL = 0.5


@dataclass(frozen=True)
class LabelledPixels:
    """The labelled pixels of one scene.

    Attributes:
        row, column: int64, `N`, in the scene.
        label: int64, `N`, an index into the classes of the labels they came from.
        polygon: int64, `N`, the polygon, point or connected patch of labelled pixels.
        dropped: labelled pixels that were left out, by reason.
    """

    row: np.ndarray
    column: np.ndarray
    label: np.ndarray
    polygon: np.ndarray
    dropped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: np.ndarray) -> LabelledPixels:
        """Some of the pixels, by index or mask."""
        return replace(
            self,
            row=self.row[index],
            column=self.column[index],
            label=self.label[index],
            polygon=self.polygon[index],
        )


class Labels(Protocol):
    """Labelled ground that can be laid on scenes."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        ...

    @property
    def across_scenes(self) -> bool:
        """Whether a polygon's number means the same polygon in every scene."""
        ...

    def on(self, scene: Scene) -> LabelledPixels:
        """The labelled pixels of `scene`, none if the labels lie outside it."""
        ...

    def attribute(self, name: str, polygon: np.ndarray) -> np.ndarray:
        """The values, as text, of another column of the labels for the given polygons."""
        ...


def open_labels(
    path: str | Path,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    crs: str | None = None,
) -> Labels:
    """Open labelled polygons or points (any vector format of GDAL) or a label raster.

    Args:
        column: the column of a vector file that names the class.
        classes: names for the values of a label raster, in ascending order of the values; without
            them the band's tags `CLASS_1`, ... (as in a class map), or "class 1", ....
        crs: the coordinate reference system, for files that do not carry one.

    Raises:
        OutcropError: missing or unreadable file, unknown column, no usable geometry, no CRS, fewer
            than two classes.
    """
    path = Path(path)
    if not path.exists():
        raise OutcropError(path, "no such file; check the name")
    labels = (
        _open_vector(path, column, crs) if is_vector(path) else _open_raster(path, classes, crs)
    )
    if len(labels.classes) < 2:
        only = f"one class only ('{labels.classes[0]}')" if labels.classes else "no class at all"
        raise OutcropError(path, f"holds {only}; a classifier needs two or more")
    return labels


@dataclass(frozen=True)
class VectorLabels:
    """Polygons or points with a class.

    The parts of a multi-part feature count as polygons of their own. A pixel belongs to a polygon
    when its middle lies inside. A pixel that polygons or points of
    different classes claim is dropped and counted as `conflict`.
    """

    path: Path
    classes: tuple[str, ...]
    frame: Any
    codes: np.ndarray
    across_scenes: ClassVar[bool] = True

    def on(self, scene: Scene) -> LabelledPixels:
        """The labelled pixels of `scene`."""
        frame = reproject(self.frame, scene.crs, self.path, scene.bounds)
        points = (frame.geom_type == "Point").to_numpy()
        parts = [
            self._polygon_pixels(frame[~points], scene),
            self._point_pixels(frame[points], scene),
        ]
        row, column, polygon, other = (np.concatenate(field) for field in zip(*parts, strict=True))
        order = np.argsort(row * scene.width + column, kind="stable")
        row, column, polygon, other = row[order], column[order], polygon[order], other[order]
        starts = np.flatnonzero(np.r_[True, np.diff(row * scene.width + column) != 0][: len(row)])
        label = self.codes[polygon]
        different = label != self.codes[other]
        different |= label != np.repeat(label[starts], np.diff(np.r_[starts, len(row)]))
        clash = np.logical_or.reduceat(different, starts) if len(starts) else starts.astype(bool)
        kept = starts[~clash]
        return LabelledPixels(
            row[kept], column[kept], label[kept], polygon[kept], {"conflict": int(clash.sum())}
        )

    def attribute(self, name: str, polygon: np.ndarray) -> np.ndarray:
        """The values, as text, of another column for the given polygons."""
        _check_column(self.path, self.frame, name)
        return self.frame[name].astype(str).to_numpy()[polygon]

    def _polygon_pixels(self, frame: Any, scene: Scene) -> tuple[np.ndarray, ...]:
        """Row, column and the last and the first polygon that covers each covered pixel."""
        from affine import Affine
        from rasterio.features import rasterize
        from shapely import box

        found = []
        for row, column, height, width in _tiles(scene):
            x, y = scene.xy(
                np.array([row, row, row + height, row + height]) - 0.5,
                np.array([column, column + width, column, column + width]) - 0.5,
            )
            near = frame.iloc[frame.sindex.query(box(x.min(), y.min(), x.max(), y.max()))]
            if near.empty:
                continue
            near = near.sort_index()
            shapes = list(zip(near.geometry, near.index + 1, strict=True))
            transform = Affine(*scene.transform) @ Affine.translation(column, row)
            last, first = (
                rasterize(order, (height, width), transform=transform, dtype="int32")
                for order in (shapes, shapes[::-1])
            )
            r, c = np.nonzero(last)
            found.append((r + row, c + column, last[r, c] - 1, first[r, c] - 1))
        return _join(found, 4)

    def _point_pixels(self, frame: Any, scene: Scene) -> tuple[np.ndarray, ...]:
        row, column = scene.row_column(frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy())
        inside = (row >= 0) & (row < scene.height) & (column >= 0) & (column < scene.width)
        index = frame.index.to_numpy()[inside]
        return row[inside], column[inside], index, index


@dataclass(frozen=True)
class RasterLabels:
    """A raster whose pixel values are classes.

    The nodata value, or 0 where none is declared, means unlabelled. A raster on another grid or
    in another CRS is brought onto the scene's by nearest neighbour. Connected pixels of one class
    (8 neighbours) are one labelled patch of ground; but where more than half of the scene is
    labelled the raster is a wall-to-wall map, and each pixel stands by itself.
    """

    path: Path
    classes: tuple[str, ...]
    values: np.ndarray
    crs: str
    across_scenes: ClassVar[bool] = False

    def on(self, scene: Scene) -> LabelledPixels:
        """The labelled pixels of `scene`."""
        found = []
        with _label_reader(self.path, self.crs, scene) as dataset:
            for window in _tiles(scene):
                tile, labelled = _read_tile(dataset, self.path, *window)
                r, c = np.nonzero(labelled)
                label = np.searchsorted(self.values, tile[r, c])
                found.append((r + window[0], c + window[1], label))
        row, column, label = _join(found, 3)
        if len(row) > _WALL_TO_WALL * scene.height * scene.width:
            return LabelledPixels(row, column, label, np.arange(len(row)))
        return LabelledPixels(row, column, label, _connected(row, column, label, scene.width))

    def attribute(self, name: str, polygon: np.ndarray) -> np.ndarray:
        """A raster has no further columns."""
        raise OutcropError(self.path, f"is a raster and has no column '{name}'")


def _open_vector(path: Path, column: str | None, crs: str | None) -> VectorLabels:
    import shapely

    frame = read_vector(path, crs)
    if column is None:
        raise OutcropError(
            path, f"pass --column with the column that names the class; it has {_columns(frame)}"
        )
    _check_column(path, frame, column)
    shapes = frame.geometry.to_numpy()
    drawn = ~shapely.is_missing(shapes) & ~shapely.is_empty(shapes)
    usable = frame[drawn & frame[column].notna()]
    usable = usable[usable.geom_type.isin(["Polygon", "MultiPolygon", "Point", "MultiPoint"])]
    usable = usable.explode(index_parts=False, ignore_index=True)
    polygons = usable.geom_type == "Polygon"
    usable.loc[polygons, "geometry"] = usable.loc[polygons, "geometry"].make_valid()
    if usable.empty:
        raise OutcropError(path, "has no polygon or point with a class; every geometry is empty")
    codes, classes = usable[column].factorize(sort=True)
    return VectorLabels(path, tuple(_name(value) for value in classes), usable, codes)


def _open_raster(path: Path, classes: Sequence[str] | None, crs: str | None) -> RasterLabels:
    from outcrop.sources.opening import open_grid

    grid = open_grid(path, crs)
    values: set[float] = set()
    with _label_reader(path, grid.crs, grid) as dataset:
        tags = dataset.tags(1)
        for window in _tiles(grid):
            tile, labelled = _read_tile(dataset, path, *window)
            values.update(np.unique(tile[labelled]).tolist())
    ordered = sorted(values)
    if any(value != int(value) for value in ordered):
        raise OutcropError(
            path, "is no label raster: its values are not whole numbers; number the classes"
        )
    if len(ordered) > 255:
        raise OutcropError(
            path,
            f"is no label raster: it has {len(ordered)} different values; group them to classes",
        )
    if classes is not None and len(classes) != len(ordered):
        raise OutcropError(
            path,
            f"has {len(ordered)} values but --classes names {len(classes)}; give one name each",
        )
    names = classes or [tags.get(f"CLASS_{int(v)}", f"class {int(v)}") for v in ordered]
    return RasterLabels(path, tuple(names), np.array(ordered), grid.crs)


@contextmanager
def _label_reader(path: Path, crs: str, scene: Scene) -> Iterator[Any]:
    """The label raster as it lies on the scene's grid."""
    import rasterio
    from affine import Affine

    transform = Affine(*scene.transform)
    with rasterio.open(path) as dataset:
        grid = (dataset.height, dataset.width, crs)
        if grid == (scene.height, scene.width, scene.crs) and dataset.transform == transform:
            yield dataset
            return
        check_way(path, crs, scene.crs)
        with on_grid(dataset, crs, scene.crs, transform, scene.height, scene.width) as warped:
            yield warped


def on_grid(dataset: Any, own_crs: Any, crs: Any, transform: Any, height: int, width: int) -> Any:
    """An open raster of classes as it lies on another grid, by nearest neighbour.

    Returns:
        A rasterio dataset to be closed; its nodata is the raster's own, or 0.
    """
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    own, its = (CRS.from_user_input(each).to_wkt() for each in (own_crs, crs))
    turns = turns_within(dataset.bounds, own, its, transform, height, width)
    # GDAL finds what to read of the raster by a few points of the grid, and so loses pixels beside
    # a seam that runs through it; there all points have to be asked.
    every = {"SAMPLE_GRID": "YES", "SAMPLE_STEPS": "ALL"} if len(turns) > 1 else {}
    warped = [
        WarpedVRT(
            dataset,
            src_crs=own_crs,
            src_transform=Affine.translation(turn, 0) @ dataset.transform,
            crs=crs,
            transform=transform,
            width=width,
            height=height,
            resampling=Resampling.nearest,
            nodata=0 if dataset.nodata is None else dataset.nodata,
            **every,
        )
        for turn in turns
    ]
    return warped[0] if len(warped) == 1 else Overlaid(warped)


def _read_tile(
    dataset: Any, path: Path, row: int, column: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Values of a window and where they are labels."""
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    window = Window(column, row, width, height)
    try:
        tile = dataset.read(1, window=window)
        labelled = dataset.read_masks(1, window=window) > 0
    except RasterioError:
        raise OutcropError(path, "cannot be read; the file is truncated or damaged") from None
    if dataset.nodata is None:
        labelled &= tile != 0
    if tile.dtype.kind == "f":
        labelled &= np.isfinite(tile)
    return tile, labelled


def _connected(row: np.ndarray, column: np.ndarray, label: np.ndarray, width: int) -> np.ndarray:
    """Connected patches (8 neighbours, one class) of labelled pixels given in row-major order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(row)
    if n == 0:
        return np.empty(0, np.int64)
    # One spare column at each side, so that a row's end is no neighbour of the next row's start.
    place = row * (width + 2) + column
    order = np.argsort(place)
    links = []
    for step in (1, width + 1, width + 2, width + 3):
        at = np.minimum(np.searchsorted(place, place + step, sorter=order), n - 1)
        neighbour = order[at]
        linked = (place[neighbour] == place + step) & (label[neighbour] == label)
        links.append((np.flatnonzero(linked), neighbour[linked]))
    one, other = (np.concatenate(ends) for ends in zip(*links, strict=True))
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _tiles(scene: Scene) -> Iterator[tuple[int, int, int, int]]:
    for row in range(0, scene.height, _TILE):
        for column in range(0, scene.width, _TILE):
            yield row, column, min(_TILE, scene.height - row), min(_TILE, scene.width - column)


def _join(found: Sequence[tuple[np.ndarray, ...]], fields: int) -> tuple[np.ndarray, ...]:
    if not found:
        return tuple(np.empty(0, np.int64) for _ in range(fields))
    return tuple(np.concatenate(parts).astype(np.int64) for parts in zip(*found, strict=True))


def _check_column(path: Path, frame: Any, column: str) -> None:
    if column not in frame.columns or column == frame.geometry.name:
        raise OutcropError(path, f"has no column '{column}'; it has {_columns(frame)}")


def _columns(frame: Any) -> str:
    return ", ".join(str(name) for name in frame.columns if name != frame.geometry.name)


def _name(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
