"""`Folds`: the splits of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding, read_json, write_json
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import (
    FOLDS_FORMAT,
    FORMAT,
    TRAIN,
    VALIDATION,
    AnySplit,
    Split,
    least_classes,
    letters,
    read_split,
    splits_in,
)
from outcrop.typed import typed

_VERSION = 1


@dataclass(frozen=True, eq=False)
class Folds:
    """Splits of one patch set, one per fold. The validation side of a split is held out.

    Several folds hold out every patch once. A single fold holds out some patches, and only these
    are scored.

    Attributes:
        splits: one split per fold, all of the same patches and groups.
    """

    splits: tuple[Split, ...]

    def __repr__(self) -> str:
        groups = len(np.unique(self.groups))
        return f"Folds({len(self.groups):,} patches, {self.kind}; {groups:,} groups)"

    def __len__(self) -> int:
        return len(self.splits)

    @property
    def groups(self) -> np.ndarray:
        """int64, `N`, spatial group of each patch (`Split.groups`)."""
        return self.splits[0].groups

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the patch set."""
        return self.splits[0].fingerprint

    @property
    def spatial(self) -> bool:
        """Whether the folds are spatial; False for random folds."""
        return self.splits[0].spatial

    @property
    def how(self) -> Mapping[str, Any]:
        """Splitter and its parameters, for display."""
        how = dict(self.splits[0].how)
        if len(self) > 1:
            how.pop("fold", None)
        return how

    @property
    def kind(self) -> str:
        """Kind of the validation, in words.

        >>> Folds((Split(np.zeros(3), np.arange(3), ""),)).kind
        'one fold'
        """
        how = "" if self.spatial else "random "
        if len(self) == 1:
            return f"one {how}fold"
        return f"cross-validated ({len(self)} {how}folds)"

    @cached_property
    def held_out(self) -> np.ndarray:
        """int64, `N`, fold that holds out each patch; -1 for none."""
        fold = np.full(len(self.groups), -1)
        for number, split in enumerate(self.splits):
            fold[split.validation] = number
        return fold

    @cached_property
    def index(self) -> np.ndarray:
        """Indices of all held-out patches, ascending."""
        return np.flatnonzero(self.held_out >= 0)

    def scored(self, labels: np.ndarray) -> np.ndarray:
        """Indices of the patches that scores are computed from, ascending.

        With one fold these are all held-out patches. In cross-validation a patch is left out if
        its fold has no training patch of its class, because no model could predict it. A class is
        left out if fewer than two spatial groups of it remain, because its recall would have no
        confidence interval. The patches left out are still used for training in the other folds.

        Args:
            labels: int, `N`, class of each patch.
        """
        if len(self) == 1:
            return self.index
        able = self.held_out >= 0
        for split in self.splits:
            able[split.validation] = np.isin(labels[split.validation], labels[split.train])
        for k in np.unique(labels):
            here = (labels == k) & able
            if len(np.unique(self.groups[here])) < 2:
                able[here] = False
        return np.flatnonzero(able)

    def notes(self, patches: PatchSet) -> list[str]:
        """Sentences, without full stops, about classes that are not scored, or only in part."""
        if len(self) == 1:
            return self.splits[0].warnings(patches)
        labels = patches.labels
        scored = np.zeros(len(patches), bool)
        scored[self.scored(labels)] = True
        notes = []
        for k, name in enumerate(patches.classes):
            here = labels == k
            groups, left = len(np.unique(self.groups[here])), int((here & ~scored).sum())
            occurs = f"class '{name}' occurs in {groups} spatial group{'s'[: groups != 1]}"
            if not here.any():
                notes.append(f"class '{name}' has no patches at all")
            elif groups == 1:
                notes.append(
                    f"{occurs}: it is used for training but cannot be scored; label more places"
                )
            elif left == here.sum():
                notes.append(
                    f"{occurs}, which are too few or too close together: it is used for training "
                    "but cannot be scored; label more places, or use a smaller buffer"
                )
            elif left:
                notes.append(
                    f"{occurs}: {left} of its {here.sum()} patches are not scored, because the "
                    "training side of their fold has no patch of this class; label more places, "
                    "or use a smaller buffer"
                )
            elif groups < len(self):
                notes.append(f"{occurs}, fewer than the {len(self)} folds")
        alone = sum(len(np.unique(self.groups[split.validation])) == 1 for split in self.splits)
        if alone and len(np.unique(self.groups)) < len(patches):
            notes.append(
                f"{alone} of {len(self)} folds hold out a single spatial group: use the score of "
                "all folds together, not that of one fold"
            )
        return notes

    def counts(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """Number of patches: int64, `folds × sides × classes`."""
        return np.stack([split.counts(labels, classes) for split in self.splits])

    def check(self, patches: PatchSet, where: object = "folds", classes: int | None = None) -> None:
        """Check that the folds can be used with these patches.

        Args:
            where: file or object that an error message names.
            classes: as in `Split.check`; `least_classes` by default.

        Raises:
            OutcropError: a fold does not pass `Split.check`; no class can be scored.
        """
        least = least_classes(patches) if classes is None else classes
        for number, split in enumerate(self.splits):
            split.check(
                patches, where if len(self) == 1 else f"{where}: fold {number}", True, least
            )
        if not len(self.scored(patches.labels)):
            raise OutcropError(
                where,
                "leave no class that can be scored: none has two spatial groups in different "
                "folds; label more places, or use smaller blocks or a smaller buffer",
            )

    def save(self, path: str | Path) -> None:
        """Write the folds as JSON; a single fold is written as a split (`Split.save`)."""
        if len(self) == 1:
            self.splits[0].save(path)
            return
        content = self.splits[0].to_json() | {
            "format": FOLDS_FORMAT,
            "version": _VERSION,
            "how": dict(self.how),
            "sides": [letters(split.sides) for split in self.splits],
        }
        write_json(path, content)


def untrained_classes(sides: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Classes that have validation patches but no training patch, ascending."""
    return np.setdiff1d(labels[sides == VALIDATION], labels[sides == TRAIN])


AnyFolds = Folds | AnySplit
"""Folds or a split, or the name of their file."""


def read_folds(path: AnyFolds, patches: AnyPatches | None = None) -> Folds:
    """Read folds from JSON; a split is read as one fold.

    Args:
        path: name of the file; folds are returned as they are.
        patches: patch set that the folds must fit (`Folds.check`).

    Raises:
        OutcropError: the file is missing, is neither, or does not fit the patches.
    """
    if isinstance(path, Folds | Split):
        return path if isinstance(path, Folds) else Folds((path,))
    content = read_json(path, "split", "splits")
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return Folds((read_split(path, patches),))
    with decoding(path, "a split", "make one with `outcrop.splits`"):
        if content["format"] != FOLDS_FORMAT:
            raise ValueError("another format")
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']} is unknown")
        splits = splits_in(content, typed(list[str], content["sides"], "sides"))
        folds = Folds(
            tuple(replace(one, how={**one.how, "fold": k}) for k, one in enumerate(splits))
        )
        held = np.stack([split.sides == VALIDATION for split in folds.splits]).sum(axis=0)
        if len(folds) < 2 or (held != 1).any():
            raise ValueError("some patches are not held out in one fold")
    if patches is not None:
        folds.check(open_patches(patches), path)
    return folds
