"""From patches and planes to the best peak of every patch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from outcrop.locating.crew import Crew
from outcrop.locating.planes import Planes, Slab
from outcrop.locating.search import Candidates, scan, some_windows, spacing
from outcrop.locating.signature import Signature, design
from outcrop.locating.verify import Patches, Peak, Place, View

Peaks = dict[Place, Peak]

_ROUNDS = 4
_BEYOND, _FAR = 4, 8
_SURE, _TIMES_FAR, _TIMES_USUAL, _TIMES_BESIDE = 0.9, 1.25, 3, 5
_FEW = 0.01


@dataclass(frozen=True)
class _Look:
    """How hard one looks.

    Attributes:
        windows: how many are compared for the area of one patch, in a slice.
        noise: that patches are taken to have.
        skip: whether a slice may stand for its neighbours where they are alike.
        most: how many likely places are held for each patch.
        starts: from how many of them one climbs at most.
        worse: by how much they may fit worse than the best of them.
        beside: how many slices to each side are looked at in a step of a climb.
    """

    windows: int
    noise: float
    skip: bool
    most: int
    starts: int
    worse: float
    beside: int


# Each for the patches that are not found beyond doubt before.
_LOOKS = (
    _Look(windows=700, noise=0.05, skip=True, most=2, starts=2, worse=0.05, beside=1),
    _Look(windows=2800, noise=1.0, skip=True, most=32, starts=4, worse=2, beside=4),
    _Look(windows=2800, noise=1.0, skip=False, most=32, starts=4, worse=2, beside=4),
)


@dataclass(frozen=True, eq=False)
class _Scan:
    """What every scanning task has to know."""

    planes: Sequence[Planes]
    spacing: Mapping[int, int]
    most: int
    signature: Signature
    known: np.ndarray


@dataclass(frozen=True, eq=False)
class _Verify:
    """What every verifying task has to know."""

    planes: Sequence[Planes]
    patches: Patches
    beside: int


@dataclass(frozen=True)
class _Job:
    """Places in one slab to look at: for each a patch and a place."""

    number: int
    slab: Slab
    places: list[tuple[int, Place]]


def find(
    variants: Sequence[np.ndarray], planes: Sequence[Planes], crew: Crew, *, hard: bool = False
) -> list[list[Peak]]:
    """The peaks of every patch, the highest first; none for a patch that fits nowhere.

    All patches are looked for quickly; those that do not fit as well as the others once more, and
    closer: first where others were found, and only those that do not fit there in all planes.

    Args:
        variants: the patches in each orientation, `N × bands × height × width`, finite.
        hard: whether all patches are looked for at once as closely as those that fit badly.
    """
    peaks: list[Peaks] = [{} for _ in variants[0]]
    every, everywhere = list(range(len(peaks))), list(range(len(planes)))

    def add(look: _Look, where: Sequence[int], wanted: list[int]) -> None:
        some = variants if len(wanted) == len(peaks) else [images[wanted] for images in variants]
        for patch, found in zip(wanted, _search(look, where, some, planes, crew), strict=True):
            peaks[patch].update(found)

    if hard:
        add(_LOOKS[-1], everywhere, every)
        return [_ranked(some) for some in peaks]
    add(_LOOKS[0], everywhere, every)
    homes = _homes(peaks) or everywhere
    wanted = sorted(_badly(peaks) + _unusual(peaks, _TIMES_USUAL))
    for where in (homes, [number for number in everywhere if number not in homes]):
        for look in _LOOKS[1:]:
            if where and wanted:
                add(look, where, wanted)
                wanted = _badly(peaks)
    return [_ranked(some) for some in peaks]


def _homes(peaks: Sequence[Peaks]) -> list[int]:
    """The planes that more than a hundredth of the patches that fit well were found in."""
    found = Counter(_best(some).planes for some in peaks if _missing(some) <= 1 - _SURE)
    return sorted(number for number, count in found.items() if count > _FEW * found.total())


def _badly(peaks: Sequence[Peaks]) -> list[int]:
    return [patch for patch, some in enumerate(peaks) if _missing(some) > 1 - _SURE]


def _unusual(peaks: Sequence[Peaks], times: float) -> list[int]:
    """The patches that fit well, but far worse than most, and hardly better in one place than else.

    What is missing from a fit is what its correlation lacks of 1.
    """
    missing = np.array([_missing(some) for some in peaks])
    well = missing <= 1 - _SURE
    usual = float(np.median(missing[well])) if well.any() else 0.0
    unusual = np.flatnonzero(well & (missing > times * usual)).tolist()
    return [patch for patch in unusual if not _stands_out(peaks[patch])]


def _stands_out(peaks: Peaks) -> bool:
    best = _best(peaks)
    others = [peak.score for peak in peaks.values() if peak is not best]
    return _TIMES_BESIDE * (1 - best.score) <= 1 - max([best.rival, *others])


def _missing(peaks: Peaks) -> float:
    return 1 - _best(peaks).score if peaks else np.inf


def _best(peaks: Peaks) -> Peak:
    return _ranked(peaks)[0]


def _ranked(peaks: Peaks) -> list[Peak]:
    return sorted(peaks.values(), key=lambda peak: (-peak.score, peak.place))


def _search(
    look: _Look,
    where: Sequence[int],
    variants: Sequence[np.ndarray],
    planes: Sequence[Planes],
    crew: Crew,
) -> list[Peaks]:
    """The peaks of every patch near the likeliest of the places that a look compares.

    Args:
        where: which of the planes are searched.
    """
    size = (variants[0].shape[2], variants[0].shape[3])
    # Of patches that lie any way round the spectrum tells nothing of how slices lie.
    typical = variants[0] if len(variants) == 1 else some_windows([planes[k] for k in where], size)
    signature = design(typical, look.windows, look.noise)
    slabs = [one.slabs(size) for one in planes]
    scan_ = _Scan(
        planes,
        {number: spacing(planes[number], signature) if look.skip else 1 for number in where},
        look.most,
        signature,
        np.stack([signature.of_patches(images) for images in variants]),
    )
    tasks = [(number, slab) for number in where for slab in slabs[number]]
    candidates = reduce(Candidates.with_, crew.each(_scan, scan_, tasks, "comparing"))
    places = [
        (patch, _place(candidates, patch, m))
        for patch, m in np.argwhere(np.isfinite(candidates.score)).tolist()
    ]
    patches = Patches.of(variants, signature.stride)
    jobs = _jobs(places, slabs, size)
    starts: dict[int, list[tuple[float, Place]]] = defaultdict(list)
    for rescored in crew.each(_rescore, _Verify(planes, patches, 1), jobs, "looking closer"):
        for patch, score, place in rescored:
            starts[patch].append((score, place))
    wanted = [
        (patch, place) for patch in sorted(starts) for place in _likeliest(starts[patch], look)
    ]
    peaks: list[Peaks] = [{} for _ in variants[0]]
    _climb_all(wanted, _Verify(planes, patches, look.beside), slabs, crew, peaks)
    # Where layers dip, smaller peaks lie along a ridge that crosses the slices.
    wanted = [(patch, _best(peaks[patch]).place) for patch in _unusual(peaks, _TIMES_FAR)]
    _climb_all(wanted, _Verify(planes, patches, _FAR), slabs, crew, peaks)
    return peaks


def _climb_all(
    wanted: list[tuple[int, Place]],
    verify: _Verify,
    slabs: Sequence[Sequence[Slab]],
    crew: Crew,
    peaks: Sequence[Peaks],
) -> None:
    """Add to the peaks of patches those above the places that are wanted."""
    for _ in range(_ROUNDS):
        if not wanted:
            break
        # Where a climb had to stop is no peak; from there the next round goes on.
        for patch, place in wanted:
            peaks[patch].pop(place, None)
        jobs = _jobs(wanted, slabs, verify.patches.size)
        for climbed in crew.each(_climb, verify, jobs, "verifying"):
            for patch, peak in climbed:
                if peak.settled or peak.place not in peaks[patch]:
                    peaks[patch][peak.place] = peak
        wanted = [
            (patch, place)
            for patch, some in enumerate(peaks)
            for place, peak in some.items()
            if not peak.settled
        ]


def _place(candidates: Candidates, patch: int, m: int) -> Place:
    return (
        int(candidates.variant[patch, m]),
        int(candidates.planes[patch, m]),
        int(candidates.index[patch, m]),
        int(candidates.row[patch, m]),
        int(candidates.column[patch, m]),
    )


def _jobs(
    places: Sequence[tuple[int, Place]], slabs: Sequence[Sequence[Slab]], size: tuple[int, int]
) -> list[_Job]:
    """The places by the slab that they lie in, slab by slab."""
    grouped: dict[tuple[int, int], list[tuple[int, Place]]] = defaultdict(list)
    for patch, place in places:
        _, number, index, row, column = place
        for k, slab in enumerate(slabs[number]):
            if (
                slab.first <= index < slab.last
                and slab.top <= row <= slab.top + slab.height - size[0]
                and slab.left <= column <= slab.left + slab.width - size[1]
            ):
                grouped[number, k].append((patch, place))
                break
    return [_Job(number, slabs[number][k], here) for (number, k), here in sorted(grouped.items())]


def _likeliest(found: Sequence[tuple[float, Place]], look: _Look) -> list[Place]:
    """The likeliest places, one of each neighbourhood."""
    chosen: list[Place] = []
    ranked = sorted(found, key=lambda one: (-one[0], one[1]))
    for score, place in ranked:
        if len(chosen) == look.starts or score < ranked[0][0] - look.worse:
            break
        if not any(_near(place, other) for other in chosen):
            chosen.append(place)
    return chosen


def _near(one: Place, other: Place) -> bool:
    return one[:2] == other[:2] and all(
        abs(a - b) <= limit for a, b, limit in zip(one[2:], other[2:], (2, 8, 8), strict=True)
    )


def _scan(search: _Scan, task: tuple[int, Slab]) -> Candidates:
    number, slab = task
    with search.planes[number].open() as read:
        return scan(
            read, slab, number, search.signature, search.known, search.spacing[number], search.most
        )


def _view(verify: _Verify, job: _Job, slices: int) -> View:
    planes, patches = verify.planes[job.number], verify.patches
    margin = [2 * (r + 4) * c for r, c in zip(patches.reach, patches.cell, strict=True)]
    with planes.open() as read:
        wide = planes.around(job.slab, slices + verify.beside, (margin[0], margin[1]))
        return View(read, planes, wide, patches, verify.beside)


def _rescore(verify: _Verify, job: _Job) -> list[tuple[int, float, Place]]:
    return _view(verify, job, 0).rescore(job.places)


def _climb(verify: _Verify, job: _Job) -> list[tuple[int, Peak]]:
    return _view(verify, job, _BEYOND).climb(job.places)
