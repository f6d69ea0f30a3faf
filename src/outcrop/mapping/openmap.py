"""Class maps on disk: their classes, grid, areas and pixel values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.frames import Colour, figure, indexed_png, reduced_size
from outcrop.mapping.layers import NO_SHARE, NODATA
from outcrop.patches.palette import palette
from outcrop.sources.class_raster import windows
from outcrop.sources.geodesy import PixelAreas, pixel_areas
from outcrop.sources.opening import open_grid
from outcrop.sources.scene import CACHE_BYTES, Scene

_HECTARE = 10_000


def map_classes(path: str | Path) -> tuple[str, ...]:
    """The class names of a map that `map_scene` wrote, in the order of its values.

    Raises:
        OutcropError: the file is missing, or is not a class map.
    """
    with open_raster(path) as dataset:
        tags, dtype = dataset.tags(1), dataset.dtypes[0]
    names: list[str] = []
    while f"CLASS_{len(names) + 1}" in tags:
        names.append(tags[f"CLASS_{len(names) + 1}"])
    if not names or dtype != "uint8":
        raise OutcropError(path, "is not a class map; make one with `outcrop.map_scene`")
    return tuple(names)


def map_colours(path: str | Path) -> dict[str, Colour]:
    """The colour of each class of a map by name, from its colour table.

    Raises:
        OutcropError: the file is missing, or is not a class map.
    """
    names = map_classes(path)
    with open_raster(path) as dataset:
        try:
            table = dataset.colormap(1)
        except ValueError:  # The map was rewritten by a program that drops it.
            table = {}
    given = {name: table[i][:3] for i, name in enumerate(names, start=1) if i in table}
    return palette(names, given)


def count_values(path: str | Path) -> np.ndarray:
    """Pixels of each value of a uint8 raster: int64, `256`.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    counts = np.zeros(256, np.int64)
    with open_raster(path) as dataset:
        for window in windows(dataset):
            counts += np.bincount(dataset.read(1, window=window).ravel(), minlength=256)
    return counts


def share_outside(path: str | Path) -> float:
    """Share of a map's pixels outside the area of applicability; NaN if no pixel has data.

    Args:
        path: the layer "dissimilarity" that `map_scene` wrote.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    counts = count_values(path)
    known = counts[:NO_SHARE].sum()
    return float(counts[101:NO_SHARE].sum() / known) if known else np.nan


@contextmanager
def open_raster(path: str | Path) -> Iterator[Any]:
    """Open a raster file as a rasterio dataset.

    Raises:
        OutcropError: the file is missing, is not a raster, or is damaged.
    """
    import rasterio
    from rasterio.errors import RasterioError

    if not Path(path).exists():
        raise OutcropError(path, "no such file; check the name")
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(path) as dataset:
            yield dataset
    except RasterioError:
        raise OutcropError(
            path, "is not a raster that GDAL can read, or is damaged; export it again"
        ) from None


@dataclass(frozen=True)
class OpenMap:
    """A class map on disk.

    Attributes:
        path: the file.
        classes: class names; pixel value 1 is the first of them, 0 is no data.
        scene: grid of the map.
    """

    path: Path
    classes: tuple[str, ...]
    scene: Scene

    @cached_property
    def counts(self) -> np.ndarray:
        """Pixels of each class: int64, `K`; pixels without data are not counted.

        Raises:
            OutcropError: the map has values without a class name.
        """
        counts = count_values(self.path)
        known = len(self.classes) + 1
        if counts[known:].any():
            beyond = ", ".join(map(str, known + np.flatnonzero(counts[known:])))
            raise OutcropError(
                self.path,
                f"has no class name for the values {beyond}; add tags CLASS_n to its band",
            )
        return counts[1:known]

    @property
    def pixels(self) -> np.ndarray:
        """The same for a map that must not be empty.

        Raises:
            OutcropError: the map has values without a class name, or no pixel with a class.
        """
        if not self.counts.any():
            raise OutcropError(self.path, "has no pixel with a class; map a scene that has data")
        return self.counts

    @cached_property
    def pixel_areas(self) -> PixelAreas:
        """The true area of each pixel."""
        return pixel_areas(self.scene)

    @cached_property
    def hectares(self) -> np.ndarray:
        """True hectares of each class: float64, `K`; NaN if they are unknown."""
        areas = self.pixel_areas
        if areas.are_equal:
            return self.counts * areas.constant / _HECTARE
        total = np.zeros(256)
        with open_raster(self.path) as dataset:
            for window in windows(dataset):
                area = areas.window(window.row_off, window.col_off, window.height, window.width)
                values = dataset.read(1, window=window)
                total += np.bincount(values.ravel(), area.ravel(), minlength=256)
        return total[1 : len(self.classes) + 1] / _HECTARE

    @property
    def sizes(self) -> np.ndarray:
        """Size of each class, `K`: pixels if all pixels have the same area, otherwise hectares."""
        return self.pixels if self.pixel_areas.are_equal else self.hectares

    def pixel_sizes(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Size of pixels: 1 if all have the same area, otherwise square metres; float64, `N`."""
        return np.ones(len(row)) if self.pixel_areas.are_equal else self.pixel_areas.at(row, column)

    def inside(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Mask of the positions inside the map's grid."""
        tall, wide = self.scene.height, self.scene.width
        return (row >= 0) & (row < tall) & (column >= 0) & (column < wide)

    def at(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Pixel values, uint8, at positions inside the grid; read in windows of bounded size."""
        values = np.full(len(row), NODATA, np.uint8)
        with open_raster(self.path) as dataset:
            for window in windows(dataset):
                r, c = row - window.row_off, column - window.col_off
                here = (r >= 0) & (r < window.height) & (c >= 0) & (c < window.width)
                if here.any():
                    tile = dataset.read(1, window=window)
                    values[here] = tile[r[here], c[here]]
        return values

    @property
    def side(self) -> float:
        """The longer side of the map in metres."""
        return max(self._sides)

    def block_of(self, row: np.ndarray, column: np.ndarray, metres: float) -> np.ndarray:
        """Number of the spatial block that contains the centre of each pixel.

        Blocks are squares from the map's upper-left corner: along its rows and columns if its
        coordinate reference system has true metres, otherwise in `Scene.metric_crs`.

        Args:
            metres: side of a block in metres.
        """
        down, right = (np.maximum(z // metres, 0) for z in self._from_corner(row, column))
        most = self._sides[1] // metres
        return (down * (most + 1) + np.minimum(right, most)).astype(np.int64)

    @cached_property
    def _sides(self) -> tuple[float, float]:
        """Largest distances in metres of any pixel from the map's corner: down and to the right."""
        down, right = self._from_corner(*self._lattice())
        return float(np.nanmax(down)), float(np.nanmax(right))

    def _from_corner(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances in metres from the map's corner: down and to the right."""
        a, b, _, d, e, _ = self.scene.transform
        if self.scene.metric_crs == self.scene.crs:
            return (row + 0.5) * float(np.hypot(b, e)), (column + 0.5) * float(np.hypot(a, d))
        left, top = self._corner
        x, y = self._to_metric.transform(*self.scene.xy(row, column))
        return top - y, x - left

    @cached_property
    def _corner(self) -> tuple[float, float]:
        """Smallest x and largest y of the map in metres."""
        x, y = self._to_metric.transform(*self.scene.xy(*self._lattice()))
        finite = np.isfinite(x) & np.isfinite(y)
        return float(x[finite].min()), float(y[finite].max())

    def _lattice(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of 33 × 33 points spread over the map and its border."""
        sides = (self.scene.height, self.scene.width)
        rows, columns = (np.linspace(-0.5, length - 0.5, 33) for length in sides)
        row, column = np.meshgrid(rows, columns, indexing="ij")
        return row.ravel(), column.ravel()

    @cached_property
    def _to_metric(self) -> Any:
        from pyproj import Transformer

        return Transformer.from_crs(self.scene.crs, self.scene.metric_crs, always_xy=True)


def map_figure(path: str | Path, longest: int = 320) -> str:
    """A small picture of a class map as HTML, with a legend of its classes.

    Args:
        longest: longer side of the picture in pixels at most.

    Raises:
        OutcropError: the file is missing, or is not a class map.
    """
    by_name = map_colours(path)
    names, chosen = list(by_name), list(by_name.values())
    with open_raster(path) as dataset:
        codes = dataset.read(1, out_shape=reduced_size(dataset.height, dataset.width, longest))
    return figure(indexed_png(codes, chosen), Path(path).name, names, chosen)


def open_map(path: str | Path) -> OpenMap:
    """Open a class map that `outcrop map` wrote.

    Raises:
        OutcropError: there is no such file; it is not a class map, or has no coordinate reference
            system.
    """
    path = Path(path)
    if not path.exists():
        raise OutcropError(path, "no such file; make a map with `outcrop.map_scene`")
    classes = map_classes(path)
    if len(set(classes)) < len(classes):
        raise OutcropError(path, "has several classes of one name; correct the tags of its band")
    with open_raster(path) as dataset:
        if dataset.crs is None:
            raise OutcropError(path, "has no coordinate reference system; add one with gdal_edit")
    scene = open_grid(path)
    return OpenMap(path, classes, replace(scene, bands=scene.bands[:1]))
