"""Normalisation by mean and standard deviation of each band on the training side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet

if TYPE_CHECKING:
    from torch import Tensor

    from outcrop.training.augment import Jitter

_CHUNK_PIXELS = 1 << 22


@dataclass(frozen=True)
class Normalisation:
    """Scales each band to mean 0 and standard deviation 1.

    Attributes:
        mean, std: one number for each band, in the units of the source. A constant band has std 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor, jitter: Jitter | None = None) -> Tensor:
        """Normalise `N × bands × height × width` of any dtype to float32; no data becomes 0.

        With `jitter`, the normalised values of each image are changed by it.
        """
        import torch

        # Asynchronous, because many steps may be queued on a GPU.
        mean, std = torch.tensor((self.mean, self.std)).to(images.device, non_blocking=True)
        mean, std = mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)
        values = (images.float() - mean) / std
        if jitter is not None:
            values = values * jitter.factor + jitter.offset
        return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def learn_normalisation(patches: PatchSet, index: np.ndarray) -> Normalisation:
    """Mean and standard deviation over the valid pixels of the patches at `index`.

    Images are read in parts, so that the set may be larger than memory; the parts are merged by
    Chan, Golub and LeVeque 1983 (The American Statistician 37), eq. 2.1. NaN and infinite pixels
    are left out.

    Raises:
        OutcropError: a band without any valid pixel.
    """
    count, mean, squares = np.zeros((3, len(patches.bands)))
    step = max(1, _CHUNK_PIXELS // int(np.prod(patches.images.shape[1:])))
    for start in range(0, len(index), step):
        images = patches.take(index[start : start + step]).astype(np.float64)
        valid = np.isfinite(images)
        images[~valid] = 0
        added = valid.sum(axis=(0, 2, 3))
        its_mean = images.sum(axis=(0, 2, 3)) / np.maximum(added, 1)
        deviation = (images - its_mean[:, None, None]) * valid
        difference = its_mean - mean
        total = np.maximum(count + added, 1)
        squares += (deviation**2).sum(axis=(0, 2, 3)) + difference**2 * count * added / total
        mean += difference * added / total
        count += added
    for band, pixels in zip(patches.bands, count, strict=True):
        if not pixels:
            raise OutcropError(
                f"band '{band}'", "has no valid pixel on the training side; leave the band out"
            )
    std = np.sqrt(squares / count)
    # A deviation below the precision of float32 counts as constant.
    std[std <= np.finfo(np.float32).eps * np.abs(mean)] = 1
    return Normalisation(tuple(mean.tolist()), tuple(std.tolist()))
