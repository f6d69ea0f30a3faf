"""The residual family in torch: one block, nested as deep and as often as its description says."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import reduce
from itertools import accumulate, pairwise
from math import prod
from operator import mul
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outcrop.models.architectures import ResidualNet
from outcrop.models.narrow import CHANNELS, NarrowConv2d
from outcrop.models.recompute import recomputed

Kept = Sequence[bool]

_COMPILATIONS = 64


class PaddedIdentity(nn.Module):
    """Option A of He et al. 2015: every `stride`-th pixel, and new channels filled with zeros.

    The zeros go half before and half after the old channels, as in the published weights.
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
    """A few convolutions, and a shortcut around them.

    Attributes:
        activate: what precedes the convolutions: nothing in the original order, normalisation and
            ReLU with pre-activation.
        residual: the convolutions; what the block adds to its shortcut.
        shortcut: the identity, or what changes its shape (options A and B).
        survival: the chance to be kept in a training step.
        stride: pixels of the input from one pixel of the output to the next.
        margin: pixels of the input on each side that the output does not lie over; 0 with padding.
        compiled: `forward` as compiled for training, if it is.
    """

    compiled: Callable[..., Tensor] | None = None

    def __init__(
        self,
        network: ResidualNet,
        inputs: int,
        outputs: int,
        stride: int,
        index: int,
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
        """The block when it is kept.

        When it is not training, the residual is scaled by its survival probability (Huang et al.
        2016, eq. 5).

        Args:
            x: `N × inputs × H × W`.
            outer: what shortcuts of higher levels that end here add, `N × outputs × ...`.

        Returns:
            `N × outputs × length(H) × length(W)`.
        """
        activated = self.activate(x)
        residual = self.residual(activated)
        if not self.training and self.survival < 1:
            residual = residual * self.survival
        # In place: in the first stage, a pass over memory costs as much as a convolution.
        residual += self.shortcut(crop_to_output(self, activated if self.projects else x))
        return self._join(residual, outer)

    def skip(self, x: Tensor, outer: Tensor | None = None) -> Tensor:
        """The block when it is dropped: its shortcut alone; no convolution of it is computed."""
        x = crop_to_output(self, x)
        if outer is None and isinstance(self.shortcut, nn.Identity):
            return x  # In the original order it is not negative already.
        return self._join(self.shortcut(self.activate(x) if self.projects else x), outer)

    def _join(self, y: Tensor, outer: Tensor | None) -> Tensor:
        if outer is not None:
            y = y + outer
        return F.relu(y, inplace=True) if self.original else y


class ShortcutGroup(nn.Module):
    """Blocks or smaller groups, one after the other, and perhaps a shortcut around all of them.

    In the original order the shortcut's end is added before the activation of the last block, so
    that it passes none (Zhang et al. 2016, eqs. 3 to 5).

    Attributes:
        shortcut: around all units, if there is one.
        segments: units that are computed anew together when gradients need what is in them; one
            segment after the other from the first unit on.
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
        """Blocks or smaller groups, in their order."""
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
        """What the shortcut carries around all units."""
        assert self.shortcut is not None
        return self.shortcut(crop_to_output(self, x))

    def forward(self, x: Tensor, kept: Kept | None = None, outer: Tensor | None = None) -> Tensor:
        """Through all units; `kept` says which blocks of the network are computed, None all."""
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
    """The part of a unit's input that its output lies over: what a shortcut around it takes."""
    if not unit.margin:
        return x
    rows, columns = (
        slice(unit.margin, unit.margin + unit.stride * (unit.length(length) - 1) + 1)
        for length in x.shape[2:]
    )
    return x[:, :, rows, columns]


def _through(units: Sequence[Unit], x: Tensor, kept: Kept | None, outer: Tensor | None) -> Tensor:
    """One unit after the other; the shortcuts of higher levels end in the last."""
    for unit in units:
        x = pass_block(unit, x, kept, outer if unit is units[-1] else None)
    return x


def pass_block(unit: Unit, x: Tensor, kept: Kept | None, outer: Tensor | None) -> Tensor:
    """Through a block or group; a block that is not `kept` is skipped."""
    if isinstance(unit, ShortcutGroup):
        return unit(x, kept, outer)
    if kept is not None and not kept[unit.index]:
        return unit.skip(x, outer)
    if unit.compiled is not None and unit.training:
        return unit.compiled(x, outer)
    return unit(x, outer)


class CentreCrop(nn.Module):
    """The part of pictures around their middle pixel, row and column `size // 2`, which has row
    and column `seen // 2` in it."""

    def __init__(self, seen: int) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        """`N × bands × height × width` to `N × bands × seen × seen`."""
        top, left = crop_corner(self.seen, (x.shape[2], x.shape[3]))
        return x[:, :, top : top + self.seen, left : left + self.seen]


def crop_corner(seen: int | None, size: tuple[int, int]) -> tuple[int, int]:
    """Row and column where the part of a picture begins that a network sees; None sees it all."""
    height, width = size
    return (0, 0) if seen is None else (height // 2 - seen // 2, width // 2 - seen // 2)


class ResidualNetwork(nn.Module):
    """A stem, three stages of residual blocks, global average pooling, and one linear layer.

    The stem begins with what is seen of a picture, if that is not all of it.

    Takes float32 `N × bands × height × width` of any size from 4 × 4 up, or without padding from
    the footprint up, and gives logits, `N × classes`. Convolutions start from He's normal
    initialisation (arXiv:1502.01852, eq. 10), unless `zero_init` says otherwise.
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
        # Convolutions are faster so, on CPUs as on GPUs; inputs of either order are welcome.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def blocks(self) -> tuple[ResidualBlock, ...]:
        """All residual blocks, from input to output."""
        return tuple(module for module in self.modules() if isinstance(module, ResidualBlock))

    def forward(self, x: Tensor, kept: Kept | None = None) -> Tensor:
        """Logits; the softmax is outside.

        Args:
            x: `N × bands × height × width`.
            kept: for each block whether it is computed, the same for the whole batch. Without it,
                training draws it with torch's generator, and evaluation computes all blocks.
        """
        if kept is None and self.training and self.description.survival < 1:
            draws = torch.rand(len(self.description.survivals)).tolist()
            kept = draw_kept(self.description, draws)
        return self.linear(self.embed(x, kept))

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and what the linear layer sees."""
        features = self.embed(x)
        return self.linear(features), features

    @property
    def channels(self) -> int:
        """How many numbers the linear layer sees."""
        return self.linear.in_features

    def in_order(self, back: Sequence[int]) -> ResidualNetwork:
        """A copy for images whose band j is band `back[j]` here."""
        copy = deepcopy(self)
        first = next(layer for layer in copy.stem.modules() if isinstance(layer, nn.Conv2d))
        with torch.no_grad():
            order = torch.as_tensor(list(back), device=first.weight.device)
            first.weight.copy_(first.weight[:, order])
        return copy

    def embed(self, x: Tensor, kept: Kept | None = None) -> Tensor:
        """What the linear layer sees of pictures, `N × channels`; not negative.

        Args:
            x: `N × bands × height × width`.
            kept: for each block whether it is computed; None is all.
        """
        return self.pooled(self.stages(self.stem(x), kept))

    def rectified(self, x: Tensor) -> Tensor:
        """The units that are averaged, from what the last stage gave."""
        if isinstance(self.norm, nn.BatchNorm2d):
            x = F.relu(self.norm(x), inplace=True)
        return x

    def pooled(self, units: Tensor) -> Tensor:
        """What the linear layer sees, `N × channels`, of what the last stage gave."""
        return torch.mean(self.rectified(units), dim=(2, 3))

    def compile_blocks(self) -> None:
        """Compile what each block computes in training.

        Blocks of one shape share their code, and whether a block is kept is decided outside of it:
        however deep the network and whichever blocks are dropped, there is one compilation for
        each shape.
        """
        # Five shapes of blocks, times the sizes of batches (which differ by one), times orders.
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, _COMPILATIONS)
        for block in self.blocks:
            # Of kernels that sum in different orders none is chosen by its speed.
            block.compiled = torch.compile(
                block.forward, dynamic=False, options={"deterministic": True}
            )

    def recompute(self, segment: int) -> None:
        """Keep the activations of every `segment`-th block only, and compute the others anew when
        gradients need them; 0 keeps them all.

        The last blocks are not computed anew, as many of them as keep together no more than one
        segment at the input does: its memory is free until the gradients get there.

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
        """The indices of the blocks that are computed anew together, from input to output."""
        return tuple(
            range(blocks[segment][0].index, blocks[segment][-1].index + 1)
            for group, blocks in self._rows()
            for segment in group.segments
        )

    def _rows(self) -> Iterator[tuple[ShortcutGroup, list[ResidualBlock]]]:
        """The groups that hold blocks, with these, from input to output."""
        for group in self.modules():
            if isinstance(group, ShortcutGroup):
                blocks = [unit for unit in group.units if isinstance(unit, ResidualBlock)]
                if blocks:
                    yield group, blocks


def draw_kept(description: ResidualNet, draws: Sequence[float]) -> tuple[bool, ...]:
    """Which blocks one training step computes, from one uniform draw in [0, 1) for each.

    >>> draw_kept(ResidualNet(depth=8, survival=0.5), [0.9, 0.6, 0.6])
    (False, True, False)
    """
    return tuple(
        draw < survival for draw, survival in zip(draws, description.survivals, strict=True)
    )


def _stem(network: ResidualNet, bands: int) -> nn.Sequential:
    large = network.stem == "large"
    layers: dict[str, nn.Module] = (
        {} if network.seen is None else {"crop": CentreCrop(network.seen)}
    )
    layers |= {
        "conv": _conv(network, bands, network.width, 7, 2)
        if large
        else _conv(network, bands, network.width, 3, 1)
    }
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
        blocks = [
            ResidualBlock(
                network,
                inputs if k == 0 else outputs,
                outputs,
                stride if k == 0 else 1,
                index=number * n + k,
            )
            for k in range(n)
        ]
        around = _outer(network, inputs, outputs, stride) if network.levels >= 3 else None
        units = {f"block{k}": block for k, block in enumerate(blocks, start=1)}
        stages[f"stage{number + 1}"] = _divide(
            network, units, network.levels - 3, around, (inputs, outputs, stride)
        )
    root = (
        _outer(network, widths[0], widths[-1], 2**network.halvings) if network.levels >= 2 else None
    )
    return ShortcutGroup(stages, root)


def _divide(
    network: ResidualNet,
    units: Mapping[str, Unit],
    levels: int,
    around: nn.Module | None,
    shape: tuple[int, int, int],
) -> ShortcutGroup:
    """A group of blocks, halved as often as `levels` says, with a shortcut around each half."""
    if levels <= 0:
        return ShortcutGroup(units, around)
    names = list(units)
    middle = (len(names) + 1) // 2
    _, outputs, _ = shape
    halves: dict[str, Unit] = {}
    for half, part in (("first", names[:middle]), ("second", names[middle:])):
        its_shape = shape if half == "first" else (outputs, outputs, 1)
        halves[half] = _divide(
            network,
            {name: units[name] for name in part},
            levels - 1,
            _outer(network, *its_shape),
            its_shape,
        )
    return ShortcutGroup(halves, around)


def _outer(network: ResidualNet, inputs: int, outputs: int, stride: int) -> nn.Module:
    """A shortcut of a higher level; it projects where the shape changes, as in Zhang et al. 2016,
    section 4.2, whatever the blocks do."""
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
    """The convolutions of a block with what stands between them, by name."""
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
