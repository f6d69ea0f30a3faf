"""Writes one page for each command, from the same functions that the command line calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docstring_parser
from sphinx.application import Sphinx

from outcrop.cli.commands import COMMANDS
from outcrop.cli.group import Command, Group
from outcrop.cli.options import REQUIRED, Option, choices_of, options_of

FOLDER = "reference/commands"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / FOLDER))
    return {"parallel_read_safe": True}


def write_pages(folder: Path) -> None:
    """Write a page for each command and an index of them."""
    folder.mkdir(parents=True, exist_ok=True)
    commands = dict(_all(COMMANDS))
    for name, function in commands.items():
        write_if_changed(folder / f"{name.replace(' ', '-')}.md", "\n".join(_page(name, function)))
    rows = [
        f"| [`outcrop {name}`]({name.replace(' ', '-')}.md) | {_parsed(one).short_description} |"
        for name, one in commands.items()
    ]
    files = "\n".join(name.replace(" ", "-") for name in commands)
    head = ["# Commands", "", *INTRODUCTION, "| command | what it does |", "| --- | --- |"]
    write_if_changed(
        folder / "index.md", "\n".join([*head, *rows, "", "```{toctree}", ":hidden:", files, "```"])
    )


INTRODUCTION = (
    "Each command is a function of the Python API with the same arguments. Every option can be set",
    "in a YAML file too (`--config FILE`). `--json` prints the result as one JSON document.",
    "",
)


def write_if_changed(path: Path, text: str) -> None:
    """Write a page, unless it has this text already."""
    # Sphinx reads a page again if its file has changed.
    if not path.exists() or path.read_text(encoding="utf-8") != text + "\n":
        path.write_text(text + "\n", encoding="utf-8")


def _all(
    commands: Mapping[str, Command | Group], before: str = ""
) -> Iterator[tuple[str, Command]]:
    for name, one in commands.items():
        if isinstance(one, Group):
            yield from _all(one.commands, f"{before}{name} ")
        else:
            yield f"{before}{name}", one


def _parsed(function: Command) -> docstring_parser.Docstring:
    return docstring_parser.parse(function.__doc__ or "")


def _page(name: str, function: Command) -> Iterator[str]:
    parsed, options = _parsed(function), options_of(function)
    yield f"# outcrop {name}"
    yield ""
    yield parsed.short_description or ""
    yield ""
    if parsed.long_description:
        yield parsed.long_description
        yield ""
    positional = [one for one in options.values() if one.positional]
    words = " ".join(one.dashed.upper() for one in positional)
    yield f"```text\noutcrop {name} {words} [OPTIONS]\n```"
    examples = [one.description for one in parsed.examples if one.description]
    if examples:
        yield "\n## Examples\n\n```bash"
        yield from examples
        yield "```"
    panels: dict[str, list[Option]] = {"Arguments": positional}
    for one in options.values():
        if not one.positional:
            panels.setdefault(one.panel, []).append(one)
    for panel, some in panels.items():
        if some:
            yield f"\n## {panel}\n"
            for one in some:
                yield from _option(one)


def _option(option: Option) -> Iterator[str]:
    name = option.dashed.upper() if option.positional else f"--{option.dashed}"
    name += ", -o" if option.name == "output" else ""
    notes = []
    if choices := choices_of(option.hint):
        notes.append("one of " + ", ".join(f"`{word}`" for word in choices))
    if option.default is REQUIRED:
        notes.append("required")
    elif option.default not in (None, False, (), "") and not option.positional:
        value = option.default
        shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        notes.append(f"default: `{shown}`")
    text = (option.help or "").rstrip(".")
    yield f"`{name}`\n: {text[:1].upper()}{text[1:]}. {'; '.join(notes).capitalize()}".rstrip()
    yield ""
