"""Running statistics of batch normalisation: the same in all processes, or left where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, distributed, nn


class Statistics:
    """The running statistics of the copy of a network in one of several processes.

    In each process they move in one part of a batch as far as in `world` parts, and are then made
    those of all parts, as if one process had taken them one after the other.
    """

    def __init__(self, module: nn.Module, rank: int, world: int) -> None:
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        stay = 1 - (norms[0].momentum or 0) if norms else 0
        for norm in norms:
            norm.momentum = 1 - stay**world
        self._statistics = [
            cast(Tensor, statistic)
            for norm in norms
            for statistic in (norm.running_mean, norm.running_var)
        ]
        # In one process the part of the last rank comes last and counts most.
        self._weight = (1 - stay) * stay ** (world - 1 - rank) / (1 - stay**world)

    def share(self) -> None:
        """Make the running statistics those of all parts.

        With `stay` = 1 - momentum, the parts k = 0, 1, ... of one process move a statistic from r
        to stay^world r + Σ (1 - stay) stay^(world - 1 - k) s_k. Here the rank k holds
        stay^world r + (1 - stay^world) s_k, and the weights of the ranks sum to 1.
        """
        together = torch.cat(self._statistics) * self._weight
        distributed.all_reduce(together)
        sizes = [len(statistic) for statistic in self._statistics]
        torch._foreach_copy_(self._statistics, list(together.split(sizes)))


@contextmanager
def unmoved(norms: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]) -> Iterator[None]:
    """Leave running statistics where they are."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
