"""Division of an image into windows and tiles, and what is computed for each window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from outcrop.mapping.images import ImageReader
from outcrop.mapping.layers import LAYERS, render
from outcrop.mapping.predictor import Predictor

_SMALL = 128


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: upper-left pixel and size; in a volume, also the slice."""

    row: int
    column: int
    height: int
    width: int
    index: int = 0


@dataclass(frozen=True)
class Tiling:
    """Tiles and windows of an image.

    A tile goes through a network at once. All tiles of an image have the same size and lie on one
    grid; those at the lower and right edge extend beyond the image. Kernels may sum in another
    order for another size. Because the tiles do not depend on the windows, the classes of a map are
    identical bit by bit for all sizes of windows and all executors.

    Attributes:
        height, width: size of the image in pixels.
        tile: rows and columns of a tile.
        group: number of tiles of a window along rows and columns.
    """

    height: int
    width: int
    tile: tuple[int, int]
    group: tuple[int, int]

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows, row by row, clipped to the image."""
        tall, wide = (tile * many for tile, many in zip(self.tile, self.group, strict=True))
        return tuple(
            Window(row, column, min(tall, self.height - row), min(wide, self.width - column))
            for row, column in product(range(0, self.height, tall), range(0, self.width, wide))
        )

    def tiles(self, window: Window) -> tuple[tuple[int, int], ...]:
        """Row and column of each tile inside a window."""
        tall, wide = self.tile
        return tuple(product(range(0, window.height, tall), range(0, window.width, wide)))

    def covered(self, window: Window) -> tuple[int, int]:
        """Number of rows and columns that the tiles of a window cover."""
        lengths = zip((window.height, window.width), self.tile, strict=True)
        tall, wide = (-(-length // tile) * tile for length, tile in lengths)
        return tall, wide


def divide(height: int, width: int, largest: int, multiple: int, window: int = 1) -> Tiling:
    """Divide an image into tiles of one size, as few and as small as possible.

    Small images are halved nevertheless, so that several workers can share one.

    Args:
        largest: maximum rows and columns of a tile, before rounding to `multiple`.
        multiple: rows and columns are multiples of this number.
        window: minimum rows and columns of a window, if the image has as many.

    >>> divide(1200, 300, largest=512, multiple=4).tile
    (400, 152)
    """
    sides = []
    for length in (height, width):
        tiles = max(-(-length // largest), 2 if length > _SMALL else 1)
        sides.append(-(-length // (tiles * multiple)) * multiple)
    tall, wide = sides
    return Tiling(height, width, (tall, wide), (-(-window // tall), -(-window // wide)))


Dissimilarity = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Job:
    """How every window of an image is mapped.

    Attributes:
        predictor: the models.
        tiling: windows and tiles of the image.
        layers: names of `outcrop.mapping.layers.LAYERS`.
        step: predict one pixel of each cell of `step × step` and give its values to the cell.
        dissimilarity: function from features, `N × C`, to the dissimilarity index divided by its
            threshold; for the layer "dissimilarity".
    """

    predictor: Predictor
    tiling: Tiling
    layers: tuple[str, ...]
    step: int = 1
    dissimilarity: Dissimilarity | None = None

    def read(self, reader: ImageReader, window: Window) -> np.ndarray:
        """Read all pixels that the tiles of a window need."""
        size = self.tiling.covered(window)
        return self.predictor.read(reader, window.index, window.row, window.column, *size)

    def classify(self, window: Window, pixels: np.ndarray) -> np.ndarray:
        """Compute the layers of a window: uint8, `layers × height × width`.

        Args:
            pixels: result of `read`.
        """
        top, left, below, right = self.predictor.margins
        inside = pixels[:, top : top + window.height, left : left + window.width]
        valid = np.zeros(self.tiling.covered(window), bool)
        valid[: window.height, : window.width] = np.isfinite(inside).all(axis=0)
        made = np.empty((len(self.layers), *valid.shape), np.uint8)
        tall, wide = self.tiling.tile
        for row, column in self.tiling.tiles(window):
            here = np.s_[row : row + tall, column : column + wide]
            rows = slice(row, row + top + tall + below)
            columns = slice(column, column + left + wide + right)
            made[:, *here] = self._tile(pixels[:, rows, columns], valid[here])
        return made[:, : window.height, : window.width]

    def _tile(self, pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
        nodata = np.array([LAYERS[name].nodata for name in self.layers], np.uint8)[:, None, None]
        if not valid.any():
            return np.broadcast_to(nodata, (len(nodata), *valid.shape))
        wanted = _one_of_each_cell(valid, self.step)
        found = self.predictor.predict(pixels, wanted, self.dissimilarity is not None)
        ratio = None
        if self.dissimilarity is not None and found.features is not None:
            ratio = np.zeros(wanted.shape, np.float32)
            ratio[wanted] = self.dissimilarity(found.features[:, wanted].T)
        made = render(self.layers, found.probabilities, ratio)
        if self.step > 1:
            made = _spread(made, wanted, self.step)
        return np.where(valid, made, nodata)


def _one_of_each_cell(valid: np.ndarray, step: int) -> np.ndarray:
    """Mask of the valid pixel nearest the centre of each cell of `step × step` pixels."""
    if step == 1:
        return valid
    row, column = np.nonzero(valid)
    middle = (step - 1) / 2
    distance = np.hypot(row % step - middle, column % step - middle)
    order = np.lexsort((distance, column // step, row // step))
    cell = row[order] // step * valid.shape[1] + column[order] // step
    first = order[np.r_[True, np.diff(cell) != 0]] if len(order) else order
    chosen = np.zeros_like(valid)
    chosen[row[first], column[first]] = True
    return chosen


def _spread(values: np.ndarray, chosen: np.ndarray, step: int) -> np.ndarray:
    """Copy the values of each cell's chosen pixel to the whole cell."""
    _, height, width = values.shape
    cells = np.zeros((len(values), -(-height // step), -(-width // step)), values.dtype)
    row, column = np.nonzero(chosen)
    cells[:, row // step, column // step] = values[:, row, column]
    return cells.repeat(step, axis=1).repeat(step, axis=2)[:, :height, :width]
