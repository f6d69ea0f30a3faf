"""How many reference points a map needs, and how many of them each class.

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
ALLOCATIONS: tuple[Allocation, ...] = ("compromise", "proportional", "equal")


@dataclass(frozen=True)
class SamplePlan:
    """A stratified random sample that is to be drawn from a map, or a simple one.

    Attributes:
        classes: the K class names.
        pixels: int64, `K`, of each class in the map.
        points: int64, `K`, to be drawn in each class; of a simple sample those to be expected,
            float64.
        expected: float64, `K`, the user's accuracy that is hoped for; NaN where nothing is said,
            which counts as 0.5, the worst case.
        simple: whether points are drawn from all pixels alike.
        area: float64, `K`, of each class, in any unit; None where all pixels have the same.

    Raises:
        OutcropError: a class is to get more points than it has pixels, or too few to say how sure
            its accuracy is.
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
                    "lower --n or take another --allocation",
                )
            if points < min(2, pixels):
                raise OutcropError(
                    f"class '{name}'",
                    f"would get {points} points, too few to say how sure its accuracy is; "
                    "raise --n or take --allocation compromise",
                )

    @property
    def share(self) -> np.ndarray:
        """The share of the map's area of each class: float64, `K`."""
        area = self.pixels if self.area is None else self.area
        return np.asarray(area / area.sum())

    @property
    def is_worst_case(self) -> bool:
        """Whether the standard errors are bounds, because some accuracy was not named."""
        return bool(np.isnan(self.expected[self.pixels > 0]).any())

    @property
    def users_error(self) -> np.ndarray:
        """By class, the standard error that its user's accuracy will have (equation 6): `K`.

        NaN for a class with fewer than two points.
        """
        variance = self._variance / np.maximum(self.points - 1, 1)
        return np.where(self.points >= 2, np.sqrt(variance), np.nan)

    @property
    def overall_error(self) -> float:
        """The standard error that the overall accuracy will have (equation 5).

        Of a simple sample that of the post-stratified estimator to second order (Cochran 1977,
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
    """The fewest points that can have a standard error of the overall accuracy.

    Equation 13 (Cochran 1977, equation 5.25) for a stratified sample, its last term left out
    because maps have many pixels; equation 12 for a simple one. Equation 13 supposes the best
    allocation for the overall accuracy (Neyman's); any other needs more (`smallest_plan`).

    Args:
        pixels: `K`, of each class in the map, or its area.
        expected: `K`, the user's accuracies that are hoped for, 0 to 1.
        standard_error: 0 to 1.

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
    """The plan of the fewest points whose overall accuracy has a standard error, or less.

    Args:
        plan_of: the plan of so many points, by the allocation that will be used.
        least, most: points to begin with, and at most.

    Raises:
        OutcropError: not even the most points are enough.
    """
    low, high = least - 1, min(least, most)
    while (plan := plan_of(high)).overall_error > standard_error:
        if high == most:
            raise OutcropError(
                "--standard-error",
                f"{standard_error:g} cannot be had of {most} pixels; raise it, or give --n",
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
    """Deal n points among the classes of a map.

    proportional: by area, which is best for the overall accuracy and leaves rare classes with
    nothing. equal: the same number each, which is best for the user's accuracies. compromise: what
    the paper recommends, a floor of 50 to 100 points for each rare class, and what is left to the
    others by area.

    Args:
        pixels: int, `K`, of each class in the map; a class without any gets no points.
        n: points in all.
        floor: with the compromise, the least of each class; all its pixels, if it has fewer.
        area: `K`, of each class; None where all pixels have the same.

    Returns:
        int64, `K`, which sum to n.

    Raises:
        OutcropError: n is too small to give each class two points, or its floor, or larger than
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
        raise OutcropError("--n", f"is {n}, more than the {pixels.sum()} pixels; lower it")
    least = np.minimum(floor if how == "compromise" else 2, pixels)
    if n < least.sum():
        raise OutcropError(
            "--n",
            f"is {n}, too small for {there.sum()} classes of at least {least.max()} points each; "
            f"take {least.sum()} or more" + (", or a lower --floor" if least.max() > 2 else ""),
        )
    if how == "equal":
        points = _dealt(n, there.astype(np.float64))
    elif how == "proportional":
        points = _dealt(n, pixels if area is None else area)
    else:
        points = _with_floor(pixels if area is None else area, n, least)
    return points


def _with_floor(area: np.ndarray, n: int, least: np.ndarray) -> np.ndarray:
    """By area, but rare classes get what is least, which the others make up for."""
    rare = np.zeros(len(area), bool)
    while True:
        points = np.where(rare, least, 0)
        points[~rare] = _dealt(n - points.sum(), area[~rare])
        short = ~rare & (points < least)
        if not short.any():
            return points
        rare |= short


def _dealt(n: int, weights: np.ndarray) -> np.ndarray:
    """n in whole numbers in proportion to weights, by the largest remainders."""
    if n == 0 or not len(weights):
        return np.zeros(len(weights), np.int64)
    exact = n * (weights / np.sum(weights))
    whole = np.floor(exact).astype(np.int64)
    first = np.argsort(whole - exact, kind="stable")
    whole[first[: n - whole.sum()]] += 1
    return whole
