"""How accuracy falls with distance to the nearest training patch, and what that makes of a score.

Each patch is held out several times, alone or with the ground around it, so that it is judged near
to training patches and far from them. That gives the accuracy of a stand-in model at any distance
that the labelled ground holds, hence what validation patches and a map would get at theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from outcrop.splits.places import nearest

LARGE = 5.0  # points
_SIZES, _FOLDS = 6, 3
_BINS, _DRAWS = 40, 200
_TREES, _LEARNT = 20, 2000
_JUDGED, _TAUGHT = 500, 10_000
_FEWEST = 20
_ACROSS = 5

Stand = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Learns from patches of these indices, and says what class those of other indices have."""


Verdict = Literal["harder", "easier", "as hard", "unknown"]


@dataclass(frozen=True)
class Bias:
    """By how much a score is too high for a map, as a stand-in model shows it.

    Attributes:
        value, low, high: points of accuracy, validation minus map, with a 95 % interval.
        beyond: the share of the map that is further from training patches than any patch was
            held out. There accuracy is taken to be as at the largest distance that is known.
        worst: `value` if the model were never right there.
    """

    value: float
    low: float
    high: float
    beyond: float = 0.0
    worst: float = -math.inf

    @property
    def verdict(self) -> Verdict:
        """What the map will be beside validation; differences of up to five points are none."""
        if self.low < -LARGE and self.high > LARGE:
            return "unknown"
        if self.value > LARGE:
            return "harder"
        least = max(self.value, self.worst)
        if self.value < -LARGE:
            return "easier" if least < -LARGE else "unknown"
        return "as hard" if least <= LARGE else "unknown"

    def to_json(self) -> dict[str, float | None]:
        """Plain numbers, rounded; None where there is no end."""
        plain = {name: round(float(value), 3) for name, value in asdict(self).items()}
        return {name: value if math.isfinite(value) else None for name, value in plain.items()}


@dataclass(frozen=True)
class Falloff:
    """Whether held-out patches were classified right, and how far they were from training patches.

    Attributes:
        distance: float64, `M`, to the nearest training patch.
        right: bool, `M`.
        piece: int64, `M`, the piece of ground of each; pieces are resampled for intervals.
    """

    distance: np.ndarray
    right: np.ndarray
    piece: np.ndarray

    def bias(self, validation: np.ndarray, wanted: np.ndarray, seed: int = 0) -> Bias:
        """The accuracy at the distances of validation patches minus that at those of the map.

        Accuracy at distance d is c + s exp(-d / L), s not below 0, fitted by least squares to the
        shares that are right in 40 bins of equal numbers of patches. The interval is of Student's
        t: the standard error of 200 draws of pieces of ground, and degrees of freedom by Kish's
        number of pieces (Kish 1965, Survey Sampling, section 8.2).

        Args:
            validation, wanted: float64, distances to the nearest training patch.
        """
        from scipy.stats import t

        edges = np.unique(np.quantile(self.distance, np.linspace(0, 1, _BINS + 1)[1:-1]))
        place = np.searchsorted(edges, self.distance)
        bins, pieces = len(edges) + 1, int(self.piece.max()) + 1
        cell = self.piece * bins + place
        total = np.bincount(cell, minlength=pieces * bins).reshape(pieces, bins)
        right = np.bincount(cell, self.right, pieces * bins).reshape(pieces, bins)
        middle = np.bincount(place, self.distance, bins) / np.maximum(total.sum(axis=0), 1)
        largest = float(self.distance.max())
        lengths = np.geomspace(max(middle[middle > 0].min(initial=largest), 1e-9), 2 * largest, 20)

        def decay(distance: np.ndarray) -> np.ndarray:
            return np.exp(-np.minimum(distance, largest)[:, None] / lengths)

        rng = np.random.default_rng(seed)
        weights = rng.multinomial(pieces, np.full(pieces, 1 / pieces), _DRAWS)
        weights = np.concatenate([np.ones((1, pieces), np.int64), weights])
        added, factor, which = _fit(decay(middle), weights @ total, weights @ right)

        def accuracy(distance: np.ndarray) -> np.ndarray:
            curve: np.ndarray = 100 * np.clip(added + factor * decay(distance)[:, which], 0, 1)
            return curve

        found = accuracy(validation).mean(axis=0) - accuracy(wanted).mean(axis=0)
        size = total.sum(axis=1)
        kish = size.sum() ** 2 / (size**2).sum()
        half = math.inf
        if kish > 1:
            half = float(t.ppf(0.975, max(kish - 1, 1)) * found[1:].std(ddof=1))
            half *= math.sqrt(kish / (kish - 1))
        beyond = float((wanted > largest).mean())
        worst = found[0] + beyond * accuracy(np.array([largest]))[0, 0]
        return Bias(float(found[0]), found[0] - half, found[0] + half, beyond, float(worst))


def _fit(
    decay: np.ndarray, total: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least squares of the shares that are right on each of several falling curves.

    Args:
        decay: `bins × lengths`, the curves.
        total, right: `draws × bins`, patches.

    Returns:
        For each draw, of the curve that fits best: what is added, the factor, and which it is.
    """
    n = total.sum(axis=1, keepdims=True)
    x, y = total @ decay / n, right.sum(axis=1, keepdims=True) / n
    spread = np.maximum(total @ decay**2 / n - x**2, 1e-12)
    factor = np.maximum((right @ decay / n - x * y) / spread, 0)
    which = np.argmax(factor**2 * spread, axis=1)
    rows = np.arange(len(which))
    factor = factor[rows, which]
    return y[:, 0] - factor * x[rows, which], factor, which


def falloff(
    at: np.ndarray,
    labels: np.ndarray,
    model: Stand,
    spaces: Sequence[np.ndarray],
    source: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Falloff, ...]:
    """Hold patches out alone, and with the ground around them, and see what a model makes of them.

    The ground is cut into squares (or cubes) of six sizes, from the distance between neighbours to
    half of the labelled ground, dealt to three folds at random. Of each fold at most 500 patches
    are judged, and distances are to at most 10 000 that train.

    Args:
        at: `N × D`, coordinates.
        labels: int, `N`.
        model: what is tried.
        spaces: each `N × F`, in which distances are taken; the ground itself with all patches.
        source: int, `N`, the scene or volume of each patch; all from one if not given.
        seed: random seed.

    Returns:
        One for each space; none with fewer than 20 places, or a single class.
    """
    places = np.unique(at, axis=0)
    if len(places) < _FEWEST or len(np.unique(labels)) < 2:
        return ()
    rng = np.random.default_rng(seed)
    source = np.zeros(len(at), int) if source is None else source
    extent = max(float(np.ptp(at[source == i], axis=0).max()) for i in np.unique(source))
    extent = extent or float(np.ptp(at, axis=0).max())
    smallest = max(float(np.median(_apart(places))), extent / 1000)
    right, index = [], []
    distance: list[list[np.ndarray]] = [[] for _ in spaces]
    for size in np.geomspace(smallest, max(extent / 2, smallest), _SIZES):
        piece = _squares(at, float(size), np.array(rng.random(at.shape[1])))
        folds = min(_FOLDS, int(piece.max()) + 1)
        fold = rng.permutation(int(piece.max()) + 1)[piece] % folds
        for number in range(folds if folds > 1 else 0):
            held, taught = (np.flatnonzero(one) for one in (fold == number, fold != number))
            held = rng.permutation(held)[:_JUDGED]
            right.append(model(taught, held) == labels[held])
            index.append(held)
            for one, space in zip(distance, spaces, strict=True):
                some = taught if space is at else rng.permutation(taught)[:_TAUGHT]
                one.append(nearest(space[held], space[some]))
    pieces = _squares(at, extent / _ACROSS, 0.0)[np.concatenate(index)]
    every = np.concatenate(right)
    return tuple(Falloff(np.concatenate(one), every, pieces) for one in distance)


def _squares(at: np.ndarray, size: float, shift: np.ndarray | float) -> np.ndarray:
    """The square, or cube, of each place, numbered from 0."""
    cell = np.floor((at - at.min(axis=0)) / size + shift)
    return np.unique(cell, axis=0, return_inverse=True)[1].reshape(-1)


def _apart(places: np.ndarray) -> np.ndarray:
    """The distance of each place to the nearest other."""
    from scipy.spatial import KDTree

    return np.asarray(KDTree(places).query(places, k=2)[0][:, 1])


def interpolator(at: np.ndarray, labels: np.ndarray) -> Stand:
    """The class of the nearest patch on the ground: a model that interpolates between patches."""
    from scipy.spatial import KDTree

    def model(taught: np.ndarray, held: np.ndarray) -> np.ndarray:
        return np.asarray(labels[taught][KDTree(at[taught]).query(at[held])[1]])

    return model


def forest(features: np.ndarray, labels: np.ndarray, seed: int = 0) -> Stand:
    """Twenty extremely randomised trees on features: a model that looks at patches alone.

    Source: Geurts, Ernst and Wehenkel (2006), Machine Learning 63, 3-42. They learn from at most
    2000 patches.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    def model(taught: np.ndarray, held: np.ndarray) -> np.ndarray:
        some = np.random.default_rng(seed).permutation(taught)[:_LEARNT]
        trees = ExtraTreesClassifier(_TREES, random_state=seed)
        trees.fit(features[some], labels[some])
        return np.asarray(trees.predict(features[held]))

    return model
