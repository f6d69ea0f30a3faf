"""What the classical models see of a patch: the centre pixel, or simple statistics of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from outcrop.patches.positions import upper_left

LAGS = (1, 2, 4)
_CHUNK_PIXELS = 1 << 20


def centre(images: Any) -> np.ndarray:
    """The bands of the centre pixel.

    Args:
        images: `N × bands × height × width`, a NumPy or Zarr array of any numeric dtype.

    Returns:
        float32, `N × bands`, in the units of `images`.
    """
    height, width = images.shape[2:]
    return np.asarray(images[:, :, height // 2, width // 2], dtype=np.float32)


def statistics(images: Any) -> np.ndarray:
    """Centre value, mean, standard deviation and texture of every band.

    Mean, deviation and texture are taken over the whole patch and again over its inner half.
    Texture is the madogram, half the mean absolute difference between pixels a lag of 1, 2 or 4
    apart, along rows and along columns; a lag that does not fit into the window is left out.
    Pixels without data (NaN) are passed over; where no pair of pixels is left the texture is 0.

    Source: Chica-Olmo and Abarca-Hernández (2000), Computing geostatistical image texture for
    remotely sensed data classification, Computers & Geosciences 26, 373-383.

    Args:
        images: `N × bands × height × width`, a NumPy or Zarr array of any numeric dtype; NaN is
            no data. It is read in pieces, so that memory does not grow with N.

    Returns:
        float32, `N × features`, in the units of `images`; `statistic_names` tells which is which.
    """
    step = max(1, _CHUNK_PIXELS // int(np.prod(images.shape[1:])))
    starts = range(0, max(images.shape[0], 1), step)
    return np.concatenate(
        [
            np.concatenate(list(_measure(images[start : start + step]).values()), axis=1)
            for start in starts
        ]
    )


FEATURES: Mapping[str, Callable[[Any], np.ndarray]] = {
    "centre pixel": centre,
    "patch statistics": statistics,
}


def statistic_names(bands: Sequence[str], size: tuple[int, int]) -> tuple[str, ...]:
    """The name of every column that `statistics` gives for patches of `size` (height, width).

    >>> statistic_names(["red"], (2, 2))[:4]
    ('red centre', 'red mean', 'red deviation', 'red texture 1 down')
    """
    measures = _measure(np.zeros((1, 1, *size), dtype=np.float32))
    return tuple(f"{band} {measure}" for measure in measures for band in bands)


def _measure(images: np.ndarray) -> dict[str, np.ndarray]:
    pixels = np.asarray(images, dtype=np.float32)
    valid = ~np.isnan(pixels)
    gaps = None if valid.all() else valid
    measures = {"centre": centre(pixels)}
    for name, rows, columns in _windows(*pixels.shape[2:]):
        window = pixels[:, :, rows, columns]
        kept = None if gaps is None else gaps[:, :, rows, columns]
        mean = _mean(window, kept)
        measures[f"{name}mean"] = mean
        spread = _mean(np.square(window - mean[:, :, None, None]), kept)
        measures[f"{name}deviation"] = np.sqrt(spread)
        for direction, axis in (("down", 2), ("across", 3)):
            for lag in LAGS:
                if lag < window.shape[axis]:
                    measures[f"{name}texture {lag} {direction}"] = _madogram(
                        window, kept, lag, axis
                    )
    return measures


def _windows(height: int, width: int) -> Iterator[tuple[str, slice, slice]]:
    yield "", slice(0, height), slice(0, width)
    inner = [(size + 1) // 2 for size in (height, width)]
    top, left = (upper_left(n // 2, half) for n, half in zip((height, width), inner, strict=True))
    yield "inner ", slice(top, top + inner[0]), slice(left, left + inner[1])


def _madogram(window: np.ndarray, valid: np.ndarray | None, lag: int, axis: int) -> np.ndarray:
    ahead = (slice(None),) * axis + (slice(lag, None),)
    behind = (slice(None),) * axis + (slice(None, -lag),)
    pairs = None if valid is None else valid[ahead] & valid[behind]
    return _mean(np.abs(window[ahead] - window[behind]), pairs) / 2


def _mean(values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    if valid is None:
        return values.mean(axis=(2, 3))
    total = np.where(valid, values, np.float32(0)).sum(axis=(2, 3))
    return total / np.maximum(valid.sum(axis=(2, 3)), 1).astype(np.float32)
