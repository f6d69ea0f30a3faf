"""`Group`: commands under one word, such as `outcrop synthetic coast`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Command = Callable[..., Any]


@dataclass(frozen=True)
class Group:
    """Commands that follow one word.

    Attributes:
        help: what they do, in one line.
        commands: by name.
    """

    help: str
    commands: Mapping[str, Command]
