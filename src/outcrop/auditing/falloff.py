"""Accuracy of simple models by the distance to the nearest training patch.

Each patch is held out several times, alone or with the area around it. So it is classified near to
training patches and far from them. This gives the accuracy of a simple model at every distance in
the labelled area, and so its accuracy at the distances of validation patches and of a map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from outcrop.metrics.significance import effective_groups
from outcrop.splits.geometry import nearest, nearest_other

LARGE = 5.0  # points
_SIZES, _FOLDS = 6, 3
_BINS, _DRAWS = 40, 200
_TREES, _TRAINED_ON = 20, 2000
_HELD_OUT, _TRAIN = 500, 10_000
_FEWEST = 20
_ACROSS = 5

Model = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Trains on patches with the first indices, and predicts the classes of those with the second."""

Verdict = Literal["harder", "easier", "as hard", "unknown"]


@dataclass(frozen=True)
class Bias:
    """Accuracy of a simple model at validation distances minus that at the map's distances.

    Attributes:
        value, low, high: difference in percentage points, with a 95 % interval.
        beyond: share of the map that is further from training patches than any held-out patch.
            There the accuracy at the largest known distance is used.
        worst: `value` if the model were always wrong there.
    """

    value: float
    low: float
    high: float
    beyond: float = 0.0
    worst: float = -math.inf

    @property
    def verdict(self) -> Verdict:
        """Difficulty of the map compared with validation; up to five points count as equal."""
        if self.low < -LARGE and self.high > LARGE:
            return "unknown"
        if self.value > LARGE:
            return "harder"
        least = max(self.value, self.worst)
        if self.value < -LARGE:
            return "easier" if least < -LARGE else "unknown"
        return "as hard" if least <= LARGE else "unknown"

    def to_json(self) -> dict[str, float | None]:
        """Plain rounded numbers; None if infinite."""
        plain = {name: round(float(value), 3) for name, value in asdict(self).items()}
        return {name: value if math.isfinite(value) else None for name, value in plain.items()}


@dataclass(frozen=True)
class Falloff:
    """Held-out patches: whether the prediction was correct, and the distance to training patches.

    Attributes:
        distance: float64, `M`, distance to the nearest training patch.
        correct: bool, `M`.
        group: int64, `M`, spatial group of each; groups are resampled for intervals.
    """

    distance: np.ndarray
    correct: np.ndarray
    group: np.ndarray

    def bias(self, validation: np.ndarray, wanted: np.ndarray) -> Bias:
        """The accuracy at the distances of validation patches minus that at those of the map.

        The accuracy at distance d is c + s exp(-d / L) with s ≥ 0, fitted by least squares to the
        accuracies in 40 bins with equal numbers of patches. The interval uses Student's t, with
        the standard error of 200 bootstrap draws of spatial groups and degrees of freedom from the
        effective number of groups (Kish 1965, Survey Sampling, section 8.2).

        Args:
            validation, wanted: float64, distances of validation patches and of the map to the
                nearest training patch.
        """
        from scipy.stats import t

        edges = np.unique(np.quantile(self.distance, np.linspace(0, 1, _BINS + 1)[1:-1]))
        place = np.searchsorted(edges, self.distance)
        bins, groups = len(edges) + 1, int(self.group.max()) + 1
        cell = self.group * bins + place
        total = np.bincount(cell, minlength=groups * bins).reshape(groups, bins)
        correct = np.bincount(cell, self.correct, groups * bins).reshape(groups, bins)
        middle = np.bincount(place, self.distance, bins) / np.maximum(total.sum(axis=0), 1)
        largest = float(self.distance.max())
        lengths = np.geomspace(max(middle[middle > 0].min(initial=largest), 1e-9), 2 * largest, 20)

        def decay(distance: np.ndarray) -> np.ndarray:
            return np.exp(-np.minimum(distance, largest)[:, None] / lengths)

        rng = np.random.default_rng(0)
        weights = rng.multinomial(groups, np.full(groups, 1 / groups), _DRAWS)
        weights = np.concatenate([np.ones((1, groups), np.int64), weights])
        offset, factor, which = _fit(decay(middle), weights @ total, weights @ correct)

        def accuracy(distance: np.ndarray) -> np.ndarray:
            curve: np.ndarray = 100 * np.clip(offset + factor * decay(distance)[:, which], 0, 1)
            return curve

        found = accuracy(validation).mean(axis=0) - accuracy(wanted).mean(axis=0)
        kish = effective_groups(total.sum(axis=1))
        half = math.inf
        if kish > 1:
            half = float(t.ppf(0.975, max(kish - 1, 1)) * found[1:].std(ddof=1))
            half *= math.sqrt(kish / (kish - 1))
        beyond = float((wanted > largest).mean())
        worst = found[0] + beyond * accuracy(np.array([largest]))[0, 0]
        return Bias(float(found[0]), found[0] - half, found[0] + half, beyond, float(worst))


def _fit(
    decay: np.ndarray, total: np.ndarray, correct: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least squares of the accuracies on each of several decreasing curves.

    Args:
        decay: `bins × lengths`, the curves.
        total, correct: `draws × bins`, number of patches and of correct predictions.

    Returns:
        For each draw the offset, the factor and the index of the curve that fits best.
    """
    n = total.sum(axis=1, keepdims=True)
    x, y = total @ decay / n, correct.sum(axis=1, keepdims=True) / n
    spread = np.maximum(total @ decay**2 / n - x**2, 1e-12)
    factor = np.maximum((correct @ decay / n - x * y) / spread, 0)
    which = np.argmax(factor**2 * spread, axis=1)
    rows = np.arange(len(which))
    factor = factor[rows, which]
    return y[:, 0] - factor * x[rows, which], factor, which


def falloff(
    at: np.ndarray,
    labels: np.ndarray,
    model: Model,
    spaces: Sequence[np.ndarray],
    source: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Falloff, ...]:
    """Hold patches out alone and with the area around them, and classify them.

    The area is divided into squares (or cubes) of six sizes, from the distance between neighbours
    to half of the labelled area, which are assigned to three random folds. At most 500 patches of
    each fold are classified. Distances are computed to at most 10 000 training patches, in `at` to
    all.

    Args:
        at: `N × D`, coordinates.
        labels: int, `N`.
        model: model to be trained and tested.
        spaces: arrays `N × F` in which distances are computed; `at` may be one of them.
        source: int, `N`, scene or volume of each patch; one for all by default.
        seed: random seed.

    Returns:
        One result per space; none with fewer than 20 distinct positions or a single class.
    """
    distinct = np.unique(at, axis=0)
    if len(distinct) < _FEWEST or len(np.unique(labels)) < 2:
        return ()
    rng = np.random.default_rng(seed)
    source = np.zeros(len(at), int) if source is None else source
    extent = max(float(np.ptp(at[source == i], axis=0).max()) for i in np.unique(source))
    extent = extent or float(np.ptp(at, axis=0).max())
    smallest = max(float(np.median(nearest_other(distinct))), extent / 1000)
    correct, index = [], []
    distance: list[list[np.ndarray]] = [[] for _ in spaces]
    for size in np.geomspace(smallest, max(extent / 2, smallest), _SIZES):
        square = _squares(at, float(size), np.array(rng.random(at.shape[1])))
        folds = min(_FOLDS, int(square.max()) + 1)
        fold = rng.permutation(int(square.max()) + 1)[square] % folds
        for number in range(folds if folds > 1 else 0):
            held_out, train = (np.flatnonzero(one) for one in (fold == number, fold != number))
            held_out = rng.permutation(held_out)[:_HELD_OUT]
            correct.append(model(train, held_out) == labels[held_out])
            index.append(held_out)
            for one, space in zip(distance, spaces, strict=True):
                some = train if space is at else rng.permutation(train)[:_TRAIN]
                one.append(nearest(space[held_out], space[some]))
    groups = _squares(at, extent / _ACROSS, 0.0)[np.concatenate(index)]
    every = np.concatenate(correct)
    return tuple(Falloff(np.concatenate(one), every, groups) for one in distance)


def _squares(at: np.ndarray, size: float, shift: np.ndarray | float) -> np.ndarray:
    """The square, or cube, of each position, numbered from 0."""
    cell = np.floor((at - at.min(axis=0)) / size + shift)
    return np.unique(cell, axis=0, return_inverse=True)[1].reshape(-1)


def interpolator(at: np.ndarray, labels: np.ndarray) -> Model:
    """The class of the nearest patch in space: a model that interpolates between patches."""
    from scipy.spatial import KDTree

    def model(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        return np.asarray(labels[train][KDTree(at[train]).query(at[held_out])[1]])

    return model


def forest(
    features: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
    number: int = _TREES,
    most: int = _TRAINED_ON,
) -> Model:
    """Some extremely randomised trees on features of the patches, trained on at most `most`.

    Source: Geurts, Ernst and Wehenkel (2006), Extremely randomized trees, Machine Learning 63,
    3-42.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    def model(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        some = np.random.default_rng(seed).permutation(train)[:most]
        trees = ExtraTreesClassifier(number, random_state=seed)
        trees.fit(features[some], labels[some])
        return np.asarray(trees.predict(features[held_out]))

    return model
