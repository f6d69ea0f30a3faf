"""The leak gap: accuracy under random splits minus accuracy under spatial splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from outcrop.auditing.autocorrelation import FOLDS, Blocks
from outcrop.auditing.check import Check, Context, Finding, Severity
from outcrop.auditing.falloff import forest
from outcrop.errors import OutcropError
from outcrop.metrics.gaps import leak_gap
from outcrop.metrics.intervals import Interval
from outcrop.metrics.scores import score
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BlockSplit, Folds, Split, random_counterparts, random_folds
from outcrop.training.recipe import Recipe

_TRAINED_ON, _TREES = 10_000, 50
_PARTS = 5
_SURE = 0.02

Model = Callable[[Split], np.ndarray]
"""Trains on the training side of a split, and predicts the class of each validation patch."""


@dataclass(frozen=True)
class Leak:
    """Accuracy of one model under random and under spatial splits.

    Attributes:
        random, spatial: overall accuracy under random and under spatial splits.
        gap: the former minus the latter.
        folds: number of splits of each kind.
        words: the spatial splits in words.
    """

    random: Interval
    spatial: Interval
    gap: Interval
    folds: int
    words: str


class LeakGapCheck(Check):
    """The leak gap of a forest of random trees on simple features; it takes seconds.

    It is measured under the given split if that is spatial, otherwise under all folds of the
    recommended blocks. If the given split is random, the finding is critical if the gap is at least
    two points (lower limit of the interval), and a warning if the gap is above zero. Otherwise it
    is a note.
    """

    name, needs, rank = "leak-gap", ("images", "positions"), 120

    def run(self, context: Context) -> list[Finding]:
        """At most one finding."""
        splits = probed_splits(context.patches, context.split, context.blocks)
        if not splits:
            return []
        trees = random_trees(context.patches, context.features, context.seed)
        leak = measure_leak(context.patches, splits, trees, context.seed)
        return _findings(self.name, "a forest on simple features", leak, context)


class NetworkGapCheck(Check):
    """The leak gap of a network, trained three times; it takes minutes or hours.

    As `LeakGapCheck`, but under one fold of the recommended blocks: once under the spatial split,
    and under a random split with each half of the held-out patches.
    """

    name, needs, rank = "network-gap", ("images", "positions", "network"), 140

    def run(self, context: Context) -> list[Finding]:
        """At most one finding.

        Raises:
            OutcropError: the device does not exist; memory is full.
        """
        patches, network, recipe = context.patches, context.network, context.recipe
        assert network is not None
        splits = probed_splits(patches, context.split, context.blocks)[:1]
        with TemporaryDirectory(prefix="outcrop-") as folder:
            trained = trained_network(patches, network, recipe, Path(folder))
            leak = measure_leak(patches, splits, trained, recipe.seed, parts=2)
        return _findings(self.name, network.title, leak, context)


def probed_splits(patches: PatchSet, split: Split | None, blocks: Blocks | None) -> list[Split]:
    """Spatial splits to measure under: the given one, or all folds of the recommended blocks."""
    if split is not None and split.spatial:
        return [split] if len(split.train) and len(split.validation) else []
    if patches.positions is None or blocks is None:
        return []
    splitter = BlockSplit(block=blocks.block, buffer=blocks.buffer, n_splits=FOLDS)
    try:
        return list(splitter.assign_all(patches).splits)
    except OutcropError:  # a fold leaves one class to train on, or the area is too small
        usable = []
    for fold in range(FOLDS):
        with suppress(OutcropError):
            usable.append(splitter.assign(patches, fold))
    return usable


def measure_leak(
    patches: PatchSet, spatial: Sequence[Split], model: Model, seed: int = 0, parts: int = _PARTS
) -> Leak | None:
    """Score a model on the same patches under spatial and under random splits.

    If folds hold out every patch, there are as many random folds (`random_folds`). The validation
    patches of a single split are held out in parts (`random_counterparts`). Training sides are
    equally large under both. Classes without training patches in a spatial fold are left out of
    both scores, because that is another error than a leak. Intervals resample whole spatial groups
    (`outcrop.metrics.gaps.leak_gap`). If no split can be compared with a random one, it is None.

    Args:
        spatial: a single spatial split, or all folds.
        parts: number of parts of a single split.
    """
    if not spatial:
        return None
    whole = len(spatial) > 1 and sum(len(one.validation) for one in spatial) == len(patches)
    random: tuple[Split, ...] = ()
    try:
        if whole:
            random = random_folds(patches, Folds(tuple(spatial)), seed).splits
        else:
            for fold, split in enumerate(spatial):
                random += random_counterparts(patches, split, parts, seed + fold)
    except OutcropError:  # a side has fewer patches than there are classes
        return None
    scored = np.zeros(len(patches), bool)
    for split in spatial:
        trained = patches.labels[split.train]
        scored[split.validation] = np.isin(patches.labels[split.validation], trained)
    if not scored.any():
        return None
    predicted = [_predictions(patches, splits, model)[scored] for splits in (random, spatial)]
    truth, groups = patches.labels[scored], spatial[0].groups[scored]
    scores = [score(truth, one, patches.classes, groups).overall for one in predicted]
    return Leak(
        random=scores[0],
        spatial=scores[1],
        gap=leak_gap(predicted[0] == truth, predicted[1] == truth, groups),
        folds=len(spatial),
        words=_words(spatial[0], len(spatial)),
    )


def random_trees(patches: PatchSet, features: np.ndarray, seed: int = 0) -> Model:
    """Fifty extremely randomised trees on features, `N × F`, trained on at most 10 000 patches."""
    model = forest(features, patches.labels, seed, _TREES, _TRAINED_ON)
    return lambda split: model(split.train, split.validation)


def trained_network(patches: PatchSet, network: ResidualNet, recipe: Recipe, folder: Path) -> Model:
    """A network that is trained for each split; its runs are written to `folder`."""
    from outcrop.training.engine import train

    def model(split: Split) -> np.ndarray:
        run = train(patches, split, folder / f"{len(list(folder.iterdir()))}", network, recipe)
        return run.predictions.probabilities.argmax(axis=1)

    return model


def _predictions(patches: PatchSet, splits: Sequence[Split], model: Model) -> np.ndarray:
    """Predicted class of each held-out patch: int64, `N`; -1 for the others."""
    predicted = np.full(len(patches), -1)
    for split in splits:
        predicted[split.validation] = model(split)
    return predicted


def _words(split: Split, folds: int) -> str:
    how = split.how
    words = str(how.get("splitter", "spatial split"))
    if "block" in how:
        unit = how.get("unit", "")
        words = f"blocks of {how['block']:.4g} {unit}, buffer {how.get('buffer', 0):.4g} {unit}"
    return f"{words}, {folds} folds" if folds > 1 else words


def _findings(check: str, model: str, leak: Leak | None, context: Context) -> list[Finding]:
    if leak is None:
        return []
    split, blocks = context.split, context.blocks
    is_random = split is not None and not split.spatial
    is_spatial = split is not None and split.spatial
    severity: Severity = "note"
    if is_random and leak.gap.low > 0:
        severity = "critical" if leak.gap.low >= _SURE else "warning"
    points = 100 * np.array([leak.gap.value, leak.gap.low, leak.gap.high])
    ends = "[unknown]" if np.isnan(points[1]) else f"[{points[1]:+.1f}, {points[2]:+.1f}]"
    title = (
        f"{model} has an accuracy of {leak.random} under a random split and of {leak.spatial} "
        f"under a spatial split ({leak.words}): leak gap {points[0]:+.1f} points {ends}"
    )
    remedy = ""
    if not is_spatial and not leak.gap.low <= 0:
        remedy = "use the score of a spatial split"
        remedy += "" if blocks is None else f": {blocks.command}"
    numbers = {
        "model": model,
        "random": leak.random.to_json(),
        "ground": leak.spatial.to_json(),
        "gap": leak.gap.to_json(),
        "folds": leak.folds,
        "split": leak.words,
    }
    return [Finding(check, severity, title, remedy, numbers)]
