"""From patches and planes to the best peaks of every patch, in passes of growing cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from outcrop.executors import Executor
from outcrop.locating.copies import Anchors, Codes, codes_for, find_anchors, scan_copies
from outcrop.locating.correlation import standardise, vuong
from outcrop.locating.planes import Patches, Place, Planes, Slab, in_memory
from outcrop.locating.refinement import (
    DUPLICATE_SCORE,
    GOOD_SCORE,
    NEAR_SCORE,
    NEIGHBOURHOOD,
    Peak,
    along,
    climb,
    refine,
)
from outcrop.locating.search import (
    Candidates,
    Reach,
    compared_slices,
    scan,
    scan_fully,
    some_windows,
    spacing,
)
from outcrop.locating.signature import Signature, cells, design

# Minimum number of patches for an estimate of their hundredth quantile.
_MANY = 100
_BOTH = (1, -1)
# Pixels of slices, times patches, up to which all of them are correlated: a quarter of a minute on
# one core, at 7 to 12 ns each. Half of that where a coarse pass has left few patches.
_EXHAUSTIVE = 2e9
# The same for patches that no pass settles, such as those of layers that differ by their noise
# alone: two to three minutes on one core.
_UNSETTLED = 1.6e10
# Lead, in standard errors, from which a place is unique. Of 7,000 rotated, resized or
# gain-controlled patches two had a wrong place with a larger lead (`benchmarks.hard_cubes`).
UNIQUE_LEAD = 5.0
# Standard deviation of the lead of patches of another source. It is far below a standard error,
# because the second best of many places is nearly as good as the best. Of 1,000 patches of four
# kinds the largest lead was 2.7 and the standard deviation 0.4; twice that is assumed.
_CHANCE = 0.8
# For 464 of 480 patches (`benchmarks.hard_cubes`, seed 7, four changes) the first candidate leads
# to the best place, for 16 the second to eighth. None of these scored lower by more than 0.001;
# candidates with much lower scores are not followed.
_STARTS, WORSE = 6, 0.1


@dataclass(eq=False)
class PatchPeaks:
    """The peaks of one patch.

    Attributes:
        windows: scores of the best of all windows at full resolution, if all were correlated.
        complete: whether all windows of all slices were correlated, or all candidates that are as
            good as the places of other patches.
    """

    peaks: dict[Place, Peak] = field(default_factory=dict)
    windows: dict[Place, float] = field(default_factory=dict)
    complete: bool = False

    def add(self, peak: Peak) -> None:
        """Add a peak."""
        self.peaks[peak.place] = peak

    @property
    def ranked(self) -> list[Peak]:
        """The peaks by falling score."""
        return sorted(self.peaks.values(), key=lambda peak: (-peak.score, peak.place))

    @property
    def best(self) -> Peak:
        """The peak with the highest score; there must be one."""
        return self.ranked[0]

    @property
    def certain(self) -> bool:
        """Whether the best fit is exact, and no other examined place fits nearly as well."""
        return bool(self.peaks) and self.best.fit.exact and self.lead == np.inf

    @property
    def good(self) -> bool:
        """Whether the best score is 0.9 or more."""
        return bool(self.peaks) and self.best.score >= GOOD_SCORE

    @property
    def lead(self) -> float:
        """The smallest statistic of `vuong` of the best place against all others."""
        best, *others = self.ranked
        return min([best.lead, *(vuong(best.fit, other.fit) for other in others)])

    @property
    def unique(self) -> bool:
        """Whether no other place of the sources fits as well, except by chance."""
        return self.certain or (self.complete and self.lead >= UNIQUE_LEAD)

    @property
    def confidence(self) -> float:
        """The probability that a patch of another source has a smaller lead."""
        if not self.peaks:
            return 0.0
        if self.certain:
            return 1.0
        return 0.5 * (1 + math.erf(self.lead / _CHANCE / math.sqrt(2))) if self.complete else 0.0

    @property
    def margin(self) -> float:
        """The best score minus the highest of the neighbouring slices and of the other peaks."""
        best, *others = self.ranked
        return best.score - max(best.beside, *(peak.score for peak in others), 0.0)


@dataclass(frozen=True)
class _Pass:
    """Settings of one pass of the search.

    Attributes:
        windows: number of windows in the area of one patch of a slice.
        noise: assumed noise of the patches, as in `outcrop.locating.signature.design`.
        fully: number of patches, times flips, up to which patches are compared by correlation; a
            larger number is compared by signatures.
        skip: whether one slice represents its neighbours where these are similar.
        most: maximum number of candidates for each patch.
        signs: 1 for the patches, -1 for their negatives, or both.
    """

    windows: int
    noise: float
    fully: float
    skip: bool
    most: int
    signs: tuple[int, ...]


# Without the search for copies, the coarse pass leaves 14 of 4,000 patches of 8 bits in a cube of
# 450 x 600 x 900 to the next one, and all are found in 11 s. With 350 windows it leaves 155 (15 s),
# with 1,400 it leaves 3 (25 s); with a noise of 0.05 it leaves 47 (13 s), with 1 7 (14 s).
# With two candidates 3 of 4,800 patches of cubes that come twice got the worse place, with four
# none (`benchmarks.hard_cubes`). In the fine pass, 128 patches take 2.9 s by signatures and 4.7 s
# by correlation, 512 patches 5.2 and 17.5 s.
_COARSE = _Pass(windows=700, noise=0.2, fully=0, skip=True, most=4, signs=(1,))
_REPEAT = replace(_COARSE, most=8, signs=_BOTH)
_FINE = _Pass(windows=2800, noise=1, fully=128, skip=True, most=16, signs=_BOTH)
_SAMPLE = replace(_FINE, skip=False, fully=np.inf, most=2, signs=(1,))
_FULL = _Pass(windows=0, noise=1, fully=np.inf, skip=False, most=16, signs=_BOTH)


@dataclass(frozen=True, eq=False)
class _Scan:
    """The data that all scanning tasks share.

    Attributes:
        cell: rows and columns that are averaged before a correlation; None if signatures are
            compared.
        known: the patches in each flip, as signatures or as images of cells.
        near: slices, rows and columns up to which two places are near each other.
    """

    planes: Sequence[Planes]
    spacing: Mapping[int, int]
    settings: _Pass
    size: tuple[int, int]
    cell: tuple[int, int] | None
    signature: Signature | None
    known: np.ndarray
    near: Reach


@dataclass(frozen=True, eq=False)
class _Look:
    """The data that all tasks of the search for copies share."""

    planes: Sequence[Planes]
    anchors: Anchors
    size: tuple[int, int]
    near: Reach


def find(patches: Patches, planes: Sequence[Planes], executor: Executor) -> list[PatchPeaks]:
    """Find the peaks of every patch; a patch that fits nowhere has none.

    If it takes little time, every patch and its negative are correlated with every window of every
    slice at full resolution. Otherwise exact copies are found first, by the signs of their finest
    detail (`outcrop.locating.copies`). A patch that fits one place exactly, up to the rounding of
    its grey values, and no other candidate nearly as well, is not searched further. A coarse pass
    compares signatures of the others. If many are left, the pass is repeated with more candidates
    and with the negatives. The patches that are left after it are correlated with every window if
    that takes little time, or else compared by more and finer signatures. Patches that are no exact
    copy of any candidate are then correlated with every window if that takes a few minutes at most.
    The best candidates of the patches that are not exact copies are refined locally.
    """
    planes = in_memory(planes, patches.size, executor)
    found = [PatchPeaks() for _ in range(len(patches))]
    every = range(len(patches))

    def work(some: list[int]) -> float:
        return _work(len(some), patches, planes)

    def chosen(wanted: list[int]) -> Patches:
        return patches if len(wanted) == len(patches) else patches.some(wanted)

    def add(settings: _Pass, wanted: list[int]) -> None:
        if not wanted:
            return
        peaks, complete, candidates = _search(settings, chosen(wanted), planes, executor)
        for patch, peak in peaks:
            found[wanted[patch]].add(peak)
        if not settings.windows:
            for k, patch in enumerate(wanted):
                found[patch].windows = _scores(candidates, k)
        if settings.signs == _BOTH:
            for patch in np.flatnonzero(complete).tolist():
                found[wanted[patch]].complete = True

    def inexact() -> list[int]:
        return [patch for patch in every if not found[patch].certain]

    wanted = list(every)
    in_full = work(wanted) <= _EXHAUSTIVE
    if not in_full:
        for codes in codes_for(patches, planes):
            several = len(wanted)
            for patch, peak in _copies(codes, chosen(wanted), planes, executor):
                found[wanted[patch]].add(peak)
            wanted = inexact()
            in_full = work(wanted) <= _EXHAUSTIVE / 2
            # If most patches are no copies, another lag finds few.
            if in_full or 2 * len(wanted) > several:
                break
    if not in_full:
        add(_COARSE, wanted)
        wanted = inexact()
        if len(wanted) * len(patches.flips) > _FINE.fully:
            add(_REPEAT, wanted)
            wanted = [patch for patch in inexact()
                      if not (found[patch].complete and found[patch].good)]  # fmt: skip
        in_full = work(wanted) <= _EXHAUSTIVE / 2
    if not in_full:
        add(_FINE, wanted)
        in_full = work(inexact()) <= _UNSETTLED
        wanted = inexact() if in_full else [patch for patch in wanted if not found[patch].good]
    add(_FULL if in_full else replace(_FINE, skip=False), wanted)
    _refine_best(inexact(), found, patches, planes, executor)
    return found


def _copies(
    codes: Codes, patches: Patches, planes: Sequence[Planes], executor: Executor
) -> list[tuple[int, Peak]]:
    """The peaks of the patches at the places that have the signs of their finest detail."""
    anchors = find_anchors(patches, codes, executor)
    reach = (1, 2, 2)
    shared = _Look(planes, anchors, patches.size, _doubled(reach))
    candidates = _joined(_look, shared, patches, _COARSE.most, executor)
    return _peaks(candidates, reach, patches, planes, executor)


def find_in(patches: Patches, planes: Sequence[Planes], executor: Executor) -> np.ndarray:
    """The best score of every patch in a few slices; NaN for a patch that fits nowhere."""
    found = np.full(len(patches), np.nan)
    peaks, _, _ = _search(_SAMPLE, patches, planes, executor)
    for patch, peak in peaks:
        found[patch] = np.fmax(found[patch], peak.score)
    return found


def _refine_best(
    wanted: Sequence[int],
    found: Sequence[PatchPeaks],
    patches: Patches,
    planes: Sequence[Planes],
    executor: Executor,
) -> None:
    """Replace the peaks of some patches by those that ascents from the best of them end at.

    If slices at the edge of the neighbourhood fit nearly as well, all slices are compared.
    """
    starts = [(patch, place) for patch in wanted for place in starting_places(found[patch])]
    for patch in wanted:
        found[patch].peaks.clear()
    for patch, peak in climb(starts, patches, planes, executor):
        found[patch].add(peak)
    alike = [(patch, found[patch].best.place) for patch in wanted
             if found[patch].peaks and found[patch].best.extends]  # fmt: skip
    if alike:
        for patch, peak in climb(
            along(alike, patches, planes, executor), patches, planes, executor
        ):
            found[patch].add(peak)


def starting_places(found: PatchPeaks) -> Iterable[Place]:
    """The best places of a patch, one in each neighbourhood.

    An ascent by a sparse grid of pixels may leave the best window for another one, so the best
    windows at full resolution count as well as the peaks.
    """
    chosen: list[Place] = []
    scores = found.windows | {place: peak.score for place, peak in found.peaks.items()}
    ordered = sorted(scores, key=lambda place: (-scores[place], place))
    for place in ordered:
        if len(chosen) == _STARTS or scores[place] < scores[ordered[0]] - WORSE:
            break
        if not any(_near(place, other, NEIGHBOURHOOD) for other in chosen):
            chosen.append(place)
    return chosen


def _near(one: Place, other: Place, limits: Reach) -> bool:
    """Whether two places of one variant and one stack are within the limits of each other."""
    apart = zip(one[2:], other[2:], limits, strict=True)
    return one[:2] == other[:2] and all(abs(a - b) <= limit for a, b, limit in apart)


def _work(n: int, patches: Patches, planes: Sequence[Planes]) -> float:
    """Pixels of slices times patches, bands and flips."""
    pixels = sum(one.count * one.size[0] * one.size[1] * one.bands for one in planes)
    return float(n) * pixels * len(patches.flips)


def _search(
    settings: _Pass, patches: Patches, planes: Sequence[Planes], executor: Executor
) -> tuple[list[tuple[int, Peak]], np.ndarray, Candidates]:
    """The peaks of every patch near its candidates in one pass.

    Returns:
        The peaks, a mask of the patches whose candidates are known to be complete, and the
        candidates.
    """
    candidates, reach = _candidates(settings, patches, planes, executor)
    peaks = _peaks(candidates, reach, patches, planes, executor)
    if settings.windows:
        return peaks, _complete(peaks, candidates, reach), candidates
    return peaks, np.ones(len(patches), bool), candidates


def _candidates(
    settings: _Pass, patches: Patches, planes: Sequence[Planes], executor: Executor
) -> tuple[Candidates, Reach]:
    """The candidates of every patch, and the distance to each side that each represents."""
    size, upright = patches.size, patches.upright()
    signature, cell, reach = None, None, (2, 2)
    if settings.windows:
        # The spectrum of patches in several orientations is not that of the slices.
        several = len(patches.flips) > 1
        typical = some_windows(planes, size) if several else upright[0]
        signature = design(typical, settings.windows, settings.noise)
        fully = len(upright) * len(patches) <= settings.fully
        cell = signature.stride if fully else None
        reach = max(2, signature.stride[0] // 2 + 1), max(2, signature.stride[1] // 2 + 1)
    else:
        cell = (1, 1)
    steps = {
        number: spacing(one, signature) if settings.skip and signature else 1
        for number, one in enumerate(planes)
    }
    known = [
        signature.of_patches(images)
        if cell is None and signature is not None
        else standardise(cells(images, cell or (1, 1)))
        for images in upright
    ]
    slices = max(1, *(step // 2 + 1 for step in steps.values()))
    near = _doubled((slices, *reach))
    shared = _Scan(planes, steps, settings, size, cell, signature, np.stack(known), near)
    return _joined(_scan, shared, patches, settings.most, executor), (slices, *reach)


def _joined(
    look: Callable[[Any, tuple[int, Slab]], Candidates],
    shared: _Scan | _Look,
    patches: Patches,
    most: int,
    executor: Executor,
) -> Candidates:
    """The best candidates of all slabs."""
    tasks = [
        (number, slab)
        for number, one in enumerate(shared.planes)
        for slab in one.slabs(patches.size)
    ]
    return reduce(
        lambda one, other: one.joined(other).suppressed(shared.near, most),
        executor.each(look, shared, tasks, "comparing"),
        Candidates.empty(len(patches), most),
    )


def _peaks(
    candidates: Candidates,
    reach: Reach,
    patches: Patches,
    planes: Sequence[Planes],
    executor: Executor,
) -> list[tuple[int, Peak]]:
    """The peaks near the best candidate of each patch, and near others that may fit as well."""

    def refined(mask: np.ndarray, least: np.ndarray | None) -> list[tuple[int, Peak]]:
        at = np.argwhere(mask).tolist()
        wanted = [(patch, _place(candidates, patch, m)) for patch, m in at]
        return refine(wanted, reach, patches, planes, executor, least)

    some = np.isfinite(candidates.score)
    first = np.zeros_like(some)
    first[:, 0] = some[:, 0]
    peaks = refined(first, None)
    # A sparse comparison may place a patch of low contrast beside its place. If many patches seem
    # to be misplaced, the reason is noise.
    beside = [
        (patch, peak.place) for patch, peak in peaks if not peak.certain and peak.score > NEAR_SCORE
    ]
    if len(beside) <= max(_MANY, len(patches) // 10):
        peaks += climb(beside, patches, planes, executor)
    certain = {patch: peak for patch, peak in peaks if peak.certain}
    exact = np.isin(np.arange(len(patches)), list(certain))
    # Candidates that score far less than the places of nearly all patches are dropped.
    own = _own_scores(peaks, candidates, reach)
    least = 2 * np.quantile(own, 1 / _MANY) - np.median(own) if len(own) >= _MANY else -np.inf
    others = np.where(
        exact[:, None],
        ~_near_peaks(candidates, certain, _doubled(reach)),
        candidates.score >= least,
    )
    useful = np.full(len(patches), -np.inf)
    for patch, peak in peaks:
        useful[patch] = max(useful[patch], peak.score - WORSE)
    useful[exact] = DUPLICATE_SCORE
    copies = []
    for patch, peak in refined(some & ~first & others, useful):
        if patch in certain:
            copies.append((patch, peak.place))
        else:
            peaks.append((patch, peak))
    # A sparse comparison may take the window beside an exact copy for another copy.
    for patch, peak in climb(copies, patches, planes, executor):
        if peak.place != certain[patch].place:
            peaks.append((patch, peak))
    return peaks


def _doubled(reach: Reach) -> Reach:
    """The largest distance of two places whose surroundings touch."""
    slices, rows, columns = reach
    return 2 * slices, 2 * rows, 2 * columns


def _complete(
    peaks: Sequence[tuple[int, Peak]], candidates: Candidates, reach: Reach
) -> np.ndarray:
    """Mask of patches of which no good candidate was dropped.

    The scores that the candidates at the true places of patches have are known. If the worst
    candidate of a patch scores less than all but a hundredth of these, so do all windows that are
    not candidates.
    """
    own = _own_scores(peaks, candidates, reach)
    if len(own) < _MANY:
        return np.zeros(len(candidates.score), bool)
    return np.asarray(candidates.score.min(axis=1) < np.quantile(own, 1 / _MANY))


def _own_scores(
    peaks: Sequence[tuple[int, Peak]], candidates: Candidates, reach: Reach
) -> np.ndarray:
    """For each patch with a good peak the score of the candidate there; -1 if there is none."""
    best: dict[int, Peak] = {}
    for patch, peak in peaks:
        if peak.score >= GOOD_SCORE and (patch not in best or peak.score > best[patch].score):
            best[patch] = peak
    which = list(best)
    # A candidate has suppressed worse ones near it, and each of these represents its own reach.
    slices, rows, columns = reach
    near = _near_peaks(candidates, best, (3 * slices, 3 * rows, 3 * columns))[which]
    return np.where(near, candidates.score[which], -1).max(axis=1, initial=-1)


def _near_peaks(candidates: Candidates, peaks: Mapping[int, Peak], reach: Reach) -> np.ndarray:
    """Mask of candidates near the peak of their patch; false for patches without a peak."""
    places = np.full((len(candidates.score), 5), -1)
    for patch, peak in peaks.items():
        places[patch] = peak.place
    return candidates.near([column[:, None] for column in places.T], reach)


def _scores(candidates: Candidates, patch: int) -> dict[Place, float]:
    """The candidates of a patch with their scores."""
    some = np.flatnonzero(np.isfinite(candidates.score[patch])).tolist()
    return {_place(candidates, patch, m): float(candidates.score[patch, m]) for m in some}


def _place(candidates: Candidates, patch: int, m: int) -> Place:
    return (
        int(candidates.variant[patch, m]),
        int(candidates.planes[patch, m]),
        int(candidates.index[patch, m]),
        int(candidates.row[patch, m]),
        int(candidates.column[patch, m]),
    )


def _look(search: _Look, task: tuple[int, Slab]) -> Candidates:
    number, slab = task
    slices = search.planes[number].slices(slab, range(slab.first, slab.last))
    return scan_copies(slices, slab, number, search.anchors, search.size, _COARSE.most, search.near)


def _scan(search: _Scan, task: tuple[int, Slab]) -> Candidates:
    (number, slab), signature, settings = task, search.signature, search.settings
    compared = compared_slices(slab, search.spacing[number])
    slices = search.planes[number].slices(slab, compared)
    known, signs, most = search.known, settings.signs, settings.most
    if search.cell is None and signature is not None:
        return scan(slices, slab, number, signature, known, signs, most, search.near)
    cell = search.cell or (1, 1)
    return scan_fully(slices, slab, number, cell, known, signs, search.size, most, search.near)
