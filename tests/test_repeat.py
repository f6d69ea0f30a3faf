"""The command on the page gives the same network and the same recipe."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from outcrop.cli.commands import COMMANDS
from outcrop.cli.parser import parse
from outcrop.models.architectures import MultiScaleNet, ResidualNet, UserNet, network_json
from outcrop.reporting.repeat import _classical, _of_run, _of_tuning
from outcrop.training.recipe import Augmentation, Machine, Recipe, Tuning, suited
from outcrop.training.tuning import given_json

NETWORKS = (
    ResidualNet(),
    ResidualNet(depth=8, width=4, survival=0.5),
    MultiScaleNet(),
    MultiScaleNet(hidden=8),
    UserNet("torch.nn:Linear"),
)
RECIPES = st.builds(
    Recipe,
    epochs=st.none() | st.integers(1, 50),
    batch=st.none() | st.sampled_from([16, 32, 64]),
    class_balance=st.sampled_from([None, "none", "sqrt", "full"]),
    solver=st.sampled_from([None, "sgd", "adamw"]),
    learning_rate=st.none() | st.floats(1e-4, 0.1),
    warm_up=st.sampled_from([None, 0.0, 1.0]),
    milestones=st.sampled_from([[0.5, 0.75], [0.25]]),
    seed=st.integers(0, 9),
    augmentation=st.builds(
        Augmentation,
        flip=st.booleans(),
        crop=st.sampled_from([0, 3]),
        rotate=st.booleans(),
        gain=st.sampled_from([0.0, 0.2]),
        jitter=st.sampled_from([0.0, 0.1]),
    ),
    machine=st.builds(Machine, device=st.sampled_from(["auto", "cpu"])),
)


# Parsing is slow: shrinking an example would take minutes.
FEW = settings(deadline=None, max_examples=12, phases=[Phase.explicit, Phase.generate])


def again(config, command="train"):
    """Network and recipe that the command line parses from the options of a configuration."""
    usual = Tuning(0) if command == "train" else Tuning()
    options = [*_of_run(config)[0], *_of_tuning(config, usual)]
    words = [command, "p.zarr", *shlex.split(" ".join(options)), "--output", "new"]
    return parse(COMMANDS, words, "", "")[1]


@settings(FEW)
@given(st.sampled_from(NETWORKS), RECIPES)
def test_options_make_the_same_network_and_the_same_recipe(network, recipe):
    how = suited(recipe, network)
    config = {"network": network_json(network), "recipe": asdict(how)}
    found = again(config)
    assert network_json(found["network"]) == network_json(network)
    assert suited(found["recipe"], network) == how
    assert found["trials"] is None
    assert again(config, "compare")["how"].tuning.trials == 0


@settings(FEW)
@given(st.sampled_from([None, *NETWORKS]), RECIPES, st.builds(Tuning, st.integers(2, 6)))
def test_options_do_not_fix_what_tuning_selected(network, recipe, tuning):
    chosen = MultiScaleNet(hidden=5)
    how = suited(Recipe(epochs=60, machine=recipe.machine), chosen)
    config = {
        "network": network_json(chosen),
        "recipe": asdict(how),
        "tuning": {**asdict(tuning), "given": given_json(network, recipe)},
    }
    found = again(config, "compare")["how"]
    assert given_json(found.network, recipe) == given_json(network, recipe)
    assert (found.recipe, found.tuning) == (recipe, tuning)
    assert again(config)["trials"] == tuning.trials


def test_options_omit_the_defaults():
    network = ResidualNet(depth=8)
    how = replace(suited(Recipe(epochs=3), network), seed=5)
    options, _ = _of_run({"network": network_json(network), "recipe": asdict(how)})
    assert options == ["--depth 8", "--epochs 3", "--seed 5"]


@pytest.mark.parametrize("seed", [0, 3])
def test_a_classical_model_has_the_name_of_the_command_line(seed):
    made = {"name": "random forest", "features": "patch statistics", "seed": seed}
    words = ["train", "p.zarr", *shlex.split(_classical(made)), "-o", "new"]
    _, found = parse(COMMANDS, words, "", "")
    assert (found["classical"], found["features"]) == ("random-forest", "patch-statistics")
    assert found["recipe"] == Recipe(seed=seed)
