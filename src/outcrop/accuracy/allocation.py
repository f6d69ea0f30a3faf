"""Size of a reference sample and its allocation to the classes of a map.

After Olofsson et al. (2014), Good practices for estimating area and assessing accuracy of land
change, Remote Sensing of Environment 148, 42-57, section 5.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from outcrop.errors import OutcropError

Allocation = Literal["compromise", "proportional", "equal"]


@dataclass(frozen=True)
class SamplePlan:
    """Plan of a stratified or simple random sample of a map.

    Attributes:
        classes: the K class names.
        pixels: int64, `K`, pixels of each class in the map.
        points: int64, `K`, points to be drawn in each class; for a simple sample their expected
            number, float64.
        expected: float64, `K`, expected user's accuracy; NaN if not given, which counts as 0.5, the
            worst case.
        simple: whether the sample is simple random: all pixels have the same probability.
        area: float64, `K`, area of each class in any unit; None if all pixels have the same area.

    Raises:
        OutcropError: a class would get more points than it has pixels, or too few for a standard
            error.
    """

    classes: tuple[str, ...]
    pixels: np.ndarray
    points: np.ndarray
    expected: np.ndarray
    simple: bool = False
    area: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, pixels, points in zip(self.classes, self.pixels, self.points, strict=True):
            if self.simple:
                continue
            if points > pixels:
                raise OutcropError(
                    f"class '{name}'",
                    f"has {pixels} pixels, fewer than the {points} points to be drawn in it; "
                    "lower `n` or use another `allocation`",
                )
            if points < min(2, pixels):
                raise OutcropError(
                    f"class '{name}'",
                    f"would get {points} points, too few for a standard error of its accuracy; "
                    "raise `n` or use `allocation='compromise'`",
                )

    @property
    def share(self) -> np.ndarray:
        """Share of each class in the map's area: float64, `K`."""
        area = self.pixels if self.area is None else self.area
        return np.asarray(area / area.sum())

    @property
    def is_worst_case(self) -> bool:
        """Whether the standard errors are upper bounds, because an accuracy was not given."""
        return bool(np.isnan(self.expected[self.pixels > 0]).any())

    @property
    def users_error(self) -> np.ndarray:
        """Expected standard error of the user's accuracy of each class (equation 6): `K`.

        NaN for a class with fewer than two points.
        """
        variance = self._variance / np.maximum(self.points - 1, 1)
        return np.where(self.points >= 2, np.sqrt(variance), np.nan)

    @property
    def overall_error(self) -> float:
        """Expected standard error of the overall accuracy (equation 5).

        For a simple sample, that of the post-stratified estimator to second order (Cochran 1977,
        Sampling Techniques, 3rd edition, equation 5A.42).
        """
        share, n = self.share, self.points.sum()
        there = self.pixels > 0
        if self.simple:
            first, second = share @ self._variance, (1 - share)[there] @ self._variance[there]
            return float(np.sqrt(first / n + second / n**2))
        return float(np.sqrt((share[there] ** 2 * self.users_error[there] ** 2).sum()))

    @property
    def _variance(self) -> np.ndarray:
        worst = np.where(np.isnan(self.expected), 0.5, self.expected)
        return worst * (1 - worst)


def sample_size(
    pixels: np.ndarray, expected: np.ndarray, standard_error: float, simple: bool = False
) -> int:
    """Minimum number of points for a standard error of the overall accuracy.

    Equation 13 (Cochran 1977, equation 5.25) for a stratified sample, without its last term,
    because maps have many pixels; equation 12 for a simple one. Equation 13 assumes the optimal
    allocation for the overall accuracy (Neyman's). Other allocations need more points; see
    `smallest_plan`.

    Args:
        pixels: `K`, pixels or area of each class in the map.
        expected: `K`, expected user's accuracies, 0 to 1.
        standard_error: wanted standard error, 0 to 1.
        simple: whether the sample is simple random.

    The example of the paper:

    >>> pixels = np.array([200_000, 150_000, 3_200_000, 6_450_000])
    >>> sample_size(pixels, np.array([0.7, 0.6, 0.9, 0.95]), 0.01)
    641
    """
    share = pixels / np.sum(pixels)
    overall = float(share @ expected)
    spread = (
        overall * (1 - overall) if simple else (share @ np.sqrt(expected * (1 - expected))) ** 2
    )
    return int(np.ceil(round(spread / standard_error**2, 6)))


def smallest_plan(
    plan_of: Callable[[int], SamplePlan], standard_error: float, least: int, most: int
) -> SamplePlan:
    """The plan with the fewest points whose overall accuracy has at most a standard error.

    Args:
        plan_of: function from a number of points to their plan.
        standard_error: largest standard error, 0 to 1.
        least, most: smallest and largest number of points.

    Raises:
        OutcropError: the largest number of points is not enough.
    """
    low, high = least - 1, min(least, most)
    while (plan := plan_of(high)).overall_error > standard_error:
        if high == most:
            raise OutcropError(
                "`standard_error`",
                f"{standard_error:g} cannot be reached with {most} pixels; raise it, or pass `n`",
            )
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        tried = plan_of(middle)
        if tried.overall_error > standard_error:
            low = middle
        else:
            high, plan = middle, tried
    return plan


def allocate(
    pixels: np.ndarray,
    n: int,
    how: Allocation = "compromise",
    floor: int = 50,
    area: np.ndarray | None = None,
) -> np.ndarray:
    """Allocate n points to the classes of a map: int64, `K`, with the sum n.

    - proportional: by area. Best for the overall accuracy; rare classes get few points.
    - equal: the same number for each class. Best for the user's accuracies.
    - compromise: recommended by the paper. Each rare class gets a minimum of 50 to 100 points, the
      other classes share the rest by area.

    Args:
        pixels: int, `K`, pixels of each class in the map; a class without pixels gets no points.
        n: total number of points.
        how: the allocation.
        floor: minimum points of a class in the compromise; all its pixels if it has fewer.
        area: `K`, area of each class; None if all pixels have the same area.

    Raises:
        OutcropError: n is too small for two points or the minimum in each class, or larger than
            the map.

    >>> pixels = np.array([200_000, 150_000, 3_200_000, 6_450_000])
    >>> allocate(pixels, 640, floor=75)
    array([ 75,  75, 162, 328])
    >>> allocate(pixels, 640, "proportional")
    array([ 13,   9, 205, 413])
    """
    pixels = np.asarray(pixels, np.int64)
    there = pixels > 0
    if n > pixels.sum():
        raise OutcropError("`n`", f"is {n}, more than the {pixels.sum()} pixels; lower it")
    least = np.minimum(floor if how == "compromise" else 2, pixels)
    if n < least.sum():
        raise OutcropError(
            "`n`",
            f"is {n}, too small for {there.sum()} classes of at least {least.max()} points each; "
            f"use {least.sum()} or more" + (", or a lower `floor`" if least.max() > 2 else ""),
        )
    if how == "equal":
        return _proportional(n, there.astype(np.float64))
    area = pixels if area is None else area
    return _proportional(n, area) if how == "proportional" else _with_floor(area, n, least)


def _with_floor(area: np.ndarray, n: int, least: np.ndarray) -> np.ndarray:
    """Allocation by area in which each class gets at least `least` points."""
    rare = np.zeros(len(area), bool)
    while True:
        points = np.where(rare, least, 0)
        points[~rare] = _proportional(n - points.sum(), area[~rare])
        short = ~rare & (points < least)
        if not short.any():
            return points
        rare |= short


def _proportional(n: int, weights: np.ndarray) -> np.ndarray:
    """Integers in proportion to weights with the sum n, by the largest remainder method."""
    if n == 0 or not len(weights):
        return np.zeros(len(weights), np.int64)
    exact = n * (weights / np.sum(weights))
    whole = np.floor(exact).astype(np.int64)
    first = np.argsort(whole - exact, kind="stable")
    whole[first[: n - whole.sum()]] += 1
    return whole
