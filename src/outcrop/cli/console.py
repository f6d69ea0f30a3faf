"""Standard output: lines and tables."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from outcrop.progress import is_first_process

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
