"""Residual networks in torch: blocks, shortcut groups and the whole network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import reduce
from itertools import accumulate, islice, pairwise
from math import prod
from operator import mul
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from outcrop.models.architectures import ResidualNet
from outcrop.models.narrow import CHANNELS, NarrowConv2d

Kept = Sequence[bool]
T = TypeVar("T")

_COMPILATIONS = 64


class PaddedIdentity(nn.Module):
    """Option A of He et al. 2015: every `stride`-th pixel, and zeros in new channels.

    Half of the new channels precede the old ones, as in published weights.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        """`N × inputs × H × W` to `N × outputs × ⌈H / stride⌉ × ⌈W / stride⌉`."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class ResidualBlock(nn.Module):
    """A residual block: some convolutions and a shortcut around them.

    Attributes:
        activate: layers before the convolutions: none in the original order, normalisation and ReLU
            with pre-activation.
        residual: the convolutions, whose output is added to the shortcut.
        shortcut: identity, or a change of shape (options A and B).
        survival: probability of being kept in a training step.
        stride: stride of the block in pixels of its input.
        margin: number of input pixels on each side that the output does not cover; 0 with padding.
        compiled: `forward`, compiled for training, or None.
    """

    compiled: Callable[..., Tensor] | None = None

    def __init__(
        self, network: ResidualNet, inputs: int, outputs: int, stride: int, index: int
    ) -> None:
        super().__init__()
        self.original = network.order == "original"
        self.index = index
        self.survival = network.survivals[index]
        self.stride = stride
        self.margin = 0
        if network.padding == "none":
            self.margin = 1 if network.bottleneck else 1 + stride
        same = stride == 1 and inputs == outputs
        self.projects = not same and network.shortcut == "projection"
        if self.original:
            self.activate: nn.Module = nn.Identity()
        else:
            self.activate = nn.Sequential(
                OrderedDict(norm=nn.BatchNorm2d(inputs), relu=nn.ReLU(inplace=True))
            )
        self.residual = nn.Sequential(OrderedDict(_layers(network, inputs, outputs, stride)))
        if same:
            self.shortcut: nn.Module = nn.Identity()
        elif self.projects:
            self.shortcut = _projection(inputs, outputs, stride, self.original)
        else:
            self.shortcut = PaddedIdentity(inputs, outputs, stride)

    def length(self, length: int) -> int:
        """Rows or columns of the output, from those of the input."""
        return (length - 2 * self.margin - 1) // self.stride + 1

    def forward(self, x: Tensor, outer: Tensor | None = None) -> Tensor:
        """Compute the block if it is kept.

        In evaluation, the residual is multiplied by the survival probability (Huang et al. 2016,
        eq. 5).

        Args:
            x: `N × inputs × H × W`.
            outer: sum of the outer shortcuts that end at this block, `N × outputs × ...`.

        Returns:
            `N × outputs × length(H) × length(W)`.
        """
        activated = self.activate(x)
        residual = self.residual(activated)
        if not self.training and self.survival < 1:
            residual = residual * self.survival
        # In place: in the first stage, reading memory costs as much as a convolution.
        residual += self.shortcut(crop_to_output(self, activated if self.projects else x))
        return self._join(residual, outer)

    def skip(self, x: Tensor, outer: Tensor | None = None) -> Tensor:
        """Compute the block if it is dropped: its shortcut only, without convolutions."""
        x = crop_to_output(self, x)
        if outer is None and isinstance(self.shortcut, nn.Identity):
            return x  # In the original order it is already rectified.
        return self._join(self.shortcut(self.activate(x) if self.projects else x), outer)

    def _join(self, y: Tensor, outer: Tensor | None) -> Tensor:
        if outer is not None:
            y = y + outer
        return F.relu(y, inplace=True) if self.original else y


class ShortcutGroup(nn.Module):
    """Consecutive blocks or smaller groups, with or without a shortcut around all of them.

    In the original order, the shortcut is added before the activation of the last block, so that it
    passes through no activation (Zhang et al. 2016, eqs. 3 to 5).

    Attributes:
        shortcut: shortcut around all units, or None.
        segments: consecutive units whose activations are recomputed together for the gradients,
            from the first unit on.
    """

    def __init__(self, units: Mapping[str, Unit], shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self._names = tuple(units)
        for name, unit in units.items():
            self.add_module(name, unit)
        self.shortcut = shortcut
        self.segments: Sequence[slice] = ()

    @property
    def units(self) -> tuple[Unit, ...]:
        """Blocks or smaller groups, in order."""
        return tuple(cast("Unit", getattr(self, name)) for name in self._names)

    @property
    def stride(self) -> int:
        """Pixels of the input from one pixel of the output to the next."""
        return prod(unit.stride for unit in self.units)

    @property
    def margin(self) -> int:
        """Pixels of the input on each side that the output does not lie over."""
        jumps = accumulate((unit.stride for unit in self.units), mul, initial=1)
        return sum(unit.margin * before for unit, before in zip(self.units, jumps, strict=False))

    def length(self, length: int) -> int:
        """Rows or columns of the output, from those of the input."""
        return reduce(lambda left, unit: unit.length(left), self.units, length)

    def outer_shortcut(self, x: Tensor) -> Tensor:
        """The output of the shortcut around all units."""
        assert self.shortcut is not None
        return self.shortcut(crop_to_output(self, x))

    def forward(self, x: Tensor, kept: Kept | None = None, outer: Tensor | None = None) -> Tensor:
        """Compute all units; `kept`: for each block of the network whether it is computed."""
        if self.shortcut is not None:
            around = self.outer_shortcut(x)
            outer = around if outer is None else outer + around
        units, done = self.units, 0
        for segment in self.segments:
            part, done = units[segment], segment.stop
            x = recomputed(part, _through, part, x, kept, outer if done == len(units) else None)
        return _through(units[done:], x, kept, outer)


Unit = ResidualBlock | ShortcutGroup


def crop_to_output(unit: Unit, x: Tensor) -> Tensor:
    """Crop the input of a unit to the spatial extent of its output, for a shortcut around it."""
    if not unit.margin:
        return x
    rows, columns = (
        slice(unit.margin, unit.margin + unit.stride * (unit.length(length) - 1) + 1)
        for length in x.shape[2:]
    )
    return x[:, :, rows, columns]


def _through(units: Sequence[Unit], x: Tensor, kept: Kept | None, outer: Tensor | None) -> Tensor:
    """Compute consecutive units; outer shortcuts end at the last."""
    for unit in units:
        x = pass_block(unit, x, kept, outer if unit is units[-1] else None)
    return x


def pass_block(unit: Unit, x: Tensor, kept: Kept | None, outer: Tensor | None) -> Tensor:
    """Compute a block or group; a block that is not `kept` is skipped."""
    if isinstance(unit, ShortcutGroup):
        return unit(x, kept, outer)
    if kept is not None and not kept[unit.index]:
        return unit.skip(x, outer)
    if unit.compiled is not None and unit.training:
        return unit.compiled(x, outer)
    return unit(x, outer)


class CentreCrop(nn.Module):
    """Crops images to `seen` × `seen` pixels around the middle.

    The pixel at row and column `size // 2` gets row and column `seen // 2`.
    """

    def __init__(self, seen: int) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        """`N × bands × height × width` to `N × bands × seen × seen`."""
        top, left = crop_corner(self.seen, (x.shape[2], x.shape[3]))
        return x[:, :, top : top + self.seen, left : left + self.seen]


def crop_corner(seen: int | None, size: tuple[int, int]) -> tuple[int, int]:
    """Row and column of the upper-left pixel of the part that a network sees; None: all."""
    height, width = size
    return (0, 0) if seen is None else (height // 2 - seen // 2, width // 2 - seen // 2)


class ResidualNetwork(nn.Module):
    """A stem, three stages of residual blocks, global average pooling, and one linear layer.

    The stem begins with a crop if the network sees only a part of each image.

    The input is float32 `N × bands × height × width`, at least 4 × 4 pixels, or without padding the
    footprint; the output are logits, `N × classes`. Convolutions have He's normal initialisation
    (arXiv:1502.01852, eq. 10), except with `zero_init`.
    """

    def __init__(self, description: ResidualNet, bands: int, classes: int) -> None:
        super().__init__()
        self.description = description
        stem = description.width
        widths = [
            stem * description.widen * 2**stage * (4 if description.bottleneck else 1)
            for stage in range(3)
        ]
        self.stem = _stem(description, bands)
        self.stages = _stages(description, [stem, *widths])
        self.norm = (
            nn.BatchNorm2d(widths[-1]) if description.order == "pre-activation" else nn.Identity()
        )
        self.linear = nn.Linear(widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        if description.zero_init:
            for block in self.blocks:
                nn.init.zeros_(cast("nn.BatchNorm2d | nn.Conv2d", block.residual[-1]).weight)
        # Convolutions are faster in this format on CPUs and GPUs; inputs may have either.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def blocks(self) -> tuple[ResidualBlock, ...]:
        """All residual blocks, from input to output."""
        return tuple(module for module in self.modules() if isinstance(module, ResidualBlock))

    def forward(self, x: Tensor, kept: Kept | None = None) -> Tensor:
        """Logits, before softmax.

        Args:
            x: `N × bands × height × width`.
            kept: for each block whether it is computed, for the whole batch. None: drawn by torch's
                generator in training; all blocks in evaluation.
        """
        if kept is None and self.training and self.description.survival < 1:
            draws = torch.rand(len(self.description.survivals)).tolist()
            kept = draw_kept(self.description, draws)
        return self.linear(self.embed(x, kept))

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the features: the input of the linear layer."""
        features = self.embed(x)
        return self.linear(features), features

    @property
    def channels(self) -> int:
        """Number of features."""
        return self.linear.in_features

    def in_order(self, back: Sequence[int]) -> ResidualNetwork:
        """A copy for images whose band j is band `back[j]` of this network."""
        copy = deepcopy(self)
        first = next(layer for layer in copy.stem.modules() if isinstance(layer, nn.Conv2d))
        with torch.no_grad():
            order = torch.as_tensor(list(back), device=first.weight.device)
            first.weight.copy_(first.weight[:, order])
        return copy

    def embed(self, x: Tensor, kept: Kept | None = None) -> Tensor:
        """Features of images, the input of the linear layer: `N × channels`, non-negative.

        Arguments as of `forward`, but without `kept` all blocks are computed.
        """
        return self.pooled(self.stages(self.stem(x), kept))

    def rectified(self, x: Tensor) -> Tensor:
        """The output of the last stage, rectified."""
        if isinstance(self.norm, nn.BatchNorm2d):
            x = F.relu(self.norm(x), inplace=True)
        return x

    def pooled(self, units: Tensor) -> Tensor:
        """Features `N × channels` from the output of the last stage."""
        return torch.mean(self.rectified(units), dim=(2, 3))

    def compile_blocks(self) -> None:
        """Compile the training step of each block.

        Blocks of one shape share their code, and dropping is decided outside of it: there is one
        compilation for each shape, whatever the depth and the dropped blocks.
        """
        # Five shapes of blocks, times two batch sizes, times memory formats.
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, _COMPILATIONS)
        for block in self.blocks:
            # Deterministic: kernels that sum in another order are not selected by speed.
            block.compiled = torch.compile(
                block.forward, dynamic=False, options={"deterministic": True}
            )

    def recompute(self, segment: int) -> None:
        """Keep the activations of every `segment`-th block only, and recompute the others for the
        gradients; 0: keep all.

        The last blocks are not recomputed, as long as they need no more memory than one segment at
        the input, whose memory is free until the gradients get there.

        Source: Chen et al. 2016 (arXiv:1604.06174), section 4.
        """
        rows = list(self._rows())
        free = float(min(segment, len(rows[0][1])))
        for group, blocks in reversed(rows):
            # A stage that halves has half the pixels times channels of the one before.
            stage = blocks[0].index // self.description.blocks
            share = prod(2 / self.description.stride_of(k) ** 2 for k in range(1, stage + 1))
            last = min(len(blocks), int(free / share))
            free -= last * share
            stop = len(blocks) - last if segment else 0
            starts = range(0, stop, max(1, segment))
            group.segments = [slice(start, min(start + segment, stop)) for start in starts]

    @property
    def segments(self) -> tuple[range, ...]:
        """Indices of the blocks that are recomputed together, from input to output."""
        return tuple(
            range(blocks[segment][0].index, blocks[segment][-1].index + 1)
            for group, blocks in self._rows()
            for segment in group.segments
        )

    def _rows(self) -> Iterator[tuple[ShortcutGroup, list[ResidualBlock]]]:
        """The groups that contain blocks, with these blocks, from input to output."""
        for group in self.modules():
            if isinstance(group, ShortcutGroup):
                blocks = [unit for unit in group.units if isinstance(unit, ResidualBlock)]
                if blocks:
                    yield group, blocks


def draw_kept(description: ResidualNet, draws: Sequence[float]) -> tuple[bool, ...]:
    """The blocks that a training step computes, from a uniform draw in [0, 1) for each.

    >>> draw_kept(ResidualNet(depth=8, survival=0.5), [0.9, 0.6, 0.6])
    (False, True, False)
    """
    return tuple(
        draw < survival for draw, survival in zip(draws, description.survivals, strict=True)
    )


def _stem(network: ResidualNet, bands: int) -> nn.Sequential:
    large = network.stem == "large"
    kernel, stride = (7, 2) if large else (3, 1)
    layers: dict[str, nn.Module] = {}
    if network.seen is not None:
        layers["crop"] = CentreCrop(network.seen)
    layers["conv"] = _conv(network, bands, network.width, kernel, stride)
    if large or network.order == "original":
        layers |= {"norm": nn.BatchNorm2d(network.width), "relu": nn.ReLU(inplace=True)}
    if large:
        layers["pool"] = nn.MaxPool2d(3, stride=2, padding=_padding(network, 3))
    return nn.Sequential(OrderedDict(layers))


def _stages(network: ResidualNet, widths: Sequence[int]) -> ShortcutGroup:
    n = network.blocks
    stages: dict[str, Unit] = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        stride = network.stride_of(number)
        units = {"block1": ResidualBlock(network, inputs, outputs, stride, number * n)}
        for k in range(1, n):
            block = ResidualBlock(network, outputs, outputs, 1, number * n + k)
            units[f"block{k + 1}"] = block
        stages[f"stage{number + 1}"] = _divide(
            network, units, network.levels - 3, inputs, outputs, stride
        )
    root = None
    if network.levels >= 2:
        root = _outer(network, widths[0], widths[-1], 2**network.halvings)
    return ShortcutGroup(stages, root)


def _divide(
    network: ResidualNet,
    units: Mapping[str, Unit],
    levels: int,
    inputs: int,
    outputs: int,
    stride: int,
) -> ShortcutGroup:
    """A group of blocks, halved `levels` times, with a shortcut around each half.

    With `levels` below 0 there is no shortcut around the group itself either.
    """
    around = _outer(network, inputs, outputs, stride) if levels >= 0 else None
    if levels <= 0:
        return ShortcutGroup(units, around)
    middle = (len(units) + 1) // 2
    first, second = dict(islice(units.items(), middle)), dict(islice(units.items(), middle, None))
    halves: dict[str, Unit] = {
        "first": _divide(network, first, levels - 1, inputs, outputs, stride),
        "second": _divide(network, second, levels - 1, outputs, outputs, 1),
    }
    return ShortcutGroup(halves, around)


def _outer(network: ResidualNet, inputs: int, outputs: int, stride: int) -> nn.Module:
    """An outer shortcut: a projection if the shape changes (Zhang et al. 2016, section 4.2)."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return _projection(inputs, outputs, stride, network.order == "original")


def _projection(inputs: int, outputs: int, stride: int, normalised: bool) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
    if not normalised:
        return conv
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(outputs)))


def _layers(
    network: ResidualNet, inputs: int, outputs: int, stride: int
) -> Iterator[tuple[str, nn.Module]]:
    """The convolutions of a block and the layers between them, by name."""
    if network.bottleneck:
        inner = outputs // 4
        convs = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
    else:
        convs = [(inputs, outputs, 3, stride), (outputs, outputs, 3, 1)]
    for number, (before, after, kernel, step) in enumerate(convs, start=1):
        if network.order == "pre-activation" and number > 1:
            yield f"norm{number}", nn.BatchNorm2d(before)
            yield f"relu{number}", nn.ReLU(inplace=True)
        yield f"conv{number}", _conv(network, before, after, kernel, step)
        if network.order == "original":
            yield f"norm{number}", nn.BatchNorm2d(after)
            if number < len(convs):
                yield f"relu{number}", nn.ReLU(inplace=True)


def _conv(network: ResidualNet, inputs: int, outputs: int, kernel: int, stride: int) -> nn.Conv2d:
    padding = _padding(network, kernel)
    if (kernel, stride, padding) == (3, 1, 1) and inputs == outputs in CHANNELS:
        return NarrowConv2d(inputs)
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)


def _padding(network: ResidualNet, kernel: int) -> int:
    return kernel // 2 if network.padding == "zeros" else 0


def recomputed(modules: Sequence[nn.Module], function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)`, with only the arguments kept for the gradients.

    The second pass does not update the running statistics of batch normalisation in `modules`,
    which `function` calls: gradients, weights and statistics are those of a single pass, bit by
    bit.

    Source: Chen et al. 2016, Training deep nets with sublinear memory cost (arXiv:1604.06174).
    """
    if not torch.is_grad_enabled():
        return function(*arguments)
    return checkpoint(
        function,
        *arguments,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _statistics_stay(modules)),
    )


@contextmanager
def _statistics_stay(modules: Sequence[nn.Module]) -> Iterator[None]:
    norms = [
        part for module in modules for part in module.modules() if isinstance(part, nn.BatchNorm2d)
    ]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
