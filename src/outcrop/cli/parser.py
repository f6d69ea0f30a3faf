"""From a typed function with a docstring to a command of the command line.

Parameters before the `*` are positional (a list takes one or more values, one with a default may
be left out), the others are options. A list as an option is written with commas: `--bands 1,2,4`;
an item that holds a comma stands in double quotes, or is the name of a file that is there.
A parameter that is a dataclass adds its fields as options; if its class names some instances
(`named`), an option of the parameter's name chooses one, and single fields can still be changed:
`--network resnet110 --survival 0.5`. Where the parameter may be None too, it is so unless one was
chosen, and its fields are refused. Booleans are flags: `--resume` and `--no-resume`. Names are
written with dashes, and `-o` is `--output`. Numbers may be negative: `--boxes -10,5,20,40`.

A config file is YAML: names as on the command line, with dashes or underscores, and values as
there, so that `no` and `01` are text where text is wanted. Only true, false and null are more.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import inspect
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from jsonargparse import (
    ActionYesNo,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    get_loader,
    set_loader,
)

from outcrop.cli.group import Command, Group
from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.models.architectures import network_named

_MODE = "config of outcrop"
_KINDS = {"int": "a whole number", "float": "a number", "list": "a list", "bool": "true or false"}

_NEGATIVE = re.compile(r"-(\.?\d|inf|nan)")


class Parser(ArgumentParser):
    """A parser whose errors are one line and whose options are written with dashes."""

    known: ClassVar[tuple[str, ...]] = ()
    words: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, allow_abbrev=False, parser_mode=_MODE, **settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line on standard error and leave with exit code 2."""
        line = " ".join(str(message).split())
        sys.stderr.write(f"outcrop: {_explain(line, self.known, self.words)}\n")
        raise SystemExit(2)


class _Help(DefaultHelpFormatter):
    """Help with dashes in the names of options, and with defaults but no Python types."""

    def _get_help_string(self, action: argparse.Action) -> str:
        silent = action.default in (None, "", argparse.SUPPRESS) or action.default == []
        shown = action.option_strings and not silent and not isinstance(action, ActionYesNo)
        default = action.default
        written = ",".join(map(str, default)) if isinstance(default, list | tuple) else default
        return (action.help or "") + (f" (default: {written})" if shown else "")

    def _format_action_invocation(self, action: argparse.Action) -> str:
        text = super()._format_action_invocation(action).replace("_", "-")
        return f"-o OUTPUT, {text}" if action.dest == "output" else text

    def _format_usage(self, *arguments: Any, **settings: Any) -> str:
        return super()._format_usage(*arguments, **settings).replace("_", "-")


def parse(
    commands: Mapping[str, Command | Group],
    arguments: Sequence[str],
    version: str,
    description: str,
    prog: str = "outcrop",
) -> tuple[Command, dict[str, Any]]:
    """Find the command and the arguments to call it with.

    Raises:
        SystemExit: with code 2 after one line on standard error, or 0 after help or version.
    """
    named = next((word for word in arguments if not word.startswith("-")), None)
    function = commands.get(named or "")
    if isinstance(function, Group):
        words = list(arguments)
        words.remove(str(named))
        return parse(function.commands, words, version, function.help, f"{prog} {named}")
    options = _options(function) if function else {}
    Parser.words = tuple(_normalise(arguments, options))
    Parser.known = tuple(options)
    chosen: dict[str, Any] = {}
    while True:
        top = Parser(prog=prog, description=description, version=version, formatter_class=_Help)
        subcommands = top.add_subcommands(required=True, dest="command")
        for name, each in commands.items():
            # Only the command that was asked for needs its options; the others, their first line.
            if isinstance(each, Group):
                subcommands.add_subcommand(name, Parser(), help=each.help)
                continue
            parser = _parser_for(each, chosen) if name == named else Parser()
            subcommands.add_subcommand(name, parser, help=_summary(each))
        with _config(Parser.words):
            settings = top.parse_args(list(Parser.words))
        function = commands[settings.command]
        assert not isinstance(function, Group)
        given = settings[settings.command]
        before, chosen = chosen, _chosen(function, given)
        # An instance that was chosen by name gives other defaults to what was not said.
        if chosen == before:
            return function, _arguments(function, given)


@dataclass(frozen=True)
class _Option:
    """One parameter of a command, or one field of a dataclass among its parameters."""

    name: str
    hint: Any
    default: Any
    positional: bool
    help: str | None


def _options(function: Command) -> dict[str, _Option]:
    """All options of a command by name, with dataclasses taken apart."""
    hints, described = get_type_hints(function), _described(function)
    found: dict[str, _Option] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if kinds := _kinds_in(hints[name]):
            for field_name, option in _parts(name, kinds, described.get(name)).items():
                found.setdefault(field_name, option)
        else:
            positional = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            found[name] = _Option(
                name, hints[name], parameter.default, positional, described.get(name)
            )
    return found


def _kinds_in(hint: Any) -> tuple[Any, ...]:
    """The dataclasses that a hint is or allows, and that can be made of options."""
    return tuple(
        kind
        for kind in (hint, *get_args(hint))
        if is_dataclass(kind)
        and all(_default(item) is not inspect.Parameter.empty for item in fields(kind))
    ) or tuple(kind for kind in (hint, *get_args(hint)) if is_dataclass(kind))


def _parts(name: str, kinds: tuple[Any, ...], help_: str | None) -> dict[str, _Option]:
    """The fields of dataclasses, after the choice among their named instances if they have any."""
    by_name = {name: _Option(name, str | None, None, False, help_)} if _naming(kinds) else {}
    for kind in kinds:
        by_name |= _fields(kind)
    return by_name


def _naming(kinds: tuple[Any, ...]) -> Callable[[str], Any] | None:
    """What finds an instance by its name."""
    if len(kinds) > 1:
        return network_named
    return getattr(kinds[0], "named", None)


def _chosen(function: Command, settings: Namespace) -> dict[str, Any]:
    """The fields of all instances that were chosen by name."""
    found: dict[str, Any] = {}
    for name, kinds in _dataclasses(function):
        named = _naming(kinds)
        if named is not None and settings[name]:
            instance = named(settings[name])
            if isinstance(instance, kinds):
                found |= _flat(instance)
    return found


def _flat(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass, with dataclasses among them taken apart."""
    found: dict[str, Any] = {}
    for item in fields(instance):
        value = getattr(instance, item.name)
        found |= _flat(value) if is_dataclass(value) else {item.name: value}
    return found


def _dataclasses(documented: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The parameters of a function or fields of a dataclass that are dataclasses, at any depth."""
    for name, hint in get_type_hints(documented).items():
        if kinds := _kinds_in(hint):
            yield name, kinds
            for kind in kinds:
                yield from _dataclasses(kind)


def _fields(kind: Any) -> dict[str, _Option]:
    hints, described = get_type_hints(kind), _described(kind)
    found: dict[str, _Option] = {}
    for item in fields(kind):
        text = described.get(item.name)
        if kinds := _kinds_in(hints[item.name]):
            found |= _parts(item.name, kinds, text)
        else:
            found[item.name] = _Option(item.name, hints[item.name], _default(item), False, text)
    return found


def _default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return inspect.Parameter.empty if item.default is MISSING else item.default


def _parser_for(function: Command, chosen: dict[str, Any]) -> Parser:
    parser = Parser(description=_summary(function), formatter_class=_Help)
    parser.add_argument("--config", action="config", help="a YAML file with these options")
    for option in _options(function).values():
        required = option.default is inspect.Parameter.empty
        default = chosen.get(option.name, None if required else option.default)
        item = _item_type(option.hint)
        if option.positional and item:
            parser.add_argument(
                option.name,
                nargs="+",
                type=item,
                metavar=option.name[:-1].upper(),
                help=option.help,
            )
        elif option.positional and required:
            parser.add_argument(option.name, type=option.hint, help=option.help)
        elif option.positional:
            parser.add_argument(
                option.name, nargs="?", type=option.hint, default=default, help=option.help
            )
        elif option.hint is bool:
            flag = ActionYesNo(no_prefix="no_")
            parser.add_argument(f"--{option.name}", action=flag, default=default, help=option.help)
        else:
            made = tuple if get_origin(option.hint) is tuple else list
            kind = _commas(item, made) if item else option.hint
            parser.add_argument(
                f"--{option.name}", type=kind, default=default, required=required, help=option.help
            )
    return parser


def _item_type(hint: Any) -> type | None:
    """The type of the items if `hint` is a list or tuple of any length, or one or None."""
    for kind in (hint, *get_args(hint)):
        if get_origin(kind) is list or (get_origin(kind) is tuple and get_args(kind)[1:] == (...,)):
            return get_args(kind)[0]
    return None


def _commas(item: Any, made: type = list) -> Callable[[Any], Any]:
    choices = get_args(item) if get_origin(item) is Literal else ()

    def one(word: str) -> Any:
        if choices and word not in choices:
            raise ArgumentTypeError(f"{word} is none of {', '.join(choices)}")
        return word if choices else item(word)

    def read(value: Any) -> Any:
        words = value if isinstance(value, list | tuple) else _split(str(value).strip("[]"))
        return made(one(str(word).strip()) for word in words if str(word).strip())

    read.__name__ = "str,..." if choices else f"{item.__name__},..."
    return read


def _split(text: str) -> list[str]:
    """The items of a list written with commas.

    An item in double quotes may hold commas, and so may the name of a file that is there.

    >>> _split('forest,"rice, flooded",water')
    ['forest', 'rice, flooded', 'water']
    """
    if '"' in text:
        return next(csv.reader([text], skipinitialspace=True))
    pieces, items = text.split(","), []
    while pieces:
        names = [",".join(pieces[:many]).strip() for many in range(len(pieces), 1, -1)]
        name = next((one for one in names if Path(one).exists()), pieces[0])
        items.append(name)
        del pieces[: name.count(",") + 1]
    return items


def _arguments(function: Command, settings: Namespace) -> dict[str, Any]:
    hints = get_type_hints(function)
    return {
        name: _argument(name, function, hints, settings)
        for name in inspect.signature(function).parameters
    }


def _argument(name: str, function: Command, hints: dict[str, Any], settings: Namespace) -> Any:
    kinds = _kinds_in(hints[name])
    if not kinds:
        return settings[name]
    default = inspect.signature(function).parameters[name].default
    if len(kinds) == 1 and kinds[0] is not hints[name] and settings[name] is None:
        _refuse_fields(name, kinds[0], function, settings)
        return None
    return _instance(name, kinds, default, settings)


def _instance(name: str, kinds: tuple[Any, ...], default: Any, settings: Namespace) -> Any:
    """What a parameter or field is: made of the options of its kind, named, or its default."""
    if len(kinds) == 1:
        return _build(kinds[0], settings)
    named = settings[name]
    chosen = None if named is None else network_named(named)
    said = {kind: _said(kind, settings, chosen) for kind in kinds}
    wanted = [kind for kind in kinds if isinstance(chosen, kind)]
    if chosen is None:
        wanted = [kind for kind in kinds if said[kind]]
        if not wanted:
            return default
    for kind in kinds:
        if said[kind] and kind not in wanted[:1]:
            what = f"--{name} {named}" if named else f"--{said[wanted[0]][0].replace('_', '-')}"
            raise OutcropError(
                f"--{said[kind][0].replace('_', '-')}",
                f"has no meaning beside {what}; leave it out",
            )
    return _build(wanted[0], settings) if wanted else chosen


def _said(kind: Any, settings: Namespace, chosen: Any) -> list[str]:
    """The fields of a dataclass that are not as by default, or as in the instance chosen."""
    usual = chosen if isinstance(chosen, kind) else kind()
    return [item.name for item in fields(kind) if settings[item.name] != getattr(usual, item.name)]


def _refuse_fields(name: str, kind: Any, function: Command, settings: Namespace) -> None:
    """Refuse the fields of a dataclass that was not chosen, unless another has them too."""
    others = [other for each, kinds in _dataclasses(function) if each != name for other in kinds]
    shared = {field for other in others if other not in _within(kind) for field in _fields(other)}
    for field, option in _fields(kind).items():
        if field not in shared and settings[field] != option.default:
            raise OutcropError(
                f"--{field.replace('_', '-')}", f"needs --{name.replace('_', '-')}; give it too"
            )


def _within(kind: Any) -> list[Any]:
    return [kind, *(inner for _, kinds in _dataclasses(kind) for inner in kinds)]


def _build(kind: Any, settings: Namespace) -> Any:
    hints = get_type_hints(kind)
    made = {}
    for item in fields(kind):
        kinds = _kinds_in(hints[item.name])
        made[item.name] = (
            _instance(item.name, kinds, _default(item), settings) if kinds else settings[item.name]
        )
    return kind(**made)


def _normalise(arguments: Sequence[str], options: Mapping[str, _Option]) -> list[str]:
    """`-o` to `--output`, and dashes inside the names of long options to underscores.

    A value that begins with a minus is tied to its option, or argparse takes it for one.
    """
    normal: list[str] = []
    for word in arguments:
        if normal and _NEGATIVE.match(word):
            option = options.get(normal[-1].removeprefix("--"))
            if normal[-1].startswith("--") and option is not None and option.hint is not bool:
                normal[-1] += f"={word}"
                continue
        if word == "-o":
            word = "--output"
        if re.match(r"--[a-z]", word):
            name, equals, value = word[2:].partition("=")
            word = "--" + name.replace("-", "_") + equals + value
        normal.append(word)
    return normal


def _load(text: str) -> Any:
    """A config file with the names that the parser knows; other YAML as jsonargparse reads it."""
    found = get_loader("yaml")(text)
    if not isinstance(found, dict):
        return found
    content: dict[str, Any] = {}
    for key, value in _pairs(text):
        name = "output" if key == "-o" else key.removeprefix("--").replace("-", "_")
        if isinstance(value, bool) and name not in Parser.known:
            positive = name.removeprefix("no_")
            if positive != name and positive in Parser.known:
                name, value = positive, not value
        if name in content:
            where = _where("", Parser.words).removesuffix(": ") or "--config"
            raise OutcropError(where, f"gives {name.replace('_', '-')} twice; leave one out")
        content[name] = value
    return content


class _Text(yaml.BaseLoader):
    """YAML in which every scalar is text but true, false and null without quotes."""


_SCALARS = {"true": True, "false": False, "null": None, "~": None, "": None}
for _word, _value in _SCALARS.items():
    _spellings = sorted({_word, _word.title(), _word.upper()})
    _Text.add_implicit_resolver(
        f"!{_word}", re.compile(f"^({'|'.join(_spellings)})$"), [one[:1] for one in _spellings]
    )
    _Text.add_constructor(f"!{_word}", lambda loader, node, value=_value: value)


def _pairs(text: str) -> list[tuple[str, Any]]:
    """Keys and values of a YAML mapping, a key as often as it stands there."""
    loader = _Text(text)
    node = loader.get_single_node()
    return [
        (str(key.value), loader.construct_object(value, deep=True)) for key, value in node.value
    ]


def _summary(function: Command) -> str:
    return docstring_parser.parse(function.__doc__ or "").short_description or ""


def _described(documented: Any) -> dict[str, str | None]:
    """What a docstring says of each parameter or attribute."""
    parameters = docstring_parser.parse(documented.__doc__ or "").params
    return {
        name.strip(): parameter.description
        for parameter in parameters
        for name in parameter.arg_name.split(",")
    }


def _explain(line: str, known: Sequence[str], words: Sequence[str]) -> str:
    """jsonargparse's message in the words of the command line."""
    if unknown := re.search(
        r"does not accept option '([\w.]+)'|nrecognized arguments: -*(\S+)", line
    ):
        name = (unknown[1] or unknown[2]).partition("=")[0]
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean '{near[0]}'?" if near else "see --help"
        return _where(name, words) + f"there is no option '{name}'; {hint}".replace("_", "-")
    if "but it was not provided" in line:
        return "a command is missing; see --help"
    if command := re.search(r"argument command: invalid choice: '(.*?)'", line):
        return f"there is no command '{command[1]}'; see --help"
    if flag := re.search(r"Value not boolean: (.*?)\.?$", line):
        return _where("", words) + f"a flag is true or false, not '{flag[1]}'; correct it"
    if absent := re.search(r"File does not exist: '?([^']+)", line):
        return f"{absent[1]}: no such file; check the name"
    if broken := re.search(r"Problems parsing config: (.*)", line):
        return _where("", words) + f"is not YAML ({broken[1]}); correct it"
    if "Unexpected config" in line:
        return _where("", words) + "has no options; write NAME: VALUE on each line"
    if wrong := re.search(r'Parser key "([\w.]+)": (.*)', line):
        value = re.search(r"[Vv]alue: (?!.*[Vv]alue: )(.*)$", wrong[2])
        kind = re.search(r"Expected a (?:<class ')?([\w.]+)(?:\[(.*?)\])?", wrong[2])
        option = f"--{wrong[1]}".replace("_", "-")
        wanted = wrong[2]
        if kind:
            wanted = f"expected {f'one of {kind[2]}' if kind[2] else _KINDS.get(kind[1], kind[1])}"
        return (
            _where(wrong[1], words)
            + f"{option}: {wanted}"
            + (f", not '{value[1]}'" if kind and value else "")
        )
    if missing := re.search(r"arguments are required: (.*)", line):
        names = [name.split(".")[-1].replace("_", "-") for name in missing[1].split(", ")]
        return f"these are missing: {', '.join(names)}; see --help"
    if items := re.search(r"argument (--\w+): invalid (\w+),... value: '(.*)'", line):
        kinds = _KINDS[items[2]].removeprefix("a ") + "s"
        return f"{items[1]}: expected {kinds} with commas between, not '{items[3]}'"
    return line


def _config(words: Sequence[str]) -> AbstractContextManager[None]:
    """A block in which the config file, if there is one, is read."""
    given = _given(words).get("--config")
    return decoding(given, "YAML", "correct it") if given else nullcontext()


def _given(words: Sequence[str]) -> dict[str, str]:
    """The options on the command line and the word after each."""
    typed = dict(zip(words, [*words[1:], ""], strict=False))
    return typed | {word.partition("=")[0]: word.partition("=")[2] for word in words if "=" in word}


def _where(name: str, words: Sequence[str]) -> str:
    """The config file, if there is one and the option is not on the command line."""
    typed = _given(words)
    return f"{typed['--config']}: " if "--config" in typed and f"--{name}" not in typed else ""


set_loader(_MODE, _load, (yaml.YAMLError,))
