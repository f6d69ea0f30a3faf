"""Checks of positions: distances between sides, and the range of spatial autocorrelation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from outcrop.auditing.autocorrelation import Autocorrelation, lies_between, measure_residuals
from outcrop.auditing.check import Check, Context, Finding, plural, share
from outcrop.auditing.variogram import Variogram
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions, Source, in_slice
from outcrop.splits import TEST, VALIDATION
from outcrop.splits.geometry import coordinates, largest_extent

NEW_AREA = (
    "assumption: the map covers a new area. Smaller blocks or a smaller buffer make scores too "
    "high, because neighbours are on both sides (Roberts et al. 2017, Ecography 40, 913; Ploton et "
    "al. 2020, Nature Communications 11, 4540)"
)
BETWEEN = (
    "assumption: the map covers the area between the patches. There these blocks suit a model that "
    "classifies by features, but scores are too low for a model that interpolates (Wadoux et al. "
    "2021, Ecological Modelling 457, 109692): validate at the distances of the map, `outcrop split "
    "--by matching`, and name other areas to be mapped with --to-map. For a new area, smaller "
    "blocks make scores too high (Roberts et al. 2017, Ecography 40, 913; Ploton et al. 2020, "
    "Nature Communications 11, 4540)"
)
_CRITICAL = 0.01
_NEAR = 0.1
_SAMPLE = 4000
_COVERED = 200
_LATTICE = 10
_SHOWN = 12
_CHUNK = 1 << 21
_ROUNDING = 1e-6
_SEEN = 0.4  # lags reach half of the area, and the area should be five ranges long


# Distances


class DistanceCheck(Check):
    """Validation and test patches that overlap training patches, or lie within the range of them.

    In a volume, patches also overlap if they overlap in the plane and are a few slices apart
    (`Autocorrelation.through`).

    It is critical if 1 % or more of a side overlaps training patches. It is a warning if any patch
    does, or if more than 10 % of the patches are closer than the range, centre to centre. Without a
    split, all patches are compared with each other. Of a larger side, 4000 random patches are used.
    """

    name, rank = "distance", 90

    def run(self, context: Context) -> Iterator[Finding]:
        """One finding per side; without a split at most one."""
        patches, split = context.patches, context.split
        if patches.positions is None:
            title = "the positions of the patches are unknown: neighbours may be on different sides"
            remedy = "find them with `outcrop locate`, if the scene or volume is available"
            yield Finding(self.name, "note", title, remedy)
            return
        remedy = "use a spatial split: `outcrop split --by blocks`"
        if context.blocks is not None:
            remedy = f"use a spatial split, {context.blocks}: {context.blocks.command}"
        rng = np.random.default_rng(context.seed)
        if split is None:
            yield from _among_themselves(context, remedy, rng)
            return
        for side, word in ((VALIDATION, "validation"), (TEST, "test")):
            held_out = np.flatnonzero(split.sides == side)
            if len(held_out) and len(split.train):
                some = np.sort(rng.permutation(held_out)[:_SAMPLE])
                yield _between_sides(context, some, split.train, word, remedy)


def gaps(
    one: Positions, other: Positions, slack: float | np.ndarray = 0.0, themselves: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The gap between the extent of each patch of `one` and the nearest extent of `other`.

    As for the buffer of a split, it is the largest of the gaps along the axes. It is negative if
    extents overlap.

    Args:
        slack: number, or `N × 3`, that is subtracted from the gaps along axes 0, 1 and 2.
        themselves: whether both are the same patches, so that no patch is compared with itself.

    Returns:
        float64 `N`, the gap in the unit of the positions, infinite if there is no other patch; and
        int64 `N`, the index of the nearest patch in `other`.
    """
    gap, which = np.full(len(one), np.inf), np.zeros(len(one), np.int64)
    slack = np.broadcast_to(slack, (len(one), 3))
    step = max(1, _CHUNK // max(len(other), 1))
    for start in range(0, len(one) if len(other) else 0, step):
        part = np.arange(start, min(start + step, len(one)))
        apart = _gaps_of_pairs(one[part], other, slack[part])
        if themselves:
            apart[part - start, part] = np.inf
        which[part] = apart.argmin(axis=1)
        gap[part] = apart[part - start, which[part]]
    return gap, which


def covered(one: Positions, other: Positions, slack: float | np.ndarray = 0.0) -> np.ndarray:
    """Share of each patch's area that patches of `other` cover: float64 `N`, 0 to 1.

    It is counted on a lattice of 10 × 10 points in the patch.

    Args:
        slack: number, or `N × 3`, that is added to the extents of `other` on each side.
    """
    step = (np.arange(_LATTICE) + 0.5) / _LATTICE - 0.5
    lattice = np.stack(np.meshgrid(step, step), axis=-1).reshape(-1, 2)
    slack = np.broadcast_to(slack, (len(one), 3))
    shares = np.zeros(len(one))
    for i in range(len(one)):
        mine = one[np.array([i])]
        plane = list(in_slice(int(mine.axis[0]))) if mine.axis[0] >= 0 else [1, 2]
        near = other[_gaps_of_pairs(mine, other, slack[i : i + 1])[0] < 0]
        points = np.repeat(mine.middle, len(lattice), axis=0)
        points[:, plane] += lattice * mine.extent[:, plane]
        away = np.abs(points[:, None] - near.middle) - near.extent / 2 - slack[i]
        shares[i] = (away < 0).all(axis=2).any(axis=1).mean()
    return shares


def _gaps_of_pairs(one: Positions, other: Positions, slack: np.ndarray) -> np.ndarray:
    """Gaps of all pairs, `N × M`; infinite between volumes."""
    in_volumes = bool((one.axis >= 0).any())
    gap = np.full((len(one), len(other)), -np.inf)
    for axis in range(0 if in_volumes else 1, 3):
        touch = (one.extent[:, axis, None] + other.extent[:, axis]) / 2
        along = np.abs(one.middle[:, axis, None] - other.middle[:, axis]) - touch
        np.maximum(gap, along - slack[:, axis, None], out=gap)
    if in_volumes:
        gap[one.source[:, None] != other.source] = np.inf
    return gap


def _between_sides(
    context: Context, held_out: np.ndarray, train: np.ndarray, word: str, remedy: str
) -> Finding:
    patches, autocorrelation = context.patches, context.autocorrelation
    assert patches.positions is not None
    one, other = patches.positions[held_out], patches.positions[train]
    through = np.zeros((len(one), 3)) if autocorrelation is None else autocorrelation.through(one)
    gap = gaps(one, other)[0]
    shared = gaps(one, other, through)[0] if patches.from_volume else gap
    overlaps = shared < -_ROUNDING * largest_extent(patches.positions)
    numbers = _quantiles(gap, patches.unit) | {
        "side": word,
        "looked at": len(held_out),
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
            title=f"{_of_all(overlaps)} {word} patches overlap a training patch"
            f"{_through_slices(through)}; {share(float(area))} of the {word} area was trained on",
            remedy=remedy,
            numbers=numbers | {"covered_share": round(float(area), 4)},
            groups=_nearest(patches, held_out[overlaps], train),
        )
    near = np.zeros(len(held_out), bool)
    if autocorrelation is not None:
        slack = np.maximum(np.nan_to_num(autocorrelation.ranges) - one.extent, 0)
        near = gaps(one, other, slack)[0] < 0
    numbers |= {"within_range": round(float(near.mean()), 4)}
    middle = "they are in different volumes"
    if numbers["gap"]:
        middle = f"the median gap is {numbers['gap']['median']:.4g} {patches.unit}"
    if autocorrelation is not None and near.mean() > _NEAR:
        title = (
            f"{_of_all(near)} {word} patches are closer to a training patch than the range of "
            f"spatial autocorrelation ({autocorrelation.range:.0f} {patches.unit}); {middle}"
        )
        groups = _nearest(patches, held_out[near], train)
        return Finding("distance", "warning", title, remedy, numbers, groups)
    title = f"no {word} patch overlaps a training patch; {middle}"
    return Finding("distance", "note", title, "", numbers)


def _among_themselves(context: Context, remedy: str, rng: np.random.Generator) -> list[Finding]:
    patches, autocorrelation = context.patches, context.autocorrelation
    if len(patches) < 2:
        return []
    assert patches.positions is not None
    some = np.sort(rng.permutation(len(patches))[:_SAMPLE])
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
        f"{_of_all(overlaps)} patches overlap another patch{_through_slices(through)}: a random "
        "split would have overlapping patches in training and validation"
    )
    groups = _nearest(patches, some[overlaps], some)
    return [Finding("overlaps", "note", title, remedy, numbers, groups)]


def _through_slices(through: np.ndarray) -> str:
    """Overlap across slices in words."""
    slices = int(np.ceil(through.max()))
    return f" in the same slice or less than {plural(slices, 'slice')} away" if slices else ""


def _nearest(
    patches: PatchSet, index: np.ndarray, others: np.ndarray
) -> tuple[tuple[int, ...], ...]:
    """Some of the patches, each with its nearest patch of `others`; no patch is in two pairs."""
    from scipy.spatial import KDTree

    assert patches.positions is not None
    at = coordinates(patches.positions)
    distance, found = KDTree(at[others]).query(at[index], k=[1, 2], p=np.inf)
    itself = others[np.minimum(found[:, 0], len(others) - 1)] == index
    which = np.where(itself, found[:, 1], found[:, 0])
    distance = np.where(itself, distance[:, 1], distance[:, 0])
    pairs: list[tuple[int, int]] = []
    used: set[int] = set()
    for i in np.argsort(distance, kind="stable"):
        pair = int(index[i]), int(others[which[i]])
        if used.isdisjoint(pair):
            pairs.append(pair)
            used.update(pair)
        if len(pairs) == _SHOWN:
            break
    return tuple(pairs)


def _quantiles(gap: np.ndarray, unit: str) -> dict[str, Any]:
    finite = np.maximum(gap[np.isfinite(gap)], 0)
    percent = {"p10": 10, "median": 50, "p90": 90} if len(finite) else {}
    quantiles = {name: round(float(np.percentile(finite, p)), 3) for name, p in percent.items()}
    return {"unit": unit, "gap": quantiles}


def _of_all(mask: np.ndarray) -> str:
    return f"{mask.sum():,} of {len(mask):,} ({share(float(mask.mean()))})"


# Autocorrelation


class AutocorrelationCheck(Check):
    """Range of spatial autocorrelation, and the blocks and buffer that follow from it."""

    name, needs, rank = "autocorrelation", ("images", "positions"), 100

    def run(self, context: Context) -> list[Finding]:
        """One note."""
        patches, autocorrelation = context.patches, context.autocorrelation
        if autocorrelation is None or math.isnan(autocorrelation.range):
            title = "spatial autocorrelation cannot be estimated: there are too few patches, or "
            title += "they are too similar"
            return [Finding(self.name, "note", title)]
        if autocorrelation.range == 0:
            title = "there is no spatial autocorrelation: even neighbouring pixels are uncorrelated"
        else:
            title = f"range of spatial autocorrelation: {_reach(autocorrelation, patches)}"
        numbers: dict[str, Any] = {
            "unit": patches.unit,
            "origin": autocorrelation.origin,
            "pixels": [_plain(one) for one in autocorrelation.pixels],
            "labels": _plain(autocorrelation.labels),
        }
        blocks = context.blocks
        if blocks is None:
            remedy = (
                "the labelled area is too small for blocks of this size: label more, or hold out "
                "zones with `outcrop split --by zones`"
            )
        else:
            remedy = f"{blocks}: {blocks.command}"
            sources = tuple(map(Source.of, context.to_map)) or None
            between = lies_between(patches, context.ranges, sources)
            if between is not None:
                remedy += f"; {BETWEEN if between else NEW_AREA}"
            numbers |= {"block": blocks.block, "buffer": blocks.buffer, "between": between}
        title += f" (pixels from {autocorrelation.origin})"
        residuals = measure_residuals(patches, context.features, context.seed)
        if residuals is not None:
            numbers["residuals"] = _plain(residuals)
            title += f"; range of the residuals of a forest: {_range(residuals, patches.unit)}"
        return [Finding(self.name, "note", title, remedy, numbers)]


def _reach(found: Autocorrelation, patches: PatchSet) -> str:
    if not patches.from_volume:
        assert found.pixels[0] is not None
        return _range(found.pixels[0], patches.unit)
    along = [
        f"{_range(one, patches.unit)} along axis {axis}"
        for axis, one in enumerate(found.pixels)
        if one is not None
    ]
    return ", ".join(along)


def _range(one: Variogram, unit: str) -> str:
    if one.range == 0:
        return f"less than {one.lags[0]:.2g} {unit}"
    if np.isinf(one.range):
        return f"more than {one.lags[-1]:.0f} {unit}"
    # There is no interval, because draws of one area do not show how it differs from others.
    if one.range > _SEEN * one.lags[-1]:
        return f"about {one.range:.0f} {unit} (in an area shorter than five ranges)"
    return f"{one.range:.0f} {unit}"


def _plain(one: Variogram | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "range": round(one.range, 3) if math.isfinite(one.range) else None,
        "model": one.model,
        "lags": one.lags.round(3).tolist(),
        "gamma": one.gamma.round(4).tolist(),
    }
