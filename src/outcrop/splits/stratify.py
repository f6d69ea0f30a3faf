"""Assigns groups of patches to folds so that every class occurs in as many folds as possible."""

from __future__ import annotations

import warnings

import numpy as np

_RESTARTS = 60
_LARGEST_RESTARTS = 20_000  # groups, summed over all restarts


def stratified_folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each group: int64, `G`, 0 to `folds` - 1.

    `sklearn.model_selection.StratifiedGroupKFold` keeps the class proportions, but may put all
    groups of a rare class into one fold. That fold then validates a class that its training side
    does not have. This function repairs such folds: it moves single groups, and if that is not
    enough, it assigns all groups again, those with the rarest classes first. The criteria, most
    important first:

    1. no fold is empty;
    2. a class in two groups or more occurs in at least two folds;
    3. the classes occur in as many folds as possible;
    4. the classes are in proportion.

    Args:
        labels: int, `N`, class of each patch.
        groups: int, `N`, group of each patch, 0 to G - 1; every group has a patch.
        folds: number of folds, at most G.
        seed: random seed.
    """
    table = _Table(labels, groups, folds)
    rng = np.random.default_rng(seed)
    first = _scikit_learn_folds(labels, groups, folds, seed)
    best = table.repaired(table.rarest_first(rng) if first is None else first)
    for restart in range(min(_RESTARTS, _LARGEST_RESTARTS // len(best))):
        if table.penalty(best) == 0:
            break
        # "Rarest first" is good but hardly varies; a random assignment is sometimes better.
        other = rng.integers(folds, size=len(best)) if restart % 2 else table.rarest_first(rng)
        best = min(best, table.repaired(other), key=table.cost)
    return best


def _scikit_learn_folds(
    labels: np.ndarray, groups: np.ndarray, folds: int, seed: int
) -> np.ndarray | None:
    """Folds of scikit-learn; None if every class has fewer patches than there are folds."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold = np.zeros(groups.max() + 1, np.int64)
    with warnings.catch_warnings():
        # The warning is about classes in fewer groups than folds. `Folds.notes` names them.
        warnings.simplefilter("ignore", UserWarning)
        try:
            for number, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
                fold[groups[held_out]] = number
        except ValueError:
            return None
    return fold


class _Table:
    """Classes in each group, and the cost of an assignment of groups to folds.

    The last column counts all classes together. Every group has it, so an assignment that leaves a
    fold empty costs more than any other.
    """

    def __init__(self, labels: np.ndarray, groups: np.ndarray, folds: int) -> None:
        size, classes = int(groups.max()) + 1, int(labels.max()) + 1
        counts = np.bincount(groups * classes + labels, minlength=size * classes)
        counts = counts.reshape(size, classes)
        counts = np.column_stack([counts[:, counts.any(axis=0)], counts.sum(axis=1)])
        self.folds = folds
        self.holds = counts > 0
        self.share = counts / counts.sum(axis=0)
        self.groups_with = self.holds.sum(axis=0)
        # Row k: penalty of column k if it occurs in 0, 1, ... folds.
        spread = np.arange(folds + 1)
        missing = np.maximum(np.minimum(self.groups_with, folds)[:, None] - spread, 0)
        heavy = missing.sum() + 1
        self.penalties = missing + heavy * ((self.groups_with >= 2)[:, None] & (spread == 1))
        self.penalties[-1] = missing[-1] * heavy * len(self.groups_with)

    def _per_fold(self, fold: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sum of the rows of `values` over the groups of each fold, `folds × columns`."""
        dtype = values.dtype if values.dtype != bool else int
        total = np.zeros((self.folds, values.shape[1]), dtype)
        np.add.at(total, fold, values)
        return total

    def penalty(self, fold: np.ndarray) -> int:
        """0 if every class occurs in as many folds as it has groups, or in all folds."""
        spread = (self._per_fold(fold, self.holds) > 0).sum(axis=0)
        return int(self.penalties[np.arange(len(spread)), spread].sum())

    def cost(self, fold: np.ndarray) -> tuple[int, float]:
        """The penalty, then the squared deviation from equal class proportions."""
        uneven = ((self._per_fold(fold, self.share) - 1 / self.folds) ** 2).sum()
        return self.penalty(fold), float(uneven)

    def rarest_first(self, rng: np.random.Generator) -> np.ndarray:
        """Assign groups with the rarest classes first, each to the fold that lacks its classes."""
        rarest = np.where(self.holds, self.groups_with, self.groups_with.max() + 1).min(axis=1)
        order = np.lexsort((rng.random(len(rarest)), rarest))
        fold = np.zeros(len(rarest), np.int64)
        present = np.zeros((self.folds, len(self.groups_with)), bool)
        share = np.zeros(present.shape)
        for group in order:
            here = self.holds[group]
            gain = ((here & ~present) / self.groups_with).sum(axis=1)
            fold[group] = number = np.lexsort((share @ self.share[group], -gain))[0]
            present[number] |= here
            share[number] += self.share[group]
        return fold

    def repaired(self, fold: np.ndarray) -> np.ndarray:
        """Move one group at a time while that lowers the penalty.

        Each step takes the move with the lowest penalty; of equals the one that keeps the
        proportions best.
        """
        fold = fold.copy()
        columns = np.arange(len(self.groups_with))
        while True:
            inside, share = self._per_fold(fold, self.holds), self._per_fold(fold, self.share)
            spread = (inside > 0).sum(axis=0)
            now = self.penalties[columns, spread]
            able = np.flatnonzero(self.holds[:, now > 0].any(axis=1))
            if not len(able):
                return fold
            holds, q, home = self.holds[able], self.share[able], fold[able]
            leaves = holds & (inside[home] == 1)
            enters = holds[:, None] & (inside == 0)
            moved = spread - leaves[:, None] + enters  # groups × folds × columns
            change = (self.penalties[columns, moved] - now).sum(axis=2)
            change[np.arange(len(able)), home] = 0
            uneven = q @ share.T - (q * share[home]).sum(axis=1)[:, None]
            which = np.lexsort((uneven.ravel(), change.ravel()))[0]
            group, to = np.unravel_index(which, change.shape)
            if change[group, to] >= 0:
                return fold
            fold[able[group]] = to
