"""A patch network for all pixels at once: shared parts of patches are computed once."""

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
from outcrop.models.multiscale import window_means
from outcrop.models.residual import ResidualBlock, ResidualNetwork, ShortcutGroup, crop_corner


class Dense:
    """A trained patch network that computes the logits of the patch around every pixel of a window.

    After a layer with stride s, the rest of the network runs on each of the s × s shifted
    subsamples, so that every pixel gets its own output (shift and stitch of Long, Shelhamer and
    Darrell 2015, arXiv:1411.4038, section 3.1; the same numbers as convolutions dilated by s). The
    shifts are computed one after the other, which saves memory.

    A network without padding gives the logits of single patches, up to rounding. A network that was
    trained with zero padding sees the surrounding pixels instead of zeros, so that its logits
    differ; how often its classes differ must be measured.

    Attributes:
        network: a copy without padding, with normalisations folded into convolutions.
        before: rows and columns of the window above and left of the patch of the first pixel.
        stride: height and width of the output are multiples of it.
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
        """Rows and columns of the input for those of an output, which are multiples of `stride`."""
        tall, wide = (
            corner + pixels - 1 + self.stride * (units - 1) + self.footprint
            for corner, pixels, units in zip(self._corner, (height, width), self.units, strict=True)
        )
        return tall, wide

    def logits(self, x: Tensor) -> Tensor:
        """Logits of every pixel.

        Args:
            x: float32, normalised, `N × bands × ...`, of the size `window(height, width)`. Output
                (0, 0) belongs to the patch with the upper-left pixel (`before`, `before`).

        Returns:
            `N × classes × height × width`.
        """
        # The linear layer before the mean: there are fewer classes than channels.
        return self._gather(x, self._linear)

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and features (input of the linear layer), `N × channels × height × width`.

        The logits are those of `logits`, bit by bit.
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
            part = window_means(last(self.network.rectified(units)), *self.units)
            if found is None:
                n, channels, tall, wide = part.shape
                found = part.new_empty(n, channels, tall * s, wide * s)
            found[:, :, row::s, column::s] = part
        assert found is not None
        return found


@dataclass(frozen=True)
class _OpenShortcut:
    """An outer shortcut between its beginning and its end.

    Attributes:
        source: input of the group.
        row, column: pixel of `source` at the upper-left pixel of the present tensor.
        jump: stride of the present tensor in pixels of `source`.
    """

    group: ShortcutGroup
    source: Tensor
    row: int = 0
    column: int = 0
    jump: int = 1

    def after(self, step: _Step, shift: tuple[int, int]) -> _OpenShortcut:
        """The same after `step` on a tensor with this shift."""
        row, column = (
            before + self.jump * (by + step.margin)
            for before, by in zip((self.row, self.column), shift, strict=True)
        )
        return replace(self, row=row, column=column, jump=self.jump * step.stride)

    def end(self, height: int, width: int) -> Tensor:
        """The output of the shortcut at its end."""
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
        run: from its input, and the sum of the outer shortcuts that end at it, to its output.
        length: from rows or columns of its input to those of its output.
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
    if network.description.stem == "large":
        steps = [_Step(lambda x, _: stem[:-1](x), 2), _Step(lambda x, _: stem[-1](x), 2)]
    else:
        steps = [_Step(lambda x, _: stem(x), 1)]
    for node in block_graph(network):
        block = node.block
        steps.append(
            _Step(block, block.stride, block.margin, block.length, node.opens, node.closes)
        )
    return tuple(steps)


def _phases(
    chain: Sequence[_Step],
    x: Tensor,
    around: tuple[_OpenShortcut, ...],
    at: tuple[int, int],
    jump: int,
) -> Iterator[tuple[int, int, Tensor]]:
    """Row and column of each shift, and the output of the last step there."""
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


def _folded(network: ResidualNetwork) -> ResidualNetwork:
    """A copy for inference without padding, with normalisations and survival probabilities folded
    into the convolutions before them."""
    description = replace(network.description, padding="none", seen=None)
    device = next(network.parameters()).device
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        bands = network.stem.get_parameter("conv.weight").shape[1]
        copy = ResidualNetwork(description, bands, network.linear.out_features).to(device).eval()
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
