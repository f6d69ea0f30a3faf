"""Tests of differences, and what is made of several of them."""

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
        only_one, only_other: patches that only the one model, or only the other, has right.
        p: two-sided.
        adjusted: `p` after Holm's correction.
    """

    only_one: int
    only_other: int
    p: float
    adjusted: float = np.nan


def mcnemar(one: np.ndarray, other: np.ndarray) -> McNemar:
    """McNemar's test of whether two models have the same share of patches right.

    Below 25 patches that only one of the two has right the binomial distribution, exactly; from
    there on chi-square with the correction for continuity. It takes patches as independent, which
    patches of one piece of ground are not: on ground its p is too small.

    Sources: McNemar (1947), Psychometrika 12, 153-157; Edwards (1948), Psychometrika 13, 185-187
    (continuity).

    Args:
        one, other: bool, `N`, which patches either has right.

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
        # Of a tie nothing is left to take the half from on either side.
        p = chi2.sf(max(abs(only_one - only_other) - 1, 0) ** 2 / discordant, 1)
    return McNemar(only_one, only_other, float(p))


def written(p: float) -> str:
    """A p as one writes it.

    >>> written(0.0004), written(0.0421), written(0.34), written(float("nan"))
    ('<0.001', '0.042', '0.34', 'unknown')
    """
    if np.isnan(p):
        return "unknown"
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's correction of the p of several tests, so that 5 % holds for all of them together.

    Source: Holm (1979), Scandinavian Journal of Statistics 6, 65-70.

    Args:
        p: 0 to 1; NaN where it is unknown, which counts for no test.

    Returns:
        float64, in the same order; NaN stays.

    >>> holm([0.01, 0.04, 0.03, 0.005]).round(3)
    array([0.03, 0.06, 0.06, 0.02])
    """
    adjusted = np.array(p, dtype=np.float64)
    order = np.argsort(adjusted)[: int((~np.isnan(adjusted)).sum())]
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def effective_groups(weights: np.ndarray) -> float:
    """How many groups of one weight would tell as much as groups of these weights.

    Source: Kish (1965), Survey Sampling, section 11.7.

    Args:
        weights: float, `G`, zero or more.

    >>> effective_groups(np.ones(20)), effective_groups(np.array([3.0, 1, 1, 1]))
    (20.0, 3.0)
    """
    weights = np.asarray(weights, dtype=np.float64)
    return float(weights.sum() ** 2 / (weights**2).sum())
