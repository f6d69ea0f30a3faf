from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score

from outcrop.errors import OutcropError
from outcrop.splits import TEST, VALIDATION, MatchingSplit, RandomSplit, make_splitter
from outcrop.splits.places import coordinates, nearest, places_to_map
from tests.synthetic import PIXEL, cut_scene, cut_volume

SIDE = 300


def sampled(kind, seed, n=250, size=1):
    """Points in a square of 3 km: clustered, regular, or at random."""
    dice = np.random.default_rng(seed)
    if kind == "clustered":
        middle = dice.integers(20, SIDE - 20, (12, 2))[dice.integers(0, 12, n)]
        row, column = np.clip(middle + dice.normal(0, 6, (n, 2)).round(), 0, SIDE - 1).T.astype(int)
    elif kind == "regular":
        step = np.arange(9, SIDE, 19)
        row, column = (grid.ravel() for grid in np.meshgrid(step, step))
    else:
        row, column = dice.integers(0, SIDE, (2, n))
    return cut_scene(np.zeros((SIDE, SIDE)), row, column, np.arange(len(row)) % 2, size)


def mismatch(patches, splitter):
    """W by the definition: the distances of all folds together, beside those of the map."""
    at = coordinates(patches.positions)
    judged = [nearest(at[held], at[train]) for train, held in splitter.split(patches)]
    return wasserstein_distance(np.concatenate(judged), nearest(places_to_map(patches).at, at))


@pytest.mark.parametrize("seed", range(3))
def test_clustered_patches_are_judged_as_far_away_as_the_map(seed):
    patches = sampled("clustered", seed)
    splitter = MatchingSplit(folds=5)
    matching = splitter.match(patches)
    assert matching.clusters is not None
    assert matching.wasserstein == min(matching.candidates.values())
    assert matching.wasserstein == pytest.approx(mismatch(patches, splitter))
    assert matching.wasserstein < 0.35 * mismatch(patches, RandomSplit(folds=5))
    assert np.bincount(matching.fold).max() <= len(patches) / 2


def mismatch_of(patches, split, side=VALIDATION):
    """W by the definition of one side that judges: the map is that of the patches that train."""
    at, places = coordinates(patches.positions), places_to_map(patches).at
    judged, taught = at[split.sides == side], at[split.train]
    return wasserstein_distance(nearest(judged, taught), nearest(places, taught))


@pytest.mark.parametrize("seed", range(3))
def test_a_single_fold_is_matched_by_itself(seed):
    patches = sampled("clustered", seed)
    splitter = MatchingSplit(folds=5)
    alone = splitter.assign(patches)
    mine = mismatch_of(patches, alone)
    assert alone.how["wasserstein"] == pytest.approx(mine, rel=1e-3)
    together = [splitter.assign(patches, fold) for fold in range(5)]
    several = [one for one in together if len(np.unique(one.groups[one.validation])) >= 2]
    assert all(mine <= mismatch_of(patches, one) + 1e-9 for one in several)
    assert mine < 0.8 * np.mean([mismatch_of(patches, one) for one in together])
    assert len(np.unique(alone.groups[alone.validation])) >= 2
    # All of the numbered folds together hold out each patch once.
    assert (np.sum([one.sides == VALIDATION for one in together], axis=0) == 1).all()


def test_a_test_side_is_matched_too():
    patches = sampled("clustered", 0)
    split = MatchingSplit(folds=5).assign(patches, test=True)
    both = [mismatch_of(patches, split, side) for side in (VALIDATION, TEST)]
    assert split.how["wasserstein"] == pytest.approx(max(both), rel=1e-3)


def test_one_piece_of_ground_that_validates_is_said():
    patches = sampled("clustered", 0, n=60)
    polygon = np.arange(60) // 12
    place = np.random.default_rng(0).integers(20, 280, (5, 2))[polygon]
    row, column = (place + np.random.default_rng(1).integers(-3, 4, (60, 2))).T
    few = cut_scene(np.zeros((SIDE, SIDE)), row, column, np.arange(60) % 2, 1, polygon)
    split = MatchingSplit(folds=5).assign(few)
    assert len(np.unique(split.groups[split.validation])) == 1
    assert any("one piece of ground" in warning for warning in split.warnings(few))
    assert any("5 of 5 folds" in note for note in MatchingSplit().assign_all(few).notes(few))
    assert not MatchingSplit(folds=5).assign(patches).warnings(patches)


def test_as_many_numbers_of_clusters_are_tried_as_in_the_paper():
    tried = MatchingSplit(folds=5).match(sampled("clustered", 0, n=2000)).candidates
    assert min(tried) == 5
    assert max(tried) == 1998
    assert 70 < len(tried) <= 100


@pytest.mark.parametrize("kind", ["regular", "random"])
def test_patches_all_over_the_map_are_dealt_at_random(kind):
    patches = sampled(kind, 1)
    matching = MatchingSplit(folds=5).match(patches)
    assert matching.clusters is None
    assert matching.wasserstein < 1.5 * mismatch(patches, RandomSplit(folds=5)) + PIXEL
    again = MatchingSplit(folds=5).match(patches)
    np.testing.assert_array_equal(matching.fold, again.fold)
    assert (matching.fold != MatchingSplit(folds=5, seed=1).match(patches).fold).any()


def test_polygons_stay_whole_and_sides_do_not_overlap():
    dice = np.random.default_rng(0)
    polygon = np.repeat(np.arange(40), 30)
    middle = dice.integers(10, SIDE - 10, (40, 2))[polygon]
    row, column = (middle + dice.integers(-5, 5, (1200, 2))).T
    patches = cut_scene(np.zeros((SIDE, SIDE)), row, column, polygon % 2, 8, polygon)
    split = MatchingSplit(buffer=50, folds=4).assign(patches, test=True)
    for one, other in ((split.train, split.validation), (split.train, split.test)):
        assert not set(polygon[one]) & set(polygon[other])
        gap = np.abs(row[one, None] - row[other]), np.abs(column[one, None] - column[other])
        assert (np.maximum(*gap) * PIXEL - 8 * PIXEL >= 50).all()


def test_cross_validates_in_scikit_learn():
    patches = sampled("clustered", 0)
    X = np.zeros((len(patches), 1))
    scores = cross_val_score(
        DummyClassifier(), X, patches.labels, cv=MatchingSplit(folds=4, patches=patches)
    )
    assert len(scores) == 4
    assert make_splitter(patches, "matching", folds=4) == MatchingSplit(folds=4)


def test_matches_in_a_volume():
    dice = np.random.default_rng(0)
    cluster = dice.integers(10, 50, (10, 3))[np.arange(200) % 10]
    index, row, column = np.clip(cluster + dice.normal(0, 2, (200, 3)).round(), 5, 54).T.astype(int)
    patches = cut_volume(np.zeros((60, 60, 60)), 0, index, row, column, np.arange(200) % 2, 4)
    splitter = MatchingSplit(folds=4)
    assert splitter.match(patches).wasserstein < 0.5 * mismatch(patches, RandomSplit(folds=4))


def test_too_many_polygons_are_gathered_first():
    patches = sampled("clustered", 0, n=6000)
    matching = MatchingSplit(folds=5).match(patches)
    assert matching.wasserstein < 0.35 * mismatch(patches, RandomSplit(folds=5))


def test_says_what_cannot_be_matched():
    here, labels = [5] * 20, np.arange(20) % 2
    one_place = cut_scene(np.zeros((SIDE, SIDE)), here, here, labels, 1, [0] * 20)
    with pytest.raises(OutcropError, match="1 pieces of labelled ground, fewer than 5 folds"):
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
