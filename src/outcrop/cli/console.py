"""Standard output, and what needs few libraries to be printed there."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outcrop.locating.located import Located
from outcrop.locating.summary import summary
from outcrop.patches.patchset import PatchSet
from outcrop.progress import speaks

console = Console(highlight=False, soft_wrap=True, quiet=not speaks())
if not console.is_terminal:
    # Into a pipe or a file a table is as wide as it needs to be.
    console.width = 240


def say(text: str) -> None:
    """Print a line on standard output."""
    console.print(text, markup=False)


def table_of(*columns: str) -> Table:
    """A table without lines; all columns but the first are of numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", min_width=6)
    return table


def locate_table(patches: PatchSet, located: Located) -> None:
    """Patches found by class, how exactly, and what was done to their contrast."""
    table = table_of("class", "patches", "found", "not found", "ambiguous")
    groups = [(name, patches.labels == k) for k, name in enumerate(patches.classes)]
    if len(groups) > 1:
        groups.append(("all", np.ones(len(patches), bool)))
    for name, here in groups:
        found = int((located.found & here).sum())
        ambiguous = int((located.ambiguous & here).sum())
        counts = (here.sum(), found, here.sum() - found, ambiguous)
        table.add_row(
            escape(name), *(f"{count:,}" for count in counts), style="bold" if name == "all" else ""
        )
    console.print(table)
    for line in summary(located, patches.bands):
        say(line)
