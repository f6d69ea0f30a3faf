"""Images per second of our training against a plain loop, and against what the device can do."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.machine import command, describe, keep_memory
from benchmarks.reference import networks, plain
from outcrop.models.architectures import ResidualNet
from outcrop.models.cost import cost_of
from outcrop.patches.patchset import PatchSet
from outcrop.splits import RandomSplit
from outcrop.training.device import pick_device, pick_precision
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Machine, Recipe

LINES = Path(__file__).with_name("throughput.jsonl")
PLAIN = "plain loop"
KINDS = (PLAIN, "ours, 32-true", "ours, auto", "ours, auto, nothing recorded")
NAMES = ("resnet20", "resnet110", "resnet110-sd", "ror3-110", "wrn28-10")
COLUMNS = (
    "network",
    "loop",
    "images/s",
    "against the plain loop",
    "range",
    "epoch of 50,000",
    "share of the limit",
    "limit",
)


@dataclass(frozen=True)
class Round:
    """One network, once by each loop, one after the other.

    Attributes:
        network: its name.
        machine: device, versions and date.
        precision: that of "ours, auto".
        product: operations a second of a matrix product in that precision, measured beside it.
        copy: bytes a second that a copy on the device reads and writes, measured beside it.
        speeds: images a second by each of `KINDS`.
        command: what was run.
    """

    network: str
    machine: str
    precision: str
    product: float
    copy: float
    speeds: dict[str, float]
    command: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--networks", default="resnet20", help=f"of {', '.join(NAMES)}")
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--images", type=int, default=5120)
    options.add_argument("--epochs", type=int, default=2, help="of ours; the last one counts")
    options.add_argument("--kinds", default=";".join(KINDS[:3]), help=f"of {'; '.join(KINDS)}")
    options.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--lines", type=Path, default=LINES, help="gets a line for each round")
    options.add_argument("--one", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        name, kind = chosen.one.split("/")
        print(measure(name, kind, chosen))
        return
    rounds = []
    for _ in range(chosen.repeats):
        for name in chosen.networks.split(","):
            rounds.append(one_round(name, chosen))
            with chosen.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(rounds[-1])) + "\n")
    print(markdown(rounds))


def one_round(name: str, chosen: argparse.Namespace) -> Round:
    """The loops one after the other."""
    device = pick_device()
    precision = pick_precision("auto", device)
    product, copy = limits(device, precision)
    alone = device.type != "cuda"
    speeds = {}
    for kind in map(str.strip, chosen.kinds.split(";")):
        if not alone:
            torch.cuda.empty_cache()
        speeds[kind] = in_a_process(name, kind) if alone else measure(name, kind, chosen)
    return Round(name, describe(), precision, product, copy, speeds, command("throughput"))


def in_a_process(name: str, kind: str) -> float:
    """On a CPU, what one loop leaves in the allocator would be another's."""
    call = [sys.executable, "-m", "benchmarks.throughput", *sys.argv[1:]]
    one = ["--one", f"{name}/{kind}"]
    done = subprocess.run([*call, *one], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def measure(name: str, kind: str, chosen: argparse.Namespace) -> float:
    """Images per second in the last epoch."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (chosen.images, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(chosen.images) % 10
    if kind == PLAIN:
        torch.manual_seed(0)
        network, device = networks.NETWORKS[name](), str(pick_device())
        schedule = plain.Schedule(1, chosen.batch)
        for number in (10 * chosen.batch, chosen.images):
            pictures = plain.Pictures(images[:number], labels[:number], augment=True)
            found = plain.train(network, pictures, None, schedule, chosen.workers, device)
        return found.images_per_second[-1]
    keep_memory()
    patches = PatchSet(images, labels, tuple("abcdefghij"), ("red", "green", "blue"))
    split = RandomSplit(n_splits=20).assign(patches)
    _, precision, *rest = kind.split(", ")
    recipe = Recipe(
        epochs=chosen.epochs,
        batch=chosen.batch,
        augmentation=Augmentation(rotate=False, gain=0),
        machine=Machine(precision=precision, capture="never" if rest else "auto"),
    )
    with TemporaryDirectory() as folder:
        where = Path(folder) / "run"
        run = train(patches, split, where, ResidualNet.named(name), recipe, graph=False)
        return run.metrics[-1].images_per_second


def limits(device: torch.device, precision: str) -> tuple[float, float]:
    """Operations per second of the fastest product of matrices, and bytes per second of a copy.

    The product as `a @ b` and as a 1 × 1 convolution: two libraries compute them, and on some
    processors one is twice as fast as the other. A copy reads as much as it writes.
    """
    n, copied = (8192, 1 << 30) if device.type == "cuda" else (1024, 1 << 28)
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    a, b = torch.randn(2, n, n, device=device, dtype=dtype)
    picture = a.view(1, n, n // 32, 32).to(memory_format=torch.channels_last)
    weight = b.view(n, n, 1, 1)
    source, target = torch.empty(2, copied, dtype=torch.uint8, device=device)
    product = min(
        fastest(device, lambda: a @ b), fastest(device, lambda: F.conv2d(picture, weight))
    )
    return 2 * n**3 / product, 2 * copied / fastest(device, lambda: target.copy_(source))


def fastest(device: torch.device, call: Callable[[], object], repeats: int = 8) -> float:
    """The fewest seconds that a call takes."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def bound(one: Round) -> tuple[float, str]:
    """The most images per second that the device allows, and what it is that allows no more.

    Three times the forward pass are multiplied and added. What is kept of an image for its gradient
    is written once and read once at the least, and so is its gradient. Of both stochastic depth
    spares the share of the multiply-adds that it is expected to.
    """
    network = ResidualNet.named(one.network)
    cost = cost_of(network, 3, (32, 32), 10)
    share = 1 - cost.expected_saving
    width = 0.5 if one.precision == "bf16-mixed" else 1.0
    by_product = one.product / (6 * cost.multiply_adds * share)
    by_copy = one.copy / (4 * cost.activations * width * share)
    return min((by_product, "matrix product"), (by_copy, "memory"))


def markdown(rounds: Sequence[Round]) -> str:
    """A table for each machine and command: medians over the rounds."""
    parts = []
    for machine, called in dict.fromkeys((one.machine, one.command) for one in rounds):
        here = [one for one in rounds if (one.machine, one.command) == (machine, called)]
        product, copy = (
            statistics.median(getattr(one, name) for one in here) for name in ("product", "copy")
        )
        repeats = len(here) // len({one.network for one in here})
        parts.append(
            f"`{called}`\n\n{machine}; median of {repeats}; product of matrices in "
            f"{'bfloat16' if here[0].precision == 'bf16-mixed' else 'float32'} "
            f"{product / 1e12:.3g} TFLOP/s, copy {copy / 1e9:.3g} GB/s\n"
        )
        lines = [COLUMNS, tuple("---" for _ in COLUMNS)]
        for name in dict.fromkeys(one.network for one in here):
            lines += rows([one for one in here if one.network == name])
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n")
        parts += saved(here)
    return "\n".join(parts).rstrip()


def saved(rounds: Sequence[Round]) -> list[str]:
    """What a step with stochastic depth takes of one without, round by round."""
    plain, stochastic = (
        [one for one in rounds if one.network == name] for name in ("resnet110", "resnet110-sd")
    )
    if not plain or not stochastic:
        return []
    told = []
    for kind in plain[0].speeds:
        shares = [
            one.speeds[kind] / other.speeds[kind]
            for one, other in zip(plain, stochastic, strict=False)
        ]
        told.append(
            f"{kind} {statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})"
        )
    return [
        "Step time of ResNet-110 with stochastic depth, as a share of the step time without: "
        f"{'; '.join(told)}.\n"
    ]


def rows(rounds: Sequence[Round]) -> list[tuple[str, ...]]:
    """One network by each loop."""
    found = []
    for kind in rounds[0].speeds:
        speeds = [one.speeds[kind] for one in rounds]
        ratios = [one.speeds[kind] / one.speeds[PLAIN] for one in rounds]
        shares = [one.speeds[kind] / bound(one)[0] for one in rounds]
        speed = statistics.median(speeds)
        auto = kind == KINDS[2]
        found.append(
            (
                ResidualNet.named(rounds[0].network).title,
                kind,
                f"{speed:,.0f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
                f"{50_000 / speed:,.1f} s",
                f"{statistics.median(shares):.0%}" if auto else "",
                bound(rounds[0])[1] if auto else "",
            )
        )
    return found


if __name__ == "__main__":
    main()
