"""Published recipes by the plain loop, on the pictures that `outcrop reproduce` was given."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import torch

from benchmarks.machine import command, describe
from benchmarks.reference import networks, plain
from outcrop.patches.collection import open_patches
from outcrop.splits import TRAIN, delivered_split
from outcrop.training.device import pick_device
from outcrop.workflow.published import Published, read_published

LINES = Path(__file__).with_name("plain.jsonl")


@dataclass(frozen=True)
class PlainRun:
    """What one seed of a recipe came to.

    Attributes:
        name: of the recipe.
        epochs: how many it had; its whole schedule is squeezed into them.
        data: the name of the file or folder.
        seed: of weights, order and augmentation.
        accuracy: of the test side after each epoch, in %.
        images_per_second: in each epoch.
        machine: device, versions and date.
        command: what was run.
    """

    name: str
    epochs: int
    data: str
    seed: int
    accuracy: list[float]
    images_per_second: list[float]
    machine: str
    command: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", help="of recipes, with commas between them")
    options.add_argument("--data", default="../shared/data/cifar10-jpeg.tar.xz")
    options.add_argument("--seeds", default="0")
    options.add_argument("--epochs", type=int, help="instead of the recipe's")
    options.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    options.add_argument("--lines", type=Path, default=LINES, help="gets a line for each run")
    chosen = options.parse_args()
    training, testing = pictures(chosen.data)
    for name in chosen.names.split(","):
        schedule = schedule_of(read_published(name), chosen.epochs)
        for seed in map(int, chosen.seeds.split(",")):
            torch.manual_seed(seed)
            network, device = networks.NETWORKS[name](), str(pick_device())
            found = plain.train(network, training, testing, schedule, chosen.workers, device)
            run = PlainRun(
                name=name,
                epochs=schedule.epochs,
                data=Path(chosen.data).name,
                seed=seed,
                accuracy=[round(100 * share, 2) for share in found.accuracy],
                images_per_second=[round(speed, 1) for speed in found.images_per_second],
                machine=describe(),
                command=command("plain_runs"),
            )
            with chosen.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(run)) + "\n")
            print(f"{name}, seed {seed}: {run.accuracy[-1]:.2f} %", flush=True)


def pictures(data: str) -> tuple[plain.Pictures, plain.Pictures]:
    """All that was delivered to train on, and all else."""
    patches = open_patches(data)
    learns = delivered_split(patches).sides == TRAIN
    return (
        plain.Pictures(patches.images[learns], patches.labels[learns], augment=True),
        plain.Pictures(patches.images[~learns], patches.labels[~learns], augment=False),
    )


def schedule_of(published: Published, epochs: int | None) -> plain.Schedule:
    """The recipe's numbers for the plain loop.

    It begins with a tenth of the rate where the recipe rises to it.
    """
    recipe = published.recipe
    epochs = epochs or recipe.epochs
    return plain.Schedule(
        epochs=epochs,
        batch=recipe.batch,
        rate=recipe.learning_rate,
        milestones=tuple(recipe.milestones),
        warm_up=round(recipe.warm_up * epochs / recipe.epochs),
        warm_up_rate=recipe.learning_rate / 10,
        decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def beside(runs: Sequence[PlainRun], name: str, epochs: int, data: str) -> str:
    """Accuracy of the runs of a recipe with so many epochs on these pictures, for a table."""
    last = {
        run.seed: run.accuracy[-1]
        for run in runs
        if (run.name, run.epochs, run.data) == (name, epochs, data)
    }
    if not last:
        return "–"
    middle = f"{mean(last.values()):.2f}"
    return middle if len(last) == 1 else f"{middle} ± {stdev(last.values()):.2f}"


if __name__ == "__main__":
    main()
