"""The first look: every window of a source against every patch, by their signatures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from outcrop.locate.planes import Read, Slab
from outcrop.locate.signature import Signature

_MOST = 12
_WINDOWS, _PATCHES = 512, 1024


@dataclass(frozen=True, eq=False)
class Candidates:
    """Places where each of N patches may have been cut, M for each, the likeliest first.

    All fields are `N × M` arrays.

    Attributes:
        score: float32, the likeness, -inf where there are fewer than M.
        variant: int16, which variant of the patch (`outcrop.patches.flips`).
        planes: int16, which of the planes that were searched.
        index: int32, the slice.
        row, column: int32, the upper-left pixel.
    """

    score: np.ndarray
    variant: np.ndarray
    planes: np.ndarray
    index: np.ndarray
    row: np.ndarray
    column: np.ndarray

    @classmethod
    def none(cls, n: int) -> Candidates:
        """No places yet."""
        kinds = (np.int16, np.int16, np.int32, np.int32, np.int32)
        places = (np.zeros((n, _MOST), kind) for kind in kinds)
        return cls(np.full((n, _MOST), -np.inf, np.float32), *places)

    def offer(self, which: slice, score: np.ndarray, **place: np.ndarray | int) -> None:
        """Put new places where they are likelier than the least likely that is there.

        Args:
            which: some of the patches.
            score: one for each of these.
            place: the other fields, one for each of these or one for all.
        """
        mine = self.score[which]
        least = mine.argmin(axis=1)
        rows = np.flatnonzero(score > mine[np.arange(len(mine)), least])
        if not len(rows):
            return
        at = least[rows]
        mine[rows, at] = score[rows]
        for name, values in place.items():
            getattr(self, name)[which][rows, at] = (
                values[rows] if isinstance(values, np.ndarray) else values
            )

    def with_(self, other: Candidates) -> Candidates:
        """The likeliest of both, in an order that does not depend on which is which."""
        joined = {
            f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)], axis=1)
            for f in fields(self)
        }
        places = [joined[f.name] for f in reversed(fields(self)) if f.name != "score"]
        order = np.lexsort([*places, -joined["score"]], axis=1)[:, : self.score.shape[1]]
        return Candidates(
            **{name: np.take_along_axis(values, order, axis=1) for name, values in joined.items()}
        )


def scan(
    read: Read, slab: Slab, number: int, signature: Signature, known: np.ndarray
) -> Candidates:
    """The likeliest windows of a slab for every patch; at most one of each group of neighbours.

    Args:
        number: of the planes that `read` reads.
        known: float32, `variants × N × D`, the signatures of the patches.
    """
    found = Candidates.none(known.shape[1])
    pixels = read(slab)
    grid = signature.grid(slab.height, slab.width)
    for index, plane in enumerate(pixels, slab.first):
        windows = signature.of_slice(plane)
        for tile in _runs(len(windows), _WINDOWS):
            there = windows[tile].T
            for variant, signatures in enumerate(known):
                for which in _runs(len(signatures), _PATCHES):
                    likeness = signatures[which] @ there
                    best = likeness.argmax(axis=1)
                    row, column = grid.place(best + tile.start)
                    found.offer(
                        which,
                        likeness[np.arange(len(best)), best],
                        variant=variant,
                        planes=number,
                        index=index,
                        row=slab.top + row,
                        column=slab.left + column,
                    )
    return found


def _runs(n: int, length: int) -> Iterator[slice]:
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))
