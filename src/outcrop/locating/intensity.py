"""Changes of brightness and contrast: gain and offset of each patch, and common ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from outcrop.locating.correlation import Comparison

_MOST_TRIED = 500


@dataclass(frozen=True, eq=False)
class Intensity:
    """patch ≈ gain × window + offset, for each of N patches. All arrays are float64.

    Attributes:
        gain, offset: fitted by least squares.
        residual: root mean square of the residual, in grey values of the patch.
        mean, spread: mean and standard deviation of the window, in units of the source.
    """

    gain: np.ndarray
    offset: np.ndarray
    residual: np.ndarray
    mean: np.ndarray
    spread: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Intensity:
        """The values of some of the patches, by index or mask."""
        return Intensity(*(getattr(self, item.name)[index] for item in fields(self)))

    def among(self, which: np.ndarray, n: int) -> Intensity:
        """Values for `n` patches: these at the indices `which`, NaN elsewhere."""
        every = np.full((len(fields(self)), n), np.nan)
        every[:, which] = [getattr(self, item.name) for item in fields(self)]
        return Intensity(*every)


@dataclass(frozen=True)
class Stretch:
    """One gain and offset for many patches: patch ≈ gain × window + offset.

    Attributes:
        fits: number of patches that it fits about as well as their own gain and offset.
    """

    gain: float
    offset: float
    fits: int


def intensities(fits: Sequence[Comparison], signs: Sequence[int]) -> list[Intensity]:
    """Gains and offsets by least squares: over all bands, then for each band if there are several.

    Args:
        fits: the fits of N patches to their windows.
        signs: 1 for a fit of the patch, -1 for one of its negative, whose gain is negative.
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
    # The differences between the means of bands are part of the joint contrast.
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
    """The stretch that fits most patches.

    It fits a patch if it differs from the patch's own gain and offset by at most half the residual,
    so that the residual grows by an eighth at most.

    Args:
        each: intensities of N ≥ 1 patches.
        rounding: root mean square error of the grey values by rounding; 0.29 for integers.
    """
    some = np.unique(np.linspace(0, len(each.gain) - 1, _MOST_TRIED).astype(int))
    fits = [_fitted(each, each.gain[k], each.offset[k], rounding).sum() for k in some]
    best = some[int(np.argmax(fits))]
    fitted = _fitted(each, each.gain[best], each.offset[best], rounding)
    gain = float(np.median(each.gain[fitted]))
    level = each.offset[fitted] + each.gain[fitted] * each.mean[fitted]
    stretch = Stretch(gain, float(np.median(level - gain * each.mean[fitted])), 0)
    return replace(stretch, fits=int(_fitted(each, stretch.gain, stretch.offset, rounding).sum()))


def _fitted(each: Intensity, gain: float, offset: float, rounding: float) -> np.ndarray:
    """Mask of the patches that one gain and offset fit."""
    steeper = (gain - each.gain) * each.spread
    brighter = gain * each.mean + offset - (each.gain * each.mean + each.offset)
    allowed = np.maximum(each.residual, rounding) / 2 + 1e-4 * np.abs(each.gain) * each.spread
    return np.asarray(np.hypot(steeper, brighter) <= allowed)
