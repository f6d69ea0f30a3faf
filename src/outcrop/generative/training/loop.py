"""The loop that networks go through which learn pictures."""

from __future__ import annotations

import math
import time
from dataclasses import asdict

from outcrop.errors import OutcropError
from outcrop.generative.metrics import Looked, VaeGanMetrics, alarms, awake
from outcrop.generative.model import VaeGanModel
from outcrop.generative.training.learner import VaeGanLearner
from outcrop.generative.training.look import Looker
from outcrop.generative.training.tally import Means, VaeGanTally, means
from outcrop.training.accumulator import merge
from outcrop.training.batches import Epoch
from outcrop.training.checkpoint import Checkpoint
from outcrop.training.device import peak_memory
from outcrop.training.log import Log
from outcrop.training.loop import Advance, EpochSummary, Loop, Saver
from outcrop.training.pictures import Pictures


class VaeGanLoop(Loop):
    """What encoder, decoder and discriminator go through."""

    learner: VaeGanLearner

    def __init__(
        self, learner: VaeGanLearner, model: VaeGanModel, looker: Looker, lines: bool = False
    ) -> None:
        """Begin.

        Args:
            model: of the learner's networks, to look at.
        """
        super().__init__(learner, learner.recipe.epochs, lines)
        self.recipe, self.model, self.looker = learner.recipe, model, looker

    def _begin(self, log: Log, training: Pictures) -> None:
        """Nothing: TensorBoard draws the graph of a network, not of three."""

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
        plan = Epoch(begun.epoch, self.recipe, None, training, self.model.scale, learner.parts)
        tally = self._train(plan, begun, saver, advance)
        found = means(merge(self.group.all_gather(tally.tensors())), learner.network)
        trained = time.perf_counter()
        with self.group.all_or_none():
            self._check(found, begun.epoch + 1)
            looked = self.looker.look(self.model) if self.group.first else Looked()
        left = (plan.steps - begun.step) / plan.steps
        weight = self.recipe.prior_weight_at(begun.epoch + 1 - 0.5 / plan.steps)
        metrics = VaeGanMetrics(
            epoch=begun.epoch + 1,
            prior=sum(found.divergence) if found.divergence else None,
            prior_weight=weight,
            awake=awake(found.divergence),
            **asdict(found),
            **asdict(looked),
            alarms=alarms(learner.network, self.recipe, found, looked, weight),
            seconds=round(time.perf_counter() - started, 3),
            images_per_second=round(len(training) * left / (trained - started), 1),
            peak_memory=peak_memory(self.group.device),
        )

        def draw(log: Log) -> None:
            for name, picture in self.looker.grids(self.model).items():
                log.pictures(name, picture, metrics.epoch)
            if metrics.divergence:
                log.histogram("code/divergence by dimension", metrics.divergence, metrics.epoch)

        return EpochSummary(metrics, metrics.note, _line(metrics, self.epochs), draw)

    def _train(self, plan: Epoch, begun: Checkpoint, saver: Saver, advance: Advance) -> VaeGanTally:
        """One pass over the training side; losses are fetched at its end, not at every step."""
        kept = begun.below("tally") if self.group.first else {}
        tally = VaeGanTally.of(kept, self.group.device)
        self.learner.train()
        for step in plan.walk(begun.step, self.group.rank, self.group.world):
            weight = self.recipe.prior_weight_at(begun.epoch + (step.number + 0.5) / plan.steps)
            self.learner.step(begun.epoch, step, weight, tally.add)
            advance(1 / plan.steps)
            if step.number + 1 < plan.steps:
                saver.between(begun.epoch, step.number + 1, tally)
        return tally

    def _check(self, found: Means, epoch: int) -> None:
        numbers = [number for number in asdict(found).values() if isinstance(number, float)]
        if not all(math.isfinite(number) for number in [*numbers, *found.divergence]):
            raise OutcropError(
                "training",
                f"the loss is no longer a number in epoch {epoch}; take a learning rate below "
                f"{self.recipe.learning_rate}, in a new folder",
            )


def _line(metrics: VaeGanMetrics, epochs: int) -> str:
    line = (
        f"epoch {metrics.epoch:>{len(str(epochs))}}/{epochs}: {metrics.note}; "
        f"{metrics.images_per_second:.0f} images/s, {metrics.peak_memory / (1 << 30):.2f} GiB"
    )
    return "\n".join([line, *(f"alarm: {alarm}" for alarm in metrics.alarms)])
