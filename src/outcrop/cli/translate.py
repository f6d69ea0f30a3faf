"""Messages of the library in the words of the command line.

Messages of the library name arguments and functions of Python in backticks, such as `` `axis=0` ``
or `` `outcrop.compare(resume=True)` ``. The command line shows them as `--axis 0` and
`` `outcrop compare --resume` ``. Other text stays as it is.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from outcrop.cli.group import Command, Group
from outcrop.cli.options import Option, options_of

# Arguments whose option has another name.
_OPTIONS = {
    "assign_all": "all_folds",
    "model": "ensemble",
    "network": "full",
    "parts": "model",
    "n_splits": "folds",
    "random_state": "seed",
}

# Functions, with their arguments or without, whose command has another name.
_COMMANDS = {
    "MatchingSplit": "split --by matching",
    "compare(encoder=encoder)": "generative compare",
    "cut": "patches",
    "make_cube": "synthetic cube",
    "map_scene": "map",
    "run_experiment": "experiment",
    "splits": "split",
    "train_vaegan": "generative train",
    "with_positions": "locate --patches-output",
    "write_report": "report",
}

_IN_BACKTICKS = re.compile(r"`([^`\s][^`]*)`")
_ARGUMENT = re.compile(r"([a-z]\w*)(?:=(.+))?")
_FUNCTION = re.compile(r"outcrop\.(([\w.]+)(?:\((.*)\))?)")


def as_options(text: str, command: Command | None = None) -> str:
    """Replace the arguments and functions that `text` names by options and commands.

    Args:
        text: a message of the library.
        command: the command that is run; its own options are preferred to those of others.

    >>> as_options("scene.tif: band 3 is all nodata; pass `bands=[1, 2]`")
    'scene.tif: band 3 is all nodata; pass --bands 1,2'
    >>> as_options("is not finished; continue with `outcrop.compare(resume=True)`")
    'is not finished; continue with `outcrop compare --resume`'
    """
    return _IN_BACKTICKS.sub(lambda found: _translated(found, command), text)


def option_named(name: str, command: Command | None = None) -> Option | None:
    """The option for an argument of the library: of `command` if it has one, else of any other."""
    other = _OPTIONS.get(name, "")
    own = {} if command is None else options_of(command)
    every = _all_options()
    pairs = (own, other), (own, name), (every, name), (every, other)
    return next((options[known] for options, known in pairs if known in options), None)


def command_named(function: str) -> str | None:
    """The command for a public function, such as `patches` for `cut`; None if there is none."""
    words = _COMMANDS.get(function, function)
    return words if words.split()[0] in _commands() else None


def _translated(found: re.Match[str], command: Command | None) -> str:
    content = found[1]
    if called := _FUNCTION.fullmatch(content):
        whole, function, arguments = called.groups()
        if whole in _COMMANDS:
            return f"`outcrop {_COMMANDS[whole]}`"
        if function == "UserNet.of":  # a network of the user, by the name of its function
            return f"--network {arguments}"
        words = command_named(function)
        return found[0] if words is None else f"`outcrop {words}{_arguments(arguments or '')}`"
    named = _ARGUMENT.fullmatch(content)
    option = None if named is None else option_named(named[1], command)
    return found[0] if named is None or option is None else _written(option, named[2])


def _arguments(text: str) -> str:
    """The arguments of a call as words of a command, each after a space."""
    call = ast.parse(f"_({text})", mode="eval").body
    assert isinstance(call, ast.Call)
    words = [
        str(one.value) if isinstance(one, ast.Constant) else ast.unparse(one).upper()
        for one in call.args
    ]
    for one in call.keywords:
        option = option_named(one.arg or "")
        assert option is not None, text
        words.append(_written(option, ast.unparse(one.value)))
    return "".join(f" {word}" for word in words)


def _written(option: Option, value: str | None) -> str:
    if option.positional:
        return option.dashed.upper()
    if value is None:
        return f"--{option.dashed}"
    try:
        plain = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return f"--{option.dashed} {value}"
    if option.name == "zones" and isinstance(plain, tuple):
        return f"--boxes {_word(plain)}"
    if isinstance(plain, bool):
        return f"--{'' if plain else 'no-'}{option.dashed}"
    return f"--{option.dashed} {shlex.quote(_word(plain))}"


def _word(value: Any) -> str:
    """A value as the command line reads it: items with commas, a range of slices with colons."""
    if not isinstance(value, list | tuple):
        return str(value)
    ranges = [":".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in value]
    return ",".join(f'"{one}"' if "," in one else one for one in ranges)


@cache
def _commands() -> Mapping[str, Command | Group]:
    from outcrop.cli.commands import COMMANDS

    return COMMANDS


@cache
def _all_options() -> Mapping[str, Option]:
    """The options of all commands by name; an option stands before a positional parameter."""
    every = [option for one in _flat(_commands()) for option in options_of(one).values()]
    every.sort(key=lambda option: option.positional)
    return {option.name: option for option in reversed(every)}


def _flat(commands: Mapping[str, Command | Group]) -> Iterator[Command]:
    for one in commands.values():
        if isinstance(one, Group):
            yield from _flat(one.commands)
        else:
            yield one
