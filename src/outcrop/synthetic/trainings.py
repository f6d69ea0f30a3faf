"""One network in several ways under several splits: what each promises, and what it keeps."""

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
from outcrop.splits.splitters import pieces_of
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Recipe
from outcrop.training.run import Run

PLAIN = "plain"
_GAIN = 0.1

Runs = Mapping[tuple[str, str], Run]
"""By the name of the split, then of the way."""


@dataclass(frozen=True)
class Ways:
    """A network as it is, with neighbourhood augmentation, with stochastic depth, and with both.

    All see random gains of contrast, and none is mirrored. Where patches are not cut anew they are
    padded and cropped, which is what cutting anew stands in for.

    Attributes:
        network, recipe: as they are.
        neighbourhood, slices: reach of the augmentation from the source.
        survival: of stochastic depth.
    """

    network: ResidualNet
    recipe: Recipe
    neighbourhood: int
    slices: int
    survival: float

    def __iter__(self) -> Iterator[tuple[str, ResidualNet, Recipe]]:
        """Name, network and recipe of each."""
        # Handed over as pictures, each with one class.
        usual = Augmentation(flip=False, gain=_GAIN, label_of="image")
        near = replace(usual, neighbourhood=self.neighbourhood, slices=self.slices)
        padded = replace(self.recipe, augmentation=usual)
        anew = replace(self.recipe, augmentation=near)
        deep = replace(self.network, survival=self.survival)
        yield PLAIN, self.network, padded
        yield "neighbourhood", self.network, anew
        yield "stochastic depth", deep, padded
        yield "both", deep, anew


@dataclass(frozen=True)
class Outcome:
    """What one training promised, and what it kept.

    Attributes:
        split, way: which training.
        promised: scores on the validation side of its split.
        kept: scores on new cubes.
        excess: balanced accuracy promised minus kept.
        gain: balanced accuracy on the validation side minus that of the plain way under the same
            split, on the same patches; None for the plain way.
        gain_kept: the same on the new cubes.
        leak: overall accuracy under the split at random minus this one's, for the same way; None
            under the split at random.
        epochs, seconds: of the training.
    """

    split: str
    way: str
    promised: Scores
    kept: Scores
    excess: Interval
    gain: Interval | None
    gain_kept: Interval | None
    leak: Interval | None
    epochs: int
    seconds: float


def train_all(
    patches: PatchSet, splits: Mapping[str, Split], ways: Ways, folder: Path, volume: Path
) -> dict[tuple[str, str], Run]:
    """Train in every way under every split; runs that are there are gone on with, or kept.

    Args:
        folder: gets the runs.
        volume: what the patches were cut from.

    Raises:
        OutcropError: as `outcrop.training.engine.train`.
        KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM.
    """
    folder.mkdir(exist_ok=True)
    runs = {}
    for way, network, recipe in ways:
        for split_name, split in splits.items():
            where = folder / f"{split_name}-{way.replace(' ', '-')}"
            sources = [volume] if recipe.augmentation.cuts_anew else None
            runs[split_name, way] = train(
                patches, split, where, network, recipe, where.exists(), sources=sources
            )
    return runs


def judge(cubes: Sequence[PatchSet], runs: Runs, path: Path) -> None:
    """Write truth, groups and what each run says, of all patches of some cubes, as an npz.

    Args:
        cubes: each with its positions, and with the classes of the runs.
    """
    truth = np.concatenate([patches.labels for patches in cubes])
    pieces = [pieces_of(patches) for patches in cubes]
    firsts = np.cumsum([0, *(piece.max() + 1 for piece in pieces[:-1])])
    groups = np.concatenate([piece + first for piece, first in zip(pieces, firsts, strict=True)])
    images = np.concatenate([patches.take(np.arange(len(patches))) for patches in cubes])
    said = {
        _key(*name): run.classifier.predict_proba(images).argmax(axis=1)
        for name, run in track(runs.items(), "judging on new cubes", len(runs))
    }
    with new_file(path) as temporary:
        np.savez(temporary, allow_pickle=False, truth=truth, groups=groups, **said)


def outcomes(
    runs: Runs, splits: Mapping[str, Split], judged: Mapping[str, np.ndarray]
) -> tuple[Outcome, ...]:
    """What each run promised and kept.

    Args:
        judged: what `judge` wrote.
    """
    return tuple(_outcome(name, runs, splits, judged) for name in runs)


def _outcome(
    name: tuple[str, str],
    runs: Runs,
    splits: Mapping[str, Split],
    judged: Mapping[str, np.ndarray],
) -> Outcome:
    split, way = name
    run = runs[name]
    classes, plain = run.classifier.classes, (split, PLAIN)

    def new(which: tuple[str, str]) -> Judged:
        return judged["truth"], judged[_key(*which)], judged["groups"]

    def old(which: tuple[str, str]) -> Judged:
        said = runs[which].predictions
        groups = splits[which[0]].groups[said.index]
        return said.truth, said.probabilities.argmax(axis=1), groups

    def against_plain(one: Judged, other: Judged) -> Interval | None:
        if way == PLAIN:
            return None
        truth, said, groups = one
        return paired_gain(truth, said, other[1], groups, len(classes))

    return Outcome(
        split=split,
        way=way,
        promised=score(*old(name)[:2], classes, old(name)[2]),
        kept=score(*new(name)[:2], classes, new(name)[2]),
        excess=balanced_gap(old(name), new(name), len(classes)),
        gain=against_plain(old(name), old(plain)),
        gain_kept=against_plain(new(name), new(plain)),
        leak=None if split == "random" else unpaired_leak_gap(old(("random", way)), old(name)),
        epochs=len(run.metrics),
        seconds=sum(epoch.seconds for epoch in run.metrics),
    )


def _key(split: str, way: str) -> str:
    return f"{split}, {way}"
