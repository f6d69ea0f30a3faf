"""The null distribution: the best scores of patches of another source, from located surrogates.

A surrogate of a patch has the spectrum of the patch, and so its texture, layers and smoothness, but
it is in no source: the signs of its discrete cosine transform are drawn at random. This is the
method of surrogate data (Theiler et al. 1992, "Testing for nonlinearity in time series", Physica D
58, 77-94, section 2.4.1). Cosines replace the Fourier transform, because a patch is not periodic.

The maximum of very many correlations follows an extreme value distribution. Fisher's
z = artanh(score) has the tails of a normal distribution, so its maximum follows Gumbel's (Coles
2001, "An Introduction to Statistical Modeling of Extreme Values", theorem 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from outcrop.executors import Executor
from outcrop.locating.find import find_in
from outcrop.locating.planes import Patches, Planes, Slab

_SURROGATES = 100
_PIECES, _SLICES = 4, 4
# Scale of Fisher's z. Real ground repeats itself, which surrogates do not: patches of other cubes
# and of the other half of a scene have scales of 0.04 to 0.16.
_LEAST_SCALE = 0.12
_MOST_SCORE = 1 - 1e-9


@dataclass(frozen=True)
class NullDistribution:
    """Gumbel distribution of Fisher's z of the best score of a patch of another source."""

    location: float
    scale: float

    def cdf(self, score: np.ndarray) -> np.ndarray:
        """The probability that a patch of another source has a lower score, from 0 to 1."""
        return np.asarray(np.exp(-np.exp((self.location - _z(score)) / self.scale)))


def null_distribution(
    patches: Patches, planes: Sequence[Planes], executor: Executor
) -> NullDistribution:
    """Fit the distribution to surrogates of some patches, located in a sample of the slices.

    Args:
        patches: patches of which none is flat.
    """
    drawn = np.linspace(0, len(patches), _SURROGATES, endpoint=False).astype(int)
    sample = [_Sample(one.source, one.axis) for one in planes]
    made = Patches(surrogates(patches.images[drawn], seed=0), None, patches.flips)
    score = find_in(made, sample, executor)
    # A surrogate without contrast fits nowhere and is left out.
    z = _z(score[score > 0])
    if not len(z):
        return NullDistribution(0.0, _LEAST_SCALE)
    from scipy.stats import gumbel_r

    location, scale = gumbel_r.fit(_growth(planes, sample, patches.size) * z)
    return NullDistribution(location, max(scale, _LEAST_SCALE))


def surrogates(images: np.ndarray, seed: int) -> np.ndarray:
    """Images of mean 0 with the spectra of others; all bands of an image have the same signs.

    Args:
        images: `N × bands × height × width`, finite.

    Returns:
        float32.
    """
    from scipy.fft import dctn, idctn

    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=images[:, :1].shape)
    waves = dctn(images.astype(np.float64), axes=(2, 3), norm="ortho")
    waves[..., 0, 0] = 0
    return np.asarray(idctn(signs * waves, axes=(2, 3), norm="ortho"), np.float32)


@dataclass(frozen=True)
class _Sample(Planes):
    """Thin pieces of a stack, evenly spaced."""

    def slabs(self, window: tuple[int, int]) -> list[Slab]:
        """A few groups of a few slices; a few strips of a stack of one slice."""
        strips = window[0] if self.count == 1 else 0
        every = [part for slab in super().slabs(window) for part in _thin(slab, strips)]
        chosen = np.unique(np.linspace(0, len(every) - 1, _PIECES + 2).round().astype(int)[1:-1])
        return [every[k] for k in chosen]


def _thin(slab: Slab, height: int) -> list[Slab]:
    """A slab in parts of a few slices, or in strips twice as high as a window."""
    if height:
        last = slab.top + slab.height - height
        return [
            replace(slab, top=top, height=min(2 * height, slab.top + slab.height - top))
            for top in range(slab.top, last + 1, height + 1)
        ]
    return [
        replace(slab, first=first, last=min(first + _SLICES, slab.last))
        for first in range(slab.first, slab.last, _SLICES)
    ]


def _growth(planes: Sequence[Planes], sample: Sequence[Planes], window: tuple[int, int]) -> float:
    """The factor from the maximum z over the windows of the sample to that over all windows.

    The maximum of n normal numbers is near √(2 ln n) (Coles 2001, example 3.3).
    """
    few, all_ = (
        sum(
            (s.last - s.first) * (s.height - window[0] + 1) * (s.width - window[1] + 1)
            for one in some
            for s in one.slabs(window)
        )
        for some in (sample, planes)
    )
    return float(np.sqrt(np.log(all_ + 1) / np.log(few + 1)))


def _z(score: np.ndarray) -> np.ndarray:
    return np.arctanh(np.clip(score, -_MOST_SCORE, _MOST_SCORE))
