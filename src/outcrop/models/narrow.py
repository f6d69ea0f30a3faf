"""3 × 3 convolutions of few channels, which are most of a deep network for small images.

The Triton kernels multiply matrices of pixels by channels: the channels of a pixel lie together in
memory, and so do three neighbouring pixels of a row, which are loaded as one row of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, library, nn

CHANNELS = (16, 32)

_TRITON = find_spec("triton") is not None
_MOST = 2**31  # the kernels count in 32 bits
_PIXELS = 128
_PARTS = 256
_ROWS, _COLUMNS = 64, 32

tl: Any = None
"""`triton.language`, which the kernels use, after the first call of `_jit`."""

_seen: set[tuple[torch.Size, torch.device]] = set()


class NarrowConv2d(nn.Conv2d):
    """A 3 × 3 convolution from 16 or 32 channels to as many, with zero padding.

    In bfloat16 on a GPU it uses its own Triton kernels, if Triton is installed: those of cuDNN take
    several times as long as reading the memory does. Otherwise it is `nn.Conv2d`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`N × channels × H × W` to the same shape."""
        half = x.is_cuda and torch.is_autocast_enabled("cuda") and _TRITON
        if not half or torch.get_autocast_dtype("cuda") != torch.bfloat16 or x.numel() >= _MOST:
            return super().forward(x)
        found: Tensor = convolve(x.to(torch.bfloat16), self.weight)
        return found


@library.custom_op(
    "outcrop::narrow_convolution",
    mutates_args=(),
    device_types="cuda",
    schema="(Tensor x, Tensor weight) -> Tensor",
)
def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution of bfloat16 images with float32 weights, which are rounded, on a GPU."""
    x, weight = _last(x), _last(weight)
    found = correlate(x, weight)
    if (form := (x.shape, x.device)) not in _seen:
        # Compiles the kernels of the backward pass here: in a thread of autograd Triton fails.
        _seen.add(form)
        correlate(found, weight, turned=True)
        differentiate(x, found)
    return found


@library.custom_op(
    "outcrop::narrow_gradients",
    mutates_args=(),
    device_types="cuda",
    schema="(Tensor x, Tensor weight, Tensor gradient) -> (Tensor, Tensor)",
)
def gradients(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients by the input and by the weight."""
    gradient = _last(gradient)
    by_input = correlate(gradient, _last(weight), turned=True)
    return by_input, differentiate(_last(x), gradient).to(weight.dtype)


@convolve.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


@gradients.register_fake
def _(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(torch.empty_like(one, memory_format=torch.channels_last) for one in (x, weight))  # type: ignore[return-value]


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, weight = ctx.saved_tensors
    found: tuple[Tensor, Tensor] = gradients(x, weight, gradient)
    return found


convolve.register_autograd(_backward, setup_context=_keep)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def correlate(x: Tensor, weight: Tensor, turned: bool = False) -> Tensor:
    """The convolution; or with `turned` its gradient by the input, from that by the output.

    Args:
        x: `N × C × H × W` in channels-last order, C 16 or 32.
        weight: `C × C × 3 × 3` in channels-last order; rounded to the dtype of `x`.

    Returns:
        Shape and dtype of `x`; sums are computed in float32.
    """
    number, channels, height, width = x.shape
    y = torch.empty_like(x)
    pixels = number * height * width
    _jit(_correlate)[(_ratio(pixels, _PIXELS),)](
        x, weight, y, pixels, height, width, channels, turned, _PIXELS, num_warps=channels // 8
    )
    return y


def differentiate(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient by the weight, from the input and the gradient by the output.

    About a hundred programs each sum over a range of pixels; then their sums are added, always in
    the same order.

    Returns:
        float32, `C × C × 3 × 3` in channels-last order.
    """
    number, channels, height, width = x.shape
    pixels, length = number * height * width, 9 * channels**2
    rounds = max(1, _ratio(pixels, _PIXELS * _PARTS))
    programs = _ratio(pixels, _PIXELS * rounds)
    parts = torch.empty(programs, length, device=x.device)
    row = 1 << (3 * channels - 1).bit_length()
    _jit(_differentiate)[(programs,)](
        x, gradient, parts, pixels, height, width, rounds, channels, row, _PIXELS
    )
    total = torch.empty(channels, 3, 3, channels, device=x.device)
    _jit(_add)[(length // _COLUMNS,)](
        parts, total, programs, length, _ratio(programs, _ROWS), _ROWS, _COLUMNS
    )
    return total.permute(0, 3, 1, 2)


def _ratio(one: int, other: int) -> int:
    """The quotient, rounded up."""
    return -(-one // other)


@cache
def _jit(kernel: Callable[..., None]) -> Any:
    """A kernel, compiled when it is first launched; importing Triton takes a while."""
    global tl
    import triton

    tl = triton.language
    return triton.jit(kernel)


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
    """Sum of channels times weights over nine pixels; TURNED: the gradient by the input."""
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
        # Weights are stored as (output, tap, input).
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
    """Gradient by the weights, as (output, tap, input), summed over some of the pixels."""
    channel = tl.arange(0, CHANNELS)
    # Three neighbours in a row; Triton wants a power of two.
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


def _add(  # type: ignore[no-untyped-def]
    parts, total, number, length, ROUNDS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """Sum over the rows of a matrix; `length` is a multiple of BLOCK."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    found = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(ROUNDS):
        row = start * ROWS + tl.arange(0, ROWS)
        found += tl.load(
            parts + row[:, None] * length + column[None, :], mask=(row < number)[:, None], other=0.0
        )
    tl.store(total + column, tl.sum(found, axis=0))
