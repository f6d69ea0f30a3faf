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
from outcrop.training.batches import Epoch
from outcrop.training.checkpoint import Checkpoint
from outcrop.training.device import peak_memory
from outcrop.training.log import EpochMetrics, EpochResult, Log, SideScores, score
from outcrop.training.loop import Advance, EpochSummary, Loop, Saver, merge
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
        lines: bool,
        graph: bool,
        on_epoch: OnEpoch | None,
    ) -> None:
        super().__init__(learner, learner.recipe.epochs, lines)
        self.graph, self.on_epoch = graph, on_epoch
        self.classes, self.normalisation = learner.patches.classes, normalisation

    def evaluate(self, pictures: Pictures) -> tuple[float, Tensor]:
        """Mean loss, and float32 probabilities `M × classes` on the CPU."""
        if not len(pictures):
            return math.nan, torch.empty(0, len(self.classes))
        found = self.learner.predict_proba(pictures, self.normalisation)
        loss = F.nll_loss(found.log().clamp_min(-100), pictures.labels.cpu()).item()
        return loss, found

    def _epoch(
        self,
        begun: Checkpoint,
        training: Pictures,
        validation: Pictures,
        saver: Saver,
        advance: Advance,
    ) -> EpochSummary:
        started = time.perf_counter()
        learner = self.learner
        plan = learner.plan(begun.epoch, training, self.normalisation)
        accumulator = self._train(plan, begun, saver, advance)
        train_scores = scores(merge(self.group.all_gather(accumulator.tensors())), self.classes)
        trained = time.perf_counter()
        loss, found = self.evaluate(validation)
        truth, predicted = validation.labels.cpu(), found.argmax(dim=1)
        judged = score(loss, truth, predicted, self.classes) if len(validation) else None
        with self.group.all_or_none():
            if not all(math.isfinite(side.loss) for side in (train_scores, judged) if side):
                raise OutcropError(
                    "training",
                    f"the loss is no longer a number in epoch {begun.epoch + 1}; "
                    f"take a learning rate below {learner.recipe.learning_rate:g}, in a new folder",
                )
        left = (plan.steps - begun.step) / plan.steps
        metrics = EpochMetrics(
            epoch=begun.epoch + 1,
            learning_rate=learner.learning_rate,
            train=train_scores,
            validation=judged,
            seconds=round(time.perf_counter() - started, 3),
            images_per_second=round(len(training) * left / (trained - started), 1),
            blocks_kept=round(plan.kept_share, 4),
            peak_memory=peak_memory(self.group.device),
        )
        # About ten times in all, and after the last epoch.
        due = metrics.epoch == self.epochs or metrics.epoch % max(1, self.epochs // 10) == 0
        draws = self.graph and due and len(validation)

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

    def _train(
        self, plan: Epoch, begun: Checkpoint, saver: Saver, advance: Advance
    ) -> ScoreAccumulator:
        """One pass over the training side; losses stay on the device until its end."""
        accumulator = ScoreAccumulator.of(
            begun.below("tally") if self.group.first else {}, self.group.device
        )
        for step in self.learner.steps(plan, accumulator.add, begun.step):
            advance(1 / plan.steps)
            if step.number + 1 < plan.steps:
                saver.between(begun.epoch, step.number + 1, accumulator)
        return accumulator

    def _begin(self, log: Log, training: Pictures) -> None:
        if self.graph and isinstance(self.learner.network, ResidualNet):
            images, _ = next(training.batches([training.all[:1]]))
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
