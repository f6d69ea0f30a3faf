"""How far validation patches lie from those that were trained on, and how much they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from outcrop.audit.finding import Finding
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions
from outcrop.splits.ground import largest_extent
from outcrop.splits.places import coordinates
from outcrop.splits.split import TEST, TRAIN, VALIDATION, Split

_CRITICAL = 0.01
_NEAR = 0.1
_LATTICE = 6
_COVERED = 500
_SHOWN = 12
_RUNGS = 12
_KINDS = 6
_ROUNDING = 1e-6


def check_distances(
    patches: PatchSet, split: Split | None = None, reach: float = np.nan
) -> list[Finding]:
    """Whether the judging sides overlap the training side, or lie within the ground's range of it.

    Args:
        split: without it the patches are held against each other.
        reach: how far pixels resemble each other (`Resemblance.range`); NaN if not known.

    Returns:
        Critical where 1 % or more of a side overlaps training patches; a warning where any does,
        or where more than 10 % of its patches are nearer than `reach`, middle to middle.
    """
    if patches.positions is None:
        return [
            Finding(
                check="distance",
                severity="note",
                title="where the patches were cut is not known, so neighbours may stand on both "
                "sides of any split",
                remedy="find out with `outcrop locate`, if the scene or volume is at hand",
            )
        ]
    if split is None:
        return _among_themselves(patches)
    sides = ((VALIDATION, "validation"), (TEST, "test"))
    found = [_between(patches, split, side, word, reach) for side, word in sides]
    return [finding for finding in found if finding is not None]


def gaps(
    one: Positions, other: Positions, themselves: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The gap between the extent of each patch of `one` and the nearest extent of `other`.

    As for the buffer of a split it is the largest of the gaps along the axes; negative where
    extents overlap. For patches as long as wide it is exact; for others the gap found may be up
    to a quarter longer than the smallest, but an overlap is never overlooked.

    Args:
        themselves: whether both are the same patches, and none is held against itself.

    Returns:
        float64 `N`, in the unit of the positions, infinite where there is no other; and int64
        `N`, which of `other` it is.
    """
    gap, which = np.full(len(one), np.inf), np.zeros(len(one), np.int64)
    at, places = coordinates(one), coordinates(other)
    for mine, size in _kinds(one):
        for theirs, other_size in _kinds(other):
            touch = (size + other_size) / 2
            for slack in _slacks(touch, np.ptp(places, axis=0).max()):
                found = _nearest(at[mine], places[theirs], touch + slack, themselves, mine, theirs)
                distance = (np.abs(at[mine] - places[found]) - touch).max(axis=1)
                if themselves:
                    distance[found == mine] = np.inf
                better = distance < gap[mine]
                gap[mine[better]], which[mine[better]] = distance[better], found[better]
    return gap, which


def covered(one: Positions, other: Positions) -> np.ndarray:
    """The share of each patch's area that patches of `other` cover, on a lattice of 6 × 6."""
    from scipy.spatial import KDTree

    step = (np.arange(_LATTICE) + 0.5) / _LATTICE - 0.5
    at, places = coordinates(one), coordinates(other)
    lattice = np.stack(np.meshgrid(*[step] * at.shape[1], indexing="ij"), -1)
    lattice = lattice.reshape(-1, at.shape[1])
    seen = np.zeros((len(one), len(lattice)), bool)
    extent = _extent(one)
    for theirs, size in _kinds(other):
        tree = KDTree(places[theirs] / (size / 2))
        points = (at[:, None] + lattice * extent[:, None]) / (size / 2)
        distance = tree.query(points, p=np.inf, distance_upper_bound=1)[0]
        seen |= distance < 1
    return seen.mean(axis=1)


def _between(patches: PatchSet, split: Split, side: int, word: str, reach: float) -> Finding | None:
    assert patches.positions is not None
    judged, taught = np.flatnonzero(split.sides == side), np.flatnonzero(split.sides == TRAIN)
    if not len(judged) or not len(taught):
        return None
    positions = patches.positions
    gap, which = gaps(positions[judged], positions[taught])
    overlaps = gap < -_ROUNDING * largest_extent(positions)
    dice = np.random.default_rng(0)
    some = dice.permutation(len(judged))[:_COVERED]
    area = covered(positions[judged[some]], positions[taught]) if overlaps.any() else np.zeros(1)
    near = gap < reach - largest_extent(positions)
    numbers = _numbers(gap, patches.unit) | {
        "side": word,
        "overlapping": int(overlaps.sum()),
        "overlapping_share": round(float(overlaps.mean()), 4),
        "covered_share": round(float(area.mean()), 4),
        "within_range": None if np.isnan(reach) else round(float(near.mean()), 4),
    }
    worst = np.argsort(gap, kind="stable")[:_SHOWN]
    groups = tuple((int(judged[i]), int(taught[which[i]])) for i in worst)
    if overlaps.any():
        return Finding(
            check="distance",
            severity="critical" if overlaps.mean() >= _CRITICAL else "warning",
            title=f"{_share(overlaps)} of the {word} patches overlap a training patch; "
            f"{area.mean():.0%} of the {word} ground was trained on",
            remedy="split by ground, with a buffer: `outcrop split --by blocks`",
            numbers=numbers,
            groups=groups,
        )
    middle = numbers["gap"]["median"]
    if near.mean() > _NEAR:
        return Finding(
            check="distance",
            severity="warning",
            title=f"{_share(near)} of the {word} patches lie within {reach:.0f} {patches.unit} of "
            f"a training patch, as far as pixels resemble each other (median gap {middle:g})",
            remedy="take a wider buffer and larger blocks (see the finding on resemblance)",
            numbers=numbers,
            groups=groups,
        )
    return Finding(
        check="distance",
        severity="note",
        title=f"no {word} patch overlaps a training patch; the median gap is "
        f"{middle:g} {patches.unit}",
        numbers=numbers,
    )


def _among_themselves(patches: PatchSet) -> list[Finding]:
    assert patches.positions is not None
    if len(patches) < 2:
        return []
    gap, which = gaps(patches.positions, patches.positions, themselves=True)
    overlaps = gap < -_ROUNDING * largest_extent(patches.positions)
    if not overlaps.any():
        return []
    worst = np.argsort(gap, kind="stable")[:_SHOWN]
    return [
        Finding(
            check="distance",
            severity="note",
            title=f"{_share(overlaps)} of the patches overlap another: a split at random would "
            "train and judge on the same ground",
            remedy="split by ground: `outcrop split --by blocks`",
            numbers=_numbers(gap, patches.unit) | {"overlapping": int(overlaps.sum())},
            groups=tuple((int(i), int(which[i])) for i in worst),
        )
    ]


def _numbers(gap: np.ndarray, unit: str) -> dict[str, Any]:
    finite = np.maximum(gap[np.isfinite(gap)], 0)
    low, median, high = np.percentile(finite, (10, 50, 90)) if len(finite) else (np.nan,) * 3
    quantiles = {"p10": low, "median": median, "p90": high}
    return {"unit": unit, "gap": {name: round(float(x), 3) for name, x in quantiles.items()}}


def _share(mask: np.ndarray) -> str:
    return f"{mask.sum()} ({mask.mean():.1%})"


def _extent(positions: Positions) -> np.ndarray:
    """Extents along the axes of `coordinates`."""
    return positions.extent[:, -coordinates(positions[:1]).shape[1] :]


def _kinds(positions: Positions) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The patches of each extent, by index, and that extent; many extents count as the largest."""
    extent = _extent(positions)
    sizes, kind = np.unique(extent.round(6), axis=0, return_inverse=True)
    if len(sizes) > _KINDS:
        yield np.arange(len(positions)), extent.max(axis=0)
        return
    for number, size in enumerate(sizes):
        yield np.flatnonzero(kind.reshape(-1) == number), size


def _slacks(touch: np.ndarray, longest: float) -> list[float]:
    """Gaps for which to look who is nearest; where extents are square one will do for all."""
    if np.allclose(touch, touch[0], rtol=1e-3) or longest <= touch.min():
        return [0.0]
    return [0.0, *np.geomspace(touch.min(), longest, _RUNGS)]


def _nearest(
    at: np.ndarray,
    places: np.ndarray,
    scale: np.ndarray,
    themselves: bool,
    mine: np.ndarray,
    theirs: np.ndarray,
) -> np.ndarray:
    """Of `theirs` the nearest to each of `mine` but itself, in units of `scale`."""
    from scipy.spatial import KDTree

    most = min(2 if themselves else 1, len(theirs))
    found = KDTree(places / scale).query(at / scale, k=range(1, most + 1), p=np.inf)[1]
    found = theirs[found]
    return np.where(found[:, 0] == mine, found[:, -1], found[:, 0]) if themselves else found[:, 0]
