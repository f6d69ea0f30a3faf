"""Write the tables of `docs/benchmarks` that are made from JSON lines, between their two marks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    depth,
    first_step,
    large_scene,
    leak_gaps,
    memory,
    plain_runs,
    real_ground,
    step_profile,
    throughput,
)
from outcrop.files import new_file
from outcrop.workflow.published import COLUMNS, Result, notes, read_results, tabulate

HERE = Path(__file__).parent
PAGES = HERE.parent / "docs" / "benchmarks"
PLAIN = (
    "plain loop: the same recipe on the same pictures by `reference/`, from the lines of "
    "`plain.jsonl`; one seed, or the mean of several ± their standard deviation"
)
RUN_COLUMNS = ("recipe", "loop", "seed", "epochs", "accuracy, %", "made on", "command")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--into", type=Path, default=PAGES, help="the folder of the pages")
    options.add_argument("--lines", type=Path, default=HERE, help="the folder with the lines")
    chosen = options.parse_args()
    pages = {page: page.read_text(encoding="utf-8") for page in chosen.into.glob("*.md")}
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        marked = [page for page, text in pages.items() if begin in text and end in text]
        if len(marked) != 1:
            raise SystemExit(
                f"{chosen.into}: {len(marked)} pages have the lines {begin} and {end}; one must"
            )
        before, _, rest = pages[marked[0]].partition(begin)
        after = rest.partition(end)[2]
        pages[marked[0]] = f"{before}{begin}\n{table(chosen.lines)}\n{end}{after}"
    for page, text in pages.items():
        with new_file(page) as temporary:
            temporary.write_text(text, encoding="utf-8")


def reproduced(folder: Path) -> str:
    """What published recipes gave, and how to read it."""
    results = read_results(folder / "results.jsonl")
    runs = [plain_runs.PlainRun(**line) for line in lines_of(folder / plain_runs.LINES.name)]
    lines = [_with(COLUMNS, "plain loop"), tuple("---" for _ in range(len(COLUMNS) + 1))]
    for cells in tabulate(results):
        row = dict(zip(COLUMNS, cells, strict=True))
        epochs, data = int(row["epochs"].split()[0]), row["data"].removesuffix(" †")
        lines.append(_with(cells, plain_runs.beside(runs, row["recipe"], epochs, data)))
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    told = "\n".join(f"- {note}" for note in [*notes(results), PLAIN])
    return "\n\n".join([table, told, every_run(results, runs)])


def every_run(results: Sequence[Result], runs: Sequence[plain_runs.PlainRun]) -> str:
    """Each run by itself: what it came to, where, and the command that made it."""
    ours = [
        (one.name, "ours", one.seed, one.epochs, one.accuracy, made_on(one), one.command)
        for one in results
    ]
    plain = [
        (one.name, "plain", one.seed, one.epochs, one.accuracy[-1], one.machine, one.command)
        for one in runs
    ]
    lines = [RUN_COLUMNS, tuple("---" for _ in RUN_COLUMNS)]
    for name, loop, seed, epochs, accuracy, machine, command in sorted(ours + plain):
        cells = (name, loop, str(seed), str(epochs), f"{accuracy:.2f}", machine, f"`{command}`")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def made_on(result: Result) -> str:
    """Device, driver or threads, versions and date, as `machine.describe` says them."""
    more = f"driver {result.driver or 'unknown'}"
    if result.threads is not None:
        more = f"{result.threads} threads"
    return f"{result.device}, {more}, torch {result.torch}, {result.date}"


def timed(folder: Path) -> str:
    """How fast training is."""
    lines = lines_of(folder / throughput.LINES.name)
    return throughput.markdown([throughput.Round(**line) for line in lines])


def kept(folder: Path) -> str:
    """What deep networks keep in memory."""
    lines = lines_of(folder / memory.LINES.name)
    return memory.markdown([memory.Case(**line) for line in lines])


def spent(folder: Path) -> str:
    """Where the time of a step goes."""
    lines = lines_of(folder / step_profile.LINES.name)
    return step_profile.markdown([step_profile.Profile(**line) for line in lines])


def mapped(folder: Path) -> str:
    """How fast a large scene is mapped."""
    lines = lines_of(folder / large_scene.LINES.name)
    return large_scene.markdown([large_scene.Mapped(**line) for line in lines])


def deep(folder: Path) -> str:
    """What ails very deep networks."""
    lines = lines_of(folder / depth.LINES.name)
    return depth.markdown([depth.Outcome(**line) for line in lines])


def begun(folder: Path) -> str:
    """Where very deep networks break."""
    lines = lines_of(folder / first_step.LINES.name)
    return first_step.markdown([first_step.First(**line) for line in lines])


def scenes(folder: Path) -> str:
    """The network and the best classical model, scene by scene."""
    return "\n".join(real_ground.differences(real_ground.read_lines(folder)))


def recommended(folder: Path) -> str:
    """What the comparison recommends, scene by scene."""
    return "\n".join(real_ground.recommendations(real_ground.read_lines(folder)))


def ranks(folder: Path) -> str:
    """All models over all scenes."""
    return "\n".join(real_ground.ranking(real_ground.read_lines(folder)))


def gaps(folder: Path) -> str:
    """How much a random split flatters."""
    return leak_gaps.markdown(lines_of(folder / "leak_gaps.jsonl"))


def lines_of(path: Path) -> list[dict[str, Any]]:
    """What the lines of a file say."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _with(cells: Sequence[str], plain: str) -> tuple[str, ...]:
    """A row with what the plain loop gave, behind what is ours."""
    place = COLUMNS.index("ours") + 1
    return (*cells[:place], plain, *cells[place:])


TABLES: dict[str, Callable[[Path], str]] = {
    "real scenes": scenes,
    "recommended": recommended,
    "ranks": ranks,
    "leak gaps": gaps,
    "throughput": timed,
    "step": spent,
    "memory": kept,
    "large scene": mapped,
    "depth": deep,
    "first step": begun,
    "reproduce": reproduced,
}


if __name__ == "__main__":
    main()
