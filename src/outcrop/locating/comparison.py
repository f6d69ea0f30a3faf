"""How a patch fits windows: normalised cross-correlation, and which of two places is better.

The score is that of `outcrop.locating.correlation`. Of two places the better one is told by what
they leave of the patch, block by block: if one fits better for a reason, it does so in most parts
of the patch. The mean over blocks of the logarithm of the ratio of both residuals (the likelihood
ratio of two fits with normal errors whose variance differs from block to block), over its standard
error, is the statistic of Vuong 1989, "Likelihood Ratio Tests for Model Selection and Non-nested
Hypotheses", Econometrica 57, 307-333, for two models that may both be wrong. A patch that was
turned or stretched, of which one place fits some parts and its neighbour others, has no clear
place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np

# Blocks of a patch, at most so many down and across, each of this many pixels or more a side: the
# mean of three dozen is about normal, and noise that is smooth over a pixel or two hardly links
# blocks of sixteen pixels.
_BLOCKS, _BLOCK = 6, 4
# Grey values that were rounded (or cut off) differ by up to half a step from what they were: by
# 12 ** -0.5 of a step in the mean square. A twentieth more is for chance in a few hundred pixels.
_ROUNDING = 1.05 * 12**-0.5
# Of grey values of 16 bits.
_MOST_STEPS = 1 << 16
# What rounding leaves differs by a tenth between two places at most, as seen by a few hundred
# pixels; a place that leaves twice as much leaves more than rounding.
CLEARLY = 2.0
# Two places that a patch fits so well are alike by cos(2 · arccos(0.98)) = 0.92 or more, so that
# the other one is among the likely places too. Fewer grey values fit many places exactly.
_EXACT = 0.98
# Of float32 samples that only gain and offset changed: the rounding of 24 bits, 3e-8 of a value in
# the mean square, where values are up to thirty times their contrast.
_FLOAT32 = 1e-6
# Of a score, by rounding of some ten thousand products.
_FLOAT64 = 1e-13
# Of the mean misfit of a block. What is below is a part of the patch without contrast, whose
# residuals are rounding.
_FAINT = 1e-3
# Samples that are compared at once.
_TOGETHER = 1 << 20


@dataclass(frozen=True, eq=False)
class Picture:
    """A patch, ready to be compared.

    Attributes:
        centred: float64, `bands × height × width`, of mean 0 and length 1 in each band where it is
            not flat; 0 where pixels are missing.
        mean, square: float64, of each band, and the sum of squares of what differs from it.
        known: bool, `height × width`; None where no pixel is missing.
        count: of pixels that are not missing.
        noise: for each band the residual, as a share of the patch's length, up to which nothing is
            left but rounding.
    """

    centred: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    known: np.ndarray | None
    count: int
    noise: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, missing: np.ndarray | None = None) -> Picture:
        """Of an image in float64, `bands × height × width`, and its missing pixels."""
        known = None if missing is None or not missing.any() else ~missing
        count = image[0].size if known is None else int(known.sum())
        each, means, lengths = _centred(
            image[None], None if known is None else known[None, None], np.array([[count]])
        )
        centred, mean, length = each[0], means[0], lengths[0]
        step = np.array([_step(band if known is None else band[known]) for band in image])
        rounding = _ROUNDING * step * np.sqrt(count)
        noise = np.maximum(rounding / np.where(length > 0, length, 1), _FLOAT32)
        return cls(centred, mean, np.square(length), known, count, noise)

    def correlate(self, pixels: np.ndarray) -> np.ndarray:
        """The coefficient for every window of pictures, the mean over bands.

        Args:
            pixels: float32, `S × bands × (height + a) × (width + b)`.

        Returns:
            float32, `S × (a + 1) × (b + 1)`; 0 where a window is flat.
        """
        from scipy.fft import irfft2, next_fast_len, rfft2

        _, height, width = self.centred.shape
        middle = pixels.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
        pixels = pixels - middle.astype(np.float32)
        rows, columns = pixels.shape[2] - height + 1, pixels.shape[3] - width + 1
        shape = next_fast_len(pixels.shape[2], real=True), next_fast_len(pixels.shape[3], real=True)

        def products(values: np.ndarray, other: np.ndarray) -> np.ndarray:
            waves = rfft2(values, s=shape) * np.conj(rfft2(other, s=shape))
            return np.asarray(irfft2(waves, s=shape)[..., :rows, :columns])

        found = products(pixels, self.centred.astype(np.float32))
        if self.known is None:
            scale = one_over_length(pixels.astype(np.float64), height, width)
        else:
            exact, known = pixels.astype(np.float64), self.known.astype(np.float64)
            square = products(np.square(exact), known)
            energy = square - products(exact, known) ** 2 / self.known.sum()
            flat = energy <= 1e-9 * np.maximum(square, np.square(exact).mean())
            scale = np.where(flat, 0, 1 / np.sqrt(np.where(flat, 1, energy)))
        return np.asarray((found * scale).mean(axis=1), np.float32)


@dataclass(frozen=True, eq=False)
class Comparison:
    """How a patch fits a window.

    Attributes:
        score: the normalised cross-correlation, the mean over bands.
        misfit: float64, the squared residual of each block, as a share of the patch's energy.
        exact: whether nothing is left but the rounding of grey values.
        moments: float64, `5 × bands`: the means of patch and window, the sums of squares of what
            differs from these, and the sum of its products.
        count: of pixels that were compared.
    """

    score: float
    misfit: np.ndarray
    exact: bool
    moments: np.ndarray
    count: int


def compare(pictures: Sequence[Picture], windows: Sequence[np.ndarray]) -> list[Comparison]:
    """How patches fit windows, one each, `bands × height × width`; in float64."""
    size = windows[0].size if windows else 1
    return [
        one
        for some in batches(len(windows), size)
        for one in _compare(pictures[some], windows[some])
    ]


def _compare(pictures: Sequence[Picture], windows: Sequence[np.ndarray]) -> list[Comparison]:
    centred, there, mean, length = _both(pictures, windows)
    each = np.einsum("kbhw,kbhw->kb", there, centred)
    there *= each[..., None, None]
    left = np.square(np.subtract(centred, there, out=there), out=there)
    misfit = left.mean(axis=1)
    for axis, size in enumerate(misfit.shape[1:], start=1):
        edges = np.linspace(0, size, min(_BLOCKS, max(1, size // _BLOCK)) + 1).astype(int)[:-1]
        misfit = np.add.reduceat(misfit, edges, axis=axis)
    misfit = misfit.reshape(len(windows), -1)
    residual = np.sqrt(left.sum(axis=(2, 3)))
    score = each.mean(axis=1)
    found = []
    for k, picture in enumerate(pictures):
        exact = bool((residual[k] <= picture.noise).all() and score[k] >= _EXACT)
        product = each[k] * length[k] * np.sqrt(picture.square)
        moments = np.stack([picture.mean, mean[k], picture.square, np.square(length[k]), product])
        found.append(Comparison(float(score[k]), misfit[k], exact, moments, picture.count))
    return found


def scores_of(pictures: Sequence[Picture], windows: Sequence[np.ndarray]) -> list[float]:
    """The scores alone, which takes a third of the time."""
    size = windows[0].size if windows else 1
    return [
        float(score)
        for some in batches(len(windows), size)
        for score in _scores(pictures[some], windows[some])
    ]


def _scores(pictures: Sequence[Picture], windows: Sequence[np.ndarray]) -> np.ndarray:
    centred, there, _, _ = _both(pictures, windows)
    return np.asarray(np.einsum("kbhw,kbhw->kb", there, centred).mean(axis=1))


def _both(
    pictures: Sequence[Picture], windows: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Patches and windows of mean 0 and length 1 in each band; mean and length of windows."""
    centred = np.stack([picture.centred for picture in pictures])
    images = np.stack(windows).astype(np.float64)
    count = np.array([[picture.count] for picture in pictures])
    return centred, *_centred(images, _known(pictures), count)


def _known(pictures: Sequence[Picture]) -> np.ndarray | None:
    """Bool, `K × 1 × height × width`; None where no pixel of any patch is missing."""
    if all(picture.known is None for picture in pictures):
        return None
    every = np.ones(pictures[0].centred.shape[1:], bool)
    return np.stack([every if one.known is None else one.known for one in pictures])[:, None]


def batches(n: int, size: int) -> Iterator[slice]:
    """So many at once that threads hardly wait for one another's Python, and caches hold them."""
    together = max(1, _TOGETHER // size)
    for start in range(0, n, together):
        yield slice(start, start + together)


def clearer(fit: Comparison, other: Comparison) -> float:
    """How clearly one place fits better than another: Vuong's statistic, about normal if none does.

    Infinite where the first is exact and the other leaves several times as much.
    """
    if fit.exact and 1 - other.score > CLEARLY * (1 - fit.score) + _FLOAT64:
        return np.inf
    least = _FAINT * (fit.misfit.mean() + other.misfit.mean())
    if not least > 0:
        return 0.0
    difference = np.log((other.misfit + least) / (fit.misfit + least))
    mean = difference.mean()
    spread = difference.std(ddof=1) if difference.size > 1 else 0.0
    if not spread > 0:
        return float(np.sign(mean) * np.inf) if mean else 0.0
    return float(mean / spread * np.sqrt(difference.size))


def thinned(regions: Sequence[np.ndarray], pictures: Sequence[Picture], side: int) -> np.ndarray:
    """As `Picture.correlate`, by some of the patches' pixels: every k-th row and column.

    Unlike pictures in cells, every window is compared at its own pixels.

    Args:
        regions: for each patch, all of one shape.
        side: about so many rows and columns are taken.

    Returns:
        float32, `K × S × rows × columns`.
    """
    bands, height, width = pictures[0].centred.shape
    sparse = _sparse(height, width, side)
    (start, down), (begin, across) = ((part.start, part.step) for part in sparse[1:])
    patch = np.stack([picture.centred[sparse] for picture in pictures])
    slices, _, tall, wide = regions[0].shape
    shape = slices, tall - height + 1, wide - width + 1
    windows = np.empty((len(regions), *shape, *patch.shape[1:]), np.float32)
    for each, region in zip(windows, regions, strict=True):
        thin = region[:, :, start:, begin:]
        s, b, r, c = thin.strides
        each[...] = np.lib.stride_tricks.as_strided(
            thin, each.shape, (s, r, c, b, down * r, across * c)
        )
    windows = windows.reshape(len(regions), -1, bands, patch[0, 0].size)
    patch = patch.reshape(len(regions), 1, bands, -1)
    known = _known(pictures)
    share = np.ones((len(regions), 1, 1, patch.shape[-1]))
    if known is not None:
        share = known[sparse].reshape(share.shape).astype(np.float64)
    share /= share.sum(axis=-1, keepdims=True)
    patch = patch - np.vecdot(patch, share)[..., None]
    if known is not None:
        patch *= share > 0
    length = np.sqrt(np.vecdot(patch, patch))
    patch = (patch / np.where(length > 0, length, 1)[..., None]).astype(np.float32)
    mean = np.vecdot(windows, share.astype(np.float32))
    windows -= mean[..., None]
    if known is not None:
        windows *= share > 0
    energy = np.vecdot(windows, windows)
    flat = energy <= 1e-12 * windows.shape[-1] * np.square(mean)
    score = np.vecdot(windows, patch) / np.sqrt(np.where(flat, 1, energy))
    return np.where(flat, 0, score).mean(axis=-1).reshape(len(regions), *shape)


def thinned_size(picture: Picture, side: int) -> int:
    """How many samples of a patch `thinned` compares with each window."""
    _, height, width = picture.centred.shape
    return int(picture.centred[_sparse(height, width, side)].size)


def _sparse(height: int, width: int, side: int) -> tuple[EllipsisType, slice, slice]:
    down, across = (max(1, length // side) for length in (height, width))
    start = ((height - 1) % down) // 2, ((width - 1) % across) // 2
    return ..., slice(start[0], None, down), slice(start[1], None, across)


def one_over_length(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """One over the length of every window less its mean; 0 where a window is flat.

    Args:
        values: `S × bands × …`.
    """
    mean = _window_sums(values, height, width) / (height * width)
    square = _window_sums(np.square(values), height, width)
    energy = square - mean**2 * (height * width)
    # Of a flat window nothing is left but rounding.
    flat = energy <= 100 * np.finfo(values.dtype).eps * np.maximum(square, square.mean())
    return np.asarray(np.where(flat, 0, 1 / np.sqrt(np.where(flat, 1, energy))))


def _window_sums(values: np.ndarray, height: int, width: int) -> np.ndarray:
    return _moving_sums(_moving_sums(values, height, -2), width, -1)


def _moving_sums(values: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Sums of so many neighbours along an axis: the first one whole, then by what differs."""
    values = np.moveaxis(values, axis, 0)
    first = values[:length].sum(axis=0, keepdims=True)
    change = values[length:] - values[:-length]
    return np.moveaxis(np.concatenate([first, first + np.cumsum(change, axis=0)]), 0, axis)


def _centred(
    images: np.ndarray, known: np.ndarray | None, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures of mean 0 and length 1 in each band; mean and length of each band before."""
    if known is not None:
        images = np.where(known, images, 0)
    mean = images.sum(axis=(2, 3)) / count
    centred = images - mean[..., None, None]
    if known is not None:
        centred *= known
    length = np.sqrt(np.einsum("kbhw,kbhw->kb", centred, centred))
    # What a flat picture differs by from its mean is rounding alone.
    length[length <= 1e-6 * np.sqrt(count) * np.maximum(np.abs(mean), 1e-30)] = 0
    centred *= np.where(length > 0, 1 / np.where(length > 0, length, 1), 0)[..., None, None]
    return centred, mean, length


def _step(values: np.ndarray) -> float:
    """The step that all values are multiples of, from the lowest; 0 if there is none."""
    whole = values.ravel()
    if np.array_equal(whole, np.round(whole)) and np.ptp(whole) < _MOST_STEPS:
        return 1.0
    # Samples that were never rounded are all different.
    some = whole[: min(256, len(whole))]
    if len(np.unique(some)) > 0.9 * len(some):
        return 0.0
    gaps = np.diff(np.unique(whole))
    if not len(gaps):
        return 0.0
    step = float(gaps.min())
    many = gaps / step
    whole_steps = np.abs(many - np.round(many)).max() < 0.01 and many.sum() < _MOST_STEPS
    return step if whole_steps else 0.0
