"""Differences between two scores, with intervals, where each class counts the same."""

from __future__ import annotations

import numpy as np

from outcrop.errors import OutcropError
from outcrop.evaluation.intervals import Interval, number_of_groups, resampled_counts, supported
from outcrop.evaluation.scores import Judged


def balanced_gap(
    one: Judged, other: Judged, classes: int, draws: int = 2000, seed: int = 0
) -> Interval:
    """Balanced accuracy on one set of patches minus that on another.

    The interval is that of two independent bootstraps of whole groups, as in `leak_gap`; it is
    unknown when either set stands on a single group.

    Args:
        one, other: truth, predicted and groups (or None), as for `score`.
        classes: how many there are.
        draws: number of bootstrap samples.
        seed: of the bootstraps.

    Raises:
        OutcropError: no patches in one of the sets.
    """
    values, drawn, groups = [], [], []
    for stream, (truth, predicted, pieces) in enumerate((one, other)):
        right = np.asarray(truth) == np.asarray(predicted)
        counts = _counts(truth, [right], pieces, classes, draws, seed + stream)
        found = mean_recall(counts[:, :, 1], counts.sum(axis=2))
        values.append(found[0])
        drawn.append(found[1:])
        groups.append(number_of_groups(pieces, len(truth)))
    return supported(values[0] - values[1], drawn[0] - drawn[1], min(groups))


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
    return supported(gain[0], gain[1:], number_of_groups(groups, len(truth)))


def mean_recall(right: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Balanced accuracy: the mean over the classes that are there of the share that is right.

    Args:
        right: float, `draws × K`, patches of each class that are right.
        everything: float, `draws × K`, patches of each class.
    """
    share = np.divide(right, everything, out=np.zeros(right.shape), where=everything > 0)
    return np.asarray(share.sum(axis=1) / (everything > 0).sum(axis=1))


def _counts(
    truth: np.ndarray,
    right: list[np.ndarray],
    groups: np.ndarray | None,
    classes: int,
    draws: int,
    seed: int,
) -> np.ndarray:
    """Patches by class and by which models are right: as they are, then in each draw."""
    if not len(truth):
        raise OutcropError("scores", "no patches to judge on; take smaller blocks or buffer")
    kinds = 2 ** len(right)
    cells = np.asarray(truth) * kinds + sum(
        mask.astype(np.int64) << bit for bit, mask in enumerate(right)
    )
    size = classes * kinds
    drawn = resampled_counts(cells, size, groups, draws, seed)
    found = np.bincount(cells, minlength=size)
    return np.concatenate([found[None], drawn]).reshape(draws + 1, classes, kinds)
