"""Networks and baselines on held-out ground of synthetic coasts, and their leak gaps.

The networks are the one that `outcrop compare` tunes inside the training side, the default one by
its default recipe, the same with a jitter, and ResNet-14 without and with the random gain that was
tuned on coasts like these.
"""

from __future__ import annotations

import argparse
import platform
from collections import defaultdict
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.machine import keep_memory
from outcrop.metrics.scores import score
from outcrop.models.architectures import ResidualNet
from outcrop.models.baselines import Baseline
from outcrop.models.features import FEATURES
from outcrop.patches.cut import cut
from outcrop.splits import block_split, random_counterpart
from outcrop.synthetic.coast import make_coast
from outcrop.training.engine import default_network, train
from outcrop.training.recipe import Augmentation, Machine, Recipe, Tuning

BASELINES = [
    Baseline(name, "patch statistics") for name in ("SVM", "random forest", "maximum likelihood")
]
GAINS = (0.0, 0.2)
JITTER = 0.3


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", default="4,5,6", help="coasts, by seed")
    options.add_argument("--images", type=int, default=7)
    options.add_argument("--epochs", type=int, default=25, help="of ResNet-14")
    options.add_argument("--models", default="", help="only models whose name starts so")
    chosen = options.parse_args()
    keep_memory()
    found = defaultdict(list)
    for seed in map(int, chosen.seeds.split(",")):
        with TemporaryDirectory() as folder:
            measure_coast(Path(folder), seed, chosen, found)
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


def measure_coast(folder: Path, seed: int, chosen: argparse.Namespace, found: dict) -> None:
    coast = make_coast(folder / "coast", chosen.images, 400, seed)
    patches = cut(coast.scenes, coast.labels, "class", 16, stride=3)
    split = block_split(patches, None, None, folds=5, seed=seed).assign(patches)
    sides = {"ground": split, "random": random_counterpart(patches, split, seed)}
    models = {b.name: lambda one, b=b: baseline(patches, one, b, seed) for b in BASELINES}
    for gain in GAINS[1:]:
        models[f"SVM, gain {gain}"] = lambda one, gain=gain: baseline(
            patches, one, BASELINES[0], seed, gain
        )
    default = default_network(patches)
    exact = Machine(precision="32-true")  # the same on every machine
    networks = {
        "tuned network": (None, Recipe(seed=seed, machine=exact)),
        f"{default.title}, default recipe": (default, Recipe(seed=seed, machine=exact)),
        f"{default.title}, jitter {JITTER}": (
            default,
            Recipe(seed=seed, augmentation=Augmentation(jitter=JITTER), machine=exact),
        ),
    }
    for gain in GAINS:
        networks[f"ResNet-14, gain {gain}"] = (
            ResidualNet(depth=14),
            Recipe(
                epochs=chosen.epochs,
                seed=seed,
                augmentation=Augmentation(gain=gain),
                machine=exact,
            ),
        )
    for name, (one, recipe) in networks.items():
        models[name] = lambda split, one=one, recipe=recipe: network(
            patches, split, one, recipe, folder
        )
    for name, predict in models.items():
        if not name.startswith(chosen.models):
            continue
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


def baseline(patches, split, model, seed, gain=0.0):
    """With a gain, two copies of each training patch as the network would see it are added."""
    measure = FEATURES[model.features]
    images, labels = patches.take(split.train), patches.labels[split.train]
    # Under a split at random only the copies of one patch belong together.
    groups = split.groups[split.train] if split.spatial else split.train if gain else None
    seen = [measure(images)]
    rng = np.random.default_rng(seed)
    for _ in range(2 if gain else 0):
        gains = rng.uniform(1 - gain, 1 + gain, (len(images), images.shape[1], 1, 1))
        seen.append(measure(images * gains.astype(np.float32)))
    copies = len(seen)
    fitted = model.fit(
        np.concatenate(seen),
        np.tile(labels, copies),
        None if groups is None else np.tile(groups, copies),
        len(patches.classes),
        seed,
    )
    return fitted.predict(measure(patches.take(split.validation)))


def network(patches, split, described, recipe, folder):
    tuning = Tuning() if described is None else None
    with TemporaryDirectory(dir=folder) as runs:
        run = train(patches, split, Path(runs) / "run", described, recipe, tuning=tuning)
        return run.predictions.probabilities.argmax(axis=1)


def spread(values: np.ndarray) -> str:
    middle, low, high = 100 * np.median(values), 100 * values.min(), 100 * values.max()
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
