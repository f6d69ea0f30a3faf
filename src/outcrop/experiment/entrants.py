"""Models that take part in a comparison, and how they are held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.evaluation.contests import contests
from outcrop.evaluation.scores import Judged, leak_gap, score
from outcrop.experiment.comparison import Comparison, Row
from outcrop.files import new_file
from outcrop.patches.patchset import PatchSet
from outcrop.splits import Split
from outcrop.training.run import Run


@dataclass(frozen=True)
class Answer:
    """What a model said after one training.

    Attributes:
        predicted: int, `N`, the class of each patch of the validation side.
        seconds: to tune, train and judge, and to train the encoder that it needs.
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
    return Answer(
        predicted=run.predictions.probabilities.argmax(axis=1),
        seconds=run.seconds,
        settings=run.settings,
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
        fingerprint=patches.fingerprint,
    )


def write_predictions(
    path: Path, entrants: Sequence[Entrant], patches: PatchSet, split: Split
) -> None:
    """Write an npz: index, truth and groups of the validation side; `seeds × N` by each title."""
    index = split.validation
    arrays = {"index": index, "truth": patches.labels[index], "groups": split.groups[index]}
    with new_file(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays, **_said(entrants))


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
