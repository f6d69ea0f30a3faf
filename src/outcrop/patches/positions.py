"""Where a patch was cut, and the one convention that says which pixel it belongs to.

A patch of `size` pixels belongs to its *centre pixel*. Its upper-left pixel lies `size // 2` rows
above and `size // 2` columns left of the centre. For odd sizes that is the true middle; for even
sizes the centre is the lower right of the four middle pixels. Cutting, locating and mapping all
take the convention from `upper_left`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from outcrop.errors import OutcropError

Coordinate = TypeVar("Coordinate", int, np.ndarray)


def upper_left(centre: Coordinate, size: int) -> Coordinate:
    """Row (or column) of a patch's upper-left pixel from that of its centre pixel.

    >>> upper_left(10, 5), upper_left(10, 4)
    (8, 8)
    """
    return centre - size // 2


@dataclass(frozen=True)
class Source:
    """A scene that patches were cut from.

    Attributes:
        name: the file, or the files joined by commas.
        crs: coordinate reference system as WKT.
        transform: the six numbers a, b, c, d, e, f of the affine map from (column, row) to (x, y)
            in that system.
        height, width: the scene's size in pixels.
    """

    name: str
    crs: str
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int


@dataclass(frozen=True)
class Positions:
    """Where each of N patches was cut. All fields are arrays of length N.

    Attributes:
        source: int, index of the source in the patch set's `sources`.
        row, column: int, the centre pixel in that source, from 0.
        x, y: float, the middle of the centre pixel, in metres, in the patch set's `crs`.
        width, height: float, the patch's extent on the ground in metres.
        polygon: int, the labelled polygon (or patch of labelled pixels, or point) that the centre
            lies in; unique over all sources.

    Raises:
        OutcropError: the arrays differ in length.
    """

    source: np.ndarray
    row: np.ndarray
    column: np.ndarray
    x: np.ndarray
    y: np.ndarray
    width: np.ndarray
    height: np.ndarray
    polygon: np.ndarray

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise OutcropError("positions", f"columns of different length {lengths}")

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: np.ndarray) -> Positions:
        """The positions of some of the patches, by index or mask."""
        return Positions(**{f.name: getattr(self, f.name)[index] for f in fields(self)})
