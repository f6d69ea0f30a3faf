"""Does the area of applicability find out-of-distribution patches, and which distance is best?"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from benchmarks.machine import describe, keep_memory
from outcrop.models.architectures import ResidualNet
from outcrop.patches.cut import cut
from outcrop.patches.patchset import PatchSet
from outcrop.splits import Split, block_split
from outcrop.synthetic.coast import make_coast
from outcrop.training.engine import train
from outcrop.training.recipe import Recipe
from outcrop.training.run import Run

SIZE = 16
BANDS = (10, 20, 30, 40, 50, 70)
FEWEST = 50
SOME = 1500

Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A network to train, out-of-distribution patches, and new patches that are in distribution."""

    name: str
    patches: PatchSet
    split: Split
    foreign: dict[str, np.ndarray]
    new: PatchSet | None = None


@dataclass
class Found:
    """For each kind of planted patches in each world: one number for each network."""

    areas: dict = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    new: list = field(default_factory=list)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--landsat", type=Path, default=Path("../shared/data/nc_landsat"))
    options.add_argument("--seeds", default="1,2", help="of coasts, splits and trainings")
    options.add_argument("--epochs", type=int, default=15)
    chosen = options.parse_args()
    keep_memory()
    found = Found()
    for seed in map(int, chosen.seeds.split(",")):
        with TemporaryDirectory() as folder:
            for number, case in enumerate(cases(Path(folder), chosen.landsat, seed)):
                where = Path(folder) / f"run-{number}"
                recipe = Recipe(epochs=chosen.epochs, seed=seed)
                network = ResidualNet(depth=14)
                run = train(case.patches, case.split, where, network, recipe, graph=False)
                measure(case, run, found)
    show(found, chosen)


def cases(folder: Path, landsat: Path, seed: int) -> Iterator[Case]:
    """Each world whole, and without each class in turn that has patches enough."""
    labels = landsat / "landsat96_labelled_pixels.tif"
    bands = [landsat / f"lsat7_2000_{band}.tif" for band in BANDS]
    real = cut(bands, labels, size=SIZE)
    coast, new = (
        cut(made.scenes, made.labels, "class", SIZE, stride=stride)
        for made, stride in (
            (make_coast(folder / "coast", 7, 400, seed), 4),
            (make_coast(folder / "new", 3, 400, seed + 100), 6),
        )
    )
    for name, patches, other in (("coast", coast, real), ("Landsat", real, coast)):
        split = block_split(patches, None, None, folds=5, seed=seed).assign(patches)
        known = patches.take(split.validation).astype(np.float32)
        foreign = {"another world": like(other, known, seed)} | changed(known, seed)
        yield Case(name, patches, split, foreign, new if name == "coast" else None)
        for k in np.flatnonzero(patches.counts >= FEWEST):
            gone = patches.take(np.flatnonzero(patches.labels == k))
            yield Case(name, *without(patches, split, k), {"a class left out": gone})


def without(patches: PatchSet, split: Split, k: int) -> tuple[PatchSet, Split]:
    """The patches of all classes but one, on the same sides."""
    kept = np.flatnonzero(patches.labels != k)
    rest = patches.subset(kept)
    classes = tuple(name for i, name in enumerate(patches.classes) if i != k)
    rest = replace(rest, labels=rest.labels - (rest.labels > k), classes=classes)
    sides, groups = split.sides[kept], split.groups[kept]
    return rest, replace(split, sides=sides, groups=groups, fingerprint=rest.fingerprint)


def like(other: PatchSet, images: np.ndarray, seed: int) -> np.ndarray:
    """Some patches of another world, with the mean and deviation of each band of these images."""
    some = np.random.default_rng(seed).permutation(len(other))[:SOME]
    last = len(other.bands) - 1
    bands = [min(band, last) for band in range(images.shape[1])]
    found = other.take(some)[:, bands].astype(np.float32)
    (mean, std), (wanted, spread) = moments(found), moments(images)
    return (found - mean) / std * spread + wanted


def changed(images: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The same patches as no training has seen them."""
    rng = np.random.default_rng(seed)
    mean, std = moments(images)
    n, bands, height, width = images.shape
    veil = gaussian_filter(rng.normal(size=(n, 1, height, width)), (0, 0, 4, 4))
    veil = np.clip(0.7 + 0.15 * veil / veil.std(), 0, 1)
    levels = mean + std * rng.normal(size=(n, bands, 1, 1))
    found = {
        "clouds": (1 - veil) * images + veil * (mean + 5 * std),
        "white noise": mean + std * rng.normal(size=images.shape),
        "constant": np.broadcast_to(levels, images.shape),
        "inverted": 2 * mean - images,
        "half as bright": 0.5 * images,
        "1.5 times as bright": 1.5 * images,
    }
    return {name: made.astype(np.float32) for name, made in found.items()}


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axes = (0, 2, 3)
    return np.nanmean(images, axes, keepdims=True), np.nanstd(images, axes, keepdims=True)


def measure(case: Case, run: Run, found: Found) -> None:
    see = run.classifier.probabilities_and_features
    training = see(case.patches.take(case.split.train))[1]
    certain, known = see(case.patches.take(case.split.validation))
    area, scales = run.applicability, scalings(training, run.classifier.module.linear.weight)
    ways: dict[str, Measure] = {
        "softmax": lambda said, _: 1 - said.max(axis=1),
        **{name: nearest(scale, training) for name, scale in scales.items()},
        "used": lambda _, features: area.dissimilarity(features),
    }
    held = {name: way(certain, known) for name, way in ways.items()}
    wrong = certain.argmax(axis=1) != run.predictions.truth
    for name in ways:
        row = found.areas[case.name, "its own mistakes"]
        row[name].append(auroc(held[name][~wrong], held[name][wrong]))
    for kind, images in case.foreign.items():
        said, features = see(images)
        row = found.areas[case.name, kind]
        for name, way in ways.items():
            row[name].append(auroc(held[name], way(said, features)))
        outside = area.dissimilarity(features) > area.threshold
        row["outside"].append(outside.mean())
    if case.new is not None:
        said, features = see(case.new.take(np.arange(len(case.new))))
        outside = area.dissimilarity(features) > area.threshold
        right = said.argmax(axis=1) == case.new.labels
        found.new.append(
            (outside.mean(), right[~outside].mean(), right[outside].mean(), outside.sum())
        )
    print(case.name, ", ".join(case.foreign), run.scores.overall, flush=True)


def scalings(
    training: np.ndarray, weight: torch.Tensor
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What features are multiplied with before distances are taken between them."""
    norms = np.linalg.norm(weight.detach().cpu().numpy(), axis=0)
    std = training.std(axis=0)
    std = np.maximum(std, 0.01 * std.max())
    return {
        "plain": lambda x: x,
        "standardised": lambda x: x / std,
        "by weights": lambda x: x * norms,
        "both": lambda x: x / std * norms,
        "cosine": lambda x: x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12),
    }


def nearest(scale: Callable[[np.ndarray], np.ndarray], training: np.ndarray) -> Measure:
    """The distance to the nearest of all training patches."""
    references = scale(training)

    def distance(_: np.ndarray, features: np.ndarray) -> np.ndarray:
        parts = np.array_split(scale(features), max(1, len(features) // 500))
        return np.concatenate([cdist(part, references).min(axis=1) for part in parts])

    return distance


def auroc(known: np.ndarray, foreign: np.ndarray) -> float:
    """The chance that a planted patch has a higher value than a known one."""
    truth = np.repeat([0, 1], [len(known), len(foreign)])
    return roc_auc_score(truth, np.concatenate([known, foreign]))


def show(found: Found, chosen: argparse.Namespace) -> None:
    print(f"\nResNet-14, {chosen.epochs} epochs, seeds {chosen.seeds}, {describe()}\n")
    ways = list(next(iter(found.areas.values())))
    names = [*(way for way in ways if way != "outside"), "outside"]
    print(f"| world | planted patches | networks | {' | '.join(names)} |")
    print(f"| {' | '.join(['---'] * (len(names) + 3))} |")
    for (world, kind), row in sorted(found.areas.items()):
        cells = [f"{np.mean(row[name]):.2f}" if row[name] else "" for name in names]
        print(f"| {world} | {kind} | {len(row['used'])} | {' | '.join(cells)} |")
    foreign = [row for (_, kind), row in found.areas.items() if kind != "its own mistakes"]
    cells = [f"{np.mean([np.mean(row[name]) for row in foreign]):.2f}" for name in names]
    print(f"| both | all planted | | {' | '.join(cells)} |")
    print()
    for share, inside, beyond, number in found.new:
        print(
            f"new coast: {share:.1%} ({number}) outside; "
            f"right inside {inside:.1%}, outside {beyond:.1%}"
        )


if __name__ == "__main__":
    main()
