"""Folds hold out every patch once, and each class is on both sides where the ground allows it."""

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
from outcrop.splits.deal import deal
from tests.command_line import run
from tests.patches import ground
from tests.test_splits import gaps, grounds


@st.composite
def few_pieces(draw):
    """Labels and pieces of a few patches, each piece with some of the classes; and folds."""
    pieces = draw(st.integers(2, 6))
    classes = draw(st.integers(1, 4))
    folds = draw(st.integers(2, min(pieces, 3)))
    held = [
        draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=5)) for _ in range(pieces)
    ]
    labels = np.array([k for one in held for k in one])
    return labels, np.repeat(np.arange(pieces), [len(one) for one in held]), folds


def faults(fold, labels, pieces, folds):
    """Empty folds; classes of several pieces that are in one fold; folds that a class could be in
    and is not."""
    empty = folds - len(np.unique(fold))
    alone, missing = 0, 0
    for k in np.unique(labels):
        on = np.unique(pieces[labels == k])
        spread = len(np.unique(fold[on]))
        alone += len(on) > 1 and spread == 1
        missing += min(len(on), folds) - spread
    return empty, alone, missing


@given(few_pieces(), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_no_deal_of_all_has_the_classes_on_both_sides_more_often(case, seed):
    labels, pieces, folds = case
    dealt = deal(labels, pieces, folds, seed)
    best = min(
        faults(np.array(fold), labels, pieces, folds)
        for fold in itertools.product(range(folds), repeat=int(pieces.max()) + 1)
    )
    assert faults(dealt, labels, pieces, folds) == best


def test_pieces_are_dealt_as_scikit_learn_does_where_that_is_good():
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(0)
    pieces = np.repeat(np.arange(60), 5)
    labels = np.repeat(rng.integers(0, 3, 60), 5)
    theirs = np.empty(60, int)
    for number, (_, held) in enumerate(
        StratifiedGroupKFold(4, shuffle=True, random_state=7).split(labels, labels, pieces)
    ):
        theirs[pieces[held]] = number
    assert np.array_equal(deal(labels, pieces, 4, 7), theirs)


WAYS = [
    lambda buffer, seed: BlockSplit(block=1_500, buffer=buffer, folds=3, seed=seed),
    lambda buffer, seed: SceneSplit(buffer=buffer),
    lambda buffer, seed: ColumnSplit(column="region", buffer=buffer),
    lambda buffer, seed: RandomSplit(folds=4, seed=seed),
]


@pytest.mark.parametrize("way", WAYS)
@given(patches=grounds(), buffer=st.sampled_from([0, 170, 800]), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_every_patch_is_held_out_once_and_apart_from_what_trains(way, patches, buffer, seed):
    splitter = way(buffer, seed)
    try:
        folds = splitter.assign_all(patches)
    except OutcropError:
        return  # the ground is too small for this buffer or these blocks
    sides = np.stack([split.sides for split in folds.splits])
    assert ((sides == VALIDATION).sum(axis=0) == 1).all()
    assert np.isin(sides, (TRAIN, VALIDATION, BUFFER)).all()
    assert np.array_equal(folds.held_out, (sides == VALIDATION).argmax(axis=0))
    if not splitter.by_ground:
        return
    for split in folds.splits:
        train, held = patches.positions[split.train], patches.positions[split.validation]
        dx, dy = gaps(train, held)
        assert (np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) >= buffer - 1e-6).all()
        assert not np.intersect1d(train.polygon, held.polygon).size


@given(patches=grounds(), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_what_is_judged_was_trained_on_elsewhere(patches, seed):
    try:
        folds = BlockSplit(block=1_500, buffer=400, folds=3, seed=seed).assign_all(patches)
    except OutcropError:
        return
    judged = folds.judged(patches.labels)
    for split in folds.splits:
        here = np.intersect1d(judged, split.validation)
        assert np.isin(patches.labels[here], patches.labels[split.train]).all()
    for k in np.unique(patches.labels[judged]):
        assert len(np.unique(folds.groups[judged[patches.labels[judged] == k]])) > 1
    named = sum("judged" in note for note in folds.notes(patches))
    assert (len(judged) < len(patches)) == (named > 0)


def islands(labels, each=4):
    """Islands far from each other, of one class each."""
    n = len(labels)
    x = np.repeat(np.arange(n) * 5_000.0, each) + np.tile(np.arange(each) * 40.0, n)
    classes = ("a", "b", "alone")[: max(labels) + 1]
    polygon = np.repeat(np.arange(n), each)
    return ground(x, np.zeros(len(x)), polygon, np.repeat(labels, each), classes=classes)


def test_a_class_of_two_patches_does_not_refuse_the_rest():
    patches = islands([0, 0, 1, 0, 1, 0, 0, 1], each=1)
    for splitter in (BlockSplit(block=1_000, folds=5), RandomSplit(folds=5)):
        split, folds = splitter.assign(patches), splitter.assign_all(patches)
        assert len(split.train) + len(split.validation) == len(patches)
        assert len(folds) == 5
        assert np.array_equal(folds.judged(patches.labels), np.arange(8))
        assert folds.notes(patches) == [
            "class 'b' stands on 3 pieces of ground, fewer than the 5 folds"
        ]


def test_a_class_on_one_piece_is_trained_on_and_named_but_not_judged():
    patches = islands([0, 1, 2, 0, 1, 0, 1, 0, 1], each=4)
    folds = BlockSplit(block=1_000, buffer=100, folds=3).assign_all(patches)
    alone = np.flatnonzero(patches.labels == 2)
    assert len(np.unique(folds.held_out[alone])) == 1
    for number, split in enumerate(folds.splits):
        assert np.isin(alone, split.train).all() == (number != folds.held_out[alone[0]])
    assert np.array_equal(folds.judged(patches.labels), np.flatnonzero(patches.labels != 2))
    assert folds.notes(patches) == [
        "class 'alone' stands on 1 piece of ground: it is trained on, but cannot be judged; "
        "label more places"
    ]


def test_what_the_buffer_takes_is_not_judged_and_named():
    """Two pieces of b touch: whichever is held out, the buffer takes the other."""
    x = np.r_[np.arange(10) * 5_000.0, 100_050, 99_950]
    labels = np.r_[np.zeros(10, int), 1, 1]
    patches = ground(x, np.zeros(12), np.arange(12), labels)
    with pytest.raises(OutcropError, match="fewer than two classes to train on"):
        BlockSplit(block=1_000, buffer=300, folds=3).assign_all(patches)
    third = ground(
        np.r_[x, 150_000, 160_000, 170_000], np.zeros(15), np.arange(15), np.r_[labels, 1, 1, 1]
    )
    folds = BlockSplit(block=1_000, buffer=300, folds=3).assign_all(third)
    assert len(folds.judged(third.labels)) == 15  # dealt so that another piece of b trains


def test_a_polygon_that_folds_share_is_held_out_as_a_whole():
    region = Column(np.array([0, 0, 1, 0, 1, 1, 1, 0]), ("east", "west"))
    labels = [0, 0, 0, 1, 1, 0, 1, 1]
    patches = ground(
        np.arange(8) * 900.0, np.zeros(8), [0, 0, 0, 1, 2, 3, 4, 5], labels,
        columns={"region": region},
    )  # fmt: skip
    folds = ColumnSplit(column="region").assign_all(patches)
    assert folds.held_out.tolist() == [0, 0, 0, 0, 1, 1, 1, 0]


def test_matching_folds_hold_out_all():
    rng = np.random.default_rng(3)
    at = np.repeat(rng.uniform(0, 9_000, (12, 2)), 6, axis=0) + rng.normal(0, 60, (72, 2))
    patches = ground(*at.T, np.repeat(np.arange(12), 6), np.repeat(np.arange(12) % 2, 6))
    folds = MatchingSplit(folds=3).assign_all(patches)
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
def test_one_fold_is_no_cross_validation(splitter):
    side = Column(np.arange(16) % 3 % 2, ("train", "validation"))
    region = Column(np.arange(16) // 8, ("east", "west"))
    columns = {"side": side, "region": region}
    patches = replace(islands([0, 1] * 8, each=1), columns=columns)
    with pytest.raises(OutcropError, match="holds out a part of the patches once"):
        splitter.assign_all(patches)
    assert splitter.assign(patches).by_ground


def test_folds_survive_the_disk_and_know_their_patches(tmp_path):
    patches = islands([0, 1] * 6)
    folds = BlockSplit(block=1_000, buffer=40, folds=3).assign_all(patches)
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
    with pytest.raises(OutcropError, match=r"holds all folds .* without --all-folds"):
        read_split(path)
    folds.splits[1].save(tmp_path / "split.json")
    one = read_folds(tmp_path / "split.json", patches)
    assert (len(one), one.kind) == (1, "one fold")
    assert np.array_equal(one.index, folds.splits[1].validation)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.update(version=9),
        lambda content: content.update(sides=content["sides"][:1]),
        lambda content: content["sides"].__setitem__(0, content["sides"][1]),
        lambda content: content["sides"].__setitem__(0, content["sides"][0][:-1]),
        lambda content: content["sides"].__setitem__(0, "x" * len(content["groups"])),
        lambda content: content.pop("groups"),
    ],
)
def test_damaged_folds_are_one_line(tmp_path, spoil):
    path = tmp_path / "folds.json"
    BlockSplit(block=1_000, folds=3).assign_all(islands([0, 1] * 6)).save(path)
    content = json.loads(path.read_text())
    content.pop("checksum", None)
    spoil(content)
    path.write_text(json.dumps({k: v for k, v in content.items() if "sum" not in k}))
    with pytest.raises(OutcropError, match="is not a split"):
        read_folds(path)


def test_the_command_writes_all_folds(tmp_path, capsys):
    patches = islands([0, 1, 0, 1, 0, 1, 0, 0, 0])
    patches.save(tmp_path / "p.zarr")
    common = f"split {tmp_path / 'p.zarr'} --block 1000 --folds 4"
    assert run(f"{common} --all-folds -o {tmp_path / 'folds.json'}") == 0
    told = capsys.readouterr().out
    assert "note: class 'b' stands on 3 pieces of ground, fewer than the 4 folds" in told
    assert len(read_folds(tmp_path / "folds.json", patches)) == 4
    assert run(f"{common} --all-folds --fold 1 -o {tmp_path / 'no.json'}") == 2
    assert "--fold: has no meaning beside --all-folds" in capsys.readouterr().err
    assert not (tmp_path / "no.json").exists()
