"""Traces of how a class was made: marks burnt into its patches, and coarser grey levels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import uniform_filter

from outcrop.auditing.detail import standardised
from outcrop.auditing.finding import Finding
from outcrop.auditing.pixels import batches
from outcrop.auditing.words import listed, plural, share
from outcrop.patches.patchset import PatchSet

_SAMPLE, _LEAST = 300, 10
_MOST = 20_000
_OUTLIER = 8.0
_EFFECT = 0.5
_LIMIT = 5.0
_VALUES = 64
_LEVELS, _REPEATED = 8, 3
_BETWEEN, _TOLERANCE, _STRAY, _APART = 0.4, 0.1, 0.05, 1.5
_SHOWN = 6


def check_marks(patches: PatchSet, seed: int = 0) -> list[Finding]:
    """Pixels that stand out from their neighbours in one class alone, always at the same place.

    A corner, frame, or letter burnt into half the patches of a class or more gives it away. Looked
    at in a sample of 300 patches a class. Critical.
    """
    sample = _sample(patches, seed)
    if len(sample) < 2:
        return []
    sums, squares = {k: np.zeros(patches.size) for k in sample}, np.zeros(patches.size)
    for k, images in _of_classes(patches, sample):
        sharp = _sharp(images)
        sums[k] += sharp.sum(axis=0)
        squares += np.square(sharp).sum(axis=0)
    total, number = sum(sums.values()), sum(map(len, sample.values()))
    spread = np.sqrt(np.maximum(squares / number - np.square(total / number), 1e-12))
    found = []
    for k, own in sums.items():
        n = len(sample[k])
        mean, rest = own / n, (total - own) / (number - n)
        place = _stands_out((mean - rest) / spread, mean, rest)
        if place.any():
            found.append(_mark(patches, k, place, sample[k]))
    return found


def check_levels(patches: PatchSet, seed: int = 0) -> list[Finding]:
    """Classes whose grey levels are a grid that values of another class lie between. Critical.

    So it is where one class went through fewer bits than another. Looked at in a sample of 300
    patches a class, band by band; the first band that shows it is told.
    """
    sample = _sample(patches, seed)
    rng = np.random.default_rng(seed)
    drawn: dict[int, list[np.ndarray]] = {k: [] for k in sample}
    for k, images in _of_classes(patches, sample):
        pixels = images.reshape(*images.shape[:2], -1)
        drawn[k].append(pixels[:, :, rng.permutation(pixels.shape[2])[:_VALUES]])
    values = {k: np.concatenate(parts) for k, parts in drawn.items()}
    for band, name in enumerate(patches.bands):
        seen = {k: own[:, band][np.isfinite(own[:, band])] for k, own in values.items()}
        grids = {k: grid for k, own in seen.items() if (grid := level_grid(own))}
        coarser = {k: finer for k in grids if (finer := _finer(k, seen, grids))}
        if coarser:
            coarse = listed([patches.classes[k] for k in coarser])
            fine = listed(
                [patches.classes[j] for j in {j: 0 for js in coarser.values() for j in js}]
            )
            return [
                Finding(
                    "levels",
                    "critical",
                    f"grey levels of {coarse} are coarser than those of {fine} in band '{name}', "
                    "which lie between them",
                    "prepare all classes from the same files in the same way",
                    {
                        "band": name,
                        "step": {patches.classes[k]: grids[k][1] for k in coarser},
                        "finer": {
                            patches.classes[k]: [patches.classes[j] for j in js]
                            for k, js in coarser.items()
                        },
                    },
                    tuple(tuple(sample[k][:_SHOWN].tolist()) for k in coarser),
                )
            ]
    return []


def level_grid(values: np.ndarray) -> tuple[float, float] | None:
    """The grid that quantised values lie on: one of its levels, and the step between levels.

    Returns:
        None where values hardly ever repeat, only few levels do, or they are on no such grid.

    >>> level_grid(np.tile(np.arange(0.0, 96.0, 8.0), 50))
    (0.0, 8.0)
    """
    levels, counts = np.unique(values.astype(np.float64), return_counts=True)
    repeated = counts >= _REPEATED
    if repeated.sum() < _LEVELS or counts[repeated].sum() < len(values) / 2:
        return None
    level, step = float(levels[counts.argmax()]), float(np.median(np.diff(levels[repeated])))
    return (level, step) if off_grid(values, level, step) <= _STRAY else None


def off_grid(values: np.ndarray, level: float, step: float) -> float:
    """The share of values that lie between the levels of a grid, 0 to 1.

    >>> off_grid(np.arange(0.0, 96.0, 4.0), 0.0, 8.0)
    0.5
    """
    steps = (values.astype(np.float64) - level) / step
    return float(np.mean(np.abs(steps - np.round(steps)) > _TOLERANCE))


def _finer(k: int, seen: dict[int, np.ndarray], grids: dict[int, tuple[float, float]]) -> list[int]:
    """The classes whose values lie between the levels of class k, on a finer grid or on none."""
    return [
        j
        for j, values in seen.items()
        if j != k
        and (j not in grids or grids[j][1] < grids[k][1] / _APART)
        and off_grid(values, *grids[k]) >= _BETWEEN
    ]


def _sample(patches: PatchSet, seed: int) -> dict[int, np.ndarray]:
    """Some patches of each class that has at least ten."""
    rng = np.random.default_rng(seed)
    present = np.flatnonzero(patches.counts >= _LEAST)
    each = max(_LEAST, min(_SAMPLE, _MOST // max(len(present), 1)))
    return {
        int(k): np.sort(rng.permutation(np.flatnonzero(patches.labels == k))[:each])
        for k in present
    }


def _of_classes(
    patches: PatchSet, sample: dict[int, np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """The patches of a sample class by class, some MiB at a time, each batch with its class."""
    for k, index in sample.items():
        for images in batches(patches, f"looking at '{patches.classes[k]}'", index):
            yield k, images


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
