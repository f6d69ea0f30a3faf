"""Division of an image into windows and tiles, and what is computed for each window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from outcrop.mapping.layers import LAYERS, render
from outcrop.mapping.pictures import PictureReader
from outcrop.mapping.predictor import Predictor

_SMALL = 128


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: its upper-left pixel and its size; in a volume the slice too."""

    row: int
    column: int
    height: int
    width: int
    index: int = 0

    @property
    def name(self) -> str:
        """Of the file it is kept in."""
        return f"{self.index}-{self.row}-{self.column}"


@dataclass(frozen=True)
class Tiling:
    """Tiles and windows over a picture.

    A tile is what goes through a network at once. All tiles of a picture have the same size and
    lie on one lattice; those at its lower and right edge reach beyond it. A kernel may sum in
    another order for another size, so that this, and not the window, is what makes the classes of
    a map the same bit by bit, whatever the windows and whoever computes them.

    Attributes:
        height, width: of the picture.
        tile: rows and columns of a tile.
        group: tiles of a window, one below and one beside the other.
    """

    height: int
    width: int
    tile: tuple[int, int]
    group: tuple[int, int]

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows, row by row; cut off where the picture ends."""
        tall, wide = (tile * many for tile, many in zip(self.tile, self.group, strict=True))
        return tuple(
            Window(row, column, min(tall, self.height - row), min(wide, self.width - column))
            for row, column in product(range(0, self.height, tall), range(0, self.width, wide))
        )

    def tiles(self, window: Window) -> tuple[tuple[int, int], ...]:
        """Row and column, counted in the window, of its tiles."""
        tall, wide = self.tile
        return tuple(product(range(0, window.height, tall), range(0, window.width, wide)))

    def covered(self, window: Window) -> tuple[int, int]:
        """Rows and columns that the tiles of a window cover."""
        lengths = zip((window.height, window.width), self.tile, strict=True)
        tall, wide = (-(-length // tile) * tile for length, tile in lengths)
        return tall, wide


def divide(height: int, width: int, largest: int, multiple: int, window: int = 1) -> Tiling:
    """Tiles as equal as can be, none larger than need be.

    Small pictures are halved all the same, so that several can work on one.

    Args:
        largest: rows and columns that a tile has at most (but for `multiple`).
        multiple: they are multiples of it.
        window: rows and columns that a window has at least, where the picture has as many.

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
    """How every window of a picture is mapped.

    Attributes:
        predictor: what says the classes.
        tiling: the picture's windows and tiles.
        layers: names of `outcrop.mapping.layers.LAYERS`.
        step: predict one pixel of each cell of `step × step`, and give its values to the cell.
        dissimilarity: from features `N × C` to how far they lie from the training data, 1 being as
            far as is trusted; for the layer "dissimilarity".
    """

    predictor: Predictor
    tiling: Tiling
    layers: tuple[str, ...]
    step: int = 1
    dissimilarity: Dissimilarity | None = None

    def read(self, reader: PictureReader, window: Window) -> np.ndarray:
        """All pixels that the tiles of a window need."""
        tall, wide = self.tiling.covered(window)
        by = self.predictor
        return reader.read(
            window.index,
            window.row - by.above,
            window.column - by.left,
            by.above + tall + by.below,
            by.left + wide + by.right,
        )

    def classify(self, window: Window, pixels: np.ndarray) -> np.ndarray:
        """The layers of a window: uint8, `layers × height × width`.

        Args:
            pixels: what `read` gave.
        """
        by = self.predictor
        top, left = by.above, by.left
        inside = pixels[:, top : top + window.height, left : left + window.width]
        valid = np.zeros(self.tiling.covered(window), bool)
        valid[: window.height, : window.width] = np.isfinite(inside).all(axis=0)
        made = np.empty((len(self.layers), *valid.shape), np.uint8)
        tall, wide = self.tiling.tile
        for row, column in self.tiling.tiles(window):
            here = np.s_[row : row + tall, column : column + wide]
            around = np.s_[
                :,
                row : row + top + tall + by.below,
                column : column + left + wide + by.right,
            ]
            made[:, *here] = self._tile(pixels[around], valid[here])
        return made[:, : window.height, : window.width]

    def _tile(self, pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
        nodata = np.array([LAYERS[name].nodata for name in self.layers], np.uint8)[:, None, None]
        if not valid.any():
            return np.broadcast_to(nodata, (len(nodata), *valid.shape))
        wanted = _one_of_each_cell(valid, self.step)
        said = self.predictor.predict(pixels, wanted, self.dissimilarity is not None)
        far = None if said.features is None else self._far(said.features, wanted)
        made = render(self.layers, said.probabilities, far)
        if self.step > 1:
            made = _spread(made, wanted, self.step)
        return np.where(valid, made, nodata)

    def _far(self, features: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """The dissimilarity of the wanted pixels; 0 of all others."""
        assert self.dissimilarity is not None
        far = np.zeros(wanted.shape, np.float32)
        far[wanted] = self.dissimilarity(features[:, wanted].T)
        return far


def _one_of_each_cell(valid: np.ndarray, step: int) -> np.ndarray:
    """Of the valid pixels of each cell of `step × step` the one nearest its middle."""
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
    """Give the values of each cell's chosen pixel to the whole cell."""
    _, height, width = values.shape
    cells = np.zeros((len(values), -(-height // step), -(-width // step)), values.dtype)
    row, column = np.nonzero(chosen)
    cells[:, row // step, column // step] = values[:, row, column]
    return cells.repeat(step, axis=1).repeat(step, axis=2)[:, :height, :width]
