"""`Run`: the folder that one training leaves, and what it holds."""

from __future__ import annotations

import json
import platform
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from outcrop import __version__
from outcrop.errors import OutcropError
from outcrop.evaluation.calibration import Calibration, calibrate, tempered
from outcrop.evaluation.scores import Scores, score
from outcrop.evaluation.trust import AreaOfTrust
from outcrop.files import new_file, new_folder, read_json, write_json
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import Split, read_split
from outcrop.training.classifier import Classifier, read_classifier
from outcrop.training.log import EpochMetrics, read_metrics
from outcrop.training.recipe import Recipe
from outcrop.training.trust import read_trust

_FORMAT = "outcrop run"
_VERSION = 1


@dataclass(frozen=True)
class Predictions:
    """What the model said about the validation side.

    Attributes:
        index: int64, `M`, which patches of the set.
        truth: int64, `M`, their classes.
        probabilities: float32, `M × classes`, as the network gives them: not calibrated, so that
            they can be.
    """

    index: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray

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
            OutcropError: the run has none, because it was made by an outcrop of before.
        """
        return read_trust(self.folder)


def classifier_of(model: Classifier | Run) -> Classifier:
    """The classifier itself, or that of a run."""
    return model.classifier if isinstance(model, Run) else model


def read_run(folder: str | Path, device: str = "auto") -> Run:
    """Open the folder of a finished training.

    Raises:
        OutcropError: missing, foreign, damaged or unfinished.
    """
    folder = Path(folder)
    _read_config(folder)
    if not is_finished(folder):
        raise OutcropError(folder, "is not finished; go on with `outcrop train --resume`")
    return Run(
        folder=folder,
        classifier=read_classifier(folder, device),
        metrics=read_metrics(folder / "metrics.jsonl"),
        predictions=read_predictions(folder / "predictions.npz"),
    )


def read_predictions(path: str | Path) -> Predictions:
    """Read what `Predictions.save` wrote.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Predictions(arrays["index"], arrays["truth"], arrays["probabilities"])
    except FileNotFoundError:
        raise OutcropError(path, "no such predictions; make a run with `outcrop train`") from None
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise OutcropError(path, "is damaged; train anew") from error


def is_finished(folder: Path) -> bool:
    """Whether the model, which is written last, is there."""
    return (folder / "model.json").exists()


def describe(
    patches: PatchSet, split: Split, network: ResidualNet, recipe: Recipe
) -> dict[str, Any]:
    """What a run was made with, as JSON holds it."""
    import torch

    return {
        "format": _FORMAT,
        "version": _VERSION,
        "network": asdict(network),
        "recipe": asdict(recipe),
        "patches": {
            "fingerprint": patches.fingerprint,
            "number": len(patches),
            "size": list(patches.size),
            "classes": list(patches.classes),
            "bands": list(patches.bands),
        },
        "split": {"how": dict(split.how), "by_ground": split.by_ground},
        "versions": {
            "outcrop": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def start(folder: Path, config: dict[str, Any], split: Split) -> None:
    """Make the folder of a new run.

    Raises:
        OutcropError: something is there already, or the parent folder is missing.
    """
    with new_folder(folder) as temporary:
        write_json(temporary / "config.json", config)
        split.save(temporary / "split.json")


def check_same(folder: Path, config: dict[str, Any], split: Split) -> None:
    """Refuse to go on with a run that was started with something else.

    Versions may differ, and so may the device and the share of it.

    Raises:
        OutcropError: the folder is no run, or network, recipe, patches or split differ.
    """
    stored = _read_config(folder)
    free = {"recipe.machine.device", "recipe.machine.gpu_memory"}
    free |= {*(f"versions.{name}" for name in config["versions"])}
    defaults = {"network": asdict(ResidualNet()), "recipe": asdict(Recipe())}
    given, old, new = (
        {key: value for key, value in _flat(json.loads(json.dumps(part))) if key not in free}
        for part in (defaults, stored, config)  # so that tuples are lists in all
    )
    # What an outcrop of before did not know of, it did as the default does.
    old = given | old
    differences = [
        f"{key} was {old.get(key)}, is {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if not np.array_equal(read_split(folder / "split.json").sides, split.sides):
        differences.append("the split is another")
    if differences:
        raise OutcropError(
            folder,
            f"cannot go on: {'; '.join(differences)}; take the old settings or another folder",
        )


def stored_batch(folder: Path) -> int:
    """The batch that a run was started with.

    Raises:
        OutcropError: the folder is no run.
    """
    try:
        return int(_read_config(folder)["recipe"]["batch"])
    except (KeyError, TypeError, ValueError):
        raise OutcropError(
            folder / "config.json", "does not say the batch; choose another folder"
        ) from None


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise OutcropError(folder, "no such run; make one with `outcrop train`")
    config = read_json(folder / "config.json", "run", "train")
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        raise OutcropError(folder, "is not a run of outcrop; choose another folder")
    return config


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
