from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score

from outcrop.errors import OutcropError
from outcrop.splits import TEST, VALIDATION, MatchingSplit, RandomSplit, make_splitter
from outcrop.splits.geometry import coordinates, nearest, prediction_points
from tests.synthetic import PIXEL, cut_scene, cut_volume

SIDE = 300


def sampled(kind, seed, n=250, size=1):
    """Points in a square of 3 km: clustered, regular or random."""
    rng = np.random.default_rng(seed)
    if kind == "clustered":
        middle = rng.integers(20, SIDE - 20, (12, 2))[rng.integers(0, 12, n)]
        row, column = np.clip(middle + rng.normal(0, 6, (n, 2)).round(), 0, SIDE - 1).T.astype(int)
    elif kind == "regular":
        step = np.arange(9, SIDE, 19)
        row, column = (grid.ravel() for grid in np.meshgrid(step, step))
    else:
        row, column = rng.integers(0, SIDE, (2, n))
    return cut_scene(np.zeros((SIDE, SIDE)), row, column, np.arange(len(row)) % 2, size)


def mismatch(patches, splitter):
    """W by its definition, between the distances of all folds together and those of the map."""
    at = coordinates(patches.positions)
    each = [nearest(at[held], at[train]) for train, held in splitter.split(patches)]
    return wasserstein_distance(np.concatenate(each), nearest(prediction_points(patches).at, at))


@pytest.mark.parametrize("seed", range(3))
def test_clustered_patches_are_validated_at_the_distances_of_the_map(seed):
    patches = sampled("clustered", seed)
    splitter = MatchingSplit(n_splits=5)
    matching = splitter.match(patches)
    assert matching.clusters is not None
    assert matching.wasserstein == min(matching.candidates.values())
    assert matching.wasserstein == pytest.approx(mismatch(patches, splitter))
    assert matching.wasserstein < 0.35 * mismatch(patches, RandomSplit(n_splits=5))
    assert np.bincount(matching.fold).max() <= len(patches) / 2


def mismatch_of(patches, split, side=VALIDATION):
    """W of one side by its definition, with the distances from the map to the training patches."""
    at, points = coordinates(patches.positions), prediction_points(patches).at
    held_out, train = at[split.sides == side], at[split.train]
    return wasserstein_distance(nearest(held_out, train), nearest(points, train))


@pytest.mark.parametrize("seed", range(3))
def test_a_single_fold_is_matched_by_itself(seed):
    patches = sampled("clustered", seed)
    splitter = MatchingSplit(n_splits=5)
    alone = splitter.assign(patches)
    mine = mismatch_of(patches, alone)
    assert alone.how["wasserstein"] == pytest.approx(mine, rel=1e-3)
    together = [splitter.assign(patches, fold) for fold in range(5)]
    several = [one for one in together if len(np.unique(one.groups[one.validation])) >= 2]
    assert all(mine <= mismatch_of(patches, one) + 1e-9 for one in several)
    assert mine < 0.8 * np.mean([mismatch_of(patches, one) for one in together])
    assert len(np.unique(alone.groups[alone.validation])) >= 2
    # Together the numbered folds hold out each patch once.
    assert (np.sum([one.sides == VALIDATION for one in together], axis=0) == 1).all()


def test_a_test_side_is_matched_too():
    patches = sampled("clustered", 0)
    split = MatchingSplit(n_splits=5).assign(patches, test=True)
    both = [mismatch_of(patches, split, side) for side in (VALIDATION, TEST)]
    assert split.how["wasserstein"] == pytest.approx(max(both), rel=1e-3)


def test_a_single_validation_group_gives_a_warning():
    patches = sampled("clustered", 0, n=60)
    polygon = np.arange(60) // 12
    place = np.random.default_rng(0).integers(20, 280, (5, 2))[polygon]
    row, column = (place + np.random.default_rng(1).integers(-3, 4, (60, 2))).T
    few = cut_scene(np.zeros((SIDE, SIDE)), row, column, np.arange(60) % 2, 1, polygon)
    split = MatchingSplit(n_splits=5).assign(few)
    assert len(np.unique(split.groups[split.validation])) == 1
    assert any("one spatial group" in warning for warning in split.warnings(few))
    assert any("5 of 5 folds" in note for note in MatchingSplit().assign_all(few).notes(few))
    assert not MatchingSplit(n_splits=5).assign(patches).warnings(patches)


def test_the_numbers_of_clusters_are_those_of_the_paper():
    tried = MatchingSplit(n_splits=5).match(sampled("clustered", 0, n=2000)).candidates
    assert min(tried) == 5
    assert max(tried) == 1998
    assert 70 < len(tried) <= 100


@pytest.mark.parametrize("kind", ["regular", "random"])
def test_patches_that_cover_the_map_get_random_folds(kind):
    patches = sampled(kind, 1)
    matching = MatchingSplit(n_splits=5).match(patches)
    assert matching.clusters is None
    assert matching.wasserstein < 1.5 * mismatch(patches, RandomSplit(n_splits=5)) + PIXEL
    again = MatchingSplit(n_splits=5).match(patches)
    np.testing.assert_array_equal(matching.fold, again.fold)
    assert (matching.fold != MatchingSplit(n_splits=5, random_state=1).match(patches).fold).any()


def test_polygons_are_not_divided_and_sides_do_not_overlap():
    rng = np.random.default_rng(0)
    polygon = np.repeat(np.arange(40), 30)
    middle = rng.integers(10, SIDE - 10, (40, 2))[polygon]
    row, column = (middle + rng.integers(-5, 5, (1200, 2))).T
    patches = cut_scene(np.zeros((SIDE, SIDE)), row, column, polygon % 2, 8, polygon)
    split = MatchingSplit(buffer=50, n_splits=4).assign(patches, test=True)
    for one, other in ((split.train, split.validation), (split.train, split.test)):
        assert not set(polygon[one]) & set(polygon[other])
        gap = np.abs(row[one, None] - row[other]), np.abs(column[one, None] - column[other])
        assert (np.maximum(*gap) * PIXEL - 8 * PIXEL >= 50).all()


def test_cross_validates_in_scikit_learn():
    patches = sampled("clustered", 0)
    splitter = MatchingSplit(n_splits=4)
    scores = cross_val_score(DummyClassifier(), patches, patches.labels, cv=splitter)
    assert len(scores) == 4
    assert make_splitter(patches, "matching", folds=4) == MatchingSplit(n_splits=4)


def test_matches_in_a_volume():
    rng = np.random.default_rng(0)
    cluster = rng.integers(10, 50, (10, 3))[np.arange(200) % 10]
    index, row, column = np.clip(cluster + rng.normal(0, 2, (200, 3)).round(), 5, 54).T.astype(int)
    patches = cut_volume(np.zeros((60, 60, 60)), 0, index, row, column, np.arange(200) % 2, 4)
    splitter = MatchingSplit(n_splits=4)
    assert splitter.match(patches).wasserstein < 0.5 * mismatch(patches, RandomSplit(n_splits=4))


def test_many_polygons_are_grouped_first():
    patches = sampled("clustered", 0, n=6000)
    matching = MatchingSplit(n_splits=5).match(patches)
    assert matching.wasserstein < 0.35 * mismatch(patches, RandomSplit(n_splits=5))


def test_errors_name_what_cannot_be_matched():
    here, labels = [5] * 20, np.arange(20) % 2
    one_place = cut_scene(np.zeros((SIDE, SIDE)), here, here, labels, 1, [0] * 20)
    with pytest.raises(OutcropError, match="lie in 1 places, fewer than 5 folds"):
        MatchingSplit().match(one_place)
    polygon = np.minimum(np.arange(60), 9) // 2
    lopsided = sampled("clustered", 0, n=60)
    lopsided = cut_scene(
        np.zeros((SIDE, SIDE)),
        lopsided.positions.row,
        lopsided.positions.column,
        lopsided.labels,
        1,
        polygon,
    )
    with pytest.raises(OutcropError, match="more than half of the patches"):
        MatchingSplit().match(lopsided)
    xy = np.random.default_rng(0).uniform(0, 9_000, (50, 2))
    with pytest.raises(OutcropError, match="needs the scenes that will be mapped"):
        list(MatchingSplit().split(xy, np.arange(50) % 2))
