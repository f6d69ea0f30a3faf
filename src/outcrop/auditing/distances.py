"""How far validation patches lie from those that were trained on, and how much they share."""

from __future__ import annotations

from typing import Any

import numpy as np

from outcrop.auditing.autocorrelation import Autocorrelation
from outcrop.auditing.blocks import Blocks
from outcrop.auditing.finding import Finding
from outcrop.auditing.words import plural, share
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions, in_slice
from outcrop.splits import TEST, VALIDATION, Split
from outcrop.splits.ground import largest_extent
from outcrop.splits.places import coordinates

_CRITICAL = 0.01
_NEAR = 0.1
_LOOKED_AT = 4000
_COVERED = 200
_LATTICE = 10
_SHOWN = 12
_CHUNK = 1 << 21
_ROUNDING = 1e-6


def check_distances(
    patches: PatchSet,
    split: Split | None,
    autocorrelation: Autocorrelation | None = None,
    advice: Blocks | None = None,
    seed: int = 0,
) -> list[Finding]:
    """Whether the judging sides overlap the training side, or lie within the ground's range of it.

    In a volume patches overlap too if they overlap in the plane and the one lies but a few slices
    behind the other (`Autocorrelation.through`).

    Critical where 1 % or more of a side overlaps training patches; a warning where any does, or
    where more than 10 % of its patches are nearer than the range, middle to middle. Without a
    split the patches are held against each other.

    Args:
        advice: blocks and buffer to split by instead.
        seed: of the sample of 4000 patches of a larger side.
    """
    if patches.positions is None:
        title = "where the patches were cut is not known: neighbours may stand on both sides"
        remedy = "find out with `outcrop locate`, if the scene or volume is at hand"
        return [Finding("distance", "note", title, remedy)]
    remedy = "split by ground: `outcrop split --by blocks`"
    if advice is not None:
        remedy = f"split by ground, {advice}: {advice.command}"
    rng = np.random.default_rng(seed)
    if split is None:
        return _among_themselves(patches, autocorrelation, remedy, rng)
    found = []
    for side, word in ((VALIDATION, "validation"), (TEST, "test")):
        judged, taught = np.flatnonzero(split.sides == side), split.train
        if len(judged) and len(taught):
            some = np.sort(rng.permutation(judged)[:_LOOKED_AT])
            found.append(_between(patches, some, taught, word, autocorrelation, remedy))
    return found


def gaps(
    one: Positions,
    other: Positions,
    slack: float | np.ndarray = 0.0,
    themselves: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The gap between the extent of each patch of `one` and the nearest extent of `other`.

    As for the buffer of a split it is the largest of the gaps along the axes; negative where
    extents overlap.

    Args:
        slack: a number, or `N × 3`, by which gaps along axis 0, 1 and 2 are made smaller.
        themselves: whether both are the same patches, and none is held against itself.

    Returns:
        float64 `N`, in the unit of the positions, infinite where there is no other; and int64
        `N`, which of `other` it is.
    """
    gap, which = np.full(len(one), np.inf), np.zeros(len(one), np.int64)
    slack = np.broadcast_to(slack, (len(one), 3))
    step = max(1, _CHUNK // max(len(other), 1))
    for start in range(0, len(one) if len(other) else 0, step):
        part = np.arange(start, min(start + step, len(one)))
        apart = _apart(one[part], other, slack[part])
        if themselves:
            apart[part - start, part] = np.inf
        which[part] = apart.argmin(axis=1)
        gap[part] = apart[part - start, which[part]]
    return gap, which


def covered(one: Positions, other: Positions, slack: float | np.ndarray = 0.0) -> np.ndarray:
    """The share of each patch's area that patches of `other` cover: float64 `N`, 0 to 1.

    Counted on a lattice of 10 × 10 points in the patch.

    Args:
        slack: a number, or `N × 3`, by which patches of `other` reach further.
    """
    step = (np.arange(_LATTICE) + 0.5) / _LATTICE - 0.5
    lattice = np.stack(np.meshgrid(step, step), axis=-1).reshape(-1, 2)
    slack = np.broadcast_to(slack, (len(one), 3))
    shares = np.zeros(len(one))
    for i in range(len(one)):
        mine = one[np.array([i])]
        plane = list(in_slice(int(mine.axis[0]))) if mine.axis[0] >= 0 else [1, 2]
        near = other[_apart(mine, other, slack[i : i + 1])[0] < 0]
        points = np.repeat(mine.middle, len(lattice), axis=0)
        points[:, plane] += lattice * mine.extent[:, plane]
        away = np.abs(points[:, None] - near.middle) - near.extent / 2 - slack[i]
        shares[i] = (away < 0).all(axis=2).any(axis=1).mean()
    return shares


def _apart(one: Positions, other: Positions, slack: np.ndarray) -> np.ndarray:
    """Gaps between all pairs, `N × M`; infinite between volumes."""
    in_volumes = bool((one.axis >= 0).any())
    gap = np.full((len(one), len(other)), -np.inf)
    for axis in range(0 if in_volumes else 1, 3):
        touch = (one.extent[:, axis, None] + other.extent[:, axis]) / 2
        along = np.abs(one.middle[:, axis, None] - other.middle[:, axis]) - touch
        np.maximum(gap, along - slack[:, axis, None], out=gap)
    if in_volumes:
        gap[one.source[:, None] != other.source] = np.inf
    return gap


def _between(
    patches: PatchSet,
    judged: np.ndarray,
    taught: np.ndarray,
    word: str,
    autocorrelation: Autocorrelation | None,
    remedy: str,
) -> Finding:
    assert patches.positions is not None
    one, other = patches.positions[judged], patches.positions[taught]
    through = np.zeros((len(one), 3)) if autocorrelation is None else autocorrelation.through(one)
    gap = gaps(one, other)[0]
    shared = gaps(one, other, through)[0] if patches.from_volume else gap
    overlaps = shared < -_ROUNDING * largest_extent(patches.positions)
    numbers = _numbers(gap, patches.unit) | {
        "side": word,
        "looked at": len(judged),
        "overlapping": int(overlaps.sum()),
        "overlapping_share": round(float(overlaps.mean()), 4),
        "group": f"a {word} patch, and the training patch nearest to it",
    }
    if overlaps.any():
        some = np.arange(len(one))[:: -(-len(one) // _COVERED)]
        area = covered(one[some], other, through[some]).mean()
        return Finding(
            check="overlaps",
            severity="critical" if overlaps.mean() >= _CRITICAL else "warning",
            title=f"{_share(overlaps)} {word} patches overlap a training patch{_behind(through)}; "
            f"{share(float(area))} of the {word} ground was trained on",
            remedy=remedy,
            numbers=numbers | {"covered_share": round(float(area), 4)},
            groups=_nearest(patches, judged[overlaps], taught),
        )
    near = np.zeros(len(judged), bool)
    if autocorrelation is not None:
        slack = np.maximum(np.nan_to_num(autocorrelation.ranges) - one.extent, 0)
        near = gaps(one, other, slack)[0] < 0
    numbers |= {"within_range": round(float(near.mean()), 4)}
    middle = "they share no volume"
    if numbers["gap"]:
        middle = f"the median gap is {numbers['gap']['median']:g} {patches.unit}"
    if autocorrelation is not None and near.mean() > _NEAR:
        title = (
            f"{_share(near)} {word} patches lie nearer to a training patch than pixels resemble "
            f"each other ({autocorrelation.range:.0f} {patches.unit}); {middle}"
        )
        groups = _nearest(patches, judged[near], taught)
        return Finding("distance", "warning", title, remedy, numbers, groups)
    title = f"no {word} patch overlaps a training patch; {middle}"
    return Finding("distance", "note", title, "", numbers)


def _among_themselves(
    patches: PatchSet,
    autocorrelation: Autocorrelation | None,
    remedy: str,
    rng: np.random.Generator,
) -> list[Finding]:
    if len(patches) < 2:
        return []
    assert patches.positions is not None
    some = np.sort(rng.permutation(len(patches))[:_LOOKED_AT])
    one = patches.positions[some]
    through = np.zeros((len(one), 3)) if autocorrelation is None else autocorrelation.through(one)
    shared = gaps(one, one, through, themselves=True)[0]
    overlaps = shared < -_ROUNDING * largest_extent(one)
    if not overlaps.any():
        return []
    numbers = {
        "looked at": len(some),
        "overlapping": int(overlaps.sum()),
        "group": "two patches that overlap",
    }
    title = (
        f"{_share(overlaps)} patches overlap another{_behind(through)}: a split at random would "
        "train and judge on the same ground"
    )
    return [
        Finding("overlaps", "note", title, remedy, numbers, _nearest(patches, some[overlaps], some))
    ]


def _behind(through: np.ndarray) -> str:
    """Overlap through slices in words."""
    slices = int(np.ceil(through.max()))
    return f", in its slice or less than {plural(slices, 'slice')} behind it" if slices else ""


def _nearest(
    patches: PatchSet, index: np.ndarray, others: np.ndarray
) -> tuple[tuple[int, ...], ...]:
    """Some of the patches, each with the nearest of others, middle to middle; none twice."""
    from scipy.spatial import KDTree

    assert patches.positions is not None
    at = coordinates(patches.positions)
    distance, found = KDTree(at[others]).query(at[index], k=[1, 2], p=np.inf)
    itself = others[np.minimum(found[:, 0], len(others) - 1)] == index
    which = np.where(itself, found[:, 1], found[:, 0])
    distance = np.where(itself, distance[:, 1], distance[:, 0])
    pairs: list[tuple[int, int]] = []
    seen: set[int] = set()
    for i in np.argsort(distance, kind="stable"):
        pair = int(index[i]), int(others[which[i]])
        if seen.isdisjoint(pair):
            pairs.append(pair)
            seen.update(pair)
        if len(pairs) == _SHOWN:
            break
    return tuple(pairs)


def _numbers(gap: np.ndarray, unit: str) -> dict[str, Any]:
    finite = np.maximum(gap[np.isfinite(gap)], 0)
    percent = {"p10": 10, "median": 50, "p90": 90} if len(finite) else {}
    quantiles = {name: round(float(np.percentile(finite, p)), 3) for name, p in percent.items()}
    return {"unit": unit, "gap": quantiles}


def _share(mask: np.ndarray) -> str:
    return f"{mask.sum():,} of {len(mask):,} ({share(float(mask.mean()))})"
