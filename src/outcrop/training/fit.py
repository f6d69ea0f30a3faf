"""`fit_classical`: from patches, a split and a classical classifier to a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from outcrop.files import check_new, new_folder, write_json
from outcrop.models.baselines import Baseline
from outcrop.models.features import FEATURES
from outcrop.patches.patchset import PatchSet
from outcrop.splits.folds import Folds
from outcrop.splits.split import Split
from outcrop.training.augment import label_of
from outcrop.training.classical import ClassicalModel, filled, finite
from outcrop.training.folder import CLASSICAL, check_same, describe
from outcrop.training.origin import origin_of
from outcrop.training.recipe import Augmentation
from outcrop.training.run import Predictions, Run, read_run, write_results

_PART = 4096


def fit_classical(
    patches: PatchSet,
    split: Split,
    folder: str | Path,
    baseline: Baseline,
    seed: int = 0,
    resume: bool = False,
    held_out: Predictions | None = None,
    folds: Folds | None = None,
) -> Run:
    """Tune and fit a classical classifier on the training side, evaluate it on the validation side.

    Tuning and fitting use the training side only (`Baseline.fit`). As for networks
    (`outcrop.training.engine.train`), the validation side sets the temperature and the area of
    applicability, and may be empty.

    Args:
        folder: output folder, written completely or not at all: configuration, split, predictions
            of the validation side, area of applicability, model.
        seed: random seed of the folds of tuning and of the classifier.
        held_out, folds: as in `outcrop.training.engine.train`.
        resume: return the run in `folder`, if there is one with the same settings.

    Raises:
        OutcropError: the folder exists and `resume` is false, or contains another run; the split
            does not fit the patches; fewer than two classes on the training side; the disk is full.
    """
    folder = Path(folder)
    split.check(patches, validated=len(split.validation) > 0)
    made = {"name": baseline.name, "features": baseline.features, "seed": seed}
    if baseline.estimator is not None:
        made["estimator"] = repr(baseline.estimator)
    config = describe(patches, split, CLASSICAL, classical=made)
    if resume and folder.exists():
        check_same(folder, config, split, {})
        return read_run(folder)
    check_new(folder, instead="resume")
    started = time.perf_counter()
    seen, unseen = (
        features_of(baseline.features, patches, index) for index in (split.train, split.validation)
    )
    filling = means_of(seen)
    seen, unseen = filled(seen, filling), filled(unseen, filling)
    groups = split.groups[split.train] if split.spatial else None
    fitted = baseline.fit(seen, patches.labels[split.train], groups, len(patches.classes), seed)
    model = ClassicalModel(
        fitted,
        filling,
        classes=patches.classes,
        bands=patches.bands,
        size=patches.size,
        label_of=label_of(Augmentation(), patches),
        trained_on=origin_of(patches, split.train),
    )
    truth = patches.labels[split.validation]
    predictions = held_out or Predictions(
        split.validation, truth, model.of_features(unseen), model.identity
    )
    seconds = round(time.perf_counter() - started, 3)
    with new_folder(folder) as temporary:
        write_json(temporary / "config.json", config | {"seconds": seconds})
        split.save(temporary / "split.json")
        write_results(
            temporary, model, predictions, split, seen, unseen, folds,
            weights=fitted.importances, seed=seed,
        )  # fmt: skip
    return read_run(folder)


def features_of(kind: str, patches: PatchSet, index: np.ndarray) -> np.ndarray:
    """Features of some of the patches, NaN where there is no data.

    Args:
        kind: a key of `outcrop.models.features.FEATURES`.
    """
    measure = FEATURES[kind]
    return in_parts(lambda images: measure(finite(images)), patches, index)


def in_parts(
    measure: Callable[[np.ndarray], np.ndarray], patches: PatchSet, index: np.ndarray
) -> np.ndarray:
    """Features of some of the patches, computed in parts to save memory."""
    parts = np.array_split(index, max(1, len(index) // _PART))
    return np.concatenate([measure(patches.take(part)) for part in parts])


def means_of(features: np.ndarray) -> np.ndarray:
    """The mean of each column over finite values; 0 for a column without one."""
    count = np.isfinite(features).sum(axis=0)
    total = np.nansum(features, axis=0, dtype=np.float64)
    return (total / np.maximum(count, 1)).astype(np.float32)
