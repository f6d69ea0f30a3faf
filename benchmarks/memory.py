"""Peak memory and step time of a deep network, with and without recomputed activations."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass

from benchmarks.bare import Stepper
from benchmarks.machine import describe
from outcrop.models.architectures import ResidualNet
from outcrop.models.cost import cost_of
from outcrop.training.device import keep_freed_memory, peak_memory, pick_device, pick_precision

ALLOCATOR = ("GLIBC_TUNABLES", "LD_PRELOAD", "MALLOC_CONF")


@dataclass(frozen=True)
class Case:
    """What one process measured.

    Attributes:
        recompute: blocks in a segment; 0 recomputes nothing.
        peak: bytes that training took on top of the network: gradients, momentum, pictures and
            activations.
        seconds: of each step.
    """

    recompute: int
    peak: int
    seconds: list[float]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--depth", type=int, default=602)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--recompute", default="4,8,12", help="blocks in a segment")
    options.add_argument("--precision", default="auto", choices=["auto", "32-true", "bf16-mixed"])
    options.add_argument("--steps", type=int, default=3, help="of each round, after three")
    options.add_argument("--repeats", type=int, default=3, help="processes of each kind, in turn")
    options.add_argument("--give-back", action="store_true", help="freed memory to the system")
    options.add_argument("--json", action="store_true", help="a JSON line for each process too")
    options.add_argument("--case", type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.case is not None:
        print(json.dumps(asdict(measure(chosen))))
        return
    segments = [0, *map(int, chosen.recompute.split(","))]
    rounds = [[in_a_process(k) for k in segments] for _ in range(chosen.repeats)]
    if chosen.json:
        for case in (case for one in rounds for case in one):
            print(json.dumps(asdict(case)))
    table(chosen, rounds)


def in_a_process(segment: int) -> Case:
    """A process of its own, because the peak of a process never falls."""
    command = [sys.executable, "-m", "benchmarks.memory", *sys.argv[1:], "--case", str(segment)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Case(**json.loads(done.stdout.splitlines()[-1]))


def measure(chosen: argparse.Namespace) -> Case:
    device = pick_device()
    if device.type == "cpu" and not chosen.give_back:
        keep_freed_memory()
    precision = pick_precision(chosen.precision, device)
    # A first step loads code, a first recomputation too; that is no memory of the training.
    small = ResidualNet(14).build(3, 10).to(device).train()
    small.recompute(1)
    Stepper(small, 4, device, precision)
    module = ResidualNet(chosen.depth).build(3, 10).to(device).train()
    module.recompute(chosen.case)
    before = peak_memory(device)
    stepper = Stepper(module, chosen.batch, device, precision)
    seconds = [stepper.step() for _ in range(chosen.steps)]
    return Case(chosen.case, peak_memory(device) - before, seconds)


def table(chosen: argparse.Namespace, rounds: list[list[Case]]) -> None:
    network = ResidualNet(chosen.depth)
    precision = pick_precision(chosen.precision, pick_device())
    # On a CPU the peak is that of the process, gaps in the heap of its allocator included.
    heap = [f"{name}={os.environ[name]}" for name in ALLOCATOR if name in os.environ]
    print(
        f"{network.title}, 32 × 32 × 3, batch {chosen.batch}, {precision}, {describe()}"
        f"{', '.join(['', *heap])}; median of "
        f"{chosen.repeats} processes of each kind in turn, {chosen.steps} steps each\n"
    )
    print("| blocks in a segment | peak, MiB | of all kept | by count | step, s | ratio | range |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    whole = cost_of(network, 3, (32, 32), 10).activations
    for column, case in enumerate(rounds[0]):
        peaks = [one[column].peak / one[0].peak for one in rounds]
        steps = [statistics.median(one[column].seconds) for one in rounds]
        ratios = [
            step / statistics.median(one[0].seconds)
            for step, one in zip(steps, rounds, strict=True)
        ]
        counted = cost_of(network, 3, (32, 32), 10, case.recompute).activations
        peak = statistics.median(one[column].peak for one in rounds) / (1 << 20)
        print(
            f"| {case.recompute or 'all kept'} | {peak:.0f} | {statistics.median(peaks):.3f} "
            f"| {counted / whole:.3f} | {statistics.median(steps):.2f} "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )


if __name__ == "__main__":
    main()
