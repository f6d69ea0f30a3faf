"""Evaluation of a trained model on other patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.errors import OutcropError
from outcrop.metrics.applicability import Applicability, AreaOfApplicability, judge_applicability
from outcrop.metrics.calibration import Reliability, reliability
from outcrop.metrics.scores import Scores, score
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.progress import track, warn
from outcrop.sources.bands import listed, match_or_raise
from outcrop.splits.base import spatial_groups
from outcrop.training.applicability import has_applicability
from outcrop.training.model import Model
from outcrop.training.origin import axes_of, far_words, flips_of, some_pixels
from outcrop.training.run import Run, Trained, model_of, opened

_BATCH = 2048
_REMEDY = "cut patches with the bands that it was trained on, or name them with `band_names`"


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on patches that it was not trained on.

    Attributes:
        scores: scores of the classes.
        reliability: calibrated confidence and accuracy.
        applicability: share of patches outside the area of applicability, and the accuracy inside
            and outside; None for a model without such an area (not a run, or an old one).
    """

    scores: Scores
    reliability: Reliability
    applicability: Applicability | None


def evaluate(trained: Trained, patches: AnyPatches) -> Evaluation:
    """Evaluate a model on all patches of a set.

    Classes and bands are matched by name. Intervals are from spatial groups: labelled polygons, or
    in a volume the blocks of `suggest_block`.

    Raises:
        OutcropError: the set has a class that the model does not have, or other bands; the area of
            applicability of the run is damaged.
    """
    trained, patches = opened(trained), open_patches(patches)
    model = model_of(trained)
    area = None
    if isinstance(trained, Run) and has_applicability(trained.folder):
        area = trained.applicability
    unknown = [name for name in patches.classes if name not in model.classes]
    if unknown:
        raise OutcropError(
            f"class '{unknown[0]}'",
            f"is not a class of the model; it has {', '.join(model.classes)}",
        )
    found = match_or_raise(patches.bands, model.bands, "patches", "the model", _REMEDY)
    if found.assumed:
        warn(
            "the names do not identify the bands; "
            f"{listed(patches.bands)} are used in this order as {listed(model.bands)} of the model"
        )
    _tell_orientation(model, patches)
    codes = np.array([model.classes.index(name) for name in patches.classes])
    truth = codes[patches.labels]
    probabilities, outside = _predict(model, area, patches, list(found.order))
    predicted = probabilities.argmax(axis=1)
    groups = None if patches.positions is None else spatial_groups(patches)
    return Evaluation(
        scores=score(truth, predicted, model.classes, groups),
        reliability=reliability(truth, probabilities, groups=groups),
        applicability=None
        if outside is None
        else judge_applicability(outside, predicted == truth, groups),
    )


def _predict(
    model: Model, area: AreaOfApplicability | None, patches: PatchSet, order: list[int]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities, and a mask of the patches outside the area of applicability.

    Args:
        order: index in the patches of each band of the model.
    """
    probabilities, outside = [], []
    if model.trained_on is not None and len(patches):
        pixels = some_pixels(patches, np.arange(len(patches)))[order]
        if words := far_words(model.bands, model.trained_on.values, pixels):
            warn(words)
    parts = np.array_split(np.arange(len(patches)), max(1, len(patches) // _BATCH))
    for part in track(parts, "classifying"):
        likely, features = model.probabilities_and_features(patches.take(part)[:, order])
        probabilities.append(likely)
        if area is not None:
            outside.append(area.dissimilarity(features) > area.threshold)
    return np.concatenate(probabilities), np.concatenate(outside) if outside else None


def _tell_orientation(model: Model, patches: PatchSet) -> None:
    """Print a note if patches have another orientation than the training patches."""
    known, every = model.trained_on, np.arange(len(patches))
    if known is None:
        return
    axes, flips = axes_of(patches, every), flips_of(patches, every)
    for there, its, what in (
        (known.has_axes(axes), (axes, known.axes), "slices across axis"),
        (known.has_flips(flips), (flips, known.flips), "flipped relative to their source by"),
    ):
        if not there:
            seen, learnt = (" and ".join(map(str, each)) for each in its)
            warn(f"patches are {what} {seen}, but the model was trained on {learnt}")
