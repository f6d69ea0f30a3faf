"""How far pixels and labels of this ground resemble each other, and the blocks that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.audit.blocks import advise_blocks, wanted_buffer
from outcrop.audit.finding import Finding
from outcrop.audit.draws import (
    DRAWS,
    draw_from_patches,
    draw_from_scenes,
    first_component,
    open_sources,
    pixel_size,
)
from outcrop.audit.variogram import Draw, Variogram, variogram
from outcrop.patches.patchset import PatchSet
from outcrop.splits.places import coordinates
from outcrop.splits.split import Split

FEWEST = 20
_LABELS = 1500
_BAND_DRAWS = 3


@dataclass(frozen=True)
class Resemblance:
    """How far pixels and labels resemble each other.

    Attributes:
        pixels: of the first principal component of the bands: one variogram for scenes, one along
            each axis for volumes; None where it cannot be estimated.
        bands: the range of each band by itself; empty for volumes and single bands.
        labels: the indicator variogram of the classes, at the patches' centres.
        origin: where the pixels were drawn from, "the patches" or "the scenes".
    """

    pixels: tuple[Variogram | None, ...]
    bands: tuple[float, ...]
    labels: Variogram | None
    origin: str

    @property
    def range(self) -> float:
        """The longest range of pixels; the longest lag looked at where no end was seen.

        0 if even neighbours have nothing in common; NaN if nothing could be estimated.
        """
        known = [one for one in self.pixels if one is not None]
        if not known:
            return math.nan
        return max(one.lags[-1] if np.isinf(one.range) else one.range for one in known)


def measure_resemblance(patches: PatchSet, seed: int = 0) -> Resemblance | None:
    """Estimate the variograms of a patch set's pixels and labels.

    Pixels are drawn from the scenes themselves where these can be opened, else from the patches.
    The range depends on how much ground is seen: over less than about five ranges, expect it to
    be wrong by half.

    Args:
        seed: of the draws.

    Returns:
        None without positions, or with fewer than twenty patches or places.
    """
    if patches.positions is None or len(patches) < FEWEST:
        return None
    at = coordinates(patches.positions)
    if len(np.unique(at, axis=0)) < FEWEST:
        return None
    scenes = open_sources(patches)
    draws = draw_from_scenes(patches, scenes, seed) if scenes else draw_from_patches(patches, seed)
    draws = [one for one in draws if len(one[0]) >= FEWEST]
    if not draws:
        return None
    shortest = pixel_size(patches)
    field = first_component(draws)
    directions = np.eye(3) if patches.from_volume else [None]
    count = len(patches.bands)
    bands = () if patches.from_volume or count == 1 else _bands(draws, shortest)
    return Resemblance(
        pixels=tuple(variogram(field, shortest, direction) for direction in directions),
        bands=bands,
        labels=_labels(patches, at, seed),
        origin="the scenes" if scenes else "the patches",
    )


def check_resemblance(
    patches: PatchSet,
    split: Split | None = None,
    resemblance: Resemblance | None = None,
    seed: int = 0,
) -> list[Finding]:
    """Say how far pixels resemble each other, and which blocks and buffer follow.

    Blocks no smaller than the range, and patches of different sides further from middle to middle
    than the range: Roberts et al. (2017), Cross-validation strategies for data with temporal,
    spatial, hierarchical, or phylogenetic structure, Ecography 40, 913-929; Valavi et al. (2019),
    blockCV, Methods in Ecology and Evolution 10, 225-232 (`cv_spatial_autocor`, `cv_buffer`).

    Args:
        resemblance: that of these patches; measured if not given.
    """
    if patches.positions is None:
        return []
    found = resemblance or measure_resemblance(patches, seed)
    if found is None or math.isnan(found.range):
        return [
            Finding(
                check="resemblance",
                severity="note",
                title="too few patches, or too alike, to say how far the ground resembles itself",
            )
        ]
    numbers = _numbers(found, patches)
    if found.range == 0:
        title = f"pixels have nothing in common with their neighbours (drawn from {found.origin})"
        return [Finding("resemblance", "note", title, "", numbers)]
    title = f"pixels resemble each other up to {_reach(found, patches)} (drawn from {found.origin})"
    advice = advise_blocks(patches, found.range, seed)
    if advice is None:
        remedy = (
            "the labelled ground is too small for blocks of this size: label more, or hold out "
            "zones with `outcrop split --by zones`"
        )
        return [Finding("resemblance", "note", title, remedy, numbers)]
    block, buffer = advice
    unit = patches.unit
    remedy = f"blocks of {block:g} {unit} and a buffer of {buffer:g} {unit}"
    if block < found.range or buffer < wanted_buffer(patches, found.range):
        remedy = f"the most that this ground allows: {remedy}"
    return [
        Finding(
            check="resemblance",
            severity="note",
            title=title,
            remedy=f"{remedy}: `outcrop split --block {block:g} --buffer {buffer:g}`",
            numbers=numbers | {"block": block, "buffer": buffer},
        )
    ]


def _bands(draws: Sequence[Draw], shortest: float) -> tuple[float, ...]:
    each = [
        variogram([(at, values[:, band]) for at, values in draws[:_BAND_DRAWS]], shortest)
        for band in range(draws[0][1].shape[1])
    ]
    return tuple(math.nan if one is None else one.range for one in each)


def _labels(patches: PatchSet, at: np.ndarray, seed: int) -> Variogram | None:
    from scipy.spatial import KDTree

    apart = KDTree(np.unique(at, axis=0)).query(np.unique(at, axis=0), k=2)[0][:, 1].min()
    indicators = np.eye(len(patches.classes))[patches.labels]
    dice = np.random.default_rng(seed)
    count = min(_LABELS, len(patches) * 2 // 3)
    index = [dice.choice(len(patches), count, replace=False) for _ in range(DRAWS)]
    return variogram([(at[one], indicators[one]) for one in index], float(apart), robust=False)


def _reach(found: Resemblance, patches: PatchSet) -> str:
    if not patches.from_volume:
        assert found.pixels[0] is not None
        return _words(found.pixels[0], patches.unit)
    along = [
        f"{_words(one, patches.unit)} along axis {axis}"
        for axis, one in enumerate(found.pixels)
        if one is not None
    ]
    return ", ".join(along)


def _words(one: Variogram, unit: str) -> str:
    if np.isinf(one.range):
        return f"{one.lags[-1]:.0f} {unit} and beyond"
    return f"{one.range:.0f} {unit} [{one.low:.0f}, {one.high:.0f}]"


def _numbers(found: Resemblance, patches: PatchSet) -> dict[str, Any]:
    def plain(one: Variogram | None) -> dict[str, Any] | None:
        if one is None:
            return None
        return {
            "range": _finite(one.range),
            "low": _finite(one.low),
            "high": _finite(one.high),
            "model": one.model,
            "lags": one.lags.round(3).tolist(),
            "gamma": one.gamma.round(4).tolist(),
        }

    return {
        "unit": patches.unit,
        "origin": found.origin,
        "pixels": [plain(one) for one in found.pixels],
        "bands": {
            name: _finite(reach) for name, reach in zip(patches.bands, found.bands, strict=False)
        },
        "labels": plain(found.labels),
    }


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
