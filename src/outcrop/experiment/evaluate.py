"""A trained network on patches it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.errors import OutcropError
from outcrop.evaluation.calibration import Reliability, reliability
from outcrop.evaluation.scores import Scores, score
from outcrop.evaluation.trust import AreaOfTrust, Trusted, judge_trust
from outcrop.patches.patchset import PatchSet
from outcrop.progress import tell, track
from outcrop.sources.bands import listed, order_of
from outcrop.splits.splitters import pieces_of
from outcrop.training.classifier import Classifier
from outcrop.training.origin import far_words, origin_of
from outcrop.training.run import Run, classifier_of
from outcrop.training.trust import has_trust

_BATCH = 2048
_REMEDY = "cut patches with the bands that it was trained on, or name them with --band-names"


@dataclass(frozen=True)
class Evaluation:
    """How a classifier fares on patches it has not seen.

    Attributes:
        scores: of the classes.
        reliability: its calibrated confidence beside its accuracy.
        trusted: how much lies outside its area of trust, and whether it errs more there; None
            where there is no such area (a classifier without a run, a run of before).
    """

    scores: Scores
    reliability: Reliability
    trusted: Trusted | None


def evaluate(model: Classifier | Run, patches: PatchSet) -> Evaluation:
    """Judge a classifier on all patches of a set.

    Classes and bands are matched by name. The intervals rest on pieces of ground: labelled
    polygons, or in a volume the blocks of `suggest_block`.

    Raises:
        OutcropError: the set has a class that the classifier does not know, or other bands; the
            run's area of trust is damaged.
    """
    classifier = classifier_of(model)
    area = model.trust if isinstance(model, Run) and has_trust(model.folder) else None
    unknown = [name for name in patches.classes if name not in classifier.classes]
    if unknown:
        raise OutcropError(
            f"class '{unknown[0]}'",
            f"is not known to the model; it knows {', '.join(classifier.classes)}",
        )
    found = order_of(patches.bands, classifier.bands, "patches", "the model", _REMEDY)
    if found.assumed:
        tell(
            "note: nothing in the names identifies the bands; "
            f"{listed(patches.bands)} are taken in this order for {listed(classifier.bands)} of "
            "the model"
        )
    codes = np.array([classifier.classes.index(name) for name in patches.classes])
    truth = codes[patches.labels]
    probabilities, outside = _see(classifier, area, patches, list(found.order))
    predicted = probabilities.argmax(axis=1)
    groups = None if patches.positions is None else pieces_of(patches)
    return Evaluation(
        scores=score(truth, predicted, classifier.classes, groups),
        reliability=reliability(truth, probabilities, groups=groups),
        trusted=None if outside is None else judge_trust(outside, predicted == truth, groups),
    )


def _see(
    classifier: Classifier, area: AreaOfTrust | None, patches: PatchSet, order: list[int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities, and which patches lie outside the area of trust.

    Args:
        order: for each band of the classifier the index that it has in the patches.
    """
    probabilities, outside = [], []
    _tell_far_values(classifier, patches, order)
    parts = np.array_split(np.arange(len(patches)), max(1, len(patches) // _BATCH))
    for part in track(parts, "classifying"):
        said, features = classifier.probabilities_and_features(patches.take(part)[:, order])
        probabilities.append(said)
        if area is not None:
            outside.append(area.dissimilarity(features) > area.threshold)
    return np.concatenate(probabilities), np.concatenate(outside) if outside else None


def _tell_far_values(classifier: Classifier, patches: PatchSet, order: list[int]) -> None:
    known = classifier.trained_on
    if known is None or not len(patches):
        return
    seen = origin_of(patches, np.arange(len(patches))).values
    words = far_words(classifier.bands, known.values, [seen[i] for i in order])
    if words:
        tell(f"note: {words}")
