"""The inline × crossline grid that the trace headers of a SEG-Y file describe, or why none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_SPARSEST = 100


@dataclass(frozen=True)
class Grid:
    """Which trace lies where.

    Attributes:
        inlines, crosslines: the numbers along either axis, evenly spaced.
        trace: inlines × crosslines, int64: the number of the trace in the file, from 0; -1 where
            there is none.
    """

    inlines: np.ndarray
    crosslines: np.ndarray
    trace: np.ndarray


class NoGridError(ValueError):
    """The traces do not make a grid; says why, and what to do."""


def find_grid(
    inline: np.ndarray,
    crossline: np.ndarray,
    offsets: Callable[[], np.ndarray],
    gaps: bool = False,
) -> Grid:
    """Find the grid of a file from its trace headers, in whatever order the traces come.

    Lines run in the direction in which they come in the file, as in segyio; lines that come in no
    order run upwards.

    Args:
        inline, crossline: the numbers of each trace.
        offsets: gives the offset of each trace; asked for only if places come more than once.
        gaps: whether traces may be missing.

    Raises:
        NoGridError: all traces at one place, several at some, none at some, or hardly any grid.

    >>> grid = find_grid(np.array([7, 7, 9, 9]), np.array([2, 1, 2, 1]), lambda: np.zeros(4))
    >>> grid.inlines, grid.crosslines
    (array([7, 9]), array([2, 1]))
    >>> grid.trace
    array([[0, 1],
           [2, 3]])
    >>> find_grid(np.array([7, 7, 9]), np.array([1, 2, 2]), lambda: np.zeros(3))
    Traceback (most recent call last):
        ...
    outcrop.sources.volumes.segy_grid.NoGridError: 1 of 4 traces of the inline × crossline grid \
is missing (first: inline 9, crossline 1); regularise the file, or pass --gaps
    """
    count = len(inline)
    if count > 1 and np.ptp(inline) == 0 and np.ptp(crossline) == 0:
        raise NoGridError(
            f"has no geometry (all {count} traces say inline {inline[0]}, crossline "
            f"{crossline[0]}); name the bytes that hold the numbers, or load the geometry first"
        )
    rows, columns = _Lines.of(inline), _Lines.of(crossline)
    cells = rows.count * columns.count
    if cells > _SPARSEST * count:
        raise NoGridError(
            f"has no inline × crossline grid ({count} traces for {rows.count} × {columns.count} "
            "places); name the bytes that hold the numbers, or regularise the file"
        )
    place = rows.index(inline) * columns.count + columns.index(crossline)
    held, traces_at = np.unique(place, return_counts=True)

    def name(cell: int) -> str:
        row, column = divmod(int(cell), columns.count)
        return f"inline {rows.numbers[row]}, crossline {columns.numbers[column]}"

    if len(held) < count:
        raise NoGridError(_twice(held[traces_at > 1], int(traces_at.max()), offsets(), name))
    missing = cells - count
    if missing and not gaps:
        first = np.flatnonzero(held != np.arange(count))
        is_missing = "is missing" if missing == 1 else "are missing"
        raise NoGridError(
            f"{missing} of {cells} traces of the inline × crossline grid {is_missing} (first: "
            f"{name(first[0] if len(first) else count)}); "
            "regularise the file, or pass --gaps"
        )
    trace = np.full(cells, -1, np.int64)
    trace[place] = np.arange(count)
    return Grid(rows.numbers, columns.numbers, trace.reshape(rows.count, columns.count))


@dataclass(frozen=True)
class _Lines:
    """The evenly spaced numbers of the lines across one axis."""

    first: int
    step: int
    count: int

    @classmethod
    def of(cls, number: np.ndarray) -> _Lines:
        """All lines between the lowest and the highest that the traces name."""
        held, first_seen = np.unique(np.asarray(number, np.int64), return_index=True)
        step = int(np.gcd.reduce(np.diff(held))) if len(held) > 1 else 1
        count = int(held[-1] - held[0]) // step + 1
        downwards = len(held) > 1 and bool(np.all(np.diff(first_seen) < 0))
        return cls(int(held[-1]), -step, count) if downwards else cls(int(held[0]), step, count)

    @property
    def numbers(self) -> np.ndarray:
        return self.first + self.step * np.arange(self.count)

    def index(self, number: np.ndarray) -> np.ndarray:
        return (np.asarray(number, np.int64) - self.first) // self.step


def _twice(places: np.ndarray, most: int, offset: np.ndarray, name: Callable[[int], str]) -> str:
    lowest, highest = offset.min(), offset.max()
    if lowest < highest:
        return (
            f"is prestack: up to {most} traces for one inline and crossline, offsets {lowest} to "
            f"{highest} (first: {name(places[0])}); stack it, or write one offset alone"
        )
    return (
        f"{len(places)} places of the inline × crossline grid have up to {most} traces (first: "
        f"{name(places[0])}); drop the duplicates, or name the bytes that hold the numbers"
    )
