"""VAE, GAN, VAE-GAN and a VAE with a learned metric side by side, over several seeds."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.machine import describe, keep_memory
from outcrop.files import write_json
from outcrop.generative.loop import Evaluator
from outcrop.generative.reconstruction import relative_error
from outcrop.generative.run import read_vaegan_run
from outcrop.generative.samples import (
    frechet_at_infinity,
    frechet_distance,
    frechet_floor,
    memorised,
    sample_precision_recall,
)
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.generative.training import train_vaegan
from outcrop.models.architectures import ResidualNet
from outcrop.patches.collection import open_patches
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.splits import Split, delivered_split, read_split
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Machine, Recipe
from outcrop.training.run import read_run

UNBALANCED = VaeGanRecipe(balance=0.0)
PAPER = VaeGanRecipe(balance=0.0, decoder_loss="minimax")
MODELS = {
    "vae": (VaeGan("vae"), VaeGanRecipe()),
    "vae-dis": (VaeGan("vae-dis"), VaeGanRecipe()),
    "gan": (VaeGan("gan"), VaeGanRecipe()),
    "vaegan": (VaeGan("vaegan"), VaeGanRecipe()),
    "gan-unbalanced": (VaeGan("gan"), UNBALANCED),
    "gan-adam-unbalanced": (
        VaeGan("gan"),
        replace(UNBALANCED, optimiser="adam", learning_rate=2e-4),
    ),
    "vaegan-unbalanced": (VaeGan("vaegan"), UNBALANCED),
    "vaegan-paper": (VaeGan("vaegan"), PAPER),
}
MAIN = ("vae", "vae-dis", "gan", "vaegan")
JUDGE = "judge"
KINDS = ("samples", "reconstructions")
_MOST = 10_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", default="../shared/data/cifar10-jpeg.tar.xz")
    options.add_argument(
        "--split", help="split of a patch set; default: the split of the collection"
    )
    options.add_argument("--folder", type=Path, default=Path("scratch/vaegan"))
    options.add_argument(
        "--models", default=",".join(MAIN), help="models that are trained with every seed"
    )
    options.add_argument("--also", default="", help="models that are trained with the first seed")
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--filters", type=int, default=64)
    options.add_argument("--latent", type=int, default=128)
    options.add_argument(
        "--patches", type=int, default=0, help="maximum number per side; 0 for all"
    )
    options.add_argument(
        "--parallel", type=int, default=12, help="number of trainings at the same time"
    )
    options.add_argument("--compile", default="auto")
    options.add_argument("--precision", default="auto")
    options.add_argument("--one", help=argparse.SUPPRESS)
    options.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if chosen.one:
        model, _, seed = chosen.one.partition("-s")
        (measured if chosen.measure else one)(chosen, model, seed)
        return
    pictures(chosen)
    seeds = chosen.seeds.split(",")
    names = [f"{m}-s{seed}" for seed in seeds for m in chosen.models.split(",")]
    names += [f"{m}-s{seeds[0]}" for m in chosen.also.split(",") if m]
    # The slow ones first; a model that needs another's discriminator waits for it.
    names.sort(key=lambda name: ("vaegan" not in name, "gan" not in name))
    run(f"{JUDGE}-s0")
    with ThreadPoolExecutor(chosen.parallel) as pool:
        tasks = {name: pool.submit(run, name) for name in names if _first(name)}
        for name in names:
            if not _first(name):
                gan = tasks[f"gan-s{name.partition('-s')[2]}"]
                gan.result()
                tasks[name] = pool.submit(run, name)
        for task in tasks.values():
            task.result()
        list(pool.map(lambda name: run(name, "--measure"), names))
    rows = [json.loads((chosen.folder / f"{name}.json").read_text()) for name in names]
    table(rows, chosen)
    by_epoch(rows, chosen)
    sheet([name for m in MODELS if (name := f"{m}-s{seeds[0]}") in names], chosen.folder)


def _first(name: str) -> bool:
    return not name.startswith("vae-dis")


def run(name: str, *more: str) -> None:
    """Train in a separate process, unless the run is finished."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.vaegan", *sys.argv[1:], "--one", name, *more],
        env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        capture_output=True,
        text=True,
    )
    print(name, *more, done.stderr.strip().splitlines()[-1:], flush=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])


def pictures(chosen: argparse.Namespace) -> tuple[PatchSet, Split]:
    """The training patches and the held-out ones."""
    kept, sides = chosen.folder / "pictures.zarr", chosen.folder / "split.json"
    if not sides.exists():
        read = open_patches(chosen.data)
        split = read_split(chosen.split, read) if chosen.split else delivered_split(read)
        random = np.random.default_rng(0)
        learnt, held_out = (
            np.sort(random.permutation(side)[: chosen.patches or None])
            for side in (split.train, np.union1d(split.validation, split.test))
        )
        index = np.concatenate([learnt, held_out])
        some = read.subset(index)
        some.save(kept)
        of_both = (np.arange(len(index)) >= len(learnt)).astype(np.int8)
        Split(of_both, split.groups[index], some.fingerprint, split.how).save(sides)
    patches = read_patches(kept)
    return patches, read_split(sides, patches)


def one(chosen: argparse.Namespace, model: str, seed: str) -> None:
    """One training."""
    keep_memory()
    patches, split = pictures(chosen)
    folder = chosen.folder / f"{model}-s{seed}"
    if model == JUDGE:
        recipe = Recipe(
            epochs=12,
            batch=128,
            learning_rate=0.1,
            augmentation=Augmentation(rotate=False, gain=0),
            machine=Machine(compile="never"),
        )
        train(patches, split, folder, ResidualNet(20), recipe, folder.exists(), graph=False)
        return
    network, recipe = MODELS[model]
    network = replace(network, filters=chosen.filters, latent=chosen.latent)
    recipe = replace(
        recipe,
        epochs=chosen.epochs,
        batch=chosen.batch,
        seed=int(seed),
        machine=Machine(precision=chosen.precision, compile=chosen.compile),
    )
    similarity = None
    if model == "vae-dis":
        similarity = read_vaegan_run(chosen.folder / f"gan-s{seed}")
    judge = read_run(chosen.folder / f"{JUDGE}-s0")
    train_vaegan(
        patches,
        split,
        folder,
        network,
        recipe,
        resume=folder.exists(),
        lines=True,
        similarity=similarity,
        judge=judge,
    )


def measured(chosen: argparse.Namespace, model: str, seed: str) -> None:
    """Write the measures of a model, in features of the judge and in pixels of held-out images."""
    name = f"{model}-s{seed}"
    found = read_vaegan_run(chosen.folder / name)
    judge = read_run(chosen.folder / f"{JUDGE}-s0").classifier
    patches, split = pictures(chosen)
    real = patches.take(split.validation[:_MOST])
    known = judge.probabilities_and_features(real)[1]
    samples = found.model.sample(len(real), seed=int(seed) + 1000)
    made = judge.probabilities_and_features(samples)[1]
    endless = frechet_at_infinity(known, made)
    quality = sample_precision_recall(known, made, draws=1)
    some = patches.take(split.train[:: max(1, len(split.train) // 5000)])
    copied = memorised(made[:1000], judge.probabilities_and_features(some)[1], known[:1000])
    row = {
        "model": model,
        "seed": int(seed),
        "frechet": frechet_distance(known, made),
        "floor": frechet_floor(known),
        "frechet_at_infinity": endless.distance,
        "precision": quality.precision.value,
        "recall": quality.recall.value,
        "nearer_to_training": copied.training_side.value - copied.expected_side,
        "repeats": found.metrics[-1].repeats,
        "alarms": list(found.metrics[-1].alarms),
        "epochs": {
            key: [getattr(epoch, key) for epoch in found.metrics]
            for key in ("frechet", "feature_error")
        },
        "seconds": sum(epoch.seconds for epoch in found.metrics),
        "images_per_second": statistics.median(e.images_per_second for e in found.metrics),
    }
    if found.model.network.has_encoder:
        again = found.model.reconstruct(real)
        row["pixel_error"] = relative_error(
            found.model.normalised(real), found.model.normalised(again), draws=1
        ).value
        seen = judge.probabilities_and_features(again)[1]
        row["feature_error"] = relative_error(known, seen, draws=1).value
    chosen = np.random.default_rng(0).permutation(len(real))[:64]
    grids = Evaluator(real[np.sort(chosen)], real[:2], None, 0).grids(found.model)
    for kind, picture in grids.items():
        Image.fromarray(picture).save(chosen.folder / f"{name}-{kind}.png")
    write_json(chosen.folder / f"{name}.json", row)


def table(rows: Sequence[dict[str, Any]], chosen: argparse.Namespace) -> None:
    """Median and range over the seeds."""
    print(f"\n{describe()}; {chosen.epochs} epochs, batch {chosen.batch}, seeds {chosen.seeds}")
    print(f"Fréchet distance between two halves of the real images: {rows[0]['floor']:.3f}\n")
    columns = {
        "Fréchet": "frechet",
        "at infinity": "frechet_at_infinity",
        "precision": "precision",
        "recall": "recall",
        "feature error": "feature_error",
        "pixel error": "pixel_error",
        "repeats": "repeats",
        "images/s": "images_per_second",
    }
    print(f"| model | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
    for model in dict.fromkeys(row["model"] for row in rows):
        here = [row for row in rows if row["model"] == model]
        cells = [[row[key] for row in here if row.get(key) is not None] for key in columns.values()]
        print(f"| {model} | {' | '.join(map(_range, cells))} |")


def by_epoch(rows: Sequence[dict[str, Any]], chosen: argparse.Namespace) -> None:
    """Medians over the seeds by epoch, of measures of held-out images."""
    epochs = sorted({1, *(2**k for k in range(1, 8) if 2**k < chosen.epochs), chosen.epochs})
    for title, key in {"Fréchet": "frechet", "feature error": "feature_error"}.items():
        print(f"\n| {title} after epoch | {' | '.join(map(str, epochs))} |")
        print(f"| --- |{' --- |' * len(epochs)}")
        for model in dict.fromkeys(row["model"] for row in rows):
            curves = [row["epochs"][key] for row in rows if row["model"] == model]
            if None not in curves[0]:
                middle = np.median(curves, axis=0)
                cells = (f"{middle[epoch - 1]:.3g}" for epoch in epochs)
                print(f"| {model} | {' | '.join(cells)} |")


def sheet(names: Sequence[str], folder: Path) -> None:
    """Write samples side by side, and below them held-out images above their reconstructions."""
    paths = [
        [path for kind in KINDS if (path := folder / f"{name}-{kind}.png").exists()]
        for name in names
    ]
    columns = [[Image.open(path) for path in column] for column in paths]
    width, height = columns[0][0].size
    title, gap = 18, 12
    whole = Image.new("RGB", (len(names) * (width + gap), title + 2 * (height + gap)), "white")
    for k, (name, column) in enumerate(zip(names, columns, strict=True)):
        left = k * (width + gap)
        ImageDraw.Draw(whole).text((left, 0), name, fill="black", font_size=14)
        for row, picture in enumerate(column):
            whole.paste(picture, (left, title + row * (height + gap)))
    whole.save(folder / "sheet.jpg", quality=88)


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = f"{statistics.median(values):.3g}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
