"""The values that words of the command line and entries of config files stand for."""

from __future__ import annotations

import csv
import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

from outcrop.cli.options import Option, choices_of, is_tuple, item_type, nullable


def fail(line: str) -> NoReturn:
    """Print one line on standard error and leave with exit code 2."""
    sys.stderr.write(f"outcrop: {' '.join(line.split())}\n")
    raise SystemExit(2)


def suggestion(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """The known word that is nearest to an unknown one, as the remedy of an error line."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean '{near[0]}'?" if near else "see --help"


def dashed_names(options: Mapping[str, Option]) -> list[str]:
    """The names of options on the command line."""
    return [option.dashed for option in options.values()]


def read_value(option: Option, value: Any, where: str) -> Any:
    """Convert a word of the command line, or an entry of a config file, to the option's type."""
    kinds = [kind for kind in (get_args(option.hint) or (option.hint,)) if kind is not NoneType]
    literal = get_origin(option.hint) is Literal
    item = item_type(option.hint)
    kind = option.hint if literal or item or len(kinds) > 1 else kinds[0]
    if value is None or (value == "null" and nullable(option)):
        return None
    try:
        if item is None:
            return _one(kind, value)
        words = value if isinstance(value, list) else _split(str(value).strip("[]"))
        made = [_one(item, str(word).strip()) for word in words if str(word).strip()]
        return tuple(made) if is_tuple(option.hint) else made
    except ValueError:
        if option.hint is bool:
            fail(f"{where}a flag is true or false, not '{value}'; correct it")
        wanted = _plural(item) if item else _KINDS.get(kind) or _one_of(option.hint)
        shown = ",".join(map(str, value)) if isinstance(value, list) else value
        fail(f"{where}--{option.dashed}: expected {wanted}, not '{shown}'")


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _plural(item: Any) -> str:
    if get_origin(item) is Literal:
        return f"{', '.join(get_args(item))} with commas between"
    return f"{_KINDS.get(item, 'a name').removeprefix('a ')}s with commas between"


def _one_of(hint: Any) -> str:
    return f"one of {', '.join(map(repr, choices_of(hint)))}"


def _one(kind: Any, value: Any) -> Any:
    """Convert to one simple type.

    Raises:
        ValueError: the value does not fit the type.
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


def _split(text: str) -> list[str]:
    """The items of a list that is written with commas.

    An item in double quotes may contain commas, and so may the name of an existing file.

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
