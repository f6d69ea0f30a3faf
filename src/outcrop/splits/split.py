"""`Split`: for each patch the side it stands on, and the piece of ground it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding, read_json, write_json
from outcrop.patches.patchset import PatchSet
from outcrop.typed import typed

SIDES = ("train", "validation", "test", "buffer")
TRAIN, VALIDATION, TEST, BUFFER = range(4)
_FORMAT, FOLDS_FORMAT = "outcrop split", "outcrop folds"
_LETTERS = "tvsb"
_VERSION = 2
REMEDY = "take a smaller buffer, or other blocks, zones or slabs"


@dataclass(frozen=True)
class Split:
    """Which patches train, which judge, and which are left out between them.

    Attributes:
        sides: int8, `N`, an index into `SIDES`.
        groups: int64, `N`, the piece of ground (block, polygon, scene, ...) of each patch.
            Patches of one group are not independent: folds made inside the training side keep
            them together, and confidence intervals resample whole groups.
        fingerprint: that of the patch set the split was made for.
        how: the splitter and its parameters, for people to read.
        by_ground: false for a split at random.
    """

    sides: np.ndarray
    groups: np.ndarray
    fingerprint: str
    how: Mapping[str, Any] = field(default_factory=dict)
    by_ground: bool = True

    @property
    def train(self) -> np.ndarray:
        """Indices of the training patches."""
        return np.flatnonzero(self.sides == TRAIN)

    @property
    def validation(self) -> np.ndarray:
        """Indices of the validation patches."""
        return np.flatnonzero(self.sides == VALIDATION)

    @property
    def test(self) -> np.ndarray:
        """Indices of the test patches."""
        return np.flatnonzero(self.sides == TEST)

    @property
    def buffer(self) -> np.ndarray:
        """Indices of the patches left out because they are too near the other side."""
        return np.flatnonzero(self.sides == BUFFER)

    def counts(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """Patches by side (rows, in the order of `SIDES`) and class (columns)."""
        table = np.zeros((len(SIDES), classes), dtype=np.int64)
        np.add.at(table, (self.sides, labels), 1)
        return table

    def warnings(self, patches: PatchSet) -> list[str]:
        """One sentence for each class that a side in use has no patch of.

        And one for each side that judges on a single piece of ground.
        """
        table = self.counts(patches.labels, len(patches.classes))
        words = {TRAIN: "training", VALIDATION: "validation", TEST: "test"}
        found = []
        for k, name in enumerate(patches.classes):
            if not table[:, k].any():
                found.append(f"class '{name}' has no patches at all")
                continue
            found += [
                f"class '{name}' has no {word} patches"
                for side, word in words.items()
                if table[side].any() and table[side, k] == 0
            ]
        if len(np.unique(self.groups)) > 1:
            found += [
                f"all {words[side]} patches stand on one piece of ground: nothing shows how far "
                "the score would differ on another; hold out each fold in turn (--all-folds), or "
                "label more places"
                for side in (VALIDATION, TEST)
                if len(np.unique(self.groups[self.sides == side])) == 1
            ]
        return found

    def check(
        self, patches: PatchSet, where: object = "split", judged: bool = True, classes: int = 2
    ) -> None:
        """Refuse a split that cannot be used with these patches.

        Args:
            where: what the error line names.
            judged: whether there have to be validation patches.
            classes: how many there have to be on the training side: two to be told apart, one
                where labels are not learnt.

        Raises:
            OutcropError: made for another patch set; no validation or no training patches; too
                few classes to train on.
        """
        if self.fingerprint != patches.fingerprint or len(self.sides) != len(patches):
            raise OutcropError(
                where, "was made for another patch set; make it anew with `outcrop split`"
            )
        table = self.counts(patches.labels, len(patches.classes))
        if judged and not table[VALIDATION].any():
            raise OutcropError(where, f"leaves no validation patches; {REMEDY}")
        if not table[TRAIN].any():
            raise OutcropError(where, f"leaves no training patches; {REMEDY}")
        if (table[TRAIN] > 0).sum() < classes:
            raise OutcropError(where, f"leaves fewer than two classes to train on; {REMEDY}")

    def save(self, path: str | Path) -> None:
        """Write the split as JSON."""
        write_json(
            path,
            {
                "format": _FORMAT,
                "version": _VERSION,
                "how": dict(self.how),
                "by_ground": self.by_ground,
                "fingerprint": self.fingerprint,
                "sides": letters(self.sides),
                "groups": self.groups.tolist(),
            },
        )


def letters(sides: np.ndarray) -> str:
    """Sides as a file holds them: one letter a patch.

    >>> letters(np.array([0, 1, 3]))
    'tvb'
    """
    return "".join(_LETTERS[side] for side in sides)


def sides_of(text: str) -> np.ndarray:
    """The sides, int8, that `letters` gave.

    Raises:
        ValueError: there is another letter.
    """
    return np.array([_LETTERS.index(letter) for letter in text], dtype=np.int8)


def is_split(content: Any) -> bool:
    """Whether JSON is that of a split, and not of several folds."""
    return isinstance(content, dict) and content.get("format") == _FORMAT


def teachable(patches: PatchSet) -> int:
    """The classes that a training side needs: two, unless the patches have but one.

    Those teach no classifier, but networks that learn the pictures themselves.
    """
    return min(2, int(np.count_nonzero(patches.counts)))


def read_split(path: str | Path, patches: PatchSet | None = None) -> Split:
    """Read a split from its JSON file.

    Args:
        patches: those that it must fit (`Split.check`).

    Raises:
        OutcropError: the file is missing, is not a split, or does not fit the patches; it must
            fit patches and was made by another version, whose fingerprints mean something else.
    """
    content = read_json(path, "split", "split")
    with decoding(path, "a split", "make one with `outcrop split`"):
        if content["format"] == FOLDS_FORMAT:
            raise OutcropError(
                path,
                "holds all folds of a cross-validation, and one split is wanted; make it with "
                "`outcrop split` without --all-folds",
            )
        if content["format"] != _FORMAT:
            raise ValueError("another format")
        split = Split(
            sides=sides_of(typed(str, content["sides"], "sides")),
            groups=np.array(typed(list[int], content["groups"], "groups"), dtype=np.int64),
            fingerprint=typed(str, content["fingerprint"], "fingerprint"),
            how=typed(dict[str, Any], content["how"], "how"),
            by_ground=typed(bool, content["by_ground"], "by_ground"),
        )
        if split.sides.shape != split.groups.shape:
            raise ValueError("sides and groups differ in number")
    if patches is not None:
        if content.get("version") != _VERSION:
            raise OutcropError(
                path,
                "was made by another version of outcrop, which knew patch sets by less than their "
                "content; make it anew with `outcrop split`",
            )
        split.check(patches, path, classes=teachable(patches))
    return split
