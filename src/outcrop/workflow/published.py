"""Published recipes and the results of running them."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import binomtest

from outcrop.errors import OutcropError
from outcrop.files import decoding, explain
from outcrop.models.architectures import ResidualNet
from outcrop.training.recipe import Settled, suited
from outcrop.typed import typed
from outcrop.workflow.plan import take_training

_FILES = files("outcrop.workflow") / "recipes"


@dataclass(frozen=True)
class Published:
    """A published recipe for CIFAR-10 with flips and crops, and its published accuracies.

    Attributes:
        name: name for `outcrop reproduce`.
        source: paper, table or figure of the accuracy, and kind of the accuracy.
        paper: test accuracy of the paper in %; None if it has none for this network.
        report: test accuracies in % from the report that outcrop is based on.
        network: the network.
        recipe: the training recipe, without machine and seed.
    """

    name: str
    source: str
    paper: float | None
    report: tuple[float, ...]
    network: ResidualNet
    recipe: Settled


def read_published(name: str) -> Published:
    """Read a recipe by its name.

    Raises:
        OutcropError: there is no such recipe.

    >>> read_published("resnet20").paper
    91.25
    """
    import yaml

    names = _names()
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(sorted(names))}"
        raise OutcropError("reproduce", f"there is no recipe '{name}'; {hint}")
    content = yaml.safe_load((_FILES / f"{name}.yaml").read_text(encoding="utf-8"))
    network, recipe = take_training(content)
    assert isinstance(network, ResidualNet)
    recipe = suited(recipe, network)
    return Published(
        name, report=tuple(content.pop("report")), network=network, recipe=recipe, **content
    )


def all_published() -> tuple[Published, ...]:
    """All recipes: plain networks first, in order of depth."""

    def place(one: Published) -> tuple[float, ...]:
        network = one.network
        return network.levels, network.widen, network.depth, -network.survival

    return tuple(sorted(map(read_published, _names()), key=place))


def _names() -> list[str]:
    return [path.name.removesuffix(".yaml") for path in _FILES.iterdir()]


RESULTS = "results.jsonl"
COLUMNS = ("recipe", "paper", "report", "ours", "seeds", "epochs", "data", "device", "time")

_OF_ONE_RUN = {
    "seed", "accuracy", "seconds", "torch", "outcrop", "date", "command", "driver",
    "curve",
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """Result of one seed of a recipe, with the published accuracies; a line of `results.jsonl`.

    Attributes:
        name: name of the recipe.
        paper: test accuracy of the paper in %, or None.
        report: test accuracies in % from the report that outcrop is based on.
        accuracy: accuracy on the test images after the last epoch, in %.
        tested: number of test images.
        seed: random seed of the run.
        epochs: number of epochs of the run.
        full_epochs: number of epochs of the recipe.
        batch: largest number of images in a step.
        accumulate: number of parts in which a batch goes through the network.
        data: "cifar10", or the name of the file or folder.
        original: whether these are the pixels of CIFAR-10, by checksum.
        fingerprint: fingerprint of the patch set: its shape, classes and labels.
        trained: number of training images.
        device: model of the GPU or processor.
        threads: threads on a processor; None for a GPU.
        precision: "32-true" or "bf16-mixed".
        seconds: time of training and validation in all epochs.
        torch, outcrop: versions of the packages.
        driver: version of the GPU's driver, if it is known.
        curve: accuracy after each epoch, in %, if it is known.
        date: date of its end, as year-month-day.
        command: command that repeats this seed.
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
        """The result from the JSON of `dataclasses.asdict`."""
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
        if name is None:
            raise OutcropError(path, "is empty; run it with `outcrop.reproduce(name)`")
        raise OutcropError(
            path, f"has no result of {name}; run it with `outcrop.reproduce({name!r})`"
        )
    return results


def append_result(path: Path, result: Result) -> None:
    """Append a result to `path`, unless it is there already.

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
    """Read all results of a file in their order.

    Raises:
        OutcropError: there is no such file; a line is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise OutcropError(path, "no such file; make it with `outcrop.reproduce`")
    with decoding(path, "a file of results", "restore it"):
        lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(_read_line(path, number, line) for number, line in enumerate(lines, start=1))


def _read_line(path: Path, number: int, line: str) -> Result:
    remedy = "delete it; `outcrop.reproduce(resume=True)` writes it again"
    with decoding(f"{path}: line {number}", "a result", remedy):
        return Result.from_json(json.loads(line))


def tabulate(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """One row of `COLUMNS` for all seeds with equal settings, in the order of the recipes.

    If a seed has several results with equal settings, the last one counts.
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
    """Notes to the table of some results."""
    found = [
        "accuracy on the test side in %, after the last epoch; nothing is chosen by it",
        "ours: one seed with the 95 % interval that its number of test pictures gives (Wilson), "
        "or the mean of several ± their standard deviation",
        "time: of one run, on average",
    ]
    if any(one.epochs != one.full_epochs for one in results):
        found.append(
            "n of m epochs: the recipe has m epochs, and its whole schedule was compressed to n; "
            "this is not the published recipe"
        )
    if not all(one.original for one in results):
        found.append(
            "†: not the original pixels of CIFAR-10; such results can be compared only with each "
            "other"
        )
    return found


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
    """Published accuracies as text.

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
