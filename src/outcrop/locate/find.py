"""From patches and planes to the best peak of every patch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from outcrop.locate.crew import Crew
from outcrop.locate.planes import Planes, Slab
from outcrop.locate.search import Candidates, scan
from outcrop.locate.signature import Signature, design
from outcrop.locate.verify import Patches, Peak, Place, View, climb

_STARTS = 2
_ROUNDS = 4
_BEYOND = 8


@dataclass(frozen=True, eq=False)
class _Search:
    """What every scanning task has to know."""

    planes: Sequence[Planes]
    signature: Signature
    known: np.ndarray


@dataclass(frozen=True, eq=False)
class _Look:
    """What every verifying task has to know."""

    planes: Sequence[Planes]
    patches: Patches
    reach: tuple[int, int]


@dataclass(frozen=True)
class _Job:
    """Places in one slab to look at: for each a patch and a place."""

    number: int
    slab: Slab
    places: list[tuple[int, Place]]


def find(variants: Sequence[np.ndarray], planes: Sequence[Planes], crew: Crew) -> list[list[Peak]]:
    """The peaks of every patch, the highest first; none for a patch that fits nowhere.

    Args:
        variants: the patches in each orientation, `N × bands × height × width`, finite.
    """
    signature = design(variants[0])
    known = np.stack([signature.of_patches(images) for images in variants])
    size = signature.size
    slabs = [one.slabs(size) for one in planes]
    tasks = [(number, slab) for number, some in enumerate(slabs) for slab in some]
    scanned = crew.each(_scan, _Search(planes, signature, known), tasks, "comparing")
    candidates = reduce(Candidates.with_, scanned)

    patches = Patches(variants, signature.stride)
    reach = tuple(
        -(-stride // (2 * cell)) + (cell > 1)
        for stride, cell in zip(signature.stride, patches.cell, strict=True)
    )
    look = _Look(planes, patches, (reach[0], reach[1]))
    places = [
        (patch, _place(candidates, patch, m))
        for patch, m in np.argwhere(np.isfinite(candidates.score)).tolist()
    ]
    starts: dict[int, list[tuple[float, Place]]] = defaultdict(list)
    for rescored in crew.each(_rescore, look, _jobs(places, slabs, size), "looking closer"):
        for patch, score, place in rescored:
            starts[patch].append((score, place))
    wanted = [(patch, place) for patch in sorted(starts) for place in _best(starts[patch])]
    peaks: dict[int, dict[Place, Peak]] = defaultdict(dict)
    for _ in range(_ROUNDS):
        # Where a climb had to stop is no peak; from there the next round goes on.
        for patch, place in wanted:
            peaks[patch].pop(place, None)
        for climbed in crew.each(_climb, look, _jobs(wanted, slabs, size), "verifying"):
            for patch, peak in climbed:
                if peak.settled or peak.place not in peaks[patch]:
                    peaks[patch][peak.place] = peak
        wanted = [
            (patch, place)
            for patch in sorted(peaks)
            for place, peak in peaks[patch].items()
            if not peak.settled
        ]
        if not wanted:
            break
    return [
        sorted(peaks[patch].values(), key=lambda peak: (-peak.score, peak.place))
        for patch in range(len(variants[0]))
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


def _best(found: Sequence[tuple[float, Place]]) -> list[Place]:
    """The likeliest places, one of each neighbourhood."""
    chosen: list[Place] = []
    for _, place in sorted(found, key=lambda one: (-one[0], one[1])):
        if len(chosen) < _STARTS and not any(_near(place, other) for other in chosen):
            chosen.append(place)
    return chosen


def _near(one: Place, other: Place) -> bool:
    return one[:2] == other[:2] and all(
        abs(a - b) <= limit for a, b, limit in zip(one[2:], other[2:], (2, 8, 8), strict=True)
    )


def _scan(search: _Search, task: tuple[int, Slab]) -> Candidates:
    number, slab = task
    with search.planes[number].open() as read:
        return scan(read, slab, number, search.signature, search.known)


def _view(look: _Look, job: _Job, slices: int) -> View:
    planes = look.planes[job.number]
    margin = [2 * (r + 4) * c for r, c in zip(look.reach, look.patches.cell, strict=True)]
    with planes.open() as read:
        wide = planes.around(job.slab, slices, (margin[0], margin[1]))
        return View(read, planes, wide, look.patches)


def _rescore(look: _Look, job: _Job) -> list[tuple[int, float, Place]]:
    view = _view(look, job, 0)
    found = []
    for patch, (variant, number, index, row, column) in job.places:
        score, row, column = view.coarse(patch, variant, index, row, column, look.reach)
        found.append((patch, score, (variant, number, index, row, column)))
    return found


def _climb(look: _Look, job: _Job) -> list[tuple[int, Peak]]:
    view = _view(look, job, _BEYOND)
    return [(patch, climb(view, patch, place)) for patch, place in job.places]
