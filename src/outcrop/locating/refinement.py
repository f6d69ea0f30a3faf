"""From likely places to the peaks near them: what is read at once, and on whom the work falls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from outcrop.executors import Executor
from outcrop.locating.planes import Planes, Slab
from outcrop.locating.verify import NEIGHBOURHOOD, Patches, Peak, Place, View, Wanted

_ROUNDS = 16
_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class _Shared:
    """What every task has to know.

    Attributes:
        reach: slices, rows and columns to each side of a likely place.
        least: for each patch the score from which a place is of use; None if all are.
    """

    planes: Sequence[Planes]
    patches: Patches
    reach: tuple[int, int, int]
    least: np.ndarray | None = None


@dataclass(frozen=True)
class _Job:
    """Places to look at in what is read at once."""

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
    """The peaks near likely places, by some of the pixels of patches (`View.refine`)."""
    shared = _Shared(planes, patches, reach, least)
    return _uphill(_refine, list(wanted), shared, executor, "looking closer")


def close(
    wanted: Iterable[Wanted], patches: Patches, planes: Sequence[Planes], executor: Executor
) -> list[tuple[int, Peak]]:
    """The places that nothing around them beats at full resolution (`View.close`)."""
    shared = _Shared(planes, patches, NEIGHBOURHOOD)
    return _uphill(_close, list(wanted), shared, executor, "verifying")


def along(
    wanted: Iterable[Wanted], patches: Patches, planes: Sequence[Planes], executor: Executor
) -> list[tuple[int, Place]]:
    """For each place the slice that fits best at its row and column, of all slices."""
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


def _uphill(
    step: Callable[[_Shared, _Job], list[tuple[int, Peak]]],
    wanted: list[Wanted],
    shared: _Shared,
    executor: Executor,
    what: str,
) -> list[tuple[int, Peak]]:
    """The settled peaks above places; where the way had to stop, it goes on in the next round."""
    found: list[tuple[int, Peak]] = []
    for _ in range(_ROUNDS):
        unsettled: list[tuple[int, Peak]] = []
        for peaks in executor.each(step, shared, _jobs(shared, wanted), what):
            for patch, peak in peaks:
                (found if peak.settled else unsettled).append((patch, peak))
        if not unsettled:
            break
        wanted = [(patch, peak.place) for patch, peak in unsettled]
    return found + unsettled


def _refine(shared: _Shared, job: _Job) -> list[tuple[int, Peak]]:
    return _view(shared, job).refine(job.places, shared.reach, shared.least)


def _close(shared: _Shared, job: _Job) -> list[tuple[int, Peak]]:
    view = _view(shared, job)
    return [(patch, view.close(patch, place)) for patch, place in job.places]


def _along(shared: _Shared, job: _Job) -> list[tuple[int, float, Place]]:
    view = _view(shared, job)
    return [(patch, *view.along(patch, place)) for patch, place in job.places]


def _view(shared: _Shared, job: _Job) -> View:
    planes = shared.planes[job.number]
    with planes.open() as read:
        return View(read, planes, job.slab, shared.patches)


def _jobs(shared: _Shared, wanted: Sequence[Wanted]) -> list[_Job]:
    """The places by the slab that they lie in; each by itself where that is less to read."""
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
            # Uphill from one of a few pieces of a source one may come to where there is none.
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
    """What has to be read for one place."""
    _, number, index, row, column = wanted[1]
    return _around(shared, number, Slab(index, index + 1, row, column, *shared.patches.size))


def _around(shared: _Shared, number: int, slab: Slab) -> Slab:
    """A slab with what lies around its places; a way that leads beyond is read anew."""
    slices, rows, columns = shared.reach
    return shared.planes[number].around(slab, slices, (rows, columns))


def _inside(slab: Slab, place: Place, size: tuple[int, int]) -> bool:
    _, _, index, row, column = place
    return (
        slab.first <= index < slab.last
        and slab.top <= row <= slab.top + slab.height - size[0]
        and slab.left <= column <= slab.left + slab.width - size[1]
    )
