from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.models.baselines import Baseline
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source, scene_positions
from outcrop.splits import BlockSplit, RandomSplit, random_counterpart
from outcrop.training.recipe import Recipe, Tuning
from outcrop.workflow import compare as comparing
from outcrop.workflow import trials
from outcrop.workflow.comparison import read_comparison

# Without tuning, which tests/test_tuning.py tests.
compare = partial(comparing.compare, tuning=Tuning(0))
NETWORK = ResidualNet(depth=8, width=4)
RECIPE = Recipe(epochs=2, batch=64)


def leaky_patches(polygons=60, each=8, tint=60.0, seed=0, side=6):
    """Patches of one polygon share a tint that is stronger than the difference of the classes."""
    rng = np.random.default_rng(seed)
    polygon = np.repeat(np.arange(polygons), each)
    labels = polygon % 3
    tints = rng.normal(0, tint, (polygons, 2))
    values = 100 + 12.0 * labels[:, None] + tints[polygon]
    pixels = values[..., None, None] + rng.normal(0, 2, (len(polygon), 2, side, side))
    n = len(polygon)
    return PatchSet(
        images=pixels.astype(np.float32),
        labels=labels,
        classes=("a", "b", "c"),
        bands=("red", "green"),
        positions=scene_positions(
            source=0,
            row=np.arange(n),
            column=np.zeros(n),
            x=polygon % 10 * 1000.0 + rng.uniform(0, 50, n),
            y=polygon // 10 * 1000.0 + rng.uniform(0, 50, n),
            width=60.0,
            height=60.0,
            polygon=polygon,
        ),
        sources=(Source("s.tif", (9, 9), "EPSG:32648", (10.0, 0, 0, 0, -10.0, 0)),),
        crs="EPSG:32648",
    )


# One that is tuned, and one of a given estimator: to tune a forest takes 10 s.
FEW = (
    Baseline("decision tree", "centre pixel"),
    Baseline("random forest", "patch statistics", RandomForestClassifier(20)),
)


@pytest.fixture(autouse=True)
def few_baselines(monkeypatch):
    monkeypatch.setattr(comparing, "BASELINES", FEW)


@pytest.fixture(scope="module")
def patches():
    return leaky_patches()


@pytest.fixture(scope="module")
def split(patches):
    return BlockSplit(block=1000, buffer=60).assign(patches)


@pytest.fixture(scope="module")
def whole(patches, split, tmp_path_factory):
    """A finished comparison, not to be changed, and its folder."""
    folder = tmp_path_factory.mktemp("compare") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "BASELINES", FEW)
        return compare(patches, split, folder, NETWORK, RECIPE), folder


def test_the_leak_gap_of_autocorrelated_patches_is_found(patches, whole):
    comparison, folder = whole
    assert {row.title for row in comparison.rows} == {
        "decision tree, centre pixel",
        "random forest, patch statistics",
        "ResNet-8, patch",
    }
    for row in comparison.rows:
        if row.model != "ResNet-8":
            assert row.gap.value > 0.2
            assert row.gap.low > 0
            assert row.gap.value == pytest.approx(
                row.random.overall.value - row.scores.overall.value
            )
    balanced = [row.scores.balanced.value for row in comparison.rows]
    assert balanced == sorted(balanced, reverse=True)
    content = json.loads((folder / "comparison.json").read_text())
    again = read_comparison(folder)
    assert [row.scores.overall for row in again.rows] == [
        row.scores.overall for row in comparison.rows
    ]
    assert np.array_equal(again.counts, comparison.counts)
    assert content["rows"][0]["model"] == comparison.rows[0].model
    with np.load(folder / "predictions.npz", allow_pickle=False) as said:
        truth = said["truth"]
        assert np.array_equal(truth, patches.labels[said["index"]])
        for row in comparison.rows:
            right = (said[row.title] == truth).mean()
            assert right == pytest.approx(row.scores.overall.value)


def test_validation_images_do_not_affect_training(patches, split, whole, tmp_path):
    one, folder = whole
    spoiled = patches.images.copy()
    spoiled[split.validation] = 1e4
    other = replace(patches, images=spoiled)
    same = replace(split, fingerprint=other.fingerprint)
    two = compare(other, same, tmp_path / "two", NETWORK, RECIPE)
    settings = [{row.title: row.settings for row in c.rows} for c in (one, two)]
    assert settings[0] == settings[1]
    weights = [
        (one_of / "network" / "model.safetensors").read_bytes()
        for one_of in (folder, tmp_path / "two")
    ]
    assert weights[0] == weights[1]


def test_a_random_split_has_no_leak_gap(patches, tmp_path):
    split = RandomSplit().assign(patches)
    comparison = compare(patches, split, tmp_path / "c", NETWORK, RECIPE)
    assert all(row.gap is None and row.random is None for row in comparison.rows)
    assert read_comparison(tmp_path / "c").rows[0].gap is None


def test_the_random_counterpart_uses_the_same_patches_in_the_same_numbers(patches):
    split = BlockSplit(block=1000, buffer=60).assign(patches)
    random = random_counterpart(patches, split, seed=3)
    assert not random.spatial
    assert (len(random.train), len(random.validation)) == (len(split.train), len(split.validation))
    assert set(random.train) | set(random.validation) == set(split.train) | set(split.validation)
    assert np.array_equal(random.groups, split.groups)
    shares = [
        np.bincount(patches.labels[side]) / len(side) for side in (random.train, random.validation)
    ]
    assert np.allclose(*shares, atol=0.02)


def test_an_interrupted_comparison_is_resumed(patches, split, whole, tmp_path, monkeypatch):
    real = trials.train

    def stop_at_second(patches, split, folder, *how, **more):
        if folder.name == "network-random":
            raise KeyboardInterrupt
        return real(patches, split, folder, *how, **more)

    monkeypatch.setattr(trials, "train", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        compare(patches, split, tmp_path / "c", NETWORK, RECIPE)
    with pytest.raises(OutcropError, match="exists already"):
        compare(patches, split, tmp_path / "c", NETWORK, RECIPE)
    monkeypatch.setattr(trials, "train", real)
    again = compare(patches, split, tmp_path / "c", NETWORK, RECIPE, resume=True)
    assert [r.scores.overall for r in again.rows] == [r.scores.overall for r in whole[0].rows]


def test_foreign_files_raise_an_error(tmp_path):
    with pytest.raises(OutcropError, match="no such comparison"):
        read_comparison(tmp_path)
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(OutcropError, match="is not a comparison"):
        read_comparison(tmp_path)
