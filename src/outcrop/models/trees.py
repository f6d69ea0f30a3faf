"""Decision trees, forests and boosted trees as arrays for one compiled loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import (
    BaseEnsemble,
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier
from sklearn.tree._tree import Tree

from outcrop.errors import OutcropError

_SINGLE = (DecisionTreeClassifier, ExtraTreeClassifier)
_FORESTS = (RandomForestClassifier, ExtraTreesClassifier)


@dataclass(frozen=True)
class Trees:
    """The trees of one estimator. The sums are equal to those of scikit-learn, bit by bit.

    The nodes of a tree are adjacent, level by level, and so are the two children of a node.

    Attributes:
        roots: uint32, first node of each tree.
        feature: uint32, feature of each node.
        threshold: float32, threshold of each node: features up to it go to the left child.
            scikit-learn compares float32 features with float64 thresholds; the largest float32 not
            above such a threshold gives the same decisions.
        left: uint32, left child of each node; the right one follows it. A leaf is its own child.
        first: uint32, index of the first value of each node, and one more entry.
        column, value: uint32 and float64: column and summand of each value.
        start: float64, initial value of each column.
        divisor: divisor of the sums.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    first: np.ndarray
    column: np.ndarray
    value: np.ndarray
    start: np.ndarray
    divisor: float

    def sums(self, X: np.ndarray) -> np.ndarray:
        """Sums of the values of the leaves that features reach, float64, `N × columns`.

        The features X are float32, `N × F`, without NaN.
        """
        total = np.tile(self.start, (len(X), 1))
        nodes = self.roots, self.feature, self.threshold, self.left
        values = self.first, self.column, self.value
        _compiled_loop()(np.ascontiguousarray(X, dtype=np.float32), *nodes, *values, total)
        total /= self.divisor
        return total


def compiled(estimator: Any) -> Trees | None:
    """The trees of a fitted estimator of scikit-learn, or None if it is not made of trees.

    The sums are those of `predict_proba` for decision trees and forests, and of `_raw_predict` for
    histogram gradient boosting.
    """
    kind = type(estimator)
    if kind in _SINGLE:
        return _of_classes([estimator.tree_])
    if kind in _FORESTS:
        return _of_classes([tree.tree_ for tree in estimator.estimators_])
    if kind is HistGradientBoostingClassifier and estimator.is_categorical_ is None:
        return _boosted(estimator)
    return None


def check_trees(estimator: Any, features: int, where: str) -> None:
    """Check every tree in an estimator that was read from a file, before it predicts.

    scikit-learn does not check the indices in a tree: if they are out of range, it reads foreign
    memory, and cycles never end.

    Args:
        estimator: fitted estimator of so many `features`; trees may be nested in it.
        where: file name for the error message.

    Raises:
        OutcropError: a child that is not a later node of its tree, or a feature out of range.
    """
    for tree, known in _found(estimator, features, False, set()):
        if isinstance(tree, Tree):
            left, right, feature = tree.children_left, tree.children_right, tree.feature
            inner, values = left != -1, len(tree.value)
        else:
            left, right, feature = (tree.nodes[n] for n in ("left", "right", "feature_idx"))
            inner, values = tree.nodes["is_leaf"] == 0, len(left)
        children = np.stack([left, right], axis=1).astype(np.int64)
        after = (children > np.arange(len(left))[:, None]) & (children < len(left))
        feature = feature.astype(np.int64)[inner]
        if not (
            len(left) == values > 0
            and after[inner].all()
            and (feature >= 0).all()
            and (feature < known).all()
        ):
            raise OutcropError(where, "holds a damaged decision tree; train the model anew")


def _found(
    value: Any, features: int, of_ensemble: bool, seen: set[int]
) -> Iterator[tuple[Any, int]]:
    """Every scikit-learn tree in a value, with its number of features.

    An estimator checks its number of features, but an ensemble passes features on to its members
    unchecked.
    """
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tree | TreePredictor):
        yield value, features
        return
    if isinstance(value, BaseEstimator):
        own = getattr(value, "n_features_in_", features)
        features = min(own, features) if of_ensemble else own
        of_ensemble = isinstance(value, BaseEnsemble)
    for part in parts_of(value):
        yield from _found(part, features, of_ensemble, seen)


def parts_of(value: Any) -> list[Any]:
    """The items of a container or the attributes of an object; empty for strings and numbers."""
    if isinstance(value, np.ndarray):
        return list(value.flat) if value.dtype == object else []
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set):
        return list(value)
    return list(getattr(value, "__dict__", {}).values())


def _of_classes(trees: Sequence[Any]) -> Trees:
    """Trees with the shares of all classes in each leaf."""
    shares = np.concatenate([tree.value[:, 0, :] for tree in trees])
    leaf = np.concatenate([tree.children_left == -1 for tree in trees])
    node, column = np.nonzero((shares != 0) & leaf[:, None])
    return _laid_out(
        sizes=[tree.node_count for tree in trees],
        leaf=leaf,
        left=[tree.children_left for tree in trees],
        right=[tree.children_right for tree in trees],
        feature=np.concatenate([tree.feature for tree in trees]),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        values=(node, column, shares[node, column]),
        start=np.zeros(shares.shape[1]),
        divisor=len(trees),
    )


def _boosted(estimator: Any) -> Trees:
    """Trees with one value in each leaf, for the class of the tree."""
    rounds = estimator._predictors
    trees = [tree.nodes for trees in rounds for tree in trees]
    nodes = np.concatenate(trees)
    class_of_tree = np.tile(np.arange(len(rounds[0])), len(rounds))
    column = np.repeat(class_of_tree, [len(tree) for tree in trees])
    node = np.flatnonzero(nodes["is_leaf"])
    return _laid_out(
        sizes=[len(tree) for tree in trees],
        leaf=nodes["is_leaf"] != 0,
        left=[tree["left"] for tree in trees],
        right=[tree["right"] for tree in trees],
        feature=nodes["feature_idx"],
        threshold=nodes["num_threshold"],
        values=(node, column[node], nodes["value"][node]),
        start=np.ravel(estimator._baseline_prediction).astype(np.float64),
        divisor=1,
    )


def _laid_out(
    sizes: Sequence[int],
    leaf: np.ndarray,
    left: Sequence[np.ndarray],
    right: Sequence[np.ndarray],
    feature: np.ndarray,
    threshold: np.ndarray,
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
    start: np.ndarray,
    divisor: float,
) -> Trees:
    """Renumber the nodes, so that siblings are adjacent.

    Args:
        sizes: number of nodes of each tree.
        leaf, feature, threshold: by node, one tree after the other.
        left, right: children within each tree.
        values: node, column and value of the leaves, in ascending order of nodes.
    """
    roots = np.cumsum([0, *sizes[:-1]])
    tree = np.repeat(np.arange(len(sizes)), sizes)
    children = np.stack([np.concatenate(left), np.concatenate(right)], axis=1).astype(np.int64)
    children += roots[tree][:, None]
    level, levels = roots, [roots]
    while len(level := children[level[~leaf[level]]].ravel()):
        levels.append(level)
    order = np.concatenate(levels)
    order = order[np.argsort(tree[order], kind="stable")]
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    node, column, value = values
    by_node = np.argsort(number[node], kind="stable")
    counts = np.bincount(number[node], minlength=len(order))
    return Trees(
        roots=roots.astype(np.uint32),
        feature=np.where(leaf, 0, feature)[order].astype(np.uint32),
        threshold=_rounded_down(np.where(leaf, np.inf, threshold)[order]),
        left=np.where(leaf, number, number[children[:, 0]])[order].astype(np.uint32),
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32),
        column=column[by_node].astype(np.uint32),
        value=value[by_node].astype(np.float64),
        start=start,
        divisor=float(divisor),
    )


def _rounded_down(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        nearest = values.astype(np.float32)
    return np.where(nearest > values, np.nextafter(nearest, np.float32(-np.inf)), nearest)


@cache
def _compiled_loop() -> Callable[..., None]:
    """The loop that sums the leaves that rows reach.

    It is compiled at the first prediction of trees, because importing numba takes long.
    """
    import numba

    @numba.njit(inline="always")
    def step(X, i, k, feature, threshold, left):  # type: ignore[no-untyped-def]
        return left[k] + np.uint32(X[i, feature[k]] > threshold[k])

    @numba.njit(nogil=True)
    def descend(X, roots, feature, threshold, left, first, column, value, total):  # type: ignore[no-untyped-def]
        """Sum the leaves, one tree after the other, so that a tree stays in the cache.

        Eight rows descend at once, so that the processor does not wait for single nodes. A row at a
        leaf stays there. Unsigned indices need no test for negative values.
        """
        rows, block, lanes = np.uint64(len(X)), np.uint64(4096), np.uint64(8)
        start = np.uint64(0)
        at = np.empty(8, np.uint32)
        while start < rows:
            end = min(rows, start + block)
            for root in roots:
                i = start
                while i < end:
                    # With fewer than eight rows left, the last one descends several times.
                    i0, last = i, end - np.uint64(1)
                    i1, i2 = min(i + np.uint64(1), last), min(i + np.uint64(2), last)
                    i3, i4 = min(i + np.uint64(3), last), min(i + np.uint64(4), last)
                    i5, i6 = min(i + np.uint64(5), last), min(i + np.uint64(6), last)
                    i7 = min(i + np.uint64(7), last)
                    k0 = k1 = k2 = k3 = k4 = k5 = k6 = k7 = np.uint32(root)
                    while True:
                        n0 = step(X, i0, k0, feature, threshold, left)
                        n1 = step(X, i1, k1, feature, threshold, left)
                        n2 = step(X, i2, k2, feature, threshold, left)
                        n3 = step(X, i3, k3, feature, threshold, left)
                        n4 = step(X, i4, k4, feature, threshold, left)
                        n5 = step(X, i5, k5, feature, threshold, left)
                        n6 = step(X, i6, k6, feature, threshold, left)
                        n7 = step(X, i7, k7, feature, threshold, left)
                        moved = (n0 ^ k0) | (n1 ^ k1) | (n2 ^ k2) | (n3 ^ k3)
                        moved |= (n4 ^ k4) | (n5 ^ k5) | (n6 ^ k6) | (n7 ^ k7)
                        if moved == 0:
                            break
                        k0, k1, k2, k3, k4, k5, k6, k7 = n0, n1, n2, n3, n4, n5, n6, n7
                    at[0], at[1], at[2], at[3] = k0, k1, k2, k3
                    at[4], at[5], at[6], at[7] = k4, k5, k6, k7
                    for lane in range(min(lanes, end - i)):
                        k = at[lane]
                        for j in range(first[k], first[k + np.uint32(1)]):
                            total[i + np.uint64(lane), column[j]] += value[j]
                    i += lanes
            start = end

    return descend
