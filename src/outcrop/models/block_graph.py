"""A residual network as one chain of blocks, which can be cut anywhere between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, pairwise
from operator import add

import numpy as np
from torch import Tensor, nn

from outcrop.models.recompute import recomputed
from outcrop.models.residual import Kept, ResidualBlock, ResidualNetwork, ShortcutGroup, pass_block


@dataclass(frozen=True)
class BlockNode:
    """A block, and the shortcuts of higher levels that begin or end with it.

    Attributes:
        block: the block.
        opens: the groups with a shortcut that begins at its input, the outermost first.
        closes: how many of the open shortcuts end with it, the innermost first.
    """

    block: ResidualBlock
    opens: tuple[ShortcutGroup, ...]
    closes: int


def block_graph(network: ResidualNetwork) -> tuple[BlockNode, ...]:
    """All blocks of a network, from input to output."""
    return tuple(_nodes(network.stages, (), 0))


def run_blocks(
    chain: Sequence[BlockNode],
    tensors: Sequence[Tensor],
    kept: Kept | None = None,
    segments: Sequence[range] = (),
) -> tuple[Tensor, ...]:
    """What a chain of blocks makes of its input.

    Together, stem, chain and head compute what the network does, bit by bit.

    Args:
        chain: consecutive block_graph of one network.
        tensors: the input of the first block, `N × channels × height × width`, and what the
            shortcuts carry that are open before it, the outermost first.
        kept: for each block of the network whether it is computed; None is all.
        segments: indices of blocks that are computed anew together when gradients need what is in
            them.

    Returns:
        The same of the last block's output.
    """
    first, done = chain[0].block.index if chain else 0, 0
    for segment in segments:
        start, stop = max(segment.start - first, done), min(segment.stop - first, len(chain))
        if start >= stop:
            continue
        tensors = _run_blocks(chain[done:start], tensors, kept)
        part, done = chain[start:stop], stop
        modules = [module for node in part for module in _modules(node)]
        tensors = recomputed(modules, _run_blocks, part, tensors, kept)
    return _run_blocks(chain[done:], tensors, kept)


def keep_only(network: ResidualNetwork, blocks: slice) -> None:
    """Take the weights out of all but some consecutive blocks, with the stem and the head where
    these are the first and the last; all that is left keeps its name."""
    chain = block_graph(network)
    first, last, _ = blocks.indices(len(chain))
    kept = {id(module) for node in chain[blocks] for module in _modules(node)}
    for node in chain:
        if id(node.block) not in kept:
            _empty(node.block, "activate", "residual", "shortcut")
    for group in [module for module in network.modules() if isinstance(module, ShortcutGroup)]:
        if group.shortcut is not None and id(group.shortcut) not in kept:
            _empty(group, "shortcut")
    if first > 0:
        _empty(network, "stem")
    if last < len(chain):
        _empty(network, "norm", "linear")


def divide(weights: Sequence[float], number: int) -> list[slice]:
    """Runs of blocks that weigh as much as each other as nearly as can be, at least one block each.

    >>> divide([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5], 2)
    [slice(0, 3, None), slice(3, 8, None)]
    """
    done = np.array([*accumulate(weights, initial=0.0)])
    ends = [0]
    for k in range(1, number):
        nearest = int(np.abs(done - done[-1] * k / number).argmin())
        ends.append(min(max(nearest, ends[-1] + 1), len(weights) - number + k))
    return [slice(start, stop) for start, stop in pairwise([*ends, len(weights)])]


def _empty(module: nn.Module, *children: str) -> None:
    for name in children:
        setattr(module, name, nn.Identity())


def _modules(node: BlockNode) -> list[nn.Module]:
    around = [group.shortcut for group in node.opens if group.shortcut is not None]
    return [node.block, *around]


def _nodes(
    group: ShortcutGroup, opens: tuple[ShortcutGroup, ...], closes: int
) -> Iterator[BlockNode]:
    if group.shortcut is not None:
        opens, closes = (*opens, group), closes + 1
    for k, unit in enumerate(group.units):
        its_opens = opens if k == 0 else ()
        its_closes = closes if k == len(group.units) - 1 else 0
        if isinstance(unit, ShortcutGroup):
            yield from _nodes(unit, its_opens, its_closes)
        else:
            yield BlockNode(unit, its_opens, its_closes)


def _run_blocks(
    chain: Sequence[BlockNode], tensors: Sequence[Tensor], kept: Kept | None
) -> tuple[Tensor, ...]:
    x, *around = tensors
    for node in chain:
        around += [group.outer_shortcut(x) for group in node.opens]
        stay = len(around) - node.closes
        outer = reduce(add, around[stay:]) if node.closes else None
        del around[stay:]
        x = pass_block(node.block, x, kept, outer)
    return (x, *around)
