"""Codes of an encoder as features of the classical models of a comparison."""

from __future__ import annotations

import html
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from outcrop.errors import OutcropError
from outcrop.files import write_json
from outcrop.generative import training
from outcrop.generative.plan import EncoderPlan, VaeGanPlan
from outcrop.generative.run import read_vaegan_run
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.models.baselines import Baseline
from outcrop.reporting import write_report
from outcrop.splits import BlockSplit, RandomSplit, random_counterpart, read_split
from outcrop.training.recipe import Recipe
from outcrop.workflow import compare as comparing
from outcrop.workflow.comparison import read_comparison
from outcrop.workflow.learnt import LearntFeatures
from tests.command_line import check_refused, run
from tests.test_compare import NETWORK, compare, leaky_patches

# Of an estimator that is not tuned: to tune a tree takes as long as to train a network.
TREES = tuple(
    Baseline("decision tree", sees, DecisionTreeClassifier(min_samples_leaf=3))
    for sees in ("centre pixel", "patch statistics")
)
RECIPE = Recipe(epochs=1, batch=64)
ENCODER = VaeGanPlan(VaeGan(latent=4, filters=4), VaeGanRecipe(epochs=1))
CODED = "decision tree, VAE-GAN code"


@pytest.fixture(autouse=True)
def few_baselines(monkeypatch):
    monkeypatch.setattr(comparing, "BASELINES", TREES)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    for name, side in (("p", 32), ("small", 6)):
        some = leaky_patches(polygons=30, each=4, side=side)
        some.save(folder / f"{name}.zarr")
        BlockSplit(block=1000, buffer=400).assign(some).save(folder / f"{name}.json")
    return folder


@pytest.fixture(scope="module")
def patches():
    return leaky_patches(polygons=30, each=4, side=32)


@pytest.fixture(scope="module")
def split(patches):
    return BlockSplit(block=1000, buffer=400).assign(patches)


@pytest.fixture(scope="module")
def made(patches, split, tmp_path_factory):
    """A comparison with an encoder, and its folder."""
    folder = tmp_path_factory.mktemp("made") / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "BASELINES", TREES)
        return compare(patches, split, folder, NETWORK, RECIPE, encoder=ENCODER), folder


def scores(comparison):
    return {row.title: (row.scores.overall, row.gap) for row in comparison.rows}


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}


def test_each_kind_of_baseline_is_also_fitted_to_codes(made):
    comparison, folder = made
    assert {row.title for row in comparison.rows} == {
        "ResNet-8, patch",
        "decision tree, centre pixel",
        "decision tree, patch statistics",
        CODED,
    }
    row = next(row for row in comparison.rows if row.title == CODED)
    assert row.gap.value == pytest.approx(row.random.overall.value - row.scores.overall.value)
    assert row.runs == ("encoder",)
    assert row.seconds > read_vaegan_run(folder / "encoder", "cpu").metrics[0].seconds
    assert sum(CODED in (one.one, one.other) for one in comparison.pairwise_tests) == 3
    assert scores(read_comparison(folder)) == scores(comparison)


def test_predictions_are_those_of_the_baseline_on_the_codes(made, patches, split):
    _, folder = made
    encoder = read_vaegan_run(folder / "encoder", "cpu").model
    seen, unseen = (
        encoder.encode(patches.take(side))[0] for side in (split.train, split.validation)
    )
    labels, groups = patches.labels[split.train], split.groups[split.train]
    fitted = TREES[0].fit(seen, labels, groups, len(patches.classes), seed=0)
    with np.load(folder / "predictions.npz", allow_pickle=False) as said:
        np.testing.assert_array_equal(said[CODED][0], fitted.predict(unseen))


def test_the_encoder_is_trained_on_the_training_patches_of_each_split(made, patches, split):
    _, folder = made
    for name, wanted in (
        ("encoder", split),
        ("encoder-random", random_counterpart(patches, split, seed=0)),
    ):
        np.testing.assert_array_equal(read_split(folder / name / "split.json").sides, wanted.sides)


def test_validation_images_do_not_affect_the_encoder(made, patches, split, tmp_path):
    comparison, folder = made
    spoiled = patches.images.copy()
    spoiled[split.validation] = 1e4
    patches = replace(patches, images=spoiled)
    alone = replace(split, spatial=False, fingerprint=patches.fingerprint)
    other = compare(patches, alone, tmp_path / "c", NETWORK, RECIPE, encoder=ENCODER)
    one, two = (where / "encoder" / "model.safetensors" for where in (folder, tmp_path / "c"))
    assert one.read_bytes() == two.read_bytes()
    assert not (tmp_path / "c" / "encoder-random").exists()
    assert scores(other) != scores(comparison)


def test_an_encoder_can_be_added_but_not_removed(made, patches, split, tmp_path):
    whole, _ = made
    folder = tmp_path / "c"
    compare(patches, split, folder, NETWORK, RECIPE)
    before = written(folder)
    more = compare(patches, split, folder, NETWORK, RECIPE, resume=True, encoder=ENCODER)
    assert scores(more) == scores(whole)
    after = written(folder)
    assert before.items() < after.items()
    again = compare(patches, split, folder, NETWORK, RECIPE, resume=True, encoder=ENCODER)
    assert scores(again) == scores(whole)
    assert written(folder) == after
    with pytest.raises(OutcropError, match=r"continue with `outcrop\.compare.encoder=encoder"):
        compare(patches, split, folder, NETWORK, RECIPE, resume=True)
    wider = replace(ENCODER, network=VaeGan(latent=8, filters=4))
    with pytest.raises(OutcropError, match=r"network\.latent was 4, is 8"):
        compare(patches, split, folder, NETWORK, RECIPE, resume=True, encoder=wider)


def test_an_interrupted_comparison_with_encoders_is_resumed(
    made, patches, split, tmp_path, monkeypatch
):
    whole, _ = made
    real = training.train_vaegan

    def stop_at_second(patches, split, folder, *how, **more):
        if folder.name == "encoder-random":
            raise KeyboardInterrupt
        return real(patches, split, folder, *how, **more)

    monkeypatch.setattr(training, "train_vaegan", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        compare(patches, split, tmp_path / "c", NETWORK, RECIPE, encoder=ENCODER)
    monkeypatch.setattr(training, "train_vaegan", real)
    again = compare(patches, split, tmp_path / "c", NETWORK, RECIPE, resume=True, encoder=ENCODER)
    assert scores(again) == scores(whole)


def test_every_seed_has_an_encoder_of_its_own(patches, tmp_path):
    split = RandomSplit().assign(patches)
    found = compare(patches, split, tmp_path / "c", NETWORK, RECIPE, seeds=[0, 3], encoder=ENCODER)
    row = next(row for row in found.rows if row.title == CODED)
    assert (row.seeds, row.runs) == ((0, 3), ("encoder", "encoder-3"))
    encoders = [read_vaegan_run(tmp_path / "c" / name, "cpu") for name in row.runs]
    assert [one.config["recipe"]["seed"] for one in encoders] == [0, 3]
    codes = [one.model.encode(patches.images[:9])[0] for one in encoders]
    assert not np.allclose(*codes)


def test_the_command_line_to_the_page(home, monkeypatch, capfd):
    monkeypatch.chdir(home)
    options = "--depth 8 --width 4 --epochs 1 --batch 64 --device cpu --trials 0"
    theirs = "--model vae --latent 4 --filters 4 --model-epochs 2"
    assert run(f"generative compare p.zarr --split p.json {options} {theirs} -o by-line") == 0
    assert "VAE code" in capfd.readouterr().out
    assert len(read_vaegan_run("by-line/encoder", "cpu").metrics) == 2
    assert run("report by-line") == 0
    page = Path("by-line/report.html").read_text()
    # Defaults that depend on the patches are stored.
    decided = "--crop 0 --rotate true --gain 0.0 --jitter 0.0"
    assert f"{options.replace('--device', f'{decided} --device')} {theirs} --output NEW</" in page


def test_the_page_notes_an_encoder_that_options_cannot_describe(made, tmp_path):
    folder = tmp_path / "c"
    shutil.copytree(made[1], folder)
    remark = "the encoder has another recipe, encoder/config.json"
    assert remark not in html.unescape(write_report(folder).read_text())
    path = folder / "encoder" / "config.json"
    config = json.loads(path.read_text())
    config["recipe"]["gamma"] = 0.5
    write_json(path, config)
    assert remark in html.unescape(write_report(folder, overwrite=True).read_text())


def brightness(images):
    """The mean of each band, as features without training."""
    return images.mean(axis=(2, 3))


def contrast(images):
    return images.std(axis=(2, 3))


def flat(images):
    return images.mean(axis=(1, 2, 3))


def test_a_function_of_images_is_an_encoder(patches, split, tmp_path):
    folder = tmp_path / "c"
    found = compare(patches, split, folder, NETWORK, RECIPE, encoder=brightness)
    (row,) = [one for one in found.rows if one.features == "brightness"]
    assert (row.model, row.runs) == ("decision tree", ())
    assert row.gap is not None
    assert not (folder / "encoder").exists()
    sides = (brightness(patches.take(side)) for side in (split.train, split.validation))
    seen, unseen = (side.astype(np.float32) for side in sides)
    labels, groups = patches.labels[split.train], split.groups[split.train]
    fitted = TREES[0].fit(seen, labels, groups, len(patches.classes), seed=0)
    with np.load(folder / "predictions.npz", allow_pickle=False) as said:
        np.testing.assert_array_equal(said[row.title][0], fitted.predict(unseen))
    page = html.unescape(write_report(folder).read_text())
    assert "outcrop compare PATCHES" in page
    assert "your own encoder can be passed in Python only" in page
    again = compare(patches, split, folder, NETWORK, RECIPE, resume=True, encoder=brightness)
    assert scores(again) == scores(found)
    with pytest.raises(OutcropError, match="with the features brightness, not contrast"):
        compare(patches, split, folder, NETWORK, RECIPE, resume=True, encoder=contrast)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [(flat, r"flat returns .* shape"), (VaeGanPlan, "pass a plan"), (7, "pass a plan")],
)
def test_a_wrong_encoder_raises_an_error(patches, split, tmp_path, encoder, message):
    with pytest.raises(OutcropError, match=message):
        compare(patches, split, tmp_path / "c", NETWORK, RECIPE, encoder=encoder)
    assert not (tmp_path / "c").exists()


def test_a_vaegan_plan_fulfils_the_contract_of_encoders():
    assert isinstance(ENCODER, LearntFeatures)
    assert ENCODER.title == "VAE-GAN code"


def test_flips_seed_and_machine_are_those_of_the_classifier():
    theirs = replace(RECIPE, seed=5, augmentation=replace(RECIPE.augmentation, flip=False))
    plan = EncoderPlan(model_epochs=7).beside(theirs)
    recipe = plan.recipe
    assert (recipe.epochs, recipe.seed, recipe.machine) == (7, 5, theirs.machine)
    assert not recipe.augmentation.flip
    assert recipe.batch == VaeGanRecipe().batch


COMPARE = "generative compare p.zarr --split p.json -o x"
REFUSED = {
    "a GAN": (f"{COMPARE} --model gan", "--model", "encoder", "take vaegan or vae"),
    "a learned metric": (f"{COMPARE} --model vae-dis", "--model", "similarity run"),
    "an unknown model": (f"{COMPARE} --model vqvae", "--model", "take vaegan"),
    "patches of six pixels": (
        "generative compare small.zarr --split small.json -o x", "6 × 6", "32, 64 or 128"),
    "finished runs": (f"{COMPARE} --runs a,b", "there is no option 'runs'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gives_one_error_line(home, name, monkeypatch, capfd):
    check_refused(home, monkeypatch, capfd, *REFUSED[name])
