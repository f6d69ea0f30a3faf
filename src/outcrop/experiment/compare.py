"""A network and the classical baselines on the same patches and the same split."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.evaluation.intervals import Interval
from outcrop.evaluation.scores import Scores, leak_gap, score
from outcrop.files import check_new, new_file, read_json, write_json
from outcrop.models.architectures import ResidualNet
from outcrop.models.baselines import BASELINES, Baseline
from outcrop.models.features import FEATURES
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import AnySource
from outcrop.progress import track
from outcrop.splits import Split, random_counterpart
from outcrop.training.device import pick_device
from outcrop.training.engine import train
from outcrop.training.parallel import refuse_several
from outcrop.training.recipe import Recipe

_FORMAT = "outcrop comparison"
_PART = 4096


@dataclass(frozen=True)
class Row:
    """One model of a comparison.

    Attributes:
        model: its name.
        features: what it sees of a patch.
        scores: on the validation side of the split.
        random: on the validation side of the split at random; None if the split is one itself.
        gap: the leak gap: overall accuracy under the split at random minus under the split.
        seconds: to tune, train and judge, under the split.
        settings: what tuning chose.
    """

    model: str
    features: str
    scores: Scores
    random: Scores | None
    gap: Interval | None
    seconds: float
    settings: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The model and what it sees."""
        return f"{self.model}, {self.features}"


@dataclass(frozen=True)
class Comparison:
    """Rows by falling balanced accuracy, and how they were made.

    Attributes:
        rows: one for each model.
        classes: the class names.
        split: the splitter and its parameters.
        counts: int, patches by side (rows: train, validation, test, buffer) and class.
    """

    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    split: Mapping[str, Any]
    counts: np.ndarray


@dataclass(frozen=True)
class _Judged:
    """What one model said under one split."""

    truth: np.ndarray
    predicted: np.ndarray
    groups: np.ndarray
    seconds: float
    settings: Mapping[str, Any]


def compare(
    patches: PatchSet,
    split: Split,
    folder: str | Path,
    network: ResidualNet = ResidualNet(),
    recipe: Recipe = Recipe(),
    resume: bool = False,
    sources: Sequence[AnySource] | None = None,
) -> Comparison:
    """Train the network and every baseline, and score each on the validation side.

    Everything that is learned (normalisation, features' scales, tuning) is learned on the
    training side; nothing is chosen by the validation side, so that its scores hold. If the split
    is by ground all is done again under a split at random of the same patches in the same
    numbers, and the difference is the leak gap.

    Args:
        folder: gets `comparison.json`, the predictions, and the runs `network` and
            `network-random`.
        resume: go on with a comparison that was interrupted; finished runs are kept.
        sources: see `outcrop.training.engine.train`.

    Raises:
        OutcropError: the split does not fit the patches; no such device; `folder` exists and
            `resume` is false.
    """
    folder = Path(folder)
    split.check(patches)
    pick_device(recipe.machine.device)
    refuse_several(recipe.machine, "a comparison")
    if not (resume and folder.exists()):
        check_new(folder, instead="--resume")
    splits = {"": split}
    if split.by_ground:
        splits["-random"] = random_counterpart(patches, split, recipe.seed)
    folder.mkdir(exist_ok=True)
    try:
        networks = {
            name: _network(patches, one, folder / f"network{name}", network, recipe, sources)
            for name, one in splits.items()
        }
    except OutcropError:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    if (folder / "comparison.json").exists():
        # Its networks are there and were trained with these settings, or they had said so.
        return read_comparison(folder)
    judged: dict[tuple[str, str], dict[str, _Judged]] = {(network.title, "patch"): networks}
    for name, one in splits.items():
        for key, result in _baselines(patches, one, recipe.seed, f"baselines{name}"):
            judged.setdefault(key, {})[name] = result
    rows = [_row(key, results, patches.classes) for key, results in judged.items()]
    rows.sort(key=lambda row: -np.nan_to_num(row.scores.balanced.value))
    comparison = Comparison(
        rows=tuple(rows),
        classes=patches.classes,
        split=split.how,
        counts=split.counts(patches.labels, len(patches.classes)),
    )
    _save_predictions(folder / "predictions.npz", split, judged)
    write_json(folder / "comparison.json", _to_json(comparison))
    return comparison


def read_comparison(folder: str | Path) -> Comparison:
    """Read what `compare` wrote.

    Raises:
        OutcropError: missing or foreign.
    """
    path = Path(folder) / "comparison.json"
    content = read_json(path, "comparison", "compare")
    try:
        if content["format"] != _FORMAT:
            raise KeyError("format")
        return Comparison(
            rows=tuple(
                Row(
                    model=row["model"],
                    features=row["features"],
                    scores=Scores.from_json(row["scores"]),
                    random=row["random"] and Scores.from_json(row["random"]),
                    gap=row["gap"] and Interval.from_json(row["gap"]),
                    seconds=row["seconds"],
                    settings=row["settings"],
                )
                for row in content["rows"]
            ),
            classes=tuple(content["classes"]),
            split=content["split"],
            counts=np.array(content["counts"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OutcropError(path, "is not a comparison; make one with `outcrop compare`") from error


def _baselines(
    patches: PatchSet, split: Split, seed: int, what: str
) -> Iterator[tuple[tuple[str, str], _Judged]]:
    features = {
        name: tuple(_measure(measure, patches, side) for side in (split.train, split.validation))
        for name, measure in FEATURES.items()
    }
    for baseline in track(BASELINES, what, len(BASELINES)):
        seen, unseen = features[baseline.features]
        yield (
            (baseline.name, baseline.features),
            _baseline(baseline, seen, unseen, patches, split, seed),
        )


def _measure(
    measure: Callable[[np.ndarray], np.ndarray], patches: PatchSet, index: np.ndarray
) -> np.ndarray:
    """Features of some of the patches, without holding more than a part of the images."""
    parts = np.array_split(index, max(1, len(index) // _PART))
    return np.concatenate([measure(patches.take(part)) for part in parts])


def _baseline(
    baseline: Baseline,
    seen: np.ndarray,
    unseen: np.ndarray,
    patches: PatchSet,
    split: Split,
    seed: int,
) -> _Judged:
    started = time.perf_counter()
    groups = split.groups[split.train] if split.by_ground else None
    fitted = baseline.fit(seen, patches.labels[split.train], groups, len(patches.classes), seed)
    predicted = fitted.predict(unseen)
    return _Judged(
        truth=patches.labels[split.validation],
        predicted=predicted,
        groups=split.groups[split.validation],
        seconds=time.perf_counter() - started,
        settings=fitted.settings,
    )


def _network(
    patches: PatchSet,
    split: Split,
    folder: Path,
    network: ResidualNet,
    recipe: Recipe,
    sources: Sequence[AnySource] | None,
) -> _Judged:
    resume = folder.exists()
    run = train(patches, split, folder, network, recipe, resume, sources=sources)
    return _Judged(
        truth=run.predictions.truth,
        predicted=run.predictions.probabilities.argmax(axis=1),
        groups=split.groups[run.predictions.index],
        seconds=sum(epoch.seconds for epoch in run.metrics),
        settings={"epochs": recipe.epochs, "learning rate": recipe.learning_rate},
    )


def _row(key: tuple[str, str], results: Mapping[str, _Judged], classes: tuple[str, ...]) -> Row:
    scores = {
        name: score(one.truth, one.predicted, classes, one.groups) for name, one in results.items()
    }
    ground, random = results[""], results.get("-random")
    return Row(
        model=key[0],
        features=key[1],
        scores=scores[""],
        random=scores.get("-random"),
        gap=None
        if random is None
        else leak_gap(
            (random.truth, random.predicted, random.groups),
            (ground.truth, ground.predicted, ground.groups),
        ),
        seconds=round(ground.seconds, 2),
        settings=dict(ground.settings),
    )


def _save_predictions(
    path: Path, split: Split, judged: Mapping[tuple[str, str], Mapping[str, _Judged]]
) -> None:
    predicted = {f"{model}, {seen}": results[""] for (model, seen), results in judged.items()}
    first = next(iter(predicted.values()))
    arrays = {"index": split.validation, "truth": first.truth, "groups": first.groups}
    arrays |= {title: one.predicted for title, one in predicted.items()}
    with new_file(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def _to_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "classes": list(comparison.classes),
        "split": dict(comparison.split),
        "counts": comparison.counts.tolist(),
        "rows": [
            {
                "model": row.model,
                "features": row.features,
                "scores": row.scores.to_json(),
                "random": row.random and row.random.to_json(),
                "gap": row.gap and row.gap.to_json(),
                "seconds": row.seconds,
                "settings": dict(row.settings),
            }
            for row in comparison.rows
        ],
    }
