"""The cost of a network before it is built: parameters, multiply-adds and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.models.residual import ResidualBlock, ResidualNetwork

# Batch normalisation needs several values of a channel, and a 4 × 4 image ends in one.
_IMAGES = 2


@dataclass(frozen=True)
class Cost:
    """The cost of a network.

    Attributes:
        parameters: number of learnt numbers.
        multiply_adds: multiply-adds of convolutions and linear layer for one image, forward pass.
        activations: bytes of float32 activations of one image that are kept for the gradients; with
            recomputation the maximum at any time.
        blocks: number of residual blocks.
        expected_blocks: mean number of blocks that a training step computes.
        expected_saving: expected share of the multiply-adds that stochastic depth saves in a
            training step, 0 to below 1.
    """

    parameters: int
    multiply_adds: int
    activations: int
    blocks: int
    expected_blocks: float
    expected_saving: float


@dataclass(frozen=True)
class _Part:
    """The cost of one block, or of everything outside the blocks, for one image.

    Attributes:
        residual: multiply-adds that a dropped block saves.
        entering: bytes of the input.
        kept: bytes that are kept for the gradients.
    """

    parameters: int
    multiply_adds: int
    residual: int
    entering: int
    kept: int


def cost_of(
    network: ResidualNet, bands: int, size: tuple[int, int], classes: int, recompute: int = 0
) -> Cost:
    """Compute the cost of `network` without building it.

    Blocks of one shape cost the same: a network with few blocks is run on torch's meta device,
    which has shapes but no numbers, and its blocks are counted as often as `network` has them.

    Args:
        network: description of the network.
        bands, classes: number of bands of an image, and of classes.
        size: height and width of an image in pixels.
        recompute: as in `ResidualNetwork.recompute`.

    Raises:
        OutcropError: a number below 1.

    >>> cost = cost_of(ResidualNet(depth=20), bands=3, size=(32, 32), classes=10)
    >>> cost.parameters, round(cost.multiply_adds / 1e6, 1)
    (269722, 40.6)
    """
    for name, number in (("bands", bands), ("size", min(size)), ("classes", classes)):
        if number < 1:
            raise OutcropError(f"`{name}`", f"must be at least 1, not {number}")
    network.check_size(size)
    enough = _enough(network)
    shallow = replace(network, depth=enough * (9 if network.bottleneck else 6) + 2, survival=1.0)
    rest, measured = _measure(shallow, bands, size, classes)
    blocks = [
        measured[stage * enough + min(k, enough - 1)]
        for stage in range(3)
        for k in range(network.blocks)
    ]
    whole = [rest, *blocks]
    multiply_adds = sum(part.multiply_adds for part in whole)
    saved = sum(
        (1 - survival) * block.residual
        for survival, block in zip(network.survivals, blocks, strict=True)
    )
    if recompute:
        with torch.device("meta"):
            module = ResidualNetwork(network, bands, classes)
        module.recompute(recompute)
        activations = _most_kept(rest, blocks, module.segments)
    else:
        activations = sum(part.kept for part in whole)
    return Cost(
        parameters=sum(part.parameters for part in whole),
        multiply_adds=multiply_adds,
        activations=activations,
        blocks=len(blocks),
        expected_blocks=network.expected_blocks,
        expected_saving=saved / multiply_adds,
    )


def _enough(network: ResidualNet) -> int:
    """Number of blocks in a stage to measure: the first differs, the others are alike.

    Without padding, the image shrinks from block to block."""
    if network.padding == "none":
        return network.blocks
    return min(network.blocks, max(2, 2 ** (network.levels - 3)))


def _most_kept(rest: _Part, blocks: Sequence[_Part], segments: Sequence[range]) -> int:
    """Maximum number of bytes kept for one image, with recomputed `segments`.

    The maximum is at the beginning of the backward pass, or when it reaches a segment: the inputs
    of this and all earlier segments are kept, and all activations of this one.
    """
    again = {k for segment in segments for k in segment}
    last = sum(block.kept for k, block in enumerate(blocks) if k not in again)
    entered = list(accumulate(blocks[segment[0]].entering for segment in segments))
    within = [sum(blocks[k].kept for k in segment) for segment in segments]
    reached = [before + kept for before, kept in zip(entered, within, strict=True)]
    return rest.kept + max([sum(entered[-1:]) + last, *reached])


@lru_cache
def _measure(
    network: ResidualNet, bands: int, size: tuple[int, int], classes: int
) -> tuple[_Part, tuple[_Part, ...]]:
    """The cost outside the blocks, and of each block."""
    with torch.device("meta"):
        module = ResidualNetwork(network, bands, classes).train()
        images = torch.empty(_IMAGES, bands, *size).to(memory_format=torch.channels_last)
    multiply_adds = _multiply_adds(module, images)
    entering, kept = _memory(module, images)
    blocks = {
        name: _Part(
            parameters=_parameters(block),
            multiply_adds=multiply_adds[name],
            residual=multiply_adds[f"{name}.residual"],
            entering=entering[name],
            kept=kept[name],
        )
        for name, block in _blocks(module).items()
    }
    rest = _Part(
        parameters=_parameters(module) - sum(block.parameters for block in blocks.values()),
        multiply_adds=multiply_adds[""] - sum(block.multiply_adds for block in blocks.values()),
        residual=0,
        entering=0,
        kept=kept[""],
    )
    return rest, tuple(blocks.values())


def _blocks(module: ResidualNetwork) -> dict[str, ResidualBlock]:
    return {name: part for name, part in module.named_modules() if isinstance(part, ResidualBlock)}


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _multiply_adds(module: ResidualNetwork, images: Tensor) -> dict[str, int]:
    """Multiply-adds for one image, by the name of each module."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(images)
    root = type(module).__name__
    return {
        name.removeprefix(root).removeprefix("."): sum(counts.values()) // (2 * len(images))
        for name, counts in counter.get_flop_counts().items()
    }


def _memory(module: ResidualNetwork, images: Tensor) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes of the input of each block for one image, and bytes that are kept for its gradients.

    Both by the name of the block: the one that keeps a tensor first, or "" outside the blocks.
    """
    names = {f"{type(module).__name__}.{name}": name for name in _blocks(module)}
    entering: dict[str, int] = {}
    kept = dict.fromkeys(["", *names.values()], 0)
    seen = {tensor.untyped_storage() for tensor in (*module.parameters(), *module.buffers())}
    for name, block in _blocks(module).items():
        block.register_forward_pre_hook(
            lambda _, inputs, name=name: entering.update({name: inputs[0].nbytes // len(images)})
        )

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage not in seen:
            seen.add(storage)
            where = next((names[name] for name in tracker.parents if name in names), "")
            kept[where] += storage.nbytes()
        return tensor

    with (
        torch.enable_grad(),
        ModuleTracker() as tracker,
        saved_tensors_hooks(remember, lambda tensor: tensor),
    ):
        module(images)
    return entering, {name: bytes_ // len(images) for name, bytes_ in kept.items()}


def short(number: float, base: int = 1000) -> str:
    """A large number with three digits and a unit; for bytes with `base` 1024.

    >>> short(269_722), short(5_250_000_000), short(1_522_688, 1024)
    ('0.27 M', '5.25 G', '1.45 MiB')
    """
    power = 1 if number < 0.1 * base**2 else 2 if number < 999.5 * base**2 else 3
    unit = "kMG"[power - 1] if base == 1000 else ("KiB", "MiB", "GiB")[power - 1]
    return f"{float(f'{number / base**power:.3g}'):g} {unit}"
