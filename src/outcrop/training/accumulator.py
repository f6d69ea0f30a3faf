"""What the steps of an epoch give, kept on the device until the epoch ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from outcrop.training.log import SideScores, score


@dataclass
class ScoreAccumulator:
    """What the steps of an epoch so far have given, in one process.

    Attributes:
        losses: sum of the losses of the pictures of each part.
        predicted, truth: classes of the pictures of each part.
    """

    losses: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    truth: list[Tensor] = field(default_factory=list)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Remember one part; nothing is fetched from the device."""
        self.losses.append(loss.detach() * len(labels))
        logits = logits.detach()
        if logits.ndim == 3:  # of members
            logits = logits.log_softmax(dim=2).mean(dim=1)
        self.predicted.append(logits.argmax(dim=1))
        self.truth.append(labels)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, on the CPU, to go on from; nothing where there is nothing yet."""
        if not self.losses:
            return {}
        return {
            "losses": torch.stack(self.losses).cpu(),
            "predicted": torch.cat(self.predicted).cpu(),
            "truth": torch.cat(self.truth).cpu(),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], device: torch.device) -> ScoreAccumulator:
        """What `tensors` gave."""
        if not tensors:
            return cls()
        there = {name: tensor.to(device) for name, tensor in tensors.items()}
        return cls(list(there["losses"].unbind()), [there["predicted"]], [there["truth"]])


def merge(tallies: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of the tallies of several processes, as those of one."""
    filled = [tally for tally in tallies if tally]
    return {name: torch.cat([tally[name] for tally in filled]) for name in filled[0]}


def scores(tensors: Mapping[str, Tensor], classes: tuple[str, ...]) -> SideScores:
    """Of all pictures in a tally.

    The losses are summed exactly, so that it does not matter which process had which part.
    """
    mean = math.fsum(tensors["losses"].tolist()) / len(tensors["truth"])
    return score(mean, tensors["truth"], tensors["predicted"], classes)
