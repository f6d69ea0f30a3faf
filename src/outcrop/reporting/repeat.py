"""The command that does a finished piece of work again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from outcrop.models.architectures import ResidualNet
from outcrop.reporting.material import Material
from outcrop.training.recipe import recipe_of


def command(material: Material) -> str:
    """A line for the shell; PATCHES and NEW stand for what the folder does not tell."""
    folder = shlex.quote(str(material.folder))
    if material.kind == "experiment":
        return f"outcrop experiment --config {folder}/experiment.yaml --output NEW"
    config = material.config
    network, recipe = ResidualNet(**config["network"]), recipe_of(config["recipe"])
    options = [*_options(network), *_options(recipe)]
    split = f"{folder}/network/split.json" if material.kind == "compare" else f"{folder}/split.json"
    return " ".join([f"outcrop {material.kind} PATCHES --split {split}", *options, "--output NEW"])


def _options(settings: Any) -> Iterator[str]:
    """What differs from the defaults, as options."""
    usual = type(settings)()
    for field in fields(settings):
        value = getattr(settings, field.name)
        name = field.name.replace("_", "-")
        if is_dataclass(value):
            yield from _options(value)
        elif value == getattr(usual, field.name):
            continue
        elif isinstance(value, bool):
            yield f"--{name}" if value else f"--no-{name}"
        elif isinstance(value, list):
            yield f"--{name} {','.join(map(str, value))}"
        else:
            yield f"--{name} {value}"
