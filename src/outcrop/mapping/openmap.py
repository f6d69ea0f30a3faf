"""A class map that is read: its classes, its grid, and what it says at a place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.mapping.layers import NODATA
from outcrop.mapping.rasters import (
    class_hectares,
    count_classes,
    map_classes,
    open_raster,
)
from outcrop.sources.class_raster import windows
from outcrop.sources.geodesy import PixelAreas, pixel_areas
from outcrop.sources.opening import open_grid
from outcrop.sources.scene import Scene


@dataclass(frozen=True)
class OpenMap:
    """A class map on disk.

    Attributes:
        path: the file.
        classes: the names of its classes; pixel value 1 is the first of them, 0 no data.
        scene: its grid.
    """

    path: Path
    classes: tuple[str, ...]
    scene: Scene

    @cached_property
    def pixels(self) -> np.ndarray:
        """Pixels of each class: int64, `K`.

        Raises:
            OutcropError: the map has values that are no class of it, or no pixel with a class.
        """
        counts = count_classes(self.path)
        if not counts.any():
            raise OutcropError(self.path, "has no pixel with a class; map a scene that has data")
        return counts

    @cached_property
    def pixel_areas(self) -> PixelAreas:
        """The true area of each pixel."""
        return pixel_areas(self.scene)

    @cached_property
    def hectares(self) -> np.ndarray:
        """True hectares of each class: float64, `K`; NaN if areas are unknown."""
        return class_hectares(self.path, self.pixels, self.pixel_areas)

    @property
    def sizes(self) -> np.ndarray:
        """The area of each class: hectares, or pixels where all pixels count as equal: `K`."""
        return self.pixels if self.pixel_areas.are_equal else self.hectares

    def pixel_sizes(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Square metres of pixels, or 1 for each where all count as equal: float64, `N`."""
        return np.ones(len(row)) if self.pixel_areas.are_equal else self.pixel_areas.at(row, column)

    def inside(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Mask of the pixels that are on the map's grid."""
        tall, wide = self.scene.height, self.scene.width
        return (row >= 0) & (row < tall) & (column >= 0) & (column < wide)

    def at(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Pixel values, uint8, at pixels inside the grid; read in windows of bounded size."""
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
        """The number of the block of ground that the middles of pixels lie in.

        Blocks are the squares of a grid from the map's upper-left corner: along its rows and
        columns if its own system is true in metres, else in `Scene.metric_crs`.

        Args:
            metres: side of a block.
        """
        down, right = (np.maximum(z // metres, 0) for z in self._from_corner(row, column))
        most = self._sides[1] // metres
        return (down * (most + 1) + np.minimum(right, most)).astype(np.int64)

    @cached_property
    def _sides(self) -> tuple[float, float]:
        """The most that any pixel lies below and to the right of the map's corner, in metres."""
        rows, columns = (
            np.linspace(-0.5, length - 0.5, 33) for length in (self.scene.height, self.scene.width)
        )
        row, column = (z.ravel() for z in np.meshgrid(rows, columns, indexing="ij"))
        down, right = self._from_corner(row, column)
        return float(np.nanmax(down)), float(np.nanmax(right))

    def _from_corner(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Metres below and to the right of the map's corner."""
        a, b, _, d, e, _ = self.scene.transform
        if self.scene.metric_crs == self.scene.crs:
            return (row + 0.5) * float(np.hypot(b, e)), (column + 0.5) * float(np.hypot(a, d))
        left, top = self._corner
        x, y = self._way.transform(*self.scene.xy(row, column))
        return top - y, x - left

    @cached_property
    def _corner(self) -> tuple[float, float]:
        """Smallest x and largest y of the map in metres."""
        rows, columns = (
            np.linspace(-0.5, length - 0.5, 33) for length in (self.scene.height, self.scene.width)
        )
        row, column = (z.ravel() for z in np.meshgrid(rows, columns, indexing="ij"))
        x, y = self._way.transform(*self.scene.xy(row, column))
        finite = np.isfinite(x) & np.isfinite(y)
        return float(x[finite].min()), float(y[finite].max())

    @cached_property
    def _way(self) -> Any:
        from pyproj import Transformer

        return Transformer.from_crs(self.scene.crs, self.scene.metric_crs, always_xy=True)


def open_map(path: str | Path) -> OpenMap:
    """Open a class map that `outcrop map` wrote.

    Raises:
        OutcropError: no such file, no class map, no coordinate reference system.
    """
    path = Path(path)
    if not path.exists():
        raise OutcropError(path, "no such file; make a map with `outcrop map`")
    classes = map_classes(path)
    if len(set(classes)) < len(classes):
        raise OutcropError(path, "gives one name to several classes; correct its band's tags")
    with open_raster(path) as dataset:
        if dataset.crs is None:
            raise OutcropError(path, "has no coordinate reference system; write one into it")
    scene = open_grid(path)
    return OpenMap(path, classes, replace(scene, bands=scene.bands[:1]))
