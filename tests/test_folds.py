"""Folds hold out every patch once, with every class on both sides if its groups allow it."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.patches.patchset import Column
from outcrop.splits import (
    BUFFER,
    TRAIN,
    VALIDATION,
    BlockSplit,
    ColumnSplit,
    MatchingSplit,
    RandomSplit,
    SceneSplit,
    ZoneSplit,
    read_folds,
    read_split,
)
from outcrop.splits.stratify import stratified_folds
from tests.command_line import run
from tests.patches import ground
from tests.test_splits import gaps, grounds


@st.composite
def few_groups(draw):
    """Labels and groups of a few patches, each group with some of the classes; and folds."""
    groups = draw(st.integers(2, 6))
    classes = draw(st.integers(1, 4))
    folds = draw(st.integers(2, min(groups, 3)))
    each = [
        draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=5)) for _ in range(groups)
    ]
    labels = np.array([k for one in each for k in one])
    return labels, np.repeat(np.arange(groups), [len(one) for one in each]), folds


def faults(fold, labels, groups, folds):
    """Number of empty folds, of classes with several groups in one fold, and of missing classes.

    A class is missing in a fold if it has enough groups to be in that fold too.
    """
    empty = folds - len(np.unique(fold))
    alone, missing = 0, 0
    for k in np.unique(labels):
        of_class = np.unique(groups[labels == k])
        spread = len(np.unique(fold[of_class]))
        alone += len(of_class) > 1 and spread == 1
        missing += min(len(of_class), folds) - spread
    return empty, alone, missing


@given(few_groups(), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_no_assignment_has_classes_in_more_folds(case, seed):
    labels, groups, folds = case
    assigned = stratified_folds(labels, groups, folds, seed)
    best = min(
        faults(np.array(fold), labels, groups, folds)
        for fold in itertools.product(range(folds), repeat=int(groups.max()) + 1)
    )
    assert faults(assigned, labels, groups, folds) == best


def test_good_folds_of_scikit_learn_are_not_changed():
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 5)
    labels = np.repeat(rng.integers(0, 3, 60), 5)
    theirs = np.empty(60, int)
    for number, (_, held_out) in enumerate(
        StratifiedGroupKFold(4, shuffle=True, random_state=7).split(labels, labels, groups)
    ):
        theirs[groups[held_out]] = number
    assert np.array_equal(stratified_folds(labels, groups, 4, 7), theirs)


SPLITTERS = [
    lambda buffer, seed: BlockSplit(block=1_500, buffer=buffer, n_splits=3, random_state=seed),
    lambda buffer, seed: SceneSplit(buffer=buffer),
    lambda buffer, seed: ColumnSplit(column="region", buffer=buffer),
    lambda buffer, seed: RandomSplit(n_splits=4, random_state=seed),
]


@pytest.mark.parametrize("make", SPLITTERS)
@given(patches=grounds(), buffer=st.sampled_from([0, 170, 800]), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_every_patch_is_held_out_once_and_apart_from_training(make, patches, buffer, seed):
    splitter = make(buffer, seed)
    try:
        folds = splitter.assign_all(patches)
    except OutcropError:
        return  # the area is too small for this buffer or these blocks
    sides = np.stack([split.sides for split in folds.splits])
    assert ((sides == VALIDATION).sum(axis=0) == 1).all()
    assert np.isin(sides, (TRAIN, VALIDATION, BUFFER)).all()
    assert np.array_equal(folds.held_out, (sides == VALIDATION).argmax(axis=0))
    if not splitter.spatial:
        return
    for split in folds.splits:
        train, held_out = patches.positions[split.train], patches.positions[split.validation]
        dx, dy = gaps(train, held_out)
        assert (np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) >= buffer - 1e-6).all()
        assert not np.intersect1d(train.polygon, held_out.polygon).size


@given(patches=grounds(), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_scored_classes_are_in_the_training_side(patches, seed):
    try:
        folds = BlockSplit(block=1_500, buffer=400, n_splits=3, random_state=seed).assign_all(
            patches
        )
    except OutcropError:
        return
    scored = folds.scored(patches.labels)
    for split in folds.splits:
        here = np.intersect1d(scored, split.validation)
        assert np.isin(patches.labels[here], patches.labels[split.train]).all()
    for k in np.unique(patches.labels[scored]):
        assert len(np.unique(folds.groups[scored[patches.labels[scored] == k]])) > 1
    named = sum("scored" in note for note in folds.notes(patches))
    assert (len(scored) < len(patches)) == (named > 0)


def islands(labels, each=4):
    """Islands far from each other, of one class each."""
    n = len(labels)
    x = np.repeat(np.arange(n) * 5_000.0, each) + np.tile(np.arange(each) * 40.0, n)
    classes = ("a", "b", "alone")[: max(labels) + 1]
    polygon = np.repeat(np.arange(n), each)
    return ground(x, np.zeros(len(x)), polygon, np.repeat(labels, each), classes=classes)


def test_a_class_with_few_patches_raises_no_error():
    patches = islands([0, 0, 1, 0, 1, 0, 0, 1], each=1)
    for splitter in (BlockSplit(block=1_000, n_splits=5), RandomSplit(n_splits=5)):
        split, folds = splitter.assign(patches), splitter.assign_all(patches)
        assert len(split.train) + len(split.validation) == len(patches)
        assert len(folds) == 5
        assert np.array_equal(folds.scored(patches.labels), np.arange(8))
        assert folds.notes(patches) == [
            "class 'b' occurs in 3 spatial groups, fewer than the 5 folds"
        ]


def test_a_class_in_one_group_is_trained_on_but_not_scored():
    patches = islands([0, 1, 2, 0, 1, 0, 1, 0, 1], each=4)
    folds = BlockSplit(block=1_000, buffer=100, n_splits=3).assign_all(patches)
    alone = np.flatnonzero(patches.labels == 2)
    assert len(np.unique(folds.held_out[alone])) == 1
    for number, split in enumerate(folds.splits):
        assert np.isin(alone, split.train).all() == (number != folds.held_out[alone[0]])
    assert np.array_equal(folds.scored(patches.labels), np.flatnonzero(patches.labels != 2))
    assert folds.notes(patches) == [
        "class 'alone' occurs in 1 spatial group: it is used for training but cannot be scored; "
        "label more places"
    ]


def test_folds_avoid_a_buffer_that_removes_a_class():
    """Two groups of b touch. If one is held out, the buffer removes the other."""
    x = np.r_[np.arange(10) * 5_000.0, 100_050, 99_950]
    labels = np.r_[np.zeros(10, int), 1, 1]
    patches = ground(x, np.zeros(12), np.arange(12), labels)
    with pytest.raises(OutcropError, match="fewer than two classes to train on"):
        BlockSplit(block=1_000, buffer=300, n_splits=3).assign_all(patches)
    third = ground(
        np.r_[x, 150_000, 160_000, 170_000], np.zeros(15), np.arange(15), np.r_[labels, 1, 1, 1]
    )
    folds = BlockSplit(block=1_000, buffer=300, n_splits=3).assign_all(third)
    assert len(folds.scored(third.labels)) == 15  # another group of b is in training


def test_a_polygon_in_several_folds_is_held_out_as_a_whole():
    region = Column(np.array([0, 0, 1, 0, 1, 1, 1, 0]), ("east", "west"))
    labels = [0, 0, 0, 1, 1, 0, 1, 1]
    patches = ground(
        np.arange(8) * 900.0, np.zeros(8), [0, 0, 0, 1, 2, 3, 4, 5], labels,
        columns={"region": region},
    )  # fmt: skip
    folds = ColumnSplit(column="region").assign_all(patches)
    assert folds.held_out.tolist() == [0, 0, 0, 0, 1, 1, 1, 0]


def test_matching_folds_hold_out_all_patches():
    rng = np.random.default_rng(3)
    at = np.repeat(rng.uniform(0, 9_000, (12, 2)), 6, axis=0) + rng.normal(0, 60, (72, 2))
    patches = ground(*at.T, np.repeat(np.arange(12), 6), np.repeat(np.arange(12) % 2, 6))
    folds = MatchingSplit(n_splits=3).assign_all(patches)
    assert len(folds) == 3
    assert (folds.held_out >= 0).all()


@pytest.mark.parametrize(
    "splitter",
    [
        ZoneSplit(zones=((-1, -1, 11_000, 1),)),
        ColumnSplit(column="side"),
        ColumnSplit(column="region", hold_out=("east",)),
    ],
)
def test_one_fold_is_not_cross_validation(splitter):
    side = Column(np.arange(16) % 3 % 2, ("train", "validation"))
    region = Column(np.arange(16) // 8, ("east", "west"))
    columns = {"side": side, "region": region}
    patches = replace(islands([0, 1] * 8, each=1), columns=columns)
    with pytest.raises(OutcropError, match="holds out only a part of the patches"):
        splitter.assign_all(patches)
    assert splitter.assign(patches).spatial


def test_folds_are_written_and_read_and_checked_against_patches(tmp_path):
    patches = islands([0, 1] * 6)
    folds = BlockSplit(block=1_000, buffer=40, n_splits=3).assign_all(patches)
    assert folds.kind == "cross-validated (3 folds)"
    path = tmp_path / "folds.json"
    folds.save(path)
    again = read_folds(path, patches)
    for one, other in zip(folds.splits, again.splits, strict=True):
        assert np.array_equal(one.sides, other.sides)
        assert np.array_equal(one.groups, other.groups)
        assert one.how == other.how
    with pytest.raises(OutcropError, match="made for another patch set"):
        read_folds(path, islands([0, 1] * 5))
    with pytest.raises(OutcropError, match=r"contains all folds .* without `assign_all`"):
        read_split(path)
    folds.splits[1].save(tmp_path / "split.json")
    one = read_folds(tmp_path / "split.json", patches)
    assert (len(one), one.kind) == (1, "one fold")
    assert np.array_equal(one.index, folds.splits[1].validation)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.update(version=9),
        lambda content: content.update(sides=content["sides"][:1]),
        lambda content: content["sides"].__setitem__(0, content["sides"][1]),
        lambda content: content["sides"].__setitem__(0, content["sides"][0][:-1]),
        lambda content: content["sides"].__setitem__(0, "x" * len(content["groups"])),
        lambda content: content.pop("groups"),
    ],
)
def test_damaged_folds_raise_an_error(tmp_path, damage):
    path = tmp_path / "folds.json"
    BlockSplit(block=1_000, n_splits=3).assign_all(islands([0, 1] * 6)).save(path)
    content = json.loads(path.read_text())
    content.pop("checksum", None)
    damage(content)
    path.write_text(json.dumps({k: v for k, v in content.items() if "sum" not in k}))
    with pytest.raises(OutcropError, match="is not a split"):
        read_folds(path)


def test_the_command_writes_all_folds(tmp_path, capsys):
    patches = islands([0, 1, 0, 1, 0, 1, 0, 0, 0])
    patches.save(tmp_path / "p.zarr")
    common = f"split {tmp_path / 'p.zarr'} --block 1000 --folds 4"
    assert run(f"{common} --all-folds -o {tmp_path / 'folds.json'}") == 0
    told = capsys.readouterr().out
    assert "note: class 'b' occurs in 3 spatial groups, fewer than the 4 folds" in told
    assert len(read_folds(tmp_path / "folds.json", patches)) == 4
    assert run(f"{common} --all-folds --fold 1 -o {tmp_path / 'no.json'}") == 2
    assert "--fold: has no meaning beside --all-folds" in capsys.readouterr().err
    assert not (tmp_path / "no.json").exists()
