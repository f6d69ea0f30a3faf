"""The loop over steps and epochs: forward, backward, optimiser, and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.progress import follow
from outcrop.training.batches import Epoch
from outcrop.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from outcrop.training.device import peak_memory
from outcrop.training.interrupt import Request, requests
from outcrop.training.log import EpochMetrics, Log, open_log, score
from outcrop.training.normalise import Normalisation
from outcrop.training.parallel import Learner
from outcrop.training.pictures import Pictures
from outcrop.training.recipe import Recipe
from outcrop.training.tally import Tally, merge, scores

_SAVE_EVERY = 600.0

Advance = Callable[..., None]


class Loop:
    """What a learner goes through, from the first epoch to the last."""

    def __init__(
        self,
        learner: Learner,
        recipe: Recipe,
        patches: PatchSet,
        normalisation: Normalisation,
        lines: bool = False,
        graph: bool = True,
    ) -> None:
        self.learner, self.team, self.recipe = learner, learner.team, recipe
        self.classes, self.normalisation = patches.classes, normalisation
        self.lines, self.graph = lines, graph

    def fit(self, training: Pictures, validation: Pictures, folder: Path) -> None:
        """Train to the last epoch, from the newest checkpoint in `folder` if there is one.

        Raises:
            OutcropError: the loss is no longer a number; a full disk.
            KeyboardInterrupt: Ctrl-C, after a checkpoint.
            Stopped: SIGTERM, after a checkpoint.
        """
        with self.team.together():
            begun = read_checkpoint(folder)
        self._restore(begun, folder)
        with (
            ExitStack() as stack,
            follow("training", self.recipe.epochs, begun.epoch) as advance,
            requests() as request,
        ):
            log = None
            with self.team.together():
                if self.team.first:
                    log = stack.enter_context(open_log(folder, begun.epoch))
                    if self.graph and begun.epoch == begun.step == 0:
                        self._draw_graph(log, training)
            saver = _Saver(self, folder, request)
            for number in range(begun.epoch, self.recipe.epochs):
                begin = begun if number == begun.epoch else Checkpoint(number)
                metrics, predicted = self._epoch(begin, training, validation, saver, advance)
                with self.team.together():
                    if log:
                        log.write(metrics)
                        if len(validation) and self._draws(number + 1):
                            truth = validation.labels.cpu()
                            log.confusion(number + 1, truth, predicted, self.classes)
                line = _line(metrics, self.recipe.epochs) if self.lines else None
                advance(0, note=_note(metrics), line=line)
                saver.after(number + 1)

    def evaluate(self, pictures: Pictures) -> tuple[float, Tensor]:
        """Mean loss, and float32 probabilities `M × classes` on the CPU."""
        if not len(pictures):
            return math.nan, torch.empty(0, len(self.classes))
        found = self.learner.probabilities(pictures, self.normalisation)
        loss = F.nll_loss(found.log().clamp_min(-100), pictures.labels.cpu()).item()
        return loss, found

    def _restore(self, begun: Checkpoint, folder: Path) -> None:
        if not begun.tensors:
            return
        try:
            self.learner.restore(begun)
        except (RuntimeError, KeyError) as error:
            raise OutcropError(
                folder, "its checkpoint belongs to another network; choose another folder"
            ) from error

    def _epoch(
        self,
        begun: Checkpoint,
        training: Pictures,
        validation: Pictures,
        saver: _Saver,
        advance: Advance,
    ) -> tuple[EpochMetrics, Tensor]:
        """What is told of an epoch, and the predicted classes of the validation side."""
        started = time.perf_counter()
        learner = self.learner
        plan = Epoch(
            begun.epoch,
            self.recipe,
            learner.network,
            training,
            self.normalisation,
            learner.parts,
        )
        tally = self._train(plan, begun, saver, advance)
        train_scores = scores(merge(self.team.gather(tally.tensors())), self.classes)
        trained = time.perf_counter()
        loss, found = self.evaluate(validation)
        predicted = found.argmax(dim=1)
        judged = (
            score(loss, validation.labels.cpu(), predicted, self.classes)
            if len(validation)
            else None
        )
        with self.team.together():
            if not all(math.isfinite(side.loss) for side in (train_scores, judged) if side):
                raise OutcropError(
                    "training",
                    f"the loss is no longer a number in epoch {begun.epoch + 1}; "
                    f"take a learning rate below {self.recipe.learning_rate}, in a new folder",
                )
        left = (plan.steps - begun.step) / plan.steps
        metrics = EpochMetrics(
            epoch=begun.epoch + 1,
            learning_rate=learner.optimiser.param_groups[0]["lr"],
            train=train_scores,
            validation=judged,
            seconds=round(time.perf_counter() - started, 3),
            images_per_second=round(len(training) * left / (trained - started), 1),
            blocks_kept=round(plan.kept_share, 4),
            peak_memory=peak_memory(self.team.device),
        )
        return metrics, predicted

    def _draws(self, epoch: int) -> bool:
        """Whether the confusion matrix is drawn after so many epochs: some ten times in all."""
        return epoch == self.recipe.epochs or epoch % max(1, self.recipe.epochs // 10) == 0

    def _train(self, plan: Epoch, begun: Checkpoint, saver: _Saver, advance: Advance) -> Tally:
        """One pass over the training side; losses are fetched at its end, not at every step."""
        learner = self.learner
        tally = Tally.of(begun.below("tally") if self.team.first else {}, self.team.device)
        learner.module.train()
        for step in plan.walk(begun.step, learner.rank, learner.world):
            # In the middle of the step: the first of a warm-up and the last of a cosine are not 0.
            self._set_learning_rate(begun.epoch + (step.number + 0.5) / plan.steps)
            learner.step(step, tally.add)
            advance(1 / plan.steps)
            if step.number + 1 < plan.steps:
                saver.between(begun.epoch, step.number + 1, tally)
        return tally

    def _set_learning_rate(self, epoch: float) -> None:
        for group in self.learner.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate_at(epoch)

    def _draw_graph(self, log: Log, pictures: Pictures) -> None:
        images, _ = next(pictures.batches([pictures.all[:1]]))
        log.graph(self.learner.plain().eval(), self.normalisation(images).cpu())


class _Saver:
    """Writes checkpoints: after each epoch, every ten minutes, and when asked to stop.

    All processes of a team take part, after the same step.
    """

    def __init__(self, loop: Loop, folder: Path, request: Request) -> None:
        self.loop, self.team, self.folder, self.request = loop, loop.team, folder, request
        self.last = time.monotonic()

    def save(self, epoch: int, step: int = 0, tally: Tally | None = None) -> None:
        """Write all there is."""
        tensors = self.loop.learner.state()
        if tally is not None:
            done = merge(self.team.gather(tally.tensors()))
            tensors |= {f"tally.{name}": tensor for name, tensor in done.items()}
        with self.team.together():
            if self.team.first:
                save_checkpoint(self.folder, Checkpoint(epoch, step, tensors))
        self.last = time.monotonic()

    def between(self, epoch: int, step: int, tally: Tally) -> None:
        """After a step that is not the last of its epoch."""
        due = self.team.first and time.monotonic() - self.last > _SAVE_EVERY
        asked = self._asked(due)
        if asked:
            self.save(epoch, step, tally)
            self._obey(asked, epoch, step)

    def after(self, epoch: int) -> None:
        """After so many whole epochs."""
        self.save(epoch)
        self._obey(self._asked(), epoch)

    def _asked(self, due: bool = False) -> int:
        """The signal that some process was given, 1 if the first wants to save, 0 if neither."""
        return self.team.largest(self.request.signal or int(due))

    def _obey(self, asked: int, epoch: int, step: int = 0) -> None:
        """Stop here if that was asked for, now that it is saved."""
        if asked > 1:
            self.request.signal = asked
            self.request.obey(
                f"{self.folder}: stopped after epoch {epoch}{f' and {step} steps' if step else ''}"
            )


def _note(metrics: EpochMetrics) -> str:
    note, judged = f"loss {metrics.train.loss:.3f}", metrics.validation
    if judged is None:
        return note
    return f"{note}, validation {judged.loss:.3f}, accuracy {judged.accuracy:.1%}"


def _line(metrics: EpochMetrics, epochs: int) -> str:
    kept = f", {metrics.blocks_kept:.0%} of blocks" if metrics.blocks_kept < 1 else ""
    return (
        f"epoch {metrics.epoch:>{len(str(epochs))}}/{epochs}: {_note(metrics)}; "
        f"rate {metrics.learning_rate:.3g}, {metrics.images_per_second:.0f} images/s, "
        f"{metrics.peak_memory / (1 << 30):.2f} GiB{kept}"
    )
