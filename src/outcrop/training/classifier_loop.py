"""The training loop of a classifier: steps, learning rate, evaluation and scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.training.checkpoint import Checkpoint
from outcrop.training.log import EpochMetrics, EpochResult, Log, SideScores, score
from outcrop.training.loop import EpochSummary, Loop, Saver
from outcrop.training.normalise import Normalisation
from outcrop.training.parallel.learner import Learner
from outcrop.training.pictures import Pictures

OnEpoch = Callable[[EpochResult], bool | None]
"""A function that is called after every epoch; if it returns True, the training ends."""


class ClassifierLoop(Loop):
    """The training of a classifier."""

    learner: Learner

    def __init__(
        self,
        learner: Learner,
        normalisation: Normalisation,
        training: Pictures,
        validation: Pictures,
        lines: bool,
        graph: bool,
        on_epoch: OnEpoch | None,
    ) -> None:
        super().__init__(learner, learner.recipe.epochs, training, lines)
        self.validation, self.graph, self.on_epoch = validation, graph, on_epoch
        self.classes, self.normalisation = learner.patches.classes, normalisation

    def evaluate(self) -> tuple[float, Tensor]:
        """Mean loss on the validation side, and float32 probabilities `M × classes` on the CPU."""
        if not len(self.validation):
            return math.nan, torch.empty(0, len(self.classes))
        found = self.learner.predict_proba(self.validation, self.normalisation)
        loss = F.nll_loss(found.log().clamp_min(-100), self.validation.labels.cpu()).item()
        return loss, found

    def _epoch(self, begun: Checkpoint, saver: Saver) -> EpochSummary:
        started = time.perf_counter()
        learner = self.learner
        plan = learner.plan(begun.epoch, self.training, self.normalisation)
        accumulator = ScoreAccumulator.of(self._accumulated(begun), self.group.device)
        steps = learner.steps(plan, accumulator.add, begun.step)
        train_scores = scores(saver.follow(steps, begun, plan, accumulator), self.classes)
        trained = time.perf_counter()
        loss, found = self.evaluate()
        truth, predicted = self.validation.labels.cpu(), found.argmax(dim=1)
        judged = score(loss, truth, predicted, self.classes) if len(truth) else None
        with self.group.all_or_none():
            if not all(math.isfinite(side.loss) for side in (train_scores, judged) if side):
                raise OutcropError(
                    "training",
                    f"the loss is no longer a number in epoch {begun.epoch + 1}; "
                    f"take a learning rate below {learner.recipe.learning_rate:g}, in a new folder",
                )
        metrics = EpochMetrics(
            epoch=begun.epoch + 1,
            learning_rate=learner.learning_rate,
            train=train_scores,
            validation=judged,
            blocks_kept=round(plan.kept_share, 4),
            **self._costs(begun, plan, started, trained),
        )
        # About ten times in all, and after the last epoch.
        due = metrics.epoch == self.epochs or metrics.epoch % max(1, self.epochs // 10) == 0
        draws = self.graph and due and len(truth)

        def draw(log: Log) -> None:
            if draws:
                log.confusion(metrics.epoch, truth, predicted, self.classes)

        return EpochSummary(metrics, _note(metrics), _line(metrics, self.epochs), draw)

    def _stops(self, summary: EpochSummary) -> bool:
        """Call `on_epoch` in the first process; all processes stop together."""
        if self.on_epoch is None:
            return False
        assert isinstance(summary.metrics, EpochMetrics)
        module = self.learner.kept().to(self.group.device).eval()
        stops = False
        with self.group.all_or_none():
            if self.group.first:
                stops = self.on_epoch(EpochResult(summary.metrics, module)) is True
        return bool(self.group.maximum(int(stops)))

    def _begin(self, log: Log) -> None:
        if self.graph and isinstance(self.learner.network, ResidualNet):
            images, _ = next(self.training.batches([self.training.all[:1]]))
            log.graph(self.learner.plain().eval(), self.normalisation(images).cpu())


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


def scores(tensors: Mapping[str, Tensor], classes: tuple[str, ...]) -> SideScores:
    """Scores of all images in an accumulator.

    The losses are summed exactly, so that the order of parts and processes has no effect.
    """
    mean = math.fsum(tensors["losses"].tolist()) / len(tensors["truth"])
    return score(mean, tensors["truth"], tensors["predicted"], classes)


def _note(metrics: EpochMetrics) -> str:
    note, judged = f"loss {metrics.train.loss:.3f}", metrics.validation
    if judged is None:
        return note
    return f"{note}, validation {judged.loss:.3f}, accuracy {100 * judged.accuracy:.1f} %"


def _line(metrics: EpochMetrics, epochs: int) -> str:
    kept = f", {100 * metrics.blocks_kept:.0f} % of blocks" if metrics.blocks_kept < 1 else ""
    return (
        f"epoch {metrics.epoch:>{len(str(epochs))}}/{epochs}: {_note(metrics)}; "
        f"rate {metrics.learning_rate:.3g}, {metrics.images_per_second:.0f} images/s, "
        f"{metrics.peak_memory / (1 << 30):.2f} GiB{kept}"
    )
