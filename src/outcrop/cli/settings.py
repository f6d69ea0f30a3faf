"""The value of every option, and the arguments that a command is called with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from outcrop.cli.group import Command
from outcrop.cli.options import (
    REQUIRED,
    Option,
    dataclasses,
    default_of,
    fields_of,
    kinds_in,
    naming,
    nullable,
)
from outcrop.cli.presets import PRESETS
from outcrop.cli.values import fail, read_value
from outcrop.errors import OutcropError
from outcrop.models.architectures import network_named


@dataclass(frozen=True)
class Settings:
    """The value of every option.

    Attributes:
        given: names of the options that the user set.
    """

    values: Mapping[str, Any]
    given: frozenset[str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def settings_of(
    function: Command,
    options: Mapping[str, Option],
    words: Mapping[str, Any],
    config: Mapping[str, Any],
    file: str | None,
) -> Settings:
    """The value of every option: from the command line, the config file, or its default.

    In a config file, null means the default for an option that cannot be None.

    Args:
        words: text of the options on the command line.
        config: entries of the config file.
        file: its name, for error lines.
    """
    read: dict[str, Any] = {}
    for name, option in options.items():
        if name in words:
            read[name] = read_value(option, words[name], "")
        elif config.get(name) is not None or (name in config and nullable(option)):
            read[name] = read_value(option, config[name], f"{file}: ")
    defaults = {name: option.default for name, option in options.items()}
    preset = {
        name: value
        for name, value in PRESETS.get(read.get("preset") or "", {}).items()
        # Where tuning is off by default, the preset need not switch it off.
        if name in options and not (name == "trials" and defaults[name] is None)
    }
    defaults |= preset
    # A named instance changes the defaults of its fields.
    values = defaults | _chosen(function, defaults | read) | read
    if missing := [one.dashed for name, one in options.items() if values[name] is REQUIRED]:
        fail(f"these are missing: {', '.join(missing)}; see --help")
    names = {name for name, value in read.items() if value is not None}
    return Settings(values, frozenset(names if read.get("network") else names | set(preset)))


def _chosen(function: Command, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of all instances that the user chose by name."""
    found: dict[str, Any] = {}
    for name, kinds in dataclasses(function):
        named = naming(kinds)
        if named is not None and settings[name]:
            instance = named(settings[name])
            if isinstance(instance, kinds):
                found |= _flattened(instance)
    return found


def _flattened(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass; fields that are dataclasses are replaced by their own."""
    found: dict[str, Any] = {}
    for item in fields(instance):
        value = getattr(instance, item.name)
        found |= _flattened(value) if is_dataclass(value) else {item.name: value}
    return found


def arguments_of(function: Command, settings: Settings) -> dict[str, Any]:
    """The arguments for a command, with its dataclasses built from their fields."""
    hints = get_type_hints(function)
    return {
        name: _argument(name, function, hints, settings)
        for name in inspect.signature(function).parameters
    }


def _argument(name: str, function: Command, hints: dict[str, Any], settings: Settings) -> Any:
    kinds = kinds_in(hints[name])
    if not kinds:
        return settings[name]
    default = inspect.signature(function).parameters[name].default
    if len(kinds) == 1 and kinds[0] is not hints[name] and settings[name] is None:
        _refuse_fields(name, kinds[0], function, settings)
        return None
    return _instance(name, kinds, default, settings)


def _instance(name: str, kinds: tuple[Any, ...], default: Any, settings: Settings) -> Any:
    """The value of a parameter that is a dataclass: from its options, by name, or its default."""
    if len(kinds) == 1:
        return _build(kinds[0], settings)
    named = settings[name]
    chosen = None if named is None else network_named(named)
    given = {kind: _given(kind, settings) for kind in kinds}
    wanted = [kind for kind in kinds if isinstance(chosen, kind)]
    if chosen is None:
        wanted = [kind for kind in kinds if given[kind]]
        if not wanted:
            return default
    for kind in kinds:
        if given[kind] and kind not in wanted[:1]:
            what = f"--{name} {named}" if named else f"--{given[wanted[0]][0].replace('_', '-')}"
            raise OutcropError(
                f"--{given[kind][0].replace('_', '-')}",
                f"has no meaning beside {what}; leave it out",
            )
    return _build(wanted[0], settings) if wanted else chosen


def _given(kind: Any, settings: Settings) -> list[str]:
    """The fields of a dataclass that the user set."""
    return [item.name for item in fields(kind) if item.name in settings.given]


def _refuse_fields(name: str, kind: Any, function: Command, settings: Settings) -> None:
    """Raise an error for fields of an unused dataclass, unless another one has them too."""
    others = [other for each, kinds in dataclasses(function) if each != name for other in kinds]
    shared = {field for other in others if other not in _within(kind) for field in fields_of(other)}
    for field, option in fields_of(kind).items():
        if field not in shared and settings[field] != option.default:
            raise OutcropError(
                f"--{field.replace('_', '-')}", f"needs --{name.replace('_', '-')}; give it too"
            )


def _within(kind: Any) -> list[Any]:
    return [kind, *(inner for _, kinds in dataclasses(kind) for inner in kinds)]


def _build(kind: Any, settings: Settings) -> Any:
    hints, made = get_type_hints(kind), {}
    for item in fields(kind):
        kinds, name = kinds_in(hints[item.name]), item.name
        made[name] = _instance(name, kinds, default_of(item), settings) if kinds else settings[name]
    return kind(**made)
