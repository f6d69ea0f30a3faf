"""Patches or crops: how to train a network whose map is dense, at the same number of multiply-adds.

A dense training goes over crops of the labelled scenes, gives every pixel its logits, and takes the
loss where there is a label.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.stats import t as student
from sklearn.metrics import balanced_accuracy_score
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.crops import NO_LABEL, every_pixel, labelled_ground, phases
from benchmarks.machine import describe, keep_memory
from outcrop.mapping.predictor import Predictor
from outcrop.mapping.prepare import method_for
from outcrop.models.architectures import ResidualNet
from outcrop.models.cost import cost_of
from outcrop.models.factory import build
from outcrop.patches.cut import cut
from outcrop.patches.patchset import PatchSet
from outcrop.sources.opening import open_scene
from outcrop.splits import Split
from outcrop.synthetic.coast import CLASSES, Coast, make_coast
from outcrop.training.classifier import Classifier
from outcrop.training.engine import train
from outcrop.training.normalise import learn_normalisation
from outcrop.training.recipe import Augmentation, Machine, Recipe, suited

TRAINING, JUDGING = slice(0, 5), slice(6, 8)  # images; the sixth lies between
SIDE, BANDS = 400, 4
STRIDE, STEP = 3, 4  # of the patches, and of the pixels judged by
GAIN = 0.2
EPOCHS = 25
COLUMNS = (
    "way",
    "patches or crops",
    "multiply-adds, 10¹²",
    "CPU seconds",
    "overall",
    "balanced",
    "against the first",
    "crops against patches",
)


@dataclass(frozen=True)
class Way:
    """One way of training.

    Attributes:
        name: in the table.
        network: what is trained.
        size: of the patches that it is trained and used on, in pixels.
        crop: rows and columns of pixels that a crop gives logits to; 0: patch by patch.
        rate: the highest learning rate.
        batch: patches or crops in a step.
    """

    name: str
    network: ResidualNet
    size: int
    crop: int = 0
    rate: float = 0.05
    batch: int = 32

    @property
    def patch_by_patch(self) -> Way | None:
        """What a way of crops is held against: the same network on patches."""
        same = (way for way in WAYS if (way.network, way.size) == (self.network, self.size))
        return next(way for way in same if not way.crop) if self.crop else None

    @property
    def cost(self) -> int:
        """Multiply-adds forward of one patch or crop."""
        if not self.crop:
            return cost_of(self.network, BANDS, (self.size,) * 2, len(CLASSES)).multiply_adds
        side = self.crop + self.size - 1
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            every_pixel(build(self.network, BANDS, len(CLASSES)), torch.empty(1, BANDS, side, side))
        return counter.get_total_flops() // 2


def unpadded(depth: int, bottleneck: bool = False) -> ResidualNet:
    return ResidualNet(depth, bottleneck=bottleneck, padding="none")


WAYS = (
    Way("ResNet-14, patches of 16", ResidualNet(14), 16),
    Way("ResNet-14, patches of 32", ResidualNet(14), 32),
    Way("unpadded ResNet-8, patches of 25", unpadded(8), 25),
    Way("unpadded ResNet-8, patches of 32", unpadded(8), 32),
    Way("unpadded ResNet-8, crops of 8", unpadded(8), 25, crop=8, batch=6),
    Way("unpadded ResNet-8, crops of 32", unpadded(8), 25, crop=32, batch=4),
    Way("unpadded bottleneck ResNet-20, patches of 25", unpadded(20, True), 25),
    Way("unpadded bottleneck ResNet-20, crops of 8", unpadded(20, True), 25, crop=8, batch=6),
    Way("unpadded ResNet-14, patches of 53", unpadded(14), 53),
    Way("unpadded ResNet-14, crops of 8", unpadded(14), 53, crop=8, batch=6),
    Way("unpadded bottleneck ResNet-11, patches of 16", unpadded(11, True), 16),
)
REFERENCE = WAYS[0]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--coasts", default="11,12,13", help="by seed")
    options.add_argument(
        "--ways", default="", help="only those whose name this regular expression is found in"
    )
    options.add_argument(
        "--cost", type=float, default=0.3, help=f"1 is {EPOCHS} epochs of the first"
    )
    options.add_argument("--rate", type=float, help="learning rate of all")
    options.add_argument("--crop", type=int, help="side of all crops")
    options.add_argument("--batch", type=int, help="crops in a step")
    chosen = options.parse_args()
    ways = [way for way in WAYS if re.search(chosen.ways, way.name)]
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for seed in map(int, chosen.coasts.split(",")):
        with TemporaryDirectory() as folder:
            coast = make_coast(Path(folder) / "coast", JUDGING.stop, SIDE, seed)
            for way in ways:
                way = replace(way, rate=chosen.rate or way.rate)
                if way.crop:
                    way = replace(
                        way, crop=chosen.crop or way.crop, batch=chosen.batch or way.batch
                    )
                row = measure(coast, way, chosen.cost, seed, Path(folder) / "run")
                found[way.name].append(row)
                print(f"coast {seed}: {way.name}:", *(f"{one:.4g}" for one in row), flush=True)
    print_table(found)


def measure(coast: Coast, way: Way, cost: float, seed: int, folder: Path) -> tuple[float, ...]:
    """Patches or crops seen, multiply-adds (10¹², forward), seconds, and accuracies in %."""
    patches = cut(coast.scenes[TRAINING], coast.labels, "class", way.size, stride=STRIDE)
    budget = cost * EPOCHS * len(patches) * REFERENCE.cost
    started = time.process_time()
    if way.crop:
        steps = max(1, round(budget / way.cost / way.batch))
        classifier = train_on_crops(coast, patches, way, steps, seed)
        pictures = steps * way.batch
    else:
        epochs = max(1, round(budget / way.cost / len(patches)))
        with TemporaryDirectory(prefix=str(folder)) as runs:
            classifier = train_on_patches(patches, way, epochs, seed, Path(runs) / "run")
        pictures = epochs * len(patches)
    seconds = time.process_time() - started
    return pictures, pictures * way.cost / 1e12, seconds, *judge(classifier, coast)


def recipe_for(way: Way, epochs: int, seed: int) -> Recipe:
    return Recipe(
        epochs=epochs,
        batch=way.batch,
        learning_rate=way.rate,
        warm_up=epochs / EPOCHS,
        augmentation=Augmentation(gain=GAIN),
        seed=seed,
        machine=Machine(precision="32-true"),  # the same on every machine
    )


def train_on_patches(
    patches: PatchSet, way: Way, epochs: int, seed: int, folder: Path
) -> Classifier:
    everything = Split(
        np.zeros(len(patches), np.int8), np.arange(len(patches)), patches.fingerprint
    )
    recipe = recipe_for(way, epochs, seed)
    keep_memory()
    return train(patches, everything, folder, way.network, recipe, graph=False).classifier


def train_on_crops(coast: Coast, patches: PatchSet, way: Way, steps: int, seed: int) -> Classifier:
    """The optimiser, schedule, flips, turns and gains of `train`, on crops of the scenes."""
    ground = labelled_ground(coast.scenes[TRAINING], coast.labels, way.crop, way.size)
    normalisation = learn_normalisation(patches, np.arange(len(patches)))
    recipe, rng = suited(recipe_for(way, EPOCHS, seed), way.network), np.random.default_rng(seed)
    torch.manual_seed(seed)
    module = build(way.network, BANDS, len(ground.classes)).train()
    optimiser = torch.optim.SGD(
        module.parameters(), momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate_at((step + 0.5) / steps * EPOCHS)
        images, labels = ground.draw(way.batch, GAIN, rng)
        images = normalisation(images).to(memory_format=torch.channels_last)
        optimiser.zero_grad()
        logits = every_pixel(module, images)
        F.cross_entropy(logits, phases(labels, way.network), ignore_index=NO_LABEL).backward()
        optimiser.step()
    return Classifier(
        way.network, module.eval(), normalisation,
        classes=ground.classes, bands=patches.bands, size=patches.size,
    )  # fmt: skip


def judge(classifier: Classifier, coast: Coast) -> tuple[float, float]:
    """Overall and balanced accuracy on every fourth row and column of the images held out."""
    predictor = Predictor((classifier,), method_for((classifier,), "auto"))
    names = np.array([CLASSES.index(name) for name in classifier.classes])
    truth, said = [], []
    for image, known in zip(coast.scenes[JUDGING], coast.truths[JUDGING], strict=True):
        with open_scene(known).reader() as reader:
            true = np.nan_to_num(reader.read(0, 0, SIDE, SIDE)[0]).astype(int)
        every = np.zeros_like(true, bool)
        every[::STEP, ::STEP] = True
        with open_scene(image).reader() as reader:
            rows = predictor.above + SIDE + predictor.below
            columns = predictor.left + SIDE + predictor.right
            pixels = reader.read(-predictor.above, -predictor.left, rows, columns)
        wanted = every & (true > 0)
        likely = predictor.predict(pixels, wanted, features=False).probabilities
        truth.append(true[wanted] - 1)
        said.append(names[likely[:, wanted].argmax(axis=0)])
    truth, said = np.concatenate(truth), np.concatenate(said)
    return 100 * np.mean(truth == said), 100 * balanced_accuracy_score(truth, said)


def print_table(found: dict[str, list[tuple[float, ...]]]) -> None:
    print(f"\n{describe()}; accuracies in %, mean and range over the coasts\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for way in WAYS:
        if way.name not in found:
            continue
        pictures, spent, seconds, overall, balanced = np.array(found[way.name]).T
        against = [
            difference(balanced - np.array(found[rival.name])[:, -1])
            if rival is not None and rival != way and rival.name in found
            else ""
            for rival in (REFERENCE, way.patch_by_patch)
        ]
        cells = (
            f"{pictures.mean():,.0f}",
            f"{spent.mean():.2f}",
            f"{np.median(seconds):.0f}",
            spread(overall),
            spread(balanced),
            *against,
        )
        print(f"| {way.name} | {' | '.join(cells)} |")


def spread(values: np.ndarray) -> str:
    return f"{values.mean():.1f} ({values.min():.1f} to {values.max():.1f})"


def difference(values: np.ndarray) -> str:
    """Mean of paired differences and its 95 % interval by Student's t."""
    if len(values) < 2:
        return f"{values.mean():+.1f}"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+.1f} [{values.mean() - half:+.1f}, {values.mean() + half:+.1f}]"


if __name__ == "__main__":
    main()
