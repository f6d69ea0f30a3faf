"""Classical models as runs: written, read, evaluated, compared, in ensembles and maps."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from scipy.spatial.distance import cdist

from outcrop.errors import OutcropError
from outcrop.mapping.scene import map_scene
from outcrop.models import baselines
from outcrop.models.baselines import BASELINES
from outcrop.patches.patchset import PatchSet
from outcrop.splits.folds import Folds
from outcrop.splits.split import Split
from outcrop.training.classical import ClassicalModel
from outcrop.training.classical_module import ClassicalModule
from outcrop.training.export import export
from outcrop.training.fit import fit_classical
from outcrop.training.run import network_of, read_model, read_run
from outcrop.workflow.compare_runs import compare_runs
from outcrop.workflow.evaluate import evaluate
from tests.rasters import write_raster
from tests.tiny import CLASSES, PATCHES, SPLIT

BY_TITLE = {f"{one.name}, {one.features}": one for one in BASELINES}
SMALL_FOREST = replace(baselines._RECIPES["random forest"], final={"n_estimators": 20})
TREE, SVM = BY_TITLE["decision tree, centre pixel"], BY_TITLE["SVM, patch statistics"]


@pytest.fixture(scope="module", autouse=True)
def _untuned():
    """Without tuning and with small forests, to save time; tuning has its own tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(baselines._RECIPES, "random forest", SMALL_FOREST)
        patch.setattr(baselines, "spatial_folds", lambda *_: [])
        yield


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return fit_classical(PATCHES, SPLIT, tmp_path_factory.mktemp("tree") / "run", TREE, seed=3)


@pytest.mark.parametrize("baseline", BASELINES, ids=BY_TITLE)
def test_a_run_predicts_the_same_when_it_is_read_again(tmp_path, baseline):
    made = fit_classical(PATCHES, SPLIT, tmp_path / "run", baseline)
    read = read_run(tmp_path / "run")
    images = PATCHES.take(np.arange(20))
    np.testing.assert_array_equal(
        made.model.predict_proba(images), read.model.predict_proba(images)
    )
    np.testing.assert_allclose(read.model.predict_proba(images).sum(axis=1), 1, rtol=1e-5)
    assert read.model.title == f"{baseline.name}, {baseline.features}"
    assert read.scores.overall.value > 0.5
    assert (
        read.applicability.references.shape[1]
        == read.model.probabilities_and_features(images)[1].shape[1]
    )
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "split.json", "predictions.npz", "trust.safetensors", "model.json",
        "model.skops",
    }  # fmt: skip


def test_an_existing_run_is_returned_or_refused(tree):
    again = fit_classical(PATCHES, SPLIT, tree.folder, TREE, seed=3, resume=True)
    assert again.model.identity == tree.model.identity
    with pytest.raises(OutcropError, match=r"classical\.seed was 3, is 4"):
        fit_classical(PATCHES, SPLIT, tree.folder, TREE, seed=4, resume=True)
    with pytest.raises(OutcropError, match="`resume=True`"):
        fit_classical(PATCHES, SPLIT, tree.folder, TREE)


def test_a_classical_run_is_refused_where_a_network_is_needed(tree):
    with pytest.raises(
        OutcropError, match="is a run of decision tree, centre pixel, and a network"
    ):
        network_of(tree)


def test_a_file_of_another_model_is_refused(tree, tmp_path):
    other = fit_classical(PATCHES, SPLIT, tmp_path / "run", SVM)
    content = (tree.folder / "model.skops").read_bytes()
    (other.folder / "model.skops").write_bytes(content)
    with pytest.raises(OutcropError, match=r"model\.skops"):
        read_model(other.folder)


def test_bands_in_another_order(tree):
    images = PATCHES.take(np.arange(30))
    turned = tree.model.in_order([1, 0])
    assert turned.bands == PATCHES.bands[::-1]
    np.testing.assert_array_equal(
        turned.predict_proba(images[:, ::-1]), tree.model.predict_proba(images)
    )
    assert turned.in_order([1, 0]).bands == PATCHES.bands


def test_evaluated_and_compared_beside_a_network(tree, run, tmp_path):
    found = evaluate(tree, PATCHES)
    truth = PATCHES.labels
    said = tree.model.predict_proba(PATCHES.take(np.arange(len(PATCHES)))).argmax(axis=1)
    assert found.scores.overall.value == pytest.approx((said == truth).mean())
    assert found.applicability is not None
    svm = fit_classical(PATCHES, SPLIT, tmp_path / "svm", SVM)
    comparison = compare_runs(PATCHES, SPLIT, [tree.folder, svm.folder], tmp_path / "compared")
    assert {row.model for row in comparison.rows} == {
        "decision tree, centre pixel", "SVM, patch statistics"
    }  # fmt: skip


@pytest.fixture
def scene(tmp_path):
    """Two bands with two pixels of no data."""
    pixels = np.random.default_rng(1).normal(130, 40, (2, 37, 53)).round().clip(1, 255)
    pixels[:, 6, 31] = pixels[1, 20, 3] = 0
    path = write_raster(tmp_path / "scene.tif", pixels.astype("uint8"), nodata=0)
    return path


def around(scene_path, size):
    """The patch of every pixel, as `cut` gives it, and which pixels have data."""
    with rasterio.open(scene_path) as dataset:
        pixels = dataset.read().astype("float32")
    pixels[pixels == 0] = np.nan
    rows, columns = np.indices(pixels.shape[1:]).reshape(2, -1)
    padded = np.pad(pixels, ((0, 0), (size, size), (size, size)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    top, left = rows - size // 2 + size, columns - size // 2 + size
    return windows[:, top, left].swapaxes(0, 1), np.isfinite(pixels).all(axis=0)


@pytest.mark.parametrize("size", [5, 8])
@pytest.mark.parametrize("baseline", BASELINES, ids=BY_TITLE)
def test_a_map_has_the_classes_of_the_patches(tmp_path, scene, baseline, size):
    inner = PATCHES.take(np.arange(len(PATCHES)))[:, :, :size, :size]
    patches = PatchSet(inner, PATCHES.labels, PATCHES.classes, PATCHES.bands)
    split = replace(SPLIT, fingerprint=patches.fingerprint)
    run = fit_classical(patches, split, tmp_path / "run", baseline)
    map_scene(
        run, scene, tmp_path / "map.tif", tmp_path / "sure.tif", dissimilarity=tmp_path / "far.tif"
    )
    images, valid = around(scene, size)
    likely, features = run.model.probabilities_and_features(images)
    expected = np.where(valid, likely.argmax(axis=1).reshape(valid.shape) + 1, 0)
    with rasterio.open(tmp_path / "map.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)
    far = run.applicability.dissimilarity(features).reshape(valid.shape) / (
        run.applicability.threshold or 1
    )
    with rasterio.open(tmp_path / "far.tif") as dataset:
        found = dataset.read(1).astype(float)
    outside = valid & (far < 2.5)
    np.testing.assert_allclose(found[outside], 100 * far[outside], atol=1.1)


def test_an_ensemble_of_a_forest_and_a_network(tmp_path, scene, tree, run):
    map_scene([tree, run.classifier], scene, tmp_path / "map.tif")
    images, valid = around(scene, run.classifier.size[0])
    mean = (tree.model.predict_proba(images) + run.classifier.predict_proba(images)) / 2
    with rasterio.open(tmp_path / "map.tif") as dataset:
        found = dataset.read(1)
    likely = mean.reshape(*valid.shape, -1)
    clear = np.sort(likely, axis=2)[..., -1] - np.sort(likely, axis=2)[..., -2] > 1e-4
    expected = likely.argmax(axis=2) + 1
    np.testing.assert_array_equal(found[valid & clear], expected[valid & clear])
    assert (found[~valid] == 0).all()


def test_turned_pictures_of_patch_statistics(tmp_path, scene):
    run = fit_classical(PATCHES, SPLIT, tmp_path / "run", SVM)
    map_scene(run, scene, tmp_path / "map.tif", tta=True)
    map_scene(run, scene, tmp_path / "coarse.tif", step=3)
    with rasterio.open(tmp_path / "coarse.tif") as dataset:
        assert (dataset.read(1)[:3, :3] == dataset.read(1)[1, 1]).all()


@pytest.mark.parametrize("baseline", [TREE, SVM], ids=["tree", "SVM"])
def test_pixels_of_no_data_count_as_the_mean(tmp_path, baseline):
    run = fit_classical(PATCHES, SPLIT, tmp_path / "run", baseline)
    images = PATCHES.take(np.arange(4)).astype("float32")
    images[1, 0, 4, 4], images[2, 0, 4, 4], images[3] = np.nan, np.inf, -np.inf
    likely, features = run.model.probabilities_and_features(images)
    assert np.isfinite(likely).all()
    assert np.isfinite(features).all()
    train = PATCHES.take(SPLIT.train)
    np.testing.assert_allclose(features[1:, 0], train[:, 0, 4, 4].mean(), rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("baseline", BASELINES, ids=BY_TITLE)
def test_the_exported_module_predicts_the_same(tmp_path, baseline, classes):
    few = np.flatnonzero(PATCHES.labels < classes)
    patches = PatchSet(PATCHES.take(few), PATCHES.labels[few], CLASSES, PATCHES.bands)
    split = Split(SPLIT.sides[few], np.arange(len(few)), patches.fingerprint)
    model = fit_classical(patches, split, tmp_path / "run", baseline).model.in_order([1, 0])
    images = np.random.default_rng(2).normal(120, 60, (50, 2, 8, 8)).astype("float32")
    images[5, :, 2] = np.nan
    module = ClassicalModule(model).eval()
    found = module(torch.from_numpy(images)).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, model.predict_proba(images), atol=2e-5)


def test_maximum_likelihood_on_many_features_uses_principal_components(tmp_path):
    images = np.repeat(PATCHES.take(np.arange(len(PATCHES))), 9, axis=1)
    bands = tuple(f"band {number}" for number in range(18))
    patches = PatchSet(images, PATCHES.labels, CLASSES, bands)
    split = replace(SPLIT, fingerprint=patches.fingerprint)
    likely = BY_TITLE["maximum likelihood, patch statistics"]
    made = fit_classical(patches, split, tmp_path / "run", likely).model
    assert made.fitted.width > 256
    assert made.fitted.estimator["components"].n_components_ <= 100
    read = read_model(tmp_path / "run")
    some = patches.take(np.arange(20))
    np.testing.assert_array_equal(read.predict_proba(some), made.predict_proba(some))
    module = ClassicalModule(made).eval()
    found = module(torch.from_numpy(some.astype("float32"))).softmax(dim=1).numpy()
    np.testing.assert_allclose(found, made.predict_proba(some), atol=1e-4)


@pytest.mark.parametrize("name", ["forest.onnx", "forest.pt2"])
def test_a_forest_is_exported(tmp_path, name):
    forest = BY_TITLE["random forest, patch statistics"]
    run = fit_classical(PATCHES, SPLIT, tmp_path / "run", forest)
    export(run, tmp_path / name)
    assert (tmp_path / name).stat().st_size > 10_000


def test_the_description_is_plain_json(tree):
    content = json.loads((tree.folder / "model.json").read_text())
    assert content["classes"] == list(PATCHES.classes)
    assert isinstance(tree.model, ClassicalModel)


def test_the_area_of_applicability_weights_features_by_importance_and_uses_the_folds(tmp_path):
    n = len(PATCHES)
    sides = (np.arange(n) % 3 != np.arange(3)[:, None]).astype(np.int8) ^ 1
    folds = Folds(tuple(Split(one, np.arange(n), PATCHES.fingerprint) for one in sides))
    every = Split(np.zeros(n, np.int8), np.arange(n), PATCHES.fingerprint)
    run = fit_classical(PATCHES, every, tmp_path / "run", TREE, folds=folds)
    area, importances = run.applicability, run.model.fitted.importances
    np.testing.assert_allclose(area.weights, importances / importances.max(), rtol=1e-6)
    features = area.references.numpy()
    expected = [
        cdist(features[one.validation], features[one.train]).min(axis=1) for one in folds.splits
    ]
    np.testing.assert_allclose(
        area.held_out, np.concatenate(expected) / area.mean_distance, atol=1e-3
    )
