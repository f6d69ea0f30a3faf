"""Signatures: about sixty numbers that describe a patch or a window, whatever its gain and offset.

A signature holds low frequencies of the two-dimensional discrete cosine transform of a window,
without the mean. They are weighted and scaled to unit length, so that the product of two signatures
is a correlation. Low frequencies change slowly from place to place, so windows are described at a
*stride* and not at every pixel. Two products with banded matrices describe a whole slice, so that
this costs little compared with the comparison.

Frequencies, weights and strides are chosen from the patches, or from similar windows. Let e be the
share of a patch's energy at frequency k; m the relative error of that coefficient for a
misplacement of up to half a stride, which is about the mean square of the phase shift,
((π k_r s_r / h)² + (π k_c s_c / w)²) / 12; and n the share of white noise in one coefficient. The
signal-to-noise ratio is then e / (e m + n). The frequencies with the largest ratio are taken and
divided by √(e m + n). Among strides of equal area those with the most information,
Σ ½ log₂(1 + ratio), are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# In a search of 11 s, 64 numbers leave 14 patches to the fine pass. With 32 numbers 92 patches are
# left, with 128 numbers 5; both take 14 s.
_LENGTH = 64
_STRIDES = (1, 2, 4, 8, 16, 32)
_SAMPLE = 64


@dataclass(frozen=True, eq=False)
class Signature:
    """The description of windows of one size.

    Attributes:
        size: height and width of a window in pixels.
        stride: rows and columns between windows of a slice.
        cell: rows and columns that are averaged first; divisors of the stride.
        frequencies: int, `D × 2`, half waves down and across the window.
        weights: float32, `D`.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    cell: tuple[int, int]
    frequencies: np.ndarray
    weights: np.ndarray

    def of_patches(self, images: np.ndarray) -> np.ndarray:
        """The signatures of patches.

        Args:
            images: `N × bands × height × width`, of this size and any type, finite.

        Returns:
            float32, `N × (D · bands)`, of unit length; 0 for a flat patch.
        """
        rows, columns = self._waves()
        found = rows @ cells(images, self.cell) @ columns.T
        return self._finish(np.moveaxis(found[..., *self.frequencies.T], 1, 2))

    def grid(self, height: int, width: int) -> Grid:
        """The windows of a slice of this height and width."""
        return Grid(
            *_along(height, self.size[0], self.stride[0]),
            *_along(width, self.size[1], self.stride[1]),
            self.stride,
        )

    def of_slice(self, pixels: np.ndarray) -> np.ndarray:
        """The signatures of the windows that `grid` gives.

        Args:
            pixels: float32, `bands × height × width`, finite.

        Returns:
            float32, `windows × (D · bands)`, column by column.
        """
        grid = self.grid(*pixels.shape[1:])
        (sr, sc), (h, w) = self.stride, self.size
        inside = pixels[
            :,
            grid.top : grid.top + (grid.rows - 1) * sr + h,
            grid.left : grid.left + (grid.columns - 1) * sc + w,
        ]
        averaged = cells(inside, self.cell)
        step = sr // self.cell[0], sc // self.cell[1]
        shape = len(self.weights), len(pixels), grid.columns, grid.rows
        found = np.empty(shape, np.float32)
        down, across = self._waves()
        for k, band in enumerate(averaged):
            lines = _slide(band, down, step[0], grid.rows)
            # Only the pairs of waves in `frequencies` are computed.
            for wave in np.unique(self.frequencies[:, 0]):
                which = np.flatnonzero(self.frequencies[:, 0] == wave)
                waves = across[self.frequencies[which, 1]]
                part = _slide(lines[:, wave].T, waves, step[1], grid.columns)
                found[which, k] = part.transpose(1, 0, 2) * self.weights[which, None, None]
        found *= _one_over(np.sqrt(np.einsum("dbcr,dbcr->bcr", found, found)), len(pixels))
        return found.reshape(shape[0] * shape[1], -1).T

    def _waves(self) -> tuple[np.ndarray, np.ndarray]:
        """The cosines down and across that the frequencies need."""
        most = self.frequencies.max(axis=0) + 1
        counts = (self.size[0] // self.cell[0], self.size[1] // self.cell[1])
        return _cosines(int(most[0]), counts[0]), _cosines(int(most[1]), counts[1])

    def _finish(self, found: np.ndarray) -> np.ndarray:
        """The signatures of coefficients whose last axis is the bands."""
        weighted = found * self.weights[:, None]
        length = np.sqrt(np.einsum("ndb,ndb->nb", weighted, weighted))[:, None]
        unit = weighted * _one_over(length, found.shape[-1])
        return np.ascontiguousarray(unit.reshape(len(found), -1), np.float32)


def _one_over(length: np.ndarray, bands: int) -> np.ndarray:
    """The factor that gives vectors of these lengths, one per band, a joint length of 1."""
    return 1 / (np.maximum(length, 1e-12) * np.float32(np.sqrt(bands)))


@dataclass(frozen=True)
class Grid:
    """The windows of a slice: `rows × columns`, from pixel (top, left) at a stride."""

    rows: int
    top: int
    columns: int
    left: int
    stride: tuple[int, int]

    def place(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the upper-left pixel of windows, by their number."""
        column, row = np.divmod(window, self.rows)
        return self.top + row * self.stride[0], self.left + column * self.stride[1]


def design(images: np.ndarray, windows: int, noise: float = 0.05) -> Signature:
    """The signature that best distinguishes these patches from other windows.

    Args:
        images: `N × bands × height × width`, finite; a sample of them is used.
        windows: approximate number of windows in the area of one patch.
        noise: white noise in a patch, as a share of its energy; more noise gives weak frequencies
            less weight.
    """
    size = images.shape[2], images.shape[3]
    area = max(1, size[0] * size[1] // windows)
    energy = _energy(images[:: max(1, len(images) // _SAMPLE)].astype(np.float32))
    options = [_option(energy, size, stride, noise) for stride in _strides(area, size)]
    return max(options, key=lambda option: option[0])[1]


def _strides(area: int, size: tuple[int, int]) -> Sequence[tuple[int, int]]:
    """Pairs of strides of the largest allowed area, each at most an eighth of a patch."""
    fits = [
        (down, across)
        for down in _STRIDES
        for across in _STRIDES
        if down * across <= area and 8 * down <= size[0] and 8 * across <= size[1]
    ] or [(1, 1)]
    most = max(down * across for down, across in fits)
    return [pair for pair in fits if pair[0] * pair[1] == most]


def _energy(images: np.ndarray) -> np.ndarray:
    """The mean share of a patch's energy at each frequency, without the patch's mean."""
    centred = images - images.mean(axis=(2, 3), keepdims=True)
    height, width = images.shape[2:]
    power = (_cosines(height, height) @ centred @ _cosines(width, width).T) ** 2
    total = power.sum(axis=(2, 3), keepdims=True)
    return np.asarray((power / np.maximum(total, 1e-30)).mean(axis=(0, 1)))


def _option(
    energy: np.ndarray, size: tuple[int, int], stride: tuple[int, int], noise: float
) -> tuple[float, Signature]:
    """The best signature of a stride, after its information in bits."""
    cell = max(1, stride[0] // 2), max(1, stride[1] // 2)
    # Half a wave covers two cells or more; averaging removes higher frequencies.
    most = [max(2, n // (c if c == 1 else 2 * c)) for n, c in zip(size, cell, strict=True)]
    energy = energy[: most[0], : most[1]]
    turns = [(np.pi * np.arange(n) * s / length) ** 2 / 12
             for n, s, length in zip(energy.shape, stride, size, strict=True)]  # fmt: skip
    misplaced = np.minimum(turns[0][:, None] + turns[1], 2)
    spread = energy * misplaced + noise / (size[0] * size[1])
    ratio = energy / spread
    ratio[0, 0] = 0
    best = np.argsort(-ratio, axis=None, kind="stable")[: min(_LENGTH, ratio.size - 1)]
    frequencies = np.stack(np.unravel_index(best, ratio.shape), axis=1)
    bits = 0.5 * np.log2(1 + ratio.ravel()[best]).sum()
    weights = (1 / np.sqrt(spread.ravel()[best])).astype(np.float32)
    return float(bits), Signature(size, stride, cell, frequencies, weights)


def _along(length: int, window: int, stride: int) -> tuple[int, int]:
    """Number of windows along an axis, and the start of the first one."""
    count = -(-(length - window + 1) // stride)
    return count, (length - window - (count - 1) * stride) // 2


def cells(pixels: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """Means of cells of pixels, float32, without an incomplete cell at the end."""
    down, across = cell
    h, w = pixels.shape[-2] // down, pixels.shape[-1] // across
    inside = pixels[..., : h * down, : w * across]
    if cell == (1, 1):
        return inside.astype(np.float32, copy=False)
    # Sums of whole rows are much faster than a mean over two short axes.
    rows = inside.reshape(*inside.shape[:-2], h, down, w * across).sum(axis=-2, dtype=np.float32)
    sums = sum((rows[..., start::across] for start in range(1, across)), rows[..., ::across])
    return np.asarray(sums / np.float32(down * across))


def _cosines(most: int, length: int) -> np.ndarray:
    """The first rows of the orthonormal DCT-II."""
    wave, sample = np.arange(most)[:, None], np.arange(length)
    rows = np.sqrt(2 / length) * np.cos(np.pi * wave * (2 * sample + 1) / (2 * length))
    rows[:1] /= np.sqrt(2)
    return rows.astype(np.float32)


def _slide(values: np.ndarray, waves: np.ndarray, step: int, windows: int) -> np.ndarray:
    """Products of waves with every window along the first axis of values.

    Args:
        values: `length × n`.
        waves: `K × window`.
        step: distance between windows.
        windows: number of windows.

    Returns:
        `windows × K × n`.
    """
    k, window = waves.shape
    # Few enough windows for a dense matrix, and enough of them for a matrix product.
    together = min(windows, max(1, window // (4 * step), 64 // k))
    reach = window + (together - 1) * step
    # The waves of neighbouring windows as one matrix over their common pixels.
    matrix = np.zeros((together, k, reach), np.float32)
    for number in range(together):
        matrix[number, :, number * step : number * step + window] = waves
    blocks = -(-windows // together)
    needed = (blocks - 1) * together * step + reach
    padded = np.zeros((max(needed, len(values)), values.shape[1]), np.float32)
    padded[: len(values)] = values
    row, column = padded.strides
    moving = np.lib.stride_tricks.as_strided(
        padded, (blocks, reach, values.shape[1]), (together * step * row, row, column)
    )
    found = matrix.reshape(-1, reach) @ moving
    return found.reshape(blocks * together, k, -1)[:windows]
