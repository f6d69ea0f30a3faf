"""Scores of rare classes with samples of a VAE-GAN, compared with repeated patches."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import t as student

from benchmarks.machine import describe
from outcrop.generative.codes import class_samples
from outcrop.generative.run import VaeGanModel
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.generative.training import train_vaegan
from outcrop.metrics.scores import score
from outcrop.models.architectures import ResidualNet
from outcrop.patches.cut import cut
from outcrop.patches.patchset import PatchSet
from outcrop.splits import Split, block_split
from outcrop.synthetic.coast import make_coast
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Recipe

SIZE = 32
MEASURES = ("F1 of the rare", "recall of the rare", "precision of the rare", "balanced accuracy")
NOTHING, REPEATED, GENERATED, BOTH = "nothing added", "repeats", "generated", "half of each"
WAYS = (NOTHING, REPEATED, GENERATED, BOTH)
NONE_RARE = "no class made rare"


@dataclass(frozen=True)
class Ground:
    """Patches without positions, and their split."""

    patches: PatchSet
    split: Split

    def only(self, kept: np.ndarray) -> Ground:
        """Some of the patches, on the same sides."""
        return made(
            self.patches.take(kept),
            self.patches.labels[kept],
            self.split.sides[kept],
            self.split.groups[kept],
            self.patches,
        )

    def more(self, images: np.ndarray, labels: np.ndarray) -> Ground:
        """The set with further training patches, each a spatial group of its own."""
        split, new = self.split, len(labels)
        groups = split.groups.max() + 1 + np.arange(new)
        return made(
            np.concatenate([self.patches.images, images]),
            np.concatenate([self.patches.labels, labels]),
            np.concatenate([split.sides, np.zeros(new, split.sides.dtype)]),
            np.concatenate([split.groups, groups]),
            self.patches,
        )


def made(
    images: np.ndarray, labels: np.ndarray, sides: np.ndarray, groups: np.ndarray, like: PatchSet
) -> Ground:
    patches = PatchSet(images, labels, like.classes, like.bands)
    return Ground(patches, Split(sides, groups, patches.fingerprint))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--seeds", default="1,2,3,4,5", help="random seeds of coasts, splits and trainings"
    )
    options.add_argument(
        "--per-class", type=int, default=300, help="maximum number of patches per class"
    )
    options.add_argument(
        "--keep", type=float, default=0.08, help="share of the rare classes' patches"
    )
    options.add_argument("--whole", action="store_true", help="keep whole spatial groups")
    options.add_argument("--epochs", type=int, default=15, help="of the ResNet, on what is added")
    options.add_argument("--picture-epochs", type=int, default=20)
    options.add_argument("--picture-batch", type=int, default=16)
    options.add_argument("--average", type=float, default=0.99, help="decay, of the decoder")
    options.add_argument("--filters", type=int, default=16)
    options.add_argument("--latent", type=int, default=32)
    chosen = options.parse_args()
    started = time.perf_counter()
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for seed in map(int, chosen.seeds.split(",")):
        with TemporaryDirectory() as folder:
            one_coast(Path(folder), seed, chosen, found)
    show(found, chosen, time.perf_counter() - started)


def one_coast(
    folder: Path, seed: int, chosen: argparse.Namespace, found: dict[str, list[tuple[float, ...]]]
) -> None:
    whole = coast(folder, seed, chosen.per_class)
    classes = len(whole.patches.classes)
    rare = seed % classes, (seed + 2) % classes
    thin = thinned(whole, rare, chosen.keep, chosen.whole, seed)
    network, recipe = recipes(chosen, seed)
    run = train_vaegan(thin.patches, thin.split, folder / "pictures", network, recipe)
    last = run.metrics[-1]
    print(
        f"coast {seed}: rare are {', '.join(whole.patches.classes[k] for k in rare)}, "
        f"{[int(n) for n in counts(thin)[list(rare)]]} of {counts(whole)[list(rare)].tolist()}; "
        f"errors of held-out reconstructions: pixels {last.pixel_error:.2f}, "
        f"features {last.feature_error:.2f}; {'; '.join(last.alarms) or 'no alarm'}",
        flush=True,
    )
    grounds = {way: filled(thin, rare, way, run.model, seed) for way in WAYS}
    # All have the same number of steps: an epoch of more patches has more steps.
    patches = chosen.epochs * len(grounds[REPEATED].split.train)
    for way, ground in {**grounds, NONE_RARE: whole}.items():
        epochs = round(patches / len(ground.split.train))
        row = judged(folder / way.replace(" ", "-"), ground, rare, epochs, seed)
        found[way].append(row)
        told = ", ".join(f"{100 * value:.1f}" for value in row)
        print(f"coast {seed}: {way}: {told} ({epochs} epochs)", flush=True)


def coast(folder: Path, seed: int, per_class: int) -> Ground:
    files = make_coast(folder / "coast", 7, 400, seed)
    patches = cut(
        files.scenes, files.labels, "class", SIZE, stride=3, per_class=per_class, seed=seed
    )
    split = block_split(patches, None, None, folds=5, seed=seed).assign(patches)
    return made(
        patches.take(np.arange(len(patches))), patches.labels, split.sides, split.groups, patches
    )


def counts(ground: Ground) -> np.ndarray:
    """Training patches by class."""
    return ground.split.counts(ground.patches.labels, len(ground.patches.classes))[0]


def thinned(ground: Ground, rare: Sequence[int], keep: float, whole: bool, seed: int) -> Ground:
    """With few training patches of the rare classes: some of all, or all of some ground."""
    rng = np.random.default_rng([seed, 1])
    lost = []
    for k in rare:
        theirs = ground.split.train[ground.patches.labels[ground.split.train] == k]
        order = rng.permutation(theirs)
        if whole:
            pieces = ground.split.groups[order]
            order = order[np.argsort(rng.permutation(pieces.max() + 1)[pieces], kind="stable")]
        lost.append(order[max(2, round(keep * len(theirs))) :])
    return ground.only(np.setdiff1d(np.arange(len(ground.patches)), np.concatenate(lost)))


def recipes(chosen: argparse.Namespace, seed: int) -> tuple[VaeGan, VaeGanRecipe]:
    return (
        VaeGan(filters=chosen.filters, latent=chosen.latent),
        VaeGanRecipe(
            epochs=chosen.picture_epochs,
            batch=chosen.picture_batch,
            average=chosen.average,
            augmentation=Augmentation(crop=0, gain=0.0, rotate=True),
            seed=seed,
        ),
    )


def filled(ground: Ground, rare: Sequence[int], way: str, model: VaeGanModel, seed: int) -> Ground:
    """The rare classes filled up to the number of the median class."""
    median = round(float(np.median(counts(ground))))
    train_side, labels = ground.split.train, ground.patches.labels
    for k in rare if way != NOTHING else ():
        index = train_side[labels[train_side] == k]
        missing = max(0, median - len(index))
        drawn = {REPEATED: 0, GENERATED: missing, BOTH: missing - missing // 2}[way]
        added = [ground.patches.take(np.resize(index, missing - drawn))]
        if drawn:
            added.append(class_samples(model, ground.patches, index, drawn, seed)[0])
        ground = ground.more(np.concatenate(added), np.full(missing, k))
    return ground


def judged(
    folder: Path, ground: Ground, rare: Sequence[int], epochs: int, seed: int
) -> tuple[float, ...]:
    """As `MEASURES`, on held-out ground; of the rare classes the mean."""
    recipe = replace(
        Recipe(epochs=epochs, seed=seed), augmentation=Augmentation(rotate=True, gain=0.2)
    )
    run = train(ground.patches, ground.split, folder, ResidualNet(depth=8), recipe, graph=False)
    said = run.predictions.probabilities.argmax(axis=1)
    found = score(run.predictions.truth, said, ground.patches.classes, draws=2)
    by_class = [
        float(np.mean([np.nan_to_num(getattr(found, name)[k].value) for k in rare]))
        for name in ("f1", "recall", "precision")
    ]
    return (*by_class, found.balanced.value)


def show(found: dict[str, list[tuple[float, ...]]], chosen: argparse.Namespace, seconds: float):
    print(f"\n{describe()}; {seconds / 60:.0f} minutes; {vars(chosen)}\n")
    print(f"| added to the rare classes | {' | '.join(MEASURES)} |")
    print(f"| --- |{' --- |' * len(MEASURES)}")
    for way, rows in found.items():
        print(f"| {way} | {' | '.join(map(spread, 100 * np.array(rows).T))} |")
    print(f"\n| difference, points | {' | '.join(MEASURES)} |\n| --- |{' --- |' * len(MEASURES)}")
    for one, other in (
        (REPEATED, NOTHING), (GENERATED, NOTHING), (GENERATED, REPEATED), (BOTH, REPEATED)
    ):  # fmt: skip
        differences = 100 * (np.array(found[one]) - np.array(found[other])).T
        print(f"| {one} - {other} | {' | '.join(map(interval, differences))} |")


def spread(values: np.ndarray) -> str:
    return f"{values.mean():.1f} ({values.min():.1f} to {values.max():.1f})"


def interval(values: np.ndarray) -> str:
    """The mean with its 95 % interval by Student's t, of coasts as independent."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+.1f} [{values.mean() - half:+.1f}, {values.mean() + half:+.1f}]"


if __name__ == "__main__":
    main()
