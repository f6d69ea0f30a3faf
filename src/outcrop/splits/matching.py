"""A split that judges on patches as far from those it trains on as the map will be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.splits.places import coordinates, nearest, places_to_map
from outcrop.splits.split import TRAIN, VALIDATION
from outcrop.splits.splitters import GroundSplit, check_deal, deal_pieces, positions_of

_LARGEST_FOLD = 0.5
_CANDIDATES = 30
_UNITS = 2000
_QUERIES = 2000
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Matching:
    """Folds, and how well they imitate the making of the map.

    Attributes:
        fold: int64, `N`, the fold that each patch judges in.
        piece: int64, `N`, the cluster of each patch; for folds at random, `GroundSplit.pieces`.
        clusters: how many were merged into the folds; None for folds at random.
        wasserstein: W between the nearest-neighbour distances of the folds and those of the map,
            in the patch set's unit.
        candidates: W of every number of clusters that was tried.
    """

    fold: np.ndarray
    piece: np.ndarray
    clusters: int | None
    wasserstein: float
    candidates: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class MatchingSplit(GroundSplit):
    """Folds whose patches lie as far from the other folds as the map's pixels from all patches.

    kNNDM, k-fold nearest-neighbour distance matching (Linnenbrink et al. 2024, Geoscientific
    Model Development 17, 5897-5912, section 2.2), after NNDM (Milà et al. 2022, Methods in
    Ecology and Evolution 13, 1304-1316). Where patches are clustered (one-sided
    Kolmogorov-Smirnov test), they are grouped by Ward's method into q clusters, which are merged
    into the folds along the first principal component of the coordinates, for many q; the q with
    the smallest Wasserstein distance W is kept. No fold holds more than half of the patches.
    Where they are not, the folds are dealt at random.

    Differs from the paper in three ways: polygons stay whole, as in every split by ground; more
    than 2000 polygons are first gathered in cells of a grid; and W is taken after the patches
    that are nearer than the buffer have gone.

    The map is that of the patches' own sources, pixel by pixel (`places_to_map`).

    Attributes:
        folds: one of them validates.
        seed: of the folds at random.
    """

    folds: int = 5
    seed: int = 0

    def folds_of(self, patches: PatchSet) -> list[np.ndarray]:
        """The folds with the smallest W."""
        fold = self.match(patches).fold
        return [fold == number for number in range(self.folds)]

    def pieces(self, patches: PatchSet) -> np.ndarray:
        """The clusters; where the folds are dealt at random, as for every split by ground."""
        return self.match(patches).piece

    def match(self, patches: PatchSet) -> Matching:
        """Find the folds.

        Raises:
            OutcropError: no positions; fewer polygons, or patches of a class, than folds.
        """
        check_deal(patches, self.folds, self.seed)
        at = coordinates(positions_of(patches, "MatchingSplit"))
        unit = _units(at, positions_of(patches, "MatchingSplit").polygon)
        if unit.max() + 1 < self.folds:
            raise OutcropError(
                "--by matching",
                f"has {unit.max() + 1} pieces of labelled ground, fewer than {self.folds} folds; "
                "label more pieces, or pass a smaller --folds",
            )
        if not patches.sources:
            raise OutcropError(
                "MatchingSplit", "does not know what is to be mapped; make it with patches=..."
            )
        wanted = nearest(places_to_map(patches).at, at)
        if not _clustered(at, wanted):
            dealt = deal_pieces(patches, unit, self.folds, self.seed)
            fold = np.argmax(dealt, axis=0)
            mismatch = self._mismatch(patches, at, fold, wanted)
            return Matching(fold, super().pieces(patches), None, mismatch, {})
        found: dict[int, float] = {}
        best = None
        for q, cluster in _clusterings(at, unit, self.folds):
            fold = _merge(at, cluster, self.folds)
            if np.bincount(fold).max() > _LARGEST_FOLD * len(at):
                continue
            found[q] = self._mismatch(patches, at, fold, wanted)
            if best is None or found[q] < best.wasserstein:
                best = Matching(fold, cluster, q, found[q], found)
        if best is None:
            raise OutcropError(
                "--by matching",
                "one piece of labelled ground holds more than half of the patches; "
                "split by blocks, or thin that piece out",
            )
        return best

    def _mismatch(
        self, patches: PatchSet, at: np.ndarray, fold: np.ndarray, wanted: np.ndarray
    ) -> float:
        """W of the folds with what is too near left out."""
        from scipy.stats import wasserstein_distance

        dice = np.random.default_rng(self.seed)
        distances = []
        for number in range(self.folds):
            sides = np.where(fold == number, VALIDATION, TRAIN).astype(np.int8)
            sides = self.finish(patches, sides)
            judged, taught = at[sides == VALIDATION], at[sides == TRAIN]
            if not len(judged) or not len(taught):
                return np.inf
            share = max(1, round(_QUERIES * len(judged) / len(at)))
            if len(judged) > share:
                judged = judged[dice.choice(len(judged), share, replace=False)]
            distances.append(nearest(judged, taught))
        return float(wasserstein_distance(np.concatenate(distances), wanted))


def _clustered(at: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether patches lie nearer to each other than the map's pixels to them."""
    from scipy.spatial import KDTree
    from scipy.stats import ks_2samp

    among = KDTree(at).query(at, k=2)[0][:, 1]
    test = ks_2samp(among, wanted, alternative="greater", method="asymp")
    return bool(test.pvalue < _SIGNIFICANT)


def _units(at: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Polygons, or where they are too many to be clustered, cells of a grid that hold them."""
    unit = np.unique(polygon, return_inverse=True)[1]
    if unit.max() < _UNITS:
        return unit
    middle = _means(at, unit)
    low, extent = middle.min(axis=0), np.ptp(middle, axis=0).max()
    cells_a_side = _UNITS
    while True:
        cell = np.floor((middle - low) / max(extent, 1e-9) * cells_a_side)
        number = np.unique(cell, axis=0, return_inverse=True)[1].reshape(-1)
        if number.max() < _UNITS:
            return number[unit]
        cells_a_side = cells_a_side * 4 // 5


def _clusterings(at: np.ndarray, unit: np.ndarray, folds: int) -> list[tuple[int, np.ndarray]]:
    """For a rising number q of clusters the cluster of each patch, from 0."""
    from scipy.cluster.hierarchy import cut_tree, linkage

    units = unit.max() + 1
    tries = np.geomspace(folds, max(units - 2, folds), _CANDIDATES).round().astype(int)
    tree = linkage(_means(at, unit), "ward")
    numbers = np.unique(tries)
    return [
        (int(q), cluster[unit])
        for q, cluster in zip(numbers, cut_tree(tree, numbers).T, strict=True)
    ]


def _merge(at: np.ndarray, cluster: np.ndarray, folds: int) -> np.ndarray:
    """Clusters become folds: large ones each by itself, the others dealt along the first axis."""
    size = np.bincount(cluster)
    _, _, axes = np.linalg.svd(at - at.mean(axis=0), full_matrices=False)
    order = np.argsort(_means(at @ axes[0][:, None], cluster)[:, 0], kind="stable")
    large = order[size[order] >= len(at) / folds]
    small = order[size[order] < len(at) / folds]
    fold = np.empty(len(size), np.int64)
    fold[large] = np.arange(len(large))
    fold[small] = len(large) + np.arange(len(small)) % max(folds - len(large), 1)
    return fold[cluster]


def _means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The mean of the rows of each group, numbered from 0."""
    total = np.stack([np.bincount(group, column) for column in values.T], axis=1)
    return total / np.bincount(group)[:, None]
