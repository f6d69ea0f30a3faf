"""Peak memory and step time of deep networks, with and without recomputed activations."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch

from benchmarks.bare import Stepper
from benchmarks.machine import command, describe
from outcrop.models.architectures import ResidualNet
from outcrop.models.cost import cost_of
from outcrop.models.factory import build
from outcrop.training.device import keep_freed_memory, peak_memory, pick_device, pick_precision

LINES = Path(__file__).with_name("memory.jsonl")
ALLOCATOR = ("GLIBC_TUNABLES", "LD_PRELOAD", "MALLOC_CONF")
COLUMNS = (
    "layers",
    "precision",
    "blocks in a segment",
    "peak, MiB",
    "of all kept",
    "by count",
    "step, s",
    "of all kept",
)


@dataclass(frozen=True)
class Case:
    """One network, measured once.

    Attributes:
        depth: layers.
        batch: pictures in a step.
        precision: "32-true" or "bf16-mixed".
        recompute: blocks in a segment; 0 recomputes nothing.
        peak: bytes that training took on top of the network: gradients, momentum, pictures and
            activations.
        seconds: of each step, where nothing is compiled or recorded.
        machine: device, versions and date, and what the allocator was told.
        command: what was run.
    """

    depth: int
    batch: int
    precision: str
    recompute: int
    peak: int
    seconds: list[float]
    machine: str
    command: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--depths", default="602")
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--recompute", default="4,8,12", help="blocks in a segment")
    options.add_argument("--precisions", default="auto", help="of auto, 32-true, bf16-mixed")
    options.add_argument("--steps", type=int, default=3, help="of each round, after three")
    options.add_argument("--repeats", type=int, default=3, help="of each kind, in turn")
    options.add_argument("--give-back", action="store_true", help="freed memory to the system")
    options.add_argument("--lines", type=Path, default=LINES, help="gets a line for each case")
    options.add_argument("--one", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        depth, precision, segment = chosen.one.split("/")
        print(json.dumps(asdict(measure(int(depth), precision, int(segment), chosen))))
        return
    cases = []
    for one in kinds(chosen) * chosen.repeats:
        cases.append(measure(*one, chosen) if pick_device().type == "cuda" else in_a_process(*one))
        with chosen.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(cases[-1])) + "\n")
    print(markdown(cases))


def kinds(chosen: argparse.Namespace) -> list[tuple[int, str, int]]:
    """Depth, precision and segment of each case."""
    return list(
        product(
            map(int, chosen.depths.split(",")),
            chosen.precisions.split(","),
            [0, *map(int, chosen.recompute.split(","))],
        )
    )


def in_a_process(depth: int, precision: str, segment: int) -> Case:
    """A process of its own, because the peak of a process never falls."""
    call = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:]]
    one = ["--one", f"{depth}/{precision}/{segment}"]
    done = subprocess.run([*call, *one], stdout=subprocess.PIPE, text=True, check=True)
    return Case(**json.loads(done.stdout.splitlines()[-1]))


def measure(depth: int, precision: str, segment: int, chosen: argparse.Namespace) -> Case:
    device = pick_device()
    if device.type == "cpu" and not chosen.give_back:
        keep_freed_memory()
    precision = pick_precision(precision, device)
    # A first step loads code, a first recomputation too; that is no memory of the training.
    small = build(ResidualNet(14), 3, 10).to(device).train()
    small.recompute(1)
    Stepper(small, 4, device, precision)
    module = build(ResidualNet(depth), 3, 10).to(device).train()
    module.recompute(segment)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    before = peak_memory(device)
    stepper = Stepper(module, chosen.batch, device, precision)
    seconds = [stepper.step() for _ in range(chosen.steps)]
    told = [f"{name}={os.environ[name]}" for name in ALLOCATOR if name in os.environ]
    return Case(
        depth=depth,
        batch=chosen.batch,
        precision=precision,
        recompute=segment,
        peak=peak_memory(device) - before,
        seconds=[round(one, 4) for one in seconds],
        machine=", ".join([describe(), *(told if device.type == "cpu" else [])]),
        command=command("memory"),
    )


def markdown(cases: Sequence[Case]) -> str:
    """A table for each machine and command: medians over the repeats."""
    parts = []
    for machine, called in dict.fromkeys((one.machine, one.command) for one in cases):
        here = [one for one in cases if (one.machine, one.command) == (machine, called)]
        repeats = len(here) // len({(one.depth, one.precision, one.recompute) for one in here})
        parts.append(
            f"`{called}`\n\n{machine}; 32 × 32 × 3, batch {here[0].batch}; median of {repeats}, "
            f"{len(here[0].seconds)} steps each, nothing compiled or recorded\n"
        )
        lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows(here)]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n")
    return "\n".join(parts).rstrip()


def rows(cases: Sequence[Case]) -> Iterator[tuple[str, ...]]:
    """One row for each kind."""
    for depth, precision in dict.fromkeys((one.depth, one.precision) for one in cases):
        here = [one for one in cases if (one.depth, one.precision) == (depth, precision)]
        whole = [one for one in here if one.recompute == 0]
        count = cost_of(ResidualNet(depth), 3, (32, 32), 10).activations
        for segment in dict.fromkeys(one.recompute for one in here):
            its = [one for one in here if one.recompute == segment]
            pairs = list(zip(its, whole, strict=False))
            counted = cost_of(ResidualNet(depth), 3, (32, 32), 10, segment).activations
            step = statistics.median(statistics.median(one.seconds) for one in its)
            peak = statistics.median(one.peak for one in its) / (1 << 20)
            peaks = statistics.median(one.peak / all_.peak for one, all_ in pairs)
            times = statistics.median(
                statistics.median(one.seconds) / statistics.median(all_.seconds)
                for one, all_ in pairs
            )
            yield (
                str(depth),
                precision,
                str(segment or "all kept"),
                f"{peak:,.0f}",
                f"{peaks:.3f}",
                f"{counted / count:.3f}",
                f"{step:.3f}",
                f"{times:.2f}",
            )


if __name__ == "__main__":
    main()
