"""What lies in the folder that a report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from outcrop.auditing.audit import Audit
from outcrop.auditing.folder import Evidence, check_same_set, read_audit
from outcrop.errors import OutcropError
from outcrop.files import decoding, read_json
from outcrop.metrics.scores import Scores
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.reporting.held_out import HeldOut
from outcrop.reporting.maps import MapFiles, files_beside
from outcrop.splits import Folds, Split, read_split
from outcrop.training.classifier import Classifier
from outcrop.training.run import Run, read_run
from outcrop.workflow.compare import compared_folds
from outcrop.workflow.comparison import Comparison, Row, read_comparison
from outcrop.workflow.plan import Experiment


@dataclass(frozen=True, eq=False)
class Material:
    """What a report is made of; what the folder does not hold is None or empty.

    Attributes:
        folder: where it lies.
        kind: which command made it.
        config: of the network's run: network, recipe, patches, split, versions.
        held: the model that is looked at closely, on what is held out, with the first seed: the one
            that made the maps of an experiment, the network of a comparison, that of a run.
        folds: which patch stands on which side.
        learning: the network's run, of several folds the first; None for a classical model's run.
        random: the network on what is held out at random, if that is what is looked at closely.
        comparison: all models.
        patches: the patch set.
        experiment: the plan.
        maps: the class maps by index of their scene in the patch set's sources.
        audit: what it found, and pictures of its evidence.
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
        """The split; of several folds the first."""
        return self.folds.splits[0]

    @property
    def scores(self) -> Scores:
        """On what is held out, with the first seed."""
        return self.held.scores

    @property
    def score_kind(self) -> str:
        """What kind of score the numbers are, in words."""
        return self.folds.kind

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.scores.classes

    @property
    def title(self) -> str:
        """The name of the model that is looked at closely."""
        return self.held.runs[0].model.title

    @property
    def why_this(self) -> str:
        """Why the maps are made by this model, in words."""
        named = self.experiment is not None and self.experiment.map_with is not None
        return "which --map-with names" if named else "which cross-validation recommends"

    @property
    def network_words(self) -> str:
        """What the model is, in words."""
        network, run = self.config.get("network", {}), self.held.runs[0]
        words = [run.model.title]
        if isinstance(run.model, Classifier) and "width" in network:
            words[0] += f", {network['width']} filters in the first stage"
        if run.metrics:
            words.append(f"{len(run.metrics)} epochs")
        return "; ".join(words)

    @property
    def seed(self) -> int:
        """The random seed of the run."""
        return int((self.config.get("recipe") or self.config["classical"])["seed"])

    @property
    def network_row(self) -> Row | None:
        """The network's row in the comparison; of several networks the best."""
        rows = self.comparison.rows if self.comparison else ()
        return next((row for row in rows if row.features == "patch"), None)

    @property
    def held_out(self) -> str:
        """What the validation side is, in words."""
        if not self.split.spatial:
            return "validation patches drawn at random"
        return "held-out ground" if self.from_ground else "validation images"

    @property
    def split_words(self) -> str:
        """What the split is, in words."""
        several = len(self.folds) > 1
        if not self.split.spatial:
            return "folds at random" if several else "split at random"
        if several:
            return "spatial folds"
        return "split by ground" if self.from_ground else "split as delivered"

    @property
    def fitted_anew(self) -> bool:
        """Whether the maps are made by a model that was fitted to all labelled patches."""
        return self.held.runs[0].predictions.cross_validated

    @property
    def without_ground(self) -> bool:
        """Whether the patches are known to have no places."""
        return self.patches is not None and self.patches.positions is None

    @property
    def from_ground(self) -> bool:
        """Whether the patches have places, as far as can be told."""
        if self.patches is not None:
            return self.patches.positions is not None
        return self.split.how.get("splitter") not in ("ColumnSplit", "RandomSplit")


def read_material(folder: Path) -> Material:
    """Read what `outcrop experiment`, `outcrop compare` or `outcrop train` left.

    Raises:
        OutcropError: the folder is missing, foreign, damaged, or its making was interrupted.
    """
    if not folder.is_dir():
        raise OutcropError(
            folder, "no such folder, and no map; name one that `outcrop experiment` made"
        )
    if (folder / "experiment.yaml").exists():
        return _experiment(folder)
    if (folder / "comparison.json").exists():
        return _comparison(folder)
    if any((folder / name / "config.json").exists() for name in ("network", "fold-0/network")):
        raise OutcropError(folder, "is not finished; go on with `outcrop compare --resume`")
    if (folder / "config.json").exists():
        return _train(folder)
    raise OutcropError(
        folder,
        "holds nothing to report on; name a folder that `outcrop experiment`, `compare`, `train` "
        "or `audit` made",
    )


def _experiment(folder: Path) -> Material:
    plan = _read_plan(folder / "experiment.yaml")
    if not (folder / "comparison" / "comparison.json").exists():
        raise OutcropError(folder, "is not finished; go on with `outcrop experiment --resume`")
    compared = _comparison(folder / "comparison")
    patches = read_patches(folder / "patches.zarr")
    if compared.config["patches"]["fingerprint"] != patches.fingerprint:
        raise OutcropError(
            folder / "patches.zarr",
            "is another patch set than the models were trained on; "
            "put the old one back, or run the experiment in a new folder",
        )
    held, random = compared.held, compared.random
    if (folder / "final").exists():
        final = read_run(folder / "final", "cpu")
        held = HeldOut((final,), compared.held.judged)
        if not isinstance(final.model, Classifier):
            random = None
    audit = read_audit(folder / "audit") if (folder / "audit").exists() else None
    if audit is not None:
        check_same_set(audit[0], patches, compared.split, folder / "audit")
    return Material(
        folder=folder,
        kind="experiment",
        config=compared.config,
        held=held,
        folds=compared.folds,
        learning=compared.learning,
        random=random,
        comparison=compared.comparison,
        patches=patches,
        experiment=plan,
        maps=_maps(folder / "maps", plan),
        audit=audit,
    )


def _comparison(folder: Path) -> Material:
    comparison = read_comparison(folder)
    network = next(row for row in comparison.rows if row.features == "patch")
    names = (network.runs or ("network",))[: comparison.folds]
    folds = compared_folds(folder, names[0])
    held = [read_run(folder / name, "cpu") for name in names]
    judged = None
    if len(folds) > 1:
        labels = np.zeros(len(folds.groups), np.int64)
        for run in held:
            labels[run.predictions.index] = run.predictions.truth
        judged = folds.scored(labels)
    at_random = [folder / f"{name}-random" for name in names]
    random = None
    if all(path.exists() for path in at_random):
        random = HeldOut(tuple(read_run(path, "cpu") for path in at_random), judged)
    return Material(
        folder=folder,
        kind="compare",
        config=read_json(folder / names[0] / "config.json", "run", "train"),
        held=HeldOut(tuple(held), judged),
        folds=folds,
        learning=held[0],
        random=random,
        comparison=comparison,
    )


def _train(folder: Path) -> Material:
    held = HeldOut((read_run(folder, "cpu"),))
    _ = held.scores  # a run that holds nothing out has none, and no page
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
    # A truth that is no longer where it was is left out later, and that is said.
    with suppress(OutcropError):
        names = dict(enumerate(plan.truth_classes()))
    for path in folder.glob("*-classes.tif"):
        number = path.name.partition("-")[0]
        if number.isdecimal():
            source = int(number)
            truth = plan.truth[source] if source < len(plan.truth) else None
            found[source] = files_beside(path, truth, names.get(source))
    return dict(sorted(found.items()))


def _read_plan(path: Path) -> Experiment:
    with decoding(path, "an experiment", "make one with `outcrop experiment`"):
        return Experiment.from_yaml(path.read_text(encoding="utf-8"))
