"""Random splits to compare a spatial split with, for the leak gap."""

from __future__ import annotations

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.splits.folds import AnyFolds, Folds, read_folds
from outcrop.splits.split import BUFFER, TRAIN, VALIDATION, AnySplit, Split, read_split


def random_counterpart(patches: AnyPatches, split: AnySplit, seed: int = 0) -> Split:
    """A stratified random split of the patches that a spatial split uses.

    It leaves out the buffer of the spatial split and has as many training and validation patches.
    So the leak is the only difference between the two scores.

    Args:
        split: spatial split. Its groups are kept, so that intervals resample the same groups.
        seed: random seed.

    Raises:
        OutcropError: a side has fewer patches than there are classes.
    """
    from sklearn.model_selection import train_test_split

    patches, split = open_patches(patches), read_split(split)
    used = np.concatenate([split.train, split.validation])
    labels = patches.labels[used]
    # A class with one patch cannot be on both sides. It is stratified with the largest class.
    counts = np.bincount(labels)
    labels = np.where(counts[labels] < 2, counts.argmax(), labels)
    fewest = len(np.unique(labels))
    if min(len(split.train), len(split.validation)) < fewest:
        raise OutcropError(
            "split",
            f"has a side with fewer patches than the {fewest} classes, too few to compare with a "
            "random split; use smaller blocks or a smaller buffer",
        )
    _, validation = train_test_split(
        used, test_size=len(split.validation), stratify=labels, random_state=seed
    )
    return _random(used, validation, split, seed)


def random_counterparts(
    patches: AnyPatches, split: AnySplit, parts: int, seed: int = 0
) -> tuple[Split, ...]:
    """Random splits that hold out, in turn, the validation patches of a spatial split.

    Each has as many training patches as the spatial split, drawn from all other patches that the
    spatial split uses. So the same patches are scored under random and under spatial splits.

    Args:
        split: spatial split; its groups are kept.
        parts: number of splits. With few of them, fewer neighbours of a patch are in the training
            side than under a usual random split.
        seed: random seed.

    Raises:
        OutcropError: a side has fewer patches than there are classes.
    """
    patches, split = open_patches(patches), read_split(split)
    random_counterpart(patches, split, seed)
    rng = np.random.default_rng(seed)
    validation, labels = split.validation, patches.labels
    order = validation[np.lexsort((rng.random(len(validation)), labels[validation]))]
    made = []
    for part in range(min(parts, len(order))):
        held_out = order[part::parts]
        rest = np.setdiff1d(np.concatenate([split.train, validation]), held_out)
        train = rng.permutation(rest)[: len(split.train)]
        made.append(_random(train, held_out, split, seed, part=part))
    return tuple(made)


def random_folds(patches: AnyPatches, folds: AnyFolds, seed: int = 0) -> Folds:
    """Random folds to compare spatial folds with.

    As `random_counterpart`, for every fold: each random fold holds out as many patches and trains
    on as many as its spatial fold. As many patches as are in the buffer of the spatial fold are
    left out at random. Every patch is held out once.

    Args:
        folds: spatial folds; their groups are kept, so that intervals resample the same groups.
        seed: random seed.

    Raises:
        OutcropError: as `random_counterpart`, for one fold.
    """
    patches, folds = open_patches(patches), read_folds(folds)
    if len(folds) == 1:
        return Folds((random_counterpart(patches, folds.splits[0], seed),))
    rng = np.random.default_rng(seed)
    labels, n = patches.labels, len(patches)
    # Patches are visited class by class. The folds take turns in proportion to their sizes.
    size = [len(split.validation) for split in folds.splits]
    turn = np.concatenate([(np.arange(one) + rng.random()) / one for one in size])
    held_out = np.empty(n, np.int64)
    order = np.lexsort((rng.random(n), labels))
    held_out[order] = np.repeat(np.arange(len(size)), size)[np.argsort(turn, kind="stable")]
    made = []
    for number, split in enumerate(folds.splits):
        rest = np.flatnonzero(held_out != number)
        rest = rest[np.lexsort((rng.random(len(rest)), labels[rest]))]
        # Leave out the same share of each class, so that no class disappears.
        counts = np.bincount(labels[rest])
        rank = np.arange(len(rest)) - (np.cumsum(counts) - counts)[labels[rest]]
        train = rest[np.argsort(rank / counts[labels[rest]], kind="stable")[: len(split.train)]]
        made.append(_random(train, held_out == number, split, seed, fold=number))
    return Folds(tuple(made))


def _random(
    train: np.ndarray, validation: np.ndarray, split: Split, seed: int, **part: int
) -> Split:
    """A random split with the groups of a spatial one.

    Args:
        train, validation: indices or masks; validation replaces training, other patches are buffer.
        part: name and number of the split among several.
    """
    sides = np.full(len(split.sides), BUFFER, np.int8)
    sides[train] = TRAIN
    sides[validation] = VALIDATION
    how = {"splitter": "RandomSplit", "seed": seed, "counterpart of": split.how.get("splitter")}
    return Split(sides, split.groups, split.fingerprint, how | part, spatial=False)
