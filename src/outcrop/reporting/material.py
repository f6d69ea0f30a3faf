"""Contents of the folder that a report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from outcrop.auditing.audit import Audit
from outcrop.auditing.folder import Evidence, check_same_set, read_audit
from outcrop.errors import OutcropError
from outcrop.files import decoding, read_json
from outcrop.frames import Colour
from outcrop.metrics.applicability import Applicability, judge_applicability
from outcrop.metrics.calibration import Calibration, calibrate, tempered
from outcrop.metrics.scores import Scores, score
from outcrop.patches.palette import palette
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.reporting.maps import MapFiles, files_beside
from outcrop.splits import Folds, Split, read_split
from outcrop.training.applicability import has_applicability
from outcrop.training.classifier import Classifier
from outcrop.training.run import Predictions, Run, read_run
from outcrop.workflow.candidates import read_scored
from outcrop.workflow.compare import compared_folds
from outcrop.workflow.comparison import Comparison, Row, read_comparison
from outcrop.workflow.plan import Experiment


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions of one model for patches that it was not fitted to.

    They are of the validation patches of its runs, one run per fold. For a run that was fitted to
    all patches they are of the patches that cross-validation held out.

    Attributes:
        title: name of the model.
        classes: the class names.
        predictions: predictions by ascending index, not calibrated.
        calibrated: the same, each at the temperature of its run.
        groups: the spatial group of each of these patches.
        runs: one for each fold; none for a classical model of a comparison, which is not stored.
    """

    title: str
    classes: tuple[str, ...]
    predictions: Predictions
    calibrated: Predictions
    groups: np.ndarray
    runs: tuple[Run, ...] = ()

    @classmethod
    def of_runs(cls, runs: Sequence[Run], judged: np.ndarray | None = None) -> HeldOut:
        """From one run for each fold.

        Args:
            judged: indices of the patches that are scored; None for all.

        Raises:
            OutcropError: a split is damaged.
        """
        index = np.concatenate([run.predictions.index for run in runs])
        order = np.argsort(index, kind="stable")
        if judged is not None:
            order = order[np.isin(index[order], judged)]

        def pooled(parts: Sequence[Predictions]) -> Predictions:
            return Predictions(
                index=index[order],
                truth=np.concatenate([one.truth for one in parts])[order],
                probabilities=np.concatenate([one.probabilities for one in parts])[order],
            )

        return cls(
            title=runs[0].model.title,
            classes=runs[0].model.classes,
            predictions=pooled([run.predictions for run in runs]),
            calibrated=pooled([run.calibrated for run in runs]),
            groups=np.concatenate([run.groups for run in runs])[order],
            runs=tuple(runs),
        )

    @classmethod
    def of_row(cls, folder: Path, row: Row, classes: tuple[str, ...]) -> HeldOut:
        """From the stored predictions of a comparison.

        Raises:
            OutcropError: the predictions are missing or damaged.
        """
        predictions, groups = read_scored(folder, row)
        found = calibrate(predictions.truth, predictions.probabilities, groups)
        probabilities = tempered(predictions.probabilities, found.temperature)
        calibrated = replace(predictions, probabilities=probabilities)
        return cls(row.title, classes, predictions, calibrated, groups)

    @cached_property
    def scores(self) -> Scores:
        """Scores with intervals from all spatial groups.

        Raises:
            OutcropError: no patch is held out.
        """
        if not len(self.predictions.truth):
            return self.runs[0].scores  # Raises the error.
        predicted = self.predictions.probabilities.argmax(axis=1)
        return score(self.predictions.truth, predicted, self.classes, self.groups)

    @cached_property
    def calibration(self) -> Calibration:
        """Confidence and accuracy on the held-out patches."""
        return calibrate(self.predictions.truth, self.predictions.probabilities, self.groups)

    @property
    def cross_validated(self) -> bool:
        """Whether the model was fitted to all patches and other models made the predictions."""
        return any(run.predictions.cross_validated for run in self.runs)

    @property
    def is_calibrated(self) -> bool:
        """Whether maps are calibrated; runs of old versions, without a temperature, are not."""
        if len(self.runs) != 1 or self.cross_validated:
            return True
        return bool(np.isclose(self.runs[0].model.temperature, self.calibration.temperature))

    @property
    def threshold(self) -> float:
        """Largest dissimilarity in the area of applicability; NaN if each fold has its own."""
        alone = len(self.runs) == 1 and has_applicability(self.runs[0].folder)
        return self.runs[0].applicability.threshold if alone else np.nan

    @cached_property
    def applicability(self) -> Applicability | None:
        """Accuracy inside and outside of the area of applicability.

        None if a run has no such area, or there is no run, and for a model fitted to all patches.

        Raises:
            OutcropError: an area of applicability is damaged.
        """
        if not self.runs or not all(has_applicability(run.folder) for run in self.runs):
            return None
        if self.cross_validated:
            return None  # Its area is that of all patches.
        areas = [run.applicability for run in self.runs]
        outside = np.concatenate([area.held_out.numpy() > area.threshold for area in areas])
        index = np.concatenate([run.predictions.index for run in self.runs])
        order = np.argsort(index, kind="stable")
        outside = outside[order[np.isin(index[order], self.predictions.index)]]
        right = self.predictions.probabilities.argmax(axis=1) == self.predictions.truth
        return judge_applicability(outside, right, self.groups)


@dataclass(frozen=True, eq=False)
class Material:
    """Contents of a report; parts that the folder does not hold are None or empty.

    Attributes:
        folder: the folder.
        kind: the command that made it.
        config: configuration of the described run: network or classical model, recipe, patches,
            split, versions; empty without a run.
        held: held-out predictions, with the first seed, of the model that the report describes in
            detail: the one that made the maps of an experiment, the network of a comparison, the
            recommended model of a comparison without a network, or the model of a run.
        folds: side of each patch in each fold.
        learning: run of the network, of the first fold; None for a classical model.
        random: held-out predictions under the random split, if the described model is the network.
        comparison: the comparison of all models.
        patches: the patch set.
        experiment: the plan of the experiment.
        maps: class maps by index of their scene in the sources of the patch set.
        audit: findings of the audit, and the images of its evidence.
    """

    folder: Path
    kind: Literal["experiment", "compare", "train"]
    config: dict[str, Any]
    held: HeldOut
    folds: Folds
    learning: Run | None = None
    random: HeldOut | None = None
    comparison: Comparison | None = None
    patches: PatchSet | None = None
    experiment: Experiment | None = None
    maps: Mapping[int, MapFiles] = field(default_factory=dict)
    audit: tuple[Audit, Evidence] | None = None

    @property
    def split(self) -> Split:
        """The split; the first one if there are several folds."""
        return self.folds.splits[0]

    @property
    def colours(self) -> dict[str, Colour]:
        """The colour of each class by name."""
        trained_on = self.held.runs[0].model.trained_on if self.held.runs else None
        return palette(self.held.classes, None if trained_on is None else trained_on.colours)

    @property
    def why_this(self) -> str:
        """Why this model made the maps, in words."""
        named = self.experiment is not None and self.experiment.map_with is not None
        return "selected with --map-with" if named else "recommended by cross-validation"

    @property
    def network_words(self) -> str:
        """Description of the model."""
        network, words = self.config.get("network", {}), [self.held.title]
        for run in self.held.runs[:1]:
            if isinstance(run.model, Classifier) and "width" in network:
                words[0] += f", {network['width']} filters in the first stage"
            if run.metrics:
                words.append(f"{len(run.metrics)} epochs")
        return "; ".join(words)

    @property
    def seed(self) -> int:
        """The random seed of the described model."""
        if not self.config:
            assert self.comparison is not None
            return self.comparison.rows[0].seeds[0]
        return int((self.config.get("recipe") or self.config["classical"])["seed"])

    @property
    def held_out(self) -> str:
        """Name of the held-out patches in a sentence."""
        if not self.split.spatial:
            return "randomly selected validation patches"
        return "held-out areas" if self.has_positions else "validation images"

    @property
    def split_words(self) -> str:
        """Name of the split in a sentence."""
        several = len(self.folds) > 1
        if not self.split.spatial:
            return "random folds" if several else "random split"
        if several:
            return "spatial folds"
        return "spatial split" if self.has_positions else "delivered split"

    @property
    def without_positions(self) -> bool:
        """Whether the patches are known to have no positions."""
        return self.patches is not None and self.patches.positions is None

    @property
    def has_positions(self) -> bool:
        """Whether the patches have positions, or probably have them if the set is not there."""
        if self.patches is not None:
            return self.patches.positions is not None
        return self.split.how.get("splitter") not in ("ColumnSplit", "RandomSplit")


def read_material(folder: Path) -> Material:
    """Read a folder made by `outcrop experiment`, `outcrop compare` or `outcrop train`.

    Raises:
        OutcropError: the folder is missing, foreign, damaged or unfinished.
    """
    if not folder.is_dir():
        raise OutcropError(
            folder, "no such folder or map; name a folder that `outcrop.run_experiment` made"
        )
    if (folder / "experiment.yaml").exists():
        return _experiment(folder)
    if (folder / "comparison.json").exists():
        return _comparison(folder)
    if any((folder / name / "config.json").exists() for name in ("network", "fold-0/network")):
        raise OutcropError(folder, "is not finished; go on with `outcrop.compare(resume=True)`")
    if (folder / "config.json").exists():
        return _train(folder)
    raise OutcropError(
        folder,
        "holds nothing to report on; name a folder that `outcrop.run_experiment`, "
        "`outcrop.compare`, `outcrop.train` or `outcrop.audit` made",
    )


def _experiment(folder: Path) -> Material:
    path = folder / "experiment.yaml"
    with decoding(path, "an experiment", "make one with `outcrop.run_experiment`"):
        plan = Experiment.from_yaml(path.read_text(encoding="utf-8"))
    if not (folder / "comparison" / "comparison.json").exists():
        raise OutcropError(
            folder, "is not finished; go on with `outcrop.run_experiment(resume=True)`"
        )
    compared = _comparison(folder / "comparison")
    patches = read_patches(folder / "patches.zarr")
    if compared.config["patches"]["fingerprint"] != patches.fingerprint:
        raise OutcropError(
            folder / "patches.zarr",
            "is not the patch set that the models were trained on; "
            "restore it, or run the experiment in a new folder",
        )
    held, random = compared.held, compared.random
    if (folder / "final").exists():
        final = read_run(folder / "final", "cpu")
        held = HeldOut.of_runs([final], compared.held.predictions.index)
        if not isinstance(final.model, Classifier):
            random = None
    audit = read_audit(folder / "audit") if (folder / "audit").exists() else None
    if audit is not None:
        check_same_set(audit[0], patches, compared.split, folder / "audit")
    return replace(
        compared,
        folder=folder,
        kind="experiment",
        held=held,
        random=random,
        patches=patches,
        experiment=plan,
        maps=_maps(folder / "maps", plan),
        audit=audit,
    )


def _comparison(folder: Path) -> Material:
    comparison = read_comparison(folder)
    network = comparison.network
    if network is None:
        return Material(
            folder=folder,
            kind="compare",
            config={},
            held=HeldOut.of_row(folder, comparison.recommended, comparison.classes),
            folds=compared_folds(folder),
            comparison=comparison,
        )
    names = (network.runs or ("network",))[: comparison.folds]
    folds = compared_folds(folder, names[0])
    runs = [read_run(folder / name, "cpu") for name in names]
    judged = None
    if len(folds) > 1:
        labels = np.zeros(len(folds.groups), np.int64)
        for run in runs:
            labels[run.predictions.index] = run.predictions.truth
        judged = folds.scored(labels)
    at_random = [folder / f"{name}-random" for name in names]
    random = None
    if all(path.exists() for path in at_random):
        random = HeldOut.of_runs([read_run(path, "cpu") for path in at_random], judged)
    return Material(
        folder=folder,
        kind="compare",
        config=read_json(folder / names[0] / "config.json", "run", "train"),
        held=HeldOut.of_runs(runs, judged),
        folds=folds,
        learning=runs[0],
        random=random,
        comparison=comparison,
    )


def _train(folder: Path) -> Material:
    held = HeldOut.of_runs([read_run(folder, "cpu")])
    _ = held.scores  # Raises an error for a run without held-out patches.
    return Material(
        folder=folder,
        kind="train",
        config=read_json(folder / "config.json", "run", "train"),
        held=held,
        folds=Folds((read_split(folder / "split.json"),)),
        learning=held.runs[0] if held.runs[0].metrics else None,
    )


def _maps(folder: Path, plan: Experiment) -> dict[int, MapFiles]:
    found = {}
    names: dict[int, list[str] | None] = {}
    # A truth that cannot be opened is left out later, with a note on the page.
    with suppress(OutcropError):
        names = dict(enumerate(plan.truth_classes()))
    for path in folder.glob("*-classes.tif"):
        number = path.name.partition("-")[0]
        if number.isdecimal():
            source = int(number)
            truth = plan.truth[source] if source < len(plan.truth) else None
            found[source] = files_beside(path, truth, names.get(source))
    return dict(sorted(found.items()))
