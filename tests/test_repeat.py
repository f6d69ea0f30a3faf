"""The command that a page prints makes the same network with the same recipe."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.cli.commands import COMMANDS
from outcrop.cli.parser import parse
from outcrop.models.architectures import MultiScaleNet, ResidualNet, UserNet, network_json
from outcrop.reporting.repeat import _changes, _classical, _network
from outcrop.training.recipe import Augmentation, Machine, Recipe, suited

NETWORKS = (
    ResidualNet(),
    ResidualNet(depth=8, width=4, survival=0.5),
    MultiScaleNet(),
    MultiScaleNet(hidden=8),
    UserNet("math:prod"),
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


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(NETWORKS), RECIPES)
def test_options_make_the_same_network_and_the_same_recipe(network, recipe):
    how = suited(recipe, network)
    options = shlex.split(" ".join(_changes(network, how)))
    words = ["train", "p.zarr", "--split", "s.json", *options, "--output", "new"]
    _, given_ = parse(COMMANDS, words, "", "")
    assert given_["network"] == network
    assert suited(given_["recipe"], network) == how


@pytest.mark.parametrize("network", NETWORKS)
def test_the_network_of_a_run_is_named_and_none_of_its_code_is_run(network):
    assert _network(network_json(network)) == network


def test_options_say_nothing_that_goes_without_saying():
    network = ResidualNet(depth=8)
    how = suited(Recipe(epochs=3), network)
    assert _changes(network, replace(how, seed=5)) == ["--depth 8", "--epochs 3", "--seed 5"]
    assert _changes(MultiScaleNet(), suited(Recipe(), MultiScaleNet())) == ["--network multi-scale"]


@pytest.mark.parametrize("seed", [0, 3])
def test_a_classical_model_is_named_as_the_command_line_names_it(seed):
    made = {"name": "random forest", "features": "patch statistics", "seed": seed}
    words = ["train", "p.zarr", *shlex.split(_classical(made)), "-o", "new"]
    _, given_ = parse(COMMANDS, words, "", "")
    assert (given_["classical"], given_["features"]) == ("random-forest", "patch-statistics")
    assert given_["recipe"] == Recipe(seed=seed)
