"""Conversion of plain data from JSON and YAML to declared types, with checks, and back."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from outcrop.errors import OutcropError


def typed(hint: Any, value: Any, at: str = "") -> Any:
    """Convert `value` to the type `hint`.

    A file that was damaged can hold a word where a number was, and the error would come much later,
    or never. Lists become tuples where tuples are wanted, whole numbers floats, mappings
    dataclasses. What a dataclass or function checks beyond types it still checks itself.

    Args:
        hint: a type of the standard library, a dataclass, or a union, tuple, list or mapping of
            such; `Any` for what is not looked at.
        at: where in the file the value stands, for the error.

    Raises:
        TypeError: it is no such thing, or a dataclass lacks a field or knows no such field.
        ValueError: it is none of the values of a `Literal`.

    >>> typed(tuple[float, ...], [1, 2.5])
    (1.0, 2.5)
    >>> typed(dict[str, int], {"a": "1"})
    Traceback (most recent call last):
        ...
    TypeError: a is '1' and no int
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if hint is None:
        return _of(type(None), value, at)
    if origin in (Union, types.UnionType):
        return _one_of(inner, value, at)
    if origin is Literal:
        if not any(value == each and type(value) is type(each) for each in inner):
            raise ValueError(f"{_name(at)} is {value!r} and none of {', '.join(map(str, inner))}")
        return value
    if origin is tuple:
        return tuple(_items(inner, value, at))
    if origin in (list, Sequence):
        return list(_items((inner[0], ...), value, at))
    if origin in (dict, Mapping):
        _of(dict, value, at)
        return {typed(inner[0], k, at): typed(inner[1], v, _below(at, k)) for k, v in value.items()}
    if is_dataclass(hint):
        return _instance(hint, value, at)
    if hint is float and type(value) is int:
        return float(value)
    return _of(hint, value, at)


def plain(content: Any) -> Any:
    """Convert a result to types that JSON has: dataclasses to their fields, NaN to None.

    >>> import numpy as np
    >>> plain({"share": np.float32("nan"), "counts": np.array([1, 2])})
    {'share': None, 'counts': [1, 2]}
    """
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if hasattr(content, "tolist"):
        return plain(content.tolist())
    if isinstance(content, list | tuple | set):
        return [plain(one) for one in content]
    if hasattr(content, "to_json"):
        return plain(content.to_json())
    if is_dataclass(content) and not isinstance(content, type):
        return {item.name: plain(getattr(content, item.name)) for item in fields(content)}
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if content is None or isinstance(content, bool | int | str):
        return content
    return str(content)


def _of(kind: type, value: Any, at: str) -> Any:
    # A bool is an int for Python, and not for a reader of a file.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{_name(at)} is {_shown(value)} and no {kind.__name__}")
    return value


def _one_of(kinds: Iterable[Any], value: Any, at: str) -> Any:
    refused: TypeError | ValueError | None = None
    for kind in kinds:
        try:
            return typed(kind, value, at)
        except OutcropError:
            raise
        except (TypeError, ValueError) as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _items(kinds: tuple[Any, ...], value: Any, at: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{_name(at)} is {_shown(value)} and no list")
    if kinds[-1:] == (...,):
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise TypeError(f"{_name(at)} has {len(value)} entries where {len(kinds)} are wanted")
    return [
        typed(kind, each, _below(at, i))
        for i, (kind, each) in enumerate(zip(kinds, value, strict=True))
    ]


def _instance(kind: Any, value: Any, at: str) -> Any:
    _of(dict, value, at)
    known = {item.name: item for item in fields(kind) if item.init}
    if unknown := [name for name in value if name not in known]:
        raise TypeError(f"{_name(at)} has the unknown entry {_shown(unknown[0])}")
    for name, item in known.items():
        if name not in value and item.default is MISSING and item.default_factory is MISSING:
            raise TypeError(f"{_name(_below(at, name))} is missing")
    hints = get_type_hints(kind)
    return kind(
        **{name: typed(hints[name], each, _below(at, name)) for name, each in value.items()}
    )


def _below(at: str, name: Any) -> str:
    return f"{at}.{name}" if at else str(name)


def _name(at: str) -> str:
    return at or "the content"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
