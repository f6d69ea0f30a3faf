"""Standard output: lines, tables, and JSON for other programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from outcrop.progress import is_first_process
from outcrop.typed import plain

console = Console(highlight=False, soft_wrap=True, quiet=not is_first_process())
if not console.is_terminal:
    # Into a pipe or a file a table is as wide as it needs to be.
    console.width = 240


def say(text: str) -> None:
    """Print a line on standard output."""
    console.print(text, markup=False)


def say_files(*files: Path | None) -> None:
    """Print the names of the files that were written, one per line."""
    for path in files:
        if path is not None:
            say(str(path))


def table_of(*columns: str) -> Table:
    """A table without lines; all columns except the first are right-aligned."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", min_width=6)
    return table


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
