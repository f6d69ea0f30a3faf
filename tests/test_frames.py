"""Results as tables, in one line, and in a notebook."""

from __future__ import annotations

import base64
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import outcrop as oc
from outcrop.mapping.scene import MappedScene
from outcrop.splits import Folds
from outcrop.workflow.experiment import Results
from tests.patches import noise, patch_set
from tests.rasters import tagged


@pytest.fixture(scope="module")
def patches():
    images = noise(80, bands=2, size=9)
    images[::2] += 1
    return patch_set(images, np.arange(80) % 2)


@pytest.fixture
def class_map(tmp_path):
    return tagged(tmp_path / "map.tif", [[1, 1, 2], [2, 1, 0]], ["<rice>", "water"])


def test_scores_have_a_row_per_class():
    truth = np.array([0, 0, 1, 1, 1, 0, 1, 0])
    found = oc.score(truth, np.array([0, 0, 1, 1, 0, 0, 1, 1]), ("a", "b"), np.arange(8) // 2)
    frame = found.to_frame()
    assert frame.index.tolist() == ["a", "b"]
    assert frame.loc["a", "recall"] == pytest.approx(3 / 4)
    assert frame.loc["b", "precision"] == pytest.approx(3 / 4)
    assert (frame["recall_low"] < frame["recall"]).all()
    assert frame["patches"].sum() == 8
    assert repr(found).startswith("Scores(overall 75.0 % [")
    assert "<table" in found._repr_html_()


def test_comparison_and_results_have_a_row_per_model(patches, class_map, tmp_path):
    network = oc.MultiScaleNet(hidden=4, views=("pixel",))
    split = oc.RandomSplit().assign(patches)
    found = oc.compare(patches, split, tmp_path / "c", network, oc.Recipe(epochs=1), workers=1,
                       baselines=[oc.BASELINES[0]], tuning=oc.Tuning(0))  # fmt: skip
    frame = found.to_frame()
    assert len(frame) == 2
    assert frame["balanced"].is_monotonic_decreasing
    assert frame["leak_gap"].isna().all()
    assert repr(found).startswith("Comparison(2 models, one random fold; recommended: ")
    html = found._repr_html_()
    assert "<table" in html
    assert found.recommendation in html
    run = SimpleNamespace(model=SimpleNamespace(title="ResNet-8"))
    results = Results(tmp_path, patches, Folds((split,)), found, run, {"map": class_map}, {})
    assert results.to_frame().equals(frame)
    assert repr(results).endswith("80 patches, one random fold, 1 maps made by ResNet-8)")
    assert results._repr_html_().count("data:image/png") == 1


def test_an_audit_has_a_row_per_finding(patches):
    found = oc.audit(patches, oc.RandomSplit().assign(patches))
    frame = found.to_frame()
    assert list(frame) == ["check", "severity", "title", "remedy"]
    assert len(frame) == len(found.findings)
    assert repr(found) == f"Audit({found.summary})"


def test_located_patches_are_a_row_each(tmp_path):
    volume = noise(20, size=40)[:, 0]
    images = np.concatenate([volume[:3, 4:20, 6:22], noise(1, size=16, seed=5)[0]])
    path = tmp_path / "cube.npy"
    np.save(path, volume)
    found = oc.locate(images, path, axis=0)
    frame = found.to_frame(patch_set(images[:, None], np.arange(4) % 2))
    assert frame["found"].tolist() == [True, True, True, False]
    assert frame["index"].tolist()[:3] == [0, 1, 2]
    assert frame["row"].isna().tolist() == [False, False, False, True]
    assert frame["label"].nunique() == 2
    assert repr(found) == f"Located(3 of 4 patches found in {path})"
    assert "<table" in found._repr_html_()


def test_a_mapped_scene_has_a_row_per_class_and_a_picture(class_map, tmp_path):
    found = MappedScene({"classes": class_map}, ("<rice>", "water"))
    frame = found.to_frame()
    assert frame["pixels"].to_dict() == {"<rice>": 3, "water": 2}
    assert frame["share"].to_dict() == {"<rice>": 0.6, "water": 0.4}
    assert frame["hectares"].tolist() == pytest.approx([0.03, 0.02], rel=2e-3)
    assert repr(found) == f"MappedScene(classes: {class_map})"
    html = found._repr_html_()
    assert "<table" in html
    assert "&lt;rice&gt;" in html
    assert "<rice>" not in html
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (3, 2)
    assert np.array(image).tolist() == [[1, 1, 2], [2, 1, 0]]
    class_map.unlink()
    assert "no such file" in found._repr_html_()


def test_an_assessment_has_a_row_per_class(class_map, tmp_path):
    truth = tagged(tmp_path / "truth.tif", [[1, 1, 1], [2, 1, 2]], ["<rice>", "water"])
    found = oc.assess(class_map, truth)
    assert list(found.to_frame().index) == ["<rice>", "water"]
    assert repr(found).startswith("Assessment(map.tif: overall accuracy 80.0 ")
    assert repr(found).endswith(" %, 5 pixels, 2 classes)")
    assert "<table" in found._repr_html_()


def test_an_experiment_has_a_row_per_setting():
    plan = oc.Experiment(scenes=["a.tif", "b.tif"], labels=["l.gpkg"], folds=3)
    assert repr(plan) == "Experiment(2 scenes, 1 label files, 3 folds, default network)"
    assert plan.to_frame()["value"]["scenes"] == "['a.tif', 'b.tif']"
    assert "<table" in plan._repr_html_()


def test_a_run_is_one_line(run):
    text = repr(run)
    assert text.startswith(f"Run({run.model.title} in {run.folder}; ")
    assert re.search(r"\d % of \d+ held-out patches correct", text)
    assert "\n" not in text


def test_splits_and_folds_are_one_line(patches):
    folds = oc.RandomSplit(n_splits=4).assign_all(patches)
    assert repr(folds.splits[0]) == "Split(60 train, 20 validation; random, 80 groups)"
    assert repr(folds) == "Folds(80 patches, cross-validated (4 random folds); 80 groups)"
