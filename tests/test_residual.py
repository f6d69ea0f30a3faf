import json
import re
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from tests.shared import DATA, needs_shared


@pytest.mark.parametrize(
    ("depth", "millions", "digits"),
    [(20, 0.27, 2), (32, 0.46, 2), (44, 0.66, 2), (56, 0.85, 2), (110, 1.7, 1)],
)
def test_parameter_counts_of_table_6(depth: int, millions: float, digits: int) -> None:
    network = ResidualNet(depth).build(bands=3, classes=10)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert round(count / 1e6, digits) == millions


def ours(name: str) -> str:
    """Our name for a tensor of the published ResNet-20."""
    name = re.sub(
        r"layer(\d)\.(\d)\.",
        lambda m: f"stages.units.stage{m[1]}.units.block{int(m[2]) + 1}.residual.",
        name,
    )
    name = name.replace("bn", "norm")
    return re.sub(r"^(conv|norm)1\.", r"stem.\1.", name)


@needs_shared
def test_published_weights_give_the_published_logits() -> None:
    published = load_file(DATA / "resnet20-published.safetensors")
    example = np.load(DATA / "resnet20-published-logits.npz")
    network = ResidualNet(20).build(bands=3, classes=10).eval()
    missing, unexpected = network.load_state_dict(
        {ours(name): tensor for name, tensor in published.items()}, strict=False
    )
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)

    images = (example["images"] / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    with torch.inference_mode():
        logits = network(torch.from_numpy(images).float().permute(0, 3, 1, 2))
    np.testing.assert_allclose(logits.numpy(), example["logits"], atol=1e-4)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (15, 15), (32, 20)])
@pytest.mark.parametrize("width", [1, 3, 4])
def test_any_size_and_every_parameter_learns(size: tuple[int, int], width: int) -> None:
    torch.manual_seed(0)
    network = ResidualNet(depth=8, width=width).build(bands=5, classes=3)
    logits = network(torch.randn(6, 5, *size))
    assert logits.shape == (6, 3)
    torch.nn.functional.cross_entropy(logits, torch.arange(6) % 3).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert width == 1 or parameter.grad.abs().sum() > 0, name


def test_convolutions_start_from_he_s_distribution() -> None:
    torch.manual_seed(0)
    weight = ResidualNet(depth=20).build(3, 10).blocks[-1].residual.conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


def test_memory_order_of_channels_does_not_matter() -> None:
    network = ResidualNet(depth=8, width=4).build(3, 2).eval()
    x = torch.randn(2, 3, 9, 9)
    last = network(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(network(x), last)


def test_description_survives_json() -> None:
    network = ResidualNet(depth=32, width=24)
    assert ResidualNet(**json.loads(json.dumps(asdict(network)))) == network


@pytest.mark.parametrize(("depth", "width"), [(2, 16), (18, 16), (21, 16), (-4, 16), (20, 0)])
def test_impossible_networks_are_refused(depth: int, width: int) -> None:
    with pytest.raises(OutcropError, match="network: "):
        ResidualNet(depth, width)


def test_descriptions_load_without_torch() -> None:
    code = (
        "import outcrop.models.architectures, outcrop.training.recipe, sys;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
