"""Commands of the command line, made from typed functions with docstrings.

- Parameters before the `*` are positional: a list takes one or more values, and a parameter with a
  default may be omitted. The others are options.
- An option that is a list is written with commas: `--bands 1,2,4`. An item that contains a comma
  is written in double quotes, or is the name of an existing file.
- A parameter that is a dataclass adds its fields as options. If the class has named instances
  (`named`), the option with the name of the parameter chooses one, and single fields can still be
  changed: `--network resnet110 --survival 0.5`. If the parameter may be None, it is None unless
  an instance is chosen; its fields then raise an error.
- Booleans are flags: `--resume` and `--no-resume`. Names have dashes; `-o` is `--output`. Numbers
  may be negative: `--boxes -10,5,20,40`.
- A config file is YAML. Names are those of the command line, with dashes or underscores. Values are
  read as on the command line, so `no` and `01` are text where text is expected; only true, false
  and null have the meaning they have in YAML.

cyclopts splits the words into options and writes help and shell completion. `values` and `settings`
interpret them, for command line and config file alike.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn, get_args

import docstring_parser
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
from outcrop.cli.options import (
    OWN,
    REQUIRED,
    Option,
    choices_of,
    item_type,
    options_of,
    shown,
    summary,
)
from outcrop.cli.settings import arguments_of, settings_of
from outcrop.cli.values import dashed_names, fail, suggestion

# Panels of commands in the help.
_PANELS = {
    "Start": ("demo", "experiment"),
    "Data": ("patches", "split", "audit", "locate"),
    "Train": ("models", "train", "compare", "evaluate", "export", "reproduce"),
    "Map": ("map", "sample", "assess"),
    "Generative": ("generative",),
    "Synthetic": ("synthetic",),
    "Report": ("report",),
}
_PANEL_OF: dict[str, Panel] = {}
for _number, (_title, _names) in enumerate(_PANELS.items()):
    _PANEL_OF |= dict.fromkeys(_names, Panel(_title, sort_key=_number))
_OTHER = Panel("Other", sort_key=len(_PANELS))


def parse(
    commands: Mapping[str, Command | Group],
    arguments: Sequence[str],
    version: str,
    description: str,
    renamed: Mapping[str, str] | None = None,
) -> tuple[Command, dict[str, Any]]:
    """Find the command and the arguments to call it with.

    Args:
        renamed: old and new names, such as "map --turns" and "map --tta"; the old names of options
            may stand in a config file.

    Raises:
        SystemExit: with code 2 after one line on standard error, or 0 after help or version.
    """
    words = _with_values([_dashed(word) for word in arguments])
    if words[:1] == ["--completion"]:
        _print_completion(commands, words[1:], version, description)
    everything = "--help-all" in words
    words = ["--help" if word == "--help-all" else word for word in words]
    wanted = _wanted(commands, words)
    options = {} if wanted is None else options_of(wanted)
    helps = bool({"-h", "--help"} & set(words))
    app = _app(commands, wanted, options, version, description, helps, everything)
    try:
        run, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        fail(_explained(error, options))
    if wanted is None or run.__name__ != _flat.__name__:
        run(*bound.args, **bound.kwargs)
        raise SystemExit(0)
    given = dict(bound.arguments)
    config = given.pop("config", None)
    read = {}
    if config is not None:
        from outcrop.cli.config import read_config

        read = read_config(config, options, _of_options(words, renamed or {}))
    return wanted, arguments_of(wanted, settings_of(wanted, options, given, read, config))


def _of_options(words: Sequence[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Old and new names of the options of a command, as in a config file."""
    names = {}
    for old, new in renamed.items():
        (command, *option), (now, *instead) = old.split(), new.split()
        if option and command == now and words[:1] == [command]:
            names[_field(option[0])] = _field(instead[0])
    return names


def _field(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _print_completion(
    commands: Mapping[str, Command | Group], words: Sequence[str], version: str, description: str
) -> NoReturn:
    """Print a script that completes commands and options in a shell."""
    shells = "bash", "zsh", "fish"
    if len(words) != 1 or words[0] not in shells:
        fail(f"--completion: expected {', '.join(shells[:-1])} or {shells[-1]}")
    app = _app(commands, None, {}, version, description, True, True)
    shell: Any = words[0]
    sys.stdout.write(app.generate_completion(prog_name="outcrop", shell=shell))
    raise SystemExit(0)


def _dashed(word: str) -> str:
    """`--per_class=x_y` as `--per-class=x_y`."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if re.match(r"--[a-z]", word) else word


def _with_values(words: Sequence[str]) -> list[str]:
    """Join a single dash, which means standard output, to the option before it."""
    tied: list[str] = []
    for word in words:
        if word == "-" and tied and tied[-1].startswith("--") and "=" not in tied[-1]:
            tied[-1] += "=-"
        else:
            tied.append(word)
    return tied


def _wanted(commands: Mapping[str, Command | Group], words: Sequence[str]) -> Command | None:
    """The command that the first words name; None for `--help` or `--version` alone."""
    names = [word for word in words if not word.startswith("-")]
    if not names:
        if {"-h", "--help", "--version"} & set(words):
            return None
        fail("a command is missing; see --help")
    found = commands.get(names[0])
    if isinstance(found, Group):
        return _wanted(found.commands, words[words.index(names[0]) + 1 :])
    if found is None:
        fail(f"there is no command '{names[0]}'; {suggestion(names[0], commands)}")
    return found


def _app(
    commands: Mapping[str, Command | Group],
    wanted: Command | None,
    options: Mapping[str, Option],
    version: str,
    description: str,
    helps: bool,
    everything: bool,
) -> App:
    """A cyclopts application in which every value is text.

    Args:
        wanted: the command whose options are needed; the others only need a summary. None if no
            command is named.
        helps: whether help is printed; help marks required options.
        everything: whether help shows all options.
    """

    def added(app: App, some: Mapping[str, Command | Group]) -> App:
        for name, each in some.items():
            panel = _PANEL_OF.get(name) if some is commands else None
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
                function = _flat({} if wanted or not everything else options_of(each), helps, True)
            app.command(
                function, name=name, group=panel, help=summary(each), help_format="plaintext",
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


def _flat(options: Mapping[str, Option], helps: bool, everything: bool) -> Command:
    """A function with one text parameter per option (bool for flags). It is parsed, not called."""

    def _flat(**given: Any) -> None:
        raise AssertionError(given)

    parameters = []
    panels: dict[str, Panel] = {}
    for option in options.values():
        panel = panels.setdefault(option.panel, Panel(option.panel, sort_key=len(panels)))
        parameters.append(_parameter(option, panel, helps, everything or shown(option)))
    if parameters:
        config = Option("config", str, "", False, "a YAML file with these options")
        parameters.append(_parameter(config, panels[OWN], helps, True))
    _flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    _flat.__annotations__ = {one.name: one.annotation for one in parameters}
    return _flat


def _parameter(option: Option, panel: Panel, helps: bool, shown: bool) -> inspect.Parameter:
    item, flag = item_type(option.hint), option.hint is bool
    how = Parameter(
        name=(f"--{option.dashed}", *(["-o"] if option.name == "output" else [])),
        # Help shows --no-NAME only if the flag is on by default.
        negative=[f"--no-{option.dashed}"] if flag and (option.default or not helps) else [],
        help=option.help,
        group=panel,
        show=shown,
        show_default=_written(option.default) or False,
        # Values are checked later, all together.
        choices=(choices_of(option.hint) or None) if helps else None,
        metavar=None if flag else option.dashed.upper(),
        # A config file may set it, so `settings_of` checks it.
        required=helps and option.default is REQUIRED,
        # The last value counts.
        allow_repeating=not option.positional or None,
        allow_leading_hyphen=bool({int, float} & {item, option.hint, *get_args(option.hint)}),
    )
    kinds = inspect.Parameter
    kind = kinds.POSITIONAL_OR_KEYWORD if option.positional else kinds.KEYWORD_ONLY
    text: Any = bool if flag else list[str] if option.positional and item else str
    return kinds(option.name, kind, default=None, annotation=Annotated[text | None, how])


def _written(default: Any) -> str:
    """A default as a user would type it; empty if the help does not show it."""
    if default is REQUIRED or default is None or isinstance(default, bool):
        return ""
    return ",".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


def _explained(error: CycloptsError, options: Mapping[str, Option]) -> str:
    """The error line for words that cyclopts cannot parse."""
    if isinstance(error, UnknownOptionError):
        word = (error.token.keyword or error.token.value).partition("=")[0].lstrip("-")
        return f"there is no option '{word}'; {suggestion(word, dashed_names(options))}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        word = error.unused_tokens[0].lstrip("-")
        return f"there is no option '{word}'; see --help"
    name = error.argument.name if error.argument is not None else ""
    if isinstance(error, MissingArgumentError):
        return f"{name}: a value is missing; write one after it"
    return str(error)


def _epilogue(function: Command, options: Mapping[str, Option]) -> str | None:
    """The examples of a command, and the number of options that only --help-all shows."""
    found = docstring_parser.parse(function.__doc__ or "").examples
    lines = [line.strip() for one in found for line in (one.description or "").splitlines()]
    examples = "\n".join(["Examples:", *(f"  {line}" for line in lines)]) if lines else ""
    left_out = sum(not shown(option) for option in options.values())
    more = f"--help-all shows {left_out} more options." if left_out else ""
    return "\n\n".join(part for part in (examples, more) if part) or None
