"""Write the tables of RESULTS.md that are made from JSON lines, each between its two marks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks import throughput
from outcrop.experiment.results import COLUMNS, notes, read_results, tabulate
from outcrop.files import new_file

HERE = Path(__file__).parent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options.add_argument("--lines", type=Path, default=HERE, help="the folder with the lines")
    chosen = options.parse_args()
    text = chosen.into.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise SystemExit(f"{chosen.into}: lacks the lines {begin} and {end}; add them")
        text = f"{before}{begin}\n{table(chosen.lines)}\n{end}{after}"
    with new_file(chosen.into) as temporary:
        temporary.write_text(text, encoding="utf-8")


def reproduced(folder: Path) -> str:
    """What published recipes gave, and how to read it."""
    results = read_results(folder / "results.jsonl")
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *tabulate(results)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n\n".join([table, "\n".join(f"- {note}" for note in notes(results))])


def timed(folder: Path) -> str:
    """How fast training is."""
    lines = (folder / throughput.LINES.name).read_text(encoding="utf-8").splitlines()
    return throughput.markdown([throughput.Round(**json.loads(line)) for line in lines])


TABLES: dict[str, Callable[[Path], str]] = {"throughput": timed, "reproduce": reproduced}


if __name__ == "__main__":
    main()
