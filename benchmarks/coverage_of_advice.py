"""Is what `audit` and `split` advise right? Worlds whose map is known everywhere.

    python -m benchmarks.coverage_of_advice [--short] [--worlds 20]

Each world is a map of three classes from two smooth fields, patches that are spread evenly or in
clusters, and a model that either interpolates between patches (the class of the nearest one) or
sees features (the nearest one among two noisy features). For each way of splitting it prints the
mean points by which the score of one fold is too high for the map of that fold's model and for
the map of a model from all patches, what the audit says they are, and in what share of the splits
its words are right: "about as hard" where the mean lies within 5 points, "harder" or "easier"
beyond; either where the 95 % interval of the mean holds the border.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import KDTree

from outcrop.auditing.falloff import LARGE, Bias, falloff, forest
from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source, scene_positions
from outcrop.splits import BlockSplit, MatchingSplit, RandomSplit, Split
from outcrop.splits.geometry import coordinates, nearest, prediction_points

SIDE, SIGMA, RANGE = 128, 4.0, 14.0
_UTM = "EPSG:32648"


@dataclass(frozen=True)
class World:
    """Patches, what the model sees of them and of every pixel, and the classes of all pixels."""

    patches: PatchSet
    seen: np.ndarray
    every: np.ndarray
    classes: np.ndarray


def field(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """A Gaussian field of variance 1, 95 % of whose sill is at 3.46 sigma."""
    wide = gaussian_filter(rng.normal(size=(2 * SIDE, 2 * SIDE)), sigma, mode="wrap")
    return np.asarray(wide[:SIDE, :SIDE] / wide.std())


def make_world(seed: int, clustered: bool, features: bool) -> World:
    """One world of about 300 patches of one pixel."""
    rng = np.random.default_rng(seed)
    one, other = field(rng, SIGMA), field(rng, SIGMA)
    classes = np.where(one < -0.4, 0, np.where(other < 0.2, 1, 2))
    at = rng.integers(0, SIDE, (300, 2))
    if clustered:
        middle = rng.integers(8, SIDE - 8, (20, 2))[rng.integers(0, 20, 300)]
        at = np.clip((middle + rng.normal(0, 4, (300, 2))).astype(int), 0, SIDE - 1)
    row, column = np.unique(at, axis=0).T
    grid = np.mgrid[:SIDE, :SIDE].astype(float)
    every = np.stack(list(grid), axis=-1)
    if features:
        noise = [field(rng, 3 * SIGMA) for _ in range(2)]
        every = np.stack([one + noise[0] / 2, other + noise[1] / 2], axis=-1)
        every += 0.2 * rng.normal(size=every.shape)
    n = len(row)
    patches = PatchSet(
        images=np.zeros((n, 1, 1, 1), np.float32),
        labels=classes[row, column],
        classes=("a", "b", "c"),
        bands=("none",),
        positions=scene_positions(
            0, row, column, column + 0.5, -(row + 0.5), np.ones(n), np.ones(n), np.arange(n)
        ),
        sources=(Source("world", (SIDE, SIDE), _UTM, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)),),
        crs=_UTM,
    )
    return World(patches, every[row, column], every.reshape(-1, every.shape[-1]), classes.ravel())


def too_high(world: World, split: Split) -> tuple[float, float]:
    """Points by which a score is too high for the fold's own map, and for that from all patches."""
    labels, train, judged = world.patches.labels, split.train, split.validation
    tree = KDTree(world.seen[train])
    score = (labels[train][tree.query(world.seen[judged])[1]] == labels[judged]).mean()
    own = (labels[train][tree.query(world.every)[1]] == world.classes).mean()
    final = (labels[KDTree(world.seen).query(world.every)[1]] == world.classes).mean()
    return 100 * float(score - own), 100 * float(score - final)


def said(world: World, split: Split, seed: int) -> tuple[Bias, Bias]:
    """What the audit's stand-in model, a forest on what the model sees, makes of both."""
    at = coordinates(world.patches.positions)  # type: ignore[arg-type]
    places = prediction_points(world.patches, 1000).at
    model = forest(world.seen, world.patches.labels, seed)
    (found,) = falloff(at, world.patches.labels, model, [at], seed=seed)
    judged = nearest(at[split.validation], at[split.train])
    own, final = (found.bias(judged, nearest(places, at[i])) for i in (split.train, slice(None)))
    return own, final


def right(verdict: str, truth: np.ndarray) -> bool:
    """Whether a verdict fits the mean of the points, give or take its 95 % interval."""
    mean, half = truth.mean(), 1.96 * truth.std(ddof=1) / np.sqrt(len(truth))
    low, high = mean - half, mean + half
    fits = {
        "harder": high > LARGE,
        "easier": low < -LARGE,
        "as hard": low < LARGE and high > -LARGE,
    }
    return fits.get(verdict, False)


def hardness(worlds: int) -> dict[str, tuple[int, int]]:
    """Print the table; return how many verdicts are right, of how many, by kind of map."""
    total = {"own": (0, 0), "final": (0, 0)}
    for clustered in (False, True):
        for features in (False, True):
            found = defaultdict(list)
            for seed in range(worlds):
                world = make_world(seed, clustered, features)
                for name, splitter in {
                    "random": RandomSplit(random_state=seed),
                    "blocks": BlockSplit(block=RANGE, random_state=seed),
                    "blocks, buffer": BlockSplit(block=RANGE, buffer=RANGE - 1, random_state=seed),
                    "matching": MatchingSplit(random_state=seed),
                }.items():
                    try:
                        split = splitter.assign(world.patches)
                    except OutcropError:  # the buffer leaves nothing
                        continue
                    found[name].append((too_high(world, split), said(world, split, seed)))
            kind = f"{'clustered' if clustered else 'even'}, {'features' if features else 'places'}"
            for name, each in found.items():
                for which, word in enumerate(("own", "final")):
                    truth = np.array([one[0][which] for one in each])
                    biases = [one[1][which] for one in each]
                    verdicts = Counter(bias.verdict for bias in biases)
                    good = sum(n for verdict, n in verdicts.items() if right(verdict, truth))
                    total[word] = total[word][0] + good, total[word][1] + len(each)
                    print(
                        f"{kind:22}{name:16}{word:6} true {truth.mean():+6.1f}  said "
                        f"{np.mean([one.value for one in biases]):+6.1f}  right "
                        f"{good}/{len(each)}  {dict(verdicts)}",
                        flush=True,
                    )
    for word, (good, every) in total.items():
        print(f"map of the {word} model: right in {good} of {every}, {good / every:.0%}")
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--short", action="store_true", help="three worlds of each kind")
    arguments = parser.parse_args()
    hardness(3 if arguments.short else arguments.worlds)
