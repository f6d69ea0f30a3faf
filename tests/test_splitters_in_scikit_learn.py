from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from outcrop.errors import OutcropError
from outcrop.patches.patchset import Column, PatchSet, read_patches
from outcrop.splits import (
    BlockSplit,
    ColumnSplit,
    MatchingSplit,
    RandomSplit,
    SceneSplit,
    SlabSplit,
    ZoneSplit,
)
from outcrop.splits.ground import near
from outcrop.training.estimator import ResidualClassifier
from tests.patches import UTM, ground


def world(n=160, seed=0, size=2):
    """Patches of noise over 6 km, whose label is in the first pixel."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 6_000, (2, n))
    labels = rng.integers(0, 2, n)
    columns = {"region": Column(np.arange(n) % 3, ("east", "north", "west"))}
    places = ground(x, y, np.arange(n), labels, np.arange(n) % 3, 40.0, 40.0, columns)
    images = rng.integers(0, 200, (n, 2, size, size)).astype(np.uint16)
    images[:, 0, 0, 0] = 500 + labels
    return replace(places, images=images, bands=("red", "green"))


PATCHES = world()
SPLITTERS = {
    "blocks": BlockSplit(block=900, buffer=100, folds=3),
    "random": RandomSplit(folds=3),
    "scenes": SceneSplit(),
    "column": ColumnSplit(column="region"),
    "zones": ZoneSplit(zones=((0, 0, 2_500, 6_000),), buffer=100),
    "matching": MatchingSplit(folds=3, buffer=20),
}


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps which patches it was trained on and asked about; the second pixels name them."""

    seen: list[tuple[str, np.ndarray]] = []  # noqa: RUF012

    def __init__(self, number=0):
        self.number = number

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.seen.append(("fit", names_of(X)))
        return self

    def predict(self, X):
        self.seen.append(("predict", names_of(X)))
        return np.full(len(X), self.classes_[0])


def names_of(X):
    return np.asarray(X).reshape(len(X), -1)[:, 1].astype(int)


def named():
    """The patches, each with its own number as the second pixel."""
    patches = world()
    patches.images[:, 0, 0, 1] = np.arange(len(patches))
    return patches


FORMS = {
    "set": lambda patches: patches,
    "images": lambda patches: patches.images,
    "rows": lambda patches: patches.images.reshape(len(patches), -1),
    "rows of float64": lambda patches: patches.images.reshape(len(patches), -1).astype(float),
    "frame": lambda patches: pd.DataFrame(patches.images.reshape(len(patches), -1)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_search_inside_cross_validation_keeps_the_sides_apart(form):
    patches = named()
    inner = BlockSplit(block=900, buffer=150, folds=3, patches=patches)
    outer = BlockSplit(block=1_500, buffer=150, folds=3, patches=patches)
    search = GridSearchCV(Recorder(), {"number": [1, 2]}, cv=inner, error_score="raise")
    Recorder.seen.clear()
    X = FORMS[form](patches)
    scores = cross_val_score(search, X, patches.labels, cv=outer, error_score="raise")
    assert len(scores) == 3
    trained = None
    pairs = 0
    for what, names in Recorder.seen:
        if what == "fit":
            trained = names
            continue
        if np.array_equal(names, trained):
            continue
        there, judged = patches.positions[trained], patches.positions[names]
        assert not near(there, judged, 150).any()
        pairs += 1
    assert pairs == 3 * (2 * 3 + 1)


def test_inner_folds_are_those_of_the_patches_that_are_there():
    patches = named()
    splitter = BlockSplit(block=900, buffer=100, folds=3, patches=patches)
    some = np.sort(np.random.default_rng(1).permutation(len(patches))[:120])
    wanted = list(BlockSplit(block=900, buffer=100, folds=3).split(patches.subset(some)))
    for form in FORMS.values():
        X = form(patches)
        part = X.iloc[some] if hasattr(X, "iloc") else X[some]
        found = splitter.split(part, patches.labels[some])
        for (train, judged), (as_wanted, judged_too) in zip(found, wanted, strict=True):
            assert np.array_equal(train, as_wanted)
            assert np.array_equal(judged, judged_too)


@given(seed=st.integers(0, 2**32 - 1), kinds=st.integers(2, 60), part=st.floats(0.3, 1))
@settings(max_examples=40, deadline=None)
def test_rows_of_several_patches_are_never_on_the_wrong_ground(seed, kinds, part):
    """Patches with equal pixels: a row that may be one of several is on no side."""
    rng = np.random.default_rng(seed)
    patches = world(80, seed)
    patches = replace(patches, images=patches.images[rng.integers(0, kinds, 80)])
    some = rng.permutation(80)[: max(2, int(80 * part))]
    splitter = BlockSplit(block=900, buffer=0, folds=2, patches=patches)
    try:
        folds = list(splitter.split(patches.images[some]))
    except OutcropError:
        return
    blocks = splitter.pieces(patches)
    keys = [image.tobytes() for image in patches.images]
    for train, judged in folds:
        for row in np.concatenate([train, judged]):
            alike = [i for i, key in enumerate(keys) if key == keys[some[row]]]
            assert len(alike) == 1 or set(alike) <= set(some)
        single = [
            {blocks[some[row]] for row in rows if keys.count(keys[some[row]]) == 1}
            for rows in (train, judged)
        ]
        assert not single[0] & single[1]


def test_rows_that_are_not_known_are_an_error_with_a_way_out():
    patches = named()
    splitter = BlockSplit(block=900, folds=3, patches=patches)
    means = patches.images.mean(axis=(2, 3))
    assert len(list(splitter.split(means))) == 3
    with pytest.raises(OutcropError, match=r"X has 90 rows but the patch set has 160; pass .*X"):
        list(splitter.split(means[:90]))
    frame = pd.DataFrame(means).iloc[10:150]
    assert len(list(splitter.split(frame))) == 3
    frame.index = frame.index + 100
    with pytest.raises(OutcropError, match="X has 140 rows"):
        list(splitter.split(frame))
    other = world(seed=5)
    with pytest.raises(OutcropError, match="X has 90 rows"):
        list(splitter.split(other.images[:90]))


def test_places_alone_are_enough(capsys):
    at, labels = PATCHES.positions, PATCHES.labels
    sides = gpd.points_from_xy(at.x, at.y, crs=UTM).buffer(20, cap_style="square")
    regions = np.array(PATCHES.columns["region"].names)[PATCHES.columns["region"].codes]
    frame = gpd.GeoDataFrame({"region": regions}, geometry=sides)
    for splitter in (SPLITTERS["blocks"], SPLITTERS["column"], SPLITTERS["zones"]):
        wanted = list(splitter.split(PATCHES))
        for X in (frame, frame.set_index(np.arange(len(frame))[::-1])):
            found = list(splitter.split(X, labels))
            for one, other in zip(found, wanted, strict=True):
                assert np.array_equal(one[0], other[0])
                assert np.array_equal(one[1], other[1])
    search = GridSearchCV(DummyClassifier(), {"strategy": ["prior"]}, cv=SPLITTERS["blocks"])
    xy = np.stack([at.x, at.y], axis=1)
    for X in (frame, xy, frame.to_crs("EPSG:4326"), frame.to_crs("EPSG:3857")):
        scores = cross_val_score(search, X, labels, cv=BlockSplit(block=2_000, folds=3))
        assert len(scores) == 3
        assert not np.isnan(scores).any()
    assert "two columns of X for x and y in metres" in capsys.readouterr().err
    with pytest.raises(OutcropError, match="does not know the ground"):
        list(SPLITTERS["blocks"].split(np.zeros((10, 3)), np.zeros(10)))
    with pytest.raises(OutcropError, match=r"X\.set_crs"):
        list(SPLITTERS["blocks"].split(frame.set_crs(None, allow_override=True), labels))


def test_a_frame_in_mercator_is_split_in_metres():
    far = gpd.points_from_xy(np.linspace(20, 20.2, 200), np.full(200, 63.0), crs="EPSG:4326")
    frame = gpd.GeoDataFrame(geometry=far)
    splitter = BlockSplit(block=1_000, folds=2)
    blocks = [
        len(np.unique(splitter.pieces(_patches(frame.to_crs(crs)))))
        for crs in ("EPSG:3857", "EPSG:32634", "EPSG:4326")
    ]
    assert len(set(blocks)) == 1


def _patches(frame):
    from outcrop.splits.rows import patches_of_rows

    return patches_of_rows(frame, None, None, "BlockSplit")[1]


@pytest.mark.parametrize("name", SPLITTERS)
def test_copies_share_the_patch_set_and_print_in_one_line(name):
    splitter = replace(SPLITTERS[name], patches=PATCHES)
    search = GridSearchCV(DummyClassifier(), {}, cv=splitter)
    for same in (clone(splitter), clone(search).cv, copy.deepcopy(search).cv, copy.copy(splitter)):
        assert same.patches is PATCHES
        assert same == splitter
    text = repr(splitter)
    assert "\n" not in text
    assert "array" not in text
    assert len(text) < 220
    assert type(splitter).__name__ in text
    assert "160 patches of 2 × 2 × 2 uint16; a, b" in text
    again = pickle.loads(pickle.dumps(splitter))
    for one, other in zip(again.split(None), splitter.split(PATCHES), strict=True):
        assert np.array_equal(one[0], other[0])


EMPTY = {
    "blocks": (BlockSplit(block=900, buffer=90_000, folds=3), "training"),
    "scenes": (SceneSplit(buffer=90_000), "training"),
    "column": (ColumnSplit(column="region", buffer=90_000), "training"),
    "zones": (ZoneSplit(zones=((-1, -1, 7_000, 7_000),)), "training"),
    "held out": (SceneSplit(hold_out=("scene-0", "scene-1", "scene-2")), "training"),
    "all values": (ColumnSplit(column="region", hold_out=("east", "north", "west")), "training"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_side_is_refused(name):
    splitter, side = EMPTY[name]
    for split in (splitter.split, lambda X: [splitter.assign(X)]):
        with pytest.raises(OutcropError, match=f"leaves no {side} patches; "):
            list(split(PATCHES))


def test_no_patches_are_refused():
    none = PATCHES.subset(np.array([], int))
    for splitter in SPLITTERS.values():
        for split in (splitter.split, lambda X, by=splitter: [by.assign(X)]):
            with pytest.raises(OutcropError, match="there are no patches to split"):
                list(split(none))


def test_scenes_and_values_that_x_lacks_are_no_folds():
    present = PATCHES.positions.source != 1
    for splitter in (SceneSplit(), ColumnSplit(column="region")):
        assert splitter.get_n_splits(PATCHES) == 3
        lacking = PATCHES.subset(present)
        folds = list(splitter.split(lacking))
        assert len(folds) == splitter.get_n_splits(lacking) == 2
        for train, judged in folds:
            assert len(train)
            assert len(judged)
        only = PATCHES.subset(PATCHES.positions.source == 1)
        with pytest.raises(OutcropError, match="fold 0 leaves no training patches"):
            list(splitter.split(only))
        search = GridSearchCV(DummyClassifier(), {}, cv=splitter, error_score="raise")
        scores = cross_val_score(search, PATCHES, PATCHES.labels, cv=splitter)
        assert len(scores) == 3
        assert not np.isnan(scores).any()
    with pytest.raises(OutcropError, match="no fold leaves validation patches"):
        list(SceneSplit(hold_out=("scene-1",)).split(lacking))


def test_slabs_refuse_an_empty_side_and_print_in_one_line():
    splitter = SlabSplit(axis=0, thickness=5, patches=PATCHES)
    assert "\n" not in repr(splitter)
    assert clone(splitter).patches is PATCHES


def test_a_patch_set_is_an_x_of_scikit_learn(tmp_path):
    patches = named()
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
            cv=BlockSplit(block=900, folds=3),
            error_score="raise",
        )
        scores = cross_val_score(search, X, X.labels, cv=BlockSplit(block=1_500, folds=3))
        assert not np.isnan(scores).any()


def test_the_network_takes_a_patch_set_as_x():
    patches = world(60, size=8)
    model = ResidualClassifier(depth=8, width=4, epochs=1, batch=16, device="cpu", random_state=0)
    model.fit(patches, patches.labels)
    assert np.array_equal(model.predict(patches), model.predict(patches.images))
