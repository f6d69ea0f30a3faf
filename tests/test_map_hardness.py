"""Difficulty of the map compared with validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree
from scipy.stats import wasserstein_distance

from outcrop.auditing.autocorrelation import (
    Autocorrelation,
    advise_blocks,
    lies_between,
    measure_residuals,
)
from outcrop.auditing.check import open_to_map
from outcrop.auditing.falloff import Bias, Falloff
from outcrop.auditing.spatial import AutocorrelationCheck
from outcrop.auditing.transfer import Distances, TransferCheck, _finding, compare_distances
from outcrop.patches.cut import cut
from outcrop.patches.cut_volume import cut_volume
from outcrop.splits import TRAIN, VALIDATION, BlockSplit, MatchingSplit, RandomSplit, Split
from outcrop.splits.geometry import coordinates, nearest, prediction_points
from tests.patches import found_by
from tests.rasters import write_raster
from tests.synthetic import smooth
from tests.test_matching import SIDE, sampled


def checks(patches, split, **given):
    return {f.check: f for f in found_by(TransferCheck, patches, split, **given)}


def in_space(patches, split, features):
    """The findings if the scenes cannot be read and these features are used."""
    return found_by(TransferCheck, patches, split, features=features, sources=())


def bright_in_the_east(folder, side=200):
    """A scene with labels only in the west; the east looks different."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(100, 10, (2, side, side)).astype(np.float32)
    pixels[:, :, side // 2 :] += 200
    labels = np.zeros((side, side), np.uint8)
    labels[4:-4:5, 4 : side // 2 - 4 : 5] = 1
    labels[6:-4:5, 6 : side // 2 - 4 : 5] = 2
    scene = write_raster(folder / "scene.tif", pixels)
    return cut(scene, write_raster(folder / "labels.tif", labels, nodata=0), size=8)


def test_w_is_the_distance_between_the_distributions():
    rng = np.random.default_rng(0)
    validation, wanted, train = rng.normal(size=(3, 60, 2)) + np.array([0, 2, 0])[:, None, None]
    found = compare_distances(validation, wanted, train)
    one = [np.hypot(*(train - x).T).min() for x in validation]
    other = [np.hypot(*(train - x).T).min() for x in wanted]
    np.testing.assert_allclose(found.validation, one)
    assert found.wasserstein == pytest.approx(wasserstein_distance(one, other))
    assert found.easier == pytest.approx(1 - np.mean(one) / np.mean(other))
    assert compare_distances(train, train, train).easier == 0


def labelled(kind, seed, n=300):
    """Patches of `sampled` with the classes of a smooth field with a range of 208 m."""
    patches = sampled(kind, seed, n)
    field = smooth(6, seed, (SIDE, SIDE))
    at = patches.positions.row, patches.positions.column
    classes = np.digitize(field, [-0.4, 0.4])
    labels, names = classes[at], ("a", "b", "c")
    return replace(patches, labels=labels, classes=names), field, classes


def interpolated(patches):
    """Features of a model that uses positions only."""
    return coordinates(patches.positions)


def points(found, model="forest on features", where="points"):
    return found.numbers[where][model]["value"]


@pytest.mark.parametrize("seed", range(2))
def test_a_random_split_of_clustered_patches_is_easier_than_the_map(seed):
    patches, _, classes = labelled("clustered", seed)
    split = RandomSplit().assign(patches)
    (found,) = in_space(patches, split, interpolated(patches))
    assert found.severity == "warning"
    assert found.title.startswith("the map is harder than validation by ")
    assert "--by matching" in found.remedy
    # The bias is that of the class of the nearest patch everywhere.
    at, points_of_map = coordinates(patches.positions), prediction_points(patches)
    train, held_out = split.train, split.validation
    labels = patches.labels[train]
    score = (labels[KDTree(at[train]).query(at[held_out])[1]] == patches.labels[held_out]).mean()
    truth = classes[tuple(points_of_map.pixel.T)]
    right = (labels[KDTree(at[train]).query(points_of_map.at)[1]] == truth).mean()
    assert points(found) == pytest.approx(100 * (score - right), abs=12)
    matched = MatchingSplit(n_splits=5).assign(patches)
    (other,) = in_space(patches, matched, interpolated(patches))
    assert other.numbers["wasserstein"] < 0.5 * found.numbers["wasserstein"]
    assert points(other) < points(found) / 2


def test_a_model_with_good_features_does_not_depend_on_distance():
    patches, field, _ = labelled("random", 0)
    split = BlockSplit(block=300, buffer=200).assign(patches)
    seen = field[patches.positions.row, patches.positions.column][:, None]
    (found,) = in_space(patches, split, seen)
    title = "the map is about as hard as validation, but easier than validation by"
    assert found.title.startswith(title)
    assert "for a model that interpolates" in found.title
    assert abs(points(found)) < 5
    assert points(found, "nearest patch on the ground") < -5
    (blind,) = in_space(patches, split, interpolated(patches))
    assert blind.title.startswith("the map is easier than validation by about ")
    # All patches are closer to the map than the training patches of one fold.
    assert points(blind, where="points_final") < points(blind) - 3


def test_a_map_far_from_all_labels_is_unknown_or_harder():
    patches, _, _ = labelled("random", 0)
    (found,) = in_space(
        crowded(patches), RandomSplit().assign(crowded(patches)), interpolated(crowded(patches))
    )
    assert found.severity == "warning"
    assert "further away than any held-out patch" in found.title
    assert found.title.startswith(("the map is of unknown difficulty", "the map is harder"))


def test_residuals_have_the_range_of_what_features_do_not_explain():
    patches, field, _ = labelled("random", 0, n=600)
    seen = field[patches.positions.row, patches.positions.column][:, None]
    blind = measure_residuals(patches, np.zeros((len(patches), 1)))
    assert 100 < blind.range < 500  # 208 m, of the field
    assert blind.gamma[0] < 0.6 * blind.gamma[-1]
    shuffled = np.random.default_rng(1).permutation(patches.labels)
    assert measure_residuals(replace(patches, labels=shuffled), seen).range == 0
    autocorrelation = Autocorrelation((blind,), None, "the scenes")
    (found,) = found_by(
        AutocorrelationCheck,
        patches,
        autocorrelation=autocorrelation,
        blocks=None,
        features=np.zeros((len(patches), 1)),
    )
    assert f"range of the residuals of a forest: {blind.range:.0f} m" in found.title
    assert "[" not in found.title  # brackets are 95 % intervals, and there is none here
    assert found.numbers["residuals"]["range"] == pytest.approx(blind.range, abs=0.01)
    one_class = replace(patches, labels=np.zeros_like(patches.labels))
    assert measure_residuals(one_class, seen) is None


def test_the_remedy_names_the_assumed_map_and_both_errors():
    patches, _, _ = labelled("random", 0, n=600)
    ranges = np.full(3, 208.0)
    advice = advise_blocks(patches, ranges)
    assert lies_between(patches, ranges)
    assert not lies_between(crowded(patches), ranges)
    elsewhere = replace(patches.sources[0], transform=(10.0, 0, 9e4, 0, -10.0, 0))
    assert not lies_between(patches, ranges, [elsewhere])
    assert lies_between(patches, np.full(3, np.nan)) is None
    wave = measure_residuals(patches, np.zeros((len(patches), 1)))
    autocorrelation = Autocorrelation((wave,), None, "the scenes")
    given = {"autocorrelation": autocorrelation, "blocks": advice}
    (inside,) = found_by(AutocorrelationCheck, patches, **given)
    (new,) = found_by(AutocorrelationCheck, crowded(patches), **given)
    for cited in ("Wadoux", "Roberts", "Ploton", "too low", "too high", "--by matching"):
        assert cited in inside.remedy
    assert "the map covers a new area" in new.remedy
    assert "too high" in new.remedy


def crowded(patches):
    """The patches in a corner of the scene."""
    at = patches.positions
    return patches.subset(np.flatnonzero((at.row < 100) & (at.column < 100)))


@pytest.mark.parametrize(("near", "words"), [
    (1.0, "the map is about as hard as validation"),
    (0.2, "the map is harder than validation for a model that interpolates"),
    (3.0, "the map is easier than validation for a model that interpolates"),
])  # fmt: skip
def test_without_a_bias_the_distances_decide(near, words):
    wanted = np.linspace(1, 9, 50)
    distances = Distances(near * wanted, wanted, float(np.mean(abs(near - 1) * wanted)))
    assert _finding("map-ground", distances, "m", {}, {}).title.split(":")[0] == words


curves = st.tuples(st.floats(0.2, 0.5), st.floats(0.0, 0.5), st.floats(2, 50))


def seen_by(curve, seed=0, n=6000):
    """Held-out patches with the accuracy of that curve."""
    floor, more, length = curve
    rng = np.random.default_rng(seed)
    distance = rng.gamma(1.0, 20.0, n)
    right = rng.random(n) < floor + more * np.exp(-distance / length)
    return Falloff(distance, right, rng.integers(0, 40, n))


@given(curves, st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_bias_is_that_of_the_curve(curve, seed):
    _, more, length = curve
    near, far = np.array([1.0, 4.0, 9.0]), np.array([20.0, 40.0, 60.0])
    true = 100 * more * (np.exp(-near / length).mean() - np.exp(-far / length).mean())
    found = seen_by(curve, seed).bias(near, far)
    assert found.value == pytest.approx(true, abs=5)
    assert found.low <= found.value <= found.high
    back = seen_by(curve, seed).bias(far, near)
    assert back.value == pytest.approx(-found.value)
    assert seen_by(curve, seed).bias(near, near).value == 0


def test_the_bias_has_an_interval_that_holds_it():
    curve, near, far = (0.4, 0.4, 15.0), np.array([5.0]), np.array([40.0])
    true = 40 * (np.exp(-5 / 15) - np.exp(-40 / 15))
    found = [seen_by(curve, seed, n=1500).bias(near, far) for seed in range(60)]
    assert np.mean([one.low <= true <= one.high for one in found]) >= 0.9


def test_verdicts():
    assert Bias(20, 15, 25).verdict == "harder"
    assert Bias(-20, -25, -15).verdict == "easier"
    assert Bias(2, -3, 7).verdict == "as hard"
    assert Bias(2, -13, 17).verdict == "unknown"
    # Pixels further away than any held-out patch may all be wrong.
    assert Bias(-20, -25, -15, beyond=0.5, worst=10).verdict == "unknown"
    assert Bias(2, -3, 7, beyond=0.5, worst=30).verdict == "unknown"
    assert Bias(20, 15, 25, beyond=0.5, worst=50).verdict == "harder"


def test_the_numbers_are_those_of_the_distributions():
    patches = sampled("clustered", seed=1)
    split = RandomSplit().assign(patches)
    numbers = checks(patches, split)["map-ground"].numbers
    at = coordinates(patches.positions)
    one = nearest(at[split.validation], at[split.train])
    other = nearest(prediction_points(patches, 1000).at, at[split.train])
    np.testing.assert_allclose(numbers["validation"], np.percentile(one, numbers["percent"]), 1e-3)
    np.testing.assert_allclose(numbers["wanted"], np.percentile(other, numbers["percent"]), 1e-3)
    assert numbers["wasserstein"] == pytest.approx(wasserstein_distance(one, other), rel=1e-3)


def test_a_map_between_regular_patches_is_as_hard_as_validation():
    patches = sampled("regular", seed=0)
    found = checks(patches, RandomSplit().assign(patches))["map-ground"]
    assert found.severity == "note"


def test_a_distant_validation_side_is_harder_than_the_map():
    patches, _, _ = labelled("random", seed=0, n=400)
    columns = patches.positions.column
    sides = np.where(columns > 280, VALIDATION, TRAIN).astype(np.int8)
    sides[(columns > 250) & (columns <= 280)] = 3
    split = Split(sides, np.arange(len(sides)), patches.fingerprint)
    (found,) = in_space(patches, split, interpolated(patches))
    assert found.severity == "note"
    assert "the map is easier" in found.title


def test_unlabelled_surfaces_are_found_in_feature_space(tmp_path):
    patches = bright_in_the_east(tmp_path)
    split = BlockSplit(block=200).assign(patches)
    found = checks(patches, split)
    assert found["map-features"].severity == "warning"
    assert "map-features" not in checks(patches, split, sources=())
    west = write_raster(tmp_path / "west.tif", patches_of_the_west(tmp_path))
    found = checks(patches, split, to_map=open_to_map([west], patches))
    assert found["map-features"].severity == "note"


def patches_of_the_west(folder):
    import rasterio

    with rasterio.open(folder / "scene.tif") as scene:
        return scene.read()[:, :, :100]


def test_pixels_without_data_are_left_out(tmp_path):
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


def test_another_volume_is_compared_in_feature_space_only(tmp_path):
    rng = np.random.default_rng(0)
    cube = rng.normal(size=(30, 40, 50)).astype(np.float32)
    labels = 1 + (np.indices(cube.shape)[1] > 20).astype(np.uint8)
    for name, samples in (("cube", cube), ("labels", labels), ("loud", 9 * cube)):
        np.save(tmp_path / f"{name}.npy", samples)
    patches = cut_volume(
        tmp_path / "cube.npy", tmp_path / "labels.npy", 1, 8, stride=7, slice_stride=3
    )
    split = BlockSplit(block=15).assign(patches)
    own = checks(patches, split)
    assert set(own) == {"map-ground", "map-features"}
    assert own["map-features"].severity == "note"
    loud = checks(patches, split, to_map=open_to_map([tmp_path / "loud.npy"], patches))
    assert set(loud) == {"map-features"}
    assert loud["map-features"].severity == "warning"


@pytest.mark.parametrize(
    "changed", [lambda images: images[..., ::-1], lambda images: 9 * images + 50]
)
def test_patches_with_other_values_than_their_source_are_named(tmp_path, changed):
    rng = np.random.default_rng(0)
    cube = rng.normal(size=(30, 40, 50)).astype(np.float32)
    np.save(tmp_path / "cube.npy", cube)
    np.save(tmp_path / "labels.npy", 1 + (np.indices(cube.shape)[1] > 20).astype(np.uint8))
    paths = tmp_path / "cube.npy", tmp_path / "labels.npy"
    patches = cut_volume(*paths, 1, 8, stride=7, slice_stride=3)
    patches = replace(patches, images=changed(patches.images))
    found = checks(patches, BlockSplit(block=15).assign(patches))
    if changed(np.ones((1, 1, 1, 1))).mean() == 1:
        assert set(found) == {"map-ground", "map-features"}
    else:
        assert set(found) == {"map-ground", "map-values"}
        assert "--patches-output" in found["map-values"].remedy


def test_without_a_split_or_a_side_there_is_no_finding():
    patches = sampled("random", seed=0)
    assert checks(patches, None) == {}
    one_side = Split(np.zeros(len(patches), np.int8), np.arange(len(patches)), patches.fingerprint)
    assert checks(patches, one_side) == {}
