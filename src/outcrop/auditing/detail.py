"""The fine detail of pictures, and how surely two pictures share it.

Two pictures of the same kind of ground resemble each other: dark here, bright there, layers at the
same depth. Copies of one picture share what is peculiar to it. So pictures are whitened first: in
the discrete cosine transform every frequency is divided by what is usual for it in this patch set,
to the power `_WHITENING`; and levelled: every pixel is divided by what its neighbourhood varies by,
lest one bright edge outweighs all else. Then a correlation counts what two pictures have in common
beyond their kind, and how many independent values it rests on tells whether that can be chance.

Brightness and contrast do not matter (every picture is standardised band by band), nor do flips
and quarter turns: in the cosine transform they are changes of sign and a transposition.
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
UPRIGHT: Orientation = (False, False, False)


def orientations(size: tuple[int, int]) -> list[Orientation]:
    """The eight flips and quarter turns; four for patches that are not square."""
    turns = (False, True) if size[0] == size[1] else (False,)
    return [(t, r, c) for t in turns for r in (False, True) for c in (False, True)]


def orient(images: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Images `... × height × width`, flipped and turned."""
    transposed, rows, columns = orientation
    images = images.swapaxes(-2, -1) if transposed else images
    return images[..., :: -1 if rows else 1, :: -1 if columns else 1]


def standardised(images: np.ndarray) -> np.ndarray:
    """One band of each patch: the mean of its bands, each with mean 0 and deviation 1.

    Gaps become the band's mean; bands without contrast are passed over.

    Args:
        images: `N × bands × height × width`.

    Returns:
        float32, `N × height × width`; zeros where there is no contrast.
    """
    pixels = images.astype(np.float32)
    valid = np.isfinite(pixels)
    count = np.maximum(valid.sum(axis=(2, 3), keepdims=True), 1)
    mean = pixels.sum(axis=(2, 3), keepdims=True, where=valid, dtype=np.float64) / count
    pixels = np.where(valid, pixels - mean.astype(np.float32), 0)
    # Scaled first, because squares of amplitudes can be beyond float32.
    largest = np.abs(pixels).max(axis=(2, 3), keepdims=True)
    pixels /= np.where(largest > 0, largest, 1)
    spread = pixels.std(axis=(2, 3), keepdims=True)
    # Less contrast than float32 can hold is rounding.
    seen = spread * largest > _ROUNDING * np.abs(mean)
    return np.asarray((pixels / np.where(seen, spread, np.inf)).mean(axis=1), np.float32)


@dataclass(frozen=True)
class Whitening:
    """What is usual in a patch set: the mean power of every frequency.

    Attributes:
        power: float32, `height × width`, of the discrete cosine transform; that of the mean is 0.
    """

    power: np.ndarray

    @classmethod
    def of(cls, pictures: Iterable[np.ndarray]) -> Whitening:
        """From standardised pictures, `n × height × width`, in one batch or several."""
        batches = [(np.square(transform(some)).sum(axis=0), len(some)) for some in pictures]
        power = sum(sums for sums, _ in batches) / sum(number for _, number in batches)
        if power.shape[0] == power.shape[1]:
            power = (power + power.T) / 2
        return cls(power.astype(np.float32))

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Whiten and level standardised pictures; what has no contrast stays zero."""
        floor = _TINY * self.power.max()
        weight = np.where(self.power > floor, np.maximum(self.power, floor), np.inf)
        white = idctn(transform(pictures) * weight ** (-_WHITENING / 2), axes=(1, 2), norm="ortho")
        around = (1, *(max(3, round(side * _NEIGHBOURHOOD)) for side in white.shape[1:]))
        power = np.square(white)
        nearby = np.sqrt(np.maximum(uniform_filter(power, around), 0))
        least = _EMPTY * np.sqrt(power.mean(axis=(1, 2), keepdims=True))
        return white / np.maximum(np.maximum(nearby, least), _TINY)

    def describe(self, number: int) -> Descriptor:
        """The descriptor of the frequencies with the most power, which noise disturbs least."""
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
    """Some frequencies of the cosine transform, wholly whitened.

    Attributes:
        rows, columns: int, `D`, which frequencies.
        weight: float32, `D`, one over their usual amplitude.
    """

    rows: np.ndarray
    columns: np.ndarray
    weight: np.ndarray

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Describe standardised pictures: float32, `N × D`, of unit length."""
        return unit(transform(pictures)[:, self.rows, self.columns] * self.weight)

    def matrix(self, size: tuple[int, int]) -> np.ndarray:
        """What turns flat pictures of this size into descriptors before they are scaled."""
        one = np.eye(size[0], dtype=np.float32), np.eye(size[1], dtype=np.float32)
        down, across = (dctn(eye, axes=(0,), norm="ortho") for eye in one)
        basis = down[self.rows][:, :, None] * across[self.columns][:, None, :]
        return (basis.reshape(len(self.rows), size[0] * size[1]) * self.weight[:, None]).T

    def orient(self, described: np.ndarray, orientation: Orientation) -> np.ndarray:
        """The descriptors of the same pictures, flipped and turned."""
        transposed, rows, columns = orientation
        if transposed:
            where = {place: i for i, place in enumerate(zip(self.rows.tolist(),
                                                            self.columns.tolist(),
                                                            strict=True))}  # fmt: skip
            swapped = zip(self.columns.tolist(), self.rows.tolist(), strict=True)
            described = described[:, [where[place] for place in swapped]]
        sign = (-1.0) ** (self.rows * rows + self.columns * columns)
        return described * sign.astype(np.float32)


def transform(pictures: np.ndarray) -> np.ndarray:
    """The discrete cosine transform (II, orthonormal) with the mean taken out."""
    spectra = dctn(pictures, axes=(-2, -1), norm="ortho")
    spectra[..., 0, 0] = 0
    return spectra


def agreement(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of whitened pictures, pair by pair, and how surely it is no chance.

    If two pictures had nothing in common, a correlation of n independent values would be as large
    as r with a probability of about (1 - r²) ** (n / 2). What counts as independent is taken from
    the pictures: n is one over the sum of products of their power, over frequencies and again
    over pixels, the smaller of the two. So neither a single wave nor a single bright spot is
    evidence.

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
    """How nearly two pictures are the same but for a filter, brightness and contrast: -1 to 1.

    The correlation of the frequencies of one ring of the cosine transform, averaged over the rings
    that hold most of what the pictures have in common, by that. Blur and contrast scale a ring and
    leave it as it was; noise, rounding and compression are weak where the pictures are strong. So
    copies reach 0.98 and more, whatever was done to them; neighbouring sections of layered rock,
    which differ where they are strong, do not.

    Args:
        one, other: standardised pictures, `M × height × width`; not whitened.
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
    """Each of N arrays divided by its length; zeros stay zeros."""
    flat = values.reshape(len(values), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return (flat / np.where(length > _TINY, length, np.inf)).reshape(values.shape)
