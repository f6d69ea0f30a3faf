"""`Result`: one line of `results.jsonl`; and the table of such lines, expected beside obtained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import binomtest

from outcrop.errors import OutcropError
from outcrop.files import decoding, explain
from outcrop.typed import typed
from outcrop.workflow.published import all_published, read_published

RESULTS = "results.jsonl"
COLUMNS = (
    "recipe",
    "paper",
    "report",
    "ours",
    "seeds",
    "epochs",
    "data",
    "device",
    "time",
)

_OF_ONE_RUN = {
    "seed", "accuracy", "seconds", "torch", "outcrop", "date", "command", "driver",
    "curve",
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What one seed of a recipe came to, beside what was published.

    Attributes:
        name: the recipe.
        paper: the paper's test accuracy in %, or None.
        report: test accuracies in % from the report that outcrop started from.
        accuracy: of the test side after the last epoch, in %.
        tested: number of test pictures.
        seed: of the run.
        epochs: how many it had.
        full_epochs: how many the recipe has.
        batch: largest number of pictures in a step.
        accumulate: in how many parts they went through the network.
        data: "cifar10", or the name of the file or folder.
        original: whether these are the pixels of CIFAR-10, by checksum.
        fingerprint: of the patch set: its shape, classes and labels.
        trained: number of training pictures.
        device: the model of the GPU or processor.
        threads: of the processor; None for a GPU.
        precision: "32-true" or "bf16-mixed".
        seconds: for all epochs, their training and judging.
        torch, outcrop: versions.
        driver: version of the GPU's driver, if it is known.
        curve: accuracy after each epoch, in %, if it is known.
        date: when it ended, as year-month-day.
        command: what runs this seed again.
    """

    name: str
    paper: float | None
    report: tuple[float, ...]
    accuracy: float
    tested: int
    seed: int
    epochs: int
    full_epochs: int
    batch: int
    accumulate: int
    data: str
    original: bool
    fingerprint: str
    trained: int
    device: str
    threads: int | None
    precision: str
    seconds: float
    torch: str
    outcrop: str
    date: str
    command: str
    driver: str | None = None
    curve: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.accuracy <= 100 and self.tested > 0 and 0 <= self.seconds < math.inf):
            raise ValueError("accuracy, tested or seconds out of range")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """The result that `dataclasses.asdict` gave; the energy in older results is left out."""
        return typed(cls, {name: value for name, value in content.items() if name != "joules"})


def results_of(folder: Path, name: str | None = None) -> tuple[Result, ...]:
    """All results in a folder of `outcrop reproduce`, or those of one recipe.

    Raises:
        OutcropError: there are none; the file is damaged; no such recipe.
    """
    path = folder / RESULTS
    results = read_results(path)
    if name is not None:
        wanted = read_published(name).name
        results = tuple(one for one in results if one.name == wanted)
    if not results:
        what = "is empty" if name is None else f"has nothing of {name}"
        raise OutcropError(path, f"{what}; run it with `outcrop reproduce {name or 'NAME'}`")
    return results


def append_result(path: Path, result: Result) -> None:
    """Add a line to `path`, if it is not there.

    Raises:
        OutcropError: the disk is full or read-only.
    """
    line = json.dumps(asdict(result), allow_nan=False) + "\n"
    try:
        with path.open("a+", encoding="utf-8") as file:
            file.seek(0)
            if line not in file.readlines():
                file.write(line)
    except OSError as error:
        raise explain(error, path) from error


def read_results(path: str | Path) -> tuple[Result, ...]:
    """All lines, in their order.

    Raises:
        OutcropError: no such file; a line is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise OutcropError(path, "no such results; make some with `outcrop reproduce NAME`")
    with decoding(path, "a file of results", "restore it"):
        lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(_read_line(path, number, line) for number, line in enumerate(lines, start=1))


def _read_line(path: Path, number: int, line: str) -> Result:
    remedy = "delete it, `outcrop reproduce --resume` writes it anew"
    with decoding(f"{path}: line {number}", "a result", remedy):
        return Result.from_json(json.loads(line))


def tabulate(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """One row of `COLUMNS` for the seeds that were run alike, by recipe.

    Of several results of one seed, run alike, the last counts.
    """
    alike: dict[tuple[Any, ...], dict[int, Result]] = {}
    for one in results:
        key = tuple(value for name, value in vars(one).items() if name not in _OF_ONE_RUN)
        alike.setdefault(key, {})[one.seed] = one
    order = [published.name for published in all_published()]
    rows = [list(by_seed.values()) for by_seed in alike.values()]
    rows.sort(key=lambda row: order.index(row[0].name) if row[0].name in order else len(order))
    return [_row(row) for row in rows]


def notes(results: Sequence[Result]) -> list[str]:
    """How to read the table of these results."""
    told = [
        "accuracy on the test side in %, after the last epoch; nothing is chosen by it",
        "ours: one seed with the 95 % interval that its number of test pictures gives (Wilson), "
        "or the mean of several ± their standard deviation",
        "time: of one run, on average",
    ]
    if any(one.epochs != one.full_epochs for one in results):
        told.append(
            "n of m epochs: the recipe has m, and its whole schedule was squeezed into n; "
            "not what was published"
        )
    if not all(one.original for one in results):
        told.append(
            "†: not the original pixels of CIFAR-10; such figures compare with each other only"
        )
    return told


def _row(runs: Sequence[Result]) -> tuple[str, ...]:
    first = runs[0]
    threads = "" if first.threads is None else f", {first.threads} thread{'s'[: first.threads > 1]}"
    return (
        first.name,
        figures(first.paper),
        figures(*first.report),
        _ours(runs),
        ", ".join(str(seed) for seed in sorted(one.seed for one in runs)),
        str(first.epochs)
        if first.epochs == first.full_epochs
        else f"{first.epochs} of {first.full_epochs}",
        first.data + ("" if first.original else " †"),
        f"{first.device}{threads}, {first.precision}",
        str(timedelta(seconds=round(mean(one.seconds for one in runs)))),
    )


def figures(*values: float | None) -> str:
    """Accuracies as the sources print them.

    >>> figures(92.4, 92.9), figures(None)
    ('92.4, 92.9', '–')
    """
    return ", ".join(str(value) for value in values if value is not None) or "–"


def _ours(runs: Sequence[Result]) -> str:
    if len(runs) > 1:
        values = [one.accuracy for one in runs]
        return f"{mean(values):.2f} ± {stdev(values):.2f}"
    one = runs[0]
    right = round(one.accuracy / 100 * one.tested)
    ends = binomtest(right, one.tested).proportion_ci(method="wilson")
    return f"{one.accuracy:.2f} [{100 * ends.low:.2f}, {100 * ends.high:.2f}]"
