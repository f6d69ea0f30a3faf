"""`measure`: brightness, contrast, gaps and filled pixels of every patch, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from outcrop.patches.patchset import PatchSet
from outcrop.progress import track

_BATCH_BYTES = 16 << 20
_FILLED, _TIMES, _LEVELS = 0.02, 4, 8


@dataclass(frozen=True)
class Pixels:
    """Measurements of each of N patches. Gaps (NaN or infinite pixels) are left out.

    Attributes:
        mean: float32, `N × bands`, mean without filled pixels; NaN if a band has no data.
        deviation: float32, `N × bands`, standard deviation, also without filled pixels.
        gaps: float32, `N`, share of pixels without data, 0 to 1.
        low, high: float32, `N × bands`, smallest and largest value of the patch.
        clipped: float32, `N × bands × 2`, shares of pixels with these two values, without filled
            pixels.
        filled: float32, `N`, share of filled pixels (`filling`), 0 to 1.
    """

    mean: np.ndarray
    deviation: np.ndarray
    gaps: np.ndarray
    low: np.ndarray
    high: np.ndarray
    clipped: np.ndarray
    filled: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """Mask of the patches in which every band has a single value."""
        return np.asarray(~(self.high > self.low).any(axis=1))


def batches(patches: PatchSet, what: str, index: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Images in batches of 16 MiB of float32, with a progress bar.

    Args:
        what: text beside the bar.
        index: int, indices of the patches, in this order; all by default.
    """
    wanted = np.arange(len(patches)) if index is None else index
    step = max(1, _BATCH_BYTES // (4 * int(np.prod(patches.images.shape[1:]))))
    for start in track(range(0, len(wanted), step), what):
        yield patches.take(wanted[start : start + step])


def measure(patches: PatchSet) -> Pixels:
    """Measure all patches; their images are read once."""
    measured = [_measure(images) for images in batches(patches, "measuring patches")]
    return Pixels(*(np.concatenate(parts) for parts in zip(*measured, strict=True)))


def _measure(images: np.ndarray) -> tuple[np.ndarray, ...]:
    pixels = images.astype(np.float64).reshape(*images.shape[:2], -1)
    filled = filling(images).reshape(len(images), 1, -1)
    finite = np.isfinite(pixels)
    pixels[~finite] = np.nan
    valid = finite & ~filled
    count = valid.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = pixels.sum(axis=2, where=valid) / count
        spread = np.square(pixels - mean[:, :, None]).sum(axis=2, where=valid) / count
        low = pixels.min(axis=2, where=finite, initial=np.inf)
        high = pixels.max(axis=2, where=finite, initial=-np.inf)
        ends = [(pixels == end[:, :, None]).sum(axis=2, where=valid) / count for end in (low, high)]
    low, high = (np.where(finite.any(axis=2), end, np.nan) for end in (low, high))
    clipped = np.nan_to_num(np.stack(ends, axis=2))
    numbers = (
        mean, np.sqrt(spread), 1 - finite.mean(axis=(1, 2)), low, high, clipped,
        filled.mean(axis=(1, 2)),
    )  # fmt: skip
    return tuple(number.astype(np.float32) for number in numbers)


def filling(images: np.ndarray) -> np.ndarray:
    """Mask of the pixels that a mute or padding filled with one value: `N × height × width`.

    A square of 2 × 2 pixels with one value in every band is filled if three conditions hold: the
    value covers 2 % of the patch or more, reaches its edge, and is four times as frequent as the
    neighbouring values. So calm water with few grey levels is not filled. Images with fewer than
    eight grey levels, gaps, and patches with a single value are not filled either.

    Args:
        images: `N × bands × height × width`.
    """
    corner = images[:, :, :-1, :-1]
    # NaN is not equal to NaN, so gaps are never filled.
    same = np.ones((len(images), *corner.shape[2:]), bool)
    for other in (images[:, :, 1:, :-1], images[:, :, :-1, 1:], images[:, :, 1:, 1:]):
        same &= (corner == other).all(axis=1)
    filled = np.zeros((len(images), *images.shape[2:]), bool)
    for down in (0, 1):
        for right in (0, 1):
            filled[:, down : down + same.shape[1], right : right + same.shape[2]] |= same
    for k in np.flatnonzero(filled.any(axis=(1, 2))):
        filled[k] = _filled(images[k, 0], filled[k])
    return filled


def _filled(image: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Mask of the filled pixels of an image, among its 2 × 2 squares of one value."""
    if flat.mean() < _FILLED:
        return np.zeros_like(flat)
    levels, counts = np.unique(image[flat], return_counts=True)
    value = levels[counts.argmax()]
    where = flat & (image == value)
    edge = np.concatenate([where[0], where[-1], where[:, 0], where[:, -1]])
    if where.all() or where.mean() < _FILLED or not edge.any():
        return np.zeros_like(flat)
    levels, counts = np.unique(image[np.isfinite(image)], return_counts=True)
    if len(levels) < _LEVELS:
        return np.zeros_like(flat)
    at = int(np.searchsorted(levels, value))
    beside = counts[max(at - 1, 0) : at + 2].sum() - counts[at]
    neighbours = len(counts[max(at - 1, 0) : at + 2]) - 1
    usual = beside / max(neighbours, 1)
    return where if counts[at] >= _TIMES * usual else np.zeros_like(flat)
