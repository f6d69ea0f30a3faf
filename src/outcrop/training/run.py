"""`Run`: the folder of a training, and its content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from outcrop.errors import OutcropError
from outcrop.files import decoding, new_file
from outcrop.metrics.applicability import AreaOfApplicability, learn_area
from outcrop.metrics.calibration import Calibration, calibrate, temperature_that_holds, tempered
from outcrop.metrics.scores import Scores, score
from outcrop.splits.folds import Folds
from outcrop.splits.split import Split, read_split
from outcrop.training.applicability import (
    AREA,
    folds_within,
    read_applicability,
    write_applicability,
)
from outcrop.training.classical import ClassicalModel, read_classical
from outcrop.training.classifier import Classifier, read_classifier
from outcrop.training.folder import (
    CLASSICAL,
    CLASSIFIER,
    is_finished,
    read_config,
    read_description,
)
from outcrop.training.log import EpochMetrics, read_lines
from outcrop.training.model import Model
from outcrop.training.normalise import Normalisation


@dataclass(frozen=True)
class Predictions:
    """Predictions for patches that were not used in training.

    Attributes:
        index: int64, `M`, indices into the patch set.
        truth: int64, `M`, true classes.
        probabilities: float32, `M × classes`, before calibration.
        model: `identity` of the model; empty for several models and in runs of older versions.
        cross_validated: true: out-of-fold predictions of other models of a cross-validation, for a
            model that was trained on all patches; false: predictions of the run's model for the
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
        model: network after the last epoch, or classical model.
        metrics: one entry for each epoch of a network.
        predictions: predictions of the validation side.
        config: settings and data of the training, as in `config.json`.
    """

    folder: Path
    model: Model
    metrics: tuple[EpochMetrics, ...]
    predictions: Predictions
    config: Mapping[str, Any]

    def __repr__(self) -> str:
        held_out = self.predictions
        text = f"Run({self.model.title} in {self.folder}"
        if len(held_out.truth):
            right = (held_out.probabilities.argmax(axis=1) == held_out.truth).mean()
            text += f"; {100 * right:.1f} % of {len(held_out.truth):,} held-out patches correct"
        return f"{text})"

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
        """Duration of tuning and training in seconds."""
        tuning = self.tuning.get("seconds", 0.0)
        return float(
            self.config.get("seconds", tuning + sum(epoch.seconds for epoch in self.metrics))
        )

    @property
    def tuning(self) -> Mapping[str, Any]:
        """Trials and result of tuning; empty without tuning."""
        return self.config.get("tuning", {})

    @property
    def settings(self) -> Mapping[str, Any]:
        """Main settings, for tables."""
        if isinstance(self.model, ClassicalModel):
            return self.model.fitted.settings
        recipe = self.config["recipe"]
        settings = {"epochs": recipe["epochs"], "learning rate": recipe["learning_rate"]}
        if not self.tuning:
            return settings
        return settings | {"tuned": self.tuning["chosen"], "network": self.model.title}

    @cached_property
    def scores(self) -> Scores:
        """Scores of the validation side, with intervals from its spatial blocks.

        Raises:
            OutcropError: there is no validation side.
        """
        if not len(self.predictions.truth):
            raise OutcropError(
                self.folder, "has no validation side; score it on other patches: `outcrop.evaluate`"
            )
        return score(
            self.predictions.truth,
            self.predictions.probabilities.argmax(axis=1),
            self.model.classes,
            self.groups,
        )

    @cached_property
    def groups(self) -> np.ndarray:
        """The spatial block of each patch of the validation side."""
        return read_split(self.folder / "split.json").groups[self.predictions.index]

    @cached_property
    def calibration(self) -> Calibration:
        """Confidence and accuracy on the validation side.

        Raises:
            OutcropError: there is no validation side.
        """
        return calibrate(self.predictions.truth, self.predictions.probabilities, self.groups)

    @cached_property
    def calibrated(self) -> Predictions:
        """Calibrated predictions of the validation side, as `predict_proba` gives them."""
        probabilities = tempered(self.predictions.probabilities, self.model.temperature)
        return replace(self.predictions, probabilities=probabilities)

    @cached_property
    def applicability(self) -> AreaOfApplicability:
        """The area of applicability of the model.

        Raises:
            OutcropError: the run was made by a version without it, or its file belongs to another
                run.
        """
        area = read_applicability(self.folder)
        self.check_made(self.folder / AREA, area.model)
        return area

    def check_made(self, path: Path, model: str) -> None:
        """Check that a file names the `identity` of this run's model, or none.

        Raises:
            OutcropError: it belongs to another model.
        """
        if model not in ("", self.model.identity):
            raise OutcropError(
                path, "was made with another model than this run's; put the right one back"
            )


def write_results(
    folder: Path,
    model: Model,
    predictions: Predictions,
    split: Split,
    seen: np.ndarray,
    unseen: np.ndarray,
    folds: Folds | None,
    **settings: Any,
) -> None:
    """Write predictions, area of applicability, and the calibrated model into the folder of a run.

    Args:
        model: trained model; its temperature is set by `predictions`.
        seen, unseen: features of the training and the validation side, `N × features`.
        folds: folds of the cross-validation that gave `predictions`, if they are out-of-fold.
        settings: as in `learn_area`.
    """
    groups = split.groups
    temperature = temperature_that_holds(
        predictions.truth, predictions.probabilities, groups[predictions.index]
    )
    folds_inside = folds_within(folds, split.train)
    area = learn_area(seen, groups[split.train], unseen, folds_inside, **settings)
    predictions.save(folder / "predictions.npz")
    write_applicability(folder, replace(area, model=model.identity))
    replace(model, temperature=temperature).save(folder)


Trained: TypeAlias = Model | Run | str | Path
"""A model, a run, or the folder of a run."""


def opened(trained: Trained) -> Model | Run:
    """The model or run as it is, or the run in a folder."""
    return read_run(trained) if isinstance(trained, str | Path) else trained


def model_of(model: Trained) -> Model:
    """The model, or the model of a run."""
    model = opened(model)
    return model.model if isinstance(model, Run) else model


def network_of(model: Trained) -> Classifier:
    """The network, or the network of a run.

    Raises:
        OutcropError: it is a classical model.
    """
    model = opened(model)
    found = model_of(model)
    if not isinstance(found, Classifier):
        where = model.folder if isinstance(model, Run) else "model"
        raise OutcropError(
            where, f"is a run of {found.title}, and a network is wanted; choose a run of one"
        )
    return found


def read_model(folder: str | Path, device: str = "auto", trusted: Sequence[str] = ()) -> Model:
    """Read the model of a run. No code in the files is executed.

    `trusted` are names of further types that a classical model may contain.

    Raises:
        OutcropError: missing, damaged or foreign files; no such device.
    """
    folder = Path(folder)
    kind, _ = read_description(folder, CLASSIFIER, CLASSICAL)
    if kind == CLASSICAL:
        return read_classical(folder, trusted)
    return read_classifier(folder, device)


def read_run(folder: str | Path, device: str = "auto", trusted: Sequence[str] = ()) -> Run:
    """Open the folder of a finished training; `trusted` as in `read_model`.

    Raises:
        OutcropError: no such folder, no run of outcrop, damaged, or not finished.
    """
    folder = Path(folder)
    config = read_config(folder, CLASSIFIER, CLASSICAL)
    if not is_finished(folder):
        raise OutcropError(folder, "is not finished; go on with `outcrop.train(resume=True)`")
    model, metrics = read_model(folder, device, trusted), folder / "metrics.jsonl"
    epochs = read_lines(metrics, EpochMetrics) if isinstance(model, Classifier) else ()
    path = folder / "predictions.npz"
    predictions = read_predictions(path)
    run = Run(folder, model, epochs, predictions, config)
    run.check_made(path, predictions.model)
    validation = read_split(folder / "split.json").validation
    if not (predictions.cross_validated or np.array_equal(predictions.index, validation)):
        raise OutcropError(path, "is of another split than this run; put the right one back")
    classes = set(model.classes)
    if predictions.probabilities.shape[1] != len(classes):
        raise OutcropError(path, f"is damaged or not of {len(classes)} classes; train anew")
    sides = [side for epoch in epochs for side in (epoch.train, epoch.validation) if side]
    if any(not classes == side.precision.keys() == side.recall.keys() for side in sides):
        raise OutcropError(metrics, "is damaged or not of the model's classes; train anew")
    return run


def read_predictions(path: str | Path) -> Predictions:
    """Read what `Predictions.save` wrote.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    with decoding(path, "a file of predictions", "train anew with `outcrop.train`"):
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
