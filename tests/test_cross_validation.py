"""Cross-validation: every labelled patch is held out once."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from outcrop.errors import OutcropError
from outcrop.files import write_json
from outcrop.metrics.scores import score
from outcrop.models.baselines import Baseline
from outcrop.splits import BlockSplit, default_folds, random_folds, read_folds
from outcrop.workflow import compare as comparing
from outcrop.workflow import trials
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
def patches():
    return leaky_patches(polygons=36, each=4)


@pytest.fixture(scope="module")
def folds(patches):
    return BlockSplit(block=1000, buffer=910, n_splits=3).assign_all(patches)


@pytest.fixture(scope="module")
def made(patches, folds, tmp_path_factory):
    """A comparison over three folds, and its folder."""
    folder = tmp_path_factory.mktemp("made") / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "BASELINES", TREES)
        return compare(patches, folds, folder, NETWORK, RECIPE), folder


def scores(comparison):
    return {
        row.title: (row.scores.overall, row.scores.balanced, row.gap) for row in comparison.rows
    }


def test_scores_are_of_the_held_out_patches_of_all_folds(made, patches, folds):
    comparison, folder = made
    assert comparison.kind == "cross-validated (3 folds)"
    with np.load(folder / "predictions.npz", allow_pickle=False) as said:
        assert np.array_equal(said["index"], np.arange(len(patches)))
        assert np.array_equal(said["truth"], patches.labels)
        assert np.array_equal(said["fold"], folds.held_out)
        assert said["judged"].all()
        for row in comparison.rows:
            assert row.scores.confusion.sum() == len(patches)
            assert row.scores.groups == len(np.unique(folds.groups))
            assert row.scores.overall.value == pytest.approx(
                (said[row.title] == said["truth"]).mean()
            )
    network = next(row for row in comparison.rows if row.features == "patch")
    assert network.runs == ("fold-0/network", "fold-1/network", "fold-2/network")
    again = read_comparison(folder)
    assert scores(again) == scores(comparison)
    assert (again.kind, again.folds, again.notes) == (comparison.kind, 3, comparison.notes)


def test_predictions_of_a_fold_are_those_of_a_model_trained_on_the_others(made, patches, folds):
    _, folder = made
    tree = TREES[0]
    with np.load(folder / "predictions.npz", allow_pickle=False) as said:
        for split in folds.splits:
            taught, held = split.train, split.validation
            labels, groups = patches.labels[taught], split.groups[taught]
            fitted = tree.fit(patches.take(taught), labels, groups, 3, 0)
            theirs = said[f"{tree.name}, {tree.features}"][0][held]
            assert np.array_equal(theirs, fitted.predict(patches.take(held)))


def test_the_leak_gap_compares_with_random_folds(made):
    comparison, _ = made
    for row in comparison.rows:
        assert row.random.confusion.sum() == row.scores.confusion.sum()
        assert row.gap.value == pytest.approx(row.random.overall.value - row.scores.overall.value)
        if row.model == "decision tree":
            assert row.gap.value > 0.1


def test_the_leak_gap_can_be_that_of_the_first_seeds(patches, folds, tmp_path):
    recipe = replace(RECIPE, epochs=1)
    one, none, three = (tmp_path / name for name in ("one", "none", "three"))
    found = compare(patches, folds, one, NETWORK, recipe, seeds=[0, 4], gap_seeds=1)
    for row in found.rows:
        assert row.random.confusion.sum() * 2 == row.scores.confusion.sum()
        assert row.gap.value == pytest.approx(row.random.overall.value - row.scores.overall.value)
    assert not list(one.rglob("*-random-4*"))
    found = compare(patches, folds, none, NETWORK, recipe, gap_seeds=0)
    assert all(row.random is None and row.gap is None for row in found.rows)
    with pytest.raises(OutcropError, match="`gap_seeds`: must be from 0 to 2"):
        compare(patches, folds, three, NETWORK, recipe, seeds=[0, 4], gap_seeds=3)
    assert not three.exists()


def test_random_folds_hold_out_the_same_patches_in_the_same_numbers(patches, folds):
    random = random_folds(patches, folds, seed=5)
    assert not random.spatial
    assert np.array_equal(random.index, folds.index)
    for one, other in zip(random.splits, folds.splits, strict=True):
        assert len(one.validation) == len(other.validation)
        assert len(one.train) == len(other.train)
        assert not np.intersect1d(one.train, one.validation).size
        for side in (one.train, one.validation):
            share = np.bincount(patches.labels[side]) / len(side)
            assert share == pytest.approx(1 / 3, abs=0.06)
    assert sum(len(one.buffer) for one in random.splits) > 0
    again = random_folds(patches, folds, seed=5)
    assert all(
        np.array_equal(one.sides, other.sides)
        for one, other in zip(random.splits, again.splits, strict=True)
    )


@pytest.mark.parametrize("how", [{"workers": 2}, {"scheduler": "local[2]"}])
def test_results_do_not_depend_on_the_executor(made, patches, folds, tmp_path, how, forked_workers):
    comparison, folder = made
    other = compare(patches, folds, tmp_path / "c", NETWORK, RECIPE, **how)
    assert scores(other) == scores(comparison)
    for run_of in ("fold-0/network", "fold-2/network-random"):
        one, two = (home / run_of / "model.safetensors" for home in (folder, tmp_path / "c"))
        assert one.read_bytes() == two.read_bytes()


def test_no_trial_is_run_twice(made, patches, folds, tmp_path, monkeypatch):
    comparison, _ = made
    done, limit = [], 3
    train, fit = trials.train, Baseline.fit

    def training(patches, split, where, *how, **more):
        if len(done) == limit:
            raise KeyboardInterrupt
        found = train(patches, split, where, *how, **more)
        if where.name not in done:
            done.append(str(where))
        return found

    def fitting(self, *how):
        if len(done) == limit:
            raise KeyboardInterrupt
        done.append(self.features)
        return fit(self, *how)

    monkeypatch.setattr(trials, "train", training)
    monkeypatch.setattr(Baseline, "fit", fitting)
    for limit in (3, 8):  # in the middle of the networks, then of the classical models
        with pytest.raises(KeyboardInterrupt):
            compare(patches, folds, tmp_path / "c", NETWORK, RECIPE, resume=limit > 3)
        monkeypatch.setattr(trials, "train", training)
    limit = 99
    again = compare(patches, folds, tmp_path / "c", NETWORK, RECIPE, resume=True)
    assert scores(again) == scores(comparison)
    fits = [one for one in done if one in ("centre pixel", "patch statistics")]
    assert len(fits) == 2 * 2 * 3
    ways = dict.fromkeys(one for one in done if one not in fits)
    assert len(ways) == 2 * 3


def test_a_finished_comparison_gets_missing_baselines_and_leak_gaps(patches, folds, tmp_path):
    recipe, folder = replace(RECIPE, epochs=1), tmp_path / "c"
    compare(patches, folds, folder, NETWORK, recipe, baselines=TREES[:1], gap_seeds=0)
    more = {"resume": True, "baselines": TREES}
    found = compare(patches, folds, folder, NETWORK, recipe, gap_seeds=0, **more)
    assert len(found.rows) == 3
    assert all(row.gap is None for row in found.rows)
    found = compare(patches, folds, folder, NETWORK, recipe, **more)
    assert all(row.gap is not None for row in found.rows)
    assert scores(read_comparison(folder)) == scores(found)
    fewer = {"resume": True, "baselines": TREES[:1], "gap_seeds": 0}
    assert len(compare(patches, folds, folder, NETWORK, recipe, **fewer).rows) == 3


def test_a_comparison_is_not_resumed_with_other_folds(made, patches, folds):
    _, folder = made
    other = BlockSplit(block=1000, buffer=910, n_splits=3, random_state=1).assign_all(patches)
    for wrong in (other, folds.splits[0]):
        with pytest.raises(OutcropError, match="made with other patches or folds; continue with"):
            compare(patches, wrong, folder, NETWORK, RECIPE, resume=True)
    again = compare(
        patches, read_folds(folder / "folds.json"), folder, NETWORK, RECIPE, resume=True
    )
    assert scores(again) == scores(made[0])
    with pytest.raises(OutcropError, match="epochs was 2, is 3"):
        compare(patches, folds, folder, NETWORK, replace(RECIPE, epochs=3), resume=True)


def test_a_class_in_one_spatial_group_does_not_stop_the_comparison(patches, tmp_path):
    labels = patches.labels.copy()
    labels[:4] = 3
    rare = replace(patches, labels=labels, classes=("a", "b", "c", "alone"))
    folds = BlockSplit(block=1000, buffer=910, n_splits=3).assign_all(rare)
    found = compare(rare, folds, tmp_path / "c", NETWORK, RECIPE)
    note = "class 'alone' occurs in 1 spatial group: it is used for training but cannot be scored"
    assert found.notes[0].startswith(note)
    for row in found.rows:
        assert row.scores.confusion[3].sum() == 0
        assert row.scores.confusion.sum() == len(rare) - 4 == row.random.confusion.sum()
        recalls = [one.value for one in row.scores.recall[:3]]
        assert row.scores.balanced.value == pytest.approx(np.mean(recalls))
    assert all(one.verdict != "unknown" for one in found.pairwise_tests)


def test_the_recommended_model_is_the_best_and_of_equals_the_fastest(made, patches):
    truth = patches.labels
    right = score(truth, truth, patches.classes, np.arange(len(truth)))
    one, *others = made[0].rows
    one, others = replace(one, scores=right, seconds=9.0), [replace(o, seconds=1.0) for o in others]
    comparison = replace(made[0], rows=(one, *others))
    assert comparison.recommended is one
    assert comparison.recommendation.startswith(
        f"recommended: {one.title}, balanced accuracy {right.balanced}, cross-validated (3 folds); "
    )
    near = replace(others[0], scores=right)
    tied = replace(comparison, rows=(one, near, others[1]))
    assert tied.recommended is near
    assert f"not shown to be better than the second, {one.title}" in tied.recommendation


def test_old_files_have_one_fold_and_newer_versions_are_refused(made, tmp_path):
    _, folder = made
    content = json.loads((folder / "comparison.json").read_text())
    content = {name: value for name, value in content.items() if name != "checksum"}
    for name in ("version", "kind", "folds", "notes"):
        del content[name]
    write_json(tmp_path / "comparison.json", content)
    assert read_comparison(tmp_path).kind == "one fold"
    write_json(tmp_path / "comparison.json", content | {"version": 99})
    with pytest.raises(OutcropError, match="version 99, and 2 is the newest known"):
        read_comparison(tmp_path)


def test_damaged_answers_give_one_error_line(made, patches, folds, tmp_path):
    import shutil

    shutil.copytree(made[1], tmp_path / "c")
    (tmp_path / "c" / "comparison.json").unlink()
    path = next((tmp_path / "c" / "fold-1" / "answers").glob("decision*"))
    path.write_text("{}")
    with pytest.raises(OutcropError, match=r"is not an answer .* remove it and continue"):
        compare(patches, folds, tmp_path / "c", NETWORK, RECIPE, resume=True)
    path.unlink()
    again = compare(patches, folds, tmp_path / "c", NETWORK, RECIPE, resume=True)
    assert scores(again) == scores(made[0])


def test_patches_without_positions_get_random_folds(patches, capfd):
    bare = replace(patches, positions=None, sources=(), crs=None)
    folds = default_folds(bare, 4)
    assert (len(folds), folds.spatial) == (4, False)
    assert folds.kind == "cross-validated (4 random folds)"
    assert "no positions, so the folds are random" in capfd.readouterr().err
    with pytest.raises(OutcropError, match="`block`: needs patches with positions"):
        default_folds(bare, 4, block=100)


@pytest.fixture(scope="module")
def home(patches, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    patches.save(folder / "p.zarr")
    return folder


def test_the_command_cross_validates_by_default(home, monkeypatch, capfd):
    monkeypatch.chdir(home)
    assert run(f"compare p.zarr {OPTIONS} --folds 3 --block 1000 -o x") == 0
    out = capfd.readouterr().out
    assert "score: cross-validated (3 folds), 144 held-out patches" in out
    assert out.splitlines()[-1].startswith("recommended: ")
    assert len(read_folds("x/folds.json")) == 3
    assert run("split p.zarr --block 1000 --folds 3 --all-folds -o f.json") == 0
    assert run(f"compare p.zarr {OPTIONS} --split f.json -o y") == 0
    assert scores(read_comparison("y")) == scores(read_comparison("x"))
    assert run(f"compare p.zarr {OPTIONS} --folds 1 --block 1000 -o z") == 0
    assert "score: one fold, " in capfd.readouterr().out
    assert (home / "z" / "network" / "split.json").exists()


REFUSED = {
    "folds and a split": ("compare p.zarr --split s.json --folds 3 -o n", "--folds", "--split"),
    "no folds": ("compare p.zarr --folds 0 -o n", "--folds", "at least 1"),
    "more folds than pieces": ("compare p.zarr --folds 9 --block 4000 -o n", "--block", "9 folds"),
    "no workers": ("compare p.zarr --folds 3 --block 1000 --workers 0 -o n", "--workers", "1"),
    "runs without a split": ("compare p.zarr --runs a,b -o n", "--runs", "--split"),
    "no cluster": (
        "compare p.zarr --folds 3 --block 1000 --scheduler tcp://127.0.0.1:9 -o n",
        "--scheduler", "no Dask scheduler"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gives_one_error_line(home, name, monkeypatch, capfd):
    monkeypatch.setattr("outcrop.executors._TIMEOUT", 0.5)
    check_refused(home, monkeypatch, capfd, *REFUSED[name])
