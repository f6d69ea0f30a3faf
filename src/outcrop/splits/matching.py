"""Nearest-neighbour distance matching: validation as far from training as the map is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.patchset import PatchSet
from outcrop.splits.base import (
    SpatialSplit,
    check_any,
    check_folds,
    check_test,
    classes_on_sides,
    masks_of,
    positions_of,
    stratified_masks,
)
from outcrop.splits.geometry import coordinates, nearest, nearest_other, prediction_points
from outcrop.splits.split import TEST, TRAIN, VALIDATION, Split, least_classes

_LARGEST_FOLD = 0.5
_CANDIDATES = 100
_ENOUGH_GROUPS = 2
_UNITS = 2000
_QUERIES = 2000
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Matching:
    """Folds, and how well their distances match those of the map.

    Attributes:
        fold: int64, `N`, validation fold of each patch.
        group: int64, `N`, cluster of each patch; for random folds `SpatialSplit.groups_of`.
        clusters: number of clusters that were merged into the folds; None for random folds.
        wasserstein: W between the nearest-neighbour distances of the folds and those of the map,
            in the patch set's unit.
        candidates: W for each number of clusters that was tried.
    """

    fold: np.ndarray
    group: np.ndarray
    clusters: int | None
    wasserstein: float
    candidates: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class MatchingSplit(SpatialSplit):
    """Folds whose distances to training match those from the map's pixels to all patches.

    This is kNNDM, k-fold nearest-neighbour distance matching (Linnenbrink et al. 2024,
    Geoscientific Model Development 17, 5897-5912, section 2.2), after NNDM (Milà et al. 2022,
    Methods in Ecology and Evolution 13, 1304-1316). If the patches are clustered (one-sided
    Kolmogorov-Smirnov test), Ward's method groups them into q clusters. The clusters are merged
    into folds along the first principal component of the coordinates. This is repeated for many q,
    and the q with the smallest Wasserstein distance W is used. No fold has more than half of the
    patches. If the patches are not clustered, the folds are random.

    `assign_all` and `split` minimise W of the distances of all folds together to the distances
    from the map to all patches, as in the paper. `assign` without a fold number uses a single
    fold. It takes the fold, of all q, with the smallest W of its own distances to the distances
    from the map to its training patches.

    There are three differences from the paper. Labelled polygons are never divided. More than 2000
    polygons are first grouped into the cells of a grid. W is computed after the patches in the
    buffer are left out.

    The map covers the sources of the patches (`prediction_points`).

    Attributes:
        n_splits: number of folds, one of which is for validation.
        random_state: random seed of random folds.
    """

    n_splits: int = 5
    random_state: int = 0

    def validation_masks(self, patches: PatchSet) -> list[np.ndarray]:
        """The folds with the smallest W of all folds together."""
        return masks_of(self.match(patches).fold, self.n_splits)

    def groups_of(self, patches: PatchSet) -> np.ndarray:
        """The clusters; for random folds the labelled polygons."""
        return self.match(patches).group

    def masks_and_groups(self, patches: PatchSet) -> tuple[list[np.ndarray], np.ndarray]:
        """Both from one search."""
        matching = self.match(patches)
        return masks_of(matching.fold, self.n_splits), matching.group

    def match(self, patches: AnyPatches) -> Matching:
        """Find the folds with the smallest W of all folds together.

        Raises:
            OutcropError: the patches have no positions; there are fewer polygons than folds.
        """
        patches = open_patches(patches)
        layout = self._layout(patches)
        found: dict[int, float] = {}
        best = None
        for one in self._assignments(patches, layout):
            folds = self._sides(patches, masks_of(one.fold, self.n_splits))
            w = self._wasserstein(layout, folds, VALIDATION, layout.map_distances)
            if one.clusters is not None:
                found[one.clusters] = w
            if best is None or w < best.wasserstein:
                best = replace(one, wasserstein=w, candidates=found)
        assert best is not None
        return best

    def assign(self, patches: AnyPatches, fold: int | None = None, test: bool = False) -> Split:
        """Split once: one fold is for validation and the others are for training.

        Without `fold`, a single fold is matched (see the class). Folds with more classes on the
        sides are preferred, up to the number of classes of the folds that are matched together.
        Then folds whose validation and test sides have two spatial groups or more are preferred.
        W is stored in `how`.

        Args:
            fold: number of the validation fold, from 0, of the folds that are matched together.
            test: whether the next fold becomes a test side; it is matched too.

        Raises:
            OutcropError: as `match`; there is no such fold; the split does not pass
                `Split.check`.
        """
        patches = open_patches(patches)
        check_any(patches, "MatchingSplit")
        check_test(self.n_splits, test)
        if fold is not None:
            return super().assign(patches, fold, test)
        layout = self._layout(patches)
        held_out = (VALIDATION, TEST) if test else (VALIDATION,)
        tried, least, enough = [], np.inf, 0
        for order, one in enumerate(self._assignments(patches, layout)):
            folds = self._sides(patches, masks_of(one.fold, self.n_splits), test)
            classes = [classes_on_sides(sides, patches.labels) for sides in folds]
            together = self._wasserstein(layout, folds, VALIDATION, layout.map_distances)
            if together < least:
                least, enough = together, max(classes)
            for number, sides in enumerate(folds):
                groups = min(len(np.unique(one.group[sides == side])) for side in held_out)
                wanted = nearest(layout.points, layout.at[sides == TRAIN])
                each = [self._wasserstein(layout, [sides], side, wanted) for side in held_out]
                tried.append((classes[number], groups, max(each), order, number))
        *_, w, order, number = min(
            tried, key=lambda one: (-min(one[0], enough), -min(one[1], _ENOUGH_GROUPS), one[2])
        )
        chosen = next(islice(self._assignments(patches, layout), order, None))
        masks = masks_of(chosen.fold, self.n_splits)
        split = self._split(patches, chosen.group, masks, number, test)
        matched = {"clusters": chosen.clusters, "wasserstein": float(f"{w:.4g}")}
        split = replace(split, how={**split.how, **matched})
        split.check(patches, classes=least_classes(patches))
        return split

    def _layout(self, patches: PatchSet) -> _Layout:
        """Coordinates of the patches and of the map."""
        check_folds(patches, self.n_splits, self.random_state)
        positions = positions_of(patches, "MatchingSplit")
        at = coordinates(positions)
        unit = _units(at, positions.polygon)
        if unit.max() + 1 < self.n_splits:
            raise OutcropError(
                "`outcrop.MatchingSplit`",
                f"the patches lie in {unit.max() + 1} places, fewer than {self.n_splits} folds; "
                "label more places, or pass a smaller `n_splits`",
            )
        if not patches.sources:
            raise OutcropError(
                "MatchingSplit",
                "needs the scenes that will be mapped, which X lacks; pass a PatchSet as X",
            )
        points = prediction_points(patches).at
        return _Layout(at, unit, points, nearest(points, at))

    def _assignments(self, patches: PatchSet, layout: _Layout) -> Iterator[Matching]:
        """The folds to choose from, before W is computed.

        Raises:
            OutcropError: there are none.
        """
        if not _clustered(layout.at, layout.map_distances):
            masks = stratified_masks(patches, layout.unit, self.n_splits, self.random_state)
            yield Matching(np.argmax(masks, axis=0), super().groups_of(patches), None, np.nan, {})
            return
        some = False
        for q, cluster in _clusterings(layout.at, layout.unit, self.n_splits):
            fold = _merge(layout.at, cluster, self.n_splits)
            if np.bincount(fold).max() <= _LARGEST_FOLD * len(fold):
                some = True
                yield Matching(fold, cluster, q, np.nan, {})
        if not some:
            raise OutcropError(
                "`outcrop.MatchingSplit`",
                "one place contains more than half of the patches; split by blocks, or use fewer "
                "patches of that place",
            )

    def _wasserstein(
        self, layout: _Layout, folds: Sequence[np.ndarray], side: int, wanted: np.ndarray
    ) -> float:
        """W of all folds together; infinite if a fold lacks a side.

        Args:
            folds: sides of each fold.
            side: side whose distances to the training side are taken.
            wanted: distances of the map.
        """
        from scipy.stats import wasserstein_distance

        rng = np.random.default_rng(self.random_state)
        total = sum(int((sides == side).sum()) for sides in folds)
        distances = []
        for sides in folds:
            held_out, train = np.flatnonzero(sides == side), sides == TRAIN
            if not len(held_out) or not train.any():
                return np.inf
            count = max(1, round(_QUERIES * len(held_out) / total))
            if len(held_out) > count:
                held_out = rng.choice(held_out, count, replace=False)
            distances.append(nearest(layout.at[held_out], layout.at[train]))
        return float(wasserstein_distance(np.concatenate(distances), wanted))


@dataclass(frozen=True)
class _Layout:
    """Where patches and map lie.

    Attributes:
        at: float64, `N × D`, coordinates of the patches.
        unit: int64, `N`, polygon of each patch, or cell that contains several polygons.
        points: float64, `M × D`, coordinates of pixels of the map.
        map_distances: float64, `M`, distance of each point to the nearest patch.
    """

    at: np.ndarray
    unit: np.ndarray
    points: np.ndarray
    map_distances: np.ndarray


def _clustered(at: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether patches are closer to each other than the map's pixels are to them."""
    from scipy.stats import ks_2samp

    test = ks_2samp(nearest_other(at), wanted, alternative="greater", method="asymp")
    return bool(test.pvalue < _SIGNIFICANT)


def _units(at: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Polygons, or cells of a grid if there are too many polygons to cluster."""
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
    """For each number q of clusters, ascending, the cluster of each patch, from 0."""
    from scipy.cluster.hierarchy import cut_tree, linkage

    units = unit.max() + 1
    tries = np.geomspace(folds, max(units - 2, folds), _CANDIDATES).round().astype(int)
    tree = linkage(_means(at, unit), "ward")
    numbers = np.unique(tries)
    return list(zip(numbers.tolist(), cut_tree(tree, numbers).T[:, unit], strict=True))


def _merge(at: np.ndarray, cluster: np.ndarray, folds: int) -> np.ndarray:
    """Merge clusters: a large one is a fold; small ones alternate along the first axis."""
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
    """Mean of the rows of each group; groups are numbered from 0."""
    total = np.stack([np.bincount(group, column) for column in values.T], axis=1)
    return total / np.bincount(group)[:, None]
