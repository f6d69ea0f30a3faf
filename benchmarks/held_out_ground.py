"""Network and baselines on held-out ground of synthetic coasts, and their leak gaps."""

from __future__ import annotations

import argparse
import platform
from collections import defaultdict
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from outcrop.evaluation.scores import score
from outcrop.models.architectures import ResidualNet
from outcrop.models.baselines import Baseline
from outcrop.models.features import FEATURES
from outcrop.patches.cut import cut
from outcrop.sources.coast import make_coast
from outcrop.splits import block_split, random_counterpart
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Recipe

BASELINES = [
    Baseline(name, "patch statistics") for name in ("SVM", "random forest", "maximum likelihood")
]
GAINS = (0.0, 0.2)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", default="4,5,6", help="coasts, by seed")
    options.add_argument("--images", type=int, default=7)
    options.add_argument("--epochs", type=int, default=25)
    chosen = options.parse_args()
    found = defaultdict(list)
    for seed in map(int, chosen.seeds.split(",")):
        with TemporaryDirectory() as folder:
            measure(Path(folder), seed, chosen.images, chosen.epochs, found)
    print(f"\ncoasts {chosen.seeds} of {chosen.images} images, {chosen.epochs} epochs,", end=" ")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()},",
        end=" ",
    )
    print(f"{date.today()}; medians, and the range over coasts\n")
    print("| model | overall, held-out ground | balanced | overall, split at random | leak gap |")
    print("| --- | --- | --- | --- | --- |")
    for model, rows in found.items():
        print(f"| {model} | " + " | ".join(map(spread, np.array(rows).T)) + " |")


def measure(folder: Path, seed: int, images: int, epochs: int, found: dict) -> None:
    coast = make_coast(folder / "coast", images, 400, seed)
    patches = cut(coast.scenes, coast.labels, "class", 16, stride=3)
    split = block_split(patches, None, None, folds=5, seed=seed).assign(patches)
    sides = {"ground": split, "random": random_counterpart(patches, split, seed)}
    models = {b.name: lambda one, b=b: baseline(patches, one, b, seed) for b in BASELINES}
    for gain in GAINS:
        recipe = Recipe(epochs=epochs, seed=seed, augmentation=Augmentation(gain=gain))
        models[f"ResNet-14, gain {gain}"] = lambda one, recipe=recipe: network(
            patches, one, recipe, folder
        )
    for name, predict in models.items():
        scores = {
            how: score(
                patches.labels[one.validation],
                predict(one),
                patches.classes,
                one.groups[one.validation],
            )
            for how, one in sides.items()
        }
        overall = {how: one.overall.value for how, one in scores.items()}
        row = (
            overall["ground"],
            scores["ground"].balanced.value,
            overall["random"],
            overall["random"] - overall["ground"],
        )
        found[name].append(row)
        print(
            f"coast {seed}: {name}: " + ", ".join(f"{100 * value:.1f}" for value in row), flush=True
        )


def baseline(patches, split, model, seed):
    seen, unseen = (
        FEATURES[model.features](patches.take(s)) for s in (split.train, split.validation)
    )
    groups = split.groups[split.train] if split.by_ground else None
    labels = patches.labels[split.train]
    return model.fit(seen, labels, groups, len(patches.classes), seed).predict(unseen)


def network(patches, split, recipe, folder):
    with TemporaryDirectory(dir=folder) as runs:
        run = train(patches, split, Path(runs) / "run", ResidualNet(depth=14), recipe)
        return run.predictions.probabilities.argmax(axis=1)


def spread(values: np.ndarray) -> str:
    middle, low, high = 100 * np.median(values), 100 * values.min(), 100 * values.max()
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
