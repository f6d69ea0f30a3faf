"""`--json`: what a command prints, as JSON for other programs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from outcrop.cli.console import say


def show(content: Any, as_json: bool, table: Callable[[], None]) -> None:
    """Print a result as a table, or as JSON and nothing else on standard output.

    Args:
        content: the result.
        table: prints it as a table.
    """
    if as_json:
        say_json(content)
    else:
        table()


def say_json(content: Any) -> None:
    """Print a result as JSON."""
    say(json.dumps(plain(content), indent=2))


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
