"""Confidence intervals that know that patches of one piece of ground are not independent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.stats import beta
from scipy.stats import t as student

from outcrop.metrics.significance import effective_groups

FEW_GROUPS = 5
_CHUNK_WEIGHTS = 1 << 23
_TAIL = 0.025
# Draws that differ by no more are equal, but for the rounding of their sums.
_SAME = 1e-12


@dataclass(frozen=True)
class Interval:
    """A fraction, 0 to 1, with the ends of its 95 % confidence interval.

    `value` is NaN where the score is undefined. `low` and `high` are NaN where there is no
    telling how far chance moved it, as with a single piece of ground.

    >>> print(Interval(0.812, 0.779, 0.8412))
    81.2 % [77.9, 84.1]
    >>> print(Interval(0.812, float("nan"), float("nan")))
    81.2 % [unknown]
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Plain data for `outcrop.files.write_json`; what is NaN becomes None."""
        return {end: None if np.isnan(x) else x for end, x in vars(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, float | None]) -> Interval:
        """The interval that `to_json` gave."""
        return cls(**{end: np.nan if x is None else x for end, x in content.items()})

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "undefined"
        if np.isnan(self.low):
            return f"{self.value * 100:.1f} % [unknown]"
        return f"{self.value * 100:.1f} % [{self.low * 100:.1f}, {self.high * 100:.1f}]"


@dataclass(frozen=True)
class Support:
    """What a score stands on.

    Attributes:
        samples: patches, or pixels, that it is computed from.
        pieces: independent pieces of ground that they lie on.
        effective: how many pieces of one weight would say as much (`effective_groups`).
    """

    samples: float
    pieces: int
    effective: float

    @classmethod
    def of(cls, weights: np.ndarray, samples: float | None = None) -> Support:
        """Of pieces of ground.

        Args:
            weights: float, `G`, how much each piece weighs in the score; what weighs nothing is
                left out.
            samples: how many patches or pixels they have; the sum of the weights if None.
        """
        there = weights[weights > 0]
        return cls(
            float(there.sum() if samples is None else samples),
            len(there),
            effective_groups(there) if len(there) else 0.0,
        )

    @property
    def freedom(self) -> float:
        """Degrees of freedom of a variance between the pieces."""
        return max(self.effective - 1, 1.0)


def support(groups: np.ndarray | None, patches: int, weights: np.ndarray | None = None) -> Support:
    """What a score of patches stands on.

    Args:
        groups: `N`, the piece of ground of each patch; None when each patch stands for itself.
        patches: N.
        weights: float, `N`, how much each patch weighs; the same if None.
    """
    each = np.ones(patches) if weights is None else weights
    if groups is None:
        return Support.of(each, patches)
    return Support.of(np.bincount(np.unique(groups, return_inverse=True)[1], each), patches)


def supports(cells: np.ndarray, size: int, groups: np.ndarray | None) -> list[Support]:
    """What a score of the patches of each cell stands on.

    Args:
        cells: int, `N`, the cell of each patch, 0 to `size - 1`.
        groups: as of `support`.
    """
    return [support_where(cells == k, groups) for k in range(size)]


def support_where(chosen: np.ndarray, groups: np.ndarray | None) -> Support:
    """What a score of some of the patches stands on.

    Args:
        chosen: bool, `N`.
        groups: as of `support`.
    """
    return support(None if groups is None else groups[chosen], int(chosen.sum()))


def interval_of_share(value: float, draws: np.ndarray, support: Support) -> Interval:
    """The 95 % interval of a share, such as an accuracy, recall or precision, from a bootstrap.

    The variance over the draws, times G / (G - 1) for G pieces of ground, says how many independent
    patches would be as uncertain; that number is lowered by Student's t, with one degree of freedom
    less than the effective number of pieces, and gives the interval of Clopper and Pearson. For a
    share on which all pieces agree see `interval_without_variance`. Unknown on one piece.
    `benchmarks/coverage.py` has how often it holds the truth.

    Sources: Korn and Graubard (1998), Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data, Survey Methodology 24, 193-201; Kish
    (1965), Survey Sampling, section 11.7, for unequal pieces.

    Args:
        value: 0 to 1; NaN where it is undefined.
        draws: of the bootstrap of whole pieces; NaN, where it is undefined, is left out.
        support: what the share stands on.
    """
    variance = _variance(draws, support)
    if np.isnan(value) or np.isnan(variance):
        return Interval(float(value), np.nan, np.nan)
    if variance == 0 or not 0 < value < 1:
        return interval_without_variance(value, support.effective, (0, 1))
    trials = min(value * (1 - value) / variance, support.samples)
    wider = student.ppf(_TAIL, support.freedom) / student.ppf(_TAIL, support.samples - 1)
    trials /= max(float(wider), 1.0) ** 2
    right, wrong = value * trials, (1 - value) * trials
    low, high = beta.ppf(_TAIL, right, wrong + 1), beta.isf(_TAIL, right + 1, wrong)
    return Interval(float(value), float(low), float(high))


def interval_of_difference(
    value: float,
    draws: np.ndarray,
    support: Support,
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> Interval:
    """The 95 % interval of a difference of shares, or of a mean, from a bootstrap.

    Student's t with the variance over the draws, times G / (G - 1), and one degree of freedom less
    than the effective number of pieces. Without variance, as where two models agree everywhere, see
    `interval_without_variance`.

    Args:
        value: NaN where it is undefined.
        draws, support: as of `interval_of_share`.
        bounds: what it cannot go beyond.
    """
    variance = _variance(draws, support)
    if np.isnan(value) or np.isnan(variance):
        return Interval(float(value), np.nan, np.nan)
    if variance == 0:
        return interval_without_variance(value, support.effective, bounds)
    half = -student.ppf(_TAIL, support.freedom) * np.sqrt(variance)
    low, high = np.clip((value - half, value + half), *bounds)
    return Interval(float(value), float(low), float(high))


def interval_without_variance(
    value: float, effective: float, bounds: tuple[float, float]
) -> Interval:
    """The 95 % interval of what n independent trials agree on.

    That none of them differs bounds the share of all that do: to either side lies the bound of
    Clopper and Pearson for 0 of n, which for a share of 0 or 1 is their two-sided interval.

    Source: Clopper and Pearson (1934), Biometrika 26, 404-413.

    Args:
        effective: n; the effective number of pieces of ground, or of points.
        bounds: what it cannot go beyond.

    >>> print(interval_without_variance(1.0, 20, (0, 1)))
    100.0 % [83.2, 100.0]
    """
    half = 1 - _TAIL ** (1 / effective)
    low, high = np.clip((value - half, value + half), *bounds)
    return Interval(float(value), float(low), float(high))


def _variance(draws: np.ndarray, support: Support) -> float:
    """Of a score over the draws of whole pieces; NaN where it is unknown."""
    defined = draws[~np.isnan(draws)]
    if support.pieces < 2 or len(defined) < 2:
        return np.nan
    if np.ptp(defined) < _SAME:
        return 0.0
    return float(defined.var(ddof=1)) * support.pieces / (support.pieces - 1)


def resampled_counts(
    cells: np.ndarray, size: int, groups: np.ndarray | None, draws: int, seed: int
) -> np.ndarray:
    """How many patches fall into each cell when whole groups are drawn anew, with replacement.

    This is the cluster bootstrap. Its variance is that of G groups taken as all there are, and so
    too small by (G - 1) / G; `interval_of_share` and `interval_of_difference` correct it.

    Source: Field and Welsh (2007), Bootstrapping clustered data, Journal of the Royal
    Statistical Society B 69, 369-390.

    Args:
        cells: int, `N`, the cell of each patch, 0 to `size - 1`.
        size: number of cells.
        groups: `N`, the group of each patch, or None when each patch stands for itself.
        draws: number of bootstrap samples.
        seed: of the random numbers.

    Returns:
        float64, `draws × size`.
    """
    return resampled_rows(*_kinds(cells, size, groups), draws, seed)


def resampled_rows(
    rows: np.ndarray | sparse.csr_array, multiplicity: np.ndarray | None, draws: int, seed: int
) -> np.ndarray:
    """The sums of the rows of a table when whole rows are drawn anew, with replacement.

    Args:
        rows: `G × size`, what each group counts in each cell.
        multiplicity: int, `G`, how many groups a row stands for; None is one each.
        draws: number of bootstrap samples, each of as many groups as there are.
        seed: of the random numbers.

    Returns:
        float64, `draws × size`.
    """
    if multiplicity is None:
        multiplicity = np.ones(rows.shape[0], dtype=np.int64)
    total = multiplicity.sum()
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK_WEIGHTS // len(multiplicity))
    counts = np.empty((draws, rows.shape[1]))
    for start in range(0, draws, step):
        weights = random.multinomial(
            total, multiplicity / total, size=min(step, draws - start)
        ).astype(np.float64)
        counts[start : start + step] = (rows.T @ weights.T).T
    return counts


def resampled_means(
    values: np.ndarray, groups: np.ndarray | None, draws: int, seed: int
) -> np.ndarray:
    """Means over patches when whole groups are drawn anew, with replacement.

    Args:
        values: float, `N × size`, of each patch.
        groups: `N`, the group of each patch, or None when each patch stands for itself.
        draws: number of bootstrap samples.
        seed: of the random numbers.

    Returns:
        float64, `draws × size`.
    """
    rows = np.column_stack((values, np.ones(len(values))))
    if groups is not None:
        names, group = np.unique(groups, return_inverse=True)
        member = sparse.coo_array(
            (np.ones(len(group)), (group, np.arange(len(group)))), shape=(len(names), len(group))
        )
        rows = member.tocsr() @ rows
    sums = resampled_rows(rows, None, draws, seed)
    return sums[:, :-1] / sums[:, -1:]


def number_of_groups(groups: np.ndarray | None, patches: int) -> int:
    """How many independent pieces of ground there are."""
    return patches if groups is None else len(np.unique(groups))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Shares; NaN of nothing."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _kinds(
    cells: np.ndarray, size: int, groups: np.ndarray | None
) -> tuple[sparse.csr_array, np.ndarray]:
    # Groups of one patch differ only in its cell. Drawing from the cells, each as often as it
    # occurs, is the same bootstrap and needs no table of N rows.
    if groups is not None:
        names, group = np.unique(groups, return_inverse=True)
        if len(names) < len(cells):
            table = sparse.coo_array(
                (np.ones(len(cells)), (group, cells)), shape=(len(names), size)
            )
            return table.tocsr(), np.ones(len(names), dtype=np.int64)
    return sparse.eye_array(size, format="csr"), np.bincount(cells, minlength=size)
