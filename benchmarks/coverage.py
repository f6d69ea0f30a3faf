"""How often 95 % intervals hold the truth: of scores, leak gaps, and areas of a map.

    .venv/bin/python -m benchmarks.coverage

Minutes on one core; `--short` takes seconds. The worlds are made: classes are thresholds of two
smooth random fields, features are the fields with noise that is smooth too, and the model is the
nearest neighbour in features. So the truth is known: the accuracy on 16 worlds of other seeds
("far"), and the area of every class. Real ground differs more from place to place than such fields.

- Scores: one of five folds of square blocks judges a model, which is then tried far away. The far
  worlds are the same for all repetitions of a setting, so that the truth hardly adds variance of
  its own.
- Leak gap: all folds of blocks, held against folds at random; how often its interval holds its own
  mean over the worlds, and how often it is above zero.
- Area and accuracy of a map: from stratified points, and from labelled squares.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.machine import describe
from outcrop.accuracy.areas import Estimate, by_map_class, by_piece
from outcrop.metrics.gaps import leak_gap
from outcrop.metrics.intervals import Interval
from outcrop.metrics.scores import score

SIDE, BLOCK, FOLDS, CLASSES = 256, 16, 5, 3
FAR_WORLDS, FAR_PIXELS, FAR_SEED = 16, 2000, 1_000_000
NAMES = ("a", "b", "c")


@dataclass(frozen=True)
class World:
    """Classes and features of every pixel.

    Attributes:
        labels: int, `SIDE × SIDE`.
        features: float, `SIDE × SIDE × 3`.
    """

    labels: np.ndarray
    features: np.ndarray


def field(rng: np.random.Generator, scale: float) -> np.ndarray:
    """A stationary Gaussian field of unit variance, `SIDE × SIDE`; scale in pixels."""
    frequency = np.fft.fftfreq(SIDE)
    gain = np.exp(-2 * (np.pi * scale) ** 2 * (frequency[:, None] ** 2 + frequency**2))
    drawn = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIDE, SIDE))) * gain).real
    return np.asarray(drawn / np.sqrt(np.mean(gain**2)))


def make_world(rng: np.random.Generator, smooth: float) -> World:
    """A world whose noise is smooth over so many pixels."""
    one, other = field(rng, 4), field(rng, 4)
    labels = np.where(one < -0.4, 0, np.where(other < 0.2, 1, 2))
    clean = np.stack([one, other, np.zeros_like(one)], axis=-1)
    noise = np.stack([share * field(rng, smooth) for share in (0.5, 0.5, 0.6)], axis=-1)
    return World(labels, clean + noise + 0.2 * rng.normal(size=clean.shape))


@dataclass(frozen=True)
class Labelled:
    """Labelled pixels of a world: features, classes, and the block of each."""

    features: np.ndarray
    labels: np.ndarray
    block: np.ndarray

    def says(self, train: np.ndarray, features: np.ndarray) -> np.ndarray:
        """The class of the nearest labelled pixel of those that are trained on."""
        nearest = cKDTree(self.features[train]).query(features)[1]
        return np.asarray(self.labels[train][nearest])


def label(world: World, rng: np.random.Generator, blocks: int, even: bool) -> Labelled:
    """Some pixels of so many blocks: 20 of each, or by a lognormal number."""
    chosen = rng.choice((SIDE // BLOCK) ** 2, blocks, replace=False)
    count = (
        np.full(blocks, 20)
        if even
        else np.clip(np.ceil(np.exp(rng.normal(2.5, 0.9, blocks))), 1, 120).astype(int)
    )
    block = np.repeat(chosen, count)
    row, column = (
        BLOCK * corner + rng.integers(0, BLOCK, len(block))
        for corner in np.divmod(block, SIDE // BLOCK)
    )
    return Labelled(world.features[row, column], world.labels[row, column], block)


@cache
def far_pixels(smooth: float) -> tuple[np.ndarray, np.ndarray]:
    """Features and classes of pixels of other worlds."""
    rng = np.random.default_rng([FAR_SEED, int(smooth)])
    features, labels = [], []
    for _ in range(FAR_WORLDS):
        world = make_world(rng, smooth)
        at = tuple(rng.integers(0, SIDE, (2, FAR_PIXELS)))
        features.append(world.features[at])
        labels.append(world.labels[at])
    return np.concatenate(features), np.concatenate(labels)


def scores_of(rng: np.random.Generator, blocks: int, smooth: float, even: bool) -> Iterator[Held]:
    """Accuracies on one fold of `blocks` blocks, and far away."""
    places = label(make_world(rng, smooth), rng, FOLDS * blocks, even)
    fold = np.unique(places.block, return_inverse=True)[1] % FOLDS
    held, train = fold == 0, fold > 0
    features, labels = far_pixels(smooth)
    right = places.says(train, features) == labels
    found = score(
        places.labels[held], places.says(train, places.features[held]), NAMES, places.block[held],
        draws=500,
    )  # fmt: skip
    yield "overall accuracy", found.overall, right.mean()
    there = [right[labels == k].mean() for k in range(CLASSES)]
    yield "balanced accuracy", found.balanced, float(np.mean(there))
    yield "recall of a class", found.recall[2], there[2]


def gaps_of(rng: np.random.Generator, blocks: int, smooth: float) -> Iterator[Held]:
    """The leak gap over all folds of `blocks` blocks."""
    places = label(make_world(rng, smooth), rng, blocks, even=False)
    by_block = np.unique(places.block, return_inverse=True)[1] % FOLDS
    right = []
    for fold in (rng.permutation(len(places.labels)) % FOLDS, by_block):
        said = np.empty(len(fold), int)
        for k in range(FOLDS):
            said[fold == k] = places.says(fold != k, places.features[fold == k])
        right.append(said == places.labels)
    yield "leak gap", leak_gap(*right, places.block, draws=500), np.nan


def maps_of(rng: np.random.Generator, wrong: float) -> Iterator[Held]:
    """Area of a class and accuracy of a map, from points and from labelled squares.

    Args:
        wrong: about the share of the map that is.
    """
    truth = make_world(rng, 4).labels
    mapped = np.where(field(rng, 6) < _threshold(wrong), (truth + 1) % CLASSES, truth)
    pixels = np.bincount(mapped.ravel(), minlength=CLASSES)
    area, overall = (truth == 2).mean(), (truth == mapped).mean()
    counts = np.zeros((CLASSES, CLASSES), int)
    for k in range(CLASSES):
        drawn = rng.choice(np.flatnonzero(mapped == k), 100, replace=False)
        counts[k] = np.bincount(truth.ravel()[drawn], minlength=CLASSES)
    points = by_map_class(counts, pixels)
    yield "area, points", points.area[2], area
    yield "accuracy, points", points.overall, overall
    table = []
    for row, column in rng.integers(0, SIDE - 12, (30, 2)):
        window = slice(row, row + 12), slice(column, column + 12)
        cells = mapped[window] * CLASSES + truth[window]
        table.append(np.bincount(cells.ravel(), minlength=CLASSES**2))
    from scipy import sparse

    squares = by_piece(sparse.csr_array(np.array(table)), pixels, draws=500)
    yield "area, 30 squares", squares.area[2], area
    yield "accuracy, 30 squares", squares.overall, overall


Held = tuple[str, Interval | Estimate, float]
"""What an interval is of, the interval, and the truth; NaN for the mean over the worlds."""


def _threshold(share: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(share))


@dataclass(frozen=True)
class Row:
    """How the intervals of one figure fare in worlds of one kind.

    Attributes:
        what, words: the figure and the worlds.
        bias: the mean of the figure minus the truth.
        holds: the share of intervals that hold the truth.
        above: the share that lie above zero.
        unknown: the share of worlds without an interval.
    """

    what: str
    words: str
    bias: float
    holds: float
    above: float
    unknown: float

    def __str__(self) -> str:
        if self.what == "leak gap":
            return f"{100 * self.holds:.0f}; above zero in {100 * self.above:.0f}"
        unknown = f", unknown in {self.unknown:.0%}" if self.unknown else ""
        return f"{100 * self.holds:.0f} ({100 * self.bias:+.1f}{unknown})"


def rows(worlds: int, seed: int = 0) -> list[Row]:
    """All settings, one after the other."""
    settings = [
        (f"{blocks} {'even' if even else 'uneven'} blocks, noise over {smooth} pixels",
         partial(scores_of, blocks=blocks, smooth=smooth, even=even))
        for even in (False, True) for smooth in (4, 12) for blocks in (5, 10, 20, 40)
    ]  # fmt: skip
    settings += [
        (f"{blocks} uneven blocks in five folds, noise over {smooth} pixels",
         partial(gaps_of, blocks=blocks, smooth=smooth))
        for smooth in (4, 12) for blocks in (25, 64)
    ]  # fmt: skip
    settings += [
        (f"about {100 * wrong:g} % of the map wrong", partial(maps_of, wrong=wrong))
        for wrong in (0.2, 0.02, 0.002)
    ]
    made = []
    for number, (words, one) in enumerate(settings):
        found: dict[str, list[tuple[float, float, float, float]]] = {}
        for world in range(worlds):
            rng = np.random.default_rng([seed, number, world])
            for what, interval, truth in one(rng):
                ends = interval.value, interval.low, interval.high, truth
                found.setdefault(what, []).append(ends)
        for what, each in found.items():
            value, low, high, truth = np.array(each).T
            truth = np.where(np.isnan(truth), np.nanmean(value), truth)
            told = ~np.isnan(low)
            holds = (low <= truth) & (truth <= high)
            bias, above = float(np.nanmean(value - truth)), float((low[told] > 0).mean())
            made.append(
                Row(what, words, bias, float(holds[told].mean()), above, float(1 - told.mean()))
            )
    return made


def table(found: Sequence[Row]) -> str:
    """Markdown: a table for each kind of world."""
    lines: list[str] = []
    columns: list[str] = []
    for words in dict.fromkeys(row.words for row in found):
        here = [row for row in found if row.words == words]
        if columns != [row.what for row in here]:
            columns = [row.what for row in here]
            lines += ["", f"| holds the truth, % (mean minus truth) | {' | '.join(columns)} |"]
            lines += ["| --- " * (len(columns) + 1) + "|"]
        lines.append(f"| {words} | {' | '.join(map(str, here))} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=300, help="of each setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="three worlds of each setting")
    options = parser.parse_args()
    print(table(rows(3 if options.short else options.worlds, options.seed)))
    print(f"\n{describe()}")


if __name__ == "__main__":
    main()
