"""Convolutions of few channels: their kernels give the results of torch."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outcrop.models import narrow
from outcrop.models.architectures import ResidualNet
from outcrop.models.factory import build
from outcrop.models.narrow import NarrowConv2d
from tests.tiny import DEVICE

SHAPES = [(3, 16, 5, 7), (2, 32, 8, 8), (1, 16, 1, 1), (12, 16, 4, 8), (129, 32, 3, 2)]
# Both numbers of channels; several programs and rounds; pixels at every edge and in the middle.
SMALL = [(2, 16, 3, 5), (1, 32, 4, 3)]


def tensors(shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Images, a weight and a gradient, none of which is symmetric."""
    rng = torch.Generator().manual_seed(sum(shape))
    channels = shape[1]
    found = [
        torch.randn(size, generator=rng).to(DEVICE, memory_format=torch.channels_last)
        for size in (shape, (channels, channels, 3, 3), shape)
    ]
    return found[0], found[1], found[2]


@pytest.mark.skipif(DEVICE != "cpu" or find_spec("triton") is None, reason="no interpreter needed")
def test_interpreted_kernels_convolve_and_differentiate() -> None:
    # Triton reads the variable when it is imported.
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_narrow"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(DEVICE == "cpu" or find_spec("triton") is None, reason="no GPU")
@pytest.mark.parametrize("few", [False, True], ids=["as is", "many rounds"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_convolve_and_differentiate(
    shape: tuple[int, int, int, int], few: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if few:
        monkeypatch.setattr(narrow, "_PIXELS", 16)
        monkeypatch.setattr(narrow, "_PARTS", 3)
    check_kernels(shape)


def check_kernels(shape: tuple[int, int, int, int]) -> None:
    x, weight, gradient = tensors(shape)
    half = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    x, gradient = x.to(half), gradient.to(half)
    exact, its = x.double().requires_grad_(), weight.to(half).double().requires_grad_()
    wanted = F.conv2d(exact, its, padding=1)
    by_input, by_weight = torch.autograd.grad(wanted, (exact, its), gradient.double())
    near = 4e-3 if DEVICE == "cuda" else 1e-6
    assert apart(narrow.correlate(x, weight), wanted) < near
    assert apart(narrow.correlate(gradient, weight, turned=True), by_input) < near
    found = narrow.differentiate(x, gradient)
    assert found.dtype == torch.float32
    assert apart(found, by_weight) < 1e-5
    assert torch.equal(found, narrow.differentiate(x, gradient))


def apart(found: Tensor, wanted: Tensor) -> float:
    """Relative distance."""
    assert found.shape == wanted.shape
    return float((found.double() - wanted).norm() / wanted.norm())


def test_stages_of_few_channels_have_them() -> None:
    module = build(ResidualNet(depth=20), 3, 10)
    found = [part for part in module.modules() if isinstance(part, NarrowConv2d)]
    assert [part.in_channels for part in found] == [16] * 6 + [32] * 5
    bare = build(ResidualNet(depth=20, padding="none"), 3, 10)
    assert not any(isinstance(part, NarrowConv2d) for part in bare.modules())


def test_elsewhere_it_is_an_ordinary_convolution() -> None:
    x, weight, _ = tensors((2, 16, 6, 6))
    ours, plain = NarrowConv2d(16).to(DEVICE), nn.Conv2d(16, 16, 3, padding=1, bias=False)
    assert list(ours.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        ours.weight.copy_(weight)
    assert torch.equal(ours(x), F.conv2d(x, weight, padding=1))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.skipif(DEVICE != "cuda", reason="no GPU")
def test_in_half_precision_it_learns_as_an_ordinary_one(compiled: bool) -> None:
    x, weight, gradient = tensors((16, 16, 8, 8))
    ours = NarrowConv2d(16).to(DEVICE)
    with torch.no_grad():
        ours.weight.copy_(weight)
    x.requires_grad_()
    run = torch.compile(ours) if compiled else ours
    with torch.autocast("cuda", torch.bfloat16):
        found = run(x)
    assert found.dtype == torch.bfloat16
    by_input, by_weight = torch.autograd.grad(found, (x, ours.weight), gradient.bfloat16())
    exact, its = x.detach().double().requires_grad_(), weight.double().requires_grad_()
    wanted = F.conv2d(exact, its, padding=1)
    theirs = torch.autograd.grad(wanted, (exact, its), gradient.double())
    for mine, other in zip((found, by_input, by_weight), (wanted, *theirs), strict=True):
        assert apart(mine, other) < 6e-3


if __name__ == "__main__":
    narrow._PIXELS, narrow._PARTS = 16, 1
    for shape in SMALL:
        check_kernels(shape)
