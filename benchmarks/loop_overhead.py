"""Images per second of a whole training epoch against the bare step of the same network."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.nn import functional as F

from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.splits import RandomSplit
from outcrop.training.engine import train
from outcrop.training.recipe import Recipe


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--depth", type=int, default=20)
    options.add_argument("--size", type=int, default=32)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--repeats", type=int, default=5)
    chosen = options.parse_args()
    network = ResidualNet(chosen.depth)
    patches = noise(1280, chosen.size)
    split = RandomSplit(folds=10).assign(patches)
    ours, bare = [], []
    for _ in range(chosen.repeats):
        bare.append(bare_step(network, chosen.size, chosen.batch))
        with TemporaryDirectory() as folder:
            recipe = Recipe(epochs=3, batch=chosen.batch)
            run = train(patches, split, Path(folder) / "run", network, recipe)
            ours.append(run.metrics[-1].images_per_second)
    ratios = [b / o - 1 for b, o in zip(bare, ours, strict=True)]
    print(
        f"ResNet-{chosen.depth}, {chosen.size} × {chosen.size} × 4, batch {chosen.batch},", end=" "
    )
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()},",
        end=" ",
    )
    print(f"{date.today()}; median of {chosen.repeats}\n")
    print("| bare step, images/s | training loop, images/s | overhead | range |")
    print("| --- | --- | --- | --- |")
    print(
        f"| {statistics.median(bare):.0f} | {statistics.median(ours):.0f} "
        f"| {statistics.median(ratios):.1%} | {min(ratios):.1%} to {max(ratios):.1%} |"
    )


def noise(n: int, size: int) -> PatchSet:
    dice = np.random.default_rng(0)
    return PatchSet(
        images=dice.integers(0, 4000, (n, 4, size, size)).astype("uint16"),
        labels=np.arange(n) % 6,
        classes=tuple("abcdef"),
        bands=("blue", "green", "red", "near infrared"),
    )


def bare_step(network: ResidualNet, size: int, batch: int, steps: int = 9) -> float:
    """Images per second of forward, backward and optimiser on one batch that is there already."""
    module = network.build(4, 6).train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, fused=True)
    images = torch.randn(batch, 4, size, size).to(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 6
    started = 0.0
    for step in range(steps + 2):
        if step == 2:
            started = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(module(images), labels).backward()
        optimiser.step()
    return steps * batch / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
