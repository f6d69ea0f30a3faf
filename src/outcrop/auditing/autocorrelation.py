"""How far pixels and labels of this ground resemble each other, and the blocks that follow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.auditing.blocks import BETWEEN, BEYOND, Blocks
from outcrop.auditing.draws import (
    draw_from_origins,
    draw_from_patches,
    first_component,
    pixel_size,
)
from outcrop.auditing.finding import Finding
from outcrop.auditing.origin import Origins
from outcrop.auditing.variogram import Variogram, variogram
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions
from outcrop.splits.places import coordinates

FEWEST = 20
_LABELS, _LABEL_DRAWS = 1000, 4
_PROBED, _TREES, _FOLDS = 2000, 20, 5
_SEEN = 0.4  # lags reach to half of the ground, and five ranges should be seen
_FROM_VOLUMES = "the volumes"


@dataclass(frozen=True)
class Autocorrelation:
    """How far pixels and labels resemble each other.

    Attributes:
        pixels: of the first principal component of the bands: one variogram for scenes, one along
            each axis for volumes; None where it cannot be estimated.
        labels: the indicator variogram of the classes, at the patches' centres.
        origin: where the pixels were drawn from, "the patches", "the scenes" or "the volumes".
    """

    pixels: tuple[Variogram | None, ...]
    labels: Variogram | None
    origin: str

    @property
    def ranges(self) -> np.ndarray:
        """The range of pixels along axis 0, 1 and 2, the longest lag where no end was seen.

        float64, 3. In scenes all are the same. 0 if even neighbours have nothing in common; NaN if
        nothing could be estimated.
        """
        return self._along(lambda one: min(one.range, one.lags[-1]))

    @property
    def range(self) -> float:
        """The longest of the ranges; NaN if none could be estimated."""
        known = self.ranges[~np.isnan(self.ranges)]
        return float(known.max()) if len(known) else math.nan

    def through(self, positions: Positions) -> np.ndarray:
        """How many slices behind a patch of a volume still show nearly the same: float64, `N × 3`.

        Along the axis that its slice is across, up to where pixels are a third as unlike as they
        become (`Variogram.alike`); 0 along the others, and in scenes. 0 too where pixels were
        drawn from the patches, which lie too thin across their slices to tell.
        """
        slack = np.zeros((len(positions), 3))
        if self.origin == _FROM_VOLUMES:
            alike = np.nan_to_num(self._along(lambda one: one.alike))
            slack[np.arange(len(positions)), positions.axis] = alike[positions.axis]
        return slack

    def _along(self, length: Callable[[Variogram], float]) -> np.ndarray:
        each = [math.nan if one is None else length(one) for one in self.pixels]
        return np.broadcast_to(np.array(each), 3)


def measure_autocorrelation(
    patches: PatchSet, origins: Origins = (), seed: int = 0, draws: int = 8
) -> Autocorrelation | None:
    """Estimate the variograms of a patch set's pixels and labels.

    The range depends on how much ground is seen: over less than about five ranges, expect it to
    be wrong by half.

    Args:
        origins: what they were cut from, to draw pixels from (`open_origins`); if there are none
            pixels are drawn from the patches.
        seed: of the draws.
        draws: how many, of about 1500 pixels each.

    Returns:
        None without positions, or with fewer than twenty patches or places.
    """
    if patches.positions is None or len(patches) < FEWEST:
        return None
    at = coordinates(patches.positions)
    if len(np.unique(at, axis=0)) < FEWEST:
        return None
    shortest = pixel_size(patches)
    longest = shortest * max((max(source.shape) for source in patches.sources), default=np.inf)
    pixels = []
    for axis in range(3) if patches.from_volume else [None]:
        if origins:
            drawn = draw_from_origins(patches, origins, seed, draws, axis)
        else:
            drawn = draw_from_patches(patches, seed, draws)
        drawn = [one for one in drawn if len(one[0]) >= FEWEST]
        field = first_component(drawn) if drawn else []
        direction = None if axis is None else np.eye(3)[axis]
        pixels.append(variogram(field, shortest, longest, direction) if drawn else None)
    sources = _FROM_VOLUMES if patches.from_volume else "the scenes"
    return Autocorrelation(
        pixels=tuple(pixels),
        labels=_labels(patches, at, longest, seed),
        origin=sources if origins else "the patches",
    )


def measure_residuals(patches: PatchSet, features: np.ndarray, seed: int = 0) -> Variogram | None:
    """The variogram of what a quick model gets wrong, which splits have to keep apart.

    Of one minus the probability that a forest on features (twenty extremely randomised trees, five
    folds at random, at most 2000 patches) gives to the class of a patch it has not learnt from.

    Args:
        features: `N × F`, of the patches.

    Returns:
        None without positions, with fewer than twenty patches or places, or a single class.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    if patches.positions is None:
        return None
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(patches))[:_PROBED])
    at, labels = coordinates(patches.positions[some]), patches.labels[some]
    if len(np.unique(at, axis=0)) < FEWEST or len(np.unique(labels)) < 2:
        return None
    wrong = np.ones(len(some))
    fold = rng.permutation(len(some)) % _FOLDS
    for number in range(_FOLDS):
        held, taught = fold == number, fold != number
        trees = ExtraTreesClassifier(_TREES, random_state=seed)
        trees.fit(features[some][taught], labels[taught])
        column = np.searchsorted(trees.classes_, labels[held]).clip(max=len(trees.classes_) - 1)
        known = trees.classes_[column] == labels[held]
        given = trees.predict_proba(features[some][held])[np.arange(held.sum()), column]
        wrong[held] = 1 - given * known
    longest = pixel_size(patches) * max(max(source.shape) for source in patches.sources)
    return _at_patches(at, wrong[:, None], longest, seed)


def check_autocorrelation(
    patches: PatchSet,
    autocorrelation: Autocorrelation | None,
    advice: Blocks | None,
    residuals: Variogram | None = None,
    between: bool | None = None,
) -> list[Finding]:
    """Say how far pixels resemble each other, and which blocks and buffer follow.

    Args:
        residuals: of a quick model (`measure_residuals`).
        between: whether what is to be mapped lies between the patches (`lies_between`).
    """
    if patches.positions is None:
        return []
    if autocorrelation is None or math.isnan(autocorrelation.range):
        title = "too few patches, or too alike, to say how far the ground resembles itself"
        return [Finding("autocorrelation", "note", title)]
    if autocorrelation.range == 0:
        title = "pixels have nothing in common with their neighbours"
    else:
        title = f"pixels resemble each other up to {_reach(autocorrelation, patches)}"
    numbers = _numbers(autocorrelation, patches)
    if advice is None:
        remedy = (
            "the labelled ground is too small for blocks of this size: label more, or hold out "
            "zones with `outcrop split --by zones`"
        )
    else:
        remedy = f"{advice}: {advice.command}"
        if between is not None:
            remedy += f"; {BETWEEN if between else BEYOND}"
        numbers |= {"block": advice.block, "buffer": advice.buffer, "between": between}
    title += f" (drawn from {autocorrelation.origin})"
    if residuals is not None:
        numbers["residuals"] = _plain(residuals)
        title += f"; range of the errors of a forest on features: {_words(residuals, patches.unit)}"
    return [Finding("autocorrelation", "note", title, remedy, numbers)]


def _labels(patches: PatchSet, at: np.ndarray, longest: float, seed: int) -> Variogram | None:
    return _at_patches(at, np.eye(len(patches.classes))[patches.labels], longest, seed)


def _at_patches(at: np.ndarray, values: np.ndarray, longest: float, seed: int) -> Variogram | None:
    """The variogram of values at the middles of patches."""
    from scipy.spatial import KDTree

    places = np.unique(at, axis=0)
    apart = float(KDTree(places).query(places, k=2)[0][:, 1].min())
    rng = np.random.default_rng(seed)
    count = min(_LABELS, len(at) * 2 // 3)
    index = [rng.choice(len(at), count, replace=False) for _ in range(_LABEL_DRAWS)]
    return variogram([(at[i], values[i]) for i in index], apart, longest, robust=False)


def _reach(found: Autocorrelation, patches: PatchSet) -> str:
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
    if one.range == 0:
        return f"less than {one.lags[0]:.2g} {unit}"
    if np.isinf(one.range):
        return f"{one.lags[-1]:.0f} {unit} and beyond"
    # No interval: random draws of one piece of ground do not show how it differs from others.
    rough = ", roughly: less than five ranges were seen" if one.range > _SEEN * one.lags[-1] else ""
    return f"{one.range:.0f} {unit}{rough}"


def _numbers(found: Autocorrelation, patches: PatchSet) -> dict[str, Any]:
    return {
        "unit": patches.unit,
        "origin": found.origin,
        "pixels": [_plain(one) for one in found.pixels],
        "labels": _plain(found.labels),
    }


def _plain(one: Variogram | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "range": _finite(one.range),
        "model": one.model,
        "lags": one.lags.round(3).tolist(),
        "gamma": one.gamma.round(4).tolist(),
    }


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
