"""Confidence intervals for patches that are dependent within spatial blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.stats import beta
from scipy.stats import t as student

from outcrop.errors import OutcropError
from outcrop.metrics.significance import effective_groups
from outcrop.typed import plain

FEW_GROUPS = 5
DRAWS = 2000
"""Default number of bootstrap samples."""
_CHUNK_WEIGHTS = 1 << 23
_TAIL = 0.025
# Draws that differ by less are equal up to rounding.
_SAME = 1e-12


@dataclass(frozen=True)
class Interval:
    """A fraction, 0 to 1, with its 95 % confidence interval.

    `value` is NaN if the score is undefined. `low` and `high` are NaN if the interval is unknown,
    as with a single spatial block.

    >>> print(Interval(0.812, 0.779, 0.8412))
    81.2 % [77.9, 84.1]
    >>> print(Interval(0.812, float("nan"), float("nan")))
    81.2 % [unknown]
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Plain data for `outcrop.files.write_json`; NaN becomes None."""
        numbers: dict[str, float | None] = plain(vars(self))
        return numbers

    @classmethod
    def from_json(cls, content: Mapping[str, float | None]) -> Interval:
        """The interval from the result of `to_json`."""
        return cls(**{end: np.nan if x is None else x for end, x in content.items()})

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "undefined"
        if np.isnan(self.low):
            return f"{self.value * 100:.1f} % [unknown]"
        return f"{self.value * 100:.1f} % [{self.low * 100:.1f}, {self.high * 100:.1f}]"


@dataclass(frozen=True)
class Support:
    """The sample size of a score.

    Attributes:
        samples: number of patches or pixels.
        pieces: number of independent spatial blocks.
        effective: effective number of blocks, for unequal weights (`effective_groups`).
    """

    samples: float
    pieces: int
    effective: float

    @classmethod
    def of(cls, weights: np.ndarray, samples: float | None = None) -> Support:
        """The sample size from the weights of spatial blocks.

        Args:
            weights: float, `G`, weight of each block in the score; blocks of weight 0 are left out.
            samples: number of patches or pixels; None: the sum of the weights.
        """
        there = weights[weights > 0]
        return cls(
            float(there.sum() if samples is None else samples),
            len(there),
            effective_groups(there) if len(there) else 0.0,
        )

    @property
    def freedom(self) -> float:
        """Degrees of freedom of a variance between blocks."""
        return max(self.effective - 1, 1.0)


def support(groups: np.ndarray | None, patches: int, weights: np.ndarray | None = None) -> Support:
    """The sample size of a score of patches.

    Args:
        groups: `N`, spatial block of each patch; None: patches are independent.
        patches: number of patches N.
        weights: float, `N`, weight of each patch; None: equal weights.
    """
    each = np.ones(patches) if weights is None else weights
    if groups is None:
        return Support.of(each, patches)
    return Support.of(np.bincount(np.unique(groups, return_inverse=True)[1], each), patches)


def supports(cells: np.ndarray, size: int, groups: np.ndarray | None) -> list[Support]:
    """The sample size of a score of the patches of each cell.

    Args:
        cells: int, `N`, cell of each patch, 0 to `size - 1`.
        groups: as in `support`.
    """
    return [support_where(cells == k, groups) for k in range(size)]


def support_where(chosen: np.ndarray, groups: np.ndarray | None) -> Support:
    """The sample size of a score of some of the patches.

    Args:
        chosen: bool, `N`.
        groups: as in `support`.
    """
    return support(None if groups is None else groups[chosen], int(chosen.sum()))


def check_any(patches: np.ndarray, what: str = "scores") -> None:
    """Raise an error if there are no patches; the message names `what`."""
    if not len(patches):
        raise OutcropError(what, "no patches to evaluate; take smaller blocks or buffer")


def interval_of_share(value: float, draws: np.ndarray, support: Support) -> Interval:
    """The 95 % interval of a proportion, such as an accuracy, recall or precision, by bootstrap.

    The variance over the draws, times G / (G - 1) for G spatial blocks, gives the number of
    independent patches with the same variance. This number is reduced by Student's t, with one
    degree of freedom less than the effective number of blocks, and gives the interval of Clopper
    and Pearson. If all blocks have the same proportion, see `interval_without_variance`. With one
    block the interval is unknown. `benchmarks/coverage.py` measures its coverage.

    Sources: Korn and Graubard (1998), Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data, Survey Methodology 24, 193-201; Kish
    (1965), Survey Sampling, section 11.7, for unequal pieces.

    Args:
        value: proportion, 0 to 1; NaN if undefined.
        draws: values in bootstrap samples of whole blocks; NaN (undefined) is left out.
        support: sample size of the proportion.
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


def intervals_of_shares(
    values: np.ndarray, draws: np.ndarray, supports: Sequence[Support]
) -> tuple[Interval, ...]:
    """`interval_of_share` of each of K proportions; `draws` is `draws × K`."""
    each = zip(values, draws.T, supports, strict=True)
    return tuple(interval_of_share(value, drawn, one) for value, drawn, one in each)


def interval_of_difference(
    value: float, draws: np.ndarray, support: Support, bounds: tuple[float, float] = (-1.0, 1.0)
) -> Interval:
    """The 95 % interval of a difference of proportions, or of a mean, by bootstrap.

    Student's t with the variance over the draws, times G / (G - 1), and one degree of freedom less
    than the effective number of blocks. Without variance, as if two models agree everywhere, see
    `interval_without_variance`.

    Args:
        value: difference or mean; NaN if undefined.
        draws, support: as in `interval_of_share`.
        bounds: smallest and largest possible value.
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
    """The 95 % interval of a value on which n independent trials agree.

    On either side it extends by the bound of Clopper and Pearson for 0 of n. For a proportion of 0
    or 1 this is their two-sided interval.

    Source: Clopper and Pearson (1934), Biometrika 26, 404-413.

    Args:
        effective: effective number n of spatial blocks, or of points.
        bounds: smallest and largest possible value.

    >>> print(interval_without_variance(1.0, 20, (0, 1)))
    100.0 % [83.2, 100.0]
    """
    half = 1 - _TAIL ** (1 / effective)
    low, high = np.clip((value - half, value + half), *bounds)
    return Interval(float(value), float(low), float(high))


def _variance(draws: np.ndarray, support: Support) -> float:
    """Variance of a score over draws of whole blocks; NaN if unknown."""
    defined = draws[~np.isnan(draws)]
    if support.pieces < 2 or len(defined) < 2:
        return np.nan
    if np.ptp(defined) < _SAME:
        return 0.0
    return float(defined.var(ddof=1)) * support.pieces / (support.pieces - 1)


def resampled_counts(
    cells: np.ndarray, size: int, groups: np.ndarray | None, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Patches in each cell in bootstrap samples of whole groups: float64, `draws × size`.

    Its variance is too small by the factor (G - 1) / G for G groups, which `interval_of_share` and
    `interval_of_difference` correct.

    Source: Field and Welsh (2007), Bootstrapping clustered data, Journal of the Royal
    Statistical Society B 69, 369-390 (cluster bootstrap).

    Args:
        cells: int, `N`, cell of each patch, 0 to `size - 1`.
        size: number of cells.
        groups: `N`, group of each patch; None: patches are independent.
        draws: number of bootstrap samples.
        seed: random seed.
    """
    # Groups of one patch differ only in its cell. Drawing from the cells, each as often as it
    # occurs, is the same bootstrap and needs no table of N rows.
    if groups is None or number_of_groups(groups, len(cells)) == len(cells):
        each = np.bincount(cells, minlength=size)
        return resampled_rows(sparse.eye_array(size, format="csr"), each, draws, seed)
    names, group = np.unique(groups, return_inverse=True)
    table = sparse.coo_array((np.ones(len(cells)), (group, cells)), shape=(len(names), size))
    return resampled_rows(table.tocsr(), None, draws, seed)


def resampled_rows(
    rows: np.ndarray | sparse.csr_array, multiplicity: np.ndarray | None, draws: int, seed: int
) -> np.ndarray:
    """Sums over the rows of a table in bootstrap samples of rows: float64, `draws × size`.

    Args:
        rows: `G × size`, counts of each group in each cell.
        multiplicity: int, `G`, number of groups with the same row; None: 1 each.
        draws: number of bootstrap samples, each with the given number of groups.
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
    values: np.ndarray, groups: np.ndarray | None, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Means over patches in bootstrap samples of whole groups: float64, `draws × size`.

    Args:
        values: float, `N × size`, values of each patch.
        groups, draws, seed: as in `resampled_counts`.
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
    """Number of independent spatial blocks."""
    return patches if groups is None else len(np.unique(groups))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Quotient of counts; NaN for 0 / 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
