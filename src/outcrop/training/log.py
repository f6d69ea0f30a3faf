"""The log of a training: one JSON line for each epoch, and TensorBoard events."""

from __future__ import annotations

import json
import math
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.extras import is_there
from outcrop.files import decoding, explain, new_file
from outcrop.fonts import legible
from outcrop.typed import typed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_WITH_NUMBERS = 15


@dataclass(frozen=True)
class SideScores:
    """Scores of a network on one side of the split.

    Attributes:
        loss: mean cross-entropy, in nats; with sample weights the weighted mean on the training
            side.
        accuracy: share of patches with the right predicted class, 0 to 1.
        precision: by class; None if the class was never predicted.
        recall: by class; None if no patch has the class.
    """

    loss: float
    accuracy: float
    precision: Mapping[str, float | None]
    recall: Mapping[str, float | None]


@dataclass(frozen=True)
class EpochMetrics:
    """One line of `metrics.jsonl`.

    Attributes:
        epoch: number of the epoch, from 1.
        learning_rate: learning rate of the last step.
        train: scores of the augmented training patches, each as often as it was drawn, with the
            weights of each step.
        validation: scores with the weights after the epoch; None without a validation side.
        seconds: duration of training and validation.
        images_per_second: speed of the training.
        blocks_kept: share of the blocks that were computed with stochastic depth, 0 to 1.
        peak_memory: peak memory so far in bytes: of tensors on a GPU, or of the process in RAM.
    """

    epoch: int
    learning_rate: float
    train: SideScores
    validation: SideScores | None
    seconds: float
    images_per_second: float
    blocks_kept: float = 1.0
    peak_memory: int = 0

    def scalars(self) -> Iterator[tuple[str, float]]:
        """What TensorBoard draws: tags and values."""
        judged = self.validation
        for side, scores in (("train", self.train), ("validation", judged)):
            if scores is not None:
                yield f"loss/{side}", scores.loss
                yield f"accuracy/{side}", scores.accuracy
        if judged is not None:
            for name, values in (("precision", judged.precision), ("recall", judged.recall)):
                for class_, value in values.items():
                    if value is not None:
                        yield f"{name}/{class_}", value
        yield "training/learning rate", self.learning_rate
        yield "training/images per second", self.images_per_second
        yield "training/blocks kept", self.blocks_kept
        yield "training/peak memory in GiB", self.peak_memory / (1 << 30)


def score(loss: float, truth: Tensor, predicted: Tensor, classes: tuple[str, ...]) -> SideScores:
    """SideScores from the true and the predicted class of each patch, both int64, `N`."""
    from torchmetrics.functional.classification import multiclass_precision, multiclass_recall

    def by_class(metric: Any) -> dict[str, float | None]:
        found = metric(predicted, truth, len(classes), average=None, zero_division=math.nan)
        return {
            name: None if math.isnan(value) else round(value, 6)
            for name, value in zip(classes, found.tolist(), strict=True)
        }

    return SideScores(
        loss=loss,
        accuracy=(predicted == truth).double().mean().item(),
        precision=by_class(multiclass_precision),
        recall=by_class(multiclass_recall),
    )


class Metrics(Protocol):
    """The scores of an epoch: a dataclass that is one line of `metrics.jsonl`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def epoch(self) -> int:
        """Number of the epoch, from 1."""

    def scalars(self) -> Iterator[tuple[str, float]]:
        """What TensorBoard draws: tags and values."""


@dataclass(frozen=True, eq=False)
class EpochResult:
    """An epoch of `outcrop.training.engine.train`, for its callback `on_epoch`.

    Attributes:
        metrics: the line of `metrics.jsonl`.
        module: a copy of the network with the weights that were evaluated after the epoch, in
            evaluation mode; float32 `N × bands × height × width`, normalised, to logits.
    """

    metrics: EpochMetrics
    module: torch.nn.Module

    @property
    def epoch(self) -> int:
        """Number of epochs done, from 1."""
        return self.metrics.epoch

    @property
    def train(self) -> SideScores:
        """Scores of the augmented training patches during the epoch."""
        return self.metrics.train

    @property
    def validation(self) -> SideScores | None:
        """Scores of the validation side after the epoch; None without a validation side."""
        return self.metrics.validation


Line = TypeVar("Line", bound=Metrics)


class Log:
    """`metrics.jsonl` and the TensorBoard events of one run, from some epoch on."""

    def __init__(self, folder: Path, epochs_done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._lines = folder / "metrics.jsonl"
        _keep_lines(self._lines, epochs_done)
        self._events = SummaryWriter(folder / "events", purge_step=epochs_done + 1)

    def graph(self, module: torch.nn.Module, example: Tensor) -> None:
        """Add the graph of the network; TensorBoard can expand its blocks."""
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            self._events.add_graph(module, example)

    def write(self, metrics: Metrics) -> None:
        """Add an epoch."""
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(metrics), allow_nan=False) + "\n")
        for tag, value in metrics.scalars():
            self._events.add_scalar(tag, value, metrics.epoch)
        self._events.flush()

    def confusion(
        self, epoch: int, truth: Tensor, predicted: Tensor, classes: tuple[str, ...]
    ) -> None:
        """Add the confusion matrix of the validation side, from classes int64, `N`."""
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        counts = multiclass_confusion_matrix(predicted, truth, len(classes))
        if not is_there("matplotlib"):  # of the extra report; the counts are in the metrics
            return
        figure = confusion_figure(counts.numpy(), classes)
        with legible(figure):
            self._events.add_figure("confusion/validation", figure, epoch)

    def pictures(self, tag: str, grid: np.ndarray, epoch: int) -> None:
        """Add an image, uint8, `height × width × 3`."""
        self._events.add_image(tag, grid, epoch, dataformats="HWC")

    def histogram(self, tag: str, values: Sequence[float], epoch: int) -> None:
        """Add a histogram."""
        self._events.add_histogram(tag, np.asarray(values), epoch)

    def close(self) -> None:
        """Write the remaining events."""
        self._events.close()


def confusion_figure(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """A confusion matrix, coloured by the shares of each true class, with counts as text.

    Args:
        confusion: int, `K × K`, patches by true class (rows) and predicted class (columns).
        classes: the K names.
    """
    from matplotlib.figure import Figure

    k = len(classes)
    side = 2.5 + 0.45 * k
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(k), classes, rotation=90)
    axes.set_yticks(range(k), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if k <= _MOST_WITH_NUMBERS:
        for (row, column), count in np.ndenumerate(confusion):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    return figure


@contextmanager
def open_log(folder: Path, epochs_done: int) -> Iterator[Log]:
    """A log that continues after `epochs_done` epochs and is always closed.

    Raises:
        OutcropError: the disk is full or read-only.
    """
    try:
        with _silent_thread(), closing(Log(folder, epochs_done)) as log:
            yield log
    except OSError as error:
        raise explain(error, folder) from error


@contextmanager
def _silent_thread() -> Iterator[None]:
    """Suppress the traceback of TensorBoard's thread, whose error the next call raises."""
    hook = threading.excepthook
    threading.excepthook = lambda failed: (
        None if issubclass(failed.exc_type, OSError) else hook(failed)
    )
    try:
        yield
    finally:
        threading.excepthook = hook


def _keep_lines(path: Path, count: int) -> None:
    """Keep the first `count` lines of a file: a line may be newer than the checkpoint."""
    with decoding(path, "a file of metrics", "train anew"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    if len(lines) < count:
        raise OutcropError(path, f"has lost lines ({len(lines)} of {count}); train anew")
    with new_file(path) as temporary:
        temporary.write_text("".join(lines[:count]), encoding="utf-8")


def read_lines(path: Path, kind: type[Line]) -> tuple[Line, ...]:
    """Read a file of JSON lines, one dataclass for each of the epochs 1, 2 and so on.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    with decoding(path, "a file of metrics", "train anew"):
        lines = path.read_text(encoding="utf-8").splitlines()
        found = tuple(typed(kind, json.loads(line)) for line in lines)
        if [line.epoch for line in found] != list(range(1, len(found) + 1)):
            raise ValueError("it is not one line for each epoch")
        return found
