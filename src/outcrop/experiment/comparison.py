"""`Comparison`: models held against each other on one validation side, and how it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.evaluation.contests import Contest, contests
from outcrop.evaluation.intervals import Interval
from outcrop.evaluation.scores import Judged, Scores, leak_gap, score
from outcrop.files import new_file, read_json, write_json
from outcrop.patches.patchset import PatchSet
from outcrop.splits import Split
from outcrop.training.run import Run

_FORMAT = "outcrop comparison"
_FILE = "comparison.json"


@dataclass(frozen=True, eq=False)
class Row:
    """One model of a comparison.

    Attributes:
        model: its name.
        features: what it sees of a patch.
        scores: on the validation side of the split, over all seeds together: accuracies are the
            means over the seeds, the confusion matrix is the sum. The intervals are those of the
            ground alone.
        random: the same under the split at random; None if the split is one itself.
        gap: the leak gap: overall accuracy under the split at random minus under the split.
        seconds: to tune, train and judge, under the split; the mean over the seeds.
        settings: what tuning chose, with the first seed.
        seeds: of the trainings.
        each: balanced accuracy with each seed.
        runs: folders of the trainings as seen from the comparison's; none for a baseline.
    """

    model: str
    features: str
    scores: Scores
    random: Scores | None
    gap: Interval | None
    seconds: float
    settings: Mapping[str, Any]
    seeds: tuple[int, ...] = ()
    each: tuple[float, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The model and what it sees."""
        return f"{self.model}, {self.features}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Rows by falling balanced accuracy, and how they were made.

    Attributes:
        rows: one for each model.
        classes: the class names.
        split: the splitter and its parameters.
        counts: int, patches by side (rows: train, validation, test, buffer) and class.
        contests: each row against each that stands below it; empty if read from a file of before
            models were held against each other.
    """

    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    split: Mapping[str, Any]
    counts: np.ndarray
    contests: tuple[Contest, ...] = ()

    @property
    def of_the_best(self) -> tuple[Contest, ...]:
        """The best model against each other one, in the order of the rows."""
        return tuple(one for one in self.contests if one.one == self.rows[0].title)

    @property
    def leaders(self) -> tuple[Row, ...]:
        """The best model and all that are not shown to be worse."""
        behind = {one.other for one in self.of_the_best if one.verdict == "better"}
        return tuple(row for row in self.rows if row.title not in behind) if self.contests else ()

    @property
    def cautions(self) -> tuple[str, ...]:
        """Why there is no verdict, or what it leaves out; sentences without their full stops."""
        said = []
        if not self.contests:
            said.append(
                "the models were not held against each other when this comparison was made; "
                "`outcrop compare --resume` does it"
            )
        elif self.of_the_best and all(one.verdict == "unknown" for one in self.of_the_best):
            said.append(
                "no verdict: the validation side, or a class on it, stands on too few pieces of "
                "ground; hold out more"
            )
        if alone := [row.title for row in self.rows if len(row.seeds) == 1]:
            who = "every model" if len(alone) == len(self.rows) else ", ".join(alone)
            said.append(
                f"{who}: trained with one seed; what another would have given is in no interval"
            )
        return tuple(said)


@dataclass(frozen=True)
class Answer:
    """What a model said after one training.

    Attributes:
        predicted: int, `N`, the class of each patch of the validation side.
        seconds: to tune, train and judge.
        settings: what tuning chose.
    """

    predicted: np.ndarray
    seconds: float
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Entrant:
    """A model that takes part in a comparison.

    Attributes:
        model, features, seeds, runs: as in `Row`.
        answers: under the split, one for each seed.
        random: under the split at random, one for each seed; or none.
    """

    model: str
    features: str
    seeds: tuple[int, ...]
    answers: tuple[Answer, ...]
    random: tuple[Answer, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The model and what it sees."""
        return f"{self.model}, {self.features}"


def answer_of(run: Run, split: Split) -> Answer:
    """What a finished run said of the validation side of its split.

    Raises:
        OutcropError: its predictions are of other patches.
    """
    if not np.array_equal(run.predictions.index, split.validation):
        raise OutcropError(run.folder / "predictions.npz", "is damaged; train anew")
    recipe = read_json(run.folder / "config.json", "run", "train")["recipe"]
    return Answer(
        predicted=run.predictions.probabilities.argmax(axis=1),
        seconds=sum(epoch.seconds for epoch in run.metrics),
        settings={"epochs": recipe["epochs"], "learning rate": recipe["learning_rate"]},
    )


def hold_against_each_other(
    entrants: Sequence[Entrant], patches: PatchSet, split: Split, random: Split | None = None
) -> Comparison:
    """Score every model and hold it against every other.

    Args:
        entrants: the models; no two of one name that see the same.
        random: the split at random, if there are answers under it.
    """
    ranked = sorted(
        (_row(one, patches, split, random) for one in entrants),
        key=lambda row: -np.nan_to_num(row.scores.balanced.value),
    )
    said = _said(entrants)
    return Comparison(
        rows=tuple(ranked),
        classes=patches.classes,
        split=split.how,
        counts=split.counts(patches.labels, len(patches.classes)),
        contests=contests(
            patches.labels[split.validation],
            {row.title: said[row.title] for row in ranked},
            split.groups[split.validation],
            len(patches.classes),
        ),
    )


def write_comparison(
    folder: Path,
    comparison: Comparison,
    entrants: Sequence[Entrant],
    patches: PatchSet,
    split: Split,
) -> None:
    """Write `predictions.npz`, what every model said with each seed, then `comparison.json`."""
    index = split.validation
    arrays = {"index": index, "truth": patches.labels[index], "groups": split.groups[index]}
    with new_file(folder / "predictions.npz") as temporary:
        np.savez(temporary, allow_pickle=False, **arrays, **_said(entrants))
    write_json(folder / _FILE, _to_json(comparison))


def read_comparison(folder: str | Path) -> Comparison:
    """Read what `compare` or `compare_runs` wrote.

    Raises:
        OutcropError: missing or foreign.
    """
    path = Path(folder) / _FILE
    content = read_json(path, "comparison", "compare")
    try:
        if content["format"] != _FORMAT:
            raise KeyError("format")
        return Comparison(
            rows=tuple(map(_row_from_json, content["rows"])),
            classes=tuple(content["classes"]),
            split=content["split"],
            counts=np.array(content["counts"]),
            contests=tuple(map(Contest.from_json, content.get("contests", ()))),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise OutcropError(path, "is not a comparison; make one with `outcrop compare`") from error


def is_compared(folder: Path) -> bool:
    """Whether a comparison, which is written last, is there."""
    return (folder / _FILE).exists()


def _said(entrants: Sequence[Entrant]) -> dict[str, np.ndarray]:
    """By title, `seeds × N`."""
    return {one.title: np.stack([each.predicted for each in one.answers]) for one in entrants}


def _row(one: Entrant, patches: PatchSet, split: Split, random: Split | None) -> Row:
    classes = patches.classes
    ground = _judged(one.answers, patches, split)
    scores = score(*ground[:2], classes, ground[2])
    at_random = None if random is None else _judged(one.random, patches, random)
    each = [
        score(*_judged([answer], patches, split)[:2], classes, draws=1) for answer in one.answers
    ]
    return Row(
        model=one.model,
        features=one.features,
        scores=scores,
        random=None if at_random is None else score(*at_random[:2], classes, at_random[2]),
        gap=None if at_random is None else leak_gap(at_random, ground),
        seconds=round(float(np.mean([answer.seconds for answer in one.answers])), 2),
        settings=dict(one.answers[0].settings),
        seeds=one.seeds,
        each=tuple(one.balanced.value for one in each),
        runs=one.runs,
    )


def _judged(answers: Sequence[Answer], patches: PatchSet, split: Split) -> Judged:
    """Truth, predictions and groups, once for each answer."""
    index = np.tile(split.validation, len(answers))
    said = np.concatenate([one.predicted for one in answers])
    return patches.labels[index], said, split.groups[index]


def _row_from_json(row: Mapping[str, Any]) -> Row:
    return Row(
        model=row["model"],
        features=row["features"],
        scores=Scores.from_json(row["scores"]),
        random=row["random"] and Scores.from_json(row["random"]),
        gap=row["gap"] and Interval.from_json(row["gap"]),
        seconds=row["seconds"],
        settings=row["settings"],
        seeds=tuple(row.get("seeds", ())),
        each=tuple(row.get("each", ())),
        runs=tuple(row.get("runs", ())),
    )


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
                "seeds": list(row.seeds),
                "each": list(row.each),
                "runs": list(row.runs),
            }
            for row in comparison.rows
        ],
        "contests": [one.to_json() for one in comparison.contests],
    }
