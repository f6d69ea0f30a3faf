"""Several seeds of every model, and comparisons of finished runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from outcrop.errors import OutcropError
from outcrop.files import write_json
from outcrop.models.baselines import Baseline
from outcrop.patches.patchset import read_patches
from outcrop.reporting import write_report
from outcrop.splits import BlockSplit, RandomSplit, read_split
from outcrop.training.engine import train
from outcrop.workflow import compare as comparing
from outcrop.workflow.compare_runs import compare_runs
from outcrop.workflow.comparison import read_comparison
from tests.command_line import check_refused, run
from tests.test_compare import NETWORK, RECIPE, compare, leaky_patches

# Of an estimator that is not tuned: to tune a tree takes as long as to train a network.
TREES = tuple(
    Baseline("decision tree", sees, DecisionTreeClassifier(min_samples_leaf=3))
    for sees in ("centre pixel", "patch statistics")
)
OPTIONS = "--depth 8 --width 4 --epochs 2 --batch 64 --device cpu --trials 0"


@pytest.fixture(autouse=True)
def few_baselines(monkeypatch):
    monkeypatch.setattr(comparing, "BASELINES", TREES)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Patches, two splits, and three runs: two seeds of one network, and a wider one."""
    folder = tmp_path_factory.mktemp("runs")
    patches = leaky_patches()
    patches.save(folder / "p.zarr")
    split = BlockSplit(block=1000, buffer=60).assign(patches)
    split.save(folder / "s.json")
    RandomSplit().assign(patches).save(folder / "random.json")
    for name, network, seed in (
        ("narrow-0", NETWORK, 0), ("narrow-1", NETWORK, 1), ("wide", replace(NETWORK, width=8), 0)
    ):  # fmt: skip
        train(patches, split, folder / name, network, replace(RECIPE, seed=seed))
    return folder


@pytest.fixture
def here(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


@pytest.fixture(scope="module")
def seeded(home):
    """A comparison with two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "BASELINES", TREES)
        patches, split = opened(home)
        return compare(patches, split, home / "seeded", NETWORK, RECIPE, seeds=[0, 1])


def opened(home):
    patches = read_patches(home / "p.zarr")
    return patches, read_split(home / "s.json", patches)


def scores(comparison):
    return {row.title: row.scores.overall for row in comparison.rows}


def test_rows_have_means_over_the_seeds_and_each_seed(seeded, home):
    assert {row.seeds for row in seeded.rows} == {(0, 1)}
    with np.load(home / "seeded" / "predictions.npz", allow_pickle=False) as said:
        for row in seeded.rows:
            right = said[row.title] == said["truth"]
            assert len(right) == 2
            assert row.scores.overall.value == pytest.approx(right.mean())
            assert row.scores.balanced.value == pytest.approx(np.mean(row.each))
    spread = {row.model: np.ptp(row.each) for row in seeded.rows}
    assert spread["ResNet-8"] > 0
    assert len(seeded.pairwise_tests) == 3
    assert [one.one for one in seeded.of_the_best] == [seeded.rows[0].title] * 2


def test_runs_of_further_seeds_are_named_after_their_seed(seeded, home):
    network = next(row for row in seeded.rows if row.features == "patch")
    assert network.runs == ("network", "network-1")
    made = {path.name for path in (home / "seeded").iterdir() if path.is_dir()}
    assert made == {"answers", "network", "network-random", "network-1", "network-random-1"}


def test_seeds_can_be_added_but_not_removed(home, seeded, tmp_path):
    patches, split = opened(home)
    folder = tmp_path / "c"
    first = compare(patches, split, folder, NETWORK, RECIPE)
    before = (folder / "network" / "model.safetensors").stat().st_mtime_ns
    again = compare(patches, split, folder, NETWORK, RECIPE, resume=True)
    assert scores(again) == scores(first)
    both = compare(patches, split, folder, NETWORK, RECIPE, resume=True, seeds=[0, 1])
    assert (folder / "network" / "model.safetensors").stat().st_mtime_ns == before
    assert scores(both) == scores(seeded)
    assert both.pairwise_tests == seeded.pairwise_tests == read_comparison(folder).pairwise_tests
    with pytest.raises(OutcropError, match=r"also made with seed 1; pass all of `seeds=.0, 1.`"):
        compare(patches, split, folder, NETWORK, RECIPE, resume=True)


def test_a_comparison_of_an_old_version_is_read_and_completed(home, tmp_path):
    patches, split = opened(home)
    folder = tmp_path / "c"
    whole = compare(patches, split, folder, NETWORK, RECIPE)
    content = json.loads((folder / "comparison.json").read_text())
    del content["contests"]
    for row in content["rows"]:
        for name in ("seeds", "each", "runs"):
            del row[name]
    write_json(folder / "comparison.json", content)
    old = read_comparison(folder)
    assert old.pairwise_tests == old.leaders == ()
    assert "has no pairwise tests" in write_report(folder).read_text()
    again = compare(patches, split, folder, NETWORK, RECIPE, resume=True)
    assert again.pairwise_tests == whole.pairwise_tests


def test_finished_runs_of_one_network_are_seeds_of_one_model(here):
    patches, split = opened(here)
    found = compare_runs(patches, split, ["narrow-0", "wide", "narrow-1"], here / "held")
    by_seeds = {row.seeds: row for row in found.rows}
    assert set(by_seeds) == {(0, 1), (0,)}
    assert by_seeds[0, 1].model == "ResNet-8 (narrow-0)"
    assert by_seeds[0,].model == "ResNet-8 (wide)"
    assert by_seeds[0, 1].runs == ("../narrow-0", "../narrow-1")
    assert len(found.pairwise_tests) == 1
    assert any("ResNet-8 (wide), patch: trained with one seed" in said for said in found.cautions)
    again = read_comparison(here / "held")
    assert again.pairwise_tests == found.pairwise_tests
    assert not list((here / "held").glob("network*"))


def test_runs_are_compared_from_the_command_line_to_the_page(here, capfd):
    command = f"compare p.zarr --split s.json --runs narrow-0,narrow-1,wide -o {here / 'by-line'}"
    assert run(command) == 0
    out = capfd.readouterr().out
    assert "ResNet-8 (narrow-0)" in out
    assert "leak gap" not in out
    assert any(verdict in out for verdict in ("better", "no difference shown"))
    assert run("report by-line") == 0
    page = Path("by-line/report.html").read_text()
    best = read_comparison("by-line").rows[0].runs[0].removeprefix("../")
    assert f"--split {best}/split.json --runs {best}," in page
    assert "highest balanced accuracy" in page


def test_seeds_from_the_command_line_to_the_page(here, capfd):
    assert run(f"compare p.zarr --split s.json {OPTIONS} --seeds 3,1 -o lined") == 0
    out = capfd.readouterr().out
    assert "over 2 seeds" in out
    assert "leading" in out
    assert run("report lined") == 0
    page = Path("lined/report.html").read_text()
    # Defaults that depend on the patches are stored.
    decided = "--crop 0 --rotate true --gain 0.0 --jitter 0.0"
    made = OPTIONS.replace("--device", f"{decided} --device").replace(" --trials 0", "")
    assert f"{made} --seeds 3,1 --trials 0" in page
    assert "All 3 pairs" in page
    assert {path.name for path in Path("lined").glob("network*")} >= {"network", "network-1"}


COMPARE = "compare p.zarr --split s.json -o x"
REFUSED = {
    "a seed twice": (f"{COMPARE} --seeds 0,1,0", "--seeds", "names 0 twice"),
    "no seed": (f"{COMPARE} --seeds ,", "--seeds", "is empty"),
    "a seed below zero": (f"{COMPARE} --seeds 0,-1", "seed is -1", "0 or more"),
    "seeds that are words": (f"{COMPARE} --seeds a", "--seeds", "whole numbers"),
    "seed and seeds": (f"{COMPARE} --seed 7 --seeds 0,1", "--seeds", "--seed 7"),
    "a run that is none": (f"{COMPARE} --runs narrow-0,none", "none", "no such run"),
    "a folder that is no run": (f"{COMPARE} --runs narrow-0,p.zarr", "p.zarr", "no such run"),
    "one model": (f"{COMPARE} --runs narrow-0,narrow-1", "--runs", "one model"),
    "no run": (f"{COMPARE} --runs ,", "--runs", "add"),
    "a run twice": (f"{COMPARE} --runs wide,narrow-0,wide", "wide", "the same seed"),
    "a run of another split": ("compare p.zarr --split random.json -o x --runs narrow-0,wide",
        "narrow-0", "another split"),
    "a run of other patches": ("compare other.zarr --split other.json -o x --runs narrow-0,wide",
        "narrow-0", "other patches"),
    "a run of other classes": ("compare named.zarr --split named.json -o x --runs narrow-0,wide",
        "narrow-0", "other classes", "a, b, c"),
    "a run that is damaged": (f"{COMPARE} --runs narrow-0,damaged", "damaged", "another split"),
    "a run whose config is damaged": (f"{COMPARE} --runs narrow-0,blank", "config.json", "damaged"),
    "runs and a training": (f"{COMPARE} --runs narrow-0,wide --depth 14", "--runs", "leave out"),
    "runs and seeds": (f"{COMPARE} --runs narrow-0,wide --seeds 0,1", "--runs", "leave out"),
    "runs into a folder that is there": (
        "compare p.zarr --split s.json --runs narrow-0,wide -o wide", "wide", "exists already"),
    "runs and resuming": (f"{COMPARE} --runs narrow-0,wide --resume", "--runs", "leave out"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bad(home):
    patches, _ = opened(home)
    for name, other in (
        ("other", leaky_patches(polygons=59)),
        ("named", replace(patches, images=np.asarray(patches.images[:]), classes=("x", "y", "z"))),
    ):
        other.save(home / f"{name}.zarr")
        BlockSplit(block=1000, buffer=60).assign(other).save(home / f"{name}.json")
    shutil.copytree(home / "wide", home / "damaged")
    with np.load(home / "wide" / "predictions.npz") as said:
        arrays = {name: said[name][:-1] if said[name].ndim else said[name] for name in said.files}
    np.savez(home / "damaged" / "predictions.npz", **arrays)
    shutil.copytree(home / "wide", home / "blank")
    (home / "blank" / "config.json").write_text('{"format": "outcrop run"}')
    return home


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gives_one_error_line(bad, name, monkeypatch, capfd):
    check_refused(bad, monkeypatch, capfd, *REFUSED[name])


def test_a_comparison_of_runs_is_not_resumed(here):
    patches, split = opened(here)
    compare_runs(patches, split, ["narrow-0", "wide"], here / "only-runs")
    with pytest.raises(OutcropError, match="has a comparison of finished runs"):
        compare(patches, split, here / "only-runs", NETWORK, RECIPE, resume=True)
