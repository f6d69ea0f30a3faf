"""Confidence intervals that know that patches of one piece of ground are not independent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

FEW_GROUPS = 20
_CHUNK_WEIGHTS = 1 << 23


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


def interval(value: float, draws: np.ndarray) -> Interval:
    """The 95 % percentile interval of `value` from its bootstrap draws.

    Draws in which the score is undefined (NaN) are left out.
    """
    defined = draws[~np.isnan(draws)]
    if np.isnan(value) or len(defined) == 0:
        return Interval(float(value), np.nan, np.nan)
    low, high = np.percentile(defined, (2.5, 97.5))
    return Interval(float(value), float(low), float(high))


def supported(value: Any, draws: np.ndarray, groups: int) -> Interval:
    """As `interval`, but with unknown ends for what stands on a single group."""
    return interval(value, draws if groups > 1 else np.empty(0))


def resampled_counts(
    cells: np.ndarray, size: int, groups: np.ndarray | None, draws: int, seed: int
) -> np.ndarray:
    """How many patches fall into each cell when whole groups are drawn anew, with replacement.

    This is the cluster bootstrap. Its percentile intervals are too narrow when the groups are
    few, say below twenty, and have no width where all groups agree.

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


def groups_with(cells: np.ndarray, size: int, groups: np.ndarray | None) -> np.ndarray:
    """In how many groups each cell occurs, int64, `size`."""
    if groups is None:
        return np.bincount(cells, minlength=size)
    return np.array([len(np.unique(groups[cells == k])) for k in range(size)])


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
