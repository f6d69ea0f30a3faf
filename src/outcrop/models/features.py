"""Features of classical models: the centre pixel, or statistics of the patch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.positions import upper_left

LAGS = (1, 2, 4)
_PART_PIXELS = 1 << 17
_STRIP_PIXELS = 1 << 17
_ROUNDING = 2.0**-48


def centre(images: Any) -> np.ndarray:
    """The bands of the centre pixel, float32 `N × bands`, in the units of the images.

    These are `N × bands × height × width`, a NumPy or Zarr array of any numeric dtype.
    """
    height, width = images.shape[2:]
    return np.asarray(images[:, :, height // 2, width // 2], dtype=np.float32)


def statistics(images: Any) -> np.ndarray:
    """Centre value, mean, standard deviation and texture of every band.

    Mean, deviation and texture are taken over the whole patch and again over its inner half.
    Texture is the madogram, half the mean absolute difference between pixels a lag of 1, 2 or 4
    apart, along rows and along columns; a lag that does not fit into the window is left out.
    Pixels without data (NaN) are ignored; without a valid pair of pixels the texture is 0.

    Source: Chica-Olmo and Abarca-Hernández (2000), Computing geostatistical image texture for
    remotely sensed data classification, Computers & Geosciences 26, 373-383.

    Args:
        images: `N × bands × height × width`, a NumPy or Zarr array of any numeric dtype; NaN is
            no data. It is read in parts, so that memory does not grow with N.

    Returns:
        float32, `N × features`, in the units of `images`: all bands of the first measure, of the
        second, and so on, in the order of `_measure`.
    """
    step = max(1, _PART_PIXELS // int(np.prod(images.shape[1:])))
    parts = [
        _measure(images[start : start + step], images.shape[2:])
        for start in range(0, max(images.shape[0], 1), step)
    ]
    rows = [np.concatenate(list(part.values()), axis=1) for part in parts]
    return np.concatenate(rows)[:, :, 0, 0]


FEATURES: Mapping[str, Callable[[Any], np.ndarray]] = {
    "centre pixel": centre,
    "patch statistics": statistics,
}


def of_pixels(kind: str, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The features of the patch around every pixel, by sliding windows.

    They are equal to those of single patches, bit by bit.

    Args:
        kind: a key of `FEATURES`.
        pixels: `bands × (height + size[0] - 1) × (width + size[1] - 1)`, any numeric dtype; NaN
            is no data. The patch of output pixel (0, 0) is the upper-left corner.
        size: height and width of a patch.

    Returns:
        float32, `F × height × width`, F in the order of the columns of `FEATURES[kind]`.

    Raises:
        OutcropError: a kind of features that is not computed from pixels.
    """
    height, width = (n - s + 1 for n, s in zip(pixels.shape[1:], size, strict=True))
    if kind == "centre pixel":
        top, left = size[0] // 2, size[1] // 2
        return pixels[:, top : top + height, left : left + width].astype(np.float32)
    if kind != "patch statistics":
        raise OutcropError(
            kind, f"cannot be computed from pixels; take one of {', '.join(FEATURES)}"
        )
    bands = len(pixels)
    count = len(_measure(np.zeros((1, 1, *size), dtype=np.float32), size))
    result = np.empty((count, bands, height, width), dtype=np.float32)
    rows = max(1, _STRIP_PIXELS // pixels.shape[2] - size[0] + 1)
    for start in range(0, height, rows):
        strip = slice(start, min(height, start + rows))
        for band in range(bands):
            seen = pixels[None, band : band + 1, strip.start : strip.stop + size[0] - 1]
            for k, measure in enumerate(_measure(seen, size).values()):
                result[k, band, strip] = measure[0, 0]
    return result.reshape(count * bands, height, width)


def _measure(images: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The features of all windows of `size`, by name: float32, `N × bands × rows × columns`.

    Only sums involve several pixels, and `_sums` adds in the same order at every position.
    """
    pixels = np.asarray(images, dtype=np.float32).astype(np.float64)
    valid = ~np.isnan(pixels)
    kept = None if valid.all() else valid
    if kept is not None:
        pixels = np.where(valid, pixels, 0)
    rows, columns = (n - s + 1 for n, s in zip(pixels.shape[2:], size, strict=True))
    top, left = size[0] // 2, size[1] // 2
    middle = images[:, :, top : top + rows, left : left + columns]
    measures = {"centre": np.asarray(middle, dtype=np.float32)}
    squares = np.square(pixels)
    differences = {
        (lag, direction): _differences(pixels, kept, lag, axis)
        for direction, axis in (("down", 2), ("across", 3))
        for lag in LAGS
        if lag < size[axis - 2]
    }
    for name, corner, window in _windows(*size):
        mean = partial(_means, corner=corner, windows=(rows, columns))
        average = mean(pixels, kept, span=window)
        power = mean(squares, kept, span=window)
        variance = power - np.square(average)
        # In a constant window only rounding errors remain, below the precision of float32.
        variance[variance < _ROUNDING * power] = 0
        measures[f"{name}mean"] = average.astype(np.float32)
        measures[f"{name}deviation"] = np.sqrt(variance).astype(np.float32)
        for (lag, direction), (steps, pairs) in differences.items():
            span = (
                (window[0] - lag, window[1])
                if direction == "down"
                else (window[0], window[1] - lag)
            )
            if min(span) > 0:
                texture = mean(steps, pairs, span=span) / 2
                measures[f"{name}texture {lag} {direction}"] = texture.astype(np.float32)
    return measures


def _windows(height: int, width: int) -> tuple[tuple[str, tuple[int, int], tuple[int, int]], ...]:
    """Name, upper-left pixel and size of the parts of a patch with features."""
    half = (height + 1) // 2, (width + 1) // 2
    corner = upper_left(height // 2, half[0]), upper_left(width // 2, half[1])
    return ("", (0, 0), (height, width)), ("inner ", corner, half)


def _differences(
    pixels: np.ndarray, kept: np.ndarray | None, lag: int, axis: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Absolute differences between pixels at a lag, and whether both have data."""
    ahead = (slice(None),) * axis + (slice(lag, None),)
    behind = (slice(None),) * axis + (slice(None, -lag),)
    steps = np.abs(pixels[ahead] - pixels[behind])
    if kept is None:
        return steps, None
    pairs = kept[ahead] & kept[behind]
    return np.where(pairs, steps, 0), pairs


def _means(
    values: np.ndarray,
    kept: np.ndarray | None,
    corner: tuple[int, int],
    span: tuple[int, int],
    windows: tuple[int, int],
) -> np.ndarray:
    """Means over areas of `span` in all windows, with the upper-left pixel at `corner`."""
    rows, columns = (
        slice(start, start + many + length - 1)
        for start, many, length in zip(corner, windows, span, strict=True)
    )
    total = _sums(values[:, :, rows, columns], span)
    if kept is None:
        return total / (span[0] * span[1])
    return total / np.maximum(_sums(kept[:, :, rows, columns].astype(np.int32), span), 1)


def _sums(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Sums over all windows of `size` along the last two axes."""
    return _run_sums(_run_sums(values, size[0], 2), size[1], 3)


def _run_sums(values: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Sums over all runs of `length` along an axis.

    Sums of 1, 2, 4, ... pixels are doubled, and those that make up `length` are added, the shortest
    first. All runs are added in the same order, so that equal pixels have equal sums.
    """
    runs, width, start, total = values.shape[axis] - length + 1, 1, 0, None

    def cut(array: np.ndarray, *bounds: int | None) -> np.ndarray:
        return array[(slice(None),) * axis + (slice(*bounds),)]

    while True:
        if length & 1:
            part = cut(values, start, start + runs)
            total = part if total is None else total + part
            # One run alone needs none of the shorter runs that overlap.
            values, start = (cut(values, 1, None), 0) if runs == 1 else (values, start + width)
        length >>= 1
        if total is not None and not length:
            return total
        if runs == 1:
            values = cut(values, 0, None, 2) + cut(values, 1, None, 2)
        else:
            values = cut(values, 0, -width) + cut(values, width, None)
        width *= 2
