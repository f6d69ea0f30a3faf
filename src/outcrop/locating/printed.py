"""The table of located patches on standard output."""

from __future__ import annotations

import numpy as np
from rich.markup import escape

from outcrop.cli.console import console, say, table_of
from outcrop.locating.located import Located
from outcrop.locating.summary import summary
from outcrop.patches.patchset import PatchSet


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
