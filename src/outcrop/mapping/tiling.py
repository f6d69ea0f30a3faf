"""How a picture is divided: tiles that are computed alike, and windows of whole tiles."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

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
