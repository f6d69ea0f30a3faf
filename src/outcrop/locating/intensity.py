"""What was done to brightness and contrast: gain and offset of patches, one by one and together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from outcrop.locating.comparison import Comparison

_MOST_CANDIDATES = 500


@dataclass(frozen=True, eq=False)
class Intensity:
    """patch ≈ gain × window + offset, for each of N patches. All arrays are float64.

    Attributes:
        gain, offset: by least squares.
        residual: root mean square of what they leave, in grey values of the patch.
        mean, spread: mean and standard deviation of the window, in units of the source.
    """

    gain: np.ndarray
    offset: np.ndarray
    residual: np.ndarray
    mean: np.ndarray
    spread: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Intensity:
        """Of some of the patches, by index or mask."""
        return Intensity(*(getattr(self, item.name)[index] for item in fields(self)))

    def among(self, which: np.ndarray, n: int) -> Intensity:
        """As those of some of `n` patches, by index; NaN for the others."""
        every = np.full((len(fields(self)), n), np.nan)
        every[:, which] = [getattr(self, item.name) for item in fields(self)]
        return Intensity(*every)


@dataclass(frozen=True)
class Stretch:
    """One gain and offset for many patches: patch ≈ gain × window + offset.

    Attributes:
        fits: how many of the patches it serves about as well as their own.
    """

    gain: float
    offset: float
    fits: int


def intensities(fits: Sequence[Comparison], signs: Sequence[int]) -> list[Intensity]:
    """Gains and offsets by least squares, over all bands, then over each band if there are several.

    Args:
        fits: how N patches fit the windows that they were cut from.
        signs: for each, -1 if that is of the negative of the patch. Its gain is then negative.
    """
    if not fits:
        return [Intensity(*np.zeros((5, 0)))]
    moments = np.stack([one.moments for one in fits])
    sign = np.array(signs)[:, None]
    level, mean, _, square, product = moments.transpose(1, 0, 2)
    level, product = sign * level, sign * product
    n = np.array([one.count for one in fits])[:, None]

    def of(level: np.ndarray, mean: np.ndarray, total: np.ndarray, square: np.ndarray,
           product: np.ndarray, n: np.ndarray) -> Intensity:  # fmt: skip
        gain = np.where(square > 0, product / np.where(square > 0, square, 1), 0)
        residual = np.sqrt(np.maximum(total - gain * product, 0) / n)
        return Intensity(gain, level - gain * mean, residual, mean, np.sqrt(square / n))

    each = [
        of(level[:, b], mean[:, b], moments[:, 2, b], square[:, b], product[:, b], n[:, 0])
        for b in range(mean.shape[1])
    ]
    if len(each) == 1:
        return each
    # What bands differ by in their means is part of the contrast of all together.
    apart_level, apart_mean = (
        values - values.mean(axis=1, keepdims=True) for values in (level, mean)
    )
    together = of(
        level.mean(axis=1),
        mean.mean(axis=1),
        (moments[:, 2] + n * apart_level**2).sum(axis=1),
        (square + n * apart_mean**2).sum(axis=1),
        (product + n * apart_level * apart_mean).sum(axis=1),
        n[:, 0] * len(each),
    )
    return [together, *each]


def common(each: Intensity, rounding: float) -> Stretch:
    """The stretch that serves most patches.

    It serves a patch if it differs from the patch's own by at most half of what that one leaves, so
    that the residual grows by an eighth at most.

    Args:
        each: of N ≥ 1 patches.
        rounding: root mean square error of the grey values themselves; 0.29 for whole numbers.
    """
    some = np.unique(np.linspace(0, len(each.gain) - 1, _MOST_CANDIDATES).astype(int))
    fits = [_served(each, each.gain[k], each.offset[k], rounding).sum() for k in some]
    best = some[int(np.argmax(fits))]
    served = _served(each, each.gain[best], each.offset[best], rounding)
    gain = float(np.median(each.gain[served]))
    level = each.offset[served] + each.gain[served] * each.mean[served]
    stretch = Stretch(gain, float(np.median(level - gain * each.mean[served])), 0)
    return replace(stretch, fits=int(_served(each, stretch.gain, stretch.offset, rounding).sum()))


def _served(each: Intensity, gain: float, offset: float, rounding: float) -> np.ndarray:
    steeper = (gain - each.gain) * each.spread
    brighter = gain * each.mean + offset - (each.gain * each.mean + each.offset)
    allowed = np.maximum(each.residual, rounding) / 2 + 1e-4 * np.abs(each.gain) * each.spread
    return np.asarray(np.hypot(steeper, brighter) <= allowed)
