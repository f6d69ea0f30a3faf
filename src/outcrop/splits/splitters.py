"""Splitters: at random, and by ground. Each is a scikit-learn cross-validator too."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions
from outcrop.splits.deal import deal
from outcrop.splits.folds import Folds, unlearnt
from outcrop.splits.ground import blocks, keep_apart, most_common, suggest_block
from outcrop.splits.rows import patches_of_rows
from outcrop.splits.split import BUFFER, REMEDY, TEST, TRAIN, VALIDATION, Split, teachable

_ATTEMPTS, _QUICK = 8, 20_000


@dataclass(frozen=True, kw_only=True)
class Splitter(ABC):
    """What all splitters share.

    As a scikit-learn cross-validator a splitter must know which patches the rows of X are, also
    where a search inside cross-validation has a part of them (`patches_of_rows`): pass the patch
    set as X, or give it as `patches` and pass its images. Then
    `cross_val_score(model, patches.images, y, cv=BlockSplit(..., patches=patches))` works, and the
    training folds are without the patches that are too near. Nothing is kept from one call to
    the next, and copies of a splitter share its patch set.

    Attributes:
        patches: the patch set whose rows X holds, for use as a cross-validator.
    """

    patches: PatchSet | None = None
    by_ground: ClassVar[bool] = True

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The splitter itself, which cannot change; scikit-learn copies what it searches with."""
        return self

    def __sklearn_clone__(self) -> Self:
        """As `__deepcopy__`."""
        return self

    @abstractmethod
    def folds_of(self, patches: PatchSet) -> list[np.ndarray]:
        """For each fold the mask of the patches that judge in it."""

    @abstractmethod
    def pieces(self, patches: PatchSet) -> np.ndarray:
        """The piece of ground of each patch (`Split.groups`)."""

    def folds_and_pieces(self, patches: PatchSet) -> tuple[list[np.ndarray], np.ndarray]:
        """`folds_of` and `pieces`, for splitters that find both at once."""
        return self.folds_of(patches), self.pieces(patches)

    def finish(self, patches: PatchSet, sides: np.ndarray) -> np.ndarray:
        """Put the buffer between the sides."""
        return sides

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the indices to train on and to judge by, for each fold (scikit-learn).

        Raises:
            OutcropError: it is not known which patches X holds; a fold leaves a side empty.
        """
        splitter = type(self).__name__
        rows, patches = patches_of_rows(X, y, self.patches, splitter)
        check_any(patches, splitter)
        folds = [
            self.finish(patches, np.where(judged, VALIDATION, TRAIN).astype(np.int8))
            for judged in self._folds(patches)
        ]
        for number, sides in enumerate(folds):
            for side, name in ((TRAIN, "training"), (VALIDATION, "validation")):
                if not (sides == side).any():
                    raise OutcropError(
                        splitter, f"fold {number} leaves no {name} patches; {REMEDY}"
                    )
        for sides in folds:
            yield rows[sides == TRAIN], rows[sides == VALIDATION]

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of folds (scikit-learn)."""
        folds = getattr(self, "folds", None)
        if folds is not None:
            return int(folds)
        return len(self._folds(patches_of_rows(X, y, self.patches, type(self).__name__)[1]))

    def _folds(self, patches: PatchSet) -> list[np.ndarray]:
        """The folds of X, which in a search inside cross-validation lacks whole scenes or values.

        Raises:
            OutcropError: there is nothing to judge in any.
        """
        folds = self.folds_of(patches)
        if not hasattr(self, "folds"):
            folds = [judged for judged in folds if judged.any()]
        if not folds:
            raise OutcropError(type(self).__name__, f"no fold leaves validation patches; {REMEDY}")
        return folds

    def assign(self, patches: PatchSet, fold: int | None = None, test: bool = False) -> Split:
        """Split once: one fold validates and the others train.

        Args:
            fold: which fold validates, from 0; without it the first of those that leave the most
                classes on both sides (only labels are looked at).
            test: whether the fold after it is set aside as a test side.

        Raises:
            OutcropError: no such fold; the split cannot be used (`Split.check`).
        """
        check_any(patches, type(self).__name__)
        folds, pieces = self.folds_and_pieces(patches)
        if fold is not None and not 0 <= fold < len(folds):
            raise OutcropError(
                "--fold", f"there is no fold {fold}; there are 0 to {len(folds) - 1}"
            )
        check_test(len(folds), test)
        splits = [
            self._split(patches, pieces, folds, number, test)
            for number in (range(len(folds)) if fold is None else [fold])
        ]
        split = max(splits, key=lambda one: classes_on_sides(one.sides, patches.labels))
        split.check(patches, classes=teachable(patches))
        return split

    def assign_all(self, patches: PatchSet) -> Folds:
        """Split for cross-validation: every patch is held out in one of the folds.

        A labelled polygon that several folds share is held out in the one with most of it.

        Raises:
            OutcropError: there is one fold only; a fold cannot be used (`Split.check`).
        """
        splitter = type(self).__name__
        check_any(patches, splitter)
        folds, pieces = self.folds_and_pieces(patches)
        folds = [held for held in folds if held.any()]
        if len(folds) < 2 or not np.any(folds, axis=0).all():
            raise OutcropError(
                splitter,
                "holds out a part of the patches once; cross-validation needs folds that hold out "
                "each patch in turn: split by blocks, slabs, matching, or whole scenes or values",
            )
        held_out = np.argmax(folds, axis=0)
        if self.by_ground and patches.positions is not None:
            held_out = most_common(held_out, patches.positions.polygon)
        numbers = np.unique(held_out)
        masks = [held_out == number for number in numbers]
        made = Folds(tuple(self._split(patches, pieces, masks, k) for k in range(len(masks))))
        made.check(patches, splitter)
        return made

    def _split(
        self,
        patches: PatchSet,
        pieces: np.ndarray,
        folds: list[np.ndarray],
        fold: int,
        test: bool = False,
    ) -> Split:
        sides = np.where(folds[fold], VALIDATION, TRAIN).astype(np.int8)
        if test:
            sides[folds[(fold + 1) % len(folds)]] = TEST
        unit = {"unit": patches.unit} if self.by_ground and patches.positions is not None else {}
        return Split(
            sides=self.finish(patches, sides),
            groups=pieces,
            fingerprint=patches.fingerprint,
            how=self.describe() | {"fold": fold} | unit,
            by_ground=self.by_ground,
        )

    def describe(self) -> dict[str, Any]:
        """The splitter and its parameters, for people to read."""
        parameters = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "patches"}
        return {"splitter": type(self).__name__, **parameters}


@dataclass(frozen=True, kw_only=True)
class RandomSplit(Splitter):
    """Stratified random split.

    The way that flatters: twins of the validation patches are in the training side. It is here
    to measure by how much (the leak gap), and for collections whose images are independent.

    Attributes:
        folds: one of them validates.
        seed: random seed.
    """

    folds: int = 5
    seed: int = 0
    by_ground: ClassVar[bool] = False

    def folds_of(self, patches: PatchSet) -> list[np.ndarray]:
        """Stratified folds (`sklearn.model_selection.StratifiedKFold`)."""
        from sklearn.model_selection import StratifiedKFold

        check_deal(patches, self.folds, self.seed)
        if patches.counts.max() < self.folds:  # scikit-learn refuses these
            return deal_pieces(patches, np.arange(len(patches)), self.folds, self.seed)
        stratified = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        folds = np.zeros((self.folds, len(patches)), bool)
        with warnings.catch_warnings():
            # A class of fewer patches than folds cannot be in all; `Split.warnings` names it.
            warnings.simplefilter("ignore", UserWarning)
            for fold, (_, held) in zip(
                folds, stratified.split(patches.labels, patches.labels), strict=True
            ):
                fold[held] = True
        return list(folds)

    def pieces(self, patches: PatchSet) -> np.ndarray:
        """The labelled polygons, or what stands for them (`pieces_of`)."""
        return pieces_of(patches)


@dataclass(frozen=True, kw_only=True)
class GroundSplit(Splitter):
    """What all splitters by ground share.

    Patches of one labelled polygon never stand on both sides, and no patch of one side overlaps,
    or comes nearer than the buffer to, a patch of another; those in between are left out.

    Attributes:
        buffer: between the extents (not the centres) of patches, in the patch set's unit: metres
            for scenes, voxels for volumes.
    """

    buffer: float = 0.0

    def __post_init__(self) -> None:
        if not self.buffer >= 0:
            raise OutcropError("--buffer", f"must be 0 or more, not {self.buffer:g}")

    def pieces(self, patches: PatchSet) -> np.ndarray:
        """The labelled polygons, or what stands for them (`pieces_of`)."""
        return pieces_of(patches)

    def finish(self, patches: PatchSet, sides: np.ndarray) -> np.ndarray:
        """Put the buffer between the sides."""
        return keep_apart(positions_of(patches, type(self).__name__), sides, self.buffer)


@dataclass(frozen=True, kw_only=True)
class BlockSplit(GroundSplit):
    """Blocks of ground, dealt to folds so that the classes are in proportion.

    They are the squares of a grid over a scene, or the cubes of one through a volume.

    Spatial block cross-validation (Roberts et al. 2017, Ecography 40, 913-929), with a buffer
    (Le Rest et al. 2014, Global Ecology and Biogeography 23, 811-820). Blocks are dealt by
    `sklearn.model_selection.StratifiedGroupKFold`. A labelled polygon goes with the block that
    holds most of it.

    Attributes:
        block: side of a block in metres, or in voxels of a volume; choose it no smaller than the
            distance over which the ground resembles itself.
        folds: one of them validates.
        seed: of the dealing.

    >>> BlockSplit(block=2_000, buffer=320).describe()["buffer"]
    320
    """

    block: float
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.block > 0:
            raise OutcropError("--block", f"must be more than 0, not {self.block:g}")

    def folds_of(self, patches: PatchSet) -> list[np.ndarray]:
        """Folds of whole blocks."""
        check_deal(patches, self.folds, self.seed)
        pieces = self.pieces(patches)
        count = pieces.max() + 1
        if count < self.folds:
            raise OutcropError(
                "--block",
                f"blocks of {self.block:g} {patches.unit} give {count} pieces of labelled ground, "
                f"fewer than {self.folds} folds; take smaller blocks or fewer folds",
            )
        return self._learnable(patches, pieces)

    def _learnable(self, patches: PatchSet, pieces: np.ndarray) -> list[np.ndarray]:
        """The deal of several in which the buffer takes fewest classes from a training side.

        What lies on one piece of ground is never both trained on and judged, however it is dealt.
        """
        on = [len(np.unique(pieces[patches.labels == k])) for k in np.unique(patches.labels)]
        least = on.count(1)
        attempts = _ATTEMPTS if len(patches) <= _QUICK else 1
        best, fewest = [], len(patches) * self.folds
        for seed in range(self.seed, self.seed + attempts):
            folds = deal_pieces(patches, pieces, self.folds, seed % (1 << 32))
            sides = [np.where(held, VALIDATION, TRAIN).astype(np.int8) for held in folds]
            faults = sum(len(unlearnt(self.finish(patches, one), patches.labels)) for one in sides)
            if faults < fewest:
                best, fewest = folds, faults
            if faults <= least:
                break
        return best

    def pieces(self, patches: PatchSet) -> np.ndarray:
        """The blocks."""
        return blocks(positions_of(patches, "BlockSplit"), self.block)


def check_any(patches: PatchSet, splitter: str) -> None:
    """Refuse to split nothing."""
    if not len(patches):
        raise OutcropError(splitter, "there are no patches to split; pass some")


def check_axis(axis: int, where: object) -> None:
    """Refuse what is no axis of a volume; the error names `where` it was asked for."""
    if axis not in (0, 1, 2):
        raise OutcropError(where, f"a volume has no axis {axis}; choose 0, 1 or 2")


def check_deal(patches: PatchSet, folds: int, seed: int) -> None:
    """Refuse to deal fewer patches than there are folds."""
    if folds < 2:
        raise OutcropError("--folds", f"must be at least 2, not {folds}")
    if not 0 <= seed < 1 << 32:
        raise OutcropError("--seed", f"must be 0 or more and below 2 ** 32, not {seed}")
    if len(patches) < folds:
        raise OutcropError(
            "--folds", f"are {folds}, more than the {len(patches)} patches; take fewer"
        )


def check_test(folds: int, test: bool) -> None:
    """Refuse a test side where too few folds are left."""
    if test and folds < 3:
        raise OutcropError("--test", "needs at least three folds")


def deal_pieces(patches: PatchSet, pieces: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """Folds of whole pieces of ground, as masks, with the classes in proportion (`deal`)."""
    fold = deal(patches.labels, pieces, folds, seed)[pieces]
    return [fold == number for number in range(folds)]


def positions_of(patches: PatchSet, splitter: str) -> Positions:
    """The positions of patches, or an error that names the splitter that needs them."""
    if patches.positions is None:
        raise OutcropError(
            splitter, "needs positions, and these patches have none; split at random or by column"
        )
    return patches.positions


def pieces_of(patches: PatchSet) -> np.ndarray:
    """The piece of ground of each patch where no splitter names any, numbered from 0.

    The labelled polygon; in a volume, which has none, the block of `suggest_block`; without
    positions each patch by itself.
    """
    if patches.positions is None:
        return np.arange(len(patches))
    if patches.from_volume:
        return blocks(patches.positions, suggest_block(patches.positions))
    return np.unique(patches.positions.polygon, return_inverse=True)[1]


def classes_on_sides(sides: np.ndarray, labels: np.ndarray) -> int:
    """How many classes stand on each side but the buffer, all sides together."""
    used = sides != BUFFER
    return len(np.unique(labels[used] * 4 + sides[used]))


def random_counterpart(patches: PatchSet, split: Split, seed: int = 0) -> Split:
    """The split at random that a split by ground is to be held against.

    The same patches, the buffer left out, and as many of them in training and in validation, but
    drawn at random, class by class. What then differs between the two scores is the leak alone.

    Args:
        split: by ground; its groups are kept, so that intervals rest on the same ground.
        seed: random seed.

    Raises:
        OutcropError: a side has fewer patches than there are classes.
    """
    from sklearn.model_selection import train_test_split

    used = np.concatenate([split.train, split.validation])
    labels = patches.labels[used]
    # A class of one patch cannot stand on both sides: it is dealt with the commonest class.
    counts = np.bincount(labels)
    labels = np.where(counts[labels] < 2, counts.argmax(), labels)
    fewest = len(np.unique(labels))
    if min(len(split.train), len(split.validation)) < fewest:
        raise OutcropError(
            "split",
            f"has a side with fewer patches than the {fewest} classes, too few to be held against "
            "a split at random; take smaller blocks or buffer",
        )
    _, judged = train_test_split(
        used, test_size=len(split.validation), stratify=labels, random_state=seed
    )
    sides = np.full(len(patches), BUFFER, np.int8)
    sides[used] = TRAIN
    sides[judged] = VALIDATION
    how = {"splitter": "RandomSplit", "seed": seed, "counterpart of": split.how.get("splitter")}
    return Split(sides, split.groups, split.fingerprint, how, by_ground=False)


def random_counterparts(
    patches: PatchSet, split: Split, parts: int, seed: int = 0
) -> tuple[Split, ...]:
    """Splits at random that hold out, in turn, the patches that a split by ground holds out.

    Each trains on as many patches as the split by ground, drawn from all others that it uses, so
    that the same patches are judged at random and by ground.

    Args:
        split: by ground; its groups are kept.
        parts: how many; with few of them fewer neighbours of a patch are trained on than under a
            usual split at random.
        seed: random seed.

    Raises:
        OutcropError: a side has fewer patches than there are classes.
    """
    random_counterpart(patches, split, seed)
    rng = np.random.default_rng(seed)
    judged, labels = split.validation, patches.labels
    order = judged[np.lexsort((rng.random(len(judged)), labels[judged]))]
    how = {"splitter": "RandomSplit", "seed": seed, "counterpart of": split.how.get("splitter")}
    made = []
    for part in range(min(parts, len(order))):
        held_out = order[part::parts]
        rest = np.setdiff1d(np.concatenate([split.train, judged]), held_out)
        sides = np.full(len(patches), BUFFER, np.int8)
        sides[rng.permutation(rest)[: len(split.train)]] = TRAIN
        sides[held_out] = VALIDATION
        made.append(
            Split(sides, split.groups, split.fingerprint, how | {"part": part}, by_ground=False)
        )
    return tuple(made)


def random_folds(patches: PatchSet, folds: Folds, seed: int = 0) -> Folds:
    """The folds at random that spatial folds are to be held against.

    As `random_counterpart`, fold by fold: each holds out as many patches, and trains on as many,
    as its counterpart; what the buffer took from it is left out of the others at random. Every
    patch that the folds hold out is held out once here too.

    Args:
        folds: by ground; their groups are kept, so that intervals rest on the same ground.
        seed: random seed.

    Raises:
        OutcropError: as `random_counterpart`, for one fold.
    """
    if len(folds) == 1:
        return Folds((random_counterpart(patches, folds.splits[0], seed),))
    rng = np.random.default_rng(seed)
    labels, n = patches.labels, len(patches)
    # Walking through the patches class by class, the folds take turns as often as they are large.
    size = [len(split.validation) for split in folds.splits]
    turn = np.concatenate([(np.arange(one) + rng.random()) / one for one in size])
    held_out = np.empty(n, np.int64)
    order = np.lexsort((rng.random(n), labels))
    held_out[order] = np.repeat(np.arange(len(size)), size)[np.argsort(turn, kind="stable")]
    how = {"splitter": "RandomSplit", "seed": seed, "counterpart of": folds.how.get("splitter")}
    made = []
    for number, split in enumerate(folds.splits):
        sides = np.full(n, BUFFER, np.int8)
        sides[held_out == number] = VALIDATION
        rest = np.flatnonzero(held_out != number)
        rest = rest[np.lexsort((rng.random(len(rest)), labels[rest]))]
        # Of each class the same share, and of none all.
        counts = np.bincount(labels[rest])
        rank = np.arange(len(rest)) - (np.cumsum(counts) - counts)[labels[rest]]
        taken = np.argsort(rank / counts[labels[rest]], kind="stable")[: len(split.train)]
        sides[rest[taken]] = TRAIN
        made.append(
            Split(sides, split.groups, split.fingerprint, how | {"fold": number}, by_ground=False)
        )
    return Folds(tuple(made))
