"""`Folds`: splits that hold out every patch in turn, for cross-validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding, read_json, write_json
from outcrop.patches.patchset import PatchSet
from outcrop.splits.split import (
    FOLDS_FORMAT,
    TRAIN,
    VALIDATION,
    Split,
    is_split,
    letters,
    read_split,
    sides_of,
    teachable,
)
from outcrop.typed import typed

_VERSION = 1


@dataclass(frozen=True, eq=False)
class Folds:
    """Splits of one patch set; what is held out in one of them is its validation side.

    Several folds hold out every patch once. What no fold of one split holds out is not judged.

    Attributes:
        splits: one for each fold, of the same patches and groups.
    """

    splits: tuple[Split, ...]

    def __len__(self) -> int:
        return len(self.splits)

    @property
    def groups(self) -> np.ndarray:
        """int64, `N`, the piece of ground of each patch (`Split.groups`)."""
        return self.splits[0].groups

    @property
    def fingerprint(self) -> str:
        """That of the patch set."""
        return self.splits[0].fingerprint

    @property
    def by_ground(self) -> bool:
        """False for folds at random."""
        return self.splits[0].by_ground

    @property
    def how(self) -> Mapping[str, Any]:
        """The splitter and its parameters, for people to read."""
        how = dict(self.splits[0].how)
        if len(self) > 1:
            how.pop("fold", None)
        return how

    @property
    def kind(self) -> str:
        """What kind of score comes of them, in words.

        >>> Folds((Split(np.zeros(3), np.arange(3), ""),)).kind
        'one fold'
        """
        how = "" if self.by_ground else " at random"
        return f"one fold{how}" if len(self) == 1 else f"cross-validated ({len(self)} folds{how})"

    @cached_property
    def held_out(self) -> np.ndarray:
        """int64, `N`, the fold that each patch is held out in; -1 for none."""
        fold = np.full(len(self.groups), -1)
        for number, split in enumerate(self.splits):
            fold[split.validation] = number
        return fold

    @cached_property
    def index(self) -> np.ndarray:
        """Indices of all patches that are held out, rising."""
        return np.flatnonzero(self.held_out >= 0)

    def judged(self, labels: np.ndarray) -> np.ndarray:
        """Indices of the patches that scores are of, rising; those of one fold are all held out.

        In cross-validation these are the held-out patches of the classes that can be judged. A
        patch cannot be judged where its fold has no training patch of its class, and a class not
        where this leaves patches of it on fewer than two pieces of ground: no model can find it,
        or nothing shows how far chance moves its recall. Such patches still train in the other
        folds.

        Args:
            labels: int, `N`.
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
        """Sentences, without full stops, about the classes that are not judged, or not wholly."""
        if len(self) == 1:
            return self.splits[0].warnings(patches)
        labels = patches.labels
        judged = np.zeros(len(patches), bool)
        judged[self.judged(labels)] = True
        said = []
        for k, name in enumerate(patches.classes):
            here = labels == k
            pieces, left = len(np.unique(self.groups[here])), int((here & ~judged).sum())
            stands = f"class '{name}' stands on {_counted(pieces, 'piece')} of ground"
            if not here.any():
                said.append(f"class '{name}' has no patches at all")
            elif pieces == 1:
                said.append(f"{stands}: it is trained on, but cannot be judged; label more places")
            elif left == here.sum():
                said.append(
                    f"{stands}, too few or too near each other: it is trained on, but cannot be "
                    "judged; label more places, or take a smaller buffer"
                )
            elif left:
                said.append(
                    f"{stands}: {left} of its {here.sum()} patches are not judged, because what "
                    "their fold trains on has none of it; label more places, or take a smaller "
                    "buffer"
                )
            elif pieces < len(self):
                said.append(f"{stands}, fewer than the {len(self)} folds")
        alone = sum(len(np.unique(self.groups[split.validation])) == 1 for split in self.splits)
        if alone and len(np.unique(self.groups)) < len(patches):
            said.append(
                f"{alone} of {len(self)} folds hold out one piece of ground each: judge by all "
                "folds together, not by one of them"
            )
        return said

    def counts(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """int64, `folds × sides × classes`, patches."""
        return np.stack([split.counts(labels, classes) for split in self.splits])

    def check(self, patches: PatchSet, where: object = "folds", classes: int | None = None) -> None:
        """Refuse folds that cannot be used with these patches.

        Args:
            where: what the error line names.
            classes: as `Split.check`; as many as the patches can teach, if not given.

        Raises:
            OutcropError: a fold was made for other patches, or leaves a side or the classes to
                train on too small.
        """
        least = teachable(patches) if classes is None else classes
        for number, split in enumerate(self.splits):
            split.check(
                patches, where if len(self) == 1 else f"{where}: fold {number}", True, least
            )
        if not len(self.judged(patches.labels)):
            raise OutcropError(
                where,
                "leave no class that can be judged: none stands on two pieces of ground that are "
                "held out apart; label more places, or take smaller blocks or buffer",
            )

    def save(self, path: str | Path) -> None:
        """Write the folds as JSON; one fold as a split (`Split.save`)."""
        if len(self) == 1:
            self.splits[0].save(path)
            return
        content = {
            "format": FOLDS_FORMAT,
            "version": _VERSION,
            "how": dict(self.how),
            "by_ground": self.by_ground,
            "fingerprint": self.fingerprint,
            "sides": [letters(split.sides) for split in self.splits],
            "groups": self.groups.tolist(),
        }
        write_json(path, content)


def unlearnt(sides: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The classes that have validation patches and no training patch, rising."""
    return np.setdiff1d(labels[sides == VALIDATION], labels[sides == TRAIN])


def read_folds(path: str | Path, patches: PatchSet | None = None) -> Folds:
    """Read folds, or a split as one fold, from JSON.

    Args:
        patches: those that they must fit (`Folds.check`).

    Raises:
        OutcropError: the file is missing, holds neither, or does not fit the patches.
    """
    content = read_json(path, "split", "split")
    if is_split(content):
        return Folds((read_split(path, patches),))
    with decoding(path, "a split", "make one with `outcrop split`"):
        if content["format"] != FOLDS_FORMAT:
            raise ValueError("another format")
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}, and {_VERSION} is known")
        groups = np.array(typed(list[int], content["groups"], "groups"), dtype=np.int64)
        how = typed(dict[str, Any], content["how"], "how")
        folds = Folds(
            tuple(
                Split(
                    sides=sides_of(sides),
                    groups=groups,
                    fingerprint=typed(str, content["fingerprint"], "fingerprint"),
                    how=how | {"fold": number},
                    by_ground=typed(bool, content["by_ground"], "by_ground"),
                )
                for number, sides in enumerate(typed(list[str], content["sides"], "sides"))
            )
        )
        if any(split.sides.shape != groups.shape for split in folds.splits):
            raise ValueError("sides and groups differ in number")
        held = np.stack([split.sides == VALIDATION for split in folds.splits]).sum(axis=0)
        if len(folds) < 2 or (held != 1).any():
            raise ValueError("some patches are not held out in one fold")
    if patches is not None:
        folds.check(patches, path)
    return folds


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s'[: number != 1]}"
