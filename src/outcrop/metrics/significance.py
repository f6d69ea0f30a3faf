"""McNemar's test, Holm's correction, effective number of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, chi2

_FEW_DISCORDANT = 25


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two models on the same patches.

    Attributes:
        only_one, only_other: number of patches that only one of the models predicts correctly.
        p: two-sided p-value.
        adjusted: `p` after Holm's correction.
    """

    only_one: int
    only_other: int
    p: float
    adjusted: float = np.nan


def mcnemar(one: np.ndarray, other: np.ndarray) -> McNemar:
    """McNemar's test of whether two models have the same accuracy.

    With less than 25 patches that exactly one model predicts correctly: the exact binomial test;
    otherwise chi-square with continuity correction. The test treats patches as independent. Patches
    of one spatial block are not, and then its p is too small.

    Sources: McNemar (1947), Psychometrika 12, 153-157; Edwards (1948), Psychometrika 13, 185-187
    (continuity).

    Args:
        one, other: bool, `N`, whether each model predicts a patch correctly.

    >>> mcnemar(np.array([True] * 6), np.array([False] * 6))
    McNemar(only_one=6, only_other=0, p=0.03125, adjusted=nan)
    """
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    discordant = only_one + only_other
    if discordant == 0:
        p = 1.0
    elif discordant < _FEW_DISCORDANT:
        p = binomtest(only_one, discordant).pvalue
    else:
        # The correction must not exceed the difference.
        p = chi2.sf(max(abs(only_one - only_other) - 1, 0) ** 2 / discordant, 1)
    return McNemar(only_one, only_other, float(p))


def written(p: float) -> str:
    """A p-value as text.

    >>> written(0.0004), written(0.0421), written(0.34), written(float("nan"))
    ('<0.001', '0.042', '0.34', 'unknown')
    """
    if np.isnan(p):
        return "unknown"
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's correction of several p-values, for a family-wise error rate.

    Source: Holm (1979), Scandinavian Journal of Statistics 6, 65-70.

    Args:
        p: p-values, 0 to 1; NaN (unknown) does not count as a test.

    Returns:
        float64, in the same order, with NaN for NaN.

    >>> holm([0.01, 0.04, 0.03, 0.005]).round(3)
    array([0.03, 0.06, 0.06, 0.02])
    """
    adjusted = np.array(p, dtype=np.float64)
    order = np.argsort(adjusted)[: int((~np.isnan(adjusted)).sum())]
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def effective_groups(weights: np.ndarray) -> float:
    """The effective number of groups with unequal weights.

    Source: Kish (1965), Survey Sampling, section 11.7.

    Args:
        weights: float, `G`, non-negative.

    >>> effective_groups(np.ones(20)), effective_groups(np.array([3.0, 1, 1, 1]))
    (20.0, 3.0)
    """
    weights = np.asarray(weights, dtype=np.float64)
    return float(weights.sum() ** 2 / (weights**2).sum())
