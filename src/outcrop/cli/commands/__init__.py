"""The commands. Each is a typed function: parse, call, print."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from outcrop.cli.commands.data import audit, patches, split
from outcrop.cli.commands.maps import assess, map, sample
from outcrop.cli.commands.pictures import generate
from outcrop.cli.commands.training import compare, evaluate, export, models, reproduce, train
from outcrop.cli.commands.whole import experiment, report

# Packages beside the main house. Each adds the commands of its module `commands`; none is imported
# by name, so that the house does without them.
WINGS = ("outcrop.synthetic", "outcrop.locating")

_HOUSE: tuple[Callable[..., Any], ...] = (
    experiment,
    patches,
    split,
    audit,
    models,
    train,
    generate,
    evaluate,
    compare,
    map,
    sample,
    assess,
    export,
    report,
    reproduce,
)
# As help lists them; others come last.
_FIRST = ("demo", "experiment", "coast", "cube", "patches", "locate")


def _all_commands() -> dict[str, Callable[..., Any]]:
    every = [*_HOUSE]
    for wing in WINGS:
        every += import_module(f"{wing}.commands").COMMANDS
    named = {function.__name__: function for function in every}
    return {name: named[name] for name in (*_FIRST, *named) if name in named}


COMMANDS = _all_commands()
