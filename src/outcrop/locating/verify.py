"""The second look: correlations at full resolution around likely places.

Nothing is believed for its signature. Around each likely place windows are compared pixel by pixel,
in three dimensions: quickly by some of the pixels of the patch (`View.refine`), or by all of them
(`View.close`). The second goes on until no window in the neighbourhood fits better, and says how
clearly the others fit worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outcrop.locating.comparison import (
    CLEARLY,
    Comparison,
    Picture,
    clearer,
    compare,
    score_of,
    thinned,
)
from outcrop.locating.planes import Planes, Read, Slab
from outcrop.patches.flips import unflip

Place = tuple[int, int, int, int, int]
"""Variant, planes, slice, row and column."""

# Slices and pixels to each side that a peak is the best of. Layers that dip by 45 degrees bring a
# ridge of good fits from slice to slice as many pixels away, so the box is wider than it is thick.
NEIGHBOURHOOD = (4, 8, 8)
_MOST_STEPS = 64
_BESIDE = 8


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches in every variant. Variant 2k is as flip k undoes it, 2k + 1 the negative of that.

    Attributes:
        images: `N × bands × height × width`, of any type, finite.
        missing: bool, `N × height × width`, pixels that are not compared; None where all are.
        flips: names of `outcrop.patches.flips`.
    """

    images: np.ndarray
    missing: np.ndarray | None
    flips: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.images.shape[2:]
        return height, width

    def some(self, which: Sequence[int]) -> Patches:
        """Those of these numbers."""
        missing = None if self.missing is None else self.missing[which]
        return Patches(self.images[which], missing, self.flips)

    def upright(self) -> list[np.ndarray]:
        """All images with each flip undone."""
        return [unflip(self.images, name) for name in self.flips]

    def picture(self, patch: int, variant: int) -> Picture:
        """One of them."""
        name = self.flips[variant // 2]
        image = np.ascontiguousarray(unflip(self.images[patch], name), np.float64)
        missing = None if self.missing is None else unflip(self.missing[patch], name)
        return Picture.of(-image if variant % 2 else image, missing)


@dataclass(frozen=True, eq=False)
class Peak:
    """A place where a patch fits better than around it.

    Attributes:
        fit: how the patch fits there.
        rival: the best score of the neighbouring slices; -1 if there are none.
        stands: how clearly the windows around it fit worse (`outcrop.locating.comparison.clearer`).
        settled: false where the way up had to stop at the edge of what was read.
        beyond: whether slices at the edge of the neighbourhood fit nearly as well.
    """

    fit: Comparison
    rival: float
    stands: float
    settled: bool
    beyond: bool
    place: Place

    @property
    def score(self) -> float:
        """The normalised cross-correlation there, at full resolution."""
        return self.fit.score

    @property
    def certain(self) -> bool:
        """Whether the patch was cut there, up to gain, offset and rounding, and not beside it."""
        return self.fit.exact and self.stands == np.inf

    @property
    def planes(self) -> int:
        """Which of the planes that were searched."""
        return self.place[1]


@dataclass(frozen=True, eq=False)
class _Box:
    """Windows around a place: those whose slice, row and column run from `first` by `count`.

    Attributes:
        pixels: `slices × bands × (count + height - 1) × (count + width - 1)`.
        open: whether there are more windows of the neighbourhood that were not read.
    """

    pixels: np.ndarray
    first: np.ndarray
    count: np.ndarray
    open: bool

    def at(self, window: Sequence[int] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The pixels of one window, by slice, row and column from the first."""
        index, row, column = window
        return self.pixels[index, :, row : row + size[0], column : column + size[1]]


class View:
    """A slab that was read, in which patches are looked for."""

    def __init__(self, read: Read, planes: Planes, slab: Slab, patches: Patches) -> None:
        self._slab, self._planes, self._patches = slab, planes, patches
        self._pixels = read(slab)

    def refine(self, patch: int, place: Place, reach: tuple[int, int, int]) -> Peak:
        """The best place near a likely one, by some pixels of the patch; how it fits, by all.

        Args:
            reach: slices, rows and columns to each side, from which the way goes on.
        """
        picture = self._patches.picture(patch, place[0])
        at, known = np.array(place[2:]), -np.inf
        settled = False
        for _ in range(_MOST_STEPS):
            box = self._box(at, reach)
            scores = thinned(box.pixels, picture)
            best = np.array(np.unravel_index(scores.argmax(), scores.shape))
            score, moved = scores[tuple(best)], box.first + best
            if (moved == at).all() or score <= known:
                settled = not box.open
                break
            inner = (best > 0) & (best < box.count - 1) | self._at_end(moved)
            at, known = moved, score
            if inner.all():
                settled = True
                break
        at = moved
        here = best[0]
        score = float(scores[tuple(best)])
        fit = compare(picture, box.at(best, self._patches.size))
        beside = [self._best_of(box, scores, here + step, picture)
                  for step in (-1, 1) if 0 <= here + step < box.count[0]]  # fmt: skip
        scores[tuple(best)] = -1
        clear = 1 - float(scores.max()) > CLEARLY * (1 - score)
        return Peak(
            fit, max(beside, default=-1.0),
            np.inf if fit.exact and clear else 0.0, settled, False, _placed(place, at),
        )  # fmt: skip

    def close(self, patch: int, place: Place) -> Peak:
        """The place that one comes to uphill, until nothing in its neighbourhood fits better."""
        picture, size = self._patches.picture(patch, place[0]), self._patches.size
        at, known = np.array(place[2:]), -np.inf
        while True:
            box = self._box(at, NEIGHBOURHOOD)
            scores = picture.correlate(box.pixels)
            fits: dict[tuple[int, ...], None] = {tuple((at - box.first).tolist()): None}
            for window in _outstanding(scores):
                fits[window] = None
            compared = {window: compare(picture, box.at(window, size)) for window in fits}
            best = max(compared, key=lambda window: (compared[window].score, window))
            score = compared[best].score
            moved = box.first + np.array(best)
            if (moved == at).all() or score <= known:
                break
            at, known = moved, score
            if box.open and not self._holds(at):
                break
        best = tuple((at - box.first).tolist())
        fit = compared[best]
        others = {window: one for window, one in compared.items() if window != best}
        beside = [one.score for window, one in others.items() if abs(window[0] - best[0]) == 1]
        ends = [one.score for window, one in others.items()
                if abs(window[0] - best[0]) == NEIGHBOURHOOD[0]]  # fmt: skip
        return Peak(
            fit, max(beside, default=-1.0),
            min((clearer(fit, one) for one in others.values()), default=np.inf),
            not box.open, any(1 - one < 2 * (1 - fit.score) + 1e-5 for one in ends),
            _placed(place, at),
        )  # fmt: skip

    def along(self, patch: int, place: Place) -> tuple[float, Place]:
        """The slice of the slab that fits best at the row and column of a place."""
        picture, size = self._patches.picture(patch, place[0]), self._patches.size
        top, left = place[3] - self._slab.top, place[4] - self._slab.left
        windows = self._pixels[:, :, top : top + size[0], left : left + size[1]]
        score = [score_of(picture, window) for window in windows]
        best = int(np.argmax(score))
        return score[best], (*place[:2], self._slab.first + best, *place[3:])

    def _best_of(self, box: _Box, scores: np.ndarray, index: int, picture: Picture) -> float:
        row, column = np.unravel_index(scores[index].argmax(), scores.shape[1:])
        return score_of(picture, box.at((index, row, column), self._patches.size))

    def _limits(self) -> np.ndarray:
        """The last slice, row and column of a window in the planes."""
        rows, columns = np.subtract(self._planes.size, self._patches.size)
        return np.array([self._planes.count - 1, rows, columns])

    def _at_end(self, at: np.ndarray) -> np.ndarray:
        return (at == 0) | (at == self._limits())

    def _inside(self) -> tuple[np.ndarray, np.ndarray]:
        """The first and last slice, row and column of windows that were read."""
        slab, size = self._slab, self._patches.size
        first = np.array([slab.first, slab.top, slab.left])
        length = np.array([slab.last - slab.first, slab.height - size[0] + 1,
                           slab.width - size[1] + 1])  # fmt: skip
        return first, first + length - 1

    def _holds(self, at: np.ndarray) -> bool:
        """Whether the whole neighbourhood of a place was read."""
        return not self._box(at, NEIGHBOURHOOD).open

    def _box(self, at: np.ndarray, reach: tuple[int, int, int]) -> _Box:
        wanted_first = np.maximum(at - reach, 0)
        wanted_last = np.minimum(at + reach, self._limits())
        lowest, highest = self._inside()
        first, last = np.maximum(wanted_first, lowest), np.minimum(wanted_last, highest)
        count = last - first + 1
        index, top, left = first - lowest
        height, width = count[1:] + self._patches.size - 1
        pixels = self._pixels[index : index + count[0], :, top : top + height, left : left + width]
        cut = (first > wanted_first).any() or (last < wanted_last).any()
        return _Box(pixels, first, count, bool(cut))


def _placed(place: Place, at: np.ndarray) -> Place:
    index, row, column = at.tolist()
    return place[0], place[1], index, row, column


def _outstanding(scores: np.ndarray) -> list[tuple[int, ...]]:
    """The best windows of all, and the best of each slice."""
    flat = scores.ravel()
    most = min(_BESIDE, flat.size)
    which = np.argpartition(-flat, most - 1)[:most]
    each = scores.reshape(len(scores), -1).argmax(axis=1) + np.arange(len(scores)) * scores[0].size
    chosen = np.unravel_index(np.unique(np.concatenate([which, each])), scores.shape)
    return [tuple(window) for window in np.stack(chosen, axis=1).tolist()]
