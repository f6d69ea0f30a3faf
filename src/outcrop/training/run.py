"""`Run`: the folder that one training leaves, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from outcrop.errors import OutcropError
from outcrop.files import decoding, new_file
from outcrop.metrics.applicability import AreaOfApplicability
from outcrop.metrics.calibration import Calibration, calibrate, tempered
from outcrop.metrics.scores import Scores, score
from outcrop.splits.split import read_split
from outcrop.training.applicability import AREA, read_applicability
from outcrop.training.classical import ClassicalModel, read_classical
from outcrop.training.classifier import Classifier, read_classifier
from outcrop.training.folder import (
    CLASSICAL,
    CLASSIFIER,
    is_finished,
    kind_of_model,
    read_config,
    read_description,
)
from outcrop.training.log import EpochMetrics, read_metrics
from outcrop.training.model import Model
from outcrop.training.normalise import Normalisation


@dataclass(frozen=True)
class Predictions:
    """What was said about patches that had no part in the training.

    Attributes:
        index: int64, `M`, which patches of the set.
        truth: int64, `M`, their classes.
        probabilities: float32, `M × classes`, as the network gives them: not calibrated, so that
            they can be.
        model: `identity` of the model that gave them; empty if several did, and in runs of before
            it was kept.
        cross_validated: whether models like the run's own said it of what their folds hold out,
            while the run's was trained on all patches; otherwise the run's model said it of the
            validation side.
    """

    index: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray
    model: str = ""
    cross_validated: bool = False

    def save(self, path: str | Path) -> None:
        """Write an npz file."""
        with new_file(path) as temporary:
            np.savez(temporary, **vars(self))


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training.

    Attributes:
        folder: where it lies.
        model: what was trained: a network after the last epoch, or a classical model.
        metrics: one entry for each epoch of a network.
        predictions: of the validation side.
        config: what it was made with.
    """

    folder: Path
    model: Model
    metrics: tuple[EpochMetrics, ...]
    predictions: Predictions
    config: Mapping[str, Any]

    @property
    def classifier(self) -> Classifier:
        """The trained network.

        Raises:
            OutcropError: the run is of a classical model.
        """
        return network_of(self)

    @property
    def module(self) -> nn.Module:
        """The trained network: float32 `N × bands × height × width`, as `transform` gives it, to
        logits `N × classes`. A network that sees a part of a patch crops it itself.

        With them and PyTorch alone, `predict_proba` of the run's model is

            (run.module.eval()(run.transform(images)) / run.model.temperature).softmax(dim=1)

        for a tensor of images; with `test_flip`, the mean over the images and their mirror images.

        Raises:
            OutcropError: the run is of a classical model.
        """
        return self.classifier.module

    @property
    def transform(self) -> Normalisation:
        """Mean and standard deviation of each band on the training side; called with images of any
        dtype, it gives them normalised, float32, with 0 where a pixel has no data.

        Raises:
            OutcropError: the run is of a classical model.
        """
        return self.classifier.normalisation

    @property
    def seconds(self) -> float:
        """What tuning and training took."""
        tuning = self.tuning.get("seconds", 0.0)
        return float(
            self.config.get("seconds", tuning + sum(epoch.seconds for epoch in self.metrics))
        )

    @property
    def tuning(self) -> Mapping[str, Any]:
        """What was tried and chosen before a network was trained; empty if nothing was."""
        return self.config.get("tuning", {})

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a table says of how it was made."""
        if isinstance(self.model, ClassicalModel):
            return self.model.fitted.settings
        recipe = self.config["recipe"]
        said = {"epochs": recipe["epochs"], "learning rate": recipe["learning_rate"]}
        if not self.tuning:
            return said
        return said | {"tuned": self.tuning["chosen"], "network": self.model.title}

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
            self.model.classes,
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
        probabilities = tempered(self.predictions.probabilities, self.model.temperature)
        return replace(self.predictions, probabilities=probabilities)

    @cached_property
    def applicability(self) -> AreaOfApplicability:
        """What is too unlike the training side to be believed.

        Raises:
            OutcropError: the run has none, because it was made by an outcrop of before; or that of
                another run is in its place.
        """
        area = read_applicability(self.folder)
        self.check_made(self.folder / AREA, area.model)
        return area

    def check_made(self, path: Path, model: str) -> None:
        """Refuse a file that was made with other weights than those of the run.

        Args:
            model: `checksum` of those that it was made with; empty if it does not say.

        Raises:
            OutcropError: it was.
        """
        if model not in ("", self.model.identity):
            raise OutcropError(
                path, "was made with another model than this run's; put the right one back"
            )


def model_of(model: Model | Run) -> Model:
    """The model itself, or that of a run."""
    return model.model if isinstance(model, Run) else model


def network_of(model: Model | Run) -> Classifier:
    """The network itself, or that of a run.

    Raises:
        OutcropError: it is a classical model.
    """
    found = model_of(model)
    if not isinstance(found, Classifier):
        where = model.folder if isinstance(model, Run) else "model"
        raise OutcropError(
            where, f"is a run of {found.title}, and a network is wanted; choose a run of one"
        )
    return found


def read_model(
    folder: str | Path,
    device: str = "auto",
    trusted: Sequence[str] = (),
) -> Model:
    """Read the model that a run left. Nothing that is read is executed.

    Args:
        trusted: names of types of the user's own that a classical model is made of.

    Raises:
        OutcropError: missing, damaged or foreign files; no such device.
    """
    folder = Path(folder)
    content = read_description(folder)
    if kind_of_model(folder, content, CLASSIFIER, CLASSICAL) == CLASSICAL:
        return read_classical(folder, trusted)
    return read_classifier(folder, device)


def read_run(
    folder: str | Path,
    device: str = "auto",
    trusted: Sequence[str] = (),
) -> Run:
    """Open the folder of a finished training.

    Args:
        trusted: see `read_model`.

    Raises:
        OutcropError: missing, foreign, damaged or unfinished.
    """
    folder = Path(folder)
    config = read_config(folder, CLASSIFIER, CLASSICAL)
    if not is_finished(folder):
        raise OutcropError(folder, "is not finished; go on with `outcrop train --resume`")
    model = read_model(folder, device, trusted)
    run = Run(
        folder=folder,
        model=model,
        metrics=read_metrics(folder / "metrics.jsonl") if isinstance(model, Classifier) else (),
        predictions=read_predictions(folder / "predictions.npz"),
        config=config,
    )
    run.check_made(folder / "predictions.npz", run.predictions.model)
    validation = read_split(folder / "split.json").validation
    said = run.predictions
    if not (said.cross_validated or np.array_equal(said.index, validation)):
        raise OutcropError(
            folder / "predictions.npz", "is of another split than this run; put the right one back"
        )
    classes = set(run.model.classes)
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
            crossed = bool(file["cross_validated"]) if "cross_validated" in file else False
        found = Predictions(**arrays, model=model, cross_validated=crossed)
        shapes = found.index.shape, found.truth.shape, found.probabilities.shape[:1]
        kinds = "".join(array.dtype.kind for array in arrays.values())
        if len(set(shapes)) > 1 or found.probabilities.ndim != 2 or kinds != "iif":
            raise ValueError("its arrays do not belong together")
        return found
