"""Correlation of the fine detail of images, and its significance.

Images of the same kind of surface are similar: dark and bright in the same parts, layers at the
same depth. Copies of one image also share its fine detail. So images are first whitened: in the
discrete cosine transform, every frequency is divided by its mean amplitude in this patch set, to
the power `_WHITENING`. Then they are levelled: every pixel is divided by the standard deviation of
its neighbourhood, so that one bright edge does not dominate. The correlation of two such images
measures the detail that they share, and the number of independent values gives its significance.

Brightness and contrast have no effect, because every image is standardised band by band. Flips and
rotations by 90° are changes of sign and a transposition in the cosine transform.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import uniform_filter

_WHITENING = 0.75
_NEIGHBOURHOOD, _EMPTY = 0.25, 0.3
_TINY = 1e-9
_ROUNDING = 1e-5
_STRONG = 0.8

# Transposed or not, then flipped in rows, then in columns: the symmetries of the square.
Orientation = tuple[bool, bool, bool]


def orientations(size: tuple[int, int]) -> list[Orientation]:
    """The eight flips and rotations by 90°; four for patches that are not square."""
    transposed = (False, True) if size[0] == size[1] else (False,)
    return [(t, r, c) for t in transposed for r in (False, True) for c in (False, True)]


def orient(images: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Images `... × height × width`, flipped and rotated."""
    transposed, rows, columns = orientation
    images = images.swapaxes(-2, -1) if transposed else images
    return images[..., :: -1 if rows else 1, :: -1 if columns else 1]


def standardised(images: np.ndarray) -> np.ndarray:
    """The mean of the bands of each patch, after each band is scaled to mean 0 and deviation 1.

    Gaps are set to the mean of the band. Bands without contrast are left out.

    Args:
        images: `N × bands × height × width`.

    Returns:
        float32, `N × height × width`; zeros for patches without contrast.
    """
    pixels = images.astype(np.float32)
    valid = np.isfinite(pixels)
    count = np.maximum(valid.sum(axis=(2, 3), keepdims=True), 1)
    mean = pixels.sum(axis=(2, 3), keepdims=True, where=valid, dtype=np.float64) / count
    pixels = np.where(valid, pixels - mean.astype(np.float32), 0)
    # Scale first, because squares of amplitudes may overflow float32.
    largest = np.abs(pixels).max(axis=(2, 3), keepdims=True)
    pixels /= np.where(largest > 0, largest, 1)
    spread = pixels.std(axis=(2, 3), keepdims=True)
    # A contrast below the precision of float32 is rounding error.
    seen = spread * largest > _ROUNDING * np.abs(mean)
    return np.asarray((pixels / np.where(seen, spread, np.inf)).mean(axis=1), np.float32)


@dataclass(frozen=True)
class Whitening:
    """Mean power of every frequency in a patch set.

    Attributes:
        power: float32, `height × width`, mean power of the discrete cosine transform; 0 for the
            constant term.
    """

    power: np.ndarray

    @classmethod
    def of(cls, pictures: Iterable[np.ndarray]) -> Whitening:
        """Whitening of standardised images, `n × height × width`, in one batch or several."""
        batches = [(np.square(transform(some)).sum(axis=0), len(some)) for some in pictures]
        power = sum(sums for sums, _ in batches) / sum(number for _, number in batches)
        if power.shape[0] == power.shape[1]:
            power = (power + power.T) / 2
        return cls(power.astype(np.float32))

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Whiten and level standardised images; images without contrast stay zero."""
        floor = _TINY * self.power.max()
        weight = np.where(self.power > floor, np.maximum(self.power, floor), np.inf)
        white = idctn(transform(pictures) * weight ** (-_WHITENING / 2), axes=(1, 2), norm="ortho")
        around = (1, *(max(3, round(side * _NEIGHBOURHOOD)) for side in white.shape[1:]))
        power = np.square(white)
        nearby = np.sqrt(np.maximum(uniform_filter(power, around), 0))
        least = _EMPTY * np.sqrt(power.mean(axis=(1, 2), keepdims=True))
        return white / np.maximum(np.maximum(nearby, least), _TINY)

    def describe(self, number: int) -> Descriptor:
        """The descriptor of the frequencies with the most power, which noise changes least."""
        order = np.argsort(-self.power, axis=None, kind="stable")[: number + 1]
        rows, columns = np.unravel_index(order, self.power.shape)
        if self.power.shape[0] == self.power.shape[1]:
            places = list(zip(rows.tolist(), columns.tolist(), strict=True))
            known = set(places)
            paired = np.array([(column, row) in known for row, column in places])
            rows, columns = rows[paired], columns[paired]
        usual = self.power[rows, columns]
        kept = usual > _TINY * max(float(self.power.max()), _TINY)
        return Descriptor(rows[kept], columns[kept], usual[kept] ** -0.5)


@dataclass(frozen=True)
class Descriptor:
    """Some frequencies of the cosine transform, fully whitened.

    Attributes:
        rows, columns: int, `D`, the frequencies.
        weight: float32, `D`, one over their mean amplitude.
    """

    rows: np.ndarray
    columns: np.ndarray
    weight: np.ndarray

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Descriptors of standardised images: float32, `N × D`, of unit length."""
        return unit(transform(pictures)[:, self.rows, self.columns] * self.weight)

    def matrix(self, size: tuple[int, int]) -> np.ndarray:
        """Matrix from flattened images of this size to descriptors before normalisation."""
        one = np.eye(size[0], dtype=np.float32), np.eye(size[1], dtype=np.float32)
        down, across = (dctn(eye, axes=(0,), norm="ortho") for eye in one)
        basis = down[self.rows][:, :, None] * across[self.columns][:, None, :]
        return (basis.reshape(len(self.rows), size[0] * size[1]) * self.weight[:, None]).T

    def orient(self, described: np.ndarray, orientation: Orientation) -> np.ndarray:
        """The descriptors of the same images, flipped and rotated."""
        transposed, rows, columns = orientation
        if transposed:
            places = list(zip(self.rows.tolist(), self.columns.tolist(), strict=True))
            where = {place: i for i, place in enumerate(places)}
            described = described[:, [where[column, row] for row, column in places]]
        sign = (-1.0) ** (self.rows * rows + self.columns * columns)
        return described * sign.astype(np.float32)


def transform(pictures: np.ndarray) -> np.ndarray:
    """The discrete cosine transform (II, orthonormal) without the constant term."""
    spectra = dctn(pictures, axes=(-2, -1), norm="ortho")
    spectra[..., 0, 0] = 0
    return spectra


def agreement(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of whitened images, pair by pair, and its significance.

    If two images have nothing in common, the correlation of n independent values is as large as r
    with a probability of about (1 - r²) ** (n / 2). The number n is estimated from the images: one
    over the sum of products of their power, over frequencies and over pixels, the smaller of the
    two. So a single wave or a single bright spot is not significant.

    Args:
        one, other: `M × height × width`.

    Returns:
        The correlation r, and the evidence - n / 2 · log(1 - r²), both `M`.
    """
    pixels = [unit(some - some.mean(axis=(1, 2), keepdims=True)) for some in (one, other)]
    spectra = [dctn(some, axes=(1, 2), norm="ortho") for some in pixels]
    r = (pixels[0] * pixels[1]).sum(axis=(1, 2))
    shared = [np.square(a * b).sum(axis=(1, 2)) for a, b in (pixels, spectra)]
    independent = np.minimum(1 / np.maximum(np.maximum(*shared), _TINY), one[0].size)
    return r, -independent / 2 * np.log1p(-(np.minimum(np.abs(r), 1 - 1e-4) ** 2))


def coherence(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Similarity of two images up to a filter, brightness and contrast: -1 to 1.

    It is the correlation of the frequencies of one ring of the cosine transform, averaged over the
    rings with most of the common power, weighted by it. Blur and contrast only scale a ring. Noise,
    rounding and compression are weak in rings where the images have much power. So damaged copies
    reach 0.98 and more. Neighbouring sections of layered rock do not, because they differ in rings
    with much power.

    Args:
        one, other: standardised images, `M × height × width`, not whitened.
    """
    height, width = one.shape[1:]
    shorter = min(height, width)
    down, across = np.arange(height)[:, None] / height, np.arange(width) / width
    ring = (np.hypot(down, across) * shorter / 2).astype(np.int64).ravel()
    of_ring = np.zeros((ring.size, int(ring.max()) + 1), np.float32)
    of_ring[np.arange(ring.size), ring] = 1
    a, b = (transform(some).reshape(len(some), ring.size) for some in (one, other))
    common = np.sqrt((a * a @ of_ring) * (b * b @ of_ring))
    alike = (a * b @ of_ring) / np.maximum(common, _TINY)
    order = np.argsort(-common, axis=1, kind="stable")
    common, alike = (np.take_along_axis(some, order, axis=1) for some in (common, alike))
    before = np.cumsum(common, axis=1) - common
    weight = np.where(before < _STRONG * common.sum(axis=1, keepdims=True), common, 0)
    return (alike * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), _TINY)


def unit(values: np.ndarray) -> np.ndarray:
    """Each of N arrays divided by its norm; zeros stay zeros."""
    flat = values.reshape(len(values), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return (flat / np.where(length > _TINY, length, np.inf)).reshape(values.shape)
