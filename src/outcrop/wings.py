"""Packages that no other package imports (wings); they are found here by name.

What a wing offers stands in a module of an agreed name: `commands` (`outcrop.cli.commands`) and
`report` (`outcrop.reporting.page`).
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

WINGS = ("outcrop.synthetic", "outcrop.generative", "outcrop.locating")


def offering(module: str) -> list[ModuleType]:
    """The modules with this name in the wings."""
    names = [f"{wing}.{module}" for wing in WINGS]
    return [import_module(name) for name in names if find_spec(name) is not None]
