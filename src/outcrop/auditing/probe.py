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
from outcrop.evaluation.intervals import Interval
from outcrop.evaluation.scores import Judged, leak_gap, score
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BlockSplit, Split, random_counterpart
from outcrop.training.recipe import Recipe

_TAUGHT, _TREES = 10_000, 50
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
    """The leak gap of a network, trained twice; minutes or hours.

    Judged as `check_leak`, but under one fold of the blocks advised.

    Raises:
        OutcropError: no such device; memory is full.
    """
    grounds = probed_splits(patches, split, advice)[:1]
    with TemporaryDirectory(prefix="outcrop-") as folder:
        trained = trained_network(patches, network, recipe, Path(folder))
        leak = measure_leak(patches, grounds, trained, recipe.seed)
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
    found = []
    for fold in range(FOLDS):
        try:
            found.append(splitter.assign(patches, fold))
        except OutcropError:  # a class is too rare, or the fold leaves one class to train on
            continue
    return found


def measure_leak(
    patches: PatchSet, grounds: Sequence[Split], model: Model, seed: int = 0
) -> Leak | None:
    """Judge a model under splits by ground and under their counterparts at random.

    Each counterpart has the same patches, and as many on each side (`random_counterpart`); what
    is judged in several folds is scored together. Classes that a fold by ground has no training
    patches of are left out of both: they are another fault than a leak. Intervals rest on whole
    pieces of ground (`outcrop.evaluation.scores.leak_gap`).

    Args:
        grounds: one split, or the folds of one.

    Returns:
        None if no split can be held against one at random.
    """
    pairs = []
    for fold, split in enumerate(grounds):
        try:
            pairs.append((random_counterpart(patches, split, seed + fold), split))
        except OutcropError:  # a side has fewer patches than there are classes
            continue
    if not pairs:
        return None
    random, ground = (_judge(patches, pairs, which, model) for which in (0, 1))
    if not len(ground[0]) or not len(random[0]):
        return None
    return Leak(
        random=_overall(random, patches),
        ground=_overall(ground, patches),
        gap=leak_gap(random, ground),
        folds=len(pairs),
        ground_words=_words(pairs[0][1], len(pairs)),
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


def _judge(
    patches: PatchSet, pairs: Sequence[tuple[Split, Split]], which: int, model: Model
) -> Judged:
    """What a model says under the splits at random (0) or by ground (1)."""
    said = []
    for pair in pairs:
        split, ground = pair[which], pair[1]
        truth, groups = patches.labels[split.validation], split.groups[split.validation]
        known = np.isin(truth, patches.labels[ground.train])
        said.append((truth[known], model(split)[known], groups[known]))
    truth, predicted, groups = (np.concatenate(parts) for parts in zip(*said, strict=True))
    return truth, predicted, groups


def _overall(judged: Judged, patches: PatchSet) -> Interval:
    truth, predicted, groups = judged
    return score(truth, predicted, patches.classes, groups).overall


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
