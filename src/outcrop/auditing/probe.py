"""The leak gap: what a quick probe, or the network itself, scores at random and by ground."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from outcrop.auditing.blocks import FOLDS, Blocks
from outcrop.auditing.finding import Finding, Severity
from outcrop.errors import OutcropError
from outcrop.metrics.gaps import leak_gap
from outcrop.metrics.intervals import Interval
from outcrop.metrics.scores import score
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BlockSplit, Folds, Split, random_counterparts, random_folds
from outcrop.training.recipe import Recipe

_TAUGHT, _TREES = 10_000, 50
_PARTS = 5
_SURE = 0.02

Model = Callable[[Split], np.ndarray]
"""Trains on the training side of a split, and names the class of each validation patch."""


@dataclass(frozen=True)
class Leak:
    """What one model scores under splits at random and by ground.

    Attributes:
        random, ground: overall accuracy.
        gap: the one minus the other.
        folds: how many splits of each kind were judged.
        ground_words: the splits by ground in words.
    """

    random: Interval
    ground: Interval
    gap: Interval
    folds: int
    ground_words: str


def check_leak(
    patches: PatchSet,
    split: Split | None,
    features: np.ndarray,
    advice: Blocks | None,
    seed: int = 0,
) -> list[Finding]:
    """The leak gap of a forest of random trees on simple features; seconds.

    Under the split given, if it is by ground, else under all folds of the blocks advised.
    Critical if it is at least two points for certain and the split in use is at random, a warning
    if it is above zero for certain; else a note.

    Args:
        features: `N × F`, of the patches.
    """
    grounds = probed_splits(patches, split, advice)
    leak = measure_leak(patches, grounds, random_trees(patches, features, seed), seed)
    if leak is None:
        return []
    return [_finding("leak-gap", "a forest on simple features", leak, split, advice)]


def check_leak_of_network(
    patches: PatchSet,
    split: Split | None,
    advice: Blocks | None,
    network: ResidualNet,
    recipe: Recipe,
) -> list[Finding]:
    """The leak gap of a network, trained three times; minutes or hours.

    Judged as `check_leak`, but under one fold of the blocks advised: once by ground, and at random
    with either half of the held-out patches.

    Raises:
        OutcropError: no such device; memory is full.
    """
    grounds = probed_splits(patches, split, advice)[:1]
    with TemporaryDirectory(prefix="outcrop-") as folder:
        trained = trained_network(patches, network, recipe, Path(folder))
        leak = measure_leak(patches, grounds, trained, recipe.seed, parts=2)
    if leak is None:
        return []
    return [_finding("network-gap", network.title, leak, split, advice)]


def probed_splits(patches: PatchSet, split: Split | None, advice: Blocks | None) -> list[Split]:
    """The splits by ground to probe: the one given, else all folds of the blocks advised."""
    if split is not None and split.by_ground:
        return [split] if len(split.train) and len(split.validation) else []
    if patches.positions is None or advice is None:
        return []
    splitter = BlockSplit(block=advice.block, buffer=advice.buffer, folds=FOLDS)
    try:
        return list(splitter.assign_all(patches).splits)
    except OutcropError:  # a fold leaves one class to train on, or there is too little ground
        return [one for fold in range(FOLDS) if (one := _assigned(splitter, patches, fold))]


def _assigned(splitter: BlockSplit, patches: PatchSet, fold: int) -> Split | None:
    """None if that fold cannot be used."""
    try:
        return splitter.assign(patches, fold)
    except OutcropError:
        return None


def measure_leak(
    patches: PatchSet,
    grounds: Sequence[Split],
    model: Model,
    seed: int = 0,
    parts: int = _PARTS,
) -> Leak | None:
    """Judge a model on the same patches under splits by ground and under splits at random.

    Folds that hold out every patch have as many at random (`random_folds`); what a single split
    holds out is held out at random in parts (`random_counterparts`). Trainings are as large either
    way. Classes that a fold by ground has no training patches of are left out of both: they are
    another fault than a leak. Intervals rest on whole pieces of ground
    (`outcrop.metrics.gaps.leak_gap`).

    Args:
        grounds: one split, or the folds of one.
        parts: of a single split.

    Returns:
        None if no split can be held against one at random.
    """
    if not grounds:
        return None
    whole = len(grounds) > 1 and sum(len(one.validation) for one in grounds) == len(patches)
    try:
        randoms = (
            random_folds(patches, Folds(tuple(grounds)), seed).splits
            if whole
            else [
                one
                for fold, split in enumerate(grounds)
                for one in random_counterparts(patches, split, parts, seed + fold)
            ]
        )
    except OutcropError:  # a side has fewer patches than there are classes
        return None
    able = np.zeros(len(patches), bool)
    for split in grounds:
        seen = patches.labels[split.train]
        able[split.validation] = np.isin(patches.labels[split.validation], seen)
    if not able.any():
        return None
    said = [_said(patches, splits, model)[able] for splits in (randoms, grounds)]
    truth, groups = patches.labels[able], grounds[0].groups[able]
    random, ground = (score(truth, one, patches.classes, groups).overall for one in said)
    return Leak(
        random=random,
        ground=ground,
        gap=leak_gap(said[0] == truth, said[1] == truth, groups),
        folds=len(grounds),
        ground_words=_words(grounds[0], len(grounds)),
    )


def random_trees(patches: PatchSet, features: np.ndarray, seed: int = 0) -> Model:
    """Fifty extremely randomised trees on features: quick, and as good as many a tuned model.

    Source: Geurts, Ernst and Wehenkel (2006), Extremely randomized trees, Machine Learning 63,
    3-42. They learn from at most 10 000 patches.

    Args:
        features: `N × F`, of the patches.
        seed: of the trees, and of the patches that they learn from.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    def model(split: Split) -> np.ndarray:
        taught = np.random.default_rng(seed).permutation(split.train)[:_TAUGHT]
        trees = ExtraTreesClassifier(_TREES, random_state=seed)
        trees.fit(features[taught], patches.labels[taught])
        return np.asarray(trees.predict(features[split.validation]))

    return model


def trained_network(patches: PatchSet, network: ResidualNet, recipe: Recipe, folder: Path) -> Model:
    """A network trained for each split; its runs go into `folder`."""
    from outcrop.training.engine import train

    def model(split: Split) -> np.ndarray:
        run = train(patches, split, folder / f"{len(list(folder.iterdir()))}", network, recipe)
        return run.predictions.probabilities.argmax(axis=1)

    return model


def _said(patches: PatchSet, splits: Sequence[Split], model: Model) -> np.ndarray:
    """What a model says of each patch that is held out: int64, `N`; -1 of the others."""
    said = np.full(len(patches), -1)
    for split in splits:
        said[split.validation] = model(split)
    return said


def _words(ground: Split, folds: int) -> str:
    how = ground.how
    words = str(how.get("splitter", "by ground"))
    if "block" in how:
        unit = how.get("unit", "")
        words = f"blocks of {how['block']:g} {unit}, buffer {how.get('buffer', 0):g} {unit}"
    return f"{words}, {folds} folds" if folds > 1 else words


def _finding(
    check: str, model: str, leak: Leak, split: Split | None, advice: Blocks | None
) -> Finding:
    at_random = split is not None and not split.by_ground
    severity: Severity = "note"
    if at_random and leak.gap.low > 0:
        severity = "critical" if leak.gap.low >= _SURE else "warning"
    points = 100 * np.array([leak.gap.value, leak.gap.low, leak.gap.high])
    ends = "[unknown]" if np.isnan(points[1]) else f"[{points[1]:+.1f}, {points[2]:+.1f}]"
    title = (
        f"{model} is right in {leak.random} if split at random, in {leak.ground} if split by "
        f"ground ({leak.ground_words}): leak gap {points[0]:+.1f} points {ends}"
    )
    remedy = ""
    if not (split is not None and split.by_ground) and not leak.gap.low <= 0:
        remedy = "believe a score by ground only"
        remedy += "" if advice is None else f": {advice.command}"
    numbers = {
        "model": model,
        "random": leak.random.to_json(),
        "ground": leak.ground.to_json(),
        "gap": leak.gap.to_json(),
        "folds": leak.folds,
        "split": leak.ground_words,
    }
    return Finding(check, severity, title, remedy, numbers)
