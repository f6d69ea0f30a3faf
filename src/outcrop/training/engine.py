"""Patches, a split and a network become a run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from outcrop.errors import OutcropError
from outcrop.files import check_new
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.progress import follow
from outcrop.splits.split import Split
from outcrop.training.augment import draw, draw_gains, move
from outcrop.training.checkpoint import load_checkpoint, save_checkpoint
from outcrop.training.classifier import Classifier
from outcrop.training.device import pick_device
from outcrop.training.log import EpochMetrics, Log, SideScores, open_log, score
from outcrop.training.normalise import Normalisation, learn_normalisation
from outcrop.training.pictures import Pictures, load_pictures
from outcrop.training.recipe import Recipe
from outcrop.training.run import (
    Predictions,
    Run,
    check_same,
    describe,
    is_finished,
    read_run,
    start,
)

_EVALUATION_BATCH = 512

Advance = Callable[..., None]


def train(
    patches: PatchSet,
    split: Split,
    folder: str | Path,
    network: ResidualNet = ResidualNet(),
    recipe: Recipe = Recipe(),
    resume: bool = False,
) -> Run:
    """Train `network` on the training side of `split` and judge it on the validation side.

    The model is the one after the last epoch. The best epoch is not looked for: choosing it by
    the validation side would make that side's score too good. The test side is not touched.

    Every epoch draws its order and augmentation from `recipe.seed` and its own number, so that a
    run that was stopped and resumed ends with the same weights as one that was not (on one
    machine, with one number of threads).

    Args:
        patches: the patches; images of more than 2 GiB stay on disk and are read batch by batch.
        split: the sides, made for these patches.
        folder: where the run is written: configuration, split, checkpoint of the last whole epoch,
            metrics, TensorBoard events, predictions of the validation side, and the model.
        network: what to train.
        recipe: how.
        resume: go on with the run in `folder`, if there is one, after its last whole epoch. All
            but the device must be as it was. A finished run is returned as it is.

    Raises:
        OutcropError: the folder exists and `resume` is false, or is not this run; the split does
            not fit the patches; no such device; the loss is no longer a number; a full disk.
        KeyboardInterrupt: the run can be resumed.
    """
    split.check(patches)
    device = pick_device(recipe.device)
    folder = Path(folder)
    config = describe(patches, split, network, recipe)
    going_on = resume and folder.exists()
    if going_on:
        check_same(folder, config, split)
        if is_finished(folder):
            return read_run(folder, recipe.device)
    else:
        check_new(folder, instead="--resume")

    normalisation = learn_normalisation(patches, split.train)
    training = load_pictures(patches, split.train, device)
    validation = load_pictures(patches, split.validation, device)
    engine = _Engine(network, recipe, patches, normalisation, device)
    if not going_on:
        start(folder, config, split)
    # Without this, cuDNN may sum in another order from one run to the next.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        engine.fit(training, validation, folder)
        _, probabilities = engine.evaluate(validation)

    Predictions(validation.index, patches.labels[validation.index], probabilities.numpy()).save(
        folder / "predictions.npz"
    )
    Classifier(
        network, engine.module, patches.classes, patches.bands, normalisation, patches.size
    ).save(folder)
    return read_run(folder, recipe.device)


class _Engine:
    """A network and its optimiser on a device."""

    def __init__(
        self,
        network: ResidualNet,
        recipe: Recipe,
        patches: PatchSet,
        normalisation: Normalisation,
        device: torch.device,
    ) -> None:
        from lightning_fabric import Fabric

        # It announces the precision that the user has just asked for.
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        self.recipe = recipe
        self.classes = patches.classes
        self.has_up = patches.positions is None
        self.normalisation = normalisation
        self.fabric = Fabric(
            accelerator=device.type,
            devices=1 if device.index is None else [device.index],
            precision=recipe.precision,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            module = network.build(len(patches.bands), len(patches.classes))
        self.module = module.to(device)
        self.optimiser = torch.optim.SGD(
            self.module.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.forward, self.stepper = self.fabric.setup(self.module, self.optimiser)

    def fit(self, training: Pictures, validation: Pictures, folder: Path) -> None:
        """Train to the last epoch, from the last checkpoint if there is one."""
        checkpoint = folder / "checkpoint.safetensors"
        done = 0
        if checkpoint.exists():
            done = load_checkpoint(checkpoint, self.module, self.optimiser)
        with (
            open_log(folder, done) as log,
            follow("training", self.recipe.epochs, done) as advance,
        ):
            if done == 0:
                self._draw_graph(log, training)
            for epoch in range(done, self.recipe.epochs):
                metrics = self._epoch(epoch, training, validation, advance)
                log.write(metrics)
                save_checkpoint(checkpoint, epoch + 1, self.module, self.optimiser)
                advance(0, note=_note(metrics))

    def evaluate(self, pictures: Pictures) -> tuple[float, Tensor]:
        """Mean loss, and float32 probabilities `M × classes` on the CPU.

        In full precision whatever the recipe's, as the saved model will be used.
        """
        self.module.eval()
        with torch.inference_mode():
            logits = torch.cat(
                [
                    self.module(self.normalisation(pictures.batch(which)[0]))
                    for which in _pieces(np.arange(len(pictures)), _EVALUATION_BATCH)
                ]
            )
            loss = F.cross_entropy(logits, pictures.labels).item()
            return loss, logits.softmax(dim=1).cpu()

    def _epoch(
        self, epoch: int, training: Pictures, validation: Pictures, advance: Advance
    ) -> EpochMetrics:
        started = time.perf_counter()
        train_scores = self._train(epoch, training, advance)
        trained = time.perf_counter()
        loss, probabilities = self.evaluate(validation)
        if not (math.isfinite(train_scores.loss) and math.isfinite(loss)):
            raise OutcropError(
                "training",
                f"the loss is no longer a number in epoch {epoch + 1}; "
                f"take a learning rate below {self.recipe.learning_rate}, in a new folder",
            )
        return EpochMetrics(
            epoch=epoch + 1,
            learning_rate=self.optimiser.param_groups[0]["lr"],
            train=train_scores,
            validation=score(
                loss, validation.labels.cpu(), probabilities.argmax(dim=1), self.classes
            ),
            seconds=round(time.perf_counter() - started, 3),
            images_per_second=round(len(training) / (trained - started), 1),
        )

    def _train(self, epoch: int, pictures: Pictures, advance: Advance) -> SideScores:
        """One pass over the training side; losses are fetched at its end, not at every step."""
        random = np.random.default_rng((self.recipe.seed, epoch))
        pieces = _pieces(random.permutation(len(pictures)), self.recipe.batch)
        size = pictures.patches.size
        moves = draw(self.recipe.augmentation, len(pictures), size, self.has_up, random)
        moves = moves.to(pictures.labels.device)
        gains = draw_gains(
            self.recipe.augmentation,
            len(pictures),
            len(self.normalisation.mean),
            self.has_up,
            random,
        ).to(pictures.labels.device)

        self.module.train()
        losses, predicted, truth = [], [], []
        first = 0
        for step, which in enumerate(pieces):
            images, labels = pictures.batch(which)
            these = slice(first, first + len(which))
            moved, inside = move(images, moves[these])
            images = self.normalisation(moved * gains[these]).masked_fill_(~inside, 0)
            # In the middle of the step: the first of a warm-up and the last of a cosine are not 0.
            self._set_learning_rate(epoch + (step + 0.5) / len(pieces))
            loss, logits = self._step(images, labels)
            losses.append(loss * len(which))
            predicted.append(logits.argmax(dim=1))
            truth.append(labels)
            first += len(which)
            advance(1 / len(pieces))
        mean = torch.stack(losses).sum().item() / len(pictures)
        return score(mean, torch.cat(truth).cpu(), torch.cat(predicted).cpu(), self.classes)

    def _step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.forward(images)
        loss = F.cross_entropy(logits, labels)
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.stepper.step()
        return loss.detach(), logits.detach()

    def _set_learning_rate(self, epoch: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate_at(epoch)

    def _draw_graph(self, log: Log, pictures: Pictures) -> None:
        self.module.eval()
        log.graph(self.module, self.normalisation(pictures.batch(np.arange(1))[0]))


def _pieces(index: np.ndarray, batch: int) -> list[np.ndarray]:
    """`index` in pieces of at most `batch`, as equal as can be: a last piece of one patch would
    have no variance to normalise by."""
    return np.array_split(index, math.ceil(len(index) / batch))


def _note(metrics: EpochMetrics) -> str:
    train_loss, validation = metrics.train.loss, metrics.validation
    return (
        f"loss {train_loss:.3f}, validation {validation.loss:.3f}, "
        f"accuracy {validation.accuracy:.1%}"
    )
