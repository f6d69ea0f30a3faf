"""Normalised cross-correlation of a patch with the windows of a small region.

After Lewis 1995, "Fast Template Matching", Vision Interface 95, 120-123, eq. 2: the mean of the
window under the patch is taken away, not that of the region, so that the coefficient is the
correlation of Pearson, from -1 to 1, whatever the gain (above 0) and offset of either. The sums
over windows come from running sums, as in section 5 there.
"""

from __future__ import annotations

import numpy as np


def standardise(images: np.ndarray) -> np.ndarray:
    """Pictures of mean 0 and sum of squares 1 in each band; zero where a band is flat.

    Args:
        images: `N × bands × height × width`, finite.

    Returns:
        float32.
    """
    mean = images.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    centred = (images - mean.astype(np.float32)).astype(np.float32, copy=False)
    length = np.sqrt(np.square(centred).sum(axis=(2, 3), keepdims=True, dtype=np.float64))
    # What a flat picture differs by from its mean is rounding alone.
    deviation = length / np.sqrt(images.shape[2] * images.shape[3])
    flat = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
    return np.where(flat, 0, centred / np.where(flat, 1, length)).astype(np.float32)


def correlate(region: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """The coefficient for every window of a region, the mean over bands.

    Args:
        region: float32, `bands × (height + a) × (width + b)`, finite.
        patch: float32, `bands × height × width`, standardised.

    Returns:
        float64, `(a + 1) × (b + 1)`; 0 where a window is flat.
    """
    height, width = patch.shape[1:]
    region = region - region.mean(axis=(1, 2), keepdims=True)
    windows = np.lib.stride_tricks.sliding_window_view(region, (height, width), axis=(1, 2))
    product = np.einsum("bijhw,bhw->bij", windows, patch)
    mean = _window_sums(region, height, width) / (height * width)
    square = _window_sums(region**2, height, width)
    energy = square - mean**2 * (height * width)
    flat = energy <= 1e-9 * np.maximum(square, 1e-30)
    found = np.where(flat, 0, product / np.sqrt(np.where(flat, 1, energy)))
    return np.asarray(np.clip(found, -1, 1).mean(axis=0))


def _window_sums(region: np.ndarray, height: int, width: int) -> np.ndarray:
    sums = np.zeros((region.shape[0], region.shape[1] + 1, region.shape[2] + 1))
    np.cumsum(region, axis=1, out=sums[:, 1:, 1:], dtype=np.float64)
    np.cumsum(sums[:, 1:, 1:], axis=2, out=sums[:, 1:, 1:])
    return (
        sums[:, height:, width:]
        - sums[:, :-height, width:]
        - sums[:, height:, :-width]
        + sums[:, :-height, :-width]
    )
