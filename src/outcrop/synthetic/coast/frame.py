"""Where the images lie: windows in a row along one shore."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.synthetic.draws import Draws

PIXEL = 10.0  # metres
CRS = "EPSG:32648"
_WEST, _NORTH = 600_000.0, 1_050_000.0


@dataclass(frozen=True)
class Frame:
    """A square window of ground.

    Attributes:
        west, north: metres, its upper-left corner.
        size: pixels along a side.
    """

    west: float
    north: float
    size: int

    @property
    def x(self) -> np.ndarray:
        """Eastings of the columns' middles."""
        return self.west + PIXEL * (np.arange(self.size) + 0.5)

    @property
    def y(self) -> np.ndarray:
        """Northings of the rows' middles, falling."""
        return self.north - PIXEL * (np.arange(self.size) + 0.5)

    @property
    def depth(self) -> float:
        """Side in metres; the belts along the shore are as wide as the frame has room for."""
        return PIXEL * self.size

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """The affine map from (column, row) to (x, y)."""
        return PIXEL, 0.0, self.west, 0.0, -PIXEL, self.north


def frame(index: int, size: int, draws: Draws) -> Frame:
    """The window of image `index`: it touches the next one, and follows the shore up and down."""
    west = _WEST + index * size * PIXEL
    middle = float(shore(west + size * PIXEL / 2, draws))
    return Frame(west, round(middle / PIXEL + 0.77 * size) * PIXEL, size)


def shore(x: np.ndarray | float, draws: Draws) -> np.ndarray:
    """Northing of the smoothed shoreline at easting `x`, in metres."""
    phases = 2 * np.pi * draws.uniform("shore", np.arange(2))
    long = 500 * np.sin(2 * np.pi * np.asarray(x) / 11_000 + phases[0])
    return _NORTH + long + 180 * np.sin(2 * np.pi * np.asarray(x) / 4_700 + phases[1])
