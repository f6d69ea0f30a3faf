"""The command that does a finished piece of work again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from outcrop.experiment.compare import FOLDS, SPLIT
from outcrop.files import read_json
from outcrop.models.architectures import (
    MULTI_SCALE,
    MultiScaleNet,
    Network,
    ResidualNet,
    UserNet,
    network_of_json,
)
from outcrop.models.vaegan import VaeGan
from outcrop.reporting.material import Material
from outcrop.training.recipe import Recipe, Tuning, recipe_of, suited
from outcrop.training.vaegan.recipe import (
    EncoderPlan,
    VaeGanPlan,
    VaeGanRecipe,
    vaegan_recipe_of,
)
from outcrop.training.vaegan.run import VaeGanRun


def command(material: Material) -> str:
    """A line for the shell; PATCHES and NEW stand for what the folder does not tell."""
    folder = shlex.quote(str(material.folder))
    if material.kind == "experiment":
        return f"outcrop experiment --config {folder}/experiment.yaml --output NEW"
    config, comparison = material.config, material.comparison
    split = f"{folder}/split.json"
    network, recipe = _given(config)
    options, remark = _changes(network, recipe), ""
    budget = _budget(config, material.kind)
    trained = any((material.folder / name).exists() for name in ("network", "fold-0"))
    if comparison is not None and trained:
        split = f"{folder}/{_kept_split(material.folder)}"
        if len(seeds := comparison.rows[0].seeds) > 1:
            alike = replace(recipe, seed=Recipe().seed)
            options = [*_changes(network, alike), f"--seeds {','.join(map(str, seeds))}"]
        coded = [row.runs for row in comparison.rows if row.runs and row.features != "patch"]
        if coded:
            more, remark = _of_encoder(material.folder / coded[0][0], recipe)
            options += more
    elif comparison is not None:
        runs = [_from_here(material.folder / run) for row in comparison.rows for run in row.runs]
        split, options = f"{runs[0]}/split.json", [f"--runs {','.join(runs)}"]
        budget = []
    begun = f"outcrop {material.kind} PATCHES --split {split}"
    return " ".join([begun, *options, *budget, "--output NEW"]) + remark


def vaegan_command(run: VaeGanRun) -> str:
    """The same for networks that learn pictures; GAN and CLASSIFIER stand for other runs."""
    network, recipe = run.model.network, vaegan_recipe_of(run.config["recipe"])
    others = ["--similarity GAN"] if network.parts == "vae-dis" else []
    others += ["--judge CLASSIFIER"] if run.judged else []
    return " ".join(
        [
            f"outcrop train PATCHES --split {shlex.quote(str(run.folder))}/split.json",
            f"--model {network.parts}",
            *_options(network, VaeGan(network.parts)),
            *_options(recipe, VaeGanRecipe()),
            *others,
            "--output NEW",
        ]
    )


def _from_here(run: Path) -> str:
    return shlex.quote(os.path.relpath(run.resolve()))


def _kept_split(folder: Path) -> str:
    """Where the folds or the split of a comparison lie in its folder."""
    names = (FOLDS, SPLIT)
    return next((name for name in names if (folder / name).exists()), f"network/{SPLIT}")


def _of_encoder(folder: Path, recipe: Recipe) -> tuple[list[str], str]:
    """Options of the networks whose codes the baselines saw, and what no option can say.

    Args:
        folder: of an encoder.
        recipe: of the classifier.
    """
    config = read_json(folder / "config.json", "run", "compare")
    network = VaeGan(**config["network"])
    made = VaeGanPlan(network, vaegan_recipe_of(config["recipe"]))
    plan = EncoderPlan(network, made.picture_recipe.epochs)
    same = plan.beside(recipe) == made
    remark = "" if same else "  # but the encoder's recipe, encoder/config.json, is another"
    changes = _options(plan, EncoderPlan.named(network.parts))
    return [f"--model {network.parts}", *changes], remark


def _given(config: dict[str, Any]) -> tuple[dict[str, Any] | None, Recipe]:
    """Network, as `network_json` gives it, and recipe: what was given and not what tuning chose."""
    if not (tuning := config.get("tuning")):
        return config["network"], recipe_of(config["recipe"])
    given = tuning["given"]
    return given["network"], recipe_of({**given["recipe"], "machine": config["recipe"]["machine"]})


def _budget(config: dict[str, Any], kind: str) -> list[str]:
    """Options of the tuning; a comparison tunes if nothing is said, and a training does not."""
    tuning, usual = config.get("tuning"), Tuning()
    if not tuning:
        return ["--trials 0"] if kind == "compare" else []
    options = []
    if kind != "compare" or tuning["trials"] != usual.trials:
        options.append(f"--trials {tuning['trials']}")
    if tuning["tuning_folds"] != usual.tuning_folds:
        options.append(f"--tuning-folds {tuning['tuning_folds']}")
    return options


def _changes(network: dict[str, Any] | None, recipe: Recipe) -> list[str]:
    """What was said, or has to be because it is not what suits the network."""
    described = MultiScaleNet() if network is None else _described(network)
    usual = suited(Recipe(), described)
    # What the rates and the warm-up are by default follows from these two.
    by_these = suited(Recipe(epochs=recipe.epochs, solver=recipe.solver), described)
    usual = replace(by_these, epochs=usual.epochs, solver=usual.solver)
    return [*_of_network(network), *_options(suited(recipe, described), usual)]


def _described(network: dict[str, Any]) -> Network:
    """The network, of which one of the user's is not made."""
    return UserNet(network["factory"]) if "factory" in network else network_of_json(network)


def _of_network(network: dict[str, Any] | None) -> list[str]:
    if network is None:
        return []
    described = _described(network)
    if isinstance(described, UserNet):
        return [f"--network {shlex.quote(described.factory)}"]
    if isinstance(described, MultiScaleNet):
        return [f"--network {MULTI_SCALE}", *_options(described, MultiScaleNet())]
    return list(_options(described, ResidualNet())) or ["--network resnet20"]


def _options(settings: Any, usual: Any) -> Iterator[str]:
    """What differs from the defaults, as options."""
    for field in fields(settings):
        value, default = getattr(settings, field.name), getattr(usual, field.name)
        name = field.name.replace("_", "-")
        if is_dataclass(value):
            yield from _options(value, default)
        elif value == default:
            continue
        elif isinstance(default, bool):
            yield f"--{name}" if value else f"--no-{name}"
        elif isinstance(value, list):
            yield f"--{name} {','.join(map(str, value))}"
        elif value is None or isinstance(value, bool):
            yield f"--{name} {'null' if value is None else str(value).lower()}"
        else:
            yield f"--{name} {shlex.quote(str(value))}"
