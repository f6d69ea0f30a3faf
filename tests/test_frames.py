"""Results as tables, in one line, and in a notebook."""

from __future__ import annotations

import numpy as np
import pytest

import outcrop as oc
from tests.patches import noise, patch_set


@pytest.fixture(scope="module")
def patches():
    images = noise(80, bands=2, size=9)
    images[::2] += 1
    return patch_set(images, np.arange(80) % 2)


def test_scores_are_a_row_a_class():
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


def test_a_comparison_is_a_row_a_model(patches, tmp_path):
    network = oc.MultiScaleNet(hidden=4, views=("pixel",))
    split = oc.RandomSplit().assign(patches)
    found = oc.compare(patches, split, tmp_path / "c", network, oc.Recipe(epochs=1), workers=1,
                       baselines=[oc.BASELINES[0]], tuning=oc.Tuning(0))  # fmt: skip
    frame = found.to_frame()
    assert len(frame) == 2
    assert frame["balanced"].is_monotonic_decreasing
    assert frame["leak_gap"].isna().all()
    assert repr(found).startswith("Comparison(2 models, one fold at random; recommended: ")
    assert "<table" in found._repr_html_()


def test_an_audit_is_a_row_a_finding(patches):
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
