"""The second look: correlations at full resolution around likely places.

Nothing is believed for its signature. Around each likely place windows are compared pixel by pixel,
in three dimensions: quickly by some of the pixels of the patch (`View.refine`), or by all of them
(`View.close`). The second goes on until no window in the neighbourhood fits better, and says how
clearly the others fit worse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from outcrop.locating.comparison import (
    CLEARLY,
    Comparison,
    Picture,
    batches,
    clearer,
    compare,
    scores_of,
    thinned,
    thinned_size,
)
from outcrop.locating.planes import Planes, Read, Slab
from outcrop.patches.flips import unflip

Place = tuple[int, int, int, int, int]
"""Variant, planes, slice, row and column."""

Wanted = tuple[int, Place]
"""A patch, by its number, and a place."""

# Slices and pixels to each side that a peak is the best of. Layers that dip by 45 degrees bring a
# ridge of good fits from slice to slice as many pixels away, so the box is wider than it is thick.
NEIGHBOURHOOD = (4, 8, 8)
# This ends a way that rounding turns in a ring.
_MOST_STEPS = 64
# The best window and the eight around it are compared in float64, as single precision may take one
# for another.
_BESIDE = 9
# Two places that a patch fits so well are alike by cos(2 · arccos(0.9)) = 0.62 or more. What fits
# by less may be other ground that looks alike, and more is looked at.
WELL = 0.9
# A copy fits by 0.98 or more, and one that is not clearly worse by this.
TWIN = 0.96
# Samples a side by which a patch is compared quickly: a correlation is then off by 1 / 16 of what
# it lacks of 1, far less than what tells a window from that beside it. Half as many tell which
# places fit too badly to be of use.
_THIN, _FEW = 16, 8
# A patch that is found beside its place fits there by this; what fits by less is left to the next
# look.
NEAR = 0.8


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


@dataclass(eq=False)
class _Way:
    """One patch on its way uphill, by some of its pixels.

    Attributes:
        at: slice, row and column that it has come to.
        known: how well the patch fits there.
        ended: whether it goes no further.
        settled: whether nothing around is known to fit better.
        box, scores: the windows around, and how they fit; `best` of them fits best.
    """

    patch: int
    place: Place
    picture: Picture
    at: np.ndarray
    known: float = -np.inf
    ended: bool = False
    settled: bool = False
    box: _Box = field(init=False)
    scores: np.ndarray = field(init=False)
    best: tuple[int, int, int] = field(init=False)

    def step(self, limits: np.ndarray) -> None:
        """To the best of the windows around."""
        best = np.array(np.unravel_index(self.scores.argmax(), self.scores.shape))
        self.best = (int(best[0]), int(best[1]), int(best[2]))
        score, moved = float(self.scores[self.best]), self.box.first + best
        if (moved == self.at).all() or score <= self.known:
            self.ended, self.settled = True, not self.box.open
        else:
            at_end = (moved == 0) | (moved == limits)
            inner = (best > 0) & (best < self.box.count - 1) | at_end
            self.ended = self.settled = bool(inner.all())
        self.at, self.known = moved, score

    def beside(self) -> list[tuple[int, int, int]]:
        """The best windows of the neighbouring slices."""
        found = []
        for index in (self.best[0] - 1, self.best[0] + 1):
            if 0 <= index < self.box.count[0]:
                row, column = np.unravel_index(self.scores[index].argmax(), self.scores.shape[1:])
                found.append((index, int(row), int(column)))
        return found

    def peak(self, fit: Comparison, rival: float) -> Peak:
        """Where it has come to."""
        score = self.scores[self.best]
        self.scores[self.best] = -1
        clear = fit.exact and 1 - self.scores.max() > CLEARLY * (1 - score)
        stands = np.inf if clear else 0.0
        return Peak(fit, rival, stands, self.settled, False, _placed(self.place, self.at))


class View:
    """A slab that was read, in which patches are looked for."""

    def __init__(self, read: Read, planes: Planes, slab: Slab, patches: Patches) -> None:
        self._slab, self._planes, self._patches = slab, planes, patches
        self._pixels = read(slab)

    def refine(
        self, wanted: Sequence[Wanted], reach: tuple[int, int, int], least: np.ndarray | None
    ) -> list[tuple[int, Peak]]:
        """The best places near likely ones, by some pixels of patches; how they fit, by all.

        Args:
            reach: slices, rows and columns to each side.
            least: for each patch the score from which a place is of use; None if all are.
        """
        found: list[tuple[int, Peak]] = []
        for some in batches(len(wanted), self._patches.images[0].size):
            ways = [
                _Way(patch, place, self._patches.picture(patch, place[0]), np.array(place[2:]))
                for patch, place in wanted[some]
            ]
            if least is not None:
                self._look(ways, reach, _FEW)
                ways = [way for way in ways if _may_fit(way.scores.max(), least[way.patch], _FEW)]
            going = ways
            for _ in range(_MOST_STEPS):
                self._look(going, reach, _THIN)
                for way in going:
                    way.step(self._limits())
                going = [way for way in going if not way.ended]
                if not going:
                    break
            if least is not None:
                ways = [way for way in ways if _may_fit(way.known, least[way.patch], _THIN)]
            found += zip((way.patch for way in ways), self._peaks(ways), strict=True)
        return found

    def _look(self, ways: Sequence[_Way], reach: tuple[int, int, int], side: int) -> None:
        """How the windows around each place fit, by some pixels."""
        alike: dict[tuple[int, ...], list[_Way]] = defaultdict(list)
        for way in ways:
            way.box = self._box(way.at, reach)
            alike[way.box.pixels.shape].append(way)
        for some in alike.values():
            size = int(some[0].box.count.prod()) * thinned_size(some[0].picture, side)
            for few in batches(len(some), size):
                regions = [way.box.pixels for way in some[few]]
                scores = thinned(regions, [way.picture for way in some[few]], side)
                for way, each in zip(some[few], scores, strict=True):
                    way.scores = each

    def _peaks(self, ways: Sequence[_Way]) -> list[Peak]:
        size = self._patches.size
        fits = compare([way.picture for way in ways], [way.box.at(way.best, size) for way in ways])
        beside = [(k, window) for k, way in enumerate(ways) for window in way.beside()]
        scores = scores_of(
            [ways[k].picture for k, _ in beside],
            [ways[k].box.at(window, size) for k, window in beside],
        )
        rivals = np.full(len(ways), -1.0)
        np.maximum.at(rivals, [k for k, _ in beside], scores)
        return [
            way.peak(fit, float(rival)) for way, fit, rival in zip(ways, fits, rivals, strict=True)
        ]

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
            inside = [box.at(window, size) for window in fits]
            compared = dict(zip(fits, compare([picture] * len(fits), inside), strict=True))
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
        score = scores_of([picture] * len(windows), list(windows))
        best = int(np.argmax(score))
        return score[best], (*place[:2], self._slab.first + best, *place[3:])

    def _limits(self) -> np.ndarray:
        """The last slice, row and column of a window in the planes."""
        rows, columns = np.subtract(self._planes.size, self._patches.size)
        return np.array([self._planes.count - 1, rows, columns])

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


def _may_fit(score: float, least: float, side: int) -> bool:
    """Whether a place may fit by `least` that fits by `score` as seen by some pixels.

    The standard error of a correlation r is (1 - r²) / √n (Fisher 1915, "Frequency Distribution of
    the Values of the Correlation Coefficient", Biometrika 10, 507-521); twice that is allowed.
    """
    return score >= least - 2 * max(0.0, 1 - least**2) / side


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
