"""Candidates: the models of a comparison, their predictions, scores and pairwise tests."""

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
from outcrop.splits.folds import read_folds
from outcrop.training.run import Predictions, Run
from outcrop.workflow.comparison import Comparison, Row


@dataclass(frozen=True)
class Answer:
    """Predictions of a model after one training.

    Attributes:
        probabilities: float32, `N × classes`, of each held-out patch, not calibrated; for all folds
            in the order of `Folds.index`.
        seconds: time of tuning, training and prediction, and of training its encoder.
        settings: settings that tuning selected.
    """

    probabilities: np.ndarray
    seconds: float
    settings: Mapping[str, Any]

    @property
    def predicted(self) -> np.ndarray:
        """Predicted class of each patch: int64, `N`."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class Candidate:
    """A model of a comparison.

    Attributes:
        model, features, seeds, runs: as in `Row`.
        answers: predictions under the split, one for each seed.
        random: predictions under the random split, one for each of the first seeds; or none.
    """

    model: str
    features: str
    seeds: tuple[int, ...]
    answers: tuple[Answer, ...]
    random: tuple[Answer, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name of the model and its features."""
        return f"{self.model}, {self.features}"


def answer_of(run: Run, split: Split) -> Answer:
    """Predictions of a finished run for the validation patches of its split.

    Raises:
        OutcropError: the stored predictions belong to other patches.
    """
    if not np.array_equal(run.predictions.index, split.validation):
        raise OutcropError(run.folder / "predictions.npz", "is damaged; train again")
    return Answer(run.predictions.probabilities, run.seconds, run.settings)


def compare_candidates(
    candidates: Sequence[Candidate],
    patches: PatchSet,
    split: Split | Folds,
    random: Split | Folds | None = None,
) -> Comparison:
    """Score every model on the held-out patches of all folds, and test every pair of models.

    Args:
        candidates: the models; name and features together are unique.
        split: one fold or several.
        random: the random folds, if there are predictions under them.
    """
    folds = read_folds(split)
    judged = folds.scored(patches.labels)
    at_random = None if random is None else read_folds(random)
    ranked = sorted(
        (_row(one, patches, folds, at_random) for one in candidates),
        key=lambda row: -np.nan_to_num(row.scores.balanced.value),
    )
    predicted = _predicted(candidates)
    where = np.searchsorted(folds.index, judged)
    return Comparison(
        rows=tuple(ranked),
        classes=patches.classes,
        split=folds.how,
        counts=_counts(patches, folds),
        pairwise_tests=pairwise_tests(
            patches.labels[judged],
            {row.title: predicted[row.title][:, where] for row in ranked},
            folds.groups[judged],
            len(patches.classes),
        ),
        fingerprint=patches.fingerprint,
        kind=folds.kind,
        folds=len(folds),
        notes=tuple(folds.notes(patches)) if len(folds) > 1 else (),
    )


def write_predictions(
    path: Path, candidates: Sequence[Candidate], patches: PatchSet, split: Split | Folds
) -> None:
    """Write an npz file with the predictions for all held-out patches.

    Arrays: index, truth, groups; the fold that holds each patch out; judged, whether it is scored;
    under each title the predicted classes, `seeds × N`; and under "TITLE: probabilities" the
    probabilities of the first seed, float32, `N × classes`, not calibrated.
    """
    folds = read_folds(split)
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
        np.savez(temporary, allow_pickle=False, **arrays, **_predicted(candidates), **likely)


def read_probabilities(folder: Path, row: Row) -> np.ndarray:
    """Probabilities of a model of a comparison for all held-out patches, with its first seed.

    Raises:
        OutcropError: the predictions are missing or damaged, or have no probabilities because an
            old version wrote them.
    """
    return _read_arrays(folder, _likely(row.title))[0]


def read_scored(folder: Path, row: Row) -> tuple[Predictions, np.ndarray]:
    """Predictions of a model of a comparison for all scored patches, with its first seed.

    Returns:
        The predictions by ascending index, not calibrated, and the spatial group of each patch.

    Raises:
        OutcropError: as for `read_probabilities`.
    """
    names = "judged", "index", "truth", _likely(row.title), "groups"
    judged, *arrays = _read_arrays(folder, *names)
    index, truth, probabilities, groups = (one[judged] for one in arrays)
    return Predictions(index, truth, probabilities), groups


def _read_arrays(folder: Path, *names: str) -> list[np.ndarray]:
    path = folder / "predictions.npz"
    with (
        decoding(path, "predictions of a comparison", "repeat `outcrop.compare`"),
        np.load(path, allow_pickle=False) as file,
    ):
        return [file[name] for name in names]


def _likely(title: str) -> str:
    return f"{title}: probabilities"


def _counts(patches: PatchSet, folds: Folds) -> np.ndarray:
    """Patches by side and class; for several folds, scored and other patches."""
    classes = len(patches.classes)
    if len(folds) == 1:
        return folds.splits[0].counts(patches.labels, classes)
    counts = np.zeros((len(SIDES), classes), np.int64)
    counts[VALIDATION] = np.bincount(
        patches.labels[folds.scored(patches.labels)], minlength=classes
    )
    counts[BUFFER] = patches.counts - counts[VALIDATION]
    return counts


def _predicted(candidates: Sequence[Candidate]) -> dict[str, np.ndarray]:
    """Predicted classes by title: int64, `seeds × N`."""
    return {one.title: np.stack([each.predicted for each in one.answers]) for one in candidates}


def _row(one: Candidate, patches: PatchSet, folds: Folds, random: Folds | None) -> Row:
    classes = patches.classes
    judged = folds.scored(patches.labels)
    spatial = _judged(one.answers, patches, folds, judged)
    scores = score(*spatial[:2], classes, spatial[2])
    at_random = gap = None
    if random is not None and len(folds) > 1:
        at_random = _judged(one.random, patches, random, judged)
        under_random, under_split = (
            _correct(each, patches.labels[judged]) for each in (at_random, spatial)
        )
        gap = leak_gap(under_random, under_split, folds.groups[judged])
    elif random is not None:
        # A single random fold holds out other patches.
        at_random = _judged(one.random, patches, random, random.index)
        gap = unpaired_leak_gap(at_random, spatial)
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


def _correct(found: Judged, truth: np.ndarray) -> np.ndarray:
    """Share of a model's trainings that classify each patch correctly: float64, `N`."""
    return np.mean(found[1].reshape(-1, len(truth)) == truth, axis=0)


def _judged(
    answers: Sequence[Answer], patches: PatchSet, folds: Folds, judged: np.ndarray
) -> Judged:
    """Truth, predictions and groups of the scored patches, once for each training."""
    index = np.tile(judged, len(answers))
    where = np.searchsorted(folds.index, judged)
    predicted = np.concatenate([one.predicted[where] for one in answers])
    return patches.labels[index], predicted, folds.groups[index]
