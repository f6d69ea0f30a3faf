"""The final model of a comparison, fitted to all labelled patches."""

import json

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

import outcrop as oc
from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.models.baselines import Baseline
from outcrop.training.recipe import Recipe, Tuning
from tests.test_compare import leaky_patches

NETWORK = ResidualNet(depth=8, width=4)
RECIPE = Recipe(epochs=2, batch=64, learning_rate=0.03, seed=5)
MODELS = (Baseline("decision tree", "centre pixel"), GaussianNB())


@pytest.fixture(scope="module")
def patches():
    return leaky_patches(polygons=30, each=4)


@pytest.fixture(scope="module")
def compared(patches, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared") / "comparison"
    folds = oc.default_folds(patches, 3, block=1000)
    oc.compare(
        patches, folds, folder, NETWORK, RECIPE, baselines=MODELS, gap_seeds=0, workers=1,
        tuning=Tuning(0),
    )  # fmt: skip
    return folder


def test_a_network_is_trained_with_the_settings_of_the_comparison(patches, compared, tmp_path):
    run = oc.fit_to_all(patches, compared, tmp_path / "final", "network")
    ours, theirs = (
        json.loads((folder / "config.json").read_text())
        for folder in (tmp_path / "final", compared / "fold-0/network")
    )
    assert ours["network"] == theirs["network"]
    assert ours["recipe"] == theirs["recipe"]
    assert run.predictions.cross_validated
    assert len(run.predictions.truth) == len(patches)
    assert ours["split"]["how"]["splitter"] == "all labelled ground"
    again = oc.fit_to_all(patches, compared, tmp_path / "final", "network", resume=True)
    assert np.array_equal(again.predictions.probabilities, run.predictions.probabilities)


@pytest.mark.parametrize("model", ["Decision-tree centre pixel", MODELS[0], GaussianNB()])
def test_a_classical_model_is_fitted_by_title_or_as_it_is(patches, compared, tmp_path, model):
    run = oc.fit_to_all(patches, compared, tmp_path / "final", model)
    name = "GaussianNB" if isinstance(model, GaussianNB) else "decision tree"
    assert name in run.model.title
    assert run.predictions.cross_validated
    assert oc.read_model(tmp_path / "final").title == run.model.title


def test_the_recommended_model_is_the_default(patches, compared, tmp_path):
    recommended = oc.compare(
        patches, oc.default_folds(patches, 3, block=1000), compared, NETWORK, RECIPE, resume=True,
        baselines=MODELS, gap_seeds=0, workers=1, tuning=Tuning(0),
    ).recommended  # fmt: skip
    model = GaussianNB() if recommended.model == "GaussianNB" else None
    run = oc.fit_to_all(patches, compared, tmp_path / "final", model)
    assert recommended.model.lower() in run.model.title.lower()


def test_errors_say_what_to_do(patches, compared, tmp_path):
    with pytest.raises(OutcropError, match=r"^`model`: there is no 'forest'; use one of 'Gauss"):
        oc.fit_to_all(patches, compared, tmp_path / "a", "forest")
    with pytest.raises(OutcropError, match="GaussianNB, centre pixel: cannot be fitted from its"):
        oc.fit_to_all(patches, compared, tmp_path / "a", "GaussianNB, centre pixel")
    with pytest.raises(OutcropError, match="was made for another patch set"):
        oc.fit_to_all(leaky_patches(polygons=30, each=5), compared, tmp_path / "a")
    with pytest.raises(OutcropError, match=r"no such comparison; make one with `outcrop\.compare`"):
        oc.fit_to_all(patches, tmp_path, tmp_path / "a")
    assert not (tmp_path / "a").exists()
