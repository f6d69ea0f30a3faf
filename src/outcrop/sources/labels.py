"""Labels: polygons, points and label rasters as labelled pixels of a scene."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np

from outcrop.errors import OutcropError
from outcrop.frames import Colour
from outcrop.sources.class_raster import ClassRaster, names_by_value, open_class_raster
from outcrop.sources.features import (
    MISSING,
    Parts,
    column_text,
    dropped_text,
    note_similar_names,
    parts_of,
    sorted_names,
)
from outcrop.sources.grids import grid_xy
from outcrop.sources.label_colours import vector_colours
from outcrop.sources.memory import AnyLabels, is_geodataframe, write_geodataframe
from outcrop.sources.names import existing_name
from outcrop.sources.scene import Scene
from outcrop.sources.vector import is_vector, read_vector, reproject

_TILE = 2048
_WALL_TO_WALL = 0.5
_BEYOND = "features beyond the domain of the scene's coordinate reference system"


@dataclass(frozen=True)
class LabelledPixels:
    """The labelled pixels of one scene.

    Attributes:
        row, column: int64, `N`, pixels of the scene, from 0.
        label: int64, `N`, index into the classes of the labels.
        polygon: int64, `N`, index of the polygon, point or connected component of labelled pixels.
        dropped: number of labelled pixels or features that were dropped, by reason.
    """

    row: np.ndarray
    column: np.ndarray
    label: np.ndarray
    polygon: np.ndarray
    dropped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: np.ndarray) -> LabelledPixels:
        """The pixels that an index or a mask selects."""
        arrays = ("row", "column", "label", "polygon")
        return replace(self, **{name: getattr(self, name)[index] for name in arrays})


def open_labels(
    path: AnyLabels,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    crs: str | None = None,
    layer: str | None = None,
    encoding: str | None = None,
) -> Labels:
    """Open labelled polygons or points (any vector format) or a label raster.

    Args:
        path: a file, a name that GDAL opens, such as `/vsizip/...` or `https://...`, or a
            GeoDataFrame.
        column: column of a vector file with the class names.
        classes: names of the values of a label raster, in ascending order of the values or each as
            `VALUE=NAME`. Without them the names in the file are used: the band tags `CLASS_1`, ...
            (as in a class map), the category names, the attribute table. A value v without a name
            is "class v".
        crs: coordinate reference system for a file without one, such as "EPSG:32648".
        layer: layer of a vector file with several layers.
        encoding: text encoding of a vector file that declares none or a wrong one.

    Returns:
        labels, whose pixels on a scene are `labels.on(scene)`.

    Raises:
        OutcropError: the file is missing or unreadable; there is no such column; no geometry is
            usable; there is no CRS; there are fewer than two classes; an option does not apply to
            this kind of file.

    >>> import geopandas, shapely
    >>> fields = geopandas.GeoDataFrame(
    ...     {"crop": ["rice", "maize"]},
    ...     geometry=[shapely.box(0, 0, 20, 20), shapely.box(20, 0, 40, 20)],
    ...     crs=32648,
    ... )
    >>> open_labels(fields, "crop").classes
    ('maize', 'rice')
    """
    return open_label_files([path], column, classes, crs, layer, encoding)[0]


def open_label_files(
    paths: Sequence[AnyLabels],
    column: str | None = None,
    classes: Sequence[str] | None = None,
    crs: str | None = None,
    layer: str | None = None,
    encoding: str | None = None,
) -> list[Labels]:
    """Open several label files that share their classes; see `open_labels`.

    A name in `classes` belongs to the same value in all rasters. Without `VALUE=NAME`, the names
    are in the order of the values of all rasters together.

    Raises:
        OutcropError: as for `open_labels`.
    """
    names = [
        existing_name(write_geodataframe(path) if is_geodataframe(path) else path) for path in paths
    ]
    vector = [is_vector(name) for name in names]
    first = names[0]
    if all(vector) and classes is not None:
        raise OutcropError(
            "`classes`", f"applies to label rasters, and {first} is a vector file; leave it out"
        )
    if not any(vector):
        for option, value in (("column", column), ("layer", layer), ("encoding", encoding)):
            if value is not None:
                raise OutcropError(
                    f"`{option}`", f"applies to vector files, and {first} is a raster; leave it out"
                )
    opened: list[Labels] = []
    for name, is_one in zip(names, vector, strict=True):
        if is_one:
            opened.append(_open_vector(name, column, crs, layer, encoding))
        else:
            raster = open_class_raster(name, crs)
            raster.note_zero()
            opened.append(RasterLabels(raster))
    if classes is not None:
        rasters = [labels.raster for labels in opened if isinstance(labels, RasterLabels)]
        by_value = names_by_value(rasters, classes)
        opened = [
            RasterLabels(labels.raster.named(by_value))
            if isinstance(labels, RasterLabels)
            else labels
            for labels in opened
        ]
    every = list(dict.fromkeys(name for labels in opened for name in labels.classes))
    if len(every) < 2:
        only = f"only one class ('{every[0]}')" if every else "no class"
        raise OutcropError(first, f"has {only}; pass labels of two or more classes")
    how = "give them one name with `classes`" if not any(vector) else "use one spelling in the file"
    note_similar_names(", ".join(dict.fromkeys(names)), every, f"{how} if they are the same class")
    return opened


@dataclass(frozen=True)
class VectorLabels:
    """Polygons or points with a class.

    The parts of a multi-part feature count as separate polygons. A pixel belongs to a polygon if
    its centre is inside. A pixel that is claimed by polygons or points of different classes is
    dropped and counted as `conflict`.

    Attributes:
        path: the file.
        classes: the class names.
        frame: GeoDataFrame with one row per polygon or point and an index from 0.
        codes: int64, as long as `frame`, index into `classes`.
        dropped: number of features without a label, by reason.
        colours: the colours of classes in the style of the file.
        across_scenes: whether a polygon index means the same polygon in every scene.
    """

    path: str
    classes: tuple[str, ...]
    frame: Any
    codes: np.ndarray
    dropped: Mapping[str, int] = field(default_factory=dict)
    colours: Mapping[str, Colour] = field(default_factory=dict)
    across_scenes: ClassVar[bool] = True

    def on(self, scene: Scene) -> LabelledPixels:
        """The labelled pixels of `scene`; none if the labels are outside it."""
        frame = reproject(self.frame, scene.crs, self.path, scene.bounds)
        # Outside the domain of a projection, coordinates are infinite.
        there = np.isfinite(frame.bounds.to_numpy()).all(axis=1)
        frame = frame[there]
        points = (frame.geom_type == "Point").to_numpy()
        polygons = self._polygon_pixels(frame[~points], scene)
        parts = polygons, self._point_pixels(frame[points], scene)
        row, column, polygon, other = map(np.concatenate, zip(*parts, strict=True))
        order = np.argsort(row * scene.width + column, kind="stable")
        row, column, polygon, other = row[order], column[order], polygon[order], other[order]
        starts = np.flatnonzero(np.r_[True, np.diff(row * scene.width + column) != 0][: len(row)])
        label = self.codes[polygon]
        different = label != self.codes[other]
        different |= label != np.repeat(label[starts], np.diff(np.r_[starts, len(row)]))
        clash = np.logical_or.reduceat(different, starts) if len(starts) else starts.astype(bool)
        kept = starts[~clash]
        dropped = {"conflict": int(clash.sum()), _BEYOND: int((~there).sum())}
        return LabelledPixels(
            row=row[kept],
            column=column[kept],
            label=label[kept],
            polygon=polygon[kept],
            dropped={reason: count for reason, count in dropped.items() if count},
        )

    def attribute(self, name: str, polygon: np.ndarray) -> np.ndarray:
        """The values of another column for some polygons, as text.

        Integers have no decimals and dates are in ISO 8601. A missing value is `MISSING`.
        """
        _check_column(self.path, self.frame, name)
        text = column_text(self.frame[name])
        text[[value is None for value in text]] = MISSING
        return text[polygon]

    def _polygon_pixels(self, frame: Any, scene: Scene) -> tuple[np.ndarray, ...]:
        """Row, column and two polygon indices of each covered pixel.

        Of all polygons that cover a pixel, one has the last class and one the first, so that they
        differ in class if any polygons of the pixel do.
        """
        from affine import Affine
        from rasterio.features import rasterize
        from shapely import box

        found = []
        for row, column, height, width in _tiles(scene.height, scene.width):
            rows = np.array([row, row, row + height, row + height])
            columns = np.array([column, column + width, column, column + width])
            x, y = grid_xy(scene.transform, rows, columns)
            near = frame.iloc[frame.sindex.query(box(x.min(), y.min(), x.max(), y.max()))]
            if near.empty:
                continue
            near = near.sort_index()
            # The polygon that is rasterized last stays. In the order of the classes it has the
            # last class of all polygons on the pixel, in the reverse order the first.
            near = near.iloc[np.argsort(self.codes[near.index], kind="stable")]
            shapes = list(zip(near.geometry, near.index + 1, strict=True))
            transform = Affine(*scene.transform) @ Affine.translation(column, row)
            last, first = (
                rasterize(order, (height, width), transform=transform, dtype="int32")
                for order in (shapes, shapes[::-1])
            )
            r, c = np.nonzero(last)
            found.append((r + row, c + column, last[r, c] - 1, first[r, c] - 1))
        return _concatenate(found, 4)

    def _point_pixels(self, frame: Any, scene: Scene) -> tuple[np.ndarray, ...]:
        row, column = scene.row_column(frame.geometry.x.to_numpy(), frame.geometry.y.to_numpy())
        inside = (row >= 0) & (row < scene.height) & (column >= 0) & (column < scene.width)
        index = frame.index.to_numpy()[inside]
        return row[inside], column[inside], index, index


@dataclass(frozen=True)
class RasterLabels:
    """A raster whose pixel values are classes.

    A raster on another grid or in another CRS is resampled to the grid of the scene by nearest
    neighbour. Connected pixels of one class (8 neighbours) count as one polygon. If more than half
    of the scene is labelled, the raster is a wall-to-wall map and each pixel counts as a polygon.

    Attributes:
        raster: the raster.
        dropped: empty, because a raster has no features.
        across_scenes: whether a polygon index means the same polygon in every scene.
    """

    raster: ClassRaster
    dropped: ClassVar[Mapping[str, int]] = {}
    across_scenes: ClassVar[bool] = False

    @property
    def path(self) -> str:
        """The file, or the name that GDAL opens."""
        return self.raster.path

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of their first values."""
        return self.raster.classes

    @property
    def colours(self) -> Mapping[str, Colour]:
        """The colours that the file gives to its classes."""
        return self.raster.colours

    def on(self, scene: Scene) -> LabelledPixels:
        """The labelled pixels of `scene`; none if the labels are outside it."""
        found = []
        grid = scene.crs, scene.transform, scene.height, scene.width
        with self.raster.reader(*grid) as reader:
            for window in _tiles(scene.height, scene.width):
                codes = reader.read(*window)
                r, c = np.nonzero(codes >= 0)
                found.append((r + window[0], c + window[1], codes[r, c]))
        row, column, label = _concatenate(found, 3)
        if len(row) > _WALL_TO_WALL * scene.height * scene.width:
            return LabelledPixels(row, column, label, np.arange(len(row)))
        return LabelledPixels(row, column, label, _connected(row, column, label, scene.width))

    def attribute(self, name: str, polygon: np.ndarray) -> np.ndarray:
        """Raise an error, because a raster has no columns."""
        raise OutcropError(self.path, f"is a raster and has no column '{name}'; pass a vector file")


Labels: TypeAlias = VectorLabels | RasterLabels


def _open_vector(
    path: str, column: str | None, crs: str | None, layer: str | None, encoding: str | None
) -> VectorLabels:
    frame = read_vector(path, crs, layer, encoding, column)
    if column is None:
        raise OutcropError(
            path, f"needs `column` with the column of class names; it has {_columns(frame)}"
        )
    _check_column(path, frame, column)
    parts = parts_of(frame, column)
    if parts.frame.empty:
        reasons = ", ".join(dropped_text(*item) for item in parts.dropped.items())
        raise OutcropError(
            path,
            f"has no polygon or point with a class in column '{column}' "
            f"({reasons or 'it has no features'}); correct the features or pass another column",
        )
    return replace(vector_labels(path, parts), colours=vector_colours(path, layer, column))


def vector_labels(path: str, parts: Parts) -> VectorLabels:
    """Labels from the polygons and points of a vector file, with sorted classes."""
    classes = sorted_names(parts.names)
    number = {name: code for code, name in enumerate(classes)}
    codes = np.array([number[name] for name in parts.names], np.int64)
    return VectorLabels(path, tuple(classes), parts.frame, codes, parts.dropped)


def _connected(row: np.ndarray, column: np.ndarray, label: np.ndarray, width: int) -> np.ndarray:
    """Index of the connected component (8 neighbours, one class) of each labelled pixel.

    The pixels are in row-major order.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(row)
    if n == 0:
        return np.empty(0, np.int64)
    # A spare column on each side separates the end of a row from the start of the next one.
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


def _tiles(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Row, column, height and width of the windows that cover a raster."""
    for row in range(0, height, _TILE):
        for column in range(0, width, _TILE):
            yield row, column, min(_TILE, height - row), min(_TILE, width - column)


def _concatenate(found: Sequence[tuple[np.ndarray, ...]], fields: int) -> tuple[np.ndarray, ...]:
    if not found:
        return tuple(np.empty(0, np.int64) for _ in range(fields))
    return tuple(np.concatenate(parts).astype(np.int64) for parts in zip(*found, strict=True))


def _check_column(path: str, frame: Any, column: str) -> None:
    if column not in frame.columns or column == frame.geometry.name:
        raise OutcropError(
            path, f"has no column '{column}' (it has {_columns(frame)}); pass another column"
        )


def _columns(frame: Any) -> str:
    return ", ".join(str(name) for name in frame.columns if name != frame.geometry.name) or "none"
