"""Images per second of a whole training epoch against the bare step of the same network."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.bare import Stepper
from benchmarks.machine import describe, keep_memory
from outcrop.models.architectures import ResidualNet
from outcrop.models.factory import build
from outcrop.patches.patchset import PatchSet
from outcrop.splits import RandomSplit
from outcrop.training.device import pick_device
from outcrop.training.engine import train
from outcrop.training.recipe import Machine, Recipe

STEPS = 10


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--depth", type=int, default=20)
    options.add_argument("--size", type=int, default=32)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--repeats", type=int, default=5)
    chosen = options.parse_args()
    network = ResidualNet(chosen.depth)
    patches = noise(STEPS * chosen.batch * 10 // 9, chosen.size)
    print(
        f"{network.title}, {chosen.size} × {chosen.size} × 4, batch {chosen.batch}, {describe()}; "
        f"the last of three epochs against the bare step; median of {chosen.repeats} pairs\n"
    )
    print("| precision | bare step, images/s | training loop, images/s | overhead | range |")
    print("| --- | --- | --- | --- | --- |")
    for precision in ("32-true", "bf16-mixed"):
        pairs = [
            (
                bare(network, chosen.size, chosen.batch, precision),
                ours(patches, network, chosen.batch, precision),
            )
            for _ in range(chosen.repeats)
        ]
        ratios = [alone / loop - 1 for alone, loop in pairs]
        alone, loop = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"| {precision} | {alone:.0f} | {loop:.0f} | {statistics.median(ratios):.1%} "
            f"| {min(ratios):.1%} to {max(ratios):.1%} |"
        )


def noise(n: int, size: int) -> PatchSet:
    rng = np.random.default_rng(0)
    return PatchSet(
        images=rng.integers(0, 4000, (n, 4, size, size)).astype("uint16"),
        labels=np.arange(n) % 6,
        classes=tuple("abcdef"),
        bands=("blue", "green", "red", "near infrared"),
    )


def bare(network: ResidualNet, size: int, batch: int, precision: str) -> float:
    """Images per second of forward, backward and optimiser on one batch that is there already."""
    device = pick_device()
    keep_memory()
    module = build(network, 4, 6).to(device).train()
    if device.type == "cuda":
        module.compile_blocks()
    stepper = Stepper(module, batch, device, precision, bands=4, size=size)
    return STEPS * batch / sum(stepper.step() for _ in range(STEPS))


def ours(patches: PatchSet, network: ResidualNet, batch: int, precision: str) -> float:
    """Images per second of the last of three epochs."""
    keep_memory()
    split = RandomSplit(n_splits=10).assign(patches)
    recipe = Recipe(epochs=3, batch=batch, machine=Machine(precision=precision))
    with TemporaryDirectory() as folder:
        run = train(patches, split, Path(folder) / "run", network, recipe)
        return run.metrics[-1].images_per_second


if __name__ == "__main__":
    main()
