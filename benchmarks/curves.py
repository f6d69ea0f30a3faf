"""Draw the accuracy after each epoch, ours and the plain loop's, from the lines of runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks import plain_runs
from benchmarks.tabulate import HERE, lines_of
from outcrop.files import new_file
from outcrop.workflow.published import read_results

INTO = HERE.parent / "docs" / "curves.png"
_OURS, _PLAIN, _COLUMNS = "#1f6f8b", "#b5651d", 3

Curves = dict[str, list[Sequence[float]]]
Kind = tuple[str, int, str]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--into", type=Path, default=INTO)
    options.add_argument("--lines", type=Path, default=HERE, help="the folder with the lines")
    chosen = options.parse_args()
    with new_file(chosen.into) as temporary:
        draw(gather(chosen.lines)).savefig(temporary, format="png", dpi=110)


def gather(folder: Path) -> dict[Kind, Curves]:
    """The curves of each recipe, epochs and data, by who ran it."""
    found: dict[Kind, Curves] = {}
    for result in read_results(folder / "results.jsonl"):
        if result.curve:
            kind = (result.name, result.epochs, result.data)
            found.setdefault(kind, {}).setdefault("ours", []).append(result.curve)
    for line in lines_of(folder / plain_runs.LINES.name):
        run = plain_runs.PlainRun(**line)
        kind = (run.name, run.epochs, run.data)
        found.setdefault(kind, {}).setdefault("plain loop", []).append(run.accuracy)
    return found


def draw(found: dict[Kind, Curves]) -> Figure:
    """One panel for each recipe; each line is one seed."""
    columns = max(1, min(_COLUMNS, len(found)))
    rows = max(1, -(-len(found) // columns))
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), layout="constrained")
    for number, ((name, epochs, data), curves) in enumerate(sorted(found.items()), start=1):
        axes = figure.add_subplot(rows, columns, number)
        for who, colour in (("ours", _OURS), ("plain loop", _PLAIN)):
            seeds = curves.get(who, [])
            for k, curve in enumerate(seeds):
                label = f"{who}, {len(seeds)} seed{'s'[: len(seeds) > 1]}"
                axes.plot(range(1, len(curve) + 1), curve, color=colour, label=None if k else label)
        axes.set_title(f"{name}, {epochs} epochs", fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel("accuracy on the test side, %")
        axes.grid(alpha=0.3)
        axes.legend(title=data, fontsize=8, title_fontsize=8, loc="lower right")
    return figure


if __name__ == "__main__":
    main()
