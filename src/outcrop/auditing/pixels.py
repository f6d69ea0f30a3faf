"""`measure`: what every patch looks like in a few numbers, read once from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from outcrop.patches.patchset import PatchSet
from outcrop.progress import track

_BATCH_BYTES = 16 << 20


@dataclass(frozen=True)
class Pixels:
    """A few numbers of each of N patches; gaps (NaN or infinite) are passed over.

    Attributes:
        mean: float32, `N × bands`; NaN where a band of a patch has no data.
        deviation: float32, `N × bands`, the standard deviation.
        gaps: float32, `N`, the share of pixels without data, 0 to 1.
        low, high: float32, `N × bands`, the patch's darkest and brightest value.
        clipped: float32, `N × bands × 2`, the shares of pixels at these two values.
    """

    mean: np.ndarray
    deviation: np.ndarray
    gaps: np.ndarray
    low: np.ndarray
    high: np.ndarray
    clipped: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """Mask of the patches in which no band has two values."""
        return np.asarray(~(self.high > self.low).any(axis=1))


def batches(patches: PatchSet, what: str, index: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Images, 16 MiB of float32 at a time, with a progress bar.

    Args:
        what: said beside the bar.
        index: int, of the patches wanted, in this order; all if not given.
    """
    wanted = np.arange(len(patches)) if index is None else index
    step = max(1, _BATCH_BYTES // (4 * int(np.prod(patches.images.shape[1:]))))
    for start in track(range(0, len(wanted), step), what):
        yield patches.take(wanted[start : start + step])


def measure(patches: PatchSet) -> Pixels:
    """Measure all patches."""
    measured = [_measure(images) for images in batches(patches, "measuring patches")]
    return Pixels(*(np.concatenate(parts) for parts in zip(*measured, strict=True)))


def _measure(images: np.ndarray) -> tuple[np.ndarray, ...]:
    pixels = images.astype(np.float64).reshape(*images.shape[:2], -1)
    valid = np.isfinite(pixels)
    pixels[~valid] = np.nan
    count = valid.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = pixels.sum(axis=2, where=valid) / count
        spread = np.square(pixels - mean[:, :, None]).sum(axis=2, where=valid) / count
        low = pixels.min(axis=2, where=valid, initial=np.inf)
        high = pixels.max(axis=2, where=valid, initial=-np.inf)
        ends = [(pixels == end[:, :, None]).sum(axis=2) / count for end in (low, high)]
    low, high = (np.where(count > 0, end, np.nan) for end in (low, high))
    gaps = 1 - valid.mean(axis=(1, 2))
    numbers = (mean, np.sqrt(spread), gaps, low, high, np.nan_to_num(np.stack(ends, axis=2)))
    return tuple(number.astype(np.float32) for number in numbers)
