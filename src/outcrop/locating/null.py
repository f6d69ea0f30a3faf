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
from outcrop.locating.correlation import batches
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
    """Gumbel distribution of Fisher's z of the best score of each patch in another source.

    Attributes:
        location, scale: float, `N`.
    """

    location: np.ndarray
    scale: np.ndarray

    def cdf(self, score: np.ndarray) -> np.ndarray:
        """The probability that a patch like each has a lower score in another source, 0 to 1.

        Args:
            score: float, `N`.
        """
        return np.asarray(np.exp(-np.exp((self.location - _z(score)) / self.scale)))


def null_distribution(
    patches: Patches, planes: Sequence[Planes], executor: Executor
) -> NullDistribution:
    """Fit the distribution to surrogates of some patches, located in a sample of the slices.

    The maximum correlation of a patch of few waves, such as horizontal layers, is much higher than
    that of a patch of many: Fisher's z is nearly proportional to a power of their number. It is
    fitted, and the Gumbel distribution to the ratios of z to this fit.

    Args:
        patches: patches of which none is flat.
    """
    drawn = np.linspace(0, len(patches), _SURROGATES, endpoint=False).astype(int)
    sample = [_Sample(one.source, one.axis) for one in planes]
    made = Patches(surrogates(patches.images[drawn], seed=0), None, patches.flips)
    score = find_in(made, sample, executor)
    waves = number_of_waves(patches.images)
    # A surrogate without contrast fits nowhere and is left out.
    fits = score > 0
    if not fits.any():
        return NullDistribution(np.zeros(len(patches)), np.full(len(patches), _LEAST_SCALE))
    from scipy.stats import gumbel_r

    z = _growth(planes, sample, patches.size) * _z(score[fits])
    known = waves[drawn][fits]
    level, power = _power_law(known, z)
    # The fit is not extended to more waves than were seen, where z would be lower.
    expected = level * np.minimum(waves, known.max()) ** power
    location, scale = gumbel_r.fit(z / (level * known**power))
    return NullDistribution(location * expected, np.maximum(scale * expected, _LEAST_SCALE))


def number_of_waves(images: np.ndarray) -> np.ndarray:
    """How many cosine waves share the energy of each image: float64, `N`, from 1.

    This is the participation ratio of the energies, (Σ e)² / Σ e²: n for n waves of equal energy.

    Args:
        images: `N × bands × height × width`, finite and not flat.

    >>> row = np.cos(np.pi * (np.arange(8) + 0.5) / 8)
    >>> number_of_waves(np.array([[row + np.zeros((8, 1))], [row + row[:, None]]])).round(6)
    array([1., 2.])
    """
    from scipy.fft import dctn

    found = np.empty(len(images))
    # In parts, which need little memory.
    for some in batches(len(images), images[0].size):
        waves = dctn(images[some].astype(np.float64), axes=(2, 3), norm="ortho")
        waves[..., 0, 0] = 0
        energy = np.square(waves).sum(axis=1).reshape(len(waves), -1)
        found[some] = energy.sum(axis=1) ** 2 / np.square(energy).sum(axis=1)
    return found


def _power_law(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Level and power, from -1 to 0, of y = level · x ** power, by least squares of logarithms."""
    along, values = np.log(x), np.log(y)
    spread = float(np.var(along))
    slope = float(np.cov(along, values, bias=True)[0, 1]) / spread if spread > 1e-6 else 0.0
    power = float(np.clip(slope, -1, 0))
    return float(np.exp(values.mean() - power * along.mean())), power


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
