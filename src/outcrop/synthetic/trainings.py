"""Trainings of one network in several variants under two splits, and their scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from outcrop.training.recipe import Recipe
from outcrop.training.run import Run

PLAIN = "plain"

Runs = Mapping[tuple[str, str], Run]
"""Runs by the names of split and variant."""


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
    patches: PatchSet,
    splits: Mapping[str, Split],
    variants: Iterable[tuple[str, ResidualNet, Recipe]],
    folder: Path,
    volume: Path,
) -> dict[tuple[str, str], Run]:
    """Train every variant under every split, or continue runs that exist.

    Args:
        variants: name, network and recipe of each.
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
    """The scores of each run, from the arrays that `predict` wrote."""
    old: dict[tuple[str, str], Judged] = {}
    new: dict[tuple[str, str], Judged] = {}
    for name, run in runs.items():
        found = run.predictions
        groups = splits[name[0]].groups[found.index]
        old[name] = found.truth, found.probabilities.argmax(axis=1), groups
        new[name] = predicted["truth"], predicted[_key(*name)], predicted["groups"]
    return tuple(_outcome(*name, runs[name], old, new) for name in runs)


def _outcome(
    split: str,
    variant: str,
    run: Run,
    old: Mapping[tuple[str, str], Judged],
    new: Mapping[tuple[str, str], Judged],
) -> Outcome:
    """The scores of a run; `old` and `new` are the predictions of all runs on the two sets."""
    name, classes = (split, variant), run.classifier.classes

    def scores(judged: Judged) -> Scores:
        truth, labels, groups = judged
        return score(truth, labels, classes, groups)

    def gain(judged: Mapping[tuple[str, str], Judged]) -> Interval | None:
        if variant == PLAIN:
            return None
        truth, labels, groups = judged[name]
        return paired_gain(truth, labels, judged[split, PLAIN][1], groups, len(classes))

    leaks = split != "random"
    return Outcome(
        split=split,
        variant=variant,
        validation=scores(old[name]),
        new_cubes=scores(new[name]),
        excess=balanced_gap(old[name], new[name], len(classes)),
        gain=gain(old),
        gain_new=gain(new),
        leak_gap=unpaired_leak_gap(old["random", variant], old[name]) if leaks else None,
        epochs=len(run.metrics),
        seconds=sum(epoch.seconds for epoch in run.metrics),
    )


def _key(split: str, variant: str) -> str:
    return f"{split}, {variant}"
