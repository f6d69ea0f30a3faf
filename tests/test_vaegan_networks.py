"""Layers of table 1 of Larsen et al. 2016, counted by hand."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from outcrop.errors import OutcropError
from outcrop.generative.networks import Networks, build
from outcrop.generative.plan import VaeGanPlan
from outcrop.generative.settings import SIZES, VaeGan

CONVOLUTION = nn.Conv2d | nn.ConvTranspose2d
LAYER = CONVOLUTION | nn.Linear
TINY = VaeGan(filters=4, latent=3)


def built(network: VaeGan, bands: int, size: int) -> Networks:
    """Networks without memory for weights."""
    with torch.device("meta"):
        return build(network, bands, size)


def layers(module: nn.Module) -> list[str]:
    """The layers with weights in order, each with its normalisation and activation."""
    found = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            found.append(f"{layer.in_features}>{layer.out_features}")
        elif isinstance(layer, CONVOLUTION):
            assert layer.kernel_size == (5, 5)
            arrow = {nn.Conv2d: "v", nn.ConvTranspose2d: "^"}[type(layer)]
            stride = arrow if layer.stride == (2, 2) else "="
            found.append(f"{layer.in_channels}{stride}{layer.out_channels}")
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            found[-1] += " bn"
        elif isinstance(layer, nn.ReLU):
            found[-1] += " relu"
    return found


TABLE_1 = {
    "encoder": [
        "3v64 bn relu", "64v128 bn relu", "128v256 bn relu", "16384>2048 bn relu", "2048>256",
    ],
    "decoder": [
        "128>16384 bn relu", "256^256 bn relu", "256^128 bn relu", "128^32 bn relu", "32=3",
    ],
    "discriminator": [
        "3=32 relu", "32v128 bn relu", "128v256 bn relu", "256v256 bn relu", "16384>512 bn relu",
        "512>1",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE_1)
def test_layers_for_64_pixels_are_those_of_the_paper(name: str) -> None:
    assert layers(getattr(built(VaeGan(), 3, 64), name)) == TABLE_1[name]


def test_parameters_for_64_pixels_by_hand() -> None:
    expected = {
        "encoder": 25 * (3 * 64 + 64 * 128 + 128 * 256)
        + 2 * (64 + 128 + 256)
        + 8 * 8 * 256 * 2048
        + 2 * 2048
        + 2049 * 256,
        "decoder": 128 * 8 * 8 * 256
        + 2 * 8 * 8 * 256
        + 25 * (256 * 256 + 256 * 128 + 128 * 32)
        + 2 * (256 + 128 + 32)
        + 25 * 32 * 3
        + 3,
        "discriminator": 25 * 3 * 32
        + 32
        + 25 * (32 * 128 + 128 * 256 + 256 * 256)
        + 2 * (128 + 256 + 256)
        + 8 * 8 * 256 * 512
        + 2 * 512
        + 513,
    }
    networks = built(VaeGan(), 3, 64)
    for name, number in expected.items():
        assert sum(p.numel() for p in getattr(networks, name).parameters()) == number


@pytest.mark.parametrize(("size", "grid"), [(32, 4), (64, 8), (128, 8)])
def test_each_size_ends_on_its_grid(size: int, grid: int) -> None:
    networks = built(VaeGan(), 5, size)
    assert networks.decoder.grid == grid
    assert f"{256 * grid * grid}>2048 bn relu" in layers(networks.encoder)
    assert f"{256 * grid * grid}>512 bn relu" in layers(networks.discriminator)


def test_a_fourth_halving_repeats_the_widest_layer() -> None:
    networks = built(VaeGan(), 3, 128)
    assert layers(networks.encoder)[2:4] == ["128v256 bn relu", "256v256 bn relu"]
    assert layers(networks.decoder)[1:3] == ["256^256 bn relu", "256^256 bn relu"]
    assert layers(networks.discriminator)[3:5] == ["256v256 bn relu", "256v256 bn relu"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bands", [1, 2, 3, 7])
@pytest.mark.parametrize("spectral", [False, True])
def test_images_of_any_number_of_bands_pass_the_networks(
    size: int, bands: int, spectral: bool
) -> None:
    torch.manual_seed(0)
    networks = build(VaeGan(filters=4, latent=3, spectral=spectral), bands, size)
    images = torch.rand(2, bands, size, size) * 2 - 1
    mean, log_variance = networks.encoder(images)
    assert mean.shape == log_variance.shape == (2, 3)
    drawn = networks.decoder(mean)
    assert drawn.shape == images.shape
    assert drawn.abs().max() <= 1
    features, logits = networks.discriminator(drawn)
    assert features.shape == (2, 16 * networks.decoder.grid**2)
    assert logits.shape == (2,)


def test_filters_are_scaled_together() -> None:
    networks = built(VaeGan(filters=16, latent=8), 3, 64)
    assert layers(networks.encoder)[3:] == ["4096>512 bn relu", "512>16"]
    assert layers(networks.decoder)[-2:] == ["32^8 bn relu", "8=3"]
    assert layers(networks.discriminator)[:2] == ["3=8 relu", "8v32 bn relu"]


def test_the_features_compared_are_those_of_the_last_convolution() -> None:
    torch.manual_seed(0)
    discriminator = build(TINY, 2, 32).discriminator.eval()
    seen = []
    discriminator.layers.register_forward_hook(lambda module, given, found: seen.append(found))
    features, _ = discriminator(torch.rand(2, 2, 32, 32))
    assert torch.equal(features, seen[0].flatten(1))


def test_each_kind_has_its_networks() -> None:
    there = {
        parts: {name for name, _ in build(VaeGan(parts, filters=4), 1, 32).named_children()}
        for parts in ("vaegan", "vae", "gan", "vae-dis")
    }
    everything = {"encoder", "decoder", "discriminator"}
    assert there == {
        "vaegan": everything,
        "vae": {"encoder", "decoder"},
        "gan": {"decoder", "discriminator"},
        "vae-dis": everything,
    }


def test_spectral_weights_have_one_as_their_largest_singular_value() -> None:
    torch.manual_seed(0)
    networks = build(VaeGan(filters=4, latent=3, spectral=True), 2, 32)
    discriminator = networks.discriminator
    for _ in range(100):  # power iterations
        discriminator(torch.rand(2, 2, 32, 32))
    normalised = [layer for layer in discriminator.modules() if isinstance(layer, LAYER)]
    assert len(normalised) == 6
    for layer in normalised:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.02)
    # A layer has spectral or batch normalisation, never both.
    assert not any(is_parametrized(module) for module in networks.encoder.modules())
    weightless = [m for m in discriminator.modules() if isinstance(m, nn.BatchNorm2d)]
    assert weightless == [discriminator.compared]
    assert not list(discriminator.compared.parameters())


@pytest.mark.parametrize("size", [(30, 32), (33, 33), (16, 16), (256, 256)])
def test_other_sizes_raise_an_error(size: tuple[int, int]) -> None:
    with pytest.raises(OutcropError) as caught:
        TINY.check_size(size)
    assert str(caught.value) == (
        f"patches: are of {size[0]} × {size[1]} pixels; generative networks take squares of 32, "
        "64 or 128; cut the patches again with `size`"
    )


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"latent": 0}, "`latent`: is 0; take 1 or more"),
        ({"filters": 3}, "`filters`: is 3; take 4 or more"),
        ({"parts": "flow"}, "`parts`: is flow; take vaegan, vae, gan, vae-dis"),
        ({"parts": "vae", "spectral": True}, "`spectral`: is True; take false without a GAN"),
    ],
)
def test_wrong_numbers_raise_an_error(wrong: dict, line: str) -> None:
    with pytest.raises(OutcropError, match=line):
        VaeGan(**wrong)


def test_a_plan_has_a_name() -> None:
    assert VaeGanPlan.named("vae-dis").network == VaeGan("vae-dis")
    with pytest.raises(OutcropError, match="`model`: there is no 'flow'; take vaegan, vae, gan"):
        VaeGanPlan.named("flow")
