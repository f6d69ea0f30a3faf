"""Config files: options in YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from outcrop.cli.options import Option
from outcrop.cli.values import dashed_names, fail, suggestion
from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.progress import warn
from outcrop.training.recipe import REMOVED


def read_config(
    file: str, options: Mapping[str, Option], renamed: Mapping[str, str]
) -> dict[str, Any]:
    """The options in a config file.

    Args:
        renamed: old and new names of options; an old name works, with a note.

    Raises:
        SystemExit: after one line on standard error, if the file has an error.
    """
    if not Path(file).is_file():
        fail(f"{file}: no such file; check the name")
    content: dict[str, Any] = {}
    for key, value in _pairs(Path(file)):
        name = "output" if key == "-o" else key.removeprefix("--").replace("-", "_")
        positive = name.removeprefix("no_")
        if name not in options and positive != name and positive in options:
            if not isinstance(value, bool):
                fail(f"{file}: a flag is true or false, not '{value}'; correct it")
            name, value = positive, not value
        if name in renamed and name not in options:
            warn(f"{file}: {name} is now {renamed[name]}; the old name goes with the next version")
            name = renamed[name]
        spelt = name.replace("_", "-")
        if name in REMOVED and name not in options:
            if value in (False, None):
                continue
            fail(f"{file}: there is no option '{spelt}' any more; {REMOVED[name]}")
        if name not in options:
            fail(
                f"{file}: there is no option '{spelt}'; {suggestion(spelt, dashed_names(options))}"
            )
        if name in content:
            fail(f"{file}: gives {spelt} twice; leave one out")
        content[name] = value
    return content


def _pairs(file: Path) -> list[tuple[str, Any]]:
    """Keys and values of a YAML mapping, with keys that are repeated."""
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
    """YAML in which every scalar except true, false and null is text."""


_SCALARS = {"true": True, "false": False, "null": None, "~": None, "": None}


for _word, _value in _SCALARS.items():
    _spellings = sorted({_word, _word.title(), _word.upper()})
    _Text.add_implicit_resolver(
        f"!{_word}", re.compile(f"^({'|'.join(_spellings)})$"), [one[:1] for one in _spellings]
    )
    _Text.add_constructor(f"!{_word}", lambda loader, node, value=_value: value)
