"""Differences between two scores, with 95 % intervals from whole pieces of ground."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from outcrop.errors import OutcropError
from outcrop.metrics.intervals import (
    Interval,
    Support,
    interval_of_difference,
    resampled_counts,
    resampled_means,
    support,
)

Judged = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Truth and predictions, int, `N`, and the piece of ground of each patch, `N`, or None."""


def leak_gap(
    random: np.ndarray,
    ground: np.ndarray,
    groups: np.ndarray | None,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Overall accuracy under a split at random minus that under a split by ground.

    The same patches are judged under both, so that the interval is of their differences: ground
    that is hard under both, or has another mix of classes, is in neither. It is a lower bound of
    what a split at random flatters: held-out blocks still lie beside the training side, and new
    ground does not.

    Args:
        random, ground: bool, `N`, whether each patch is right under either split; or float, the
            share of several models that have it right.
        groups: `N`, the piece of ground of each patch, or None when each patch stands for itself.
        draws: number of bootstrap samples.
        seed: of the bootstrap.

    Raises:
        OutcropError: no patches.

    >>> leak_gap(np.array([True, True]), np.array([True, False]), None).value
    0.5
    """
    _refuse_nothing(random)
    gap = np.asarray(random, np.float64) - np.asarray(ground, np.float64)
    drawn = resampled_means(gap[:, None], groups, draws, seed)[:, 0]
    return interval_of_difference(float(gap.mean()), drawn, support(groups, len(gap)))


def unpaired_leak_gap(random: Judged, ground: Judged, draws: int = 2000, seed: int = 0) -> Interval:
    """As `leak_gap`, where a single split at random holds out other patches.

    The interval is that of two independent sets of pieces (Welch's t).

    Args:
        random, ground: truth, predictions and groups of the same model under either split.
        draws: number of bootstrap samples.
        seed: of the bootstraps.

    Raises:
        OutcropError: no patches on one of the sides.
    """
    return _difference(
        _overall(random, draws, seed),
        _overall(ground, draws, seed + 1),
    )


def balanced_gap(
    one: Judged, other: Judged, classes: int, draws: int = 2000, seed: int = 0
) -> Interval:
    """Balanced accuracy on one set of patches minus that on another.

    The interval is that of two independent sets of pieces, as of `unpaired_leak_gap`.

    Args:
        one, other: truth, predictions and groups.
        classes: how many there are.
        draws: number of bootstrap samples.
        seed: of the bootstraps.

    Raises:
        OutcropError: no patches in one of the sets.
    """
    return _difference(
        _balanced(one, classes, draws, seed),
        _balanced(other, classes, draws, seed + 1),
    )


def paired_gain(
    truth: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    groups: np.ndarray | None,
    classes: int,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Balanced accuracy of one model minus that of another, both judged on the same patches.

    In each draw of whole groups both are judged on the same groups, so that ground which is hard
    for both does not widen the interval. How another seed of training would move either model is
    not in it.

    Args:
        truth, one, other: int, `N`: the classes, and what either model said.
        groups: `N`, the piece of ground of each patch, or None.
        classes: how many there are.
        draws: number of bootstrap samples.
        seed: of the bootstrap.

    Raises:
        OutcropError: no patches.

    >>> truth = np.array([0, 0, 1, 1])
    >>> paired_gain(truth, truth, np.array([0, 1, 1, 1]), None, 2).value
    0.25
    """
    right = [np.asarray(said) == np.asarray(truth) for said in (one, other)]
    counts = _counts(truth, right, groups, classes, draws, seed)
    everything = counts.sum(axis=2)
    # In cell 1 only the first model is right, in cell 2 only the other; cell 3 cancels out.
    gain = mean_recall(counts[:, :, 1], everything) - mean_recall(counts[:, :, 2], everything)
    return interval_of_difference(float(gain[0]), gain[1:], _by_class(truth, groups))


def mean_recall(right: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Balanced accuracy: the mean over the classes that are there of the share that is right.

    Args:
        right: float, `draws × K`, patches of each class that are right.
        everything: float, `draws × K`, patches of each class.
    """
    share = np.divide(right, everything, out=np.zeros(right.shape), where=everything > 0)
    return np.asarray(share.sum(axis=1) / (everything > 0).sum(axis=1))


_Measured = tuple[float, np.ndarray, Support]
"""A score, its draws, and what it stands on."""


def _overall(judged: Judged, draws: int, seed: int) -> _Measured:
    truth, predicted, groups = judged
    _refuse_nothing(truth)
    right = (np.asarray(truth) == np.asarray(predicted)).astype(np.float64)
    drawn = resampled_means(right[:, None], groups, draws, seed)[:, 0]
    return float(right.mean()), drawn, support(groups, len(right))


def _balanced(judged: Judged, classes: int, draws: int, seed: int) -> _Measured:
    truth, predicted, groups = judged
    right = np.asarray(truth) == np.asarray(predicted)
    counts = _counts(truth, [right], groups, classes, draws, seed)
    found = mean_recall(counts[:, :, 1], counts.sum(axis=2))
    return float(found[0]), found[1:], _by_class(truth, groups)


def _difference(one: _Measured, other: _Measured) -> Interval:
    """The one minus the other, on independent pieces: t with the freedom of Welch (1947)."""
    value, standing = one[0] - other[0], (one[2], other[2])
    if min(each.pieces for each in standing) < 2:
        return Interval(value, np.nan, np.nan)
    parts = [drawn.var(ddof=1) * each.pieces / (each.pieces - 1) for _, drawn, each in (one, other)]
    if not sum(parts):
        fewest = min(standing, key=lambda each: each.effective)
        return interval_of_difference(value, np.full(2, value), fewest)
    freedom = sum(parts) ** 2 / sum(
        part**2 / each.freedom for part, each in zip(parts, standing, strict=True)
    )
    half = student.ppf(0.975, freedom) * np.sqrt(sum(parts))
    low, high = np.clip((value - half, value + half), -1, 1)
    return Interval(value, float(low), float(high))


def _by_class(truth: np.ndarray, groups: np.ndarray | None) -> Support:
    """What a score stands on in which each class weighs the same."""
    truth = np.asarray(truth)
    return support(groups, len(truth), 1 / np.bincount(truth)[truth])


def _counts(
    truth: np.ndarray,
    right: list[np.ndarray],
    groups: np.ndarray | None,
    classes: int,
    draws: int,
    seed: int,
) -> np.ndarray:
    """Patches by class and by which models are right: as they are, then in each draw."""
    _refuse_nothing(truth)
    kinds = 2 ** len(right)
    cells = np.asarray(truth) * kinds + sum(
        mask.astype(np.int64) << bit for bit, mask in enumerate(right)
    )
    size = classes * kinds
    drawn = resampled_counts(cells, size, groups, draws, seed)
    found = np.bincount(cells, minlength=size)
    return np.concatenate([found[None], drawn]).reshape(draws + 1, classes, kinds)


def _refuse_nothing(patches: np.ndarray) -> None:
    if not len(patches):
        raise OutcropError("scores", "no patches to judge on; take smaller blocks or buffer")
