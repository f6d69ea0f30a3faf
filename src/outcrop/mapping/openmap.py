"""A class map that is read: its classes, its grid, and what it says at a place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.mapping.layers import NODATA
from outcrop.mapping.rasters import (
    count_classes,
    map_classes,
    open_raster,
    pixel_hectares,
    windows,
)
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

    @property
    def hectares(self) -> float:
        """Of a pixel; NaN if the CRS does not measure in lengths."""
        return pixel_hectares(self.path)

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

    @cached_property
    def pixel_metres(self) -> tuple[float, float]:
        """Height and width of a pixel in metres; in degrees, those of the middle of the map."""
        from pyproj import CRS

        a, b, _, d, e, _ = self.scene.transform
        crs = CRS.from_wkt(self.scene.crs)
        if not crs.is_geographic:
            unit = crs.axis_info[0].unit_conversion_factor
            return float(np.hypot(b, e)) * unit, float(np.hypot(a, d)) * unit
        middle = np.array([self.scene.height // 2]), np.array([self.scene.width // 2])
        x, y = (float(z[0]) for z in self.scene.xy(*middle))
        geod = crs.get_geod()
        assert geod is not None
        return geod.inv(x, y, x + b, y + e)[2], geod.inv(x, y, x + a, y + d)[2]

    def block_of(self, row: np.ndarray, column: np.ndarray, metres: float) -> np.ndarray:
        """The number of the block of ground that pixels lie in.

        Blocks are counted in whole pixels from the map's first, at least one.

        Args:
            metres: side of a block.
        """
        tall, wide = (max(1, round(metres / side)) for side in self.pixel_metres)
        return row // tall * (self.scene.width // wide + 1) + column // wide


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
