"""Plans of experiments: as YAML, and as options of the command line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from outcrop.cli.commands.whole import experiment
from outcrop.cli.parser import parse
from outcrop.errors import OutcropError
from outcrop.models.architectures import MultiScaleNet, ResidualNet
from outcrop.training.recipe import Recipe
from outcrop.workflow import experiment as running
from outcrop.workflow.plan import Experiment

WORDS = ["experiment", "a.tif", "--labels", "l.gpkg", "-o", "x"]


def parsed(*words: str) -> Experiment:
    return parse({"experiment": experiment}, words, "1", "")[1]["plan"]


@pytest.mark.parametrize(
    "network",
    [None, MultiScaleNet(), MultiScaleNet(hidden=32), ResidualNet(), ResidualNet(14, widen=2)],
    ids=str,
)
def test_a_plan_is_the_same_from_yaml_and_from_a_config_file(network, tmp_path):
    plan = Experiment(["a.tif"], ["l.gpkg"], network=network, recipe=Recipe(epochs=3))
    assert Experiment.from_yaml(plan.to_yaml()) == plan
    path = tmp_path / "plan.yaml"
    path.write_text(plan.to_yaml())
    assert parsed("experiment", "--config", str(path), "-o", "x") == plan


@pytest.mark.parametrize(
    ("words", "network"),
    [
        ((), None),
        (("--depth", "8"), ResidualNet(8)),
        (("--network", "resnet110-sd", "--width", "8"), ResidualNet(110, 8, survival=0.5)),
        (("--network", "multi-scale"), MultiScaleNet()),
        (("--members", "3"), MultiScaleNet(members=3)),
    ],
    ids=str,
)
def test_options_select_the_network(words, network):
    assert parsed(*WORDS, *words).network == network


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--network", "multi-scale", "--depth", "8"), "--depth: has no meaning beside --network"),
        (("--members", "3", "--depth", "8"), "has no meaning beside"),
        (("--network", "resnet2"), "did you mean resnet"),
    ],
    ids=str,
)
def test_options_of_several_networks_are_refused(words, line):
    with pytest.raises(OutcropError, match=line):
        parsed(*WORDS, *words)


@pytest.mark.parametrize(("step", "method"), [(1, "auto"), (3, "patches")])
def test_an_experiment_maps_in_steps_whatever_model_is_recommended(
    run, tmp_path, monkeypatch, step, method
):
    asked = []
    monkeypatch.setattr(running, "map_scene", lambda *how, **more: asked.append(more["method"]))
    scene = SimpleNamespace(opened=["scene.tif"], name="scene", title="scene")
    plan = Experiment(["scene.tif"], ["labels.tif"], step=step)
    running._map(plan, [scene], run, tmp_path / "maps")
    assert asked == [method]


@pytest.mark.parametrize("reader", ["plan", "command"])
def test_files_of_older_versions_may_say_that_an_option_is_off_and_not_that_it_is_on(
    reader, tmp_path, capsys
):
    path = tmp_path / "experiment.yaml"
    text = Experiment(["a.tif"], ["b.gpkg"]).to_yaml()

    def read(fit_batch):
        path.write_text(f"{text}fit_batch: {fit_batch}\n")
        if reader == "plan":
            return Experiment.from_yaml(path.read_text())
        return parsed("experiment", "--config", str(path), "-o", "x")

    read("false")
    with pytest.raises((OutcropError, SystemExit)) as refused:
        read("true")
    said = str(refused.value) + capsys.readouterr().err
    assert "any more; set the number of patches with batch instead" in said
