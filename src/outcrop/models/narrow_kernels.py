"""Triton kernels for 3 × 3 convolutions of 16 or 32 channels, which cuDNN has no good ones for.

A pixel's channels lie together in memory. So do three neighbouring pixels of a row, which are
loaded as one row of a matrix: all that a kernel multiplies are matrices of pixels by channels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_PIXELS = 128
_PARTS = 256
_ROWS, _COLUMNS = 64, 32


@triton.jit
def _correlate(  # type: ignore[no-untyped-def]
    x,
    weight,
    y,
    pixels,
    height,
    width,
    CHANNELS: tl.constexpr,
    TURNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sums over nine pixels of channels times weights; TURNED is the gradient by the input."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = pixel % width
    row = (pixel // width) % height
    channel = tl.arange(0, CHANNELS)
    found = tl.zeros((BLOCK, CHANNELS), tl.float32)
    for tap in tl.static_range(9):
        down = tap // 3 - 1
        right = tap % 3 - 1
        inside = (pixel < pixels) & (row + down >= 0) & (row + down < height)
        inside = inside & (column + right >= 0) & (column + right < width)
        place = pixel + down * width + right
        values = tl.load(
            x + place[:, None] * CHANNELS + channel[None, :], mask=inside[:, None], other=0.0
        )
        # A weight lies at (output, tap, input).
        if TURNED:
            at = channel[:, None] * (9 * CHANNELS) + (8 - tap) * CHANNELS + channel[None, :]
        else:
            at = channel[None, :] * (9 * CHANNELS) + tap * CHANNELS + channel[:, None]
        found = tl.dot(values, tl.load(weight + at).to(values.dtype), found)
    tl.store(
        y + pixel[:, None] * CHANNELS + channel[None, :],
        found.to(y.dtype.element_ty),
        mask=(pixel < pixels)[:, None],
    )


@triton.jit
def _differentiate(  # type: ignore[no-untyped-def]
    x,
    gradient,
    found,
    pixels,
    height,
    width,
    ROUNDS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROW: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Of some of the pixels the share in the gradient by the weights, as (output, tap, input)."""
    channel = tl.arange(0, CHANNELS)
    # Three neighbours of a row, with room up to a power of two.
    beside = tl.arange(0, ROW)
    right = beside // CHANNELS - 1
    above = tl.zeros((CHANNELS, ROW), tl.float32)
    level = tl.zeros((CHANNELS, ROW), tl.float32)
    below = tl.zeros((CHANNELS, ROW), tl.float32)
    for number in range(ROUNDS):
        pixel = (tl.program_id(0) * ROUNDS + number) * BLOCK + tl.arange(0, BLOCK)
        column = pixel % width
        row = (pixel // width) % height
        here = pixel < pixels
        slopes = tl.load(
            gradient + pixel[None, :] * CHANNELS + channel[:, None], mask=here[None, :], other=0.0
        )
        across = (column[:, None] + right[None, :] >= 0) & (
            column[:, None] + right[None, :] < width
        )
        across = across & here[:, None] & (beside < 3 * CHANNELS)[None, :]
        places = (pixel - 1)[:, None] * CHANNELS + beside[None, :]
        step = width * CHANNELS
        upper = tl.load(x + places - step, mask=across & (row > 0)[:, None], other=0.0)
        above = tl.dot(slopes, upper, above)
        middle = tl.load(x + places, mask=across, other=0.0)
        level = tl.dot(slopes, middle, level)
        lower = tl.load(x + places + step, mask=across & (row < height - 1)[:, None], other=0.0)
        below = tl.dot(slopes, lower, below)
    at = (tl.program_id(0) * CHANNELS + channel)[:, None] * (9 * CHANNELS) + beside[None, :]
    held = (beside < 3 * CHANNELS)[None, :]
    tl.store(found + at, above, mask=held)
    tl.store(found + at + 3 * CHANNELS, level, mask=held)
    tl.store(found + at + 6 * CHANNELS, below, mask=held)


@triton.jit
def _add(  # type: ignore[no-untyped-def]
    parts,
    total,
    number,
    length,
    ROUNDS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Columns of a matrix, added up; `length` is a multiple of BLOCK."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    found = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(ROUNDS):
        row = start * ROWS + tl.arange(0, ROWS)
        found += tl.load(
            parts + row[:, None] * length + column[None, :],
            mask=(row < number)[:, None],
            other=0.0,
        )
    tl.store(total + column, tl.sum(found, axis=0))


def correlate(x: Tensor, weight: Tensor, turned: bool = False) -> Tensor:
    """The convolution; `turned`, its gradient by the input, of the gradient by the output.

    Args:
        x: `N × C × H × W` in channels-last order, C 16 or 32.
        weight: `C × C × 3 × 3` in channels-last order; rounded to the dtype of `x`.

    Returns:
        As `x`; sums are of float32.
    """
    number, channels, height, width = x.shape
    y = torch.empty_like(x)
    pixels = number * height * width
    _correlate[(triton.cdiv(pixels, _PIXELS),)](
        x, weight, y, pixels, height, width, channels, turned, _PIXELS, num_warps=channels // 8
    )
    return y


def differentiate(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient by the weight, from input and gradient by the output.

    Each of some hundred programs sums over a run of pixels, and then the runs are summed: in the
    same order every time.

    Returns:
        float32, `C × C × 3 × 3` in channels-last order.
    """
    number, channels, height, width = x.shape
    pixels, length = number * height * width, 9 * channels**2
    rounds = max(1, triton.cdiv(pixels, _PIXELS * _PARTS))
    programs = triton.cdiv(pixels, _PIXELS * rounds)
    parts = torch.empty(programs, length, device=x.device)
    row = triton.next_power_of_2(3 * channels)
    _differentiate[(programs,)](
        x, gradient, parts, pixels, height, width, rounds, channels, row, _PIXELS
    )
    total = torch.empty(channels, 3, 3, channels, device=x.device)
    _add[(length // _COLUMNS,)](
        parts, total, programs, length, triton.cdiv(programs, _ROWS), _ROWS, _COLUMNS
    )
    return total.permute(0, 3, 1, 2)
