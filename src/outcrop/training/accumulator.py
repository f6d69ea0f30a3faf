"""Losses and predictions of an epoch, kept on the device until the epoch ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from outcrop.training.log import SideScores, score


@dataclass
class ScoreAccumulator:
    """Losses and predictions of an epoch so far, in one process.

    Attributes:
        losses: sum of the losses of the images of each part.
        predicted, truth: predicted and true classes of the images of each part.
    """

    losses: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    truth: list[Tensor] = field(default_factory=list)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one part; nothing is copied from the device."""
        self.losses.append(loss.detach() * len(labels))
        logits = logits.detach()
        if logits.ndim == 3:  # of members
            logits = logits.log_softmax(dim=2).mean(dim=1)
        self.predicted.append(logits.argmax(dim=1))
        self.truth.append(labels)

    def tensors(self) -> dict[str, Tensor]:
        """The content as tensors on the CPU, for a checkpoint; empty before the first part."""
        if not self.losses:
            return {}
        return {
            "losses": torch.stack(self.losses).cpu(),
            "predicted": torch.cat(self.predicted).cpu(),
            "truth": torch.cat(self.truth).cpu(),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], device: torch.device) -> ScoreAccumulator:
        """The accumulator from the result of `tensors`."""
        if not tensors:
            return cls()
        there = {name: tensor.to(device) for name, tensor in tensors.items()}
        return cls(list(there["losses"].unbind()), [there["predicted"]], [there["truth"]])


def merge(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of the accumulators of several processes, as those of one."""
    filled = [part for part in parts if part]
    return {name: torch.cat([part[name] for part in filled]) for name in filled[0]}


def scores(tensors: Mapping[str, Tensor], classes: tuple[str, ...]) -> SideScores:
    """Scores of all images in an accumulator.

    The losses are summed exactly, so that the order of parts and processes has no effect.
    """
    mean = math.fsum(tensors["losses"].tolist()) / len(tensors["truth"])
    return score(mean, tensors["truth"], tensors["predicted"], classes)
