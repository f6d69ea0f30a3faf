"""Flip, gain and offset of patches relative to their source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.patches.flips import flip, unflip

_PIXELS = 1 << 21


@dataclass(frozen=True)
class Rendering:
    """How each of N patches renders a window of its source: gain × pixel + offset, flipped.

    Attributes:
        gain, offset: float32, `N × bands`; 1 and 0 for a patch that equals its window.
        flip: str, `N`, one of `FLIPS`.
    """

    gain: np.ndarray
    offset: np.ndarray
    flip: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Rendering:
        """The rendering of some of the patches, by index or mask."""
        return Rendering(self.gain[index], self.offset[index], self.flip[index])

    def show(self, windows: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Windows of the source, rendered as the patches.

        Args:
            windows: float32, `N × bands × size × size`, finite.
            dtype: dtype of the patches; values are rounded and clipped to it.
        """
        shown = windows * self.gain[..., None, None] + self.offset[..., None, None]
        for name in set(self.flip) - {"none"}:
            here = self.flip == name
            shown[here] = flip(shown[here], name)
        if dtype.kind in "iu":
            ends = np.iinfo(dtype)
            np.clip(np.rint(shown, out=shown), ends.min, ends.max, out=shown)
        return shown.astype(dtype, copy=False)


def learn_rendering(
    patches: np.ndarray, windows: np.ndarray, flips: np.ndarray
) -> tuple[Rendering, np.ndarray]:
    """Fit the rendering of patches from their windows, by least squares in each band.

    Args:
        patches, windows: `N × bands × size × size`, any numeric dtypes; NaN is no data.
        flips: str, `N`, stated flips of the patches. A flip is ignored if the window without it
            correlates at least as well.

    Returns:
        The rendering, and float64, `N`, the correlation of each patch with its window in the band
        with the lowest one; 1 for equal pixels.
    """
    n, bands = patches.shape[:2]
    gain, offset, likeness = np.empty((3, n, bands))
    flips = flips.copy()
    step = max(1, _PIXELS // int(np.prod(patches.shape[1:])))
    for part in (slice(start, start + step) for start in range(0, n, step)):
        found = _fit(patches[part], windows[part])
        for name in set(flips[part]) - {"none"}:
            flipped = flips[part] == name
            turned = _fit(unflip(patches[part][flipped], name), windows[part][flipped])
            better = turned[2].min(axis=1) > found[2][flipped].min(axis=1)
            for one, other in zip(found, turned, strict=True):
                one[np.flatnonzero(flipped)[better]] = other[better]
            flips[part][np.flatnonzero(flipped)[~better]] = "none"
        gain[part], offset[part], likeness[part] = found
    rendering = Rendering(gain.astype(np.float32), offset.astype(np.float32), flips)
    return rendering, likeness.min(axis=1)


def _fit(patches: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain, offset and correlation of each band: float64, `N × bands` each."""
    x, y = windows.astype(np.float64), patches.astype(np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    same = ((x == y) | ~known).all(axis=(2, 3))
    x[~known] = y[~known] = 0
    count = np.maximum(known.sum(axis=(2, 3)), 1)
    middle_x, middle_y = (pixels.sum(axis=(2, 3)) / count for pixels in (x, y))
    x -= middle_x[..., None, None]
    y -= middle_y[..., None, None]
    x[~known] = y[~known] = 0
    xx, xy, yy = ((one * other).sum(axis=(2, 3)) for one, other in ((x, x), (x, y), (y, y)))
    flat = (xx <= 0) | (yy <= 0)
    gain = np.where(flat, 0, xy / np.where(flat, 1, xx))
    correlation = np.where(flat, 0, xy / np.sqrt(np.where(flat, 1, xx * yy)))
    gain, correlation = np.where(same, 1, gain), np.where(same, 1, correlation)
    return gain, np.where(same, 0, middle_y - gain * middle_x), correlation
