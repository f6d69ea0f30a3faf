"""Traces of how a class was made: marks burnt into its patches, and coarser grey levels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import uniform_filter

from outcrop.audit.detail import standardised
from outcrop.audit.finding import Finding
from outcrop.audit.words import plural, share
from outcrop.patches.patchset import PatchSet
from outcrop.progress import track

_SAMPLE, _LEAST = 300, 10
_MOST = 20_000
_OUTLIER = 8.0
_EFFECT = 0.5
_LIMIT = 5.0
_VALUES = 64
_COARSER, _FINER = 0.5, 2.0
_ENOUGH = 500
_LEVELS = 16
_SHOWN = 6


def check_marks(patches: PatchSet, seed: int = 0) -> list[Finding]:
    """Pixels that stand out from their neighbours in one class alone, always at the same place.

    A corner, frame, or letter burnt into half the patches of a class or more gives it away. Looked
    at in a sample of 300 patches a class. Critical.
    """
    sample = _sample(patches, seed)
    if len(sample) < 2:
        return []
    total, square, number = np.zeros(patches.size), np.zeros(patches.size), 0
    sums = {}
    for k, images in _of_classes(patches, sample):
        sharp = _sharp(images)
        sums[k] = sharp.sum(axis=0), len(sharp)
        total, square, number = (
            total + sums[k][0],
            square + np.square(sharp).sum(axis=0),
            number + len(sharp),
        )
    spread = np.sqrt(np.maximum(square / number - np.square(total / number), 1e-12))
    found = []
    for k, (own, n) in sums.items():
        mean, rest = own / n, (total - own) / (number - n)
        place = _stands_out((mean - rest) / spread, mean, rest)
        if place.any():
            found.append(_mark(patches, k, place, sample[k]))
    return found


def check_levels(patches: PatchSet, seed: int = 0) -> list[Finding]:
    """Grey levels of a class at least twice as coarse as those of the others. Critical.

    Of the values of a class (its middle 98 %) and as many of the other classes in the same range,
    distinct ones are counted. Natural classes fill the levels of their range alike; a class that
    went through fewer bits, or another scaling, does not.
    """
    sample = _sample(patches, seed)
    dice = np.random.default_rng(seed)
    values: dict[int, np.ndarray] = {}
    for k, images in _of_classes(patches, sample):
        flat = images.reshape(*images.shape[:2], -1)
        values[k] = flat[:, :, dice.permutation(flat.shape[2])[:_VALUES]]
    found = []
    for k, own in values.items():
        for band, name in enumerate(patches.bands):
            others = [other[:, band].ravel() for key, other in values.items() if key != k]
            if not others:
                continue
            ratio, fewer = level_ratio(own[:, band].ravel(), np.concatenate(others), dice)
            coarser = ratio <= _COARSER
            if coarser or (ratio >= _FINER and len(values) > 2):
                found.append(
                    Finding(
                        "levels",
                        "critical",
                        f"'{patches.classes[k]}' has {'coarser' if coarser else 'finer'} grey "
                        f"levels than other classes in band '{name}': {fewer[0]:,} distinct values "
                        f"where others have {fewer[1]:,}",
                        "prepare all classes from the same files in the same way",
                        {"class": patches.classes[k], "band": name, "ratio": ratio},
                        (tuple(sample[k][:_SHOWN].tolist()),),
                    )
                )
                break
    return found


def level_ratio(
    own: np.ndarray, others: np.ndarray, dice: np.random.Generator
) -> tuple[float, tuple[int, int]]:
    """Distinct values among `own` over those among as many of `others` in the same range.

    Returns:
        The ratio, 1 where there are too few values to tell, and both counts.
    """
    own, others = own[np.isfinite(own)], others[np.isfinite(others)]
    if not len(own):
        return 1.0, (0, 0)
    low, high = np.quantile(own, (0.01, 0.99), method="nearest")
    own, others = (values[(values >= low) & (values <= high)] for values in (own, others))
    n = min(len(own), len(others))
    if n < _ENOUGH:
        return 1.0, (0, 0)
    distinct = [len(np.unique(dice.permutation(values)[:n])) for values in (own, others)]
    if max(distinct) < _LEVELS:
        return 1.0, (0, 0)
    return distinct[0] / distinct[1], (distinct[0], distinct[1])


def _sample(patches: PatchSet, seed: int) -> dict[int, np.ndarray]:
    """Some patches of each class that has at least ten."""
    dice = np.random.default_rng(seed)
    present = np.flatnonzero(patches.counts >= _LEAST)
    each = max(_LEAST, min(_SAMPLE, _MOST // max(len(present), 1)))
    return {
        int(k): np.sort(dice.permutation(np.flatnonzero(patches.labels == k))[:each])
        for k in present
    }


def _of_classes(
    patches: PatchSet, sample: dict[int, np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    for k, index in track(list(sample.items()), "looking for marks"):
        yield k, patches.take(index)


def _sharp(images: np.ndarray) -> np.ndarray:
    """How far each pixel is from the mean of the 3 × 3 about it, in deviations of the patch."""
    pictures = standardised(images)
    sharp = pictures - uniform_filter(pictures, size=(0, 3, 3), mode="nearest")
    spread = sharp.std(axis=(1, 2), keepdims=True)
    return np.clip(sharp / np.where(spread > 0, spread, 1), -_LIMIT, _LIMIT).astype(float)


def _stands_out(effect: np.ndarray, mean: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Mask of the pixels whose effect is strong, and an outlier among all pixels of the patch."""
    usual = 1.4826 * np.median(np.abs(effect - np.median(effect)))
    return (
        (np.abs(effect) >= _EFFECT)
        & (np.abs(effect) >= _OUTLIER * usual)
        & (np.abs(mean) > np.abs(rest))
    )


def _mark(patches: PatchSet, k: int, place: np.ndarray, sample: np.ndarray) -> Finding:
    rows, columns = np.nonzero(place)
    where = (
        f"row {rows[0]}, column {columns[0]}"
        if len(rows) == 1
        else f"rows {rows.min()} to {rows.max()}, columns {columns.min()} to {columns.max()}"
    )
    return Finding(
        "marks",
        "critical",
        f"{plural(len(rows), 'pixel')} of '{patches.classes[k]}' ({where}; "
        f"{share(place.mean())} of a patch) stand out from their neighbours as in no other class",
        "a mark is burnt in: cut it off every patch, or take patches without it",
        {
            "class": patches.classes[k],
            "pixels": [[int(r), int(c)] for r, c in zip(rows[:100], columns[:100], strict=True)],
        },
        (tuple(sample[:_SHOWN].tolist()),),
    )
