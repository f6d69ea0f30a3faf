"""Recomputation of activations (checkpointing)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")


def recomputed(modules: Sequence[nn.Module], function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)`, with only the arguments kept for the gradients.

    The second pass does not update the running statistics of batch normalisation, so that
    gradients, weights and statistics are those of a single pass, bit by bit.

    Source: Chen et al. 2016, Training deep nets with sublinear memory cost (arXiv:1604.06174).

    Args:
        modules: modules that `function` calls.
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
