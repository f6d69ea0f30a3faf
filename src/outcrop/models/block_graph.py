"""A residual network as a chain of blocks that can be cut between any two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, pairwise
from operator import add

import numpy as np
from torch import Tensor, nn

from outcrop.models.residual import (
    Kept,
    ResidualBlock,
    ResidualNetwork,
    ShortcutGroup,
    pass_block,
    recomputed,
)


@dataclass(frozen=True)
class BlockNode:
    """A block with the outer shortcuts that begin or end at it.

    Attributes:
        opens: groups whose shortcut begins at the input of the block, the outermost first.
        closes: number of open shortcuts that end at its output, the innermost first.
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
    """Compute consecutive blocks.

    Stem, all blocks and head together give the same numbers as the network, bit by bit.

    Args:
        chain: consecutive nodes of one network.
        tensors: input of the first block, `N × channels × height × width`, and the tensors of the
            outer shortcuts that are open before it, the outermost first.
        kept: for each block of the network whether it is computed; None: all.
        segments: indices of blocks whose activations are recomputed together for the gradients.

    Returns:
        The same tensors after the last block.
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
    """Remove the weights of all but some consecutive blocks.

    The stem is kept with the first block, the head with the last. Names do not change.
    """
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
    """Cut blocks into runs of nearly equal total weight, with at least one block each.

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
