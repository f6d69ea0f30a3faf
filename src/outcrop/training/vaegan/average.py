"""The moving average of a network's weights over the steps of its training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def average_of(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and of batch normalisation's statistics.

    Args:
        network: what `update_parameters` will be given after every step.
        decay: of the average per step, 0 to 1, when training has gone on for long; see `decay_at`.
    """
    return AveragedModel(network, multi_avg_fn=partial(_add, decay), use_buffers=True)


def decay_at(step: int, decay: float) -> float:
    """The decay in a step, counted from 0: smaller at first, or first weights would linger.

    As `num_updates` does in TensorFlow's `tf.train.ExponentialMovingAverage`.

    >>> [round(decay_at(step, 0.999), 3) for step in (0, 10, 100, 10_000)]
    [0.1, 0.55, 0.918, 0.999]
    """
    return min(decay, (1 + step) / (10 + step))


def _add(
    decay: float, averages: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int
) -> None:
    """Move averages in place towards the weights after one more step."""
    update = get_ema_multi_avg_fn(decay_at(int(steps), decay))
    update(cast(list[Tensor], averages), cast(list[Tensor], weights), steps)
