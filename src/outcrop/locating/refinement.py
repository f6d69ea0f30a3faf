"""Local refinement: from candidate places to the best windows around them, at full resolution.

A signature alone locates nothing. Around each candidate place the windows are correlated pixel by
pixel, in three dimensions: quickly by a sparse grid of the patch's pixels (`View.refine`), or by
all of them (`View.climb`). `View.climb` repeats this until no window in the neighbourhood fits
better, and returns how clearly the other windows fit worse. `refine`, `climb` and `along` read the
slices that this needs, and distribute the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from outcrop.executors import Executor
from outcrop.locating.correlation import (
    CLEAR_RATIO,
    Comparison,
    Template,
    batches,
    compare,
    scores_of,
    sparse_correlation,
    sparse_size,
    vuong,
)
from outcrop.locating.planes import Patches, Place, Planes, Read, Slab

Wanted = tuple[int, Place]
"""The number of a patch, and a place to search around."""

# Slices, rows and columns to each side in which no window may fit better than a peak. Layers that
# dip by 45 degrees form a ridge of good fits that moves one pixel per slice, so the box is wider
# than it is thick.
NEIGHBOURHOOD = (4, 8, 8)
# Ends an ascent that rounding sends in a circle.
_MOST_STEPS = 64
# The best window and the eight around it are compared in float64, because single precision may
# rank them wrongly.
_BESIDE = 9
# Two windows that a patch fits by this score correlate by cos(2 · arccos(0.9)) = 0.62 or more. A
# lower score may come from other ground that looks similar, and the patch is searched further.
GOOD_SCORE = 0.9
# An exact copy scores 0.98 or more, and a window that is not clearly worse scores this.
DUPLICATE_SCORE = 0.96
# Samples a side in a sparse comparison. With 16 a correlation has an error of 1 / 16 of its
# distance from 1, far less than its difference between neighbouring windows. With 8 places that fit
# too badly are recognised.
_SPARSE, _SPARSEST = 16, 8
# A patch whose candidate lies beside its place scores this there; a lower score is left to the next
# pass.
NEAR_SCORE = 0.8
_ROUNDS = 16


@dataclass(frozen=True, eq=False)
class Peak:
    """A place where a patch fits better than around it.

    Attributes:
        fit: the fit of the patch there.
        beside: the best score in the neighbouring slices; -1 if there are none.
        lead: the smallest statistic of `vuong` against the windows around it.
        converged: false if the ascent stopped at the edge of the pixels that were read.
        extends: whether slices at the edge of the neighbourhood fit nearly as well.
    """

    fit: Comparison
    beside: float
    lead: float
    converged: bool
    extends: bool
    place: Place

    @property
    def score(self) -> float:
        """The normalised cross-correlation there, at full resolution."""
        return self.fit.score

    @property
    def certain(self) -> bool:
        """Whether gain, offset and rounding explain the patch there, and not beside it."""
        return self.fit.exact and self.lead == np.inf

    @property
    def planes(self) -> int:
        """Index of the planes that were searched."""
        return self.place[1]


@dataclass(frozen=True, eq=False)
class _Box:
    """The windows around a place.

    Attributes:
        pixels: `slices × bands × (count + height - 1) × (count + width - 1)`.
        first, count: int, 3: the first slice, row and column, and the number of each.
        open: whether the neighbourhood holds more windows, which were not read.
    """

    pixels: np.ndarray
    first: np.ndarray
    count: np.ndarray
    open: bool

    def at(self, window: Sequence[int] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The pixels of one window; slice, row and column are counted from `first`."""
        index, row, column = window
        return self.pixels[index, :, row : row + size[0], column : column + size[1]]


@dataclass(eq=False)
class _Ascent:
    """The ascent of one patch to a better place, by a sparse grid of its pixels.

    Attributes:
        at: int, 3: the present slice, row and column.
        known: the score there.
        ended: whether the ascent is over.
        converged: whether no window around is known to fit better.
        box, scores: the windows around, and their scores.
        best: the index of the highest score.
    """

    patch: int
    place: Place
    template: Template
    at: np.ndarray
    known: float = -np.inf
    ended: bool = False
    converged: bool = False
    box: _Box = field(init=False)
    scores: np.ndarray = field(init=False)
    best: tuple[int, int, int] = field(init=False)

    def step(self, limits: np.ndarray) -> None:
        """Move to the best of the windows around."""
        best = np.array(np.unravel_index(self.scores.argmax(), self.scores.shape))
        self.best = (int(best[0]), int(best[1]), int(best[2]))
        score, moved = float(self.scores[self.best]), self.box.first + best
        if (moved == self.at).all() or score <= self.known:
            self.ended, self.converged = True, not self.box.open
        else:
            at_end = (moved == 0) | (moved == limits)
            inner = (best > 0) & (best < self.box.count - 1) | at_end
            self.ended = self.converged = bool(inner.all())
        self.at, self.known = moved, score

    def beside(self) -> list[tuple[int, int, int]]:
        """The best windows of the neighbouring slices."""
        found = []
        for index in (self.best[0] - 1, self.best[0] + 1):
            if 0 <= index < self.box.count[0]:
                row, column = np.unravel_index(self.scores[index].argmax(), self.scores.shape[1:])
                found.append((index, int(row), int(column)))
        return found

    def peak(self, fit: Comparison, beside: float) -> Peak:
        """The peak at the present place."""
        score = self.scores[self.best]
        self.scores[self.best] = -1
        clear = fit.exact and 1 - self.scores.max() > CLEAR_RATIO * (1 - score)
        lead = np.inf if clear else 0.0
        return Peak(fit, beside, lead, self.converged, False, _placed(self.place, self.at))


class View:
    """The pixels of a slab, in which patches are searched."""

    def __init__(self, read: Read, planes: Planes, slab: Slab, patches: Patches) -> None:
        self._slab, self._planes, self._patches = slab, planes, patches
        self._pixels = read(slab)

    def refine(
        self, wanted: Sequence[Wanted], reach: tuple[int, int, int], least: np.ndarray | None
    ) -> list[tuple[int, Peak]]:
        """The peaks near candidate places.

        The ascent uses a sparse grid of pixels; the fit at its end uses all of them.

        Args:
            reach: slices, rows and columns to each side.
            least: the minimum useful score of each patch; None if every place is of use.
        """
        found: list[tuple[int, Peak]] = []
        for some in batches(len(wanted), self._patches.images[0].size):
            ascents = [
                _Ascent(patch, place, self._patches.template(patch, place[0]), np.array(place[2:]))
                for patch, place in wanted[some]
            ]
            if least is not None:
                self._score(ascents, reach, _SPARSEST)
                ascents = [one for one in ascents
                           if _may_fit(one.scores.max(), least[one.patch], _SPARSEST)]  # fmt: skip
            active = ascents
            for _ in range(_MOST_STEPS):
                self._score(active, reach, _SPARSE)
                for one in active:
                    one.step(self._limits())
                active = [one for one in active if not one.ended]
                if not active:
                    break
            if least is not None:
                ascents = [one for one in ascents
                           if _may_fit(one.known, least[one.patch], _SPARSE)]  # fmt: skip
            found += zip((one.patch for one in ascents), self._peaks(ascents), strict=True)
        return found

    def _score(self, ascents: Sequence[_Ascent], reach: tuple[int, int, int], side: int) -> None:
        """Compute the scores of the windows around each place from a sparse grid of pixels."""
        by_shape: dict[tuple[int, ...], list[_Ascent]] = defaultdict(list)
        for one in ascents:
            one.box = self._box(one.at, reach)
            by_shape[one.box.pixels.shape].append(one)
        for some in by_shape.values():
            size = int(some[0].box.count.prod()) * sparse_size(some[0].template, side)
            for few in batches(len(some), size):
                regions = [one.box.pixels for one in some[few]]
                scores = sparse_correlation(regions, [one.template for one in some[few]], side)
                for one, its in zip(some[few], scores, strict=True):
                    one.scores = its

    def _peaks(self, ascents: Sequence[_Ascent]) -> list[Peak]:
        size = self._patches.size
        fits = compare(
            [one.template for one in ascents], [one.box.at(one.best, size) for one in ascents]
        )
        beside = [(k, window) for k, one in enumerate(ascents) for window in one.beside()]
        scores = scores_of(
            [ascents[k].template for k, _ in beside],
            [ascents[k].box.at(window, size) for k, window in beside],
        )
        best = np.full(len(ascents), -1.0)
        np.maximum.at(best, [k for k, _ in beside], scores)
        return [
            one.peak(fit, float(score)) for one, fit, score in zip(ascents, fits, best, strict=True)
        ]

    def climb(self, patch: int, place: Place) -> Peak:
        """The peak that the ascent from a place ends at, by all pixels of the patch."""
        template, size = self._patches.template(patch, place[0]), self._patches.size
        at, known = np.array(place[2:]), -np.inf
        while True:
            box = self._box(at, NEIGHBOURHOOD)
            scores = template.correlate(box.pixels)
            fits: dict[tuple[int, ...], None] = {tuple((at - box.first).tolist()): None}
            for window in _best_windows(scores):
                fits[window] = None
            inside = [box.at(window, size) for window in fits]
            compared = dict(zip(fits, compare([template] * len(fits), inside), strict=True))
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
            min((vuong(fit, one) for one in others.values()), default=np.inf),
            not box.open, any(1 - one < 2 * (1 - fit.score) + 1e-5 for one in ends),
            _placed(place, at),
        )  # fmt: skip

    def along(self, patch: int, place: Place) -> tuple[float, Place]:
        """The slice of the slab that fits best at the row and column of a place."""
        template, size = self._patches.template(patch, place[0]), self._patches.size
        top, left = place[3] - self._slab.top, place[4] - self._slab.left
        windows = self._pixels[:, :, top : top + size[0], left : left + size[1]]
        score = scores_of([template] * len(windows), list(windows))
        best = int(np.argmax(score))
        return score[best], (*place[:2], self._slab.first + best, *place[3:])

    def _limits(self) -> np.ndarray:
        """The last slice, row and column of a window in the planes."""
        rows, columns = np.subtract(self._planes.size, self._patches.size)
        return np.array([self._planes.count - 1, rows, columns])

    def _inside(self) -> tuple[np.ndarray, np.ndarray]:
        """The first and last slice, row and column of the windows that were read."""
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
    """Whether the full score may reach `least` where the sparse score is `score`.

    The standard error of a correlation r is (1 - r²) / √n (Fisher 1915, "Frequency Distribution of
    the Values of the Correlation Coefficient", Biometrika 10, 507-521); two of them are allowed.
    """
    return score >= least - 2 * max(0.0, 1 - least**2) / side


def _placed(place: Place, at: np.ndarray) -> Place:
    index, row, column = at.tolist()
    return place[0], place[1], index, row, column


def _best_windows(scores: np.ndarray) -> list[tuple[int, ...]]:
    """The best windows of the box, and the best window of each slice."""
    flat = scores.ravel()
    most = min(_BESIDE, flat.size)
    which = np.argpartition(-flat, most - 1)[:most]
    each = scores.reshape(len(scores), -1).argmax(axis=1) + np.arange(len(scores)) * scores[0].size
    chosen = np.unravel_index(np.unique(np.concatenate([which, each])), scores.shape)
    return [tuple(window) for window in np.stack(chosen, axis=1).tolist()]


@dataclass(frozen=True, eq=False)
class _Shared:
    """The data that all tasks share.

    Attributes:
        reach: slices, rows and columns to each side of a candidate place.
        least: the minimum useful score of each patch; None if every place is of use.
    """

    planes: Sequence[Planes]
    patches: Patches
    reach: tuple[int, int, int]
    least: np.ndarray | None = None


@dataclass(frozen=True)
class _Job:
    """Places in a slab that is read at once."""

    number: int
    slab: Slab
    places: list[Wanted]


def refine(
    wanted: Iterable[Wanted],
    reach: tuple[int, int, int],
    patches: Patches,
    planes: Sequence[Planes],
    executor: Executor,
    least: np.ndarray | None = None,
) -> list[tuple[int, Peak]]:
    """The peaks near candidate places, by a sparse grid of pixels (`View.refine`)."""
    shared = _Shared(planes, patches, reach, least)
    return _ascend(_refine, list(wanted), shared, executor, "refining")


def climb(
    wanted: Iterable[Wanted], patches: Patches, planes: Sequence[Planes], executor: Executor
) -> list[tuple[int, Peak]]:
    """The peaks at full resolution that ascents from some places end at (`View.climb`)."""
    shared = _Shared(planes, patches, NEIGHBOURHOOD)
    return _ascend(_climb, list(wanted), shared, executor, "verifying")


def along(
    wanted: Iterable[Wanted], patches: Patches, planes: Sequence[Planes], executor: Executor
) -> list[tuple[int, Place]]:
    """For each place the slice, of all, that fits best at its row and column."""
    shared = _Shared(planes, patches, (0, 0, 0))
    everywhere = [
        (patch, (*place[:2], slab.first, *place[3:]))
        for patch, place in wanted
        for slab in planes[place[1]].slabs(patches.size)
        if _inside(slab, (*place[:2], slab.first, *place[3:]), patches.size)
    ]
    best: dict[tuple[int, Place], tuple[float, Place]] = {}
    for found in executor.each(_along, shared, _jobs(shared, everywhere), "comparing slices"):
        for patch, score, place in found:
            key = patch, (*place[:2], 0, *place[3:])
            if key not in best or score > best[key][0]:
                best[key] = score, place
    return [(patch, place) for (patch, _), (_, place) in best.items()]


def _ascend(
    step: Callable[[_Shared, _Job], list[tuple[int, Peak]]],
    wanted: list[Wanted],
    shared: _Shared,
    executor: Executor,
    what: str,
) -> list[tuple[int, Peak]]:
    """The peaks of ascents. An ascent that stopped at the edge goes on in the next round."""
    found: list[tuple[int, Peak]] = []
    for _ in range(_ROUNDS):
        stopped: list[tuple[int, Peak]] = []
        for peaks in executor.each(step, shared, _jobs(shared, wanted), what):
            for patch, peak in peaks:
                (found if peak.converged else stopped).append((patch, peak))
        if not stopped:
            break
        wanted = [(patch, peak.place) for patch, peak in stopped]
    return found + stopped


def _refine(shared: _Shared, job: _Job) -> list[tuple[int, Peak]]:
    return _view(shared, job).refine(job.places, shared.reach, shared.least)


def _climb(shared: _Shared, job: _Job) -> list[tuple[int, Peak]]:
    view = _view(shared, job)
    return [(patch, view.climb(patch, place)) for patch, place in job.places]


def _along(shared: _Shared, job: _Job) -> list[tuple[int, float, Place]]:
    view = _view(shared, job)
    return [(patch, *view.along(patch, place)) for patch, place in job.places]


def _view(shared: _Shared, job: _Job) -> View:
    planes = shared.planes[job.number]
    with planes.open() as read:
        return View(read, planes, job.slab, shared.patches)


def _jobs(shared: _Shared, wanted: Sequence[Wanted]) -> list[_Job]:
    """The places of each slab as one job; one job per place if that reads less."""
    height, width = shared.patches.size
    slabs = [one.slabs((height, width)) for one in shared.planes]
    grouped: dict[tuple[int, int], list[Wanted]] = defaultdict(list)
    beside: list[Wanted] = []
    for patch, place in wanted:
        for k, slab in enumerate(slabs[place[1]]):
            if _inside(slab, place, (height, width)):
                grouped[place[1], k].append((patch, place))
                break
        else:
            # An ascent may leave the slabs if these are a sample of the source.
            beside.append((patch, place))
    jobs = []
    for (number, k), here in sorted(grouped.items()):
        whole = _around(shared, number, slabs[number][k])
        own = [_own(shared, one) for one in here]
        cost = shared.planes[number].cost
        if any(shared.reach) and len(own) * cost(own[0]) < cost(whole):
            jobs += [_Job(number, slab, [one]) for slab, one in zip(own, here, strict=True)]
        else:
            jobs.append(_Job(number, whole, here))
    return jobs + [_Job(one[1][1], _own(shared, one), [one]) for one in beside]


def _own(shared: _Shared, wanted: Wanted) -> Slab:
    """The pixels that one place needs."""
    _, number, index, row, column = wanted[1]
    return _around(shared, number, Slab(index, index + 1, row, column, *shared.patches.size))


def _around(shared: _Shared, number: int, slab: Slab) -> Slab:
    """A slab with the surroundings of its places. An ascent beyond them is read anew."""
    slices, rows, columns = shared.reach
    return shared.planes[number].around(slab, slices, (rows, columns))


def _inside(slab: Slab, place: Place, size: tuple[int, int]) -> bool:
    _, _, index, row, column = place
    return (
        slab.first <= index < slab.last
        and slab.top <= row <= slab.top + slab.height - size[0]
        and slab.left <= column <= slab.left + slab.width - size[1]
    )
