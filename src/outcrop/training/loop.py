"""The loop over epochs: checkpoints, log, progress and signals."""

from __future__ import annotations

import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from outcrop.errors import OutcropError, Stopped
from outcrop.progress import follow
from outcrop.training.batches import Epoch, Step
from outcrop.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from outcrop.training.device import peak_memory
from outcrop.training.log import Log, Metrics, open_log
from outcrop.training.parallel.process_group import ProcessGroup
from outcrop.training.pictures import Pictures

_SAVE_EVERY = 600.0

Advance = Callable[..., None]


class Trainable(Protocol):
    """What the loop trains."""

    group: ProcessGroup

    def state(self) -> dict[str, Tensor]:
        """All tensors that training changes, by name; complete in the first process."""

    def restore(self, begun: Checkpoint) -> None:
        """Continue from the result of `state`."""


class Accumulator(Protocol):
    """Scores of an epoch so far."""

    def tensors(self) -> dict[str, Tensor]:
        """The content as tensors on the CPU, for a checkpoint; empty before the first step."""


def merge(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of the accumulators of several processes, as those of one."""
    filled = [part for part in parts if part]
    return {name: torch.cat([part[name] for part in filled]) for name in filled[0]}


@dataclass(frozen=True)
class EpochSummary:
    """The results of an epoch.

    Attributes:
        metrics: line of `metrics.jsonl`.
        note: text beside the progress bar.
        line: text that is printed if lines are requested.
        draw: function that adds figures to the log.
    """

    metrics: Metrics
    note: str
    line: str
    draw: Callable[[Log], None]


class Loop(ABC):
    """The training of a learner from the first epoch to the last; `lines`: print each epoch."""

    def __init__(self, learner: Trainable, epochs: int, training: Pictures, lines: bool) -> None:
        self.learner: Trainable = learner
        self.group, self.epochs, self.lines = learner.group, epochs, lines
        self.training = training

    def fit(self, folder: Path) -> None:
        """Train until the last epoch, from the newest checkpoint in `folder` if there is one.

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
                        self._begin(log)
            saver = Saver(self, folder, request, advance)
            for number in range(begun.epoch, self.epochs):
                begin = begun if number == begun.epoch else Checkpoint(number)
                summary = self._epoch(begin, saver)
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
    def _begin(self, log: Log) -> None:
        """Add figures to the log before the first epoch."""

    @abstractmethod
    def _epoch(self, begun: Checkpoint, saver: Saver) -> EpochSummary:
        """Train for an epoch, or the rest of one, and evaluate."""

    def _accumulated(self, begun: Checkpoint) -> dict[str, Tensor]:
        """The tensors of the accumulator that the epoch goes on with in this process."""
        return begun.below("tally") if self.group.first else {}

    def _costs(
        self, begun: Checkpoint, plan: Epoch, started: float, trained: float
    ) -> dict[str, Any]:
        """Entries of the metrics for time, speed and memory, at the end of the evaluation.

        Args:
            started, trained: results of `time.perf_counter` before and after the steps.
        """
        left = (plan.steps - begun.step) / plan.steps
        return {
            "seconds": round(time.perf_counter() - started, 3),
            "images_per_second": round(len(self.training) * left / (trained - started), 1),
            "peak_memory": peak_memory(self.group.device),
        }

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
    """Writes checkpoints: after each epoch, every ten minutes, and after a signal.

    All processes of the group take part, after the same step.
    """

    def __init__(self, loop: Loop, folder: Path, request: Request, advance: Advance) -> None:
        self.loop, self.group, self.folder, self.request = loop, loop.group, folder, request
        self.advance, self.last = advance, time.monotonic()

    def follow(
        self, steps: Iterator[Step], begun: Checkpoint, plan: Epoch, accumulator: Accumulator
    ) -> dict[str, Tensor]:
        """Run the steps of an epoch with progress and checkpoints.

        Returns:
            The tensors of the accumulators of all processes, which stay on their device until then.
        """
        for step in steps:
            self.advance(1 / plan.steps)
            if step.number + 1 < plan.steps:
                self.between(begun.epoch, step.number + 1, accumulator)
        return merge(self.group.all_gather(accumulator.tensors()))

    def save(self, epoch: int, step: int = 0, accumulator: Accumulator | None = None) -> None:
        """Write a checkpoint."""
        tensors = self.loop.learner.state()
        if accumulator is not None:
            done = merge(self.group.all_gather(accumulator.tensors()))
            tensors |= {f"tally.{name}": tensor for name, tensor in done.items()}
        with self.group.all_or_none():
            if self.group.first:
                save_checkpoint(self.folder, Checkpoint(epoch, step, tensors))
        self.last = time.monotonic()

    def between(self, epoch: int, step: int, accumulator: Accumulator) -> None:
        """Write a checkpoint after a step that is not the last of its epoch, if one is due."""
        due = self.group.first and time.monotonic() - self.last > _SAVE_EVERY
        asked = self._asked(due)
        if asked:
            self.save(epoch, step, accumulator)
            self._obey(asked, epoch, step)

    def after(self, epoch: int) -> None:
        """Write a checkpoint after so many complete epochs."""
        self.save(epoch)
        self._obey(self._asked(), epoch)

    def _asked(self, due: bool = False) -> int:
        """The signal that a process got, 1 if a checkpoint is due, otherwise 0."""
        return self.group.maximum(self.request.signal or int(due))

    def _obey(self, asked: int, epoch: int, step: int = 0) -> None:
        """End the training after a signal, now that the checkpoint is written."""
        if asked == signal.SIGINT:
            raise KeyboardInterrupt
        if asked > 1:
            steps = f" and {step} steps" if step else ""
            raise Stopped(
                f"{self.folder}: stopped after epoch {epoch}{steps}; the same command with "
                "`resume=True` goes on"
            )


@dataclass
class Request:
    """A pending Ctrl-C or SIGTERM of this process.

    Schedulers send SIGTERM some seconds before they kill a process.
    """

    signal: int | None = None


@contextmanager
def requests() -> Iterator[Request]:
    """Defer Ctrl-C and SIGTERM while the block runs; a second Ctrl-C ends it at once.

    Signals can be deferred in the main thread only.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def remember(number: int, frame: FrameType | None) -> None:
        request.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
