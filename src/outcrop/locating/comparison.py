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

from dataclasses import dataclass

import numpy as np

# Blocks of a patch, at most so many down and across, each of this many pixels or more a side.
_BLOCKS, _BLOCK = 6, 4
# Samples a side by which a patch is compared quickly: a correlation is then off by 1 / 16 of what
# it lacks of 1, far less than what tells a window from that beside it.
_THIN = 16
# Grey values that were rounded (or cut off) differ by up to half a step from what they were: by
# 12 ** -0.5 of a step in the mean square. A twentieth more is for chance in a few hundred pixels.
_ROUNDING = 1.05 * 12**-0.5
_MOST_STEPS = 1 << 16
# What rounding leaves differs by a tenth between two places at most, as seen by a few hundred
# pixels; a place that leaves twice as much leaves more than rounding.
CLEARLY = 2.0
# Two places that a patch fits so well are alike by cos(2 · arccos(0.98)) = 0.92 or more, so that
# the other one is among the likely places too. Fewer grey values fit many places exactly.
_EXACT = 0.98
# Of float32 samples that only gain and offset changed.
_FLOAT32 = 1e-6
# Of a score, by rounding of some ten thousand products.
_FLOAT64 = 1e-13
_FAINT = 1e-3


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
        centred, mean, length = _centred(image, known, count)
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


def compare(picture: Picture, window: np.ndarray) -> Comparison:
    """How a patch fits a window, `bands × height × width`, in float64."""
    image = np.asarray(window, np.float64)
    there, mean, length = _centred(image, picture.known, picture.count)
    each = np.einsum("bhw,bhw->b", there, picture.centred)
    left = np.square(picture.centred - each[:, None, None] * there)
    misfit = left.mean(axis=0)
    for axis, size in enumerate(misfit.shape):
        edges = np.linspace(0, size, min(_BLOCKS, max(1, size // _BLOCK)) + 1).astype(int)[:-1]
        misfit = np.add.reduceat(misfit, edges, axis=axis)
    residual = np.sqrt(left.sum(axis=(1, 2)))
    score = float(each.mean())
    exact = bool((residual <= picture.noise).all() and score >= _EXACT)
    product = each * length * np.sqrt(picture.square)
    moments = np.stack([picture.mean, mean, picture.square, np.square(length), product])
    return Comparison(score, misfit.ravel(), exact, moments, picture.count)


def score_of(picture: Picture, window: np.ndarray) -> float:
    """The score alone, which takes a third of the time."""
    image = np.asarray(window, np.float64)
    there, _, _ = _centred(image, picture.known, picture.count)
    return float(np.einsum("bhw,bhw->b", there, picture.centred).mean())


def clearer(fit: Comparison, other: Comparison) -> float:
    """How clearly one place fits better than another: Vuong's statistic, about normal if none does.

    Infinite where the first is exact and the other leaves several times as much.
    """
    if fit.exact and 1 - other.score > CLEARLY * (1 - fit.score) + _FLOAT64:
        return np.inf
    # Residuals below a thousandth of the mean are those of parts without contrast.
    least = _FAINT * (fit.misfit.mean() + other.misfit.mean())
    if not least > 0:
        return 0.0
    difference = np.log((other.misfit + least) / (fit.misfit + least))
    mean = difference.mean()
    spread = difference.std(ddof=1) if difference.size > 1 else 0.0
    if not spread > 0:
        return float(np.sign(mean) * np.inf) if mean else 0.0
    return float(mean / spread * np.sqrt(difference.size))


def thinned(pixels: np.ndarray, picture: Picture) -> np.ndarray:
    """As `Picture.correlate`, by some of the patch's pixels: every k-th row and column.

    Unlike pictures in cells, every window is compared at its own pixels.
    """
    bands, height, width = picture.centred.shape
    down, across = (max(1, length // _THIN) for length in (height, width))
    start = ((height - 1) % down) // 2, ((width - 1) % across) // 2
    sparse = (..., slice(start[0], None, down), slice(start[1], None, across))
    patch = picture.centred[sparse]
    thin = pixels[:, :, start[0] :, start[1] :]
    slices, rows, columns = len(pixels), pixels.shape[2] - height + 1, pixels.shape[3] - width + 1
    s, b, r, c = thin.strides
    windows = np.lib.stride_tricks.as_strided(
        thin, (slices, rows, columns, *patch.shape), (s, r, c, b, down * r, across * c)
    ).reshape(slices * rows * columns, bands, -1)
    patch = patch.reshape(bands, -1)
    if picture.known is not None:
        known = picture.known[sparse].ravel()
        windows, patch = windows[..., known], patch[:, known]
    patch = patch - patch.mean(axis=1, keepdims=True)
    length = np.sqrt(np.vecdot(patch, patch))
    patch = (patch / np.where(length > 0, length, 1)[:, None]).astype(np.float32)
    mean = windows.mean(axis=2, keepdims=True)
    windows -= mean
    energy = np.vecdot(windows, windows)
    flat = energy <= 1e-12 * windows.shape[2] * np.square(mean[..., 0])
    score = np.vecdot(windows, patch) / np.sqrt(np.where(flat, 1, energy))
    return np.where(flat, 0, score).mean(axis=1).reshape(slices, rows, columns)


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
    image: np.ndarray, known: np.ndarray | None, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture of mean 0 and length 1 in each band; mean and length of each band before."""
    if known is not None:
        image = np.where(known, image, 0)
    mean = image.sum(axis=(1, 2)) / count
    centred = image - mean[:, None, None]
    if known is not None:
        centred *= known
    length = np.sqrt(np.einsum("bhw,bhw->b", centred, centred))
    # What a flat picture differs by from its mean is rounding alone.
    length[length <= 1e-6 * np.sqrt(count) * np.maximum(np.abs(mean), 1e-30)] = 0
    centred *= np.where(length > 0, 1 / np.where(length > 0, length, 1), 0)[:, None, None]
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
