"""Normalised cross-correlation of patches with windows, and which of two windows fits better.

The score is the coefficient of Lewis 1995, "Fast Template Matching", Vision Interface 95, 120-123,
eq. 2. The mean of the window under the patch is subtracted, not that of the region. So it is
Pearson's correlation, from -1 to 1, and does not depend on offset or (positive) gain of either.
Sums over windows are computed from those of their neighbours, as in section 5 there.

Two windows are compared by the residuals that they leave of the patch, block by block: a window
that truly fits better does so in most blocks. The statistic is the mean over blocks of the
logarithm of the ratio of both residuals, over its standard error. The ratio is the likelihood ratio
of two fits with normal errors whose variance differs from block to block. The statistic is that of
Vuong 1989, "Likelihood Ratio Tests for Model Selection and Non-nested Hypotheses", Econometrica 57,
307-333, for two models that may both be wrong. A rotated or resized patch has no clear place where
one window fits some blocks and its neighbour fits others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np

# Maximum number of blocks down and across a patch, and minimum side of a block in pixels. The mean
# of three dozen blocks is about normal. Noise that is smooth over a pixel or two hardly correlates
# blocks of sixteen pixels.
_BLOCKS, _BLOCK = 6, 4
# Rounded (or truncated) grey values differ from the exact ones by up to half a step: by 12 ** -0.5
# of a step in the root mean square. The factor allows for chance in a few hundred pixels.
_ROUNDING = 1.05 * 12**-0.5
# Grey levels of 16 bits.
_MOST_STEPS = 1 << 16
# Over a few hundred pixels the residuals of rounding at two places differ by a tenth at most. A
# place with twice the residual has more than rounding.
CLEAR_RATIO = 2.0
# Two windows that a patch fits by this score correlate by cos(2 · arccos(0.98)) = 0.92 or more, so
# that both are among the candidates. Patches of fewer grey levels fit many windows exactly.
_EXACT = 0.98
# Residual of float32 samples that only gain and offset changed, as a share of the contrast: 24 bits
# round by 3e-8 of a value in the root mean square, and values are up to thirty times the contrast.
_FLOAT32 = 1e-6
# Error of a score by rounding in some ten thousand products.
_FLOAT64 = 1e-13
# Share of the mean misfit of the blocks. A block below it has no contrast, and its residual is
# rounding.
_FAINT = 1e-3
# Samples that are compared at once.
_TOGETHER = 1 << 20


@dataclass(frozen=True, eq=False)
class Template:
    """A patch, prepared for correlation.

    Attributes:
        centred: float64, `bands × height × width`, of mean 0 and length 1 in each band that is not
            flat; 0 where pixels are missing.
        mean, square: float64, `bands`: the mean, and the sum of squared deviations from it.
        known: bool, `height × width`, pixels that are not missing; None if all are known.
        count: number of pixels that are not missing.
        noise: float64, `bands`: the largest residual that rounding explains, as a share of the
            patch's length.
    """

    centred: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    known: np.ndarray | None
    count: int
    noise: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, missing: np.ndarray | None = None) -> Template:
        """The template of an image, float64, `bands × height × width`, and its missing pixels."""
        known = None if missing is None or not missing.any() else ~missing
        count = image[0].size if known is None else int(known.sum())
        each, means, lengths = _centred(
            image[None], None if known is None else known[None, None], np.array([[count]])
        )
        centred, mean, length = each[0], means[0], lengths[0]
        step = np.array(
            [quantisation_step(band if known is None else band[known]) for band in image]
        )
        rounding = _ROUNDING * step * np.sqrt(count)
        noise = np.maximum(rounding / np.where(length > 0, length, 1), _FLOAT32)
        return cls(centred, mean, np.square(length), known, count, noise)

    def correlate(self, pixels: np.ndarray) -> np.ndarray:
        """The coefficient of every window of images, as the mean over bands.

        Args:
            pixels: float32, `S × bands × (height + a) × (width + b)`.

        Returns:
            float32, `S × (a + 1) × (b + 1)`; 0 for a flat window.
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
    """The fit of a patch to a window.

    Attributes:
        score: the normalised cross-correlation, as the mean over bands.
        misfit: float64, the squared residual of each block, as a share of the patch's energy.
        exact: whether rounding of grey values explains the residual.
        moments: float64, `5 × bands`: the means of patch and window, the sums of their squared
            deviations, and the sum of the products of the deviations.
        count: number of pixels that were compared.
    """

    score: float
    misfit: np.ndarray
    exact: bool
    moments: np.ndarray
    count: int


def compare(templates: Sequence[Template], windows: Sequence[np.ndarray]) -> list[Comparison]:
    """The fit of each template to one window, `bands × height × width`, in float64."""
    size = windows[0].size if windows else 1
    return [
        one
        for some in batches(len(windows), size)
        for one in _compare(templates[some], windows[some])
    ]


def _compare(templates: Sequence[Template], windows: Sequence[np.ndarray]) -> list[Comparison]:
    centred, there, mean, length = _both(templates, windows)
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
    for k, template in enumerate(templates):
        exact = bool((residual[k] <= template.noise).all() and score[k] >= _EXACT)
        product = each[k] * length[k] * np.sqrt(template.square)
        moments = np.stack([template.mean, mean[k], template.square, np.square(length[k]), product])
        found.append(Comparison(float(score[k]), misfit[k], exact, moments, template.count))
    return found


def scores_of(templates: Sequence[Template], windows: Sequence[np.ndarray]) -> list[float]:
    """The scores of `compare` alone, in a third of the time."""
    size = windows[0].size if windows else 1
    return [
        float(score)
        for some in batches(len(windows), size)
        for score in _scores(templates[some], windows[some])
    ]


def _scores(templates: Sequence[Template], windows: Sequence[np.ndarray]) -> np.ndarray:
    centred, there, _, _ = _both(templates, windows)
    return np.asarray(np.einsum("kbhw,kbhw->kb", there, centred).mean(axis=1))


def _both(
    templates: Sequence[Template], windows: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Templates and windows of mean 0 and length 1 per band; mean and length of the windows."""
    centred = np.stack([template.centred for template in templates])
    images = np.stack(windows).astype(np.float64)
    count = np.array([[template.count] for template in templates])
    return centred, *_centred(images, _known(templates), count)


def _known(templates: Sequence[Template]) -> np.ndarray | None:
    """Known pixels, bool, `K × 1 × height × width`; None if no template misses a pixel."""
    if all(template.known is None for template in templates):
        return None
    every = np.ones(templates[0].centred.shape[1:], bool)
    return np.stack([every if one.known is None else one.known for one in templates])[:, None]


def batches(n: int, size: int) -> Iterator[slice]:
    """Slices of `n` items of `size` samples: large for the interpreter lock, small for caches."""
    together = max(1, _TOGETHER // size)
    for start in range(0, n, together):
        yield slice(start, start + together)


def vuong(fit: Comparison, other: Comparison) -> float:
    """Vuong's statistic: positive if the first window fits better, about normal if neither does.

    Infinite if the first fit is exact and the other leaves several times its residual.
    """
    if fit.exact and 1 - other.score > CLEAR_RATIO * (1 - fit.score) + _FLOAT64:
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


def sparse_correlation(
    regions: Sequence[np.ndarray], templates: Sequence[Template], side: int
) -> np.ndarray:
    """The coefficients of `Template.correlate`, from every k-th row and column of the patches.

    Every window is compared at its own pixels; nothing is averaged.

    Args:
        regions: one for each template, all of one shape.
        side: approximate number of rows and columns that are used.

    Returns:
        float32, `K × S × rows × columns`.
    """
    bands, height, width = templates[0].centred.shape
    sparse = _sparse(height, width, side)
    (start, down), (begin, across) = ((part.start, part.step) for part in sparse[1:])
    patch = np.stack([template.centred[sparse] for template in templates])
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
    known = _known(templates)
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


def sparse_size(template: Template, side: int) -> int:
    """Number of samples of a patch that `sparse_correlation` compares with each window."""
    _, height, width = template.centred.shape
    return int(template.centred[_sparse(height, width, side)].size)


def _sparse(height: int, width: int, side: int) -> tuple[EllipsisType, slice, slice]:
    down, across = (max(1, length // side) for length in (height, width))
    start = ((height - 1) % down) // 2, ((width - 1) % across) // 2
    return ..., slice(start[0], None, down), slice(start[1], None, across)


def one_over_length(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """The reciprocal length of every window after its mean is subtracted; 0 for a flat window.

    Args:
        values: `S × bands × …`.
    """
    mean = _window_sums(values, height, width) / (height * width)
    square = _window_sums(np.square(values), height, width)
    energy = square - mean**2 * (height * width)
    # The energy of a flat window is rounding error.
    flat = energy <= 100 * np.finfo(values.dtype).eps * np.maximum(square, square.mean())
    return np.asarray(np.where(flat, 0, 1 / np.sqrt(np.where(flat, 1, energy))))


def _window_sums(values: np.ndarray, height: int, width: int) -> np.ndarray:
    return _moving_sums(_moving_sums(values, height, -2), width, -1)


def _moving_sums(values: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Sums of `length` neighbours along an axis, each computed from the one before."""
    values = np.moveaxis(values, axis, 0)
    first = values[:length].sum(axis=0, keepdims=True)
    change = values[length:] - values[:-length]
    return np.moveaxis(np.concatenate([first, first + np.cumsum(change, axis=0)]), 0, axis)


def _centred(
    images: np.ndarray, known: np.ndarray | None, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images with mean 0 and length 1 in each band; the mean and length of each band before."""
    if known is not None:
        images = np.where(known, images, 0)
    mean = images.sum(axis=(2, 3)) / count
    centred = images - mean[..., None, None]
    if known is not None:
        centred *= known
    length = np.sqrt(np.einsum("kbhw,kbhw->kb", centred, centred))
    # The deviations of a flat image are rounding error.
    length[length <= 1e-6 * np.sqrt(count) * np.maximum(np.abs(mean), 1e-30)] = 0
    centred *= np.where(length > 0, 1 / np.where(length > 0, length, 1), 0)[..., None, None]
    return centred, mean, length


def quantisation_step(values: np.ndarray) -> float:
    """The quantisation step: all values less the lowest are its multiples; 0 if there is none."""
    whole = values.ravel()
    if np.array_equal(whole, np.round(whole)) and np.ptp(whole) < _MOST_STEPS:
        return 1.0
    # Samples that were not rounded are nearly all different.
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


def standardise(images: np.ndarray) -> np.ndarray:
    """Images with mean 0 and sum of squares 1 in each band; 0 in a flat band.

    Args:
        images: `N × bands × height × width`, finite.

    Returns:
        float32.
    """
    mean = images.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    centred = (images - mean.astype(np.float32)).astype(np.float32, copy=False)
    length = np.sqrt(np.square(centred).sum(axis=(2, 3), keepdims=True, dtype=np.float64))
    # The deviations of a flat image are rounding error.
    deviation = length / np.sqrt(images.shape[2] * images.shape[3])
    flat = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
    return np.where(flat, 0, centred / np.where(flat, 1, length)).astype(np.float32)


class SliceSpectrum:
    """The Fourier transform of a slice, for correlating all its windows with many patches.

    Args:
        pixels: float32, `bands × height × width`, finite.
        size: height and width of the patches in pixels.
    """

    def __init__(self, pixels: np.ndarray, size: tuple[int, int]) -> None:
        from scipy.fft import rfft2

        self._shape = pixels.shape[1], pixels.shape[2]
        centred = pixels - pixels.mean(axis=(1, 2), keepdims=True)
        self._waves = rfft2(centred)
        exact = centred.astype(np.float64)[None, None]
        self._scale = one_over_length(exact, *size)[0, 0].astype(np.float32)

    def correlate(self, waves: np.ndarray) -> np.ndarray:
        """The coefficient of every window, as the mean over bands.

        Args:
            waves: `P × bands × …`, what `spectra` returns for slices of this shape.

        Returns:
            float32, `P × rows × columns`; 0 for a flat window. Accurate to five digits.
        """
        from scipy.fft import irfft2

        products = irfft2(self._waves * waves, s=self._shape)
        _, rows, columns = self._scale.shape
        return np.asarray((products[..., :rows, :columns] * self._scale).mean(axis=1))


def spectra(patches: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Conjugate Fourier transforms of patches, for `SliceSpectrum.correlate`.

    Args:
        patches: float32, `P × bands × height × width`, standardised.
        shape: height and width of the slices.
    """
    from scipy.fft import rfft2

    return np.conj(rfft2(patches, s=shape))
