"""Images per second of our training against a plain loop, and against the machine's peak."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.machine import describe
from benchmarks.reference import plain
from outcrop.models.architectures import ResidualNet
from outcrop.models.cost import cost_of
from outcrop.patches.patchset import PatchSet
from outcrop.splits import RandomSplit
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Machine, Recipe

KINDS = ("plain loop", "ours, 32-true", "ours, auto")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--depth", type=int, default=20)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--images", type=int, default=5120)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        print(measure(chosen.one, chosen.depth, chosen.batch, chosen.images))
        return
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    peaks = []
    for _ in range(chosen.repeats):
        peaks.append(matrix_product_peak())
        for kind in KINDS:
            # A process of its own: what one leaves in the allocator is no other's.
            line = subprocess.run(
                [sys.executable, "-m", "benchmarks.throughput", *sys.argv[1:], "--one", kind],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            speeds[kind].append(float(line.splitlines()[-1]))
    per_image = 6 * cost_of(ResidualNet(chosen.depth), 3, (32, 32), 10).multiply_adds
    peak = statistics.median(peaks)
    print(
        f"ResNet-{chosen.depth}, 32 × 32 × 3, batch {chosen.batch}, {describe()}; median of "
        f"{chosen.repeats}; float32 matrix product: {peak / 1e9:.0f} GFLOP/s\n"
    )
    print("| loop | images/s | against the plain loop | range | share of float32 peak |")
    print("| --- | --- | --- | --- | --- |")
    for kind, found in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(found, speeds["plain loop"], strict=True)]
        shares = [speed * per_image / p for speed, p in zip(found, peaks, strict=True)]
        print(
            f"| {kind} | {statistics.median(found):.0f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} | {statistics.median(shares):.0%} |"
        )


def measure(kind: str, depth: int, batch: int, number: int) -> float:
    """Images per second in the second of two epochs."""
    dice = np.random.default_rng(0)
    images = dice.integers(0, 256, (number, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(number) % 10
    if kind == "plain loop":
        return plain.train(
            plain.Pictures(images, labels, True), None, depth, 2, batch
        ).images_per_second[-1]
    patches = PatchSet(images, labels, tuple("abcdefghij"), ("red", "green", "blue"))
    split = RandomSplit(folds=20).assign(patches)
    precision = kind.removeprefix("ours, ")
    recipe = Recipe(
        epochs=2,
        batch=batch,
        augmentation=Augmentation(rotate=False, gain=0),
        machine=Machine(precision=precision),
    )
    with TemporaryDirectory() as folder:
        run = train(patches, split, Path(folder) / "run", ResidualNet(depth), recipe)
        return run.metrics[-1].images_per_second


def matrix_product_peak(n: int = 1024, repeats: int = 8) -> float:
    """Operations per second of the fastest float32 product of n × n matrices.

    As `a @ b` and as a 1 × 1 convolution: two libraries compute them, and on some processors one
    is twice as fast as the other.
    """
    a, b = torch.randn(2, n, n)
    picture = a.view(1, n, n // 32, 32).to(memory_format=torch.channels_last)
    weight = b.view(n, n, 1, 1)
    seconds = []
    for product in (lambda: a @ b, lambda: F.conv2d(picture, weight)):
        product()
        for _ in range(repeats):
            started = time.perf_counter()
            product()
            seconds.append(time.perf_counter() - started)
    return 2 * n**3 / min(seconds)


if __name__ == "__main__":
    main()
