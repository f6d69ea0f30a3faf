"""Settings of a network are chosen by folds inside the training side only."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.cli.commands import COMMANDS
from outcrop.cli.parser import parse
from outcrop.errors import OutcropError
from outcrop.models.architectures import MultiScaleNet, ResidualNet, UserNet
from outcrop.models.baselines import Baseline
from outcrop.patches.patchset import PatchSet
from outcrop.reporting import write_report
from outcrop.splits import BlockSplit, Folds
from outcrop.splits.split import TRAIN, Split
from outcrop.training import tuning
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Machine, Recipe, Tuning
from outcrop.training.tuning import (
    MARGIN,
    Variant,
    candidates,
    rounds,
    scenes_apart,
    search,
    tune,
)
from outcrop.workflow import compare as comparing
from outcrop.workflow.compare import compare
from outcrop.workflow.plan import Experiment
from tests.patches import ground, noise
from tests.test_compare import leaky_patches
from tests.tiny import DEVICE, assert_same, some_patches

MACHINE = Machine(device=DEVICE)
SMALL = MultiScaleNet(hidden=8)
RECIPE = Recipe(epochs=2, machine=MACHINE)


@pytest.fixture(scope="module")
def patches() -> PatchSet:
    return leaky_patches(polygons=24, each=4)


@pytest.fixture(scope="module")
def split(patches):
    return BlockSplit(block=1000, buffer=60).assign(patches)


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, np.ndarray]]:
    """The trained variants and their patches."""
    calls, original = [], tuning._predicted

    def counted(patches, inner, variant, *rest):
        calls.append((variant.name, inner.train, inner.validation))
        return original(patches, inner, variant, *rest)

    monkeypatch.setattr(tuning, "_predicted", counted)
    return calls


def variants(number: int) -> list[Variant]:
    return [Variant(f"variant {k}", SMALL, RECIPE) for k in range(number)]


def right_in(shares: list[float], truth: list[np.ndarray]):
    """A judge with a given accuracy of each variant in each class."""

    def judge(variant: Variant, fold: int) -> np.ndarray:
        share, said = shares[int(variant.name.split()[1])], truth[fold].copy()
        for one in np.unique(said):
            its = np.flatnonzero(truth[fold] == one)
            said[its[: round((1 - share) * len(its))]] = -1
        return said

    return judge


TRUTH = [np.repeat([0, 1], [900, 100])] * 3


def test_a_variant_that_is_clearly_better_is_found() -> None:
    for best in range(5):
        shares = [0.5] * 5
        shares[best] = 0.6
        found, trials = search(variants(5), TRUTH, right_in(shares, TRUTH))
        assert found.name == f"variant {best}"
        assert trials[best].balanced == pytest.approx(0.6)


@pytest.mark.parametrize(("gain", "chosen"), [(MARGIN - 0.01, 0), (MARGIN + 0.01, 1)])
def test_the_given_settings_stay_unless_another_is_better_by_the_margin(gain, chosen) -> None:
    found, _ = search(variants(3), TRUTH, right_in([0.5, 0.5 + gain, 0.5], TRUTH))
    assert found.name == f"variant {chosen}"


def test_a_variant_without_a_margin_is_evaluated_on_all_folds_and_taken_if_it_is_better() -> None:
    first, *others = variants(4)
    free = replace(others[2], margin=0.0)
    for gain, chosen in ((0.01, free), (-0.2, first)):
        shares = [0.5, 0.54, 0.52, 0.5 + gain]
        found, trials = search([first, *others[:2], free], TRUTH, right_in(shares, TRUTH))
        assert found is chosen
        assert [one.folds for one in trials] == [3, 3, 1, 3]


def test_gain_and_jitter_need_no_margin_where_whole_scenes_are_held_out(patches) -> None:
    assert {one.margin for one in candidates(None, RECIPE, patches)} == {MARGIN}
    for one in candidates(None, RECIPE, patches, apart=True):
        radiometric = "gain" in one.name or "jitter" in one.name
        assert one.margin == (0 if radiometric else MARGIN)


@pytest.mark.parametrize(("apart", "width"), [(False, 16), (True, 32)])
def test_the_residual_network_is_wider_where_scenes_are_apart(apart, width) -> None:
    images = np.zeros((4, 1, 17, 17), np.float32)
    patches = PatchSet(images, np.arange(4) % 2, ("a", "b"), ("band",))
    found = [one.network for one in candidates(None, RECIPE, patches, apart)]
    assert [one.width for one in found if isinstance(one, ResidualNet)] == [width]


@pytest.mark.parametrize(("scenes", "dates", "apart"), [(3, 1, True), (2, 1, False), (2, 3, False)])
def test_folds_hold_out_scenes_if_three_or_more_are_apart(scenes, dates, apart, trained) -> None:
    """Dates of one area are tuned as one scene is."""
    n, each = scenes * dates, 24
    scene, number = np.repeat(np.arange(n), each), np.arange(n * each)
    # Side by side: a block lies in two scenes.
    x = np.tile(np.arange(each) * 1000.0, n) + (each * 1000 - 500) * (scene // dates)
    several = ground(x, 0 * x, number, number % 2, source=scene)
    several = replace(several, images=noise(len(several), size=9))
    split = BlockSplit(block=1000, buffer=0).assign(several)
    assert scenes_apart(several.positions) == apart
    tune(several, split, None, RECIPE, Tuning(trials=2))
    assert trained
    for _, seen, held in trained:
        assert (len(np.intersect1d(scene[seen], scene[held])) == 0) == apart
        assert not len(np.intersect1d(split.groups[seen], split.groups[held]))


def test_blocks_are_held_out_if_all_scenes_share_a_block(trained) -> None:
    """Then no training patch would be left for a fold of whole scenes."""
    scene, number = np.repeat(np.arange(3), 24), np.arange(72)
    x = number * 1000.0
    several = ground(x, 0 * x, number, number % 2, source=scene)
    several = replace(several, images=noise(len(several), size=9))
    groups = number % 6
    split = Split(np.full(72, TRAIN, np.int8), groups, several.fingerprint, spatial=True)
    assert scenes_apart(several.positions)
    tune(several, split, None, RECIPE, Tuning(trials=2))
    assert trained
    for _, seen, held in trained:
        assert not len(np.intersect1d(groups[seen], groups[held]))
        assert len(seen)


def test_a_variant_that_gives_no_numbers_is_not_chosen() -> None:
    judged = right_in([0.1, 0.0, 0.0], TRUTH)
    found, _ = search(variants(3), TRUTH, judged)
    assert found.name == "variant 0"


@given(st.integers(1, 12), st.integers(2, 6), st.randoms(use_true_random=False))
def test_the_budget_is_kept_and_the_choice_is_evaluated_on_every_fold(
    number, folds, random
) -> None:
    shares = [random.random() for _ in range(number)]
    truth, done = TRUTH[:1] * folds, []
    found, trials = search(variants(number), truth, right_in(shares, truth), done.append)
    assert len(done) == sum(one.folds for one in trials) <= sum(rounds(number, folds))
    chosen = trials[int(found.name.split()[1])]
    if chosen is not trials[0]:
        assert chosen.folds == trials[0].folds == folds
        assert chosen.balanced >= trials[0].balanced + MARGIN - 1e-3
    # Here a variant is as good on any fold, so that the best is found after the first.
    best = max(one.balanced for one in trials)
    assert chosen.balanced == best or best < trials[0].balanced + MARGIN + 1e-3


def test_parts_of_the_given_network_are_evaluated_on_every_fold() -> None:
    def judge(variant, fold):
        calls.append(variant.name)
        one = right_in([0.6, 0.5], TRUTH)(variant, fold)
        if variant.name != "variant 0":
            return one
        return np.stack([one, right_in([0.9], TRUTH)(variant, fold)])

    calls: list[str] = []
    part = Variant("a part", SMALL, RECIPE)
    found, trials = search(variants(2), TRUTH, judge, parts=[part])
    assert found is part
    assert [(one.name, one.folds) for one in trials] == [
        ("variant 0", 3), ("variant 1", 1), ("a part", 3)
    ]  # fmt: skip
    assert calls == ["variant 0", "variant 1", "variant 0", "variant 0"]


def test_the_search_ends_when_all_others_are_far_behind() -> None:
    done = []
    found, trials = search(variants(4), TRUTH, right_in([0.6, 0.5, 0.4, 0.5], TRUTH), done.append)
    assert found.name == "variant 0"
    assert [one.folds for one in trials] == [1, 1, 1, 1]
    assert len(done) == 4


def test_settings_that_are_given_are_not_varied(patches) -> None:
    every = candidates(None, Recipe(), patches)
    assert every[0].network == MultiScaleNet()
    assert every[0].recipe == Recipe()
    assert len({one.name for one in every}) == len(every)
    assert all(
        (one.network, one.recipe) != (every[0].network, every[0].recipe) for one in every[1:]
    )
    set_ = Recipe(
        epochs=3, weight_decay=0.1, batch=16, augmentation=Augmentation(jitter=0.1, gain=0.1)
    )
    for network in (None, MultiScaleNet(), ResidualNet(8), UserNet("a:b", lambda b, c: None)):
        for one in candidates(network, set_, patches):
            assert (one.recipe.epochs, one.recipe.weight_decay) == (3, 0.1)
            assert one.recipe.batch == 16
            assert (one.recipe.augmentation.jitter, one.recipe.augmentation.gain) == (0.1, 0.1)
            assert network is None or one.network == network


def test_a_residual_network_is_tried_if_patches_are_large_enough(patches) -> None:
    def networks(side: int) -> list[ResidualNet]:
        images = np.zeros((len(patches), 2, side, side), np.float32)
        found = candidates(None, Recipe(), replace(patches, images=images))
        return [one.network for one in found if isinstance(one.network, ResidualNet)]

    assert not networks(14)
    for side in (15, 17, 33):
        (one,) = networks(side)
        one.check_size((side, side))
        assert one.padding == "none"


def test_only_the_training_side_is_read(patches, split, trained) -> None:
    hidden = np.setdiff1d(np.arange(len(patches)), split.train)
    images, labels = patches.images.copy(), patches.labels.copy()
    images[hidden], labels[hidden] = np.nan, 0
    found = tune(patches, split, None, RECIPE, Tuning(2, 2))
    seen = np.concatenate([index for _, *sides in trained for index in sides])
    assert set(seen) <= set(split.train)
    blank = replace(patches, images=images, labels=labels)
    again = tune(blank, split, None, RECIPE, Tuning(2, 2))
    assert again.trials == found.trials
    assert again.variant == found.variant


def test_inner_folds_keep_spatial_blocks_whole(patches, split, trained) -> None:
    tune(patches, split, SMALL, RECIPE, Tuning(2, 3))
    assert len(trained) == 6
    for _, seen, held in trained:
        assert not set(split.groups[seen]) & set(split.groups[held])


def test_the_run_keeps_what_was_chosen_and_does_not_search_again(
    patches, split, tmp_path, monkeypatch, trained
) -> None:
    # Jitter drowns what little there is to learn, unless the margin is turned round.
    monkeypatch.setattr(tuning, "MARGIN", -1.0)
    monkeypatch.setattr(tuning, "_balanced", lambda truth, said: float(len(trained)))
    budget = Tuning(2, 2)
    run = train(patches, split, tmp_path / "run", SMALL, RECIPE, graph=False, tuning=budget)
    assert [name for name, *_ in trained] == ["as given", "jitter 0.3"] * 2
    assert run.tuning["chosen"] == run.settings["tuned"] == "jitter 0.3"
    assert run.config["recipe"]["augmentation"]["jitter"] == 0.3
    assert run.seconds >= run.tuning["seconds"] > 0
    (tmp_path / "run" / "model.json").unlink()
    again = train(patches, split, tmp_path / "run", SMALL, RECIPE, True, graph=False, tuning=budget)
    assert len(trained) == 4
    assert_same(run, again)
    for other in (Tuning(3, 2), None):
        with pytest.raises(OutcropError, match=r"cannot go on: .*tuning\.trials was 2"):
            train(patches, split, tmp_path / "run", SMALL, RECIPE, True, tuning=other)


def test_the_same_seed_gives_the_same_choice_and_nothing_is_left(
    patches, split, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = (tune(patches, split, None, RECIPE, Tuning(3, 2)) for _ in range(2))
    assert (one.variant, one.trials) == (other.variant, other.trials)
    assert not list(tmp_path.iterdir())


def test_nothing_is_tuned_where_no_folds_can_be_made(patches, split, tmp_path) -> None:
    one_piece = replace(split, groups=np.where(split.sides == TRAIN, 0, 1 + split.groups))
    found = tune(patches, one_piece, SMALL, RECIPE)
    assert found.variant.name == "as given"
    assert not found.trials
    assert "too few spatial groups" in found.summary
    run = train(patches, one_piece, tmp_path / "run", SMALL, RECIPE, graph=False, tuning=Tuning())
    assert run.tuning["tried"] == []


def test_patches_without_positions_are_tuned_by_random_folds(trained) -> None:
    from tests.tiny import SPLIT

    patches, network = some_patches(), ResidualNet(8, width=4)
    recipe = Recipe(epochs=1, batch=16, machine=MACHINE)
    tune(patches, replace(SPLIT, spatial=False), network, recipe, Tuning(2, 2))
    assert len(trained) == 4


def test_several_processes_are_refused(patches, split, tmp_path) -> None:
    recipe = replace(RECIPE, machine=Machine(device="cpu", devices=2))
    with pytest.raises(OutcropError, match=r"`devices`: tuning is done in one process.*`trials=0`"):
        train(patches, split, tmp_path / "run", SMALL, recipe, tuning=Tuning())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wrong", [{"trials": -1}, {"tuning_folds": 1}])
def test_wrong_budgets_are_refused(wrong) -> None:
    with pytest.raises(OutcropError, match=f"tuning: {next(iter(wrong))} is"):
        Tuning(**wrong)


def test_a_comparison_tunes_each_training_of_the_network(
    patches, split, tmp_path, monkeypatch, trained
) -> None:
    few = (Baseline("decision tree", "centre pixel"),)
    monkeypatch.setattr(comparing, "BASELINES", few)
    chosen = compare(
        patches, Folds((split,)), tmp_path / "c", SMALL, RECIPE, workers=1, tuning=Tuning(2, 2)
    )
    assert len(trained) == 8  # of the fold and its counterpart at random
    row = next(row for row in chosen.rows if row.features == "patch")
    assert row.settings["tuned"] in ("as given", "jitter 0.3")
    assert row.model == "multi-scale network"
    config = json.loads((tmp_path / "c" / "network" / "config.json").read_text())
    assert [one["name"] for one in config["tuning"]["tried"]] == ["as given", "jitter 0.3"]


def test_the_page_of_a_run_repeats_what_was_given_and_not_what_was_chosen(
    patches, split, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(tuning, "MARGIN", -1.0)
    numbers = iter(range(100))
    monkeypatch.setattr(tuning, "_balanced", lambda truth, said: float(next(numbers)))
    recipe = replace(RECIPE, batch=32)
    run = train(patches, split, tmp_path / "run", None, recipe, graph=False, tuning=Tuning(2, 2))
    assert run.tuning["chosen"] == "jitter 0.3"
    page = write_report(run.folder).read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if "outcrop train PATCHES" in line)
    assert "--epochs 2 --batch 32" in line
    assert "--trials 2 --tuning-folds 2 --output NEW" in line
    assert not any(name in line for name in ("--jitter", "--network", "--learning-rate"))


def test_the_page_of_a_run_names_its_network(patches, split, tmp_path) -> None:
    run = train(patches, split, tmp_path / "run", SMALL, RECIPE, graph=False)
    page = write_report(run.folder).read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if "outcrop train PATCHES" in line)
    assert "--network multi-scale --hidden 8 " in line
    assert "--trials" not in line
    assert "filters in the first stage" not in page
    assert run.settings == {"epochs": 2, "learning rate": 0.003}


def test_a_plan_keeps_the_budget_and_whether_the_network_is_free() -> None:
    plan = Experiment(["a.tif"], ["l.gpkg"], tuning=Tuning(5, 4))
    assert Experiment.from_yaml(plan.to_yaml()) == plan
    named = replace(plan, network=MultiScaleNet(), tuning=Tuning(0))
    assert Experiment.from_yaml(named.to_yaml()) == named
    assert Experiment.from_yaml("scenes: [a.tif]\nlabels: [l.gpkg]\ntrials: 0").tuning == Tuning(0)


def test_the_budget_is_an_option_of_every_command_that_trains_networks() -> None:
    for words in ("compare p.zarr -o c", "experiment a.tif --labels l.gpkg -o e"):
        _, usual = parse(COMMANDS, words.split(), "", "")
        _, given = parse(COMMANDS, [*words.split(), "--trials", "0"], "", "")
        for settings, trials in ((usual, Tuning().trials), (given, 0)):
            plan = settings.get("plan") or settings["how"]
            assert plan.tuning == Tuning(trials)
        assert (usual.get("plan") or usual["how"]).network is None
    _, given = parse(
        COMMANDS, ["train", "p.zarr", "-o", "r", "--trials", "4", "--tuning-folds", "2"], "", ""
    )
    assert (given["trials"], given["tuning_folds"]) == (4, 2)


def test_views_of_the_default_network_are_evaluated_with_it(patches, split) -> None:
    wide = replace(patches, images=np.pad(patches.images, ((0, 0), (0, 0), (4, 4), (4, 4))))
    found = tune(wide, split, None, RECIPE, Tuning(2, 2))
    names = [one.name for one in found.trials]
    assert names[:2] == ["as given", "jitter 0.3"]
    assert names[2:] == [
        "pixel, waves", "pixel, waves, near", "pixel, waves, windows", "windows, near"
    ]  # fmt: skip
    assert all(one.folds == 2 for one in found.trials[2:])
    named = tune(wide, split, MultiScaleNet(), RECIPE, Tuning(2, 2))
    assert [one.name for one in named.trials] == ["as given", "jitter 0.3"]


def test_a_run_of_some_views_is_resumed_with_the_same_views(
    patches, split, tmp_path, monkeypatch
) -> None:
    wide = replace(patches, images=np.pad(patches.images, ((0, 0), (0, 0), (4, 4), (4, 4))))
    split = replace(split, fingerprint=wide.fingerprint)
    monkeypatch.setattr(tuning, "MARGIN", -1.0)
    order = iter(range(1, 99))
    # Each trial is said to be better than the one before: the last view is taken.
    monkeypatch.setattr(tuning, "_balanced", lambda truth, said: float(next(order)))
    budget, folder = Tuning(2, 2), tmp_path / "run"
    run = train(wide, split, folder, None, RECIPE, graph=False, tuning=budget)
    assert run.tuning["chosen"] in ("jitter 0.3", "windows, near")
    (folder / "model.json").unlink()
    assert_same(run, train(wide, split, folder, None, RECIPE, True, graph=False, tuning=budget))
