"""Files of one run, comparison or experiment beside those of another of the same shape."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from outcrop.auditing.audit import audit
from outcrop.auditing.folder import check_same_set, read_audit, write_audit
from outcrop.errors import OutcropError
from outcrop.splits import RandomSplit
from outcrop.training.engine import train
from outcrop.training.recipe import Tuning
from outcrop.training.run import read_run
from outcrop.workflow.compare import compare
from outcrop.workflow.compare_runs import compare_runs
from outcrop.workflow.comparison import read_comparison
from tests.tiny import NETWORK, PATCHES, RECIPE, SPLIT, some_patches

QUICK = replace(RECIPE, epochs=1)
OTHER = replace(some_patches(seed=1), labels=PATCHES.labels)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the same patches and split, with other seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        train(PATCHES, SPLIT, folder / str(seed), NETWORK, replace(QUICK, seed=seed))
    return folder


def test_the_other_set_has_the_same_shape_classes_and_labels():
    assert OTHER.shape == PATCHES.shape
    assert OTHER.classes == PATCHES.classes
    assert np.array_equal(OTHER.labels, PATCHES.labels)
    assert OTHER.fingerprint != PATCHES.fingerprint


def test_a_split_and_a_training_are_of_one_set(runs):
    other = replace(SPLIT, fingerprint=OTHER.fingerprint)
    with pytest.raises(OutcropError, match="`split`: was made for another patch set; make"):
        train(OTHER, SPLIT, runs / "new", NETWORK, QUICK, tuning=Tuning(0))
    assert not (runs / "new").exists()
    with pytest.raises(OutcropError, match=r"cannot go on: the patch set is another; take the old"):
        train(OTHER, other, runs / "0", NETWORK, QUICK, resume=True, tuning=Tuning(0))
    with pytest.raises(OutcropError, match="`split`: was made for another patch set"):
        audit(OTHER, SPLIT)
    with pytest.raises(OutcropError, match="was trained on other patches"):
        compare_runs(OTHER, other, [runs / "0", runs / "1"], runs / "compared")


@pytest.mark.parametrize("file", ["predictions.npz", "trust.safetensors"])
def test_a_file_of_another_run_is_noticed(runs, tmp_path, file):
    folder = tmp_path / "run"
    shutil.copytree(runs / "0", folder)
    assert read_run(folder, "cpu").applicability.threshold > 0
    shutil.copy(runs / "1" / file, folder / file)
    with pytest.raises(OutcropError, match=rf"{file}: was made with another model than this run"):
        read_run(folder, "cpu").applicability  # noqa: B018


def test_a_split_of_another_run_is_noticed(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs / "0", folder)
    RandomSplit(n_splits=3).assign(PATCHES).save(folder / "split.json")
    with pytest.raises(OutcropError, match=r"predictions\.npz: is of another split than this run"):
        read_run(folder, "cpu")


def test_files_of_an_older_outcrop_are_read(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs / "0", folder)
    with np.load(folder / "predictions.npz") as arrays:
        old = {name: arrays[name] for name in arrays if name != "model"}
    np.savez(folder / "predictions.npz", **old)
    assert read_run(folder, "cpu").predictions.model == ""


def test_an_audit_says_of_which_set_and_split_it_is(tmp_path):
    write_audit(audit(PATCHES, SPLIT), PATCHES, tmp_path / "audit")
    found = read_audit(tmp_path / "audit")[0]
    check_same_set(found, PATCHES, SPLIT, "audit")
    for patches, split in ((OTHER, SPLIT), (PATCHES, RandomSplit().assign(PATCHES))):
        with pytest.raises(OutcropError, match="audit: is the audit of another patch set or split"):
            check_same_set(found, patches, split, "audit")


def test_a_comparison_says_of_which_set_it_is(tmp_path, small_models):
    folder = tmp_path / "compared"
    split = replace(SPLIT, spatial=False)
    made = compare(PATCHES, split, folder, NETWORK, QUICK, tuning=Tuning(0))
    assert read_comparison(folder).fingerprint == made.fingerprint == PATCHES.fingerprint
    content = json.loads((folder / "comparison.json").read_text())
    content["fingerprint"] = OTHER.fingerprint
    content.pop("checksum", None)
    (folder / "comparison.json").write_text(json.dumps(content))
    with pytest.raises(OutcropError, match="has a comparison on another patch set"):
        compare(PATCHES, split, folder, NETWORK, QUICK, resume=True, tuning=Tuning(0))
