"""3 × 3 convolutions of few channels, which are most of a deep network for small pictures."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, library, nn

CHANNELS = (16, 32)

_TRITON = find_spec("triton") is not None
_MOST = 2**31  # the kernels count in 32 bits
_seen: set[tuple[torch.Size, torch.device]] = set()


class NarrowConv2d(nn.Conv2d):
    """A 3 × 3 convolution from 16 or 32 channels to as many, with zeros around the picture.

    In bfloat16 on a GPU it has kernels of its own, if Triton is there: cuDNN's take several times
    as long as memory needs. Elsewhere it is `nn.Conv2d`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`N × channels × H × W` to the same form."""
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
    """The convolution of bfloat16 with weights of float32, which are rounded, on a GPU."""
    from outcrop.models import narrow_kernels

    x, weight = _last(x), _last(weight)
    found = narrow_kernels.correlate(x, weight)
    if (form := (x.shape, x.device)) not in _seen:
        # Triton compiles what the backward pass needs here, and not in a thread of autograd's.
        _seen.add(form)
        narrow_kernels.correlate(found, weight, turned=True)
        narrow_kernels.differentiate(x, found)
    return found


@library.custom_op(
    "outcrop::narrow_gradients",
    mutates_args=(),
    device_types="cuda",
    schema="(Tensor x, Tensor weight, Tensor gradient) -> (Tensor, Tensor)",
)
def differentiate(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients by input and weight."""
    from outcrop.models import narrow_kernels

    gradient = _last(gradient)
    by_input = narrow_kernels.correlate(gradient, _last(weight), turned=True)
    return by_input, narrow_kernels.differentiate(_last(x), gradient).to(weight.dtype)


@convolve.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


@differentiate.register_fake
def _(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(torch.empty_like(one, memory_format=torch.channels_last) for one in (x, weight))  # type: ignore[return-value]


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    x, weight = ctx.saved_tensors
    found: tuple[Tensor, Tensor] = differentiate(x, weight, gradient)
    return found


convolve.register_autograd(_backward, setup_context=_keep)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
