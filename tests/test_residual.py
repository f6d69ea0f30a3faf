import json
import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from outcrop.errors import OutcropError
from outcrop.models.architectures import NETWORKS, ResidualNet
from outcrop.models.factory import build
from outcrop.models.residual import ResidualBlock, ResidualNetwork, draw_kept
from tests.shared import DATA, needs_shared

WIDE = ResidualNet(10, 4, widen=2, order="pre-activation", shortcut="projection")
RELATIVES = {
    "original": ResidualNet(14, 4),
    "projection": ResidualNet(14, 4, shortcut="projection"),
    "pre-activation": ResidualNet(14, 4, order="pre-activation"),
    "wide": WIDE,
    "bottleneck": ResidualNet(11, 4, bottleneck=True),
    "pre-activation bottleneck": ResidualNet(20, 4, order="pre-activation", bottleneck=True),
    "large stem": ResidualNet(8, 4, stem="large"),
    "large stem, pre-activation": ResidualNet(8, 4, order="pre-activation", stem="large"),
    "levels 2": ResidualNet(14, 4, levels=2),
    "levels 3": ResidualNet(14, 4, levels=3),
    "levels 4": ResidualNet(14, 4, levels=4),
    "levels 5": ResidualNet(26, 4, levels=5),
    "levels 3, wide": replace(WIDE, levels=3),
    "stochastic": ResidualNet(14, 4, survival=0.5),
    "levels 3, wide, stochastic": replace(WIDE, depth=16, levels=3, survival=0.5),
}
every_relative = pytest.mark.parametrize("description", RELATIVES.values(), ids=RELATIVES)


def seeded(description: ResidualNet, bands: int = 3, classes: int = 10) -> ResidualNetwork:
    torch.manual_seed(0)
    return build(description, bands, classes)


def parameters(name: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build(NETWORKS[name], bands=3, classes=10).parameters())


# Published figures


@pytest.mark.parametrize(
    ("name", "millions", "digits"),
    [
        ("resnet20", 0.27, 2),  # He et al. 2015, Table 6
        ("resnet32", 0.46, 2),
        ("resnet44", 0.66, 2),
        ("resnet56", 0.85, 2),
        ("resnet110", 1.7, 1),
        ("resnet1202", 19.4, 1),
        ("preresnet164", 1.7, 1),  # He et al. 2016, Table 4
        ("wrn16-4", 2.7, 1),  # Zagoruyko and Komodakis 2016, Tables 4 and 5
        ("wrn28-10", 36.5, 1),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, millions: float, digits: int) -> None:
    assert round(parameters(name) / 1e6, digits) == millions


def test_wide_ror_has_the_parameters_of_the_paper_within_its_rounding() -> None:
    # Zhang et al. 2016 print 13.3 M for RoR-3-WRN58-4. The rule that gives the published counts of
    # the other wide networks gives 13.6 M for WRN-58-4 without any further shortcut.
    assert parameters("wrn58-4") / 1e6 == pytest.approx(13.3, rel=0.03)
    assert parameters("ror3-wrn58-4-sd") / 1e6 == pytest.approx(13.3, rel=0.03)


def ours(name: str) -> str:
    """Our name for a tensor of the published ResNet-20."""
    name = re.sub(
        r"layer(\d)\.(\d)\.",
        lambda m: f"stages.stage{m[1]}.block{int(m[2]) + 1}.residual.",
        name,
    )
    name = name.replace("bn", "norm")
    return re.sub(r"^(conv|norm)1\.", r"stem.\1.", name)


@needs_shared
def test_published_weights_give_the_published_logits() -> None:
    published = load_file(DATA / "resnet20-published.safetensors")
    example = np.load(DATA / "resnet20-published-logits.npz")
    network = build(ResidualNet(20), bands=3, classes=10).eval()
    missing, unexpected = network.load_state_dict(
        {ours(name): tensor for name, tensor in published.items()}, strict=False
    )
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)

    images = (example["images"] / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    with torch.inference_mode():
        logits = network(torch.from_numpy(images).float().permute(0, 3, 1, 2))
    np.testing.assert_allclose(logits.numpy(), example["logits"], atol=1e-4)


# Every relative


@every_relative
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (32, 20)])
def test_any_size_and_every_parameter_learns(
    description: ResidualNet, size: tuple[int, int]
) -> None:
    network = seeded(description, bands=5, classes=3)
    logits = network(torch.randn(6, 5, *size), kept=[True] * len(network.blocks))
    assert logits.shape == (6, 3)
    F.cross_entropy(logits, torch.arange(6) % 3).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@every_relative
def test_description_survives_json(description: ResidualNet) -> None:
    assert ResidualNet(**json.loads(json.dumps(asdict(description)))) == description


@every_relative
def test_recomputed_activations_change_nothing(description: ResidualNet) -> None:
    once = seeded(description).train()
    twice = deepcopy(once)
    twice.recompute(2)
    kept = [index % 3 != 1 for index in range(len(once.blocks))]
    for _ in range(2):
        images = torch.randn(4, 3, 9, 8)
        losses = [network(images, kept).square().sum() for network in (once, twice)]
        assert torch.equal(*losses)
        for loss in losses:
            loss.backward()
    for (name, one), two in zip(once.named_parameters(), twice.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None), name
        assert one.grad is None or torch.equal(one.grad, two.grad), name
    for (name, one), two in zip(once.named_buffers(), twice.buffers(), strict=True):
        assert torch.equal(one, two), name


def test_recomputing_keeps_less() -> None:
    def kept_bytes(segment: int) -> int:
        network = seeded(ResidualNet(62, 4)).train()
        network.recompute(segment)
        storages = {}

        def remember(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            loss = network(torch.randn(8, 3, 16, 16)).sum()
        assert loss.requires_grad
        weights = sum(p.untyped_storage().nbytes() for p in network.parameters())
        return sum(storages.values()) - weights

    assert kept_bytes(2) < 0.3 * kept_bytes(0)


def test_convolutions_start_from_he_s_distribution() -> None:
    weight = seeded(ResidualNet(depth=20)).blocks[-1].residual.conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


def test_memory_order_of_channels_does_not_matter() -> None:
    network = build(ResidualNet(depth=8, width=4), 3, 2).eval()
    x = torch.randn(2, 3, 9, 9)
    last = network(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(network(x), last)


def test_a_large_stem_makes_a_large_image_cheap() -> None:
    def pixels(description: ResidualNet) -> int:
        network = seeded(description, bands=1)
        return network.stem(torch.zeros(1, 1, 150, 150)).shape[2:].numel()

    assert pixels(ResidualNet(20)) == 150 * 150
    assert pixels(ResidualNet(20, stem="large")) == 38 * 38


# Block order, by the papers' equations


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(norm, nn.BatchNorm2d)
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
    scaled = (x - mean) / (variance + norm.eps).sqrt()
    return scaled * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, None, conv.stride, conv.padding)


def randomise_norms(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)


def test_the_original_block_is_activation_after_sum() -> None:
    block = seeded(RELATIVES["original"]).blocks[1].train()
    randomise_norms(block)
    x, layers = torch.rand(4, 4, 6, 6), block.residual
    inner = normalise(layers.norm1, convolve(layers.conv1, x)).relu()
    residual = normalise(layers.norm2, convolve(layers.conv2, inner))
    torch.testing.assert_close(block(x), (residual + x).relu())


def test_pre_activation_leaves_the_shortcut_alone() -> None:
    network = seeded(RELATIVES["wide"])
    randomise_norms(network)
    changing, plain = network.blocks[0], seeded(replace(WIDE, depth=16)).blocks[1]
    for block, channels in ((changing.train(), 4), (plain.train(), 8)):
        x, layers = torch.randn(4, channels, 6, 6), block.residual
        activated = normalise(block.activate.norm, x).relu()
        inner = normalise(layers.norm2, convolve(layers.conv1, activated)).relu()
        residual = convolve(layers.conv2, inner)
        shortcut = convolve(block.shortcut, activated) if block is changing else x
        torch.testing.assert_close(block(x), residual + shortcut)


def test_zero_padding_takes_every_second_pixel_and_centres_the_channels() -> None:
    block = seeded(RELATIVES["original"]).blocks[2]
    x = torch.rand(1, 4, 5, 5)
    padded = block.shortcut(x)
    assert padded.shape == (1, 8, 3, 3)
    assert torch.equal(padded[:, 2:6], x[:, :, ::2, ::2])
    assert not padded[:, :2].any()
    assert not padded[:, 6:].any()


# Levels of shortcuts


def silence(network: ResidualNetwork) -> None:
    """Set the residual of every block to zero."""
    for block in network.blocks:
        norms = [part for part in block.residual.modules() if isinstance(part, nn.BatchNorm2d)]
        nn.init.zeros_(norms[-1].weight)
        nn.init.zeros_(norms[-1].bias)


def test_three_levels_add_the_stage_s_and_the_root_s_input_before_the_last_activation() -> None:
    network = seeded(RELATIVES["levels 3"]).eval()
    silence(network)
    root, stages = network.stages.shortcut, network.stages
    x = network.stem(torch.randn(2, 3, 8, 8))
    # Blocks without a residual give their input, padded if the shape changes (He et al., option A).
    first = (x + x).relu()
    pad = stages.stage2.block1.shortcut
    second = (pad(first) + stages.stage2.shortcut(first)).relu()
    third = (pad_of(stages.stage3)(second) + stages.stage3.shortcut(second) + root(x)).relu()
    torch.testing.assert_close(network.stages(x), third)


def pad_of(stage: nn.Module) -> nn.Module:
    return stage.block1.shortcut


@pytest.mark.parametrize(("levels", "outer"), [(1, 0), (2, 1), (3, 4), (4, 10), (5, 22)])
def test_each_level_has_its_shortcuts(levels: int, outer: int) -> None:
    network = seeded(ResidualNet(26, 4, levels=levels))
    nests = [module for module in network.modules() if hasattr(module, "units")]
    assert sum(nest.shortcut is not None for nest in nests) == outer
    assert [block.index for block in network.blocks] == list(range(12))


# Stochastic depth


def test_survival_falls_linearly_or_not_at_all() -> None:
    # Huang et al. 2016: with 54 blocks and p_L = 0.5 about 40 are kept.
    assert round(ResidualNet(110, survival=0.5).expected_blocks) == 40
    assert ResidualNet(8, survival=0.4).survivals == pytest.approx((0.8, 0.6, 0.4))
    constant = ResidualNet(8, survival=0.4, survival_schedule="constant")
    assert constant.survivals == (0.4, 0.4, 0.4)
    assert ResidualNet(20).survivals == (1.0,) * 9


def count_convolutions(network: ResidualNetwork, kept: list[bool]) -> dict[int, int]:
    """The number of convolutions that the residual of each block computed."""
    counts: dict[int, int] = {}
    hooks = [
        part.register_forward_hook(
            lambda *_, index=block.index: counts.update({index: counts.get(index, 0) + 1})
        )
        for block in network.blocks
        for part in block.residual.modules()
        if isinstance(part, nn.Conv2d)
    ]
    network(torch.randn(4, 3, 8, 8), kept).sum().backward()
    for hook in hooks:
        hook.remove()
    return counts


@pytest.mark.parametrize(
    "name", ["stochastic", "levels 3, wide, stochastic", "pre-activation bottleneck"]
)
def test_a_dropped_block_is_not_computed_forward_or_backward(name: str) -> None:
    network = seeded(RELATIVES[name]).train()
    kept = [index % 2 == 0 for index in range(len(network.blocks))]
    statistics = {name: buffer.clone() for name, buffer in network.named_buffers()}
    counts = count_convolutions(network, kept)
    assert set(counts) == {index for index, one in enumerate(kept) if one}
    for block in network.blocks:
        gradients = [parameter.grad is not None for parameter in block.residual.parameters()]
        assert all(gradients) if kept[block.index] else not any(gradients)
    after = dict(network.named_buffers())
    for name, before in statistics.items():
        if ".residual." in name:
            block = network.get_submodule(name.split(".residual.")[0])
            assert torch.equal(after[name], before) != kept[block.index]


def test_without_its_dropped_blocks_the_network_is_a_shallower_one() -> None:
    deep, shallow = seeded(ResidualNet(14, 4)).train(), seeded(ResidualNet(8, 4)).train()
    weights = {name: tensor for name, tensor in deep.state_dict().items() if ".block2." not in name}
    shallow.load_state_dict(weights)
    images = torch.randn(4, 3, 8, 8)
    assert torch.equal(deep(images, [True, False] * 3), shallow(images))


def test_evaluation_scales_each_residual_by_its_survival_probability() -> None:
    stochastic = seeded(RELATIVES["stochastic"]).eval()
    for block in stochastic.blocks:
        x = torch.rand(2, 4 * 2 ** (block.index // 2), 8, 8)[:, : channels_into(block)]
        expected = (block.survival * block.residual(x) + block.shortcut(x)).relu()
        torch.testing.assert_close(block(x), expected)


def channels_into(block: ResidualBlock) -> int:
    return block.residual.conv1.in_channels


def test_training_keeps_all_of_a_kept_residual() -> None:
    block = seeded(RELATIVES["stochastic"]).blocks[1].train()
    x = torch.rand(2, 4, 8, 8)
    torch.testing.assert_close(block(x), (block.residual(x) + x).relu())


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 1), st.sampled_from(["linear", "constant"]))
def test_blocks_are_kept_as_often_as_they_survive(survival: float, schedule: str) -> None:
    description = ResidualNet(20, survival=survival, survival_schedule=schedule)
    random = np.random.default_rng(0)
    drawn = np.array([draw_kept(description, random.random(9).tolist()) for _ in range(2000)])
    np.testing.assert_allclose(drawn.mean(axis=0), description.survivals, atol=0.05)


def test_a_network_in_training_draws_for_itself_and_a_seed_decides() -> None:
    network = seeded(ResidualNet(20, 4, survival=0.3)).train()
    images = torch.randn(4, 3, 8, 8)

    def drawn(seed: int) -> list[bool]:
        torch.manual_seed(seed)
        network.zero_grad(set_to_none=True)
        network(images).sum().backward()
        return [block.residual.conv1.weight.grad is not None for block in network.blocks]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 1
    network.eval()
    assert torch.equal(network(images), network(images))


def test_dropped_blocks_cause_no_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        compiled.append(graph)
        return graph

    original = torch.compile
    torch._dynamo.reset()
    monkeypatch.setattr(
        torch, "compile", lambda f, options, **rest: original(f, backend=backend, **rest)
    )
    network = seeded(ResidualNet(20, 4, survival=0.5)).train()
    plain = deepcopy(network)
    network.compile_blocks()
    images = torch.randn(4, 3, 8, 8)
    kept = [True] * 9
    assert torch.equal(network(images, kept), plain(images, kept))
    shapes = len(compiled)
    assert shapes <= 5  # three stages, and two blocks that change the shape
    for index in range(9):
        kept = [k != index and k % 2 == 0 for k in range(9)]
        torch.testing.assert_close(network(images, kept), plain(images, kept))
    assert len(compiled) == shapes
    for size in (5, 6):
        network(images[:1].repeat(size, 1, 1, 1), [True] * 9)
    assert len(compiled) == 3 * shapes
    torch._dynamo.reset()


# Descriptions


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": 2},
        {"depth": 18},
        {"depth": 21},
        {"depth": -4},
        {"depth": 20, "width": 0},
        {"depth": 14, "bottleneck": True},
        {"depth": 14, "levels": 5},
        {"levels": 0},
        {"widen": 0},
        {"survival": 0.0},
        {"survival": 1.1},
        {"survival": float("nan")},
        {"order": "post"},
        {"shortcut": "C"},
        {"stem": "huge"},
        {"survival_schedule": "cosine"},
    ],
)
def test_impossible_networks_are_refused(wrong: dict) -> None:
    with pytest.raises(OutcropError, match="network: "):
        ResidualNet(**wrong)


def test_names_and_titles() -> None:
    assert ResidualNet.named("wrn28-10").title == "WRN-28-10"
    assert ResidualNet.named("ror3-110-sd").title == "RoR-3-ResNet-110 + stochastic depth"
    with pytest.raises(OutcropError, match="did you mean resnet110"):
        ResidualNet.named("resnet111")


def test_descriptions_load_without_torch() -> None:
    code = (
        "import outcrop.models.architectures, outcrop.training.recipe, sys;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("order", ["original", "pre-activation"])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_blocks_that_begin_at_zero_are_their_shortcuts(order: str, bottleneck: bool) -> None:
    network = ResidualNet(depth=29 if bottleneck else 20, order=order, bottleneck=bottleneck)  # type: ignore[arg-type]
    zeroed = replace(network, zero_init=True)
    x = torch.randn(4, 3, 16, 16)
    module = build(zeroed, 3, 10).train()
    none = (False,) * len(module.blocks)
    torch.testing.assert_close(module(x), module(x, none))
    assert not torch.allclose(build(network, 3, 10).train()(x), module(x))
    module(x).sum().backward()
    moved = [block.residual[-1].weight.grad for block in module.blocks]
    assert all(gradient is not None and gradient.any() for gradient in moved)


def test_activations_grow_with_depth_unless_blocks_begin_at_zero() -> None:
    x = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def passed(depth: int, zero_init: bool) -> float:
        module = build(ResidualNet(depth, zero_init=zero_init), 3, 10).train()
        with torch.no_grad():
            return float(module.embed(x).mean())

    torch.manual_seed(0)
    grown = passed(182, False) / passed(20, False)
    assert 2 < grown < 4.5  # the root of 90 blocks over 9 is 3.2
    assert passed(182, True) == pytest.approx(passed(20, True), rel=0.5)
