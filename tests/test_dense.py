"""A network on all pixels at once gives the results of single patches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from outcrop.errors import OutcropError
from outcrop.models.architectures import NETWORKS, ResidualNet
from outcrop.models.cost import cost_of
from outcrop.models.dense import Dense
from outcrop.models.factory import build

NETS = {
    "plain": ResidualNet(14),
    "projection": ResidualNet(14, shortcut="projection"),
    "pre-activation": ResidualNet(14, order="pre-activation"),
    "pre-activation, projection": ResidualNet(14, order="pre-activation", shortcut="projection"),
    "bottleneck": ResidualNet(20, bottleneck=True, shortcut="projection"),
    "three levels": ResidualNet(14, levels=3),
    "four levels, dropped": ResidualNet(20, levels=4, survival=0.5),
    "nested and wide": ResidualNet(
        10, widen=2, order="pre-activation", shortcut="projection", levels=2
    ),
    "large stem": ResidualNet(8, stem="large", levels=3),
    "no halvings": ResidualNet(8, halvings=0, levels=2),
    "one halving, projection": ResidualNet(14, halvings=1, shortcut="projection", levels=3),
    "one halving, pre-activation": ResidualNet(8, halvings=1, order="pre-activation"),
}


def seeded(description, bands=3, classes=5, seed=0):
    """A network as after training: no normalisation is the identity."""
    torch.manual_seed(seed)
    network = build(description, bands, classes)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.3)
    return network.eval()


def unpadded(description, **changes):
    return ResidualNet(**{**vars(description), "width": 4, "padding": "none", **changes})


@pytest.mark.parametrize("name", NETS)
def test_every_pixel_gets_the_logits_of_its_patch(name):
    network = seeded(unpadded(NETS[name]))
    foot = network.description.footprint
    size = foot + network.description.stride + 1, foot + 1
    dense = Dense(network, size)
    pixels = 4 * dense.stride
    # A window may end before the last patch does, where no unit of it lies.
    tall, wide = dense.window(pixels, pixels)
    x = torch.randn(2, 3, tall + foot, wide + foot)
    with torch.inference_mode():
        logits = dense.logits(x[:, :, :tall, :wide])
        for row, column in ((0, 0), (1, 2), (3, 1), (2, 3), (pixels - 1, pixels - 1)):
            patch = x[:, :, row : row + size[0], column : column + size[1]]
            torch.testing.assert_close(
                logits[:, :, row, column], network(patch), rtol=1e-4, atol=1e-4
            )
    assert logits.shape == (2, 5, pixels, pixels)
    assert logits.std(dim=(2, 3)).min() > 1e-3


@settings(max_examples=40, deadline=None)
@given(
    seen=st.integers(15, 20),
    more=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    at=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    halvings=st.integers(0, 1),
)
def test_a_crop_sees_the_same_in_patch_and_window(seen, more, at, halvings):
    footprint = {0: 15, 1: 17}[halvings]
    seen = max(seen, footprint)
    network = seeded(ResidualNet(8, width=4, padding="none", halvings=halvings, seen=seen))
    size = seen + more[0], seen + more[1]
    dense = Dense(network, size)
    tall, wide = dense.window(8, 8)
    x = torch.randn(1, 3, tall + 9, wide + 9)
    patch = x[:, :, at[0] : at[0] + size[0], at[1] : at[1] + size[1]]
    top, left = size[0] // 2 - seen // 2, size[1] // 2 - seen // 2
    blind = torch.full_like(patch, 9.0)
    inner = slice(top, top + seen), slice(left, left + seen)
    blind[..., *inner] = patch[..., *inner]
    with torch.inference_mode():
        logits, features = dense.logits_and_features(x[:, :, :tall, :wide])
        assert torch.equal(logits, dense.logits(x[:, :, :tall, :wide]))
        found = network(patch)
        assert torch.equal(found, network(blind))
        torch.testing.assert_close(logits[:, :, at[0], at[1]], found, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            features[:, :, at[0], at[1]], network.embed(patch), rtol=1e-4, atol=1e-5
        )


@settings(max_examples=25, deadline=None)
@given(
    depth=st.sampled_from([8, 14]),
    more=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    at=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    seed=st.integers(0, 99),
)
def test_patches_of_any_size_that_holds_the_footprint(depth, more, at, seed):
    network = seeded(ResidualNet(depth, width=4, padding="none"), seed=seed)
    size = network.description.footprint + more[0], network.description.footprint + more[1]
    dense = Dense(network, size)
    x = torch.randn(1, 3, *dense.window(8, 8))
    patch = x[:, :, at[0] : at[0] + size[0], at[1] : at[1] + size[1]]
    with torch.inference_mode():
        found = dense.logits(x)[:, :, at[0], at[1]]
        torch.testing.assert_close(found, network(patch), rtol=1e-4, atol=1e-5)


def test_features_are_the_input_of_the_linear_layer():
    network = seeded(ResidualNet(8, width=4, order="pre-activation", padding="none"))
    dense = Dense(network, (25, 25))
    x = torch.randn(1, 3, *dense.window(4, 4))
    with torch.inference_mode():
        logits, features = dense.logits_and_features(x)
        again = network.linear(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-5)
        assert torch.equal(logits, dense.logits(x))
        torch.testing.assert_close(
            features[:, :, 0, 0],
            network.embed(x[:, :, :25, :25]),
            rtol=1e-4,
            atol=1e-5,
        )


def test_with_padding_the_units_that_no_rim_reaches_are_the_same():
    """Units that zero padding does not reach are equal in windows and patches."""
    network = seeded(ResidualNet(14, width=4))
    size = 2 * network.description.footprint
    dense = Dense(network, (size, size))
    tall, wide = dense.window(4, 4)
    x = torch.randn(1, 3, tall, wide)
    inner = x[:, :, dense.before : dense.before + size, dense.before : dense.before + size]
    with torch.inference_mode():
        units = network.stages(network.stem(inner))
        far = -(-network.description.footprint // 2 // dense.stride)
        middle = units[:, :, far:-far, far:-far].mean(dim=(2, 3))
        other = seeded(ResidualNet(14, width=4, padding="none"))
        other.load_state_dict(network.state_dict())
        start = dense.before + far * dense.stride - (other.description.footprint - 1) // 2
        length = other.description.footprint + dense.stride * (units.shape[2] - 2 * far - 1)
        same = other.stages(other.stem(x[:, :, start : start + length, start : start + length]))
        torch.testing.assert_close(same.mean(dim=(2, 3)), middle, rtol=1e-4, atol=1e-5)
    assert dense.units == (units.shape[2], units.shape[3])


@pytest.mark.parametrize("name", NETS)
def test_length_and_footprint_are_those_of_the_network(name):
    description = unpadded(NETS[name], width=2)
    network = seeded(description)
    foot = description.footprint
    for size in (foot, foot + 3, foot + description.stride):
        units = network.stages(network.stem(torch.zeros(1, 3, size, size))).shape[2]
        assert units == description.units(size)
    assert description.units(foot) == 1
    assert description.units(foot - 1) < 1
    padded = ResidualNet(**{**vars(description), "padding": "zeros"})
    for size in (16, 33):
        units = seeded(padded).stages(seeded(padded).stem(torch.zeros(1, 3, size, size))).shape[2]
        assert units == padded.units(size)


def test_the_gradient_of_a_unit_covers_the_footprint_and_no_more():
    description = ResidualNet(14, width=2, padding="none", order="pre-activation")
    network = seeded(description)
    foot = description.footprint
    x = torch.randn(1, 3, foot + 8, foot + 8, requires_grad=True)
    network.stages(network.stem(x))[0, :, 0, 0].sum().backward()
    seen = x.grad[0].abs().sum(0) > 0
    assert seen[:foot, :foot].any(0).all()
    assert not seen[foot:].any()
    assert not seen[:, foot:].any()


def test_a_dropped_block_keeps_the_size():
    network = seeded(ResidualNet(14, width=4, padding="none", levels=3, survival=0.5)).train()
    x = torch.randn(2, 3, 61, 61)
    for kept in ([True] * 6, [False] * 6, [True, False] * 3):
        assert network.stages(network.stem(x), kept).shape[2:] == (3, 3)


def test_too_small_patches_are_refused_in_one_line():
    with pytest.raises(OutcropError, match=r"ResNet-20 unpadded sees 81 × 81 .* 32 × 32"):
        cost_of(ResidualNet(20, padding="none"), 3, (32, 32), 10)
    padded, inside = (
        cost_of(ResidualNet(20, padding=padding), 3, (112, 112), 10)
        for padding in ("zeros", "none")
    )
    assert inside.multiply_adds < padded.multiply_adds
    assert inside.parameters == padded.parameters


def test_a_crop_larger_than_the_patch_is_refused_in_one_line():
    with pytest.raises(OutcropError, match=r"needs 25 × 25 pixels, and seen is 24; .* halvings"):
        ResidualNet(8, padding="none", seen=24)
    with pytest.raises(OutcropError, match=r"is to see 17 × 17 pixels, more than patches of 16 × "):
        ResidualNet(8, seen=17).check_size((16, 33))
    ResidualNet(8, padding="none", seen=24, halvings=1).check_size((24, 24))


def test_named_networks_are_padded():
    assert all(network.padding == "zeros" for network in NETWORKS.values())
