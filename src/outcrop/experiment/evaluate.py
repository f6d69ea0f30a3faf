"""A trained network on patches it has not seen."""

from __future__ import annotations

import numpy as np

from outcrop.errors import OutcropError
from outcrop.evaluation.scores import Scores, score
from outcrop.patches.patchset import PatchSet
from outcrop.progress import track
from outcrop.splits.splitters import pieces_of
from outcrop.training.classifier import Classifier
from outcrop.training.run import Run, classifier_of

_BATCH = 2048


def evaluate(model: Classifier | Run, patches: PatchSet) -> Scores:
    """Score a classifier on all patches of a set.

    Classes are matched by name. The intervals rest on pieces of ground: labelled
    polygons, or in a volume the blocks of `suggest_block`.

    Raises:
        OutcropError: the set has a class that the classifier does not know, or other bands.
    """
    classifier = classifier_of(model)
    unknown = [name for name in patches.classes if name not in classifier.classes]
    if unknown:
        raise OutcropError(
            f"class '{unknown[0]}'",
            f"is not known to the model; it knows {', '.join(classifier.classes)}",
        )
    codes = np.array([classifier.classes.index(name) for name in patches.classes])
    parts = np.array_split(np.arange(len(patches)), max(1, len(patches) // _BATCH))
    predicted = [
        classifier.probabilities(patches.take(part)).argmax(axis=1)
        for part in track(parts, "classifying")
    ]
    groups = None if patches.positions is None else pieces_of(patches)
    return score(codes[patches.labels], np.concatenate(predicted), classifier.classes, groups)
