"""From likely places to the peaks near them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from outcrop.crew import Crew
from outcrop.locating.peaks import Peaks, best, unusual
from outcrop.locating.planes import Planes, Slab
from outcrop.locating.search import Candidates
from outcrop.locating.verify import Patches, Peak, Place, View

_ROUNDS = 4
# In slices, slices and pixels.
_BEYOND, _FAR, _DRIFT = 4, 6, 8
_NEAR = (2, 8, 8)
_TIMES_FAR = 1.25


@dataclass(frozen=True)
class Climb:
    """How hard one climbs.

    Attributes:
        starts: from how many of the likely places of a patch one climbs at most.
        worse: by how much they may fit worse than the best of them.
        beside: how many slices to each side are looked at in a step.
    """

    starts: int
    worse: float
    beside: int


@dataclass(frozen=True, eq=False)
class _Verify:
    """What every verifying task has to know.

    Attributes:
        beside: slices to each side of a place that are looked at with its own.
        beyond: slices that are read on top of these, to climb over.
    """

    planes: Sequence[Planes]
    patches: Patches
    beside: int
    beyond: int

    def around(self, number: int, slab: Slab) -> Slab:
        """What has to be read to look at places in a slab."""
        patches = self.patches
        down, across = (2 * (r + 4) * c for r, c in zip(patches.reach, patches.cell, strict=True))
        return self.planes[number].around(slab, self.beyond + self.beside, (down, across))


@dataclass(frozen=True)
class _Job:
    """Places to look at in what is read at once: for each a patch and a place."""

    number: int
    slab: Slab
    places: list[tuple[int, Place]]


def climb(
    how: Climb,
    spacing: Mapping[int, int],
    likely: Candidates,
    patches: Patches,
    planes: Sequence[Planes],
    crew: Crew,
) -> list[Peaks]:
    """The peaks of every patch near the best of its likely places.

    Args:
        spacing: for each of the planes that were searched, every which slice was looked at.
    """
    slabs = [one.slabs(patches.size) for one in planes]
    places = [
        (patch, _place(likely, patch, m))
        for patch, m in np.argwhere(np.isfinite(likely.score)).tolist()
    ]
    starts: dict[int, list[tuple[float, Place]]] = defaultdict(list)
    verify = _Verify(planes, patches, beside=1, beyond=0)
    for rescored in crew.each(_rescore, verify, _jobs(verify, places, slabs), "looking closer"):
        for patch, score, place in rescored:
            starts[patch].append((score, place))
    wanted = [
        (patch, place)
        for patch in sorted(starts)
        for place in _likeliest(starts[patch], how, spacing)
    ]
    peaks: list[Peaks] = [{} for _ in likely.score]
    verify = _Verify(planes, patches, how.beside, _BEYOND)
    _climb_all(wanted, verify, slabs, crew, peaks)
    # Where layers dip, smaller peaks lie along a ridge that crosses the slices.
    wanted = [(patch, best(peaks[patch]).place) for patch in unusual(peaks, _TIMES_FAR)]
    verify = _Verify(planes, patches.reaching(_DRIFT), _FAR, _BEYOND)
    _climb_all(wanted, verify, slabs, crew, peaks)
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
        for climbed in crew.each(_climb, verify, _jobs(verify, wanted, slabs), "verifying"):
            for patch, peak in climbed:
                if peak.settled or peak.place not in peaks[patch]:
                    peaks[patch][peak.place] = peak
        wanted = [
            (patch, place)
            for patch, some in enumerate(peaks)
            for place, peak in some.items()
            if not peak.settled
        ]


def _jobs(
    verify: _Verify, places: Sequence[tuple[int, Place]], slabs: Sequence[Sequence[Slab]]
) -> list[_Job]:
    """The places by the slab that they lie in; each by itself where that is less to read."""
    height, width = verify.patches.size
    grouped: dict[tuple[int, int], list[tuple[int, Place]]] = defaultdict(list)
    for patch, place in places:
        _, number, index, row, column = place
        for k, slab in enumerate(slabs[number]):
            if (
                slab.first <= index < slab.last
                and slab.top <= row <= slab.top + slab.height - height
                and slab.left <= column <= slab.left + slab.width - width
            ):
                grouped[number, k].append((patch, place))
                break
    jobs = []
    for (number, k), here in sorted(grouped.items()):
        planes, whole = verify.planes[number], verify.around(number, slabs[number][k])
        own = [Slab(i, i + 1, r, c, height, width) for _, (_, _, i, r, c) in here]
        if len(own) * planes.cost(verify.around(number, own[0])) < planes.cost(whole):
            for slab, one in zip(own, here, strict=True):
                jobs.append(_Job(number, verify.around(number, slab), [one]))
        else:
            jobs.append(_Job(number, whole, here))
    return jobs


def _likeliest(
    found: Sequence[tuple[float, Place]], how: Climb, spacing: Mapping[int, int]
) -> list[Place]:
    """The likeliest places, one of each neighbourhood."""
    chosen: list[Place] = []
    ordered = sorted(found, key=lambda one: (-one[0], one[1]))
    for score, place in ordered:
        if len(chosen) == how.starts or score < ordered[0][0] - how.worse:
            break
        slices = max(_NEAR[0], spacing[place[1]])
        if not any(_near(place, other, (slices, *_NEAR[1:])) for other in chosen):
            chosen.append(place)
    return chosen


def _near(one: Place, other: Place, limits: tuple[int, ...]) -> bool:
    apart = zip(one[2:], other[2:], limits, strict=True)
    return one[:2] == other[:2] and all(abs(a - b) <= limit for a, b, limit in apart)


def _place(candidates: Candidates, patch: int, m: int) -> Place:
    return (
        int(candidates.variant[patch, m]),
        int(candidates.planes[patch, m]),
        int(candidates.index[patch, m]),
        int(candidates.row[patch, m]),
        int(candidates.column[patch, m]),
    )


def _rescore(verify: _Verify, job: _Job) -> list[tuple[int, float, Place]]:
    return _view(verify, job).rescore(job.places)


def _climb(verify: _Verify, job: _Job) -> list[tuple[int, Peak]]:
    return _view(verify, job).climb(job.places)


def _view(verify: _Verify, job: _Job) -> View:
    planes = verify.planes[job.number]
    with planes.open() as read:
        return View(read, planes, job.slab, verify.patches, verify.beside)
