"""Splitters as cross-validators: what X may be, nesting, cloning and printing."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from outcrop.errors import OutcropError
from outcrop.patches.patchset import Column, PatchSet, read_patches
from outcrop.patches.positions import volume_positions
from outcrop.splits import (
    BlockSplit,
    ColumnSplit,
    MatchingSplit,
    RandomSplit,
    SceneSplit,
    SlabSplit,
    ZoneSplit,
)
from outcrop.splits.base import as_patches
from outcrop.training.estimator import ResidualClassifier
from tests.patches import UTM, ground
from tests.test_splits_of_volumes import cube_patches


def world(n=160, seed=0, size=2):
    """Patches of noise over 6 km. The first pixel encodes the label, the second the number."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 6_000, (2, n))
    labels = rng.integers(0, 2, n)
    columns = {"region": Column(np.arange(n) % 3, ("east", "north", "west"))}
    placed = ground(x, y, np.arange(n), labels, np.arange(n) % 3, 40.0, 40.0, columns)
    images = rng.integers(0, 200, (n, 2, size, size)).astype(np.uint16)
    images[:, 0, 0, 0] = 500 + labels
    images[:, 0, 0, 1] = np.arange(n)
    return replace(placed, images=images, bands=("red", "green"))


PATCHES = world()
SPLITTERS = {
    "blocks": BlockSplit(block=900, buffer=100, n_splits=3),
    "random": RandomSplit(n_splits=3),
    "scenes": SceneSplit(),
    "column": ColumnSplit(column="region"),
    "zones": ZoneSplit(zones=((0, 0, 2_500, 6_000),), buffer=100),
    "matching": MatchingSplit(n_splits=3, buffer=20),
}


def frame_of(patches):
    """The extents of the patches, with their regions and numbers."""
    at, region = patches.positions, patches.columns["region"]
    squares = gpd.points_from_xy(at.x, at.y, crs=UTM).buffer(20, cap_style="square")
    columns = {"region": np.array(region.names)[region.codes], "number": np.arange(len(patches))}
    return gpd.GeoDataFrame(columns, geometry=squares)


def xy_of(patches):
    return np.stack([patches.positions.x, patches.positions.y], axis=1)


# What X may be, and the extent of its rows.
FORMS = {
    "patch set": (lambda patches: patches, 40),
    "frame": (frame_of, 40),
    "frame in degrees": (lambda patches: frame_of(patches).to_crs("EPSG:4326"), 40),
    "coordinates": (xy_of, 0),
}


def numbers_of(X):
    """The numbers of the patches in X."""
    if isinstance(X, PatchSet):
        return X.images[:, 0, 0, 1].astype(int)
    if isinstance(X, gpd.GeoDataFrame):
        return X["number"].to_numpy()
    return np.array([np.flatnonzero(PATCHES.positions.x == x)[0] for x in X[:, 0]])


class Recorder(ClassifierMixin, BaseEstimator):
    """Records the numbers of the patches that it is fitted on and asked about."""

    calls: list[tuple[str, np.ndarray]] = []  # noqa: RUF012

    def __init__(self, number=0):
        self.number = number

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.calls.append(("fit", numbers_of(X)))
        return self

    def predict(self, X):
        self.calls.append(("predict", numbers_of(X)))
        return np.full(len(X), self.classes_[0])


@pytest.mark.parametrize("form", FORMS)
def test_a_search_inside_cross_validation_keeps_the_sides_apart(form):
    make, extent = FORMS[form]
    inner = BlockSplit(block=900, buffer=150, n_splits=3)
    outer = BlockSplit(block=1_500, buffer=150, n_splits=3)
    search = GridSearchCV(Recorder(), {"number": [1, 2]}, cv=inner, error_score="raise")
    Recorder.calls.clear()
    scores = cross_val_score(search, make(PATCHES), PATCHES.labels, cv=outer, error_score="raise")
    assert len(scores) == 3
    trained, xy, pairs = None, xy_of(PATCHES), 0
    for what, numbers in Recorder.calls:
        if what == "fit":
            trained = numbers
        elif not np.array_equal(numbers, trained):
            apart = np.abs(xy[trained][:, None] - xy[numbers]).max(axis=2)
            assert apart.min() >= extent + 150 - 1
            pairs += 1
    assert pairs == 3 * (2 * 3 + 1)


def test_the_folds_of_a_part_are_those_of_a_patch_set_of_that_part():
    splitter = SPLITTERS["blocks"]
    some = np.sort(np.random.default_rng(1).permutation(len(PATCHES))[:120])
    labels = PATCHES.labels[some]
    expected = list(splitter.split(PATCHES.subset(some)))
    for X in (PATCHES[some], frame_of(PATCHES).iloc[some]):
        for (train, held_out), (train_too, held_out_too) in zip(
            splitter.split(X, labels), expected, strict=True
        ):
            assert np.array_equal(train, train_too)
            assert np.array_equal(held_out, held_out_too)


@pytest.mark.parametrize("name", ["blocks", "column", "zones", "random"])
def test_a_frame_gives_the_folds_of_the_patch_set(name):
    expected, frame = list(SPLITTERS[name].split(PATCHES)), frame_of(PATCHES)
    for X in (frame, frame.set_index(np.arange(len(frame))[::-1])):
        found = SPLITTERS[name].split(X, PATCHES.labels)
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one[0], other[0])
            assert np.array_equal(one[1], other[1])


def test_zones_of_a_file_hold_out_rows_of_a_frame(tmp_path):
    zone = gpd.GeoDataFrame(geometry=gpd.points_from_xy([1_200], [3_000], crs=UTM).buffer(1_000))
    zone.to_file(tmp_path / "zone.gpkg")
    splitter = ZoneSplit(zones=(tmp_path / "zone.gpkg",), buffer=100)
    ((train, held_out),) = splitter.split(frame_of(PATCHES), PATCHES.labels)
    ((train_too, held_out_too),) = splitter.split(PATCHES)
    assert np.array_equal(train, train_too)
    assert np.array_equal(held_out, held_out_too)
    with pytest.raises(OutcropError, match="`zones`: need a coordinate reference system"):
        list(splitter.split(xy_of(PATCHES), PATCHES.labels))


def test_coordinates_of_a_volume_give_the_folds_of_its_patches(capsys):
    rng = np.random.default_rng(0)
    index, row, column = rng.integers(0, (90, 120, 60), (200, 3)).T
    at = volume_positions(0, 0, index, row, column, size=1)
    patches, zyx = cube_patches(at), np.stack([index, row, column], axis=1)
    for splitter in (
        BlockSplit(block=30, buffer=4, n_splits=3),
        SlabSplit(axis=1, thickness=20, buffer=4, n_splits=3),
        ZoneSplit(slices=((0, 20, 50),), buffer=4),
    ):
        for X in (zyx, zyx.astype(float)):
            for one, other in zip(
                splitter.split(X, patches.labels), splitter.split(patches), strict=True
            ):
                assert np.array_equal(one[0], other[0])
                assert np.array_equal(one[1], other[1])
    assert "uses the three columns of X as axes of a volume" in capsys.readouterr().err
    search = GridSearchCV(DummyClassifier(), {}, cv=SlabSplit(axis=2, thickness=6, n_splits=3))
    outer = SlabSplit(axis=0, thickness=10, buffer=2, n_splits=3)
    scores = cross_val_score(search, zyx, patches.labels, cv=outer, error_score="raise")
    assert len(scores) == 3


def test_groups_are_not_divided(capsys):
    groups = np.arange(160) // 8
    xy = np.random.default_rng(0).uniform(0, 6_000, (160, 2))
    labels = np.arange(160) % 2
    for splitter in (BlockSplit(block=500, n_splits=3), ZoneSplit(zones=((0, 0, 3e3, 6e3),))):
        for train, held_out in splitter.split(xy, labels, groups):
            assert not np.intersect1d(groups[train], groups[held_out]).size
    assert "two columns of X as x and y in metres" in capsys.readouterr().err
    with pytest.raises(OutcropError, match="groups: has 3 rows and X has 160"):
        list(splitter.split(xy, labels, groups[:3]))
    with pytest.raises(OutcropError, match="y: has 3 rows and X has 160; pass one class per row"):
        list(splitter.split(xy, labels[:3]))


def test_a_random_split_takes_any_x():
    features, labels = np.zeros((90, 5)), np.arange(90) % 3
    for X in (features, pd.DataFrame(features), features.tolist()):
        for train, held_out in RandomSplit(n_splits=3).split(X, labels):
            assert np.bincount(labels[held_out]).tolist() == [10, 10, 10]
            assert not np.intersect1d(train, held_out).size


@pytest.mark.parametrize(
    ("X", "what"),
    [
        (np.zeros((90, 4)), "an array of 90 × 4"),
        (PATCHES.images, "an array of 160 × 2 × 2 × 2"),
        (np.array([["a", "b"]] * 90), "an array of 90 × 2"),
        ([1] * 90, "list"),
        (None, "NoneType"),
    ],
)
def test_rows_without_positions_raise_an_error(X, what):
    remedy = r"pass the PatchSet, a GeoDataFrame, or .* cv=list\(splitter.split\(patches\)\)"
    with pytest.raises(OutcropError, match=f"X is {what}, which has no positions; {remedy}"):
        list(BlockSplit(block=900).split(X))
    with pytest.raises(OutcropError, match="X is NoneType"):
        SceneSplit().get_n_splits()


def test_features_are_cross_validated_with_the_folds_of_their_patches():
    features = PATCHES.images.reshape(len(PATCHES), -1)
    folds = list(SPLITTERS["blocks"].split(PATCHES))
    assert len(cross_val_score(DummyClassifier(), features, PATCHES.labels, cv=folds)) == 3


def test_a_frame_without_a_system_raises_an_error():
    frame = frame_of(PATCHES).set_crs(None, allow_override=True)
    with pytest.raises(OutcropError, match=r"X\.set_crs"):
        list(SPLITTERS["blocks"].split(frame, PATCHES.labels))


def test_a_frame_in_mercator_is_split_in_metres():
    points = gpd.points_from_xy(np.linspace(20, 20.2, 200), np.full(200, 63.0), crs="EPSG:4326")
    frame = gpd.GeoDataFrame(geometry=points)
    splitter = BlockSplit(block=1_000, n_splits=2)
    blocks = [
        len(np.unique(splitter.groups_of(as_patches(frame.to_crs(crs), None, None, splitter))))
        for crs in ("EPSG:3857", "EPSG:32634", "EPSG:4326")
    ]
    assert len(set(blocks)) == 1


@pytest.mark.parametrize("name", [*SPLITTERS, "slabs"])
def test_a_splitter_is_cloned_copied_printed_and_keeps_no_state(name):
    splitter = SPLITTERS.get(name, SlabSplit(axis=0, thickness=5))
    search = GridSearchCV(DummyClassifier(), {}, cv=splitter)
    copies = (clone(splitter), clone(search).cv, copy.deepcopy(search).cv, copy.copy(splitter))
    for same in (*copies, pickle.loads(pickle.dumps(splitter))):
        assert same == splitter
        assert type(same) is type(splitter)
    text = repr(splitter)
    assert eval(text) == splitter
    assert "\n" not in text
    if name != "slabs":
        before = vars(splitter).copy()
        first, again = list(splitter.split(PATCHES)), list(splitter.split(PATCHES))
        assert vars(splitter) == before
        for one, other in zip(first, again, strict=True):
            assert np.array_equal(one[1], other[1])
        assert splitter.get_n_splits(PATCHES) == len(first)


@pytest.mark.parametrize("seed", [None, -1, 1 << 32, np.random.default_rng(0)])
def test_a_random_state_is_a_number(seed):
    for make in (RandomSplit, MatchingSplit, lambda **given: BlockSplit(block=900, **given)):
        with pytest.raises(
            OutcropError, match=r"`random_state`: must be (0 or more|a whole number)"
        ):
            list(make(random_state=seed).split(PATCHES))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: BlockSplit(block=9, folds=3),
            "BlockSplit: folds is now n_splits; pass `n_splits=3`",
        ),
        (
            lambda: RandomSplit(seed=3),
            "RandomSplit: seed is now random_state; pass `random_state=3`",
        ),
        (lambda: MatchingSplit(folds=3), "MatchingSplit: folds is now n_splits; pass `n_splits=3`"),
        (lambda: BlockSplit(block=9, n_splits="3"), "`n_splits`: must be a whole number, not '3'"),
        (lambda: BlockSplit(block="9"), "`block`: must be a number, not '9'"),
        (lambda: SlabSplit(axis=0, thickness=2.5), "`thickness`: must be a whole number, not 2.5"),
        (lambda: RandomSplit(n_splits=True), "`n_splits`: must be a whole number, not True"),
    ],
)
def test_wrong_arguments_raise_one_line(make, line):
    with pytest.raises(OutcropError) as raised:
        make()
    assert str(raised.value) == line


def test_the_signature_is_that_of_the_parameters():
    assert list(inspect.signature(BlockSplit).parameters) == [
        "buffer", "block", "n_splits", "random_state",
    ]  # fmt: skip
    assert BlockSplit(block=np.float32(9), n_splits=np.int64(3)).n_splits == 3


EMPTY = {
    "blocks": (BlockSplit(block=900, buffer=90_000, n_splits=3), "training"),
    "scenes": (SceneSplit(buffer=90_000), "training"),
    "column": (ColumnSplit(column="region", buffer=90_000), "training"),
    "zones": (ZoneSplit(zones=((-1, -1, 7_000, 7_000),)), "training"),
    "held out": (SceneSplit(hold_out=("scene-0", "scene-1", "scene-2")), "training"),
    "all values": (ColumnSplit(column="region", hold_out=("east", "north", "west")), "training"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_side_raises_an_error(name):
    splitter, side = EMPTY[name]
    for split in (splitter.split, lambda X: [splitter.assign(X)]):
        with pytest.raises(OutcropError, match=f"leaves no {side} patches; "):
            list(split(PATCHES))


def test_no_patches_raise_an_error():
    none = PATCHES.subset(np.array([], int))
    for splitter in SPLITTERS.values():
        for split in (splitter.split, lambda X, by=splitter: [by.assign(X)]):
            with pytest.raises(OutcropError, match="there are no patches to split"):
                list(split(none))


def test_scenes_and_values_that_x_lacks_are_not_folds():
    present = PATCHES.positions.source != 1
    for splitter in (SceneSplit(), ColumnSplit(column="region")):
        assert splitter.get_n_splits(PATCHES) == 3
        lacking = PATCHES.subset(present)
        folds = list(splitter.split(lacking))
        assert len(folds) == splitter.get_n_splits(lacking) == 2
        for train, held_out in folds:
            assert len(train)
            assert len(held_out)
        only = PATCHES.subset(PATCHES.positions.source == 1)
        with pytest.raises(OutcropError, match="fold 0 leaves no training patches"):
            list(splitter.split(only))
        search = GridSearchCV(DummyClassifier(), {}, cv=splitter, error_score="raise")
        scores = cross_val_score(search, PATCHES, PATCHES.labels, cv=splitter)
        assert len(scores) == 3
        assert not np.isnan(scores).any()
    with pytest.raises(OutcropError, match="no fold leaves validation patches"):
        list(SceneSplit(hold_out=("scene-1",)).split(lacking))


def test_a_patch_set_in_memory_and_on_disk_is_an_x_of_scikit_learn(tmp_path):
    patches = PATCHES
    patches.save(tmp_path / "set.zarr")
    flat = FunctionTransformer(lambda X: np.asarray(X).reshape(len(X), -1))
    for X in (patches, read_patches(tmp_path / "set.zarr")):
        assert X.shape == (160, 2, 2, 2)
        assert X.ndim == 4
        assert np.array_equal(np.asarray(X), patches.images)
        assert isinstance(X[3:5], PatchSet)
        assert np.array_equal(X[np.array([5, 2]), ...].labels, patches.labels[[5, 2]])
        assert len(X[7]) == 1
        with pytest.raises(IndexError):
            X[0, 0]
        search = GridSearchCV(
            make_pipeline(flat, DummyClassifier()),
            {"dummyclassifier__strategy": ["prior"]},
            cv=BlockSplit(block=900, n_splits=3),
            error_score="raise",
        )
        scores = cross_val_score(search, X, X.labels, cv=BlockSplit(block=1_500, n_splits=3))
        assert not np.isnan(scores).any()


def test_the_network_takes_a_patch_set_as_x():
    patches = world(60, size=8)
    model = ResidualClassifier(depth=8, width=4, epochs=1, batch=16, device="cpu", random_state=0)
    model.fit(patches, patches.labels)
    assert np.array_equal(model.predict(patches), model.predict(patches.images))
