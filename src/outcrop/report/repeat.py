"""The command that does a finished piece of work again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from outcrop.models.architectures import ResidualNet
from outcrop.report.material import Material
from outcrop.training.recipe import Augmentation, Recipe


def command(material: Material) -> str:
    """A line for the shell; PATCHES and NEW stand for what the folder does not tell."""
    folder = shlex.quote(str(material.folder))
    if material.kind == "experiment":
        return f"outcrop experiment --config {folder}/experiment.yaml --output NEW"
    config = material.config
    recipe = dict(config["recipe"])
    recipe["augmentation"] = Augmentation(**recipe["augmentation"])
    options = [*_options(ResidualNet(**config["network"])), *_options(Recipe(**recipe))]
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
        elif name == "flip":
            yield "--flip" if value else "--no-flip"
        else:
            yield f"--{name} {str(value).lower() if isinstance(value, bool) else value}"
