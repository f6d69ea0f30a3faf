"""Models that take part in a comparison, and how they are held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding, new_file
from outcrop.metrics.gaps import Judged, leak_gap, unpaired_leak_gap
from outcrop.metrics.pairwise import pairwise_tests
from outcrop.metrics.scores import score
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BUFFER, SIDES, VALIDATION, Folds, Split
from outcrop.training.run import Run
from outcrop.workflow.comparison import Comparison, Row


@dataclass(frozen=True)
class Answer:
    """What a model said after one training.

    Attributes:
        probabilities: float32, `N × classes`, of each patch that is held out, not calibrated; of
            all folds in the order of `Folds.index`.
        seconds: to tune, train and judge, and to train the encoder that it needs.
        settings: what tuning chose.
    """

    probabilities: np.ndarray
    seconds: float
    settings: Mapping[str, Any]

    @property
    def predicted(self) -> np.ndarray:
        """int64, `N`, the class of each patch."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class Candidate:
    """A model that takes part in a comparison.

    Attributes:
        model, features, seeds, runs: as in `Row`.
        answers: under the split, one for each seed.
        random: under the split at random, one for each of the first seeds; or none.
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
        probabilities=run.predictions.probabilities,
        seconds=run.seconds,
        settings=run.settings,
    )


def compare_candidates(
    candidates: Sequence[Candidate],
    patches: PatchSet,
    split: Split | Folds,
    random: Split | Folds | None = None,
) -> Comparison:
    """Score every model on what is held out, all folds together, and hold it against every other.

    Args:
        candidates: the models; no two of one name that see the same.
        split: one fold, or several.
        random: the folds at random, if there are answers under them.
    """
    folds = as_folds(split)
    judged = folds.scored(patches.labels)
    at_random = None if random is None else as_folds(random)
    ranked = sorted(
        (_row(one, patches, folds, at_random) for one in candidates),
        key=lambda row: -np.nan_to_num(row.scores.balanced.value),
    )
    said = _said(candidates)
    where = np.searchsorted(folds.index, judged)
    return Comparison(
        rows=tuple(ranked),
        classes=patches.classes,
        split=folds.how,
        counts=_counts(patches, folds),
        pairwise_tests=pairwise_tests(
            patches.labels[judged],
            {row.title: said[row.title][:, where] for row in ranked},
            folds.groups[judged],
            len(patches.classes),
        ),
        fingerprint=patches.fingerprint,
        kind=folds.kind,
        folds=len(folds),
        notes=tuple(folds.notes(patches)) if len(folds) > 1 else (),
    )


def as_folds(split: Split | Folds) -> Folds:
    """A split as the one fold that it is."""
    return split if isinstance(split, Folds) else Folds((split,))


def write_predictions(
    path: Path, candidates: Sequence[Candidate], patches: PatchSet, split: Split | Folds
) -> None:
    """Write an npz of all patches that are held out.

    It has their index, truth and groups, the fold that holds each out, and whether it is judged;
    by each title the classes, `seeds × N`, and under "TITLE: probabilities" those of the first
    seed, float32, `N × classes`, not calibrated.
    """
    folds = as_folds(split)
    index = folds.index
    arrays = {
        "index": index,
        "truth": patches.labels[index],
        "groups": folds.groups[index],
        "fold": folds.held_out[index],
        "judged": np.isin(index, folds.scored(patches.labels)),
    }
    with new_file(path) as temporary:
        likely = {_likely(one.title): one.answers[0].probabilities for one in candidates}
        np.savez(temporary, allow_pickle=False, **arrays, **_said(candidates), **likely)


def read_probabilities(folder: Path, row: Row) -> np.ndarray:
    """What a model of a comparison said of all held-out patches, with its first seed.

    Raises:
        OutcropError: the predictions are missing or damaged, or of before probabilities were kept.
    """
    path = folder / "predictions.npz"
    with (
        decoding(path, "predictions of a comparison", "compare anew with `outcrop compare`"),
        np.load(path, allow_pickle=False) as file,
    ):
        return file[_likely(row.title)]


def _likely(title: str) -> str:
    return f"{title}: probabilities"


def _counts(patches: PatchSet, folds: Folds) -> np.ndarray:
    """Patches by side and class; of several folds what is judged, and what is not."""
    classes = len(patches.classes)
    if len(folds) == 1:
        return folds.splits[0].counts(patches.labels, classes)
    counts = np.zeros((len(SIDES), classes), np.int64)
    counts[VALIDATION] = np.bincount(
        patches.labels[folds.scored(patches.labels)], minlength=classes
    )
    counts[BUFFER] = patches.counts - counts[VALIDATION]
    return counts


def _said(candidates: Sequence[Candidate]) -> dict[str, np.ndarray]:
    """By title, `seeds × N`."""
    return {one.title: np.stack([each.predicted for each in one.answers]) for one in candidates}


def _row(one: Candidate, patches: PatchSet, folds: Folds, random: Folds | None) -> Row:
    classes = patches.classes
    judged = folds.scored(patches.labels)
    ground = _judged(one.answers, patches, folds, judged)
    scores = score(*ground[:2], classes, ground[2])
    at_random = gap = None
    if random is not None and len(folds) > 1:
        at_random = _judged(one.random, patches, random, judged)
        flattered, right = (_right(each, patches.labels[judged]) for each in (at_random, ground))
        gap = leak_gap(flattered, right, folds.groups[judged])
    elif random is not None:
        # One fold at random holds out other patches.
        at_random = _judged(one.random, patches, random, random.index)
        gap = unpaired_leak_gap(at_random, ground)
    each = [
        score(*_judged([answer], patches, folds, judged)[:2], classes, draws=1)
        for answer in one.answers
    ]
    return Row(
        model=one.model,
        features=one.features,
        scores=scores,
        random=None if at_random is None else score(*at_random[:2], classes, at_random[2]),
        gap=gap,
        seconds=round(float(np.mean([answer.seconds for answer in one.answers])), 2),
        settings=dict(one.answers[0].settings),
        seeds=one.seeds,
        each=tuple(one.balanced.value for one in each),
        runs=one.runs,
    )


def _right(said: Judged, truth: np.ndarray) -> np.ndarray:
    """The share of a model's answers that have each patch right: float64, `N`."""
    return np.mean(said[1].reshape(-1, len(truth)) == truth, axis=0)


def _judged(
    answers: Sequence[Answer], patches: PatchSet, folds: Folds, judged: np.ndarray
) -> Judged:
    """Truth, predictions and groups of the patches that are judged, once for each answer."""
    index = np.tile(judged, len(answers))
    where = np.searchsorted(folds.index, judged)
    said = np.concatenate([one.predicted[where] for one in answers])
    return patches.labels[index], said, folds.groups[index]
