"""The training loop of generative networks, and the evaluation at the end of each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from outcrop.errors import OutcropError
from outcrop.generative.grids import grid
from outcrop.generative.learner import VaeGanLearner
from outcrop.generative.metrics import (
    Evaluation,
    Means,
    VaeGanMetrics,
    VaeGanTally,
    active_dimensions,
    alarms,
    means,
)
from outcrop.generative.reconstruction import relative_error
from outcrop.generative.run import VaeGanModel
from outcrop.generative.samples import frechet_distance, nearest, sample_precision_recall
from outcrop.training.batches import Epoch, Step
from outcrop.training.checkpoint import Checkpoint
from outcrop.training.classifier import Classifier
from outcrop.training.log import Log
from outcrop.training.loop import EpochSummary, Loop, Saver
from outcrop.training.pictures import Pictures

_MOST = 1024
_COMPARED = 512
_COLUMNS, _ROWS = 8, 8
# A repeated sample is nearer to another one than a quarter of the tenth smallest distance between
# real images.
_NEAREST, _NEARLY = 0.1, 0.25
_NEIGHBOURS = 3


@dataclass(frozen=True, eq=False)
class Evaluator:
    """The images for the evaluation after every epoch.

    Attributes:
        images: held-out images in the source's units, `N × bands × size × size`; N may be 0.
        training: training images, for the case that there are no others.
        judge: a classifier whose features measure the similarity of images; None: no judge.
        seed: random seed of the samples' codes.
    """

    images: np.ndarray
    training: np.ndarray
    judge: Classifier | None
    seed: int

    def evaluate(self, model: VaeGanModel) -> Evaluation:
        """Measure reconstructions and samples."""
        samples = model.sample(_MOST, self.seed)
        real = self.images if len(self.images) > 1 else self.training
        some = min(_COMPARED, len(real))
        known = {
            "repeats": repeat_share(*(model.normalised(one[:some]) for one in (samples, real)))
        }
        if len(self.images) > 1:
            if self.judge is not None and len(self.images) > _NEIGHBOURS:
                known |= self._sample_measures(samples)
            if model.network.has_encoder:
                known |= self._reconstruction_errors(model)
        return Evaluation(**{name: value for name, value in known.items() if math.isfinite(value)})

    def grids(self, model: VaeGanModel) -> dict[str, np.ndarray]:
        """Grids of samples, and of held-out images above their reconstructions."""
        number = _COLUMNS * _ROWS
        found = {"samples": model.sample(number, self.seed)}
        images = self.images[: number // 2]
        if model.network.has_encoder and len(images):
            found["reconstructions"] = interleaved(_COLUMNS, images, model.reconstruct(images))
        return {name: grid(model.pictures(some), _COLUMNS) for name, some in found.items()}

    def _sample_measures(self, samples: np.ndarray) -> dict[str, float]:
        real, generated = self._judged(self.images), self._judged(samples)[: len(self.images)]
        found = sample_precision_recall(real, generated, _NEIGHBOURS, draws=1)
        return {
            "frechet": frechet_distance(real, generated),
            "precision": found.precision.value,
            "recall": found.recall.value,
        }

    def _reconstruction_errors(self, model: VaeGanModel) -> dict[str, float]:
        reconstructed = model.reconstruct(self.images)
        pixels = model.normalised(self.images), model.normalised(reconstructed)
        known = {"pixel_error": relative_error(*pixels, draws=1).value}
        features = model.features if self.judge is None else self._judged
        if self.judge is not None or model.network.has_discriminator:
            both = features(self.images), features(reconstructed)
            known["feature_error"] = relative_error(*both, draws=1).value
        return known

    def _judged(self, images: np.ndarray) -> np.ndarray:
        assert self.judge is not None
        return self.judge.probabilities_and_features(images)[1]


def evenly_spaced(index: np.ndarray, most: int = _MOST) -> np.ndarray:
    """At most `most` items of `index`, evenly spaced.

    >>> evenly_spaced(np.arange(7), 3).tolist()
    [0, 3, 6]
    """
    if len(index) <= most:
        return index
    return index[np.linspace(0, len(index) - 1, most).round().astype(int)]


def interleaved(columns: int, *rows: np.ndarray) -> np.ndarray:
    """Images in the order of a grid of `columns`, the first array's above those of the next.

    >>> interleaved(2, np.array([1, 2, 3]), np.array([10, 20, 30])).tolist()
    [1, 2, 10, 20, 3, 30]
    """
    starts = range(0, len(rows[0]), columns)
    return np.concatenate([row[start : start + columns] for start in starts for row in rows])


def repeat_share(samples: np.ndarray, real: np.ndarray) -> float:
    """The share of samples that nearly equal another sample.

    Their distance to the nearest other sample is at most a quarter of the tenth percentile of the
    same distance among real images.

    Args:
        samples, real: `N × ...`, finite, as many of both.
    """
    if len(samples) < 2 or len(real) < 2:
        return math.nan
    of_real, of_samples = (_to_nearest(one) for one in (real, samples))
    return float(np.mean(of_samples <= _NEARLY * np.quantile(of_real, _NEAREST)))


def _to_nearest(images: np.ndarray) -> np.ndarray:
    """The distance of each image to the nearest other one."""
    flat = images.reshape(len(images), -1)
    return nearest(flat, flat, 2)[1][:, 1]


class VaeGanLoop(Loop):
    """The training loop of encoder, decoder and discriminator."""

    learner: VaeGanLearner

    def __init__(
        self,
        learner: VaeGanLearner,
        model: VaeGanModel,
        evaluator: Evaluator,
        training: Pictures,
        lines: bool,
    ) -> None:
        super().__init__(learner, learner.recipe.epochs, training, lines)
        self.recipe, self.model, self.evaluator = learner.recipe, model, evaluator

    def _begin(self, log: Log) -> None:
        """Write no graph: TensorBoard shows the graph of one network, not of three."""

    def _epoch(self, begun: Checkpoint, saver: Saver) -> EpochSummary:
        started = time.perf_counter()
        learner, scale = self.learner, self.model.scale
        plan = Epoch(begun.epoch, self.recipe, None, self.training, scale, learner.parts)
        tally = VaeGanTally.of(self._accumulated(begun), self.group.device)
        steps = self._steps(plan, begun, tally)
        found = means(saver.follow(steps, begun, plan, tally), learner.network)
        trained = time.perf_counter()
        with self.group.all_or_none():
            self._check(found, begun.epoch + 1)
            first = self.group.first
            evaluated = self.evaluator.evaluate(self.model) if first else Evaluation()
        weight = self.recipe.prior_weight_at(begun.epoch + 1 - 0.5 / plan.steps)
        metrics = VaeGanMetrics(
            epoch=begun.epoch + 1,
            prior=sum(found.divergence) if found.divergence else None,
            prior_weight=weight,
            awake=active_dimensions(found.divergence),
            **asdict(found),
            **asdict(evaluated),
            alarms=alarms(learner.network, self.recipe, found, evaluated, weight),
            **self._costs(begun, plan, started, trained),
        )

        def draw(log: Log) -> None:
            for name, made in self.evaluator.grids(self.model).items():
                log.pictures(name, made, metrics.epoch)
            if metrics.divergence:
                log.histogram("code/divergence by dimension", metrics.divergence, metrics.epoch)

        return EpochSummary(metrics, metrics.note, _line(metrics, self.epochs), draw)

    def _steps(self, plan: Epoch, begun: Checkpoint, tally: VaeGanTally) -> Iterator[Step]:
        """Train on the batches of an epoch; gives each step after it is done."""
        self.learner.train()
        for step in plan.walk(begun.step, self.group.rank, self.group.world):
            weight = self.recipe.prior_weight_at(begun.epoch + (step.number + 0.5) / plan.steps)
            self.learner.step(begun.epoch, step, weight, tally.add)
            yield step

    def _check(self, found: Means, epoch: int) -> None:
        numbers = [number for number in asdict(found).values() if isinstance(number, float)]
        if not all(math.isfinite(number) for number in [*numbers, *found.divergence]):
            raise OutcropError(
                "training",
                f"the loss is not finite in epoch {epoch}; take a learning rate below "
                f"{self.recipe.learning_rate}, in a new folder",
            )


def _line(metrics: VaeGanMetrics, epochs: int) -> str:
    line = (
        f"epoch {metrics.epoch:>{len(str(epochs))}}/{epochs}: {metrics.note}; "
        f"{metrics.images_per_second:.0f} images/s, {metrics.peak_memory / (1 << 30):.2f} GiB"
    )
    return "\n".join([line, *(f"alarm: {alarm}" for alarm in metrics.alarms)])
