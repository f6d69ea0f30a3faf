"""The second look: from likely places uphill to a peak, slice by slice and pixel by pixel.

Nothing is believed for its signature. From each likely place the normalised cross-correlation
(`outcrop.locating.correlation`) is climbed over neighbouring pixels and slices until no neighbour
is better: first with patch and window reduced to some fifty pixels a side, then at full resolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from outcrop.locating.correlation import correlate, standardise
from outcrop.locating.planes import Planes, Read, Slab
from outcrop.locating.signature import cells

Place = tuple[int, int, int, int, int]
"""Variant, planes, slice, row and column."""

_REDUCED = 48
_MOST_STEPS = 24
_BATCH_BYTES = 4 << 20


@dataclass(frozen=True)
class Peak:
    """A place where no neighbouring pixel or slice fits a patch better.

    Attributes:
        score: the normalised cross-correlation there, at full resolution.
        rival: the best of the neighbouring slices; -1 if there are none.
        settled: false where the climb had to stop at the edge of what was read.
    """

    score: float
    rival: float
    variant: int
    planes: int
    index: int
    row: int
    column: int
    settled: bool

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.variant, self.planes, self.index, self.row, self.column


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches in every variant.

    Attributes:
        variants: for each variant the pictures, `N × bands × height × width`, of any type.
        cell: rows and columns that are averaged where pictures are reduced.
        reach: how many cells down and across a peak may be from a likely place.
    """

    variants: Sequence[np.ndarray]
    cell: tuple[int, int]
    reach: tuple[int, int]

    @classmethod
    def of(cls, variants: Sequence[np.ndarray], stride: tuple[int, int]) -> Patches:
        """Ready to be found at windows that lie a stride apart."""
        size = variants[0].shape[2:]
        down, across = (
            max(1, min(round(side / _REDUCED), step // 2))
            for side, step in zip(size, stride, strict=True)
        )
        return cls(
            variants,
            (down, across),
            (max(2, -(-stride[0] // (2 * down))), max(2, -(-stride[1] // (2 * across)))),
        )

    def reaching(self, pixels: int) -> Patches:
        """The same, with a reach of at least so many pixels."""
        down, across = (max(r, -(-pixels // c)) for r, c in zip(self.reach, self.cell, strict=True))
        return replace(self, reach=(down, across))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.variants[0].shape[2:]
        return height, width

    def pictures(self, places: Sequence[tuple[int, Place]]) -> np.ndarray:
        """The pictures of patches in the variants that places ask for."""
        return np.stack([self.variants[place[0]][patch] for patch, place in places])


@dataclass(frozen=True, eq=False)
class _Best:
    """What is best near each of P places.

    Attributes:
        at: int, `P × 3`, slice, row and column.
        score, rival: float64, `P`, there, and the best of the slices beside.
        peak: bool, `P`, whether nothing around it is better, and all around it was looked at.
    """

    at: np.ndarray
    score: np.ndarray
    rival: np.ndarray
    peak: np.ndarray


class View:
    """A slab that was read, in which patches are looked for.

    Args:
        beside: how many slices to each side of a place are looked at with its own.
    """

    def __init__(
        self, read: Read, planes: Planes, slab: Slab, patches: Patches, beside: int
    ) -> None:
        self._slab, self._planes, self._patches = slab, planes, patches
        self._pixels = read(slab)
        self._beside = beside

    def rescore(self, places: Sequence[tuple[int, Place]]) -> list[tuple[int, float, Place]]:
        """The best places near likely ones, with their correlations, on reduced pictures."""
        found = []
        for batch in self._batches(places):
            pictures = standardise(cells(self._patches.pictures(batch), self._patches.cell))
            best = self._look(pictures, _at(batch), self._patches.cell, self._patches.reach)
            found += [
                (patch, float(score), (*place[:2], *at))
                for (patch, place), score, at in zip(
                    batch, best.score, best.at.tolist(), strict=True
                )
            ]
        return found

    def climb(self, places: Sequence[tuple[int, Place]]) -> list[tuple[int, Peak]]:
        """Uphill from places to peaks, first on reduced pictures, then at full resolution."""
        found = []
        for batch in self._batches(places):
            pictures = self._patches.pictures(batch)
            cell, reach = self._patches.cell, self._patches.reach
            # A cell hides half of itself, and layers may drift where they are followed further.
            further = min(self._beside, 2)
            closer = cell[0] // 2 + further, cell[1] // 2 + further
            reduced = standardise(cells(pictures, cell))
            near = self._climb(reduced, _at(batch), cell, reach)
            best = self._climb(standardise(pictures), near.at, (1, 1), closer)
            for k, (patch, place) in enumerate(batch):
                index, row, column = best.at[k].tolist()
                peak = Peak(
                    float(best.score[k]), float(best.rival[k]), *place[:2], index, row, column,
                    settled=bool(best.peak[k]),
                )  # fmt: skip
                found.append((patch, peak))
        return found

    def _batches(self, places: Sequence[tuple[int, Place]]) -> Iterator[list[tuple[int, Place]]]:
        height, width = self._patches.size
        each = (2 * self._beside + 1) * self._planes.bands * 4 * height * width
        step = max(1, _BATCH_BYTES // each)
        for start in range(0, len(places), step):
            yield list(places[start : start + step])

    def _climb(
        self, pictures: np.ndarray, at: np.ndarray, cell: tuple[int, int], reach: tuple[int, int]
    ) -> _Best:
        best = self._look(pictures, at, cell, reach)
        going = ~best.peak
        for _ in range(_MOST_STEPS):
            which = np.flatnonzero(going)
            if not len(which):
                break
            next_ = self._look(pictures[which], best.at[which], cell, reach)
            going[which] = ~next_.peak & (next_.score > best.score[which])
            for name, values in vars(next_).items():
                getattr(best, name)[which] = values
        return best

    def _look(
        self, pictures: np.ndarray, at: np.ndarray, cell: tuple[int, int], reach: tuple[int, int]
    ) -> _Best:
        """The best windows within reach, in the same slices and those beside.

        Args:
            pictures: `P × bands × height × width` in cells, standardised.
            at: int, `P × 3`, slice, row and column.
            cell: rows and columns of a cell.
            reach: in cells, down and up, right and left.
        """
        beside = self._beside
        size, read = np.array(self._patches.size), np.array(self._pixels.shape[2:])
        origin = np.array([self._slab.top, self._slab.left])
        steps = np.minimum(2 * np.array(reach), (read - size) // cell)
        extent = (np.array(pictures.shape[2:]) + steps) * cell
        start = np.clip(at[:, 1:] - origin - np.array(reach) * cell, 0, read - extent)
        slices = at[:, :1] + np.arange(-beside, beside + 1) - self._slab.first
        known = (slices >= 0) & (slices < len(self._pixels))
        score = correlate(self._regions(np.where(known, slices, 0), start, extent, cell), pictures)
        score[~known] = -1
        each = score.reshape(len(at), -1)
        which = np.stack(np.unravel_index(each.argmax(axis=1), score.shape[1:]), axis=1)
        corner = start + which[:, 1:] * cell + origin
        index = at[:, 0] + which[:, 0] - beside
        inner = (which[:, 1:] > 0) | (corner == 0)
        inner &= (which[:, 1:] < steps) | (corner + cell > self._planes.size - size)
        exist = (slices + self._slab.first >= 0) & (slices + self._slab.first < self._planes.count)
        return _Best(
            at=np.column_stack([index, corner]),
            score=each.max(axis=1),
            rival=score[:, [beside - 1, beside + 1]].reshape(len(at), -1).max(axis=1),
            peak=(which[:, 0] == beside) & inner.all(axis=1) & (known == exist).all(axis=1),
        )

    def _regions(
        self, slices: np.ndarray, start: np.ndarray, extent: np.ndarray, cell: tuple[int, int]
    ) -> np.ndarray:
        """Parts of slices, in cells: `P × slices × bands × height × width`."""
        height, width = extent.tolist()
        windows = np.lib.stride_tricks.sliding_window_view(
            self._pixels, (height, width), axis=(2, 3)
        )
        top, left = start.T[:, :, None]
        # The bands come last of what is chosen, and the windows' own axes after them.
        regions = windows[slices, :, top, left]
        return cells(regions, cell)


def _at(places: Sequence[tuple[int, Place]]) -> np.ndarray:
    return np.array([place[2:] for _, place in places])
