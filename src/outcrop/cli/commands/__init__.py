"""The commands. Each is a typed function: parse, call, print."""

from __future__ import annotations

from outcrop.cli.commands.data import audit, patches, split
from outcrop.cli.commands.maps import assess, map, sample
from outcrop.cli.commands.training import compare, evaluate, export, models, reproduce, train
from outcrop.cli.commands.whole import experiment, report
from outcrop.cli.group import Command, Group
from outcrop.wings import offering

_HOUSE: tuple[Command, ...] = (
    experiment, patches, split, audit, models, train, evaluate, compare, map, sample, assess,
    export, report, reproduce,
)  # fmt: skip
# As help lists them; others come last.
_FIRST = ("demo", "experiment", "patches", "locate")


def _all_commands() -> dict[str, Command | Group]:
    named: dict[str, Command | Group] = {function.__name__: function for function in _HOUSE}
    for wing in offering("commands"):
        named |= wing.COMMANDS
    return {name: named[name] for name in (*_FIRST, *named) if name in named}


COMMANDS = _all_commands()
RENAMED: dict[str, str] = {
    "map --trust": "map --dissimilarity",
    "map --turns": "map --tta",
    "report --trust": "report --dissimilarity",
    **{old: new for wing in offering("commands") for old, new in wing.RENAMED.items()},
}
"""Old and new names of commands and options that were renamed in this version."""
