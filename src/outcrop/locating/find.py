"""From patches and planes to the best peak of every patch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from outcrop.executors import Executor
from outcrop.locating.correlation import standardise
from outcrop.locating.peaks import WORSE, Found, fits_well, likeliest
from outcrop.locating.planes import Planes, Slab, kept
from outcrop.locating.refinement import along, close, refine
from outcrop.locating.search import (
    Apart,
    Candidates,
    looked_at,
    scan,
    scan_fully,
    some_windows,
    spacing,
)
from outcrop.locating.signature import Signature, cells, design
from outcrop.locating.verify import NEAR, TWIN, WELL, Patches, Peak, Place

# A hundredth of the patches can be told only from a hundred or more.
_MANY = 100
_BOTH = (1, -1)
# Pixels of slices, times patches, that are correlated in full: a quarter of a minute of a core, at
# 7 to 12 ns each. Where a quick look has left few patches, half of that.
_EXHAUSTIVE = 2e9


@dataclass(frozen=True)
class _Look:
    """How hard one looks.

    Attributes:
        windows: how many are compared for the area of one patch, in a slice.
        noise: that patches are taken to have.
        fully: up to how many patches, counted in each flip, are compared by correlation; more are
            by their signatures.
        skip: whether a slice may stand for its neighbours where they are alike.
        most: how many likely places are held for each patch.
        signs: whether patches are compared as they are (1), as their negatives (-1), or as both.
    """

    windows: int
    noise: float
    fully: float
    skip: bool
    most: int
    signs: tuple[int, ...]


# Of 4,000 patches of 8 bits in a cube of 450 x 600 x 900 the quick look leaves 14 to the next one,
# and all are found in 11 s. With 350 windows it leaves 155 (15 s), with 1,400 it leaves 3 (25 s);
# with a noise of 0.05 it leaves 47 (13 s), with 1 it leaves 7 (14 s). In the close look, 128
# patches take 2.9 s by signatures and 4.7 s in full, 512 patches 5.2 and 17.5 s.
_QUICK = _Look(windows=700, noise=0.2, fully=0, skip=True, most=2, signs=(1,))
_AGAIN = replace(_QUICK, most=8, signs=_BOTH)
_CLOSE = _Look(windows=2800, noise=1, fully=128, skip=True, most=16, signs=_BOTH)
_HARD = replace(_CLOSE, skip=False, fully=np.inf, most=2, signs=(1,))
_ALL = _Look(windows=0, noise=1, fully=np.inf, skip=False, most=16, signs=_BOTH)


@dataclass(frozen=True, eq=False)
class _Scan:
    """What every scanning task has to know.

    Attributes:
        cell: rows and columns that are averaged where windows are compared by correlation; None
            where they are by their signatures.
        known: of the patches in each flip, signatures or pictures in cells.
        apart: slices, rows and columns up to which two places are not apart.
    """

    planes: Sequence[Planes]
    spacing: Mapping[int, int]
    look: _Look
    size: tuple[int, int]
    cell: tuple[int, int] | None
    signature: Signature | None
    known: np.ndarray
    apart: Apart


def find(patches: Patches, planes: Sequence[Planes], executor: Executor) -> list[Found]:
    """The peaks of every patch; none for a patch that fits nowhere.

    If it is little work, every patch is compared with every window of every slice at full
    resolution, as it is and as its negative. Else all are looked for quickly by signatures. Those
    that are found exactly, up to the rounding of their grey values, and of which no twin is among
    the likely places, are done. Many others are looked for once more, as their negatives too. What
    is not clear then is compared in full if that is little work, or else by more and finer
    signatures. From the likeliest places of patches that are no exact copies the way goes uphill
    until nothing around fits better.
    """
    planes = kept(planes, patches.size, executor)
    found = [Found() for _ in range(len(patches))]
    every = range(len(patches))

    def add(look: _Look, wanted: list[int]) -> None:
        some = patches if len(wanted) == len(patches) else patches.some(wanted)
        peaks, complete = _search(look, some, planes, executor)
        for patch, peak in peaks:
            found[wanted[patch]].add(peak)
        if look.signs == _BOTH:
            for patch in np.flatnonzero(complete).tolist():
                found[wanted[patch]].complete = True

    def inexact() -> list[int]:
        return [patch for patch in every if not found[patch].certain]

    def badly(some: Iterable[int]) -> list[int]:
        return [patch for patch in some if not fits_well(found[patch])]

    wanted = list(every)
    in_full = _work(len(patches), patches, planes) <= _EXHAUSTIVE
    if not in_full:
        add(_QUICK, wanted)
        wanted = inexact()
        if len(wanted) * len(patches.flips) > _CLOSE.fully:
            add(_AGAIN, wanted)
            wanted = [patch for patch in inexact()
                      if not (found[patch].complete and fits_well(found[patch]))]  # fmt: skip
        in_full = _work(len(wanted), patches, planes) <= _EXHAUSTIVE / 2
    if in_full:
        looks: tuple[_Look, ...] = (_ALL,)
    else:
        looks = (_CLOSE, replace(_CLOSE, skip=False))
    unclear = wanted
    for look in looks:
        if unclear:
            add(look, unclear)
            unclear = badly(unclear)
    _close(inexact(), found, patches, planes, executor)
    return found


def find_in(patches: Patches, planes: Sequence[Planes], executor: Executor) -> np.ndarray:
    """The best score of every patch in a few slices; NaN of one that fits nowhere."""
    found = np.full(len(patches), np.nan)
    for patch, peak in _search(_HARD, patches, planes, executor)[0]:
        found[patch] = np.fmax(found[patch], peak.score)
    return found


def _close(
    wanted: Sequence[int],
    found: Sequence[Found],
    patches: Patches,
    planes: Sequence[Planes],
    executor: Executor,
) -> None:
    """Refine from the likeliest places of some patches, and along slices that look alike."""
    starts = [(patch, place) for patch in wanted for place in likeliest(found[patch].peaks)]
    for patch in wanted:
        found[patch].clear()
    closed = close(starts, patches, planes, executor)
    for patch, peak in closed:
        found[patch].add(peak)
    alike = [(patch, found[patch].best.place) for patch in wanted
             if found[patch].peaks and found[patch].best.beyond]  # fmt: skip
    if alike:
        for patch, peak in close(
            along(alike, patches, planes, executor), patches, planes, executor
        ):
            found[patch].add(peak)


def _work(n: int, patches: Patches, planes: Sequence[Planes]) -> float:
    """Pixels of slices times patches, bands and flips."""
    pixels = sum(one.count * one.size[0] * one.size[1] * one.bands for one in planes)
    return float(n) * pixels * len(patches.flips)


def _search(
    look: _Look, patches: Patches, planes: Sequence[Planes], executor: Executor
) -> tuple[list[tuple[int, Peak]], np.ndarray]:
    """The peaks of every patch near the likeliest of the places that a look compares.

    Returns:
        These, and a mask of the patches of which no place can have been left out.
    """
    likely, reach = _likely(look, patches, planes, executor)
    peaks = _peaks(likely, reach, patches, planes, executor)
    if look.windows:
        return peaks, _complete(peaks, likely, reach)
    return peaks, np.ones(len(patches), bool)


def _likely(
    look: _Look, patches: Patches, planes: Sequence[Planes], executor: Executor
) -> tuple[Candidates, Apart]:
    """The likeliest places, and slices, rows and columns to each side of what they stand for."""
    size, upright = patches.size, patches.upright()
    signature, cell, reach = None, None, (2, 2)
    if look.windows:
        # Of patches that lie any way round the spectrum tells nothing of how slices lie.
        several = len(patches.flips) > 1
        typical = some_windows(planes, size) if several else upright[0]
        signature = design(typical, look.windows, look.noise)
        fully = len(upright) * len(patches) <= look.fully
        cell = signature.stride if fully else None
        reach = max(2, signature.stride[0] // 2 + 1), max(2, signature.stride[1] // 2 + 1)
    else:
        cell = (1, 1)
    steps = {
        number: spacing(one, signature) if look.skip and signature else 1
        for number, one in enumerate(planes)
    }
    known = [
        signature.of_patches(images)
        if cell is None and signature is not None
        else standardise(cells(images, cell or (1, 1)))
        for images in upright
    ]
    slices = max(1, *(step // 2 + 1 for step in steps.values()))
    apart = _apart((slices, *reach))
    shared = _Scan(planes, steps, look, size, cell, signature, np.stack(known), apart)
    tasks = [(number, slab) for number, one in enumerate(planes) for slab in one.slabs(size)]
    each = executor.each(_scan, shared, tasks, "comparing")
    none = Candidates.none(len(patches), look.most)
    likely = reduce(lambda one, other: one.with_(other).spread(apart, look.most), each, none)
    return likely, (slices, *reach)


def _peaks(
    likely: Candidates, reach: Apart, patches: Patches, planes: Sequence[Planes], executor: Executor
) -> list[tuple[int, Peak]]:
    """The peaks near likely places: the likeliest first, then the others beside what was found."""

    def look_closer(places: np.ndarray, least: np.ndarray | None) -> list[tuple[int, Peak]]:
        at = np.argwhere(places).tolist()
        wanted = [(patch, _place(likely, patch, m)) for patch, m in at]
        return refine(wanted, reach, patches, planes, executor, least)

    some = np.isfinite(likely.score)
    first = np.zeros_like(some)
    first[:, 0] = some[:, 0]
    peaks = look_closer(first, None)
    # By some of its pixels a patch without much contrast is found beside its place. Where many
    # seem to be, it is for noise.
    beside = [
        (patch, peak.place) for patch, peak in peaks if not peak.certain and peak.score > NEAR
    ]
    if len(beside) <= max(_MANY, len(patches) // 10):
        peaks += close(beside, patches, planes, executor)
    certain = {patch: peak for patch, peak in peaks if peak.certain}
    exact = np.isin(np.arange(len(patches)), list(certain))
    # What looks far less likely than the places of nearly all patches is none.
    own = _own(peaks, likely, reach)
    least = 2 * np.quantile(own, 1 / _MANY) - np.median(own) if len(own) >= _MANY else -np.inf
    others = np.where(exact[:, None], ~_near(likely, certain, _apart(reach)), likely.score >= least)
    of_use = np.full(len(patches), -np.inf)
    for patch, peak in peaks:
        of_use[patch] = max(of_use[patch], peak.score - WORSE)
    of_use[exact] = TWIN
    twins = []
    for patch, peak in look_closer(some & ~first & others, of_use):
        if patch in certain:
            twins.append((patch, peak.place))
        else:
            peaks.append((patch, peak))
    # Some of the pixels may take a window beside it for the twin of an exact copy.
    for patch, peak in close(twins, patches, planes, executor):
        if peak.place != certain[patch].place:
            peaks.append((patch, peak))
    return peaks


def _apart(reach: Apart) -> Apart:
    """The farthest that two places may lie from each other whose surroundings are looked at."""
    slices, rows, columns = reach
    return 2 * slices, 2 * rows, 2 * columns


def _complete(peaks: Sequence[tuple[int, Peak]], likely: Candidates, reach: Apart) -> np.ndarray:
    """Mask of patches whose likely places were all looked at, as far as the other patches tell.

    A place that fits as well as the best one looks as likely as the best places of the patches do,
    all but a hundredth of them. Where the least likely place that was held looks less likely, what
    was not held does too.
    """
    own = _own(peaks, likely, reach)
    if len(own) < _MANY:
        return np.zeros(len(likely.score), bool)
    return np.asarray(likely.score.min(axis=1) < np.quantile(own, 1 / _MANY))


def _own(peaks: Sequence[tuple[int, Peak]], likely: Candidates, reach: Apart) -> np.ndarray:
    """How likely the places looked of those patches that fit well; -1 of a place not held."""
    best: dict[int, Peak] = {}
    for patch, peak in peaks:
        if peak.score >= WELL and (patch not in best or peak.score > best[patch].score):
            best[patch] = peak
    which = list(best)
    # A place that is held stands for less likely ones near it, and each of these for its reach.
    slices, rows, columns = reach
    near = _near(likely, best, (3 * slices, 3 * rows, 3 * columns))[which]
    return np.where(near, likely.score[which], -1).max(axis=1, initial=-1)


def _near(likely: Candidates, peaks: Mapping[int, Peak], apart: Apart) -> np.ndarray:
    """Mask of likely places that lie near the peak of their patch; false of patches without one."""
    places = np.full((len(likely.score), 5), -1)
    for patch, peak in peaks.items():
        places[patch] = peak.place
    return likely.near([column[:, None] for column in places.T], apart)


def _place(candidates: Candidates, patch: int, m: int) -> Place:
    return (
        int(candidates.variant[patch, m]),
        int(candidates.planes[patch, m]),
        int(candidates.index[patch, m]),
        int(candidates.row[patch, m]),
        int(candidates.column[patch, m]),
    )


def _scan(search: _Scan, task: tuple[int, Slab]) -> Candidates:
    (number, slab), signature, look = task, search.signature, search.look
    pictures = search.planes[number].pictures(slab, looked_at(slab, search.spacing[number]))
    known, signs, most = search.known, look.signs, look.most
    if search.cell is None and signature is not None:
        return scan(pictures, slab, number, signature, known, signs, most, search.apart)
    cell = search.cell or (1, 1)
    return scan_fully(pictures, slab, number, cell, known, signs, search.size, most, search.apart)
