"""The loop over epochs: checkpoints, log, progress, and requests to end."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.progress import follow
from outcrop.training.accumulator import merge
from outcrop.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from outcrop.training.interrupt import Request, requests
from outcrop.training.log import Log, Metrics, open_log
from outcrop.training.parallel import ProcessGroup
from outcrop.training.pictures import Pictures

_SAVE_EVERY = 600.0

Advance = Callable[..., None]


class Trainable(Protocol):
    """What the loop goes through the epochs with."""

    group: ProcessGroup

    def state(self) -> dict[str, Tensor]:
        """All that changes in training, by name; whole in the first process."""

    def restore(self, begun: Checkpoint) -> None:
        """Go on from what `state` gave."""


class Accumulator(Protocol):
    """What the steps of an epoch so far have given."""

    def tensors(self) -> dict[str, Tensor]:
        """All of it, on the CPU, to go on from; nothing where there is nothing yet."""


@dataclass(frozen=True)
class EpochSummary:
    """What an epoch has given.

    Attributes:
        metrics: a line of `metrics.jsonl`.
        note: beside the bar.
        line: printed where lines are wanted.
        draw: puts pictures into the log.
    """

    metrics: Metrics
    note: str
    line: str
    draw: Callable[[Log], None]


class Loop(ABC):
    """What a learner goes through, from the first epoch to the last.

    Attributes:
        learner: what learns.
        epochs: how many.
        lines: print a line for each.
    """

    def __init__(self, learner: Trainable, epochs: int, lines: bool) -> None:
        self.learner: Trainable = learner
        self.group, self.epochs, self.lines = learner.group, epochs, lines

    def fit(self, training: Pictures, validation: Pictures, folder: Path) -> None:
        """Train to the last epoch, from the newest checkpoint in `folder` if there is one.

        Raises:
            OutcropError: the loss is no longer a number; a full disk.
            KeyboardInterrupt: Ctrl-C, after a checkpoint.
            Stopped: SIGTERM, after a checkpoint.
        """
        with self.group.all_or_none():
            begun = read_checkpoint(folder)
        self._restore(begun, folder)
        with (
            ExitStack() as stack,
            follow("training", self.epochs, begun.epoch) as advance,
            requests() as request,
        ):
            log = None
            with self.group.all_or_none():
                if self.group.first:
                    log = stack.enter_context(open_log(folder, begun.epoch))
                    if begun.epoch == begun.step == 0:
                        self._begin(log, training)
            saver = Saver(self, folder, request)
            for number in range(begun.epoch, self.epochs):
                begin = begun if number == begun.epoch else Checkpoint(number)
                summary = self._epoch(begin, training, validation, saver, advance)
                with self.group.all_or_none():
                    if log:
                        log.write(summary.metrics)
                        summary.draw(log)
                advance(0, note=summary.note, line=summary.line if self.lines else None)
                stops = self._stops(summary)
                saver.after(number + 1)
                if stops:
                    break

    @abstractmethod
    def _begin(self, log: Log, training: Pictures) -> None:
        """Draw what is to be seen before the first epoch."""

    @abstractmethod
    def _epoch(
        self,
        begun: Checkpoint,
        training: Pictures,
        validation: Pictures,
        saver: Saver,
        advance: Advance,
    ) -> EpochSummary:
        """Go through an epoch, or the rest of one."""

    def _stops(self, summary: EpochSummary) -> bool:
        """Whether the training ends after this epoch, before the last one."""
        return False

    def _restore(self, begun: Checkpoint, folder: Path) -> None:
        if not begun.tensors:
            return
        try:
            self.learner.restore(begun)
        except (RuntimeError, KeyError) as error:
            raise OutcropError(
                folder, "its checkpoint belongs to another network; choose another folder"
            ) from error


class Saver:
    """Writes checkpoints: after each epoch, every ten minutes, and when asked to stop.

    All processes of a group take part, after the same step.
    """

    def __init__(self, loop: Loop, folder: Path, request: Request) -> None:
        self.loop, self.group, self.folder, self.request = loop, loop.group, folder, request
        self.last = time.monotonic()

    def save(self, epoch: int, step: int = 0, accumulator: Accumulator | None = None) -> None:
        """Write all there is."""
        tensors = self.loop.learner.state()
        if accumulator is not None:
            done = merge(self.group.all_gather(accumulator.tensors()))
            tensors |= {f"tally.{name}": tensor for name, tensor in done.items()}
        with self.group.all_or_none():
            if self.group.first:
                save_checkpoint(self.folder, Checkpoint(epoch, step, tensors))
        self.last = time.monotonic()

    def between(self, epoch: int, step: int, accumulator: Accumulator) -> None:
        """After a step that is not the last of its epoch."""
        due = self.group.first and time.monotonic() - self.last > _SAVE_EVERY
        asked = self._asked(due)
        if asked:
            self.save(epoch, step, accumulator)
            self._obey(asked, epoch, step)

    def after(self, epoch: int) -> None:
        """After so many whole epochs."""
        self.save(epoch)
        self._obey(self._asked(), epoch)

    def _asked(self, due: bool = False) -> int:
        """The signal that some process was given, 1 if the first wants to save, 0 if neither."""
        return self.group.maximum(self.request.signal or int(due))

    def _obey(self, asked: int, epoch: int, step: int = 0) -> None:
        """Stop here if that was asked for, now that it is saved."""
        if asked > 1:
            self.request.signal = asked
            self.request.obey(
                f"{self.folder}: stopped after epoch {epoch}{f' and {step} steps' if step else ''}"
            )
