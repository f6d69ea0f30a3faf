"""From a typed function with a docstring to a command of the command line.

Parameters before the `*` are positional (a list takes one or more values, one with a default may
be left out), the others are options. A list as an option is written with commas: `--bands 1,2,4`;
an item that holds a comma stands in double quotes, or is the name of a file that is there.
A parameter that is a dataclass adds its fields as options; if its class names some instances
(`named`), an option of the parameter's name chooses one, and single fields can still be changed:
`--network resnet110 --survival 0.5`. Where the parameter may be None too, it is so unless one was
chosen, and its fields raise an error. Booleans are flags: `--resume` and `--no-resume`. Names are
written with dashes, and `-o` is `--output`. Numbers may be negative: `--boxes -10,5,20,40`.

A config file is YAML: names as on the command line, with dashes or underscores, and values as
there, so that `no` and `01` are text where text is wanted. Only true, false and null are more.

cyclopts splits the words into options and writes help and shell completion; what a value means is
decided here, for command line and config file alike.
"""

from __future__ import annotations

import csv
import difflib
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts import Group as Panel

from outcrop.cli.group import Command, Group
from outcrop.cli.presets import PRESETS
from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.models.architectures import network_named
from outcrop.training.recipe import REMOVED

_REQUIRED = inspect.Parameter.empty
_OWN = "Options"
# Of the fields of dataclasses, those that help shows without --help-all.
_SHOWN = frozenset(
    (
        *("labels", "column", "size", "stride", "block", "buffer", "folds", "shape"),
        *("depth", "epochs", "batch", "learning_rate", "trials", "seed", "device"),
    )
)


# Commands as help lists them.
_PANELS = tuple(
    (Panel(title, sort_key=k), names)
    for k, (title, names) in enumerate(
        (
            ("Start", ("demo", "experiment")),
            ("Data", ("patches", "split", "audit", "locate")),
            ("Train", ("models", "train", "compare", "evaluate", "export", "reproduce")),
            ("Map", ("map", "sample", "assess")),
            ("Generative", ("generative",)),
            ("Synthetic", ("synthetic",)),
            ("Report", ("report",)),
        )
    )
)


_OTHER = Panel("Other", sort_key=len(_PANELS))
# Titles of the options that dataclasses add; of others, the first line of the docstring.
_TITLES = {
    "ResidualNet": "Residual network",
    "MultiScaleNet": "Multi-scale network",
    "Recipe": "Optimisation",
    "Augmentation": "Augmentation",
    "Machine": "Hardware",
    "Tuning": "Tuning",
    "Experiment": "Data and maps",
    "Reading": "Reading of rasters",
    "SegyReading": "Reading of SEG-Y",
    "VaeGan": "Networks of the VAE-GAN",
    "VaeGanRecipe": "Training of the VAE-GAN",
    "EncoderPlan": "Training of the VAE-GAN",
}


@dataclass(frozen=True)
class _Option:
    """One parameter of a command, or one field of a dataclass among its parameters.

    Attributes:
        panel: the title that it stands under in help.
    """

    name: str
    hint: Any
    default: Any
    positional: bool
    help: str | None
    panel: str = _OWN

    @property
    def spelt(self) -> str:
        """As on the command line, without the two dashes."""
        return self.name.replace("_", "-")


def parse(
    commands: Mapping[str, Command | Group],
    arguments: Sequence[str],
    version: str,
    description: str,
) -> tuple[Command, dict[str, Any]]:
    """Find the command and the arguments to call it with.

    Raises:
        SystemExit: with code 2 after one line on standard error, or 0 after help or version.
    """
    words = _with_values([_dashed(word) for word in arguments])
    if words[:1] == ["--completion"]:
        _print_completion(commands, words[1:], version, description)
    everything = "--help-all" in words
    words = ["--help" if word == "--help-all" else word for word in words]
    wanted = _wanted(commands, words)
    options = {} if wanted is None else _options(wanted)
    helps = bool({"-h", "--help"} & set(words))
    app = _app(commands, wanted, options, version, description, helps, everything)
    try:
        run, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        _fail(_explained(error, options))
    if wanted is None or run.__name__ != _flat.__name__:
        run(*bound.args, **bound.kwargs)
        raise SystemExit(0)
    given = dict(bound.arguments)
    config = given.pop("config", None)
    read = {} if config is None else _config(config, options)
    return wanted, _arguments(wanted, _settings(wanted, options, given, read, config))


def _print_completion(
    commands: Mapping[str, Command | Group], words: Sequence[str], version: str, description: str
) -> NoReturn:
    """Print a script that completes commands and options in a shell."""
    shells = "bash", "zsh", "fish"
    if len(words) != 1 or words[0] not in shells:
        _fail(f"--completion: expected {', '.join(shells[:-1])} or {shells[-1]}")
    app = _app(commands, None, {}, version, description, True, True)
    shell: Any = words[0]
    sys.stdout.write(app.generate_completion(prog_name="outcrop", shell=shell))
    raise SystemExit(0)


def _fail(line: str) -> NoReturn:
    """Print one line on standard error and leave with exit code 2."""
    sys.stderr.write(f"outcrop: {' '.join(line.split())}\n")
    raise SystemExit(2)


def _dashed(word: str) -> str:
    """`--per_class=x_y` as `--per-class=x_y`."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if re.match(r"--[a-z]", word) else word


def _with_values(words: Sequence[str]) -> list[str]:
    """Tie a single dash, which is standard output, to the option before it."""
    tied: list[str] = []
    for word in words:
        if word == "-" and tied and tied[-1].startswith("--") and "=" not in tied[-1]:
            tied[-1] += "=-"
        else:
            tied.append(word)
    return tied


def _wanted(commands: Mapping[str, Command | Group], words: Sequence[str]) -> Command | None:
    """The command that the first words name; None where help or version are asked for alone."""
    names = [word for word in words if not word.startswith("-")]
    if not names:
        if {"-h", "--help", "--version"} & set(words):
            return None
        _fail("a command is missing; see --help")
    found = commands.get(names[0])
    if isinstance(found, Group):
        return _wanted(found.commands, words[words.index(names[0]) + 1 :])
    if found is None:
        _fail(f"there is no command '{names[0]}'; {_near(names[0], commands)}")
    return found


def _near(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean '{near[0]}'?" if near else "see --help"


def _app(
    commands: Mapping[str, Command | Group],
    wanted: Command | None,
    options: Mapping[str, _Option],
    version: str,
    description: str,
    helps: bool,
    everything: bool,
) -> App:
    """An application whose functions take words alone, as they stand on the command line.

    Args:
        wanted: the command that needs its options; the others need their first line, unless there
            is none.
        helps: whether help is printed, which says what is required.
        everything: whether help shows all options.
    """

    def added(app: App, some: Mapping[str, Command | Group]) -> App:
        for name, each in some.items():
            panel = None
            if some is commands:
                panel = next((panel for panel, names in _PANELS if name in names), None)
            if isinstance(each, Group):
                inner = App(
                    name=name, help=each.help, group=panel, help_format="plaintext",
                    group_commands=Panel("Commands"), help_epilogue=" ",
                )  # fmt: skip
                app.command(added(inner, each.commands))
                continue
            if each is wanted:
                function = _flat(options, helps, everything)
            else:
                function = _flat({} if wanted or not everything else _options(each), helps, True)
            app.command(
                function, name=name, group=panel, help=_summary(each), help_format="plaintext",
                help_epilogue=_epilogue(each, options if each is wanted and not everything else {}),
            )  # fmt: skip
        return app

    whole = App(
        name="outcrop", version=version, help=description, help_format="plaintext",
        version_format="plaintext", group_commands=_OTHER,
        help_epilogue="outcrop COMMAND --help: main options; --help-all: all options.\n"
        "outcrop --completion bash (or zsh, fish): a script for shell completion.",
    )  # fmt: skip
    return added(whole, commands)


def _flat(options: Mapping[str, _Option], helps: bool, everything: bool) -> Command:
    """A function with a parameter for each option, all text, flags apart; to be parsed only."""

    def _flat(**given: Any) -> None:
        raise AssertionError(given)

    parameters = []
    panels: dict[str, Panel] = {}
    for option in options.values():
        panel = panels.setdefault(option.panel, Panel(option.panel, sort_key=len(panels)))
        parameters.append(_parameter(option, panel, helps, everything or _shown(option)))
    if parameters:
        config = _Option("config", str, "", False, "a YAML file with these options")
        parameters.append(_parameter(config, panels[_OWN], helps, True))
    _flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    _flat.__annotations__ = {one.name: one.annotation for one in parameters}
    return _flat


def _parameter(option: _Option, panel: Panel, helps: bool, shown: bool) -> inspect.Parameter:
    item, flag = _item_type(option.hint), option.hint is bool
    how = Parameter(
        name=(f"--{option.spelt}", *(["-o"] if option.name == "output" else [])),
        # Help shows --no-NAME only where the flag is on by default.
        negative=[f"--no-{option.spelt}"] if flag and (option.default or not helps) else [],
        help=option.help,
        group=panel,
        show=shown,
        show_default=_written(option.default) or False,
        # Checked with the other values, later.
        choices=(_choices(option.hint) or None) if helps else None,
        metavar=None if flag else option.spelt.upper(),
        # A config file may give what the command line lacks: it is checked in _settings.
        required=helps and option.default is _REQUIRED,
        # The last one holds.
        allow_repeating=not option.positional or None,
        allow_leading_hyphen=bool({int, float} & {item, option.hint, *get_args(option.hint)}),
    )
    kinds = inspect.Parameter
    kind = kinds.POSITIONAL_OR_KEYWORD if option.positional else kinds.KEYWORD_ONLY
    text: Any = bool if flag else list[str] if option.positional and item else str
    return kinds(option.name, kind, default=None, annotation=Annotated[text | None, how])


def _written(default: Any) -> str:
    """A default as one would type it; empty where help need not say it."""
    if default is _REQUIRED or default is None or isinstance(default, bool):
        return ""
    return ",".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


def _choices(hint: Any) -> tuple[str, ...]:
    """The words that a value can be, if they are counted."""
    kinds = [kind for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal]
    return get_args(kinds[0]) if kinds else ()


def _explained(error: CycloptsError, options: Mapping[str, _Option]) -> str:
    """An error of the words on the command line, in one line."""
    if isinstance(error, UnknownOptionError):
        word = (error.token.keyword or error.token.value).partition("=")[0].lstrip("-")
        return f"there is no option '{word}'; {_near(word, _spelt(options))}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        word = error.unused_tokens[0].lstrip("-")
        return f"there is no option '{word}'; see --help"
    name = error.argument.name if error.argument is not None else ""
    if isinstance(error, MissingArgumentError):
        return f"{name}: a value is missing; write one after it"
    return str(error)


def _spelt(options: Mapping[str, _Option]) -> list[str]:
    return [option.spelt for option in options.values()]


@dataclass(frozen=True)
class _Settings:
    """The value of every option.

    Attributes:
        said: the names of those that were given.
    """

    values: Mapping[str, Any]
    said: frozenset[str]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def _settings(
    function: Command,
    options: Mapping[str, _Option],
    given: Mapping[str, Any],
    config: Mapping[str, Any],
    file: str | None,
) -> _Settings:
    """The value of every option: as given, or else of the config file, or else by default.

    In a config file null stands for the default of an option that is never null.
    """
    said: dict[str, Any] = {}
    for name, option in options.items():
        if name in given:
            said[name] = _read(option, given[name], "")
        elif config.get(name) is not None or (name in config and _nullable(option)):
            said[name] = _read(option, config[name], f"{file}: ")
    usual = {name: option.default for name, option in options.items()}
    preset = {
        name: value
        for name, value in PRESETS.get(said.get("preset") or "", {}).items()
        # Where tuning is off unless it is asked for there is nothing to turn off.
        if name in options and not (name == "trials" and usual[name] is None)
    }
    usual |= preset
    # An instance that was chosen by name gives other defaults to what was not said.
    values = usual | _chosen(function, usual | said) | said
    if missing := [one.spelt for name, one in options.items() if values[name] is _REQUIRED]:
        _fail(f"these are missing: {', '.join(missing)}; see --help")
    names = {name for name, value in said.items() if value is not None}
    return _Settings(values, frozenset(names if said.get("network") else names | set(preset)))


def _read(option: _Option, value: Any, where: str) -> Any:
    """The value that a word on the command line, or the content of a config file, stands for."""
    kinds = [kind for kind in (get_args(option.hint) or (option.hint,)) if kind is not NoneType]
    literal = get_origin(option.hint) is Literal
    item = _item_type(option.hint)
    kind = option.hint if literal or item or len(kinds) > 1 else kinds[0]
    if value is None or (value == "null" and _nullable(option)):
        return None
    try:
        if item is None:
            return _one(kind, value)
        words = value if isinstance(value, list) else _split(str(value).strip("[]"))
        made = [_one(item, str(word).strip()) for word in words if str(word).strip()]
        return tuple(made) if _is_tuple(option.hint) else made
    except ValueError:
        if option.hint is bool:
            _fail(f"{where}a flag is true or false, not '{value}'; correct it")
        wanted = _plural(item) if item else _KINDS.get(kind) or _one_of(option.hint)
        shown = ",".join(map(str, value)) if isinstance(value, list) else value
        _fail(f"{where}--{option.spelt}: expected {wanted}, not '{shown}'")


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _plural(item: Any) -> str:
    if get_origin(item) is Literal:
        return f"{', '.join(get_args(item))} with commas between"
    return f"{_KINDS.get(item, 'a name').removeprefix('a ')}s with commas between"


def _one_of(hint: Any) -> str:
    return f"one of {', '.join(map(repr, _choices(hint)))}"


def _one(kind: Any, value: Any) -> Any:
    """One value of a simple kind.

    Raises:
        ValueError: it is none.
    """
    if kind is bool or isinstance(value, bool):
        text = str(value).lower()
        if kind is not bool and kind is not str:
            raise ValueError
        if kind is bool and text not in ("true", "false"):
            raise ValueError
        return text == "true" if kind is bool else text
    if isinstance(value, list):
        raise ValueError
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError
        return value
    if kind is float and not math.isfinite(float(value)):
        raise ValueError
    return kind(value)


def _nullable(option: _Option) -> bool:
    return NoneType in get_args(option.hint)


def _is_tuple(hint: Any) -> bool:
    return any(get_origin(kind) is tuple for kind in (hint, *get_args(hint)))


def _options(function: Command) -> dict[str, _Option]:
    """All options of a command by name, with dataclasses taken apart."""
    hints, described = get_type_hints(function), _described(function)
    found: dict[str, _Option] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if kinds := _kinds_in(hints[name]):
            for field_name, option in _parts(name, kinds, described.get(name), _OWN).items():
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


def _parts(name: str, kinds: tuple[Any, ...], help_: str | None, panel: str) -> dict[str, _Option]:
    """The fields of dataclasses, after the choice among their named instances if they have any."""
    by_name = {name: _Option(name, str | None, None, False, help_, panel)} if _naming(kinds) else {}
    for kind in kinds:
        by_name |= _fields(kind)
    return by_name


def _naming(kinds: tuple[Any, ...]) -> Callable[[str], Any] | None:
    """What finds an instance by its name."""
    if len(kinds) > 1:
        return network_named
    return getattr(kinds[0], "named", None)


def _chosen(function: Command, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of all instances that were chosen by name."""
    found: dict[str, Any] = {}
    for name, kinds in _dataclasses(function):
        named = _naming(kinds)
        if named is not None and settings[name]:
            instance = named(settings[name])
            if isinstance(instance, kinds):
                found |= _flattened(instance)
    return found


def _flattened(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass, with dataclasses among them taken apart."""
    found: dict[str, Any] = {}
    for item in fields(instance):
        value = getattr(instance, item.name)
        found |= _flattened(value) if is_dataclass(value) else {item.name: value}
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
    panel = _TITLES.get(kind.__name__) or _summary(kind).rstrip(".") or kind.__name__
    for item in fields(kind):
        text = described.get(item.name)
        if kinds := _kinds_in(hints[item.name]):
            found |= _parts(item.name, kinds, text, panel)
        else:
            found[item.name] = _Option(
                item.name, hints[item.name], _default(item), False, text, panel
            )
    return found


def _default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return inspect.Parameter.empty if item.default is MISSING else item.default


def _item_type(hint: Any) -> type | None:
    """The type of the items if `hint` is a list or tuple of any length, or one or None."""
    for kind in (hint, *get_args(hint)):
        if get_origin(kind) is list or (get_origin(kind) is tuple and get_args(kind)[1:] == (...,)):
            return get_args(kind)[0]
    return None


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


def _arguments(function: Command, settings: _Settings) -> dict[str, Any]:
    hints = get_type_hints(function)
    return {
        name: _argument(name, function, hints, settings)
        for name in inspect.signature(function).parameters
    }


def _argument(name: str, function: Command, hints: dict[str, Any], settings: _Settings) -> Any:
    kinds = _kinds_in(hints[name])
    if not kinds:
        return settings[name]
    default = inspect.signature(function).parameters[name].default
    if len(kinds) == 1 and kinds[0] is not hints[name] and settings[name] is None:
        _refuse_fields(name, kinds[0], function, settings)
        return None
    return _instance(name, kinds, default, settings)


def _instance(name: str, kinds: tuple[Any, ...], default: Any, settings: _Settings) -> Any:
    """What a parameter or field is: made of the options of its kind, named, or its default."""
    if len(kinds) == 1:
        return _build(kinds[0], settings)
    named = settings[name]
    chosen = None if named is None else network_named(named)
    said = {kind: _said(kind, settings) for kind in kinds}
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


def _said(kind: Any, settings: _Settings) -> list[str]:
    """The fields of a dataclass that were given."""
    return [item.name for item in fields(kind) if item.name in settings.said]


def _refuse_fields(name: str, kind: Any, function: Command, settings: _Settings) -> None:
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


def _build(kind: Any, settings: _Settings) -> Any:
    hints = get_type_hints(kind)
    made = {}
    for item in fields(kind):
        kinds = _kinds_in(hints[item.name])
        made[item.name] = (
            _instance(item.name, kinds, _default(item), settings) if kinds else settings[item.name]
        )
    return kind(**made)


def _config(file: str, options: Mapping[str, _Option]) -> dict[str, Any]:
    """The options that a config file gives.

    Raises:
        SystemExit: after a line that says what is wrong in the file.
    """
    if not Path(file).is_file():
        _fail(f"{file}: no such file; check the name")
    content: dict[str, Any] = {}
    for key, value in _pairs(Path(file)):
        name = "output" if key == "-o" else key.removeprefix("--").replace("-", "_")
        positive = name.removeprefix("no_")
        if name not in options and positive != name and positive in options:
            if not isinstance(value, bool):
                _fail(f"{file}: a flag is true or false, not '{value}'; correct it")
            name, value = positive, not value
        spelt = name.replace("_", "-")
        if name in REMOVED and name not in options:
            if value in (False, None):
                continue
            _fail(f"{file}: there is no option '{spelt}' any more; {REMOVED[name]}")
        if name not in options:
            _fail(f"{file}: there is no option '{spelt}'; {_near(spelt, _spelt(options))}")
        if name in content:
            _fail(f"{file}: gives {spelt} twice; leave one out")
        content[name] = value
    return content


def _pairs(file: Path) -> list[tuple[str, Any]]:
    """Keys and values of a YAML mapping, a key as often as it stands there."""
    with decoding(file, "YAML", "correct it"):
        loader = _Text(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise OutcropError(file, "has no options; write NAME: VALUE on each line")
        return [
            (str(key.value), loader.construct_object(value, deep=True)) for key, value in node.value
        ]


class _Text(yaml.BaseLoader):
    """YAML in which every scalar is text but true, false and null without quotes."""


_SCALARS = {"true": True, "false": False, "null": None, "~": None, "": None}
for _word, _value in _SCALARS.items():
    _spellings = sorted({_word, _word.title(), _word.upper()})
    _Text.add_implicit_resolver(
        f"!{_word}", re.compile(f"^({'|'.join(_spellings)})$"), [one[:1] for one in _spellings]
    )
    _Text.add_constructor(f"!{_word}", lambda loader, node, value=_value: value)


def _summary(documented: Any) -> str:
    return docstring_parser.parse(documented.__doc__ or "").short_description or ""


def _epilogue(function: Command, options: Mapping[str, _Option]) -> str | None:
    """The examples of a command, and how many of its options help leaves out."""
    found = docstring_parser.parse(function.__doc__ or "").examples
    lines = [line.strip() for one in found for line in (one.description or "").splitlines()]
    examples = "\n".join(["Examples:", *(f"  {line}" for line in lines)]) if lines else ""
    left_out = sum(not _shown(option) for option in options.values())
    more = f"--help-all shows {left_out} more options." if left_out else ""
    return "\n\n".join(part for part in (examples, more) if part) or None


def _shown(option: _Option) -> bool:
    """Whether help shows an option without --help-all."""
    return option.panel == _OWN or option.name in _SHOWN or option.default is _REQUIRED


def _described(documented: Any) -> dict[str, str | None]:
    """What a docstring says of each parameter or attribute."""
    parameters = docstring_parser.parse(documented.__doc__ or "").params
    return {
        name.strip(): " ".join((parameter.description or "").split()) or None
        for parameter in parameters
        for name in parameter.arg_name.split(",")
    }
