"""Detection of out-of-distribution patches by a VAE-GAN, compared with a classifier."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf

from benchmarks.area_of_applicability import BANDS, auroc, changed, like, without
from benchmarks.machine import describe, keep_memory
from benchmarks.rare_classes import interval, spread
from outcrop.generative.run import VaeGanModel
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.generative.training import train_vaegan
from outcrop.models.architectures import ResidualNet
from outcrop.models.features import statistics
from outcrop.patches.cut import cut
from outcrop.patches.patchset import PatchSet
from outcrop.splits import Split, block_split
from outcrop.synthetic.coast import make_coast
from outcrop.training.engine import train
from outcrop.training.recipe import Recipe
from outcrop.training.run import Run

SIZE = 32
LEFT_OUT, MISTAKES = "a class left out", "the classifier's own mistakes"
TRUST = "area of applicability"

Measure = Callable[[np.ndarray], np.ndarray]
Areas = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Case:
    """Patches for training, and out-of-distribution patches."""

    name: str
    patches: PatchSet
    split: Split
    foreign: dict[str, np.ndarray]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--landsat", type=Path, default=Path("../shared/data/nc_landsat"))
    options.add_argument(
        "--seeds", default="1,2,3", help="random seeds of coasts, splits and trainings"
    )
    options.add_argument(
        "--per-class", type=int, default=300, help="maximum number of patches per class"
    )
    options.add_argument("--left-out", type=int, default=2, help="classes left out a seed")
    options.add_argument("--epochs", type=int, default=15, help="of the ResNet")
    options.add_argument("--picture-epochs", type=int, default=20)
    options.add_argument("--picture-batch", type=int, default=16)
    options.add_argument("--average", type=float, default=0.99, help="decay, of the decoder")
    options.add_argument("--filters", type=int, default=16)
    options.add_argument("--latent", type=int, default=32)
    chosen = options.parse_args()
    keep_memory()
    started = time.perf_counter()
    found: Areas = defaultdict(lambda: defaultdict(list))
    for seed in map(int, chosen.seeds.split(",")):
        with TemporaryDirectory() as folder:
            for number, case in enumerate(cases(Path(folder), seed, chosen)):
                measure(case, Path(folder) / f"case-{number}", seed, chosen, found)
    show(found, chosen, time.perf_counter() - started)


def cases(folder: Path, seed: int, chosen: argparse.Namespace) -> Iterator[Case]:
    """A coast whole, and without some of its classes in turn."""
    files = make_coast(folder / "coast", 7, 400, seed)
    patches = cut(
        files.scenes, files.labels, "class", SIZE, stride=3, per_class=chosen.per_class, seed=seed
    )
    split = block_split(patches, None, None, folds=5, seed=seed).assign(patches)
    known = patches.take(split.validation).astype(np.float32)
    bands = [chosen.landsat / f"lsat7_2000_{band}.tif" for band in BANDS]
    other = cut(bands, chosen.landsat / "landsat96_labelled_pixels.tif", size=SIZE)
    foreign = {"another world": like(other, known, seed)} | changed(known, seed)
    yield Case("whole", patches, split, foreign)
    classes = len(patches.classes)
    for k in {(seed * chosen.left_out + i) % classes for i in range(chosen.left_out)}:
        gone = patches.take(np.flatnonzero(patches.labels == k))
        rest, sides = without(patches, split, k)
        yield Case(f"without {patches.classes[k]}", rest, sides, {LEFT_OUT: gone})


def measure(case: Case, folder: Path, seed: int, chosen: argparse.Namespace, found: Areas) -> None:
    folder.mkdir()
    network = VaeGan(filters=chosen.filters, latent=chosen.latent)
    pictures = VaeGanRecipe(
        epochs=chosen.picture_epochs,
        batch=chosen.picture_batch,
        average=chosen.average,
        seed=seed,
    )
    learnt = train_vaegan(case.patches, case.split, folder / "pictures", network, pictures)
    recipe = Recipe(epochs=chosen.epochs, seed=seed)
    run = train(case.patches, case.split, folder / "run", ResidualNet(depth=8), recipe, graph=False)
    ways = measures(case, run, learnt.model)
    held_out = case.patches.take(case.split.validation)
    wrong = run.predictions.probabilities.argmax(axis=1) != run.predictions.truth
    told = []
    for name, way in ways.items():
        known = way(held_out)
        found[MISTAKES][name].append(auroc(known[~wrong], known[wrong]))
        for kind, images in case.foreign.items():
            found[kind][name].append(auroc(known, way(images)))
        told.append(f"{name} {np.mean([found[kind][name][-1] for kind in case.foreign]):.2f}")
    last = learnt.metrics[-1]
    print(
        f"seed {seed}, {case.name}: {', '.join(told)}; errors of held-out reconstructions: pixels "
        f"{last.pixel_error:.2f}, features {last.feature_error:.2f}; "
        f"{'; '.join(last.alarms) or 'no alarm'}",
        flush=True,
    )


def measures(case: Case, run: Run, model: VaeGanModel) -> dict[str, Measure]:
    """The measures of dissimilarity of a patch."""
    training = case.patches.take(case.split.train)
    codes, area = model.encode(training)[0], run.applicability
    see = run.classifier.probabilities_and_features

    def in_pixels(images: np.ndarray) -> np.ndarray:
        return error(model.normalised(images), model.normalised(model.reconstruct(images)))

    def in_features(images: np.ndarray) -> np.ndarray:
        return error(model.features(images), model.features(model.reconstruct(images)))

    of_codes, of_statistics = mahalanobis(codes), mahalanobis(statistics(training))
    return {
        "code, Mahalanobis": lambda images: of_codes(model.encode(images)[0]),
        "code, nearest": lambda images: nearest(model.encode(images)[0], codes),
        "reconstruction, pixels": in_pixels,
        "reconstruction, features": in_features,
        "confidence": lambda images: 1 - see(images)[0].max(axis=1),
        TRUST: lambda images: area.dissimilarity(see(images)[1]),
        "statistics, Mahalanobis": lambda images: of_statistics(statistics(images)),
    }


def mahalanobis(known: np.ndarray) -> Measure:
    """The Mahalanobis distance from the training features, with a shrunk covariance."""
    middle, std = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-6)
    inverse = np.linalg.inv(ledoit_wolf((known - middle) / std)[0])

    def distance(some: np.ndarray) -> np.ndarray:
        away = (some - middle) / std
        return np.sqrt(np.einsum("ni,ij,nj->n", away, inverse, away))

    return distance


def nearest(some: np.ndarray, known: np.ndarray) -> np.ndarray:
    return cdist(some, known).min(axis=1)


def error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The mean squared difference, of each."""
    return np.square(one - other).reshape(len(one), -1).mean(axis=1)


def show(found: Areas, chosen: argparse.Namespace, seconds: float) -> None:
    print(f"\n{describe()}; {seconds / 60:.0f} minutes; {vars(chosen)}\n")
    ways = list(found[LEFT_OUT])
    print(f"| foreign patches | networks | {' | '.join(ways)} |")
    print(f"| --- | --- |{' --- |' * len(ways)}")
    planted = [kind for kind in found if kind not in (LEFT_OUT, MISTAKES)]
    for kind in (*sorted(planted), LEFT_OUT, MISTAKES):
        cells = [f"{np.mean(found[kind][way]):.2f}" for way in ways]
        print(f"| {kind} | {len(found[kind][TRUST])} | {' | '.join(cells)} |")
    # Of each network the mean over the kinds of planted patches.
    together = {way: np.mean([found[kind][way] for kind in planted], axis=0) for way in ways}
    for name, areas in (("all planted", together), (LEFT_OUT, found[LEFT_OUT])):
        hundreds = {way: 100 * np.asarray(areas[way]) for way in ways}
        print(
            f"\n| {name}, hundredths | mean and range | against the {TRUST} |\n| --- | --- | --- |"
        )
        for way, values in hundreds.items():
            beside = "" if way == TRUST else interval(values - hundreds[TRUST])
            print(f"| {way} | {spread(values)} | {beside} |")


if __name__ == "__main__":
    main()
