from __future__ import annotations

import re
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from shapely import box
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score

from outcrop.errors import OutcropError
from outcrop.patches.patchset import Column
from outcrop.patches.positions import Positions
from outcrop.splits import (
    BUFFER,
    TEST,
    TRAIN,
    VALIDATION,
    BlockSplit,
    ColumnSplit,
    RandomSplit,
    SceneSplit,
    ZoneSplit,
    read_split,
)
from tests.patches import UTM, ground


@st.composite
def grounds(draw):
    """Clustered patches of two scenes, in polygons that may cross block borders."""
    seed = draw(st.integers(0, 2**32 - 1))
    polygons = draw(st.integers(8, 40))
    rng = np.random.default_rng(seed)
    middle = rng.uniform(0, 6_000, (polygons, 2))
    polygon = np.repeat(np.arange(polygons), rng.integers(3, 25, polygons))
    xy = middle[polygon] + rng.normal(0, draw(st.sampled_from([30, 300])), (len(polygon), 2))
    xy = np.round(xy / 10) * 10
    source = (polygon % 2).astype(np.int32)
    columns = {"region": Column(polygon % 3, ("east", "north", "west"))}
    width = draw(st.sampled_from([90.0, 160.0]))
    other = draw(st.sampled_from([90.0, 240.0]))
    return ground(
        *xy.T,
        polygon,
        polygon // 2 % 2,
        source,
        width=np.where(source == 0, width, other),
        height=np.where(source == 0, width, other),
        columns=columns,
    )


SPLITTERS = [
    lambda buffer, seed: BlockSplit(block=1_500, buffer=buffer, n_splits=3, random_state=seed),
    lambda buffer, seed: ZoneSplit(zones=((0, 0, 3_000, 2_500),), buffer=buffer),
    lambda buffer, seed: SceneSplit(buffer=buffer),
    lambda buffer, seed: ColumnSplit(column="region", buffer=buffer),
]


def gaps(one: Positions, other: Positions) -> tuple[np.ndarray, np.ndarray]:
    """Gaps in x and y between the extents of every pair; negative where they overlap."""
    return tuple(
        np.abs(a[:, None] - b) - (s[:, None] + t) / 2
        for a, b, s, t in (
            (one.x, other.x, one.width, other.width),
            (one.y, other.y, one.height, other.height),
        )
    )


@pytest.mark.parametrize(
    ("splitter", "test"), [*((s, False) for s in SPLITTERS), (SPLITTERS[0], True)]
)
@given(patches=grounds(), buffer=st.sampled_from([0, 5, 170, 800]), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_sides_are_apart_in_space(splitter, test, patches, buffer, seed):
    try:
        split = splitter(buffer, seed).assign(patches, test=test)
    except OutcropError:
        reject()  # the area is too small for this buffer or these blocks
    sides = {side: patches.positions[split.sides == side] for side in (TRAIN, VALIDATION, TEST)}
    for one, other in ((TRAIN, VALIDATION), (TRAIN, TEST), (VALIDATION, TEST)):
        dx, dy = gaps(sides[one], sides[other])
        assert not ((dx < -1e-6) & (dy < -1e-6)).any()
        distance = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
        assert (distance >= buffer - 1e-6).all()
        assert not np.intersect1d(sides[one].polygon, sides[other].polygon).size


@given(patches=grounds(), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_every_patch_is_held_out_once_and_a_seed_repeats(patches, seed):
    splitter = BlockSplit(block=1_500, buffer=100, n_splits=3, random_state=seed)
    try:
        folds = list(splitter.split(patches))
    except OutcropError:
        return
    held_out = np.concatenate([validation for _, validation in folds])
    assert sorted(held_out) == list(range(len(patches)))
    for (train, validation), (again, _) in zip(folds, splitter.split(patches), strict=True):
        assert np.array_equal(train, again)
        assert not np.intersect1d(train, validation).size


def line(n=200, step=20.0):
    return ground(np.arange(n) * step, np.zeros(n), np.arange(n), np.arange(n) % 2)


def test_a_larger_buffer_leaves_out_more_and_keeps_validation():
    patches = line()
    small, large = (
        BlockSplit(block=800, buffer=b, random_state=1).assign(patches) for b in (0, 300)
    )
    assert len(small.buffer) < len(large.buffer)
    assert np.array_equal(small.validation, large.validation)


def test_touching_extents_do_not_overlap():
    patches = ground(np.arange(40) * 160.0, np.zeros(40), np.arange(40), np.arange(40) % 2)
    split = BlockSplit(block=1_600, buffer=0, n_splits=2).assign(patches)
    assert len(split.buffer) == 0


def test_works_as_a_scikit_learn_cross_validator():
    patches = line()
    cv = BlockSplit(block=800, buffer=40, n_splits=4)
    scores = cross_val_score(DummyClassifier(), patches, patches.labels, cv=cv)
    assert len(scores) == cv.get_n_splits(patches) == 4
    with pytest.raises(OutcropError, match="X is an array of 200 × 7, which has no positions"):
        list(cv.split(np.zeros((len(patches), 7)), patches.labels))


def test_random_split_is_stratified_and_not_spatial():
    patches = line()
    split = RandomSplit(random_state=3).assign(patches)
    assert not split.spatial
    assert split.counts(patches.labels, 2)[VALIDATION].tolist() == [20, 20]
    assert len(split.buffer) == 0


def test_zones_from_a_file_in_another_system(tmp_path):
    patches = line()
    zone = gpd.GeoDataFrame(geometry=[box(-10, -10, 1_010, 10)], crs=UTM).to_crs("EPSG:4326")
    zone.to_file(tmp_path / "zone.geojson")
    split = ZoneSplit(zones=(tmp_path / "zone.geojson",), buffer=100).assign(patches)
    assert patches.positions.x[split.validation].max() == 1_000
    assert patches.positions.x[split.train].min() >= 1_000 + 160 + 100


def test_scenes_and_columns_can_be_named():
    patches = ground(
        np.arange(40) * 400.0, np.zeros(40), np.arange(40), np.arange(40) % 2,
        source=np.repeat([0, 1], 20),
        columns={"side": Column(np.repeat([0, 1, 2, 0], 10), ("train", "validation", "test"))},
    )  # fmt: skip
    split = SceneSplit(hold_out=("scene-1",)).assign(patches)
    assert set(patches.positions.source[split.validation]) == {1}
    split = ColumnSplit(column="side").assign(patches)
    assert np.bincount(split.sides).tolist() == [20, 10, 10]
    with pytest.raises(OutcropError, match="no scene 'scene-9'"):
        SceneSplit(hold_out=("scene-9",)).assign(patches)
    with pytest.raises(OutcropError, match="no column 'region'"):
        ColumnSplit(column="region").assign(patches)


def test_a_polygon_on_two_sides_keeps_its_larger_part():
    x = np.array([0.0, 400, 800, 1200, 1600, 2000, 4000, 5000])
    patches = ground(x, np.zeros(8), [0, 1, 2, 2, 2, 3, 4, 5], [0, 1, 0, 0, 0, 1, 0, 1])
    split = ZoneSplit(zones=((-1, -1, 1_000, 1),)).assign(patches)
    assert split.sides.tolist() == [
        VALIDATION, VALIDATION, BUFFER, TRAIN, TRAIN, TRAIN, TRAIN, TRAIN
    ]  # fmt: skip


def test_the_default_fold_has_all_classes_on_both_sides():
    x = np.arange(60) * 400.0
    labels = np.r_[np.zeros(30, int), np.ones(30, int)]
    regions = Column(np.repeat([0, 1, 2], [30, 10, 20]), ("a", "b", "c"))
    patches = ground(x, np.zeros(60), np.arange(60), labels, columns={"region": regions})
    assert ColumnSplit(column="region").assign(patches).how["fold"] == 1
    with pytest.raises(OutcropError, match="fewer than two classes"):
        ColumnSplit(column="region").assign(patches, fold=0)


def test_missing_classes_are_named():
    x = np.arange(60) * 400.0
    labels = np.r_[np.zeros(30, int), np.arange(30) % 2]
    patches = ground(x, np.zeros(60), np.arange(60), labels)
    split = ZoneSplit(zones=((-1, -1, 30 * 400.0 - 1, 1),)).assign(patches)
    assert split.warnings(patches) == ["class 'b' has no validation patches"]
    with pytest.raises(OutcropError, match="fewer than two classes"):
        ZoneSplit(zones=((29.9 * 400, -1, 1e9, 1),)).assign(patches)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockSplit(block=0), "`block`: must be more than 0"),
        (lambda: BlockSplit(block=800, buffer=-1), "`buffer`: must be 0 or more"),
        (lambda: BlockSplit(block=1e6).assign(line()), "fewer than 5 folds"),
        (lambda: BlockSplit(block=800).assign(line(), fold=7), "no fold 7"),
        (
            lambda: RandomSplit(n_splits=300).assign(line()),
            "`n_splits`: are 300, more than the 200",
        ),
        (lambda: SceneSplit().assign(line()), "come from one scene"),
        (lambda: BlockSplit(block=9).assign(replace(line(), positions=None)), "needs positions"),
        (lambda: ZoneSplit(zones=("no.gpkg",)).assign(line()), "no such file"),
        (
            lambda: ZoneSplit(zones=((0, 9, 1, 10),)).assign(line()),
            "`zones=(0, 9, 1, 10)`: holds no patch",
        ),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(OutcropError, match=re.escape(message)):
        make()


def test_a_split_is_written_and_read_and_checked_against_patches(tmp_path):
    patches = line()
    split = BlockSplit(block=800, buffer=40).assign(patches)
    split.save(tmp_path / "split.json")
    again = read_split(tmp_path / "split.json")
    assert np.array_equal(split.sides, again.sides)
    assert np.array_equal(split.groups, again.groups)
    again.check(patches)
    with pytest.raises(OutcropError, match="made for another patch set"):
        again.check(line(100))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(OutcropError, match="is not a split"):
        read_split(tmp_path / "other.json")
