"""Normalised cross-correlation of a patch with the windows of a small region.

After Lewis 1995, "Fast Template Matching", Vision Interface 95, 120-123, eq. 2: the mean of the
window under the patch is taken away, not that of the region, so that the coefficient is the
correlation of Pearson, from -1 to 1, whatever the gain (above 0) and offset of either. The sums
over windows come from those of their neighbours, as in section 5 there.
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


def correlate(regions: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """The coefficient for every window of each region, the mean over bands.

    Args:
        regions: float32, `P × S × bands × (height + a) × (width + b)`, finite.
        patches: float32, `P × bands × height × width`, standardised: each for S regions.

    Returns:
        float64, `P × S × (a + 1) × (b + 1)`; 0 where a window is flat.
    """
    height, width = patches.shape[2:]
    regions = regions - regions.mean(axis=(3, 4), keepdims=True)
    windows = np.lib.stride_tricks.sliding_window_view(regions, (height, width), axis=(3, 4))
    product = np.einsum("psbijhw,pbhw->psbij", windows, patches)
    mean = _window_sums(regions, height, width) / (height * width)
    square = _window_sums(np.square(regions), height, width)
    energy = square - mean**2 * (height * width)
    flat = energy <= 1e-9 * np.maximum(square, 1e-30)
    found = np.where(flat, 0, product / np.sqrt(np.where(flat, 1, energy)))
    return np.asarray(np.clip(found, -1, 1).mean(axis=2))


def _window_sums(regions: np.ndarray, height: int, width: int) -> np.ndarray:
    return _moving_sums(_moving_sums(regions, width, 4), height, 3)


def _moving_sums(values: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Sums of so many neighbours along an axis: the first one whole, then by what differs."""
    values = np.moveaxis(values, axis, -1)
    first = values[..., :length].sum(axis=-1, keepdims=True, dtype=np.float64)
    change = np.subtract(values[..., length:], values[..., :-length], dtype=np.float64)
    sums = np.concatenate([first, first + np.cumsum(change, axis=-1)], axis=-1)
    return np.moveaxis(sums, -1, axis)
