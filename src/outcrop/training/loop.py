"""The loop over steps and epochs: forward, backward, optimiser, and nothing else."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.progress import follow
from outcrop.training.batches import Epoch, pieces
from outcrop.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from outcrop.training.classifier import probabilities
from outcrop.training.device import best_precision, peak_memory
from outcrop.training.interrupt import Request, requests
from outcrop.training.log import EpochMetrics, Log, SideScores, open_log, score
from outcrop.training.normalise import Normalisation
from outcrop.training.pictures import Pictures
from outcrop.training.recipe import Recipe

_EVALUATION_BATCH = 512
_SAVE_EVERY = 600.0

Advance = Callable[..., None]


@dataclass
class _Tally:
    """What the steps of an epoch so far have given.

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
        self.predicted.append(logits.detach().argmax(dim=1))
        self.truth.append(labels)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to go on from."""
        return {
            "losses": torch.stack(self.losses),
            "predicted": torch.cat(self.predicted),
            "truth": torch.cat(self.truth),
        }

    @classmethod
    def of(cls, tensors: dict[str, Tensor], device: torch.device) -> _Tally:
        """What `tensors` gave."""
        if not tensors:
            return cls()
        there = {name: tensor.to(device) for name, tensor in tensors.items()}
        return cls(list(there["losses"].unbind()), [there["predicted"]], [there["truth"]])

    def scores(self, classes: tuple[str, ...]) -> SideScores:
        """Of all pictures so far."""
        truth, predicted = torch.cat(self.truth).cpu(), torch.cat(self.predicted).cpu()
        mean = torch.stack(self.losses).sum().item() / len(truth)
        return score(mean, truth, predicted, classes)


class Loop:
    """A network and its optimiser on a device.

    Attributes:
        module: the network.
        judged: the network that is judged and kept: `module`, or its average.
    """

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
        self.network, self.recipe, self.classes = network, recipe, patches.classes
        self.normalisation, self.device = normalisation, device
        machine = recipe.machine
        self.fabric = Fabric(
            accelerator=device.type,
            devices=1 if device.index is None else [device.index],
            precision=best_precision(device) if machine.precision == "auto" else machine.precision,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            module = network.build(len(patches.bands), len(patches.classes))
        self.module = module.to(device)
        self.average = (
            AveragedModel(
                self.module, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True
            )
            if recipe.average
            else None
        )
        self.judged = self.module if self.average is None else self.average.module
        self.module.recompute(machine.recompute)
        if machine.compile == "always" or (machine.compile == "auto" and device.type == "cuda"):
            self.module.compile_blocks()
        self.optimiser = torch.optim.SGD(
            self.module.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        if recipe.momentum:
            # A block that is dropped in the first step has no gradient, and the fused optimiser
            # wants momentum for all parameters or none; zeros are what it would begin with.
            for parameter in self.module.parameters():
                buffer = torch.zeros_like(parameter)
                self.optimiser.state[parameter]["momentum_buffer"] = buffer
        self.forward, self.stepper = self.fabric.setup(self.module, self.optimiser)

    def fit(self, training: Pictures, validation: Pictures, folder: Path) -> None:
        """Train to the last epoch, from the newest checkpoint in `folder` if there is one.

        Raises:
            OutcropError: the loss is no longer a number; a full disk.
            KeyboardInterrupt: Ctrl-C, after a checkpoint.
            Stopped: SIGTERM, after a checkpoint.
        """
        begun = read_checkpoint(folder)
        self._restore(begun, folder)
        with (
            open_log(folder, begun.epoch) as log,
            follow("training", self.recipe.epochs, begun.epoch) as advance,
            requests() as request,
        ):
            if begun.epoch == begun.step == 0:
                self._draw_graph(log, training)
            saver = _Saver(self, folder, request)
            for number in range(begun.epoch, self.recipe.epochs):
                begin = begun if number == begun.epoch else Checkpoint(number)
                metrics = self._epoch(begin, training, validation, saver, advance)
                log.write(metrics)
                saver.save(number + 1)
                advance(0, note=_note(metrics))
                saver.obey(number + 1)

    def evaluate(self, pictures: Pictures) -> tuple[float, Tensor]:
        """Mean loss, and float32 probabilities `M × classes` on the CPU.

        In full precision whatever the recipe's, as the saved model will be used.
        """
        if not len(pictures):
            return math.nan, torch.empty(0, len(self.classes))
        self.judged.eval()
        number = math.ceil(len(pictures) / _EVALUATION_BATCH)
        wanted = [pictures.all[piece] for piece in pieces(len(pictures), number)]
        with torch.inference_mode():
            found = torch.cat(
                [
                    probabilities(self.judged, self.normalisation(images), self.recipe.test_flip)
                    for images, _ in pictures.batches(wanted)
                ]
            )
            loss = F.nll_loss(found.log().clamp_min(-100), pictures.labels).item()
        return loss, found.cpu()

    def state(self) -> dict[str, Tensor]:
        """All that changes in training, by name."""
        tensors = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        if self.average is not None:
            tensors |= {f"average.{name}": t for name, t in self.average.state_dict().items()}
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimiser.state[parameter].items():
                if isinstance(value, Tensor):
                    tensors[f"{key}.{name}"] = value
        return tensors

    def _restore(self, begun: Checkpoint, folder: Path) -> None:
        if not begun.tensors:
            return
        try:
            self.module.load_state_dict(begun.below("model"))
            if self.average is not None:
                self.average.load_state_dict(begun.below("average"))
            parameters = dict(self.module.named_parameters())
            for name, momentum in begun.below("momentum_buffer").items():
                parameter = parameters[name]
                # The fused optimiser walks parameter and momentum by one stride.
                buffer = torch.empty_like(parameter).copy_(momentum)
                self.optimiser.state[parameter]["momentum_buffer"] = buffer
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
    ) -> EpochMetrics:
        started = time.perf_counter()
        plan = Epoch(
            begun.epoch,
            self.recipe,
            self.network,
            training,
            self.normalisation,
            self.recipe.machine.accumulate,
        )
        tally = self._train(plan, begun, saver, advance)
        train_scores = tally.scores(self.classes)
        trained = time.perf_counter()
        loss, found = self.evaluate(validation)
        judged = (
            score(loss, validation.labels.cpu(), found.argmax(dim=1), self.classes)
            if len(validation)
            else None
        )
        if not all(math.isfinite(side.loss) for side in (train_scores, judged) if side):
            raise OutcropError(
                "training",
                f"the loss is no longer a number in epoch {begun.epoch + 1}; "
                f"take a learning rate below {self.recipe.learning_rate}, in a new folder",
            )
        left = (plan.steps - begun.step) / plan.steps
        return EpochMetrics(
            epoch=begun.epoch + 1,
            learning_rate=self.optimiser.param_groups[0]["lr"],
            train=train_scores,
            validation=judged,
            seconds=round(time.perf_counter() - started, 3),
            images_per_second=round(len(training) * left / (trained - started), 1),
            blocks_kept=round(plan.kept_share, 4),
            peak_memory=peak_memory(self.device),
        )

    def _train(self, plan: Epoch, begun: Checkpoint, saver: _Saver, advance: Advance) -> _Tally:
        """One pass over the training side; losses are fetched at its end, not at every step."""
        tally = _Tally.of(begun.below("tally"), self.device)
        self.module.train()
        for step in plan.walk(begun.step):
            # In the middle of the step: the first of a warm-up and the last of a cosine are not 0.
            self._set_learning_rate(begun.epoch + (step.number + 0.5) / plan.steps)
            self.optimiser.zero_grad(set_to_none=True)
            for part in step.parts:
                logits = self.forward(part.images, step.kept)
                loss = F.cross_entropy(
                    logits, part.labels, label_smoothing=self.recipe.label_smoothing
                )
                self.fabric.backward(loss * part.share)
                tally.add(loss, logits, part.labels)
            self.stepper.step()
            if self.average is not None:
                self.average.update_parameters(self.module)
            advance(1 / plan.steps)
            if step.number + 1 < plan.steps:
                saver.between(begun.epoch, step.number + 1, tally)
        return tally

    def _set_learning_rate(self, epoch: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate_at(epoch)

    def _draw_graph(self, log: Log, pictures: Pictures) -> None:
        self.module.eval()
        images, _ = next(pictures.batches([pictures.all[:1]]))
        log.graph(self.module, self.normalisation(images))


class _Saver:
    """Writes checkpoints: after each epoch, every ten minutes, and when asked to stop."""

    def __init__(self, loop: Loop, folder: Path, request: Request) -> None:
        self.loop, self.folder, self.request = loop, folder, request
        self.last = time.monotonic()

    def save(self, epoch: int, step: int = 0, tally: _Tally | None = None) -> None:
        """Write all there is."""
        tensors = self.loop.state()
        if tally is not None:
            tensors |= {f"tally.{name}": tensor for name, tensor in tally.tensors().items()}
        save_checkpoint(self.folder, Checkpoint(epoch, step, tensors))
        self.last = time.monotonic()

    def between(self, epoch: int, step: int, tally: _Tally) -> None:
        """After a step that is not the last of its epoch."""
        if self.request or time.monotonic() - self.last > _SAVE_EVERY:
            self.save(epoch, step, tally)
            self.obey(epoch, step)

    def obey(self, epoch: int, step: int = 0) -> None:
        """Stop here if that was asked for, now that it is saved."""
        if self.request:
            self.request.obey(
                f"{self.folder}: stopped after epoch {epoch}{f' and {step} steps' if step else ''}"
            )


def _note(metrics: EpochMetrics) -> str:
    note, judged = f"loss {metrics.train.loss:.3f}", metrics.validation
    if judged is None:
        return note
    return f"{note}, validation {judged.loss:.3f}, accuracy {judged.accuracy:.1%}"
