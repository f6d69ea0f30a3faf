"""`Run`: the folder that one training leaves, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.evaluation.calibration import Calibration, calibrate, tempered
from outcrop.evaluation.scores import Scores, score
from outcrop.evaluation.trust import AreaOfTrust
from outcrop.files import decoding, new_file
from outcrop.splits.split import read_split
from outcrop.training.checkpoint import checksum
from outcrop.training.classifier import Classifier, read_classifier
from outcrop.training.folder import CLASSIFIER, is_finished, read_config
from outcrop.training.log import EpochMetrics, read_metrics
from outcrop.training.trust import TRUST, read_trust


@dataclass(frozen=True)
class Predictions:
    """What the model said about the validation side.

    Attributes:
        index: int64, `M`, which patches of the set.
        truth: int64, `M`, their classes.
        probabilities: float32, `M × classes`, as the network gives them: not calibrated, so that
            they can be.
        model: `checksum` of the weights that gave them; empty in runs of before it was kept.
    """

    index: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray
    model: str = ""

    def save(self, path: str | Path) -> None:
        """Write an npz file."""
        with new_file(path) as temporary:
            np.savez(temporary, **vars(self))


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training.

    Attributes:
        folder: where it lies.
        classifier: the model after the last epoch.
        metrics: one entry for each epoch.
        predictions: of the validation side, after the last epoch.
    """

    folder: Path
    classifier: Classifier
    metrics: tuple[EpochMetrics, ...]
    predictions: Predictions

    @cached_property
    def scores(self) -> Scores:
        """Scores of the validation side, with intervals from its pieces of ground.

        Raises:
            OutcropError: there is no validation side.
        """
        if not len(self.predictions.truth):
            raise OutcropError(
                self.folder, "has no validation side; score it on other patches: `outcrop evaluate`"
            )
        return score(
            self.predictions.truth,
            self.predictions.probabilities.argmax(axis=1),
            self.classifier.classes,
            self.groups,
        )

    @cached_property
    def groups(self) -> np.ndarray:
        """The piece of ground of each patch of the validation side."""
        return read_split(self.folder / "split.json").groups[self.predictions.index]

    @cached_property
    def calibration(self) -> Calibration:
        """How sure the model is on the validation side, and how right.

        Raises:
            OutcropError: there is no validation side.
        """
        return calibrate(self.predictions.truth, self.predictions.probabilities, self.groups)

    @cached_property
    def calibrated(self) -> Predictions:
        """Predictions of the validation side as the classifier gives them: calibrated."""
        probabilities = tempered(self.predictions.probabilities, self.classifier.temperature)
        return replace(self.predictions, probabilities=probabilities)

    @cached_property
    def trust(self) -> AreaOfTrust:
        """What is too unlike the training side to be believed.

        Raises:
            OutcropError: the run has none, because it was made by an outcrop of before; or that of
                another run is in its place.
        """
        area = read_trust(self.folder)
        self.check_made(self.folder / TRUST, area.model)
        return area

    def check_made(self, path: Path, model: str) -> None:
        """Refuse a file that was made with other weights than those of the run.

        Args:
            model: `checksum` of those that it was made with; empty if it does not say.

        Raises:
            OutcropError: it was.
        """
        if model not in ("", weights_of(self.classifier)):
            raise OutcropError(
                path, "was made with another model than this run's; put the right one back"
            )


def weights_of(classifier: Classifier) -> str:
    """What tells the weights of a classifier from others: `checksum` as text."""
    return f"{checksum(classifier.module.state_dict()):08x}"


def classifier_of(model: Classifier | Run) -> Classifier:
    """The classifier itself, or that of a run."""
    return model.classifier if isinstance(model, Run) else model


def read_run(folder: str | Path, device: str = "auto") -> Run:
    """Open the folder of a finished training.

    Raises:
        OutcropError: missing, foreign, damaged or unfinished.
    """
    folder = Path(folder)
    read_config(folder, CLASSIFIER)
    if not is_finished(folder):
        raise OutcropError(folder, "is not finished; go on with `outcrop train --resume`")
    run = Run(
        folder=folder,
        classifier=read_classifier(folder, device),
        metrics=read_metrics(folder / "metrics.jsonl"),
        predictions=read_predictions(folder / "predictions.npz"),
    )
    run.check_made(folder / "predictions.npz", run.predictions.model)
    if not np.array_equal(run.predictions.index, read_split(folder / "split.json").validation):
        raise OutcropError(
            folder / "predictions.npz", "is of another split than this run; put the right one back"
        )
    classes = set(run.classifier.classes)
    if run.predictions.probabilities.shape[1] != len(classes):
        raise OutcropError(
            folder / "predictions.npz", f"is damaged or not of {len(classes)} classes; train anew"
        )
    sides = [side for epoch in run.metrics for side in (epoch.train, epoch.validation) if side]
    if any(not classes == side.precision.keys() == side.recall.keys() for side in sides):
        raise OutcropError(
            folder / "metrics.jsonl", "is damaged or not of the model's classes; train anew"
        )
    return run


def read_predictions(path: str | Path) -> Predictions:
    """Read what `Predictions.save` wrote.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    with decoding(path, "a file of predictions", "train anew with `outcrop train`"):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("index", "truth", "probabilities")}
            model = str(file["model"]) if "model" in file else ""
        found = Predictions(**arrays, model=model)
        shapes = found.index.shape, found.truth.shape, found.probabilities.shape[:1]
        kinds = "".join(array.dtype.kind for array in arrays.values())
        if len(set(shapes)) > 1 or found.probabilities.ndim != 2 or kinds != "iif":
            raise ValueError("its arrays do not belong together")
        return found
