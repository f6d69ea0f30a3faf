"""A patch network over every pixel at once: what neighbouring patches share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise, product
from operator import add

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from outcrop.models.block_graph import block_graph
from outcrop.models.factory import build
from outcrop.models.residual import ResidualBlock, ResidualNetwork, ShortcutGroup, crop_corner


class Dense:
    """A trained patch network that gives every pixel of a window the logits of its patch.

    Where the network has a stride s, the rest of it runs on each of the s × s shifted halves of
    what lies before, so that every pixel gets its own (shift and stitch of Long, Shelhamer and
    Darrell 2015, arXiv:1411.4038, section 3.1; the same numbers as convolutions dilated by s).
    Each shift goes through to the end by itself, so that what is in memory is small.

    A network without padding gives what it gives patch by patch, up to rounding. One that was
    trained with zeros beyond the patch's rim sees here what lies there, so that its logits are
    others; how often its classes are, has to be measured.

    Attributes:
        network: a copy without padding, its normalisations folded into its convolutions.
        before: rows and columns that a window begins above and left of the first pixel's patch.
        stride: the sides of a window's output are multiples of it.
    """

    def __init__(self, network: ResidualNetwork, size: tuple[int, int]) -> None:
        description = network.description
        self.network = _folded(network)
        self.stride, self.footprint = description.stride, description.footprint
        self.before = 0 if description.padding == "none" else (self.footprint - 1) // 2
        self._corner = crop_corner(description.seen, size)
        self.units = description.units(size[0]), description.units(size[1])
        self._chain = _chain(self.network)

    def window(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that must be given for so many rows and columns of output.

        Args:
            height, width: multiples of `stride`.
        """
        tall, wide = (
            corner + pixels - 1 + self.stride * (units - 1) + self.footprint
            for corner, pixels, units in zip(self._corner, (height, width), self.units, strict=True)
        )
        return tall, wide

    def logits(self, x: Tensor) -> Tensor:
        """Logits of every pixel.

        Args:
            x: float32, normalised, `N × bands × ...` of the size that `window` gives for `height`
                and `width`. Output (0, 0) belongs to the patch whose upper-left pixel is
                (`before`, `before`).

        Returns:
            `N × classes × height × width`.
        """
        # Linear layer and mean may change places, and there are fewer classes than channels.
        return self._gather(x, self._linear)

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the features that the linear layer takes, `N × channels × height × width`.

        The logits are bit by bit those of `logits`.
        """
        found = self._gather(x, lambda units: torch.cat([self._linear(units), units], dim=1))
        classes = self.network.linear.out_features
        return found[:, :classes], found[:, classes:]

    def _linear(self, units: Tensor) -> Tensor:
        weight, bias = self.network.linear.weight, self.network.linear.bias
        return F.conv2d(units, weight[:, :, None, None], bias)

    def _gather(self, x: Tensor, last: Callable[[Tensor], Tensor]) -> Tensor:
        s, found = self.stride, None
        x = x[:, :, self._corner[0] :, self._corner[1] :]
        for row, column, units in _phases(self._chain, x, (), (0, 0), 1):
            part = _mean(last(self.network.rectified(units)), self.units)
            if found is None:
                n, channels, tall, wide = part.shape
                found = part.new_empty(n, channels, tall * s, wide * s)
            found[:, :, row::s, column::s] = part
        assert found is not None
        return found


@dataclass(frozen=True)
class _OpenShortcut:
    """What a shortcut of a higher level carries along, until it ends.

    Attributes:
        group: whose shortcut it is.
        source: the group's input.
        row, column: the pixel of it that the upper-left pixel of what is computed now lies over.
        jump: pixels of it from one pixel of what is computed now to the next.
    """

    group: ShortcutGroup
    source: Tensor
    row: int = 0
    column: int = 0
    jump: int = 1

    def after(self, step: _Step, shift: tuple[int, int]) -> _OpenShortcut:
        """The same when `step` has been taken on what is shifted so."""
        row, column = (
            before + self.jump * (by + step.margin)
            for before, by in zip((self.row, self.column), shift, strict=True)
        )
        return replace(self, row=row, column=column, jump=self.jump * step.stride)

    def end(self, height: int, width: int) -> Tensor:
        """What it adds where it ends."""
        assert self.group.shortcut is not None
        rows, columns = (
            slice(start, start + self.jump * (length - 1) + 1)
            for start, length in ((self.row, height), (self.column, width))
        )
        return self.group.shortcut(self.source[:, :, rows, columns])


@dataclass(frozen=True)
class _Step:
    """A layer of the stem or a block.

    Attributes:
        run: its input, and what shortcuts of higher levels that end in it add, to its output.
        length: rows or columns of its output, from those of its input.
        opens, closes: as in `outcrop.models.block_graph.BlockNode`.
    """

    run: Callable[[Tensor, Tensor | None], Tensor]
    stride: int
    margin: int = 0
    length: Callable[[int], int] = lambda length: length
    opens: tuple[ShortcutGroup, ...] = ()
    closes: int = 0


def _chain(network: ResidualNetwork) -> tuple[_Step, ...]:
    stem = network.stem
    steps = [_layer(stem, 1)]
    if network.description.stem == "large":
        steps = [_layer(stem[:-1], 2), _layer(stem[-1], 2)]
    for node in block_graph(network):
        block = node.block
        steps.append(
            _Step(block, block.stride, block.margin, block.length, node.opens, node.closes)
        )
    return tuple(steps)


def _layer(layer: nn.Module, stride: int) -> _Step:
    def run(x: Tensor, _: Tensor | None) -> Tensor:
        return layer(x)

    return _Step(run, stride)


def _phases(
    chain: Sequence[_Step],
    x: Tensor,
    around: tuple[_OpenShortcut, ...],
    at: tuple[int, int],
    jump: int,
) -> Iterator[tuple[int, int, Tensor]]:
    """Row and column of each shift of a picture, and what the last step gives there."""
    for k, step in enumerate(chain):
        around += tuple(_OpenShortcut(group, x) for group in step.opens)
        if step.stride == 1:
            x, around = _take(step, x, around, (0, 0))
            continue
        less = step.stride - 1
        height, width = x.shape[2] - less, x.shape[3] - less
        for row, column in product(range(step.stride), repeat=2):
            shifted = x[:, :, row : row + height, column : column + width]
            y, outer = _take(step, shifted, around, (row, column))
            there = at[0] + jump * row, at[1] + jump * column
            yield from _phases(chain[k + 1 :], y, outer, there, jump * step.stride)
        return
    yield *at, x


def _take(
    step: _Step, x: Tensor, around: tuple[_OpenShortcut, ...], shift: tuple[int, int]
) -> tuple[Tensor, tuple[_OpenShortcut, ...]]:
    around = tuple(one.after(step, shift) for one in around)
    stay = len(around) - step.closes
    ends = [one.end(*map(step.length, x.shape[2:])) for one in around[stay:]]
    return step.run(x, reduce(add, ends) if ends else None), around[:stay]


def _mean(x: Tensor, units: tuple[int, int]) -> Tensor:
    """The mean of every window of so many rows and columns, one direction after the other."""
    tall, wide = units
    return F.avg_pool2d(F.avg_pool2d(x, (tall, 1), 1), (1, wide), 1)


def _folded(network: ResidualNetwork) -> ResidualNetwork:
    """A copy for inference without padding, with the normalisation that follows a convolution in
    its weights, and the survival probability in those of the last."""
    description = replace(network.description, padding="none", seen=None)
    device = next(network.parameters()).device
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        bands = network.stem.get_parameter("conv.weight").shape[1]
        copy = build(description, bands, network.linear.out_features).to(device).eval()
        copy.load_state_dict(network.state_dict())
        for module in list(copy.modules()):
            if isinstance(module, nn.Sequential):
                _fold(module)
        for block in copy.blocks:
            if block.survival < 1:
                _scale(block)
    return copy.requires_grad_(False)


def _fold(layers: nn.Sequential) -> None:
    names = list(layers._modules)
    for name, following in pairwise(names):
        conv, norm = layers._modules[name], layers._modules[following]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(layers, name, fuse_conv_bn_eval(conv, norm))
            setattr(layers, following, nn.Identity())


def _scale(block: ResidualBlock) -> None:
    last = [layer for layer in block.residual if isinstance(layer, nn.Conv2d)][-1]
    last.weight.mul_(block.survival)
    if last.bias is not None:
        last.bias.mul_(block.survival)
    block.survival = 1.0
