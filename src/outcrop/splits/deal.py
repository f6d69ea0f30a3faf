"""Deals pieces of ground to folds so that each class stands in as many folds as it can."""

from __future__ import annotations

import warnings

import numpy as np

_RESTARTS = 60
_DEALT_ANEW = 20_000  # pieces, in all restarts together


def deal(labels: np.ndarray, pieces: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each piece of ground.

    `sklearn.model_selection.StratifiedGroupKFold` keeps the classes in proportion but may put all
    pieces of a rare class into one fold, where it is then judged without having been trained. Such
    folds are repaired: single pieces are moved, and if that does not suffice the pieces are dealt
    anew, those with the rarest classes first. What counts, in this order: no fold is empty; each
    class on two pieces or more stands in at least two folds; the classes stand in as many folds as
    possible; their patches are in proportion.

    Args:
        labels: int, `N`, the class of each patch.
        pieces: int, `N`, the piece of each patch, 0 to G - 1; each has a patch.
        folds: how many; at most G.
        seed: random seed.

    Returns:
        int64, `G`, 0 to `folds` - 1.
    """
    table = _Table(labels, pieces, folds)
    rng = np.random.default_rng(seed)
    first = _stratified(labels, pieces, folds, seed)
    best = table.repaired(table.dealt(rng) if first is None else first)
    for again in range(min(_RESTARTS, _DEALT_ANEW // len(best))):
        if table.penalty(best) == 0:
            break
        # Dealing the rarest first is good but always alike; any deal at all is now and then better.
        other = rng.integers(folds, size=len(best)) if again % 2 else table.dealt(rng)
        best = min(best, table.repaired(other), key=table.worth)
    return best


def _stratified(labels: np.ndarray, pieces: np.ndarray, folds: int, seed: int) -> np.ndarray | None:
    """What scikit-learn deals; None where every class has fewer patches than there are folds."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold = np.zeros(pieces.max() + 1, np.int64)
    with warnings.catch_warnings():
        # Classes in fewer pieces than folds: the notes of `Folds` name them.
        warnings.simplefilter("ignore", UserWarning)
        try:
            for number, (_, held) in enumerate(splitter.split(labels, labels, pieces)):
                fold[pieces[held]] = number
        except ValueError:
            return None
    return fold


class _Table:
    """What each piece holds, and what a deal of the pieces is worth.

    A last column stands for all classes together: it is in every piece, so that a deal that leaves
    a fold empty is worth less than any other.
    """

    def __init__(self, labels: np.ndarray, pieces: np.ndarray, folds: int) -> None:
        size, classes = int(pieces.max()) + 1, int(labels.max()) + 1
        counts = np.bincount(pieces * classes + labels, minlength=size * classes)
        counts = counts.reshape(size, classes)
        counts = np.column_stack([counts[:, counts.any(axis=0)], counts.sum(axis=1)])
        self.folds = folds
        self.holds = counts > 0
        self.share = counts / counts.sum(axis=0)
        self.on = self.holds.sum(axis=0)
        # Row by row the penalty of a column that stands in 0, 1, ... folds.
        spread = np.arange(folds + 1)
        missing = np.maximum(np.minimum(self.on, folds)[:, None] - spread, 0)
        heavy = missing.sum() + 1
        self.penalties = missing + heavy * ((self.on >= 2)[:, None] & (spread == 1))
        self.penalties[-1] = missing[-1] * heavy * len(self.on)

    def _inside(self, fold: np.ndarray, what: np.ndarray) -> np.ndarray:
        """The sum of rows of `what` over the pieces of each fold, `folds × columns`."""
        total = np.zeros((self.folds, what.shape[1]), what.dtype if what.dtype != bool else int)
        np.add.at(total, fold, what)
        return total

    def penalty(self, fold: np.ndarray) -> int:
        """0 where every class stands in as many folds as it has pieces, or in all."""
        spread = (self._inside(fold, self.holds) > 0).sum(axis=0)
        return int(self.penalties[np.arange(len(spread)), spread].sum())

    def worth(self, fold: np.ndarray) -> tuple[int, float]:
        """Less is better: the penalty, then how far the classes are from being in proportion."""
        uneven = ((self._inside(fold, self.share) - 1 / self.folds) ** 2).sum()
        return self.penalty(fold), float(uneven)

    def dealt(self, rng: np.random.Generator) -> np.ndarray:
        """A new deal: pieces with the rarest classes first, each to the fold that lacks them."""
        rarest = np.where(self.holds, self.on, self.on.max() + 1).min(axis=1)
        order = np.lexsort((rng.random(len(rarest)), rarest))
        fold = np.zeros(len(rarest), np.int64)
        there = np.zeros((self.folds, len(self.on)), bool)
        share = np.zeros(there.shape)
        for piece in order:
            here = self.holds[piece]
            gain = ((here & ~there) / self.on).sum(axis=1)
            fold[piece] = number = np.lexsort((share @ self.share[piece], -gain))[0]
            there[number] |= here
            share[number] += self.share[piece]
        return fold

    def repaired(self, fold: np.ndarray) -> np.ndarray:
        """Move the piece that helps most, and least disturbs the proportions, until none helps."""
        fold = fold.copy()
        columns = np.arange(len(self.on))
        while True:
            inside, share = self._inside(fold, self.holds), self._inside(fold, self.share)
            spread = (inside > 0).sum(axis=0)
            now = self.penalties[columns, spread]
            able = np.flatnonzero(self.holds[:, now > 0].any(axis=1))
            if not len(able):
                return fold
            holds, q, home = self.holds[able], self.share[able], fold[able]
            left = holds & (inside[home] == 1)
            come = holds[:, None] & (inside == 0)
            moved = spread - left[:, None] + come  # pieces × folds × columns
            change = (self.penalties[columns, moved] - now).sum(axis=2)
            change[np.arange(len(able)), home] = 0
            uneven = q @ share.T - (q * share[home]).sum(axis=1)[:, None]
            which = np.lexsort((uneven.ravel(), change.ravel()))[0]
            piece, to = np.unravel_index(which, change.shape)
            if change[piece, to] >= 0:
                return fold
            fold[able[piece]] = to
