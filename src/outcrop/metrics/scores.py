"""Scores of every class with intervals, precision-recall curves, most confident errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from outcrop.frames import Tabular, ends, frame
from outcrop.metrics.intervals import (
    Interval,
    check_any,
    interval_of_share,
    intervals_of_shares,
    number_of_groups,
    ratio,
    resampled_counts,
    support,
    support_where,
    supports,
)
from outcrop.typed import plain

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Scores(Tabular):
    """The agreement of predictions with the truth, by class and overall.

    In remote sensing, recall is called producer's accuracy and precision user's accuracy. An
    undefined score is NaN, not 0: precision of a class that is never predicted, recall and F1 of a
    class that is not in the truth. The interval of a class that lies in one group only is unknown.

    Attributes:
        classes: the K class names.
        confusion: int64, `K × K`; rows: true class, columns: predicted class.
        precision, recall, f1: one interval for each class.
        overall: overall accuracy.
        balanced: balanced accuracy: mean recall over the classes in the truth (in each bootstrap
            sample: in that sample).
        groups: number of independent spatial blocks.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    precision: tuple[Interval, ...]
    recall: tuple[Interval, ...]
    f1: tuple[Interval, ...]
    overall: Interval
    balanced: Interval
    groups: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for `outcrop.files.write_json`."""
        content: dict[str, Any] = plain(vars(self))
        return content

    def __repr__(self) -> str:
        return (
            f"Scores(overall {self.overall}, balanced {self.balanced}; "
            f"{len(self.classes)} classes, {self.groups} spatial groups)"
        )

    def to_frame(self) -> pandas.DataFrame:
        """One row per class: patches, precision, recall and F1 with the limits of intervals."""
        columns = {"class": list(self.classes), "patches": self.confusion.sum(axis=1)}
        for name in ("precision", "recall", "f1"):
            columns |= ends(name, getattr(self, name))
        return frame(columns, "class")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Scores:
        """The scores from the result of `to_json`."""
        return cls(
            classes=tuple(content["classes"]),
            confusion=np.array(content["confusion"], dtype=np.int64),
            precision=tuple(map(Interval.from_json, content["precision"])),
            recall=tuple(map(Interval.from_json, content["recall"])),
            f1=tuple(map(Interval.from_json, content["f1"])),
            overall=Interval.from_json(content["overall"]),
            balanced=Interval.from_json(content["balanced"]),
            groups=content["groups"],
        )


def score(
    truth: np.ndarray,
    predicted: np.ndarray,
    classes: tuple[str, ...],
    groups: np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Scores:
    """Score predictions, with 95 % intervals from whole groups (`interval_of_share`).

    Args:
        truth, predicted: int, `N`, indices into `classes`.
        classes: the K class names.
        groups: `N`, spatial block of each patch; None: patches are independent.
        draws: number of bootstrap samples (see `outcrop.metrics.intervals`).
        seed: random seed of the bootstrap.

    Raises:
        OutcropError: no patches.

    >>> scores = score(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), ("rice", "water"))
    >>> scores.confusion
    array([[2, 0],
           [1, 1]])
    >>> scores.overall.value, scores.recall[1].value
    (0.75, 0.5)
    """
    check_any(truth)
    K = len(classes)
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    cells = truth * K + predicted
    confusion = np.bincount(cells, minlength=K * K).reshape(K, K)
    drawn = resampled_counts(cells, K * K, groups, draws, seed).reshape(draws, K, K)
    found, redrawn = _measures(confusion), _measures(drawn)
    in_truth, in_prediction = (supports(x, K, groups) for x in (truth, predicted))
    in_either = [support_where((truth == k) | (predicted == k), groups) for k in range(K)]
    whole = support(groups, len(cells))
    by_class = support(groups, len(cells), 1 / confusion.sum(axis=1)[truth])
    return Scores(
        classes=tuple(classes),
        confusion=confusion,
        precision=intervals_of_shares(found["precision"], redrawn["precision"], in_prediction),
        recall=intervals_of_shares(found["recall"], redrawn["recall"], in_truth),
        f1=intervals_of_shares(found["f1"], redrawn["f1"], in_either),
        overall=interval_of_share(float(found["overall"]), redrawn["overall"], whole),
        balanced=interval_of_share(float(found["balanced"]), redrawn["balanced"], by_class),
        groups=number_of_groups(groups, len(cells)),
    )


@dataclass(frozen=True)
class PrecisionRecall:
    """The precision-recall curve of one class against all others.

    Attributes:
        precision, recall: float64, `M + 1`, by increasing threshold; the last point (1, 0) has no
            threshold.
        thresholds: float64, `M`, smallest probability at which a patch is assigned to the class.
        average_precision: area under the curve as a sum of steps. For a class that is not in the
            truth it is NaN, and the curve is empty.
    """

    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray
    average_precision: float


def precision_recall(truth: np.ndarray, probabilities: np.ndarray) -> tuple[PrecisionRecall, ...]:
    """The precision-recall curve of every class.

    Args:
        truth: int, `N`.
        probabilities: float, `N × K`, finite; only their order within a class is used.
    """
    nothing = PrecisionRecall(np.empty(0), np.empty(0), np.empty(0), np.nan)
    curves = []
    for k, probability in enumerate(np.asarray(probabilities).T):
        present = np.asarray(truth) == k
        if not present.any():
            curves.append(nothing)
            continue
        precision, recall, thresholds = precision_recall_curve(
            present, probability, drop_intermediate=True
        )
        area = float(average_precision_score(present, probability))
        curves.append(PrecisionRecall(precision, recall, thresholds, area))
    return tuple(curves)


def worst_mistakes(truth: np.ndarray, probabilities: np.ndarray, count: int = 20) -> np.ndarray:
    """Indices of the wrong predictions with the highest confidence, in descending order.

    Args:
        truth: int, `N`.
        probabilities: float, `N × K`; the class with the largest one is predicted.
        count: maximum number of indices.

    >>> worst_mistakes(np.array([0, 0, 1]), np.array([[0.4, 0.6], [0.1, 0.9], [0.2, 0.8]]))
    array([1, 0])
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != truth)
    confidence = probabilities[wrong].max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")][:count]


def _measures(confusion: np.ndarray) -> dict[str, np.ndarray]:
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    truth, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    recall = ratio(right, truth)
    return {
        "precision": ratio(right, predicted),
        "recall": recall,
        "f1": np.where(truth > 0, ratio(2 * right, truth + predicted), np.nan),
        "overall": ratio(right.sum(axis=-1), truth.sum(axis=-1)),
        "balanced": ratio(np.nansum(recall, axis=-1), (truth > 0).sum(axis=-1)),
    }
