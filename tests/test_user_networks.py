"""User networks and estimators: training, reading, comparison and maps."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from outcrop.errors import OutcropError
from outcrop.mapping.scene import map_scene
from outcrop.models import architectures
from outcrop.models.architectures import UserNet
from outcrop.models.baselines import BASELINES, Baseline
from outcrop.training.engine import train
from outcrop.training.export import export
from outcrop.training.fit import fit_classical
from outcrop.training.recipe import Machine, Recipe
from outcrop.training.run import read_run
from outcrop.workflow.compare import compare
from outcrop.workflow.evaluate import evaluate
from tests.command_line import run as outcrop
from tests.rasters import write_raster
from tests.tiny import PATCHES, SPLIT, weights

RECIPE = Recipe(epochs=2, batch=16, machine=Machine(device="cpu"))


def small(bands: int, classes: int) -> nn.Module:
    """A user network."""
    return nn.Sequential(
        nn.Conv2d(bands, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, classes),
    )


def lazy(bands: int, classes: int) -> nn.Module:
    """A user network with a lazy linear layer."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(PATCHES, SPLIT, tmp_path_factory.mktemp("user") / "run", small, RECIPE)


def test_a_run_is_read_again_where_its_function_was_named(trained, monkeypatch):
    again = read_run(trained.folder, "cpu")
    images = PATCHES.take(np.arange(9))
    np.testing.assert_array_equal(
        again.model.predict_proba(images), trained.model.predict_proba(images)
    )
    likely, features = again.model.probabilities_and_features(images)
    assert (likely.shape, features.shape) == ((9, 3), (9, 6))
    monkeypatch.setattr(architectures, "_named_here", {})
    with pytest.raises(OutcropError, match=r"pass it again: `outcrop.UserNet.of.*:small"):
        read_run(trained.folder, "cpu")
    UserNet.of(small)
    assert read_run(trained.folder, "cpu").model.identity == trained.model.identity


def test_a_training_that_was_stopped_ends_with_the_same_weights(trained, tmp_path):
    short = train(PATCHES, SPLIT, tmp_path / "a", small, RECIPE)
    for name, tensor in weights(trained).items():
        assert torch.equal(tensor, weights(short)[name]), name


@pytest.mark.parametrize("module", [lazy, small(2, 3)], ids=["lazy", "module"])
def test_modules_of_other_kinds(module, tmp_path):
    run = train(PATCHES, SPLIT, tmp_path / "run", module, RECIPE)
    assert evaluate(run, PATCHES).scores.confusion.sum() == len(PATCHES)


def test_bands_in_another_order(trained):
    images = PATCHES.take(np.arange(9))
    turned = trained.model.in_order([1, 0])
    np.testing.assert_allclose(
        turned.predict_proba(images[:, ::-1]), trained.model.predict_proba(images), atol=1e-6
    )


def test_mapped_patch_by_patch_and_exported(trained, tmp_path):
    pixels = np.random.default_rng(1).normal(130, 40, (2, 15, 17)).round().clip(1, 255)
    scene = write_raster(tmp_path / "scene.tif", pixels.astype("uint8"))
    map_scene(trained, scene, tmp_path / "map.tif")
    padded = np.pad(pixels.astype("float32"), ((0, 0), (8, 8), (8, 8)), mode="reflect")
    rows, columns = np.indices((15, 17)).reshape(2, -1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (8, 8), axis=(1, 2))
    images = windows[:, rows + 4, columns + 4].swapaxes(0, 1)
    likely = np.sort(trained.model.predict_proba(images), axis=1)
    expected = trained.model.predict_proba(images).argmax(axis=1) + 1
    clear = likely[:, -1] - likely[:, -2] > 1e-4
    with rasterio.open(tmp_path / "map.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1).ravel()[clear], expected[clear])
    export(trained, tmp_path / "model.pt2")
    assert (tmp_path / "model.pt2").exists()


def other_classes(bands: int, classes: int) -> nn.Module:
    return small(bands, classes + 1)


def no_module(bands: int, classes: int) -> list:
    return []


def fails(bands: int, classes: int) -> nn.Module:
    raise RuntimeError("no weights here")


def too_large(bands: int, classes: int) -> nn.Module:
    return nn.Conv2d(bands, classes, 31)


class OfNaN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.mean(dim=(1, 2, 3))[:, None]) * torch.nan


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (other_classes, r"gives \(2, 4\) where logits \(2, 3\) are wanted"),
        (no_module, "returns a list; let it return a torch.nn.Module"),
        (fails, "failed with 2 bands and 3 classes: no weights here"),
        (too_large, r"fails on images \(2, 2, 8, 8\)"),
        (OfNaN(), "the loss is no longer a number"),
        (UserNet("no.such:thing"), "no.such:thing cannot be imported"),
        (UserNet("math:pi"), "is no function"),
    ],
    ids=lambda value: getattr(value, "__name__", "case"),
)
def test_unsuitable_modules_are_refused_in_one_line(network, words, tmp_path):
    with pytest.raises(OutcropError, match=words):
        train(PATCHES, SPLIT, tmp_path / "run", network, RECIPE)
    assert not (tmp_path / "run").exists() or isinstance(network, OfNaN)


def test_an_estimator_of_scikit_learn_takes_part(tmp_path):
    near = Baseline("neighbours", "centre pixel", KNeighborsClassifier(3))
    run = fit_classical(PATCHES, SPLIT, tmp_path / "run", near)
    again = read_run(tmp_path / "run")
    images = PATCHES.take(np.arange(9))
    np.testing.assert_array_equal(
        again.model.predict_proba(images), run.model.predict_proba(images)
    )


def test_estimators_and_modules_take_part_in_training_comparing_and_mapping(tmp_path):
    near = KNeighborsClassifier(3)
    run = train(PATCHES, SPLIT, tmp_path / "near", near, Recipe(seed=2))
    assert run.model.title == "KNeighborsClassifier, centre pixel"
    found = compare(
        PATCHES, SPLIT, tmp_path / "c", small, RECIPE, baselines=[near, BASELINES[0]], workers=1
    )
    assert {row.title for row in found.rows} == {
        f"{__name__}:small, patch",
        "KNeighborsClassifier, centre pixel",
        BASELINES[0].name + ", " + BASELINES[0].features,
    }
    pixels = np.random.default_rng(1).normal(130, 40, (2, 15, 17)).round().clip(1, 255)
    scene = write_raster(tmp_path / "scene.tif", pixels.astype("uint8"))
    map_scene(run, scene, tmp_path / "map.tif")
    expected = run.model.fitted.estimator.predict(pixels.reshape(2, -1).T) + 1
    with rasterio.open(tmp_path / "map.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1).ravel(), expected)


def test_by_name_on_the_command_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def make(bands, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))\n"
    )
    PATCHES.save("p.zarr")
    SPLIT.save("s.json")
    options = "--split s.json --epochs 1 --batch 16 --device cpu -o r"
    assert outcrop(f"train p.zarr --network mine:make {options}") == 0
    assert outcrop("evaluate r p.zarr --network mine:make --device cpu") == 0
    capfd.readouterr()
    monkeypatch.setattr(architectures, "_named_here", {})
    assert outcrop("evaluate r p.zarr --device cpu") == 2
    assert "pass it again: --network mine:make" in capfd.readouterr().err
    assert outcrop("train p.zarr --network mine:make --depth 8 --split s.json -o x") == 2
    assert "--depth: has no meaning beside --network mine:make" in capfd.readouterr().err
