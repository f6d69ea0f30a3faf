"""Is validation as hard as the map will be?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from outcrop.auditing.origin import open_origins, open_to_map
from outcrop.auditing.representative import check_representative, compare_distances
from outcrop.models.features import statistics
from outcrop.patches.cut import cut
from outcrop.patches.cut_volume import cut_volume
from outcrop.splits import TRAIN, VALIDATION, BlockSplit, MatchingSplit, RandomSplit, Split
from outcrop.splits.places import coordinates, nearest, places_to_map
from tests.rasters import write_raster
from tests.test_matching import sampled


def checks(patches, split, **options):
    features = statistics(patches.images)
    return {f.check: f for f in check_representative(patches, split, features, **options)}


def bright_in_the_east(folder, side=200):
    """A scene labelled in the west alone; the east shows what no label shows."""
    dice = np.random.default_rng(0)
    pixels = dice.normal(100, 10, (2, side, side)).astype(np.float32)
    pixels[:, :, side // 2 :] += 200
    labels = np.zeros((side, side), np.uint8)
    labels[4:-4:5, 4 : side // 2 - 4 : 5] = 1
    labels[6:-4:5, 6 : side // 2 - 4 : 5] = 2
    scene = write_raster(folder / "scene.tif", pixels)
    return cut(scene, write_raster(folder / "labels.tif", labels, nodata=0), size=8)


def test_w_is_the_distance_between_the_distributions():
    dice = np.random.default_rng(0)
    validation, wanted, taught = dice.normal(size=(3, 60, 2)) + np.array([0, 2, 0])[:, None, None]
    found = compare_distances(validation, wanted, taught)
    one = [np.hypot(*(taught - x).T).min() for x in validation]
    other = [np.hypot(*(taught - x).T).min() for x in wanted]
    np.testing.assert_allclose(found.validation, one)
    assert found.wasserstein == pytest.approx(wasserstein_distance(one, other))
    assert found.easier == pytest.approx(1 - np.mean(one) / np.mean(other))
    assert compare_distances(taught, taught, taught).easier == 0


def test_clustered_patches_split_at_random_are_easier_than_the_map():
    patches = sampled("clustered", seed=0)
    found = checks(patches, RandomSplit().assign(patches))["map-ground"]
    assert found.severity == "warning"
    assert "map will be harder" in found.title
    assert "--by matching" in found.remedy
    matched = checks(patches, MatchingSplit(folds=5).assign(patches))["map-ground"]
    assert matched.severity == "note"
    assert matched.numbers["wasserstein"] < 0.5 * found.numbers["wasserstein"]


def test_the_numbers_are_the_distributions():
    patches = sampled("clustered", seed=1)
    split = RandomSplit().assign(patches)
    numbers = checks(patches, split)["map-ground"].numbers
    at = coordinates(patches.positions)
    one = nearest(at[split.validation], at[split.train])
    other = nearest(places_to_map(patches, 1000).at, at[split.train])
    np.testing.assert_allclose(numbers["validation"], np.percentile(one, numbers["percent"]), 1e-3)
    np.testing.assert_allclose(numbers["wanted"], np.percentile(other, numbers["percent"]), 1e-3)
    assert numbers["wasserstein"] == pytest.approx(wasserstein_distance(one, other), rel=1e-3)


def test_a_regular_net_of_patches_is_as_hard_as_the_map():
    patches = sampled("regular", seed=0)
    found = checks(patches, RandomSplit().assign(patches))["map-ground"]
    assert found.severity == "note"


def test_a_validation_side_far_away_is_harder_than_the_map():
    patches = sampled("random", seed=0, n=400)
    columns = patches.positions.column
    sides = np.where(columns > 280, VALIDATION, TRAIN).astype(np.int8)
    sides[(columns > 150) & (columns <= 280)] = 3
    split = Split(sides, np.arange(len(sides)), patches.fingerprint)
    found = checks(patches, split)["map-ground"]
    assert found.severity == "note"
    assert "map will be easier" in found.title


def test_ground_that_no_label_shows_is_seen_among_features(tmp_path):
    patches = bright_in_the_east(tmp_path)
    split = BlockSplit(block=200).assign(patches)
    found = checks(patches, split, origins=open_origins(patches))
    assert found["map-features"].severity == "warning"
    assert "map-features" not in checks(patches, split)  # nothing can be read
    west = write_raster(tmp_path / "west.tif", patches_of_the_west(tmp_path))
    found = checks(patches, split, to_map=open_to_map([west], patches))
    assert found["map-features"].severity == "note"


def patches_of_the_west(folder):
    import rasterio

    with rasterio.open(folder / "scene.tif") as scene:
        return scene.read()[:, :, :100]


def test_places_without_data_are_left_out(tmp_path):
    patches = bright_in_the_east(tmp_path)
    split = BlockSplit(block=200).assign(patches)
    pixels = patches_of_the_west(tmp_path)
    pixels[:, :, 40:] = np.nan
    half = write_raster(tmp_path / "half.tif", pixels)
    pixels[:] = np.nan
    empty = write_raster(tmp_path / "empty.tif", pixels)
    assert checks(patches, split, to_map=open_to_map([half], patches))
    assert checks(patches, split, to_map=open_to_map([empty], patches)) == {}
    small = write_raster(tmp_path / "small.tif", np.ones((2, 5, 5), np.float32))
    assert checks(patches, split, to_map=open_to_map([small], patches)) == {}


def test_another_volume_is_looked_at_among_features_alone(tmp_path):
    dice = np.random.default_rng(0)
    cube = dice.normal(size=(30, 40, 50)).astype(np.float32)
    labels = 1 + (np.indices(cube.shape)[1] > 20).astype(np.uint8)
    for name, samples in (("cube", cube), ("labels", labels), ("loud", 9 * cube)):
        np.save(tmp_path / f"{name}.npy", samples)
    patches = cut_volume(
        tmp_path / "cube.npy", tmp_path / "labels.npy", 1, 8, stride=7, slice_stride=3
    )
    split = BlockSplit(block=15).assign(patches)
    own = checks(patches, split, origins=open_origins(patches))
    assert set(own) == {"map-ground", "map-features"}
    assert own["map-features"].severity == "note"
    loud = checks(patches, split, to_map=open_to_map([tmp_path / "loud.npy"], patches))
    assert set(loud) == {"map-features"}
    assert loud["map-features"].severity == "warning"


def test_without_a_split_or_positions_there_is_nothing_to_say():
    patches = sampled("random", seed=0)
    assert checks(patches, None) == {}
    one_side = Split(np.zeros(len(patches), np.int8), np.arange(len(patches)), patches.fingerprint)
    assert checks(patches, one_side) == {}
