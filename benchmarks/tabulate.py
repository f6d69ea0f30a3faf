"""Write the table of what `outcrop reproduce` gave into RESULTS.md, between its two marks."""

from __future__ import annotations

import argparse
from pathlib import Path

from outcrop.experiment.results import COLUMNS, Result, notes, read_results, tabulate
from outcrop.files import new_file

HERE = Path(__file__).parent
BEGIN, END = "<!-- reproduce -->", "<!-- /reproduce -->"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    options.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    chosen = options.parse_args()
    before, begin, rest = chosen.into.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{chosen.into}: lacks the lines {BEGIN} and {END}; add them")
    table = markdown(read_results(chosen.results))
    with new_file(chosen.into) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def markdown(results: tuple[Result, ...]) -> str:
    """The table and its notes."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *tabulate(results)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n\n".join([table, "\n".join(f"- {note}" for note in notes(results))])


if __name__ == "__main__":
    main()
