"""`Split`: the side and the spatial group of every patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding, read_json, write_json
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.typed import typed

SIDES = ("train", "validation", "test", "buffer")
TRAIN, VALIDATION, TEST, BUFFER = range(4)
FORMAT, FOLDS_FORMAT = "outcrop split", "outcrop folds"
_LETTERS = "tvsb"
_VERSION = 2
REMEDY = "use a smaller buffer, or other blocks, zones or slabs"


@dataclass(frozen=True)
class Split:
    """Which patches are for training, validation and test, and which are left out as buffer.

    Attributes:
        sides: int8, `N`, index into `SIDES`.
        groups: int64, `N`, spatial group (block, polygon, scene, ...) of each patch. Patches of
            one group are not independent. Folds inside the training side keep groups together,
            and confidence intervals resample whole groups.
        fingerprint: fingerprint of the patch set that the split was made for.
        how: splitter and its parameters, for display.
        spatial: whether the split is spatial; False for a random split.
    """

    sides: np.ndarray
    groups: np.ndarray
    fingerprint: str
    how: Mapping[str, Any] = field(default_factory=dict)
    spatial: bool = True

    def __repr__(self) -> str:
        counts = ((int((self.sides == side).sum()), name) for side, name in enumerate(SIDES))
        sides = ", ".join(f"{count:,} {name}" for count, name in counts if count)
        kind = "spatial" if self.spatial else "random"
        return f"Split({sides}; {kind}, {len(np.unique(self.groups)):,} groups)"

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
        """Indices of the patches left out because they are too close to another side."""
        return np.flatnonzero(self.sides == BUFFER)

    def counts(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """Number of patches by side (rows, in the order of `SIDES`) and class (columns)."""
        table = np.zeros((len(SIDES), classes), dtype=np.int64)
        np.add.at(table, (self.sides, labels), 1)
        return table

    def warnings(self, patches: PatchSet) -> list[str]:
        """Sentences about classes without patches on a side, and about sides of a single group."""
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
                f"all {words[side]} patches are in one spatial group, so the score has no "
                "confidence interval; hold out each fold in turn, or label more places"
                for side in (VALIDATION, TEST)
                if len(np.unique(self.groups[self.sides == side])) == 1
            ]
        return found

    def check(
        self, patches: PatchSet, where: object = "`split`", validated: bool = True, classes: int = 2
    ) -> None:
        """Check that the split can be used with these patches.

        Args:
            where: file or object that an error message names.
            validated: whether validation patches are required.
            classes: smallest number of classes on the training side: two for a classifier, one if
                labels are not learnt.

        Raises:
            OutcropError: the split was made for another patch set; it has no validation or no
                training patches, or too few classes to train on.
        """
        if self.fingerprint != patches.fingerprint or len(self.sides) != len(patches):
            raise OutcropError(
                where, "was made for another patch set; make a new one with `outcrop.splits`"
            )
        table = self.counts(patches.labels, len(patches.classes))
        if validated and not table[VALIDATION].any():
            raise OutcropError(where, f"leaves no validation patches; {REMEDY}")
        if not table[TRAIN].any():
            raise OutcropError(where, f"leaves no training patches; {REMEDY}")
        if (table[TRAIN] > 0).sum() < classes:
            raise OutcropError(where, f"leaves fewer than two classes to train on; {REMEDY}")

    def save(self, path: str | Path) -> None:
        """Write the split as JSON."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Content of the file."""
        return {
            "format": FORMAT,
            "version": _VERSION,
            "how": dict(self.how),
            "by_ground": self.spatial,
            "fingerprint": self.fingerprint,
            "sides": letters(self.sides),
            "groups": self.groups.tolist(),
        }


def letters(sides: np.ndarray) -> str:
    """Sides as text, one letter per patch, as they are stored in a file.

    >>> letters(np.array([0, 1, 3]))
    'tvb'
    """
    return "".join(_LETTERS[side] for side in sides)


def splits_in(content: Mapping[str, Any], sides: Sequence[str]) -> list[Split]:
    """The splits in the content of a file: one for each text of `letters` in `sides`.

    Raises:
        KeyError, TypeError, ValueError: the content is no split.
    """
    groups = np.array(typed(list[int], content["groups"], "groups"), dtype=np.int64)
    if any(len(one) != len(groups) for one in sides):
        raise ValueError("sides and groups differ in number")
    return [
        Split(
            sides=np.array([_LETTERS.index(letter) for letter in one], dtype=np.int8),
            groups=groups,
            fingerprint=typed(str, content["fingerprint"], "fingerprint"),
            how=typed(dict[str, Any], content["how"], "how"),
            spatial=typed(bool, content["by_ground"], "by_ground"),
        )
        for one in sides
    ]


def sides_of_fold(masks: Sequence[np.ndarray], fold: int, test: bool = False) -> np.ndarray:
    """Sides, int8, `N`: one fold is for validation, all others are for training.

    Args:
        masks: mask of the patches of each fold.
        test: whether the next fold becomes a test side.
    """
    sides = np.where(masks[fold], VALIDATION, TRAIN).astype(np.int8)
    if test:
        sides[masks[(fold + 1) % len(masks)]] = TEST
    return sides


def least_classes(patches: PatchSet) -> int:
    """Number of classes that a training side needs: two, or one if the patches have one class.

    Patches of one class cannot train a classifier, but can train a generative network.
    """
    return min(2, int(np.count_nonzero(patches.counts)))


AnySplit = Split | str | Path
"""A split, or the name of its file."""


def read_split(path: AnySplit, patches: AnyPatches | None = None) -> Split:
    """Read a split from its JSON file.

    Args:
        path: name of the file; a split is returned as it is.
        patches: patch set that the split must fit (`Split.check`).

    Raises:
        OutcropError: the file is missing, is not a split, or does not fit the patches; patches are
            given and the file was written by a version with other fingerprints.
    """
    if isinstance(path, Split):
        return path
    content = read_json(path, "split", "splits")
    with decoding(path, "a split", "make one with `outcrop.splits`"):
        if content["format"] == FOLDS_FORMAT:
            raise OutcropError(
                path,
                "contains all folds of a cross-validation, but a single split is needed; make one "
                "with `outcrop.splits`, without `assign_all`",
            )
        if content["format"] != FORMAT:
            raise ValueError("another format")
        (split,) = splits_in(content, [typed(str, content["sides"], "sides")])
    if patches is not None:
        if content.get("version") != _VERSION:
            raise OutcropError(
                path,
                "was made by another version of outcrop, whose fingerprints of patch sets differ; "
                "make a new one with `outcrop.splits`",
            )
        patches = open_patches(patches)
        split.check(patches, path, classes=least_classes(patches))
    return split
