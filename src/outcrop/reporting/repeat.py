"""The command line that repeats finished work."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from outcrop.models.architectures import (
    MULTI_SCALE,
    MultiScaleNet,
    Network,
    UserNet,
    network_of_json,
)
from outcrop.models.baselines import BASELINES
from outcrop.models.features import FEATURES
from outcrop.reporting.material import Material
from outcrop.training.folder import kind_of
from outcrop.training.recipe import Recipe, Tuning, recipe_of, suited
from outcrop.wings import offering
from outcrop.workflow.compare import FOLDS, SPLIT

_OWN_ENCODER = "  # your own encoder can be passed in Python only"
_OWN_ESTIMATOR = "  # your own estimator can be passed in Python only"
_OWN_BASELINES = "  # your own choice of classical models can be passed in Python only"


def command(material: Material) -> str:
    """A line for the shell; PATCHES and NEW stand for paths that the folder does not contain."""
    folder = shlex.quote(str(material.folder))
    if material.kind == "experiment":
        return f"outcrop experiment --config {folder}/experiment.yaml --output NEW"
    config, comparison, encoder = material.config, material.comparison, list[str]()
    split = f"{folder}/split.json"
    trained = any((material.folder / name).exists() for name in ("network", "fold-0"))
    if comparison is not None and config and not trained:
        runs = [_from_here(material.folder / run) for row in comparison.rows for run in row.runs]
        joined = ",".join(runs)
        return f"outcrop compare PATCHES --split {runs[0]}/split.json --runs {joined} --output NEW"
    if "classical" in config:
        options, remark = [_classical(config["classical"])], ""
        if "estimator" in config["classical"]:
            remark = _OWN_ESTIMATOR
    elif comparison is None:
        options, remark = [*_of_run(config)[0], *_of_tuning(config, Tuning(0))], ""
    else:
        split = f"{folder}/{_kept_split(material.folder)}"
        options, recipe = _of_comparison(config, comparison.rows[0].seeds)
        encoder, remark = _of_features(material, recipe)
        options += encoder
    name = "generative compare" if encoder else material.kind
    begun = f"outcrop {name} PATCHES --split {split}"
    return " ".join([begun, *options, "--output NEW"]) + remark


def _from_here(run: Path) -> str:
    return shlex.quote(os.path.relpath(run.resolve()))


def _kept_split(folder: Path) -> str:
    """Name of the file in the folder of a comparison that holds its folds or its split."""
    names = (FOLDS, SPLIT)
    return next((name for name in names if (folder / name).exists()), f"network/{SPLIT}")


def _of_comparison(config: dict[str, Any], seeds: Sequence[int]) -> tuple[list[str], Recipe]:
    """Options of network, seeds and tuning; and the recipe of the first seed."""
    several = [f"--seeds {','.join(map(str, seeds))}"] if len(seeds) > 1 else []
    if not config:
        recipe = Recipe(seed=seeds[0])
        return ["--only-classical", *(several or options_of(recipe, Recipe()))], recipe
    options, recipe = _of_run(config, seed=not several)
    return [*options, *several, *_of_tuning(config, Tuning())], recipe


def _of_features(material: Material, recipe: Recipe) -> tuple[list[str], str]:
    """Options of the encoder of the baselines, and a remark on what options cannot describe."""
    comparison = material.comparison
    assert comparison is not None
    for row in comparison.rows:
        if row.features == "patch":
            continue
        if row.runs:
            folder = material.folder / row.runs[0]
            kind = kind_of(folder)
            for wing in offering("report"):
                if kind == wing.KIND:
                    return wing.encoder_options(folder, recipe)
            return [], _OWN_ENCODER
        if row.features not in FEATURES:
            return [], _OWN_ENCODER
    models = {(row.model, row.features) for row in comparison.rows if row.features != "patch"}
    usual = {(one.name, one.features) for one in BASELINES}
    return [], "" if models == usual else _OWN_BASELINES


def _of_run(config: dict[str, Any], seed: bool = True) -> tuple[list[str], Recipe]:
    """Options of network, recipe and initial weights, as the user gave them; and the recipe.

    Args:
        seed: whether the seed is an option.
    """
    tuned = config.get("tuning", {})
    given = tuned.get("given", config)
    # Without tuning, the stored recipe contains the defaults of the network.
    usual: Recipe = suited(Recipe(), _network(config["network"]))
    if tuned:
        usual = replace(Recipe(), machine=usual.machine)
    recipe = recipe_of({**given["recipe"], "machine": config["recipe"]["machine"]})
    shown = recipe if seed else replace(recipe, seed=usual.seed)
    options = [*_of_network(given["network"]), *options_of(shown, usual)]
    if "from" in (start := config.get("start", {})):
        options.append(f"--start-from {shlex.quote(start['from'])}")
    return options, recipe


def _network(content: dict[str, Any]) -> Network:
    """The network of a run; a user's network by its name only, because its code is not run."""
    return UserNet(content["factory"]) if "factory" in content else network_of_json(content)


def _of_network(content: dict[str, Any] | None) -> list[str]:
    if content is None:  # Tuning selected it.
        return []
    network = _network(content)
    if isinstance(network, UserNet):
        return [f"--network {shlex.quote(network.factory)}"]
    own = list(options_of(network, type(network)()))
    if isinstance(network, MultiScaleNet):
        return [f"--network {MULTI_SCALE}", *own]
    return own or ["--network resnet20"]


def _of_tuning(config: dict[str, Any], usual: Tuning) -> list[str]:
    tuned = config.get("tuning", {})
    made = Tuning(tuned["trials"], tuned["tuning_folds"]) if tuned else Tuning(0)
    return [*options_of(made, usual)] if made.tries or usual.tries else []


def _classical(made: dict[str, Any]) -> str:
    """Options of a classical model."""
    name, features = (made[key].replace(" ", "-") for key in ("name", "features"))
    seed = f" --seed {made['seed']}" if made["seed"] else ""
    return f"--classical {name} --features {features}{seed}"


def options_of(settings: Any, usual: Any) -> Iterator[str]:
    """The settings that differ from the defaults, as options of the command line."""
    for field in fields(settings):
        value, default = getattr(settings, field.name), getattr(usual, field.name)
        name = field.name.replace("_", "-")
        if is_dataclass(value):
            yield from options_of(value, default)
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
