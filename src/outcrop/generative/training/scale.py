"""The range of each band, learnt from the training side alone."""

from __future__ import annotations

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.training.normalise import Normalisation

_TAILS = (0.001, 0.999)
_PIXELS = 1 << 24


def learn_scale(patches: PatchSet, index: np.ndarray, seed: int = 0) -> Normalisation:
    """What brings nearly all pixels of the patches at `index` into -1 to 1, by band.

    The ends are the quantiles 0.001 and 0.999 of the valid pixels; beyond them pictures are
    clipped, because the decoder's hyperbolic tangent draws nothing there. Of large sets a sample
    is looked at.

    Args:
        seed: of the sample.

    Raises:
        OutcropError: a band without any valid pixel; pictures of which none has two values.
    """
    most = max(1, _PIXELS // int(np.prod(patches.images.shape[1:])))
    if len(index) > most:
        index = np.sort(np.random.default_rng(seed).choice(index, most, replace=False))
    images = patches.take(index)
    centres, halves = [], []
    for band, pixels in zip(patches.bands, np.moveaxis(images, 1, 0), strict=True):
        valid = pixels[np.isfinite(pixels)]
        if not valid.size:
            raise OutcropError(
                f"band '{band}'", "has no valid pixel on the training side; leave the band out"
            )
        low, high = np.quantile(valid, _TAILS).tolist()
        centres.append((low + high) / 2)
        halves.append((high - low) / 2 or 1.0)
    if all((np.nanmax(one) == np.nanmin(one)) for one in _whole(images)):
        raise OutcropError(
            "patches", "every one is of a single value; there is nothing to be learnt from them"
        )
    return Normalisation(tuple(centres), tuple(halves))


def _whole(images: np.ndarray) -> np.ndarray:
    """Each band of each picture that has a valid pixel, flat; no data is NaN."""
    flat = images.reshape(len(images) * images.shape[1], -1).astype(np.float32)
    flat[~np.isfinite(flat)] = np.nan
    return flat[~np.isnan(flat).all(axis=1)]
