"""Calibration: confidence compared with accuracy, and temperature scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.metrics.intervals import (
    DRAWS,
    Interval,
    check_any,
    interval_of_difference,
    intervals_of_shares,
    number_of_groups,
    ratio,
    resampled_counts,
    support,
    supports,
)

_COLDEST, _HOTTEST = 0.05, 20.0
# The smallest normal number of float32, the dtype of networks.
_SMALLEST = float(np.finfo(np.float32).tiny)


def fit_temperature(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature T with the greatest likelihood of p^(1/T), normalised to sum 1.

    T above 1: the probabilities are overconfident; below 1: underconfident. The mean negative
    log-likelihood is convex in 1/T and has one minimum, which is searched between 0.05 and 20.
    Without patches or without errors the likelihood grows without limit as T falls, and T is 1.

    Source: Guo et al. 2017 (arXiv:1706.04599), section 4.2, eq. 9, with the logarithms of the
    probabilities as logits, from which they differ by a constant for each patch.

    Args:
        truth: int, `N`.
        probabilities: float, `N × K`; rows sum to 1. A probability of 0, such as the share of
            votes of a forest, is not known better than its resolution: it counts as half the
            smallest probability above 0. Otherwise one error with probability 0 would decide.

    >>> sure = np.array([[0.99, 0.01], [0.99, 0.01], [0.01, 0.99], [0.99, 0.01]])
    >>> T = fit_temperature(np.array([0, 0, 1, 1]), sure)  # right in three cases of four
    >>> tempered(sure, T)[0].round(3)
    array([0.75, 0.25])
    """
    from scipy.optimize import minimize_scalar

    truth = np.asarray(truth)
    if (probabilities.argmax(axis=1) == truth).all():
        return 1.0
    logarithms = _logarithms(_without_zeros(probabilities))
    # Only differences from the true class matter.
    logarithms = logarithms - logarithms[np.arange(len(truth)), truth][:, None]

    def loss(coldness: float) -> float:
        return float(np.logaddexp.reduce(coldness * logarithms, axis=1).mean())

    found = minimize_scalar(
        loss, bounds=(1 / _HOTTEST, 1 / _COLDEST), method="bounded", options={"xatol": 1e-7}
    )
    return float(1 / found.x)


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T), normalised to sum 1: `N × K` of the same dtype. The predicted classes stay."""
    if temperature == 1:
        return probabilities
    logarithms = _logarithms(probabilities) / temperature
    logarithms -= np.logaddexp.reduce(logarithms, axis=1, keepdims=True)
    return np.exp(logarithms).astype(probabilities.dtype)


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in bins of equal width of the confidence, from 0 to 1.

    The confidence of a patch is the probability of its predicted class.

    Attributes:
        confidence: float64, `B`, mean confidence of each bin; NaN for an empty bin.
        accuracy: float64, `B`, accuracy of each bin.
        counts: int64, `B`, number of patches in each bin.
        error: expected calibration error: mean distance between confidence and accuracy over the
            patches. Chance increases it, the more the fewer patches there are.
        excess: mean confidence minus accuracy; above 0 the model is overconfident.
    """

    confidence: np.ndarray
    accuracy: tuple[Interval, ...]
    counts: np.ndarray
    error: float
    excess: Interval


def reliability(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = 15, groups: np.ndarray | None = None
) -> Reliability:
    """Compare confidence with accuracy, with 95 % intervals from whole groups.

    The error has no interval: in bootstrap samples, distances only become larger.

    Source: Guo et al. 2017 (arXiv:1706.04599), eqs. 1 to 3; bin m holds the confidences from
    (m - 1)/B, left out, to m/B.

    Args:
        truth, probabilities, groups: as in `calibrate`.
        bins: number of bins B.

    Raises:
        OutcropError: no patches.

    >>> found = reliability(
    ...     np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]), bins=5
    ... )
    >>> found.counts
    array([0, 0, 1, 1, 1])
    >>> print(f"{found.error:.3f} {found.excess.value:+.3f}")  # 0.1, 0.8 and 0.4 away; 2.3 - 2
    0.433 +0.100
    """
    check_any(truth, "calibration")
    certain = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == truth).astype(np.int64)
    index = np.clip(np.ceil(certain * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    mean = ratio(np.bincount(index, certain, bins), counts)
    cells = resampled_counts(2 * index + right, 2 * bins, groups).reshape(DRAWS, bins, 2)
    drawn, drawn_right = cells.sum(axis=2), cells[:, :, 1]
    accuracy = ratio(np.bincount(index, right, bins), counts)
    surplus = (drawn * np.nan_to_num(mean) - drawn_right).sum(axis=1) / drawn.sum(axis=1)
    return Reliability(
        confidence=mean,
        accuracy=intervals_of_shares(
            accuracy, ratio(drawn_right, drawn), supports(index, bins, groups)
        ),
        counts=counts,
        error=float(np.nansum(counts * np.abs(accuracy - mean)) / len(truth)),
        excess=interval_of_difference(
            float(certain.mean() - right.mean()), surplus, support(groups, len(truth))
        ),
    )


@dataclass(frozen=True)
class Calibration:
    """The effect of a temperature on the confidence of a model.

    Attributes:
        temperature: result of `temperature_that_holds`.
        before: reliability of the probabilities of the model.
        after: reliability at a temperature that was fitted on other spatial blocks; None if all
            patches lie in one block.
    """

    temperature: float
    before: Reliability
    after: Reliability | None


def calibrate(
    truth: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None = None, folds: int = 5
) -> Calibration:
    """Fit a temperature and evaluate it by cross-validation over spatial blocks.

    On the patches that it was fitted on, a temperature looks too good. Therefore each fold is
    evaluated at the temperature of the other folds.

    Args:
        truth: int, `N`.
        probabilities: float, `N × K`; rows sum to 1.
        groups: `N`, spatial block of each patch; None: patches are independent.
        folds: number of folds, or of blocks if these are fewer.

    Raises:
        OutcropError: no patches.
    """
    after = _fitted_elsewhere(truth, probabilities, groups, folds)
    return Calibration(
        temperature=temperature_that_holds(truth, probabilities, groups, folds),
        before=reliability(truth, probabilities, groups=groups),
        after=None if after is None else reliability(truth, after, groups=groups),
    )


def temperature_that_holds(
    truth: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None = None, folds: int = 5
) -> float:
    """The fitted temperature, or 1 if it does not transfer between spatial blocks.

    It does not transfer if the truth is less likely at the temperature of the other folds than
    without a temperature. In a single block this cannot be tested, and the fitted one is returned.

    Args:
        truth, probabilities, groups, folds: as in `calibrate`; N may be 0.
    """
    probabilities = _without_zeros(probabilities)
    elsewhere = _fitted_elsewhere(truth, probabilities, groups, folds)
    if elsewhere is not None and _loss(truth, elsewhere) > _loss(truth, probabilities):
        return 1.0
    return fit_temperature(truth, probabilities)


def _fitted_elsewhere(
    truth: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None, folds: int
) -> np.ndarray | None:
    """Probabilities at the temperature of the other blocks; None with a single block."""
    from sklearn.model_selection import GroupKFold

    pieces = np.arange(len(truth)) if groups is None else groups
    folds = min(folds, number_of_groups(pieces, len(truth)))
    if folds < 2:
        return None
    found = np.empty_like(probabilities)
    for fitted, judged in GroupKFold(folds).split(truth, groups=pieces):
        temperature = fit_temperature(truth[fitted], probabilities[fitted])
        found[judged] = tempered(probabilities[judged], temperature)
    return found


def _loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log-likelihood."""
    return float(-_logarithms(probabilities)[np.arange(len(truth)), truth].mean())


def _without_zeros(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities of 0 replaced by half the smallest one above 0."""
    zero = probabilities == 0
    if not zero.any() or zero.all():
        return probabilities
    return np.where(zero, probabilities[~zero].min() / 2, probabilities)


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
