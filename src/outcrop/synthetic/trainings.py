"""Trainings of one network in several variants under two splits, and their scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from outcrop.files import new_file
from outcrop.metrics.gaps import Judged, balanced_gap, paired_gain, unpaired_leak_gap
from outcrop.metrics.intervals import Interval
from outcrop.metrics.scores import Scores, score
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.progress import track
from outcrop.splits import Split
from outcrop.splits.base import spatial_groups
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Recipe
from outcrop.training.run import Run

PLAIN = "plain"
_GAIN = 0.1

Runs = Mapping[tuple[str, str], Run]
"""Runs by the names of split and variant."""


@dataclass(frozen=True)
class Variants:
    """A plain network, and variants with neighbourhood augmentation, stochastic depth, and both.

    All use random gains and no flips. Random crops with padding are used where patches are not cut
    again from their source.

    Attributes:
        network, recipe: the plain network and its training.
        neighbourhood, slices: reach of the neighbourhood augmentation.
        survival: survival probability of stochastic depth.
    """

    network: ResidualNet
    recipe: Recipe
    neighbourhood: int
    slices: int
    survival: float

    def __iter__(self) -> Iterator[tuple[str, ResidualNet, Recipe]]:
        """Name, network and recipe of each variant."""
        # The label belongs to the whole image.
        plain = Augmentation(flip=False, gain=_GAIN, label_of="image")
        near = replace(plain, neighbourhood=self.neighbourhood, slices=self.slices)
        padded = replace(self.recipe, augmentation=plain)
        shifted = replace(self.recipe, augmentation=near)
        deep = replace(self.network, survival=self.survival)
        yield PLAIN, self.network, padded
        yield "neighbourhood", self.network, shifted
        yield "stochastic depth", deep, padded
        yield "both", deep, shifted


@dataclass(frozen=True)
class Outcome:
    """The scores of one training.

    Attributes:
        split, variant: the training.
        validation: scores on the validation side of its split.
        new_cubes: scores on new cubes.
        excess: balanced accuracy on the validation side minus that on new cubes.
        gain: balanced accuracy on the validation side minus that of the plain variant under the
            same split, on the same patches; None for the plain variant.
        gain_new: the same on the new cubes.
        leak_gap: overall accuracy of the same variant under the random split minus this one; None
            under the random split.
        epochs, seconds: number of epochs and time of the training.
    """

    split: str
    variant: str
    validation: Scores
    new_cubes: Scores
    excess: Interval
    gain: Interval | None
    gain_new: Interval | None
    leak_gap: Interval | None
    epochs: int
    seconds: float


def train_all(
    patches: PatchSet, splits: Mapping[str, Split], variants: Variants, folder: Path, volume: Path
) -> dict[tuple[str, str], Run]:
    """Train every variant under every split, or continue runs that exist.

    Args:
        patches: the patches.
        splits: the splits by name.
        variants: the variants.
        folder: output folder of the runs.
        volume: source of the patches.

    Raises:
        OutcropError: as for `outcrop.training.engine.train`.
        KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM.
    """
    folder.mkdir(exist_ok=True)
    runs = {}
    for variant, network, recipe in variants:
        for split_name, split in splits.items():
            where = folder / f"{split_name}-{variant.replace(' ', '-')}"
            sources = [volume] if recipe.augmentation.cuts_anew else None
            runs[split_name, variant] = train(
                patches, split, where, network, recipe, where.exists(), sources=sources
            )
    return runs


def predict(cubes: Sequence[PatchSet], runs: Runs, path: Path) -> None:
    """Write the predictions of all runs for patches of some cubes, with truth and spatial groups.

    Args:
        cubes: patch sets with positions and with the classes of the runs.
        runs: the runs.
        path: output npz file.
    """
    truth = np.concatenate([patches.labels for patches in cubes])
    pieces = [spatial_groups(patches) for patches in cubes]
    firsts = np.cumsum([0, *(piece.max() + 1 for piece in pieces[:-1])])
    groups = np.concatenate([piece + first for piece, first in zip(pieces, firsts, strict=True)])
    images = np.concatenate([patches.take(np.arange(len(patches))) for patches in cubes])
    predicted = {
        _key(*name): run.classifier.predict_proba(images).argmax(axis=1)
        for name, run in track(runs.items(), "predicting new cubes", len(runs))
    }
    with new_file(path) as temporary:
        np.savez(temporary, allow_pickle=False, truth=truth, groups=groups, **predicted)


def outcomes(
    runs: Runs, splits: Mapping[str, Split], predicted: Mapping[str, np.ndarray]
) -> tuple[Outcome, ...]:
    """The scores of each run.

    Args:
        runs: the runs.
        splits: the splits by name.
        predicted: the arrays that `predict` wrote.
    """
    return tuple(_outcome(name, runs, splits, predicted) for name in runs)


def _outcome(
    name: tuple[str, str],
    runs: Runs,
    splits: Mapping[str, Split],
    predicted: Mapping[str, np.ndarray],
) -> Outcome:
    split, variant = name
    run = runs[name]
    classes, plain = run.classifier.classes, (split, PLAIN)

    def new(which: tuple[str, str]) -> Judged:
        return predicted["truth"], predicted[_key(*which)], predicted["groups"]

    def old(which: tuple[str, str]) -> Judged:
        found = runs[which].predictions
        groups = splits[which[0]].groups[found.index]
        return found.truth, found.probabilities.argmax(axis=1), groups

    def against_plain(one: Judged, other: Judged) -> Interval | None:
        if variant == PLAIN:
            return None
        truth, labels, groups = one
        return paired_gain(truth, labels, other[1], groups, len(classes))

    return Outcome(
        split=split,
        variant=variant,
        validation=score(*old(name)[:2], classes, old(name)[2]),
        new_cubes=score(*new(name)[:2], classes, new(name)[2]),
        excess=balanced_gap(old(name), new(name), len(classes)),
        gain=against_plain(old(name), old(plain)),
        gain_new=against_plain(new(name), new(plain)),
        leak_gap=None
        if split == "random"
        else unpaired_leak_gap(old(("random", variant)), old(name)),
        epochs=len(run.metrics),
        seconds=sum(epoch.seconds for epoch in run.metrics),
    )


def _key(split: str, variant: str) -> str:
    return f"{split}, {variant}"
