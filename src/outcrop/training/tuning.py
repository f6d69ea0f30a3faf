"""Choice of a network and its main settings, by folds inside the training side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from torch import Tensor

from outcrop.models.architectures import (
    VIEWS,
    MultiScaleNet,
    Network,
    ResidualNet,
    UserNet,
    View,
    network_json,
)
from outcrop.models.baselines import Folds, spatial_folds, stratified_sample
from outcrop.models.multiscale import NEAR, MultiScaleNetwork
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions
from outcrop.patches.reopen import AnySource
from outcrop.progress import follow, silence
from outcrop.splits.split import BUFFER, TEST, TRAIN, VALIDATION, Split
from outcrop.training.cutter import open_cutter
from outcrop.training.device import exact_convolutions
from outcrop.training.normalise import learn_normalisation
from outcrop.training.parallel import make_learner, make_process_group
from outcrop.training.pictures import load_pictures
from outcrop.training.recipe import Recipe, Settled, Tuning, suited

PATCHES = 1500
MARGIN = 0.05
BEHIND = 0.05
AS_GIVEN = "as given"

_SHARE = 0.5
_STEPS = 300
_LEAST = 2
# Folds of scenes need one scene to hold out and two to train on, or radiometry does not vary.
_SCENES = 3
# Neighbouring tiles overlap by a tenth; dates of one area by nearly all of it.
_SHARED = 0.5


@dataclass(frozen=True)
class Variant:
    """A network and a recipe to compare.

    Attributes:
        name: the change relative to the given settings.
        network, recipe: network and recipe with this change.
        margin: by how much it must be better than the given settings to replace them, 0 to 1. With
            0 it is evaluated on all folds.
    """

    name: str
    network: Network
    recipe: Recipe
    margin: float = MARGIN


@dataclass(frozen=True)
class Trial:
    """The result of a variant.

    Attributes:
        folds: number of folds that it was evaluated on.
        balanced: balanced accuracy on the held-out patches of these folds together.
    """

    name: str
    folds: int
    balanced: float


@dataclass(frozen=True)
class Tuned:
    """The result of a search: the chosen variant, and the results of all in their order."""

    variant: Variant
    trials: tuple[Trial, ...]
    seconds: float

    @property
    def summary(self) -> str:
        """One line with all trials and the choice."""
        if not self.trials:
            return "nothing is tuned: the training side has too few spatial groups or classes"
        most = max(one.folds for one in self.trials)
        tried = ", ".join(
            f"{one.name} {100 * one.balanced:.1f} %"
            + (f" ({one.folds} of {most} folds)" * (one.folds < most))
            for one in self.trials
        )
        chosen = self.variant.name
        return f"tuning inside the training side, balanced accuracy: {tried}; taken: {chosen}"

    def to_json(self, tuning: Tuning, given: Mapping[str, Any]) -> dict[str, Any]:
        """The entry in `config.json` of a run; `given` is the result of `given_json`."""
        return {
            **asdict(tuning),
            "given": given,
            "chosen": self.variant.name,
            "tried": [vars(one) for one in self.trials],
            "seconds": round(self.seconds, 3),
        }


Judge = Callable[[Variant, int], np.ndarray]
"""From a variant and the number of a fold to the predicted classes of its held-out patches, int,
`M`; or `(1 + P) × M`, with the predictions of the P parts of the variant."""

# Views that are sufficient on some sites, where the other views mislead.
_PARTS: tuple[tuple[View, ...], ...] = (
    ("pixel", "waves"),
    ("pixel", "waves", "near"),
    ("pixel", "waves", "windows"),
    ("windows", "near"),
)


def parts_of(variant: Variant, size: int) -> tuple[Variant, ...]:
    """Variants with fewer views, which are evaluated without a training of their own.

    Each view of a multi-scale network learns from its own loss, so that training all views trains
    every network with some of them. `size` is that of the patches in pixels.
    """
    network = variant.network
    if not isinstance(network, MultiScaleNet) or network.views != VIEWS or size < NEAR:
        return ()
    return tuple(
        Variant(", ".join(views), replace(network, views=views), variant.recipe) for views in _PARTS
    )


def candidates(
    network: Network | None, recipe: Recipe, patches: PatchSet, apart: bool = False
) -> list[Variant]:
    """The variants to compare, by decreasing expected gain; first the given settings.

    Settings of the recipe that are not None, and a network that is not None, are not varied.

    Args:
        network: given network; None: the choice is free, and the multi-scale network comes first.
        apart: the folds hold out whole scenes, whose radiometry differs from that of the others.
            Variants with a random gain or jitter, which imitate this, then need no margin, and the
            residual network has twice as many filters.
    """
    free, given = network is None, network or MultiScaleNet()
    found = [Variant(AS_GIVEN, given, recipe)]

    def add(name: str, other: Network, **settings: Any) -> None:
        changed = _filled(recipe, settings)
        if changed is not None:
            margin = 0.0 if apart and {"gain", "jitter"} & set(settings) else MARGIN
            found.append(Variant(name, other, changed, margin))

    if isinstance(given, MultiScaleNet):
        add("jitter 0.3", given, jitter=0.3)
        if free and (trunk := _trunk(patches, apart)) is not None:
            add(f"{trunk.title}, gain 0.2", trunk, **_OF_TRUNK)
        add("90 epochs", given, epochs=90)
        add("weight decay 0.3", given, weight_decay=0.3)
        add("15 epochs", given, epochs=15)
    elif isinstance(given, ResidualNet):
        usual = suited(recipe, given)
        add("gain 0.2", given, gain=0.2)
        add("jitter 0.3", given, jitter=0.3)
        add(f"{2 * usual.epochs} epochs", given, epochs=2 * usual.epochs)
        decay = 10 * usual.weight_decay
        add(f"weight decay {decay:g}", given, weight_decay=decay)
    elif isinstance(given, UserNet):
        usual = suited(recipe, given)
        add(f"{2 * usual.epochs} epochs", given, epochs=2 * usual.epochs)
        add("jitter 0.3", given, jitter=0.3)
    return found


def choices(
    network: Network | None, recipe: Recipe, patches: PatchSet, tuning: Tuning, apart: bool = False
) -> tuple[list[Variant], tuple[Variant, ...]]:
    """The `candidates` that are trained, and the parts that are evaluated with the first one."""
    variants = candidates(network, recipe, patches, apart)[: max(1, tuning.trials)]
    return variants, () if network else parts_of(variants[0], min(patches.size))


def given_json(network: Network | None, recipe: Recipe) -> dict[str, Any]:
    """The settings given to `tune`, without the machine, as JSON."""
    plain = asdict(recipe)
    del plain["machine"]
    return {"network": None if network is None else network_json(network), "recipe": plain}


# Settings with which residual networks learn textures from a few thousand patches.
_OF_TRUNK: Mapping[str, Any] = {
    "gain": 0.2,
    "epochs": 40,
    "batch": 64,
    "class_balance": "full",
    "solver": "adamw",
    "learning_rate": 5e-3,
    "weight_decay": 0.05,
    "warm_up": 4.0,
}


# Scenes of different areas have more to learn from: on synthetic coasts the wider network is ahead
# by 1.2 points in the mean, in twice the time.
_WIDTH, _WIDTH_APART = 16, 32


def _trunk(patches: PatchSet, apart: bool) -> ResidualNet | None:
    """A small residual network without padding; None if patches are too small for it."""
    size, width = min(patches.size), _WIDTH_APART if apart else _WIDTH
    for halvings in (1, 0):
        found = ResidualNet(8, width=width, padding="none", halvings=halvings)
        if found.footprint <= size:
            return replace(found, seen=found.footprint)
    return None


def _filled(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe | None:
    """The recipe with settings in place of None; None if the recipe sets the first of them itself.

    The first setting is the one that the variant tests.
    """
    augmentation = recipe.augmentation
    moved, plain = (
        {name: value for name, value in settings.items() if getattr(holder, name, value) is None}
        for holder in (augmentation, recipe)
    )
    if next(iter(settings)) not in moved | plain:
        return None
    return replace(recipe, augmentation=replace(augmentation, **moved), **plain)


def rounds(variants: int, folds: int) -> list[int]:
    """Maximum number of variants in each fold: after each fold the better half is kept.

    As in successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943), with more held-out
    blocks instead of longer training. At least two variants are evaluated on all folds, because
    only then a variant may replace the given settings.

    >>> rounds(4, 3), rounds(7, 3)
    ([4, 2, 2], [7, 4, 2])
    """
    return [max(min(variants, _LEAST), math.ceil(variants / 2**k)) for k in range(folds)]


def search(
    variants: Sequence[Variant],
    truth: Sequence[np.ndarray],
    judge: Judge,
    done: Callable[[Trial], None] = lambda trial: None,
    parts: Sequence[Variant] = (),
) -> tuple[Variant, tuple[Trial, ...]]:
    """The chosen variant, and the results of all.

    The first variant is kept unless another one is better by its margin on all folds together:
    there are few spatial blocks, and without a margin the choice among similar variants would be
    random (`benchmarks/tuning_margin.py` compares margins). Variants that are worse than the first
    by `BEHIND` so far are dropped, unless they need no margin, and the search ends when none is
    left.

    Args:
        truth: by fold, int, `M`, true classes of the held-out patches.
        judge: trains a variant on the other folds and predicts the held-out patches.
        done: called after each training.
        parts: parts of the first variant, which are evaluated with it.
    """
    every = [*variants, *parts]
    predicted: dict[int, list[np.ndarray]] = {k: [] for k in range(len(every))}
    its_parts = range(len(variants), len(every))
    left, scores = list(range(len(variants))), dict.fromkeys(predicted, math.nan)
    for fold, number in enumerate(rounds(len(variants), len(truth))):
        if fold:
            near = [k for k in left[1:] if scores[k] > scores[0] - BEHIND]
            best = sorted(near, key=lambda k: -scores[k])[: number - 1]
            left = [k for k in left if k == 0 or k in best or every[k].margin == 0]
            if len(left) == 1 and not parts:
                break
        for k in left:
            evaluated = [k, *its_parts] if k == 0 else [k]
            answers = np.atleast_2d(judge(every[k], fold))
            for one, classes in zip(evaluated, answers, strict=True):
                predicted[one].append(classes)
                known = np.concatenate(truth[: fold + 1])
                scores[one] = _balanced(known, np.concatenate(predicted[one]))
            done(Trial(every[k].name, fold + 1, scores[k]))
    better = [k for k in (*left[1:], *its_parts) if scores[k] >= scores[0] + every[k].margin]
    chosen = max([0, *better], key=lambda k: scores[k])
    trials = tuple(
        Trial(variant.name, len(predicted[k]), round(scores[k], 4))
        for k, variant in enumerate(every)
    )
    return every[chosen], trials


def tune(
    patches: PatchSet,
    split: Split,
    network: Network | None,
    recipe: Recipe,
    tuning: Tuning = Tuning(),
    sources: Sequence[AnySource] | None = None,
    first: Mapping[str, Tensor] | None = None,
) -> Tuned:
    """Choose among `candidates` by folds inside the training side; no other patch is read.

    For a spatial split, folds consist of whole spatial blocks, or of whole scenes (`scenes_apart`).
    At most 1500 patches, stratified by class, are used. A trial has half of the epochs, or the
    epochs of 300 steps if these are more. Nothing is written. The same recipe, seed and patches
    give the same choice.

    Args:
        network: given network; None: the choice is free.
        sources: as in `outcrop.training.engine.train`.
        first: initial weights by name, for all variants; the others are drawn.

    Raises:
        OutcropError: as `outcrop.training.engine.train`, for the given settings.
    """
    started = time.perf_counter()
    train = split.train
    train = train[stratified_sample(_dense(patches.labels[train]), PATCHES, recipe.seed)]
    labels = _dense(patches.labels[train])
    groups = split.groups[train] if split.spatial else None
    wanted = recipe.seed, tuning.tuning_folds
    folds = [] if groups is None else _folds_of_scenes(patches, train, labels, groups, *wanted)
    variants, parts = choices(network, recipe, patches, tuning, apart=bool(folds))
    folds = folds or spatial_folds(labels, groups, *wanted)
    if not folds or tuning.trials < 2 or len(variants) + len(parts) < 2:
        return Tuned(variants[0], (), time.perf_counter() - started)
    truth = [patches.labels[train[held]] for _, held in folds]

    def judge(variant: Variant, fold: int) -> np.ndarray:
        inner = _inside(split, train, *folds[fold])
        its_parts = parts if variant is variants[0] else ()
        return _predicted(patches, inner, variant, its_parts, sources, first)

    with follow("tuning", sum(rounds(len(variants), len(folds)))) as advance:
        found, trials = search(
            variants,
            truth,
            judge,
            lambda one: advance(1, note=f"{one.name} {100 * one.balanced:.1f} %"),
            parts,
        )
    return Tuned(found, trials, time.perf_counter() - started)


def scenes_apart(at: Positions) -> bool:
    """Whether patches are from three or more scenes, no two of which show mostly the same area.

    Several dates of one area are not apart.
    """
    boxes = []
    for scene in np.unique(at.source):
        its = at[at.source == scene]
        middle, half = its.middle[:, 1:], its.extent[:, 1:] / 2
        boxes.append(np.stack([(middle - half).min(axis=0), (middle + half).max(axis=0)]))
    for one, other in combinations(boxes, 2):
        common = np.minimum(one[1], other[1]) - np.maximum(one[0], other[0])
        smaller = min(np.prod(one[1] - one[0]), np.prod(other[1] - other[0]))
        if np.prod(common.clip(min=0)) > _SHARED * smaller:
            return False
    return len(boxes) >= _SCENES


def _folds_of_scenes(
    patches: PatchSet,
    train: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    seed: int,
    wanted: int,
) -> Folds:
    """Folds that hold out whole scenes; none if there are no scenes that are apart.

    Training patches in a spatial group of held-out patches are left out: a block may lie in two
    scenes. If that leaves a fold less than two classes, there are no such folds.
    """
    if patches.positions is None or patches.from_volume:
        return []
    at = patches.positions[train]
    if not scenes_apart(at):
        return []
    folds = [
        (seen[~np.isin(groups[seen], groups[held])], held)
        for seen, held in spatial_folds(labels, at.source, seed, wanted)
    ]
    return folds if all(len(np.unique(labels[seen])) > 1 for seen, _ in folds) else []


def _dense(labels: np.ndarray) -> np.ndarray:
    """Labels renumbered from 0, without gaps."""
    return np.unique(labels, return_inverse=True)[1]


def _inside(split: Split, train: np.ndarray, seen: np.ndarray, held: np.ndarray) -> Split:
    """A split of the training side; the other sides become test, so that cuts avoid them."""
    sides = np.full_like(split.sides, BUFFER)
    sides[(split.sides == VALIDATION) | (split.sides == TEST)] = TEST
    sides[train[seen]] = TRAIN
    sides[train[held]] = VALIDATION
    return replace(split, sides=sides)


def _predicted(
    patches: PatchSet,
    split: Split,
    variant: Variant,
    parts: Sequence[Variant],
    sources: Sequence[AnySource] | None,
    first: Mapping[str, Tensor] | None,
) -> np.ndarray:
    """Predicted classes of the validation side; -1 if the logits are not finite.

    Returns:
        int, `(1 + P) × M`, of the variant and its parts.
    """
    network = variant.network
    recipe = _shortened(suited(variant.recipe, network), len(split.train))
    with (
        silence(),
        make_process_group(network, recipe) as group,
        open_cutter(patches, split, recipe.augmentation, sources) as cutter,
        exact_convolutions(),
    ):
        normalisation = learn_normalisation(patches, split.train)
        training = load_pictures(patches, split.train, group.device, cutter)
        held = load_pictures(patches, split.validation, group.device)
        learner = make_learner(network, recipe, patches, group, first)
        learner.check_parts(len(training))
        learner.prepare(training, normalisation)
        for number in range(recipe.epochs):
            plan = learner.plan(number, training, normalisation)
            for _ in learner.steps(plan, lambda loss, logits, labels: None):
                pass
        found = [learner.predict_proba(held, normalisation).numpy()]
        for part in parts:
            assert isinstance(learner.module, MultiScaleNetwork)
            assert isinstance(part.network, MultiScaleNet)
            learner.module.used = part.network.views
            found.append(learner.predict_proba(held, normalisation).numpy())
    return np.stack([np.where(np.isfinite(one).all(1), one.argmax(1), -1) for one in found])


def _shortened(recipe: Settled, patches: int) -> Settled:
    """The recipe of a trial: the schedule in fewer epochs, without compilation."""
    steps = math.ceil(patches / recipe.batch)
    wanted = max(math.ceil(_SHARE * recipe.epochs), math.ceil(_STEPS / steps))
    epochs = min(recipe.epochs, wanted)
    return replace(
        recipe,
        epochs=epochs,
        warm_up=recipe.warm_up * epochs / recipe.epochs,
        # A trial is too short for compilation to pay.
        machine=replace(recipe.machine, compile="never"),
    )


def _balanced(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Balanced accuracy over the classes that are held out; 0 to 1."""
    return float(np.mean([np.mean(predicted[truth == one] == one) for one in np.unique(truth)]))
