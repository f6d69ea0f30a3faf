"""A split that judges on patches as far from those it trains on as the map will be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.splits.places import coordinates, nearest, places_to_map
from outcrop.splits.split import TEST, TRAIN, VALIDATION, Split, teachable
from outcrop.splits.splitters import (
    GroundSplit,
    check_any,
    check_deal,
    check_test,
    classes_on_sides,
    deal_pieces,
    positions_of,
)

_LARGEST_FOLD = 0.5
_CANDIDATES = 100
_ENOUGH_PIECES = 2
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

    What is matched is what is used. `assign_all` and `split` use all folds: W is that of the
    distances of all folds together, beside those from the map to all patches, as in the paper.
    `assign` without a fold's number uses a single fold: of all folds for all q it takes the one
    whose own W is the smallest, beside the distances from the map to the patches that then train.

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
        """The folds with the smallest W of all folds together."""
        return _masks(self.match(patches).fold, self.folds)

    def pieces(self, patches: PatchSet) -> np.ndarray:
        """The clusters; where the folds are dealt at random, as for every split by ground."""
        return self.match(patches).piece

    def folds_and_pieces(self, patches: PatchSet) -> tuple[list[np.ndarray], np.ndarray]:
        """Both, of one search."""
        matching = self.match(patches)
        return _masks(matching.fold, self.folds), matching.piece

    def match(self, patches: PatchSet) -> Matching:
        """Find the folds with the smallest W of all folds together.

        Raises:
            OutcropError: no positions; fewer polygons, or patches of a class, than folds.
        """
        ground = self._look(patches)
        found: dict[int, float] = {}
        best = None
        for deal in self._deals(patches, ground):
            folds = self._folds_of(patches, deal)
            mismatch = self._mismatch(ground, folds, VALIDATION, ground.wanted)
            if deal.clusters is not None:
                found[deal.clusters] = mismatch
            if best is None or mismatch < best.wasserstein:
                best = replace(deal, wasserstein=mismatch, candidates=found)
        assert best is not None
        return best

    def assign(self, patches: PatchSet, fold: int | None = None, test: bool = False) -> Split:
        """Split once: one fold validates and the others train.

        Without `fold` the fold is matched by itself (see the class). A fold is passed over for
        one that leaves more classes on the sides, up to as many as the folds that are matched
        together leave; then for one whose judging sides stand on two pieces of ground or
        more. Its W is in `how`.

        Args:
            fold: which of the folds that are matched together validates, from 0.
            test: whether another fold is set aside as a test side, and matched too.

        Raises:
            OutcropError: as `match`; no such fold; the split cannot be used (`Split.check`).
        """
        check_any(patches, "MatchingSplit")
        check_test(self.folds, test)
        if fold is not None:
            return super().assign(patches, fold, test)
        ground = self._look(patches)
        judges = (VALIDATION, TEST) if test else (VALIDATION,)
        tried, least, enough = [], np.inf, 0
        for order, deal in enumerate(self._deals(patches, ground)):
            folds = self._folds_of(patches, deal, test)
            classes = [classes_on_sides(sides, patches.labels) for sides in folds]
            together = self._mismatch(ground, folds, VALIDATION, ground.wanted)
            if together < least:
                least, enough = together, max(classes)
            for number, sides in enumerate(folds):
                pieces = min(len(np.unique(deal.piece[sides == side])) for side in judges)
                wanted = nearest(ground.places, ground.at[sides == TRAIN])
                apart = [self._mismatch(ground, [sides], side, wanted) for side in judges]
                tried.append((classes[number], pieces, max(apart), order, number))
        *_, mismatch, order, number = min(
            tried, key=lambda one: (-min(one[0], enough), -min(one[1], _ENOUGH_PIECES), one[2])
        )
        deal = next(islice(self._deals(patches, ground), order, None))
        split = self._split(patches, deal.piece, _masks(deal.fold, self.folds), number, test)
        matched = {"clusters": deal.clusters, "wasserstein": float(f"{mismatch:.4g}")}
        split = replace(split, how={**split.how, **matched})
        split.check(patches, classes=teachable(patches))
        return split

    def _look(self, patches: PatchSet) -> _Ground:
        """Where patches lie, and the map."""
        check_deal(patches, self.folds, self.seed)
        positions = positions_of(patches, "MatchingSplit")
        at = coordinates(positions)
        unit = _units(at, positions.polygon)
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
        places = places_to_map(patches).at
        return _Ground(at, unit, places, nearest(places, at))

    def _deals(self, patches: PatchSet, ground: _Ground) -> Iterator[Matching]:
        """The folds to choose from; their W is not known yet.

        Raises:
            OutcropError: there are none.
        """
        if not _clustered(ground.at, ground.wanted):
            fold = np.argmax(deal_pieces(patches, ground.unit, self.folds, self.seed), axis=0)
            yield Matching(fold, super().pieces(patches), None, np.nan, {})
            return
        some = False
        for q, cluster in _clusterings(ground.at, ground.unit, self.folds):
            fold = _merge(ground.at, cluster, self.folds)
            if np.bincount(fold).max() <= _LARGEST_FOLD * len(fold):
                some = True
                yield Matching(fold, cluster, q, np.nan, {})
        if not some:
            raise OutcropError(
                "--by matching",
                "one piece of labelled ground holds more than half of the patches; "
                "split by blocks, or thin that piece out",
            )

    def _folds_of(self, patches: PatchSet, deal: Matching, test: bool = False) -> list[np.ndarray]:
        """The sides of each fold, with what is too near left out."""
        made = []
        for number in range(self.folds):
            sides = np.where(deal.fold == number, VALIDATION, TRAIN).astype(np.int8)
            if test:
                sides[deal.fold == (number + 1) % self.folds] = TEST
            made.append(self.finish(patches, sides))
        return made

    def _mismatch(
        self, ground: _Ground, folds: Sequence[np.ndarray], judges: int, wanted: np.ndarray
    ) -> float:
        """W of all folds together; infinite if one lacks a side.

        Args:
            folds: the sides of each.
            judges: the side that judges.
            wanted: distances of the map.
        """
        from scipy.stats import wasserstein_distance

        rng = np.random.default_rng(self.seed)
        every = sum(int((sides == judges).sum()) for sides in folds)
        distances = []
        for sides in folds:
            judged, taught = np.flatnonzero(sides == judges), sides == TRAIN
            if not len(judged) or not taught.any():
                return np.inf
            some = max(1, round(_QUERIES * len(judged) / every))
            if len(judged) > some:
                judged = rng.choice(judged, some, replace=False)
            distances.append(nearest(ground.at[judged], ground.at[taught]))
        return float(wasserstein_distance(np.concatenate(distances), wanted))


@dataclass(frozen=True)
class _Ground:
    """Coordinates of N patches and the unit of ground of each, of M places of the map, and the
    distance of each place to the nearest patch.
    """

    at: np.ndarray
    unit: np.ndarray
    places: np.ndarray
    wanted: np.ndarray


def _masks(fold: np.ndarray, folds: int) -> list[np.ndarray]:
    return [fold == number for number in range(folds)]


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
