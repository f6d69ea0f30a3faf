"""Where the time of a training step goes: its kernels on a GPU, its operators on a CPU."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import command, describe
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.training.batches import Epoch
from outcrop.training.device import exact_convolutions, keep_freed_memory, pick_device
from outcrop.training.normalise import Normalisation
from outcrop.training.parallel import make_learner, make_process_group
from outcrop.training.pictures import load_pictures
from outcrop.training.recipe import Augmentation, Machine, Recipe

LINES = Path(__file__).with_name("step_profile.jsonl")
_WIDE = 90


@dataclass(frozen=True)
class Profile:
    """The steps of one network.

    Attributes:
        network: its name.
        capture: "auto" or "never".
        batch: pictures in a step.
        step: milliseconds from one step to the next, without the profiler.
        busy: milliseconds of them in which something is computed.
        started: how many kernels or operators.
        parts: of those that take longest the name, how many there are in a step, and milliseconds
            together.
        machine: device, versions and date.
        command: what was run.
    """

    network: str
    capture: str
    batch: int
    step: float
    busy: float
    started: int
    parts: list[tuple[str, int, float]]
    machine: str
    command: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--networks", default="resnet20")
    options.add_argument("--captures", default="auto", help="of auto, never")
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--parts", type=int, default=12, help="how many are named")
    options.add_argument("--lines", type=Path, default=LINES, help="gets a line for each profile")
    chosen = options.parse_args()
    profiles = []
    for name in chosen.networks.split(","):
        for capture in chosen.captures.split(","):
            profiles.append(measure(name, capture, chosen))
            with chosen.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(profiles[-1])) + "\n")
    print(markdown(profiles))


def measure(name: str, capture: str, chosen: argparse.Namespace) -> Profile:
    network, device = ResidualNet.named(name), pick_device()
    recipe = Recipe(
        batch=chosen.batch,
        augmentation=Augmentation(rotate=False, gain=0),
        machine=Machine(device=str(device), capture=capture),  # type: ignore[arg-type]
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (chosen.batch * chosen.steps, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(len(images)) % 10
    patches = PatchSet(images, labels, tuple("abcdefghij"), ("red", "green", "blue"))
    pictures = load_pictures(patches, np.arange(len(images)), device)
    on_gpu = device.type == "cuda"
    if not on_gpu:
        keep_freed_memory()
    with exact_convolutions(), make_process_group(network, recipe) as group:
        learner = make_learner(network, recipe, patches, group)
        learner.module.train()

        def epoch(number: int) -> float:
            plan = Epoch(
                number, recipe, network, pictures, Normalisation((127.0,) * 3, (64.0,) * 3)
            )
            if on_gpu:
                torch.cuda.synchronize(device)
            started = time.perf_counter()
            for step in plan.walk():
                learner.step(step, lambda *told: None)
            if on_gpu:
                torch.cuda.synchronize(device)
            return 1000 * (time.perf_counter() - started) / plan.steps

        epoch(0)
        step = min(epoch(number) for number in range(1, 4))
        kind = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
        with profile(activities=[kind]) as found:
            epoch(4)
    # Microseconds in all steps.
    spent = [
        (one.key, one.count, one.self_device_time_total if on_gpu else one.self_cpu_time_total)
        for one in found.key_averages()
    ]
    spent = sorted((one for one in spent if one[2] > 0), key=lambda one: -one[2])
    steps = chosen.steps
    return Profile(
        network=name,
        capture=capture if on_gpu else "never",
        batch=chosen.batch,
        step=round(step, 3),
        busy=round(sum(time_ for _, _, time_ in spent) / 1000 / steps, 3),
        started=round(sum(count for _, count, _ in spent) / steps),
        parts=[
            (key[:_WIDE], round(count / steps), round(time_ / 1000 / steps, 4))
            for key, count, time_ in spent[: chosen.parts]
        ],
        machine=describe(),
        command=command("step_profile"),
    )


def markdown(profiles: Sequence[Profile]) -> str:
    """A table for each profile."""
    parts = []
    for one in profiles:
        how = "as recorded" if one.capture == "auto" else "nothing recorded"
        rows = [
            f"`{one.command}`\n\n{ResidualNet.named(one.network).title}, {how}, batch {one.batch}, "
            f"{one.machine}: {one.step:.2f} ms a step, of which {one.busy:.2f} ms are computed in "
            f"{one.started} kernels or operators\n",
            "| kernel or operator | in a step | ms | share |",
            "| --- | --- | --- | --- |",
        ]
        for name, count, spent in one.parts:
            safe = name.replace("|", "\\|")
            rows.append(f"| `{safe}` | {count} | {spent:.3f} | {spent / one.busy:.0%} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts).rstrip()


if __name__ == "__main__":
    main()
