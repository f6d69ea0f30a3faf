"""The leak gap of the audit: random splits compared with spatial splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier

from outcrop.auditing.audit import audit
from outcrop.auditing.autocorrelation import Blocks, advise_blocks
from outcrop.auditing.leak import (
    LeakGapCheck,
    NetworkGapCheck,
    measure_leak,
    probed_splits,
    random_trees,
)
from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.models.features import centre, statistics
from outcrop.patches.cut import cut
from outcrop.splits import (
    BUFFER,
    TRAIN,
    VALIDATION,
    BlockSplit,
    RandomSplit,
    Split,
    random_counterpart,
    random_counterparts,
)
from outcrop.synthetic.coast import make_coast
from outcrop.training.recipe import Machine, Recipe
from tests.patches import found_by
from tests.shared import DATA, needs_shared
from tests.synthetic import cut_scene
from tests.test_compare import leaky_patches
from tests.tiny import some_patches

BLOCKS = Blocks(block=1000.0, buffer=0.0, unit="m", wide=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One thread is faster for networks as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def leaky():
    return leaky_patches(each=5)


def leak_of(patches, split, blocks=BLOCKS):
    (found,) = found_by(LeakGapCheck, patches, split, blocks=blocks)
    return found


def test_a_leak_is_critical_if_the_split_is_random(leaky):
    found = leak_of(leaky, RandomSplit().assign(leaky))
    assert found.severity == "critical"
    assert found.numbers["random"]["value"] > 0.75
    assert found.numbers["ground"]["value"] < 0.6
    assert found.numbers["folds"] == 5
    assert "outcrop split --block 1000 --buffer 0" in found.remedy


def test_a_leak_is_a_note_if_the_split_is_spatial_or_missing(leaky):
    ground = leak_of(leaky, BlockSplit(block=1000).assign(leaky))
    assert (ground.severity, ground.remedy) == ("note", "")
    assert ground.numbers["folds"] == 1
    nothing = leak_of(leaky, None)
    assert nothing.severity == "note"
    assert "outcrop split" in nothing.remedy


def test_patches_without_autocorrelation_do_not_leak():
    rng = np.random.default_rng(0)
    row, column = rng.permutation(np.mgrid[10:290:14, 10:290:14].reshape(2, -1), axis=1)
    labels = np.arange(len(row)) % 2
    patches = cut_scene(rng.normal(size=(300, 300)), row, column, labels)
    patches.images[labels == 1] *= 1.3
    found = leak_of(patches, RandomSplit().assign(patches), advise_blocks(patches))
    assert found.severity == "note"
    assert abs(found.numbers["gap"]["value"]) < 0.06


def test_the_gap_agrees_with_its_definition(leaky):
    split = BlockSplit(block=1000, random_state=3).assign(leaky)
    features = statistics(leaky.images)
    random = random_counterparts(leaky, split, 5, 0)

    def right(*splits):
        found = 0
        for one in splits:
            trained = np.random.default_rng(0).permutation(one.train)
            model = ExtraTreesClassifier(50, random_state=0)
            model.fit(features[trained], leaky.labels[trained])
            found += (model.predict(features[one.validation]) == leaky.labels[one.validation]).sum()
        return found / len(split.validation)

    leak = measure_leak(leaky, [split], random_trees(leaky, features))
    assert leak.random.value == pytest.approx(right(*random))
    assert leak.spatial.value == pytest.approx(right(split))
    assert leak.gap.value == pytest.approx(right(*random) - right(split))
    assert leak.gap.low < leak.gap.value < leak.gap.high


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_random_counterparts_hold_out_the_patches_of_the_spatial_split(leaky, parts):
    split = BlockSplit(block=1000, buffer=150, random_state=3).assign(leaky)
    made = random_counterparts(leaky, split, parts)
    held_out = np.sort(np.concatenate([one.validation for one in made]))
    np.testing.assert_array_equal(held_out, split.validation)
    used = np.concatenate([split.train, split.validation])
    for one in made:
        assert len(one.train) == len(split.train)
        assert not one.spatial
        assert np.isin(one.train, used).all()
        if parts > 1:
            assert np.isin(one.train, split.validation).any()


def test_folds_hold_out_every_patch_once_and_no_group_twice(leaky):
    folds = probed_splits(leaky, None, BLOCKS)
    assert len(folds) == 5
    held_out = np.sort(np.concatenate([fold.validation for fold in folds]))
    np.testing.assert_array_equal(held_out, np.arange(len(leaky)))
    for fold in folds:
        assert not np.isin(fold.groups[fold.validation], fold.groups[fold.train]).any()


def test_the_same_seed_gives_the_same_gap(leaky):
    one, other = (leak_of(leaky, None).numbers for _ in range(2))
    assert one == other


def test_without_positions_or_blocks_there_is_no_leak_gap(leaky):
    patches = some_patches()
    assert found_by(LeakGapCheck, patches, blocks=None) == []
    assert found_by(LeakGapCheck, leaky, RandomSplit().assign(leaky), blocks=None) == []
    # Folds with fewer patches on a side than classes have no random counterpart.
    few = leaky.subset(np.arange(12))
    assert found_by(LeakGapCheck, few, blocks=BLOCKS) == []


def test_a_coast_leaks_under_a_random_split(tmp_path):
    coast = make_coast(tmp_path / "coast", images=2, size=300, seed=1)
    patches = cut(coast.scenes, coast.labels, "class", 16, stride=4)
    ground = BlockSplit(block=640, buffer=160).assign(patches)
    at_random = leak_of(patches, random_counterpart(patches, ground), Blocks(640, 160, "m", True))
    assert at_random.severity == "critical"
    assert at_random.numbers["gap"]["low"] > 0.05
    (spatial,) = found_by(LeakGapCheck, patches, ground, blocks=None)
    assert spatial.severity == "note"
    assert spatial.numbers["gap"]["value"] > 0


@needs_shared
def test_landsat_pixels_leak_as_much_as_is_normal():
    # From its README: centre pixels, 75 to 83 % with random folds and 62 to 72 % with folds of
    # labelled polygons, a difference of about ten points.
    bands = [DATA / f"nc_landsat/lsat7_2000_{band}.tif" for band in (10, 20, 30, 40, 50, 70)]
    patches = cut(bands, DATA / "nc_landsat/landsat96_labelled_pixels.tif", size=1)
    folds = probed_splits(patches, None, Blocks(1.0, 0.0, "m", True))
    leak = measure_leak(patches, folds, random_trees(patches, centre(patches.images)))
    assert 0.75 < leak.random.value < 0.86
    assert 0.62 < leak.spatial.value < 0.76
    assert 0.05 < leak.gap.value < 0.15


def test_the_leak_gap_of_a_network_is_found(leaky):
    recipe = Recipe(epochs=6, batch=32, machine=Machine(device="cpu", precision="32-true"))
    network = ResidualNet(depth=8, width=4)
    split = RandomSplit().assign(leaky)
    given = {"blocks": BLOCKS, "network": network, "recipe": recipe}
    (found,) = found_by(NetworkGapCheck, leaky, split, **given)
    assert found.check == "network-gap"
    assert found.numbers["model"] == "ResNet-8"
    assert found.numbers["folds"] == 1
    assert found.numbers["random"]["value"] > found.numbers["ground"]["value"]
    (again,) = found_by(NetworkGapCheck, leaky, split, **given)
    assert again.numbers == found.numbers


def test_a_network_needs_positions():
    with pytest.raises(OutcropError, match="`network`: needs positions"):
        audit(some_patches(), network=ResidualNet(depth=8, width=4))


def test_classes_without_training_patches_do_not_count_as_a_leak(leaky):
    sides = np.where(leaky.positions.polygon < 20, VALIDATION, TRAIN).astype(np.int8)
    sides[(leaky.labels == 2) & (sides == TRAIN)] = BUFFER
    split = Split(sides, leaky.positions.polygon, leaky.fingerprint)

    def perfect_for_trained_classes(one):
        truth = leaky.labels[one.validation]
        return np.where(np.isin(truth, leaky.labels[one.train]), truth, 0)

    leak = measure_leak(leaky, [split], perfect_for_trained_classes)
    assert leak.random.value == leak.spatial.value == 1
