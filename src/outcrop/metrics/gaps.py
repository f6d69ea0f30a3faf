"""Differences between two scores, with 95 % intervals from whole spatial blocks."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from outcrop.metrics.intervals import (
    DRAWS,
    Interval,
    Support,
    check_any,
    interval_of_difference,
    resampled_counts,
    resampled_means,
    support,
)

Judged = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Truth and predictions, int, `N`, and the spatial group of each patch, `N`, or None."""


def leak_gap(
    random: np.ndarray,
    spatial: np.ndarray,
    groups: np.ndarray | None,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """The leak gap: overall accuracy under a random split minus that under a spatial split.

    Both splits are evaluated on the same patches, so that blocks that are hard under both do not
    widen the interval. The gap is a lower bound of the optimism of a random split: held-out blocks
    lie beside the training side, and a new area does not.

    Args:
        random, spatial: bool, `N`, whether each patch is predicted correctly under the random and
            the spatial split; or float, the share of several models that predict it correctly.
        groups, draws, seed: as in `outcrop.metrics.intervals.resampled_counts`.

    Raises:
        OutcropError: no patches.

    >>> leak_gap(np.array([True, True]), np.array([True, False]), None).value
    0.5
    """
    check_any(random)
    gap = np.asarray(random, np.float64) - np.asarray(spatial, np.float64)
    drawn = resampled_means(gap[:, None], groups, draws, seed)[:, 0]
    return interval_of_difference(float(gap.mean()), drawn, support(groups, len(gap)))


def unpaired_leak_gap(random: Judged, spatial: Judged) -> Interval:
    """As `leak_gap`, for a random split that holds out other patches than the spatial split.

    The interval is that of two independent sets of blocks (Welch's t).

    Args:
        random, spatial: truth, predictions and groups of the same model under the two splits.

    Raises:
        OutcropError: no patches on one of the sides.
    """
    return _difference(_overall(random, seed=0), _overall(spatial, seed=1))


def balanced_gap(one: Judged, other: Judged, classes: int) -> Interval:
    """Balanced accuracy on one set of patches minus that on another.

    The interval is that of two independent sets of blocks, as in `unpaired_leak_gap`.

    Args:
        one, other: truth, predictions and groups.
        classes: number of classes.

    Raises:
        OutcropError: no patches in one of the sets.
    """
    return _difference(_balanced(one, classes, seed=0), _balanced(other, classes, seed=1))


def paired_gain(
    truth: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    groups: np.ndarray | None,
    classes: int,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Balanced accuracy of one model minus that of another on the same patches.

    Both are evaluated on the same groups in each bootstrap sample, so that blocks that are hard for
    both do not widen the interval. The interval does not include the effect of the random seed of
    training.

    Args:
        truth, one, other: int, `N`: true classes, and the predictions of the two models.
        classes: number of classes.
        groups, draws, seed: as in `outcrop.metrics.intervals.resampled_counts`.

    Raises:
        OutcropError: no patches.

    >>> truth = np.array([0, 0, 1, 1])
    >>> paired_gain(truth, truth, np.array([0, 1, 1, 1]), None, 2).value
    0.25
    """
    right = [np.asarray(predicted) == np.asarray(truth) for predicted in (one, other)]
    counts = _counts(truth, right, groups, classes, draws, seed)
    everything = counts.sum(axis=2)
    # In cell 1 only the first model is right, in cell 2 only the other; cell 3 cancels out.
    gain = mean_recall(counts[:, :, 1], everything) - mean_recall(counts[:, :, 2], everything)
    return interval_of_difference(float(gain[0]), gain[1:], _by_class(truth, groups))


def mean_recall(right: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Balanced accuracy: mean recall over the classes in the truth.

    Args:
        right: float, `draws × K`, number of correctly predicted patches of each class.
        everything: float, `draws × K`, number of patches of each class.
    """
    share = np.divide(right, everything, out=np.zeros(right.shape), where=everything > 0)
    return np.asarray(share.sum(axis=1) / (everything > 0).sum(axis=1))


_Measured = tuple[float, np.ndarray, Support]
"""A score, its draws, and what it stands on."""


def _overall(judged: Judged, seed: int) -> _Measured:
    truth, predicted, groups = judged
    check_any(truth)
    right = (np.asarray(truth) == np.asarray(predicted)).astype(np.float64)
    drawn = resampled_means(right[:, None], groups, seed=seed)[:, 0]
    return float(right.mean()), drawn, support(groups, len(right))


def _balanced(judged: Judged, classes: int, seed: int) -> _Measured:
    truth, predicted, groups = judged
    right = np.asarray(truth) == np.asarray(predicted)
    counts = _counts(truth, [right], groups, classes, DRAWS, seed)
    found = mean_recall(counts[:, :, 1], counts.sum(axis=2))
    return float(found[0]), found[1:], _by_class(truth, groups)


def _difference(one: _Measured, other: _Measured) -> Interval:
    """Difference on independent blocks: t with the degrees of freedom of Welch (1947)."""
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
    """The sample size of a score in which all classes have the same weight."""
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
    """Counts of patches by class and by which models are right, then the same in each draw."""
    check_any(truth)
    kinds = 2 ** len(right)
    cells = np.asarray(truth) * kinds + sum(
        mask.astype(np.int64) << bit for bit, mask in enumerate(right)
    )
    size = classes * kinds
    drawn = resampled_counts(cells, size, groups, draws, seed)
    found = np.bincount(cells, minlength=size)
    return np.concatenate([found[None], drawn]).reshape(draws + 1, classes, kinds)
