"""Accuracy of a class map and area of its classes, estimated from reference data.

The area that a map assigns to a class depends on the errors of the classifier. A probability sample
of places with known truth corrects the area and gives its uncertainty. The estimators are those of

- Olofsson et al. (2014), Good practices for estimating area and assessing accuracy of land change,
  Remote Sensing of Environment 148, 42-57, equations 1 to 11, if the strata of the sample are the
  map's classes, or if the map's classes divide a simple random sample (post-stratification);
- Stehman (2014), Estimating area and map accuracy for stratified random sampling when the strata
  are different from the map classes, International Journal of Remote Sensing 35, 4923-4939,
  equations 2, 3, 25, 27 and 28, if the strata are others.

The first are the second with the map's classes as strata, so there is one implementation. As in the
first, there is no finite population correction: if the sample covers a large part of all pixels,
the intervals are wider than necessary.

Labelled polygons and rasters are no probability sample. The pixels of one polygon or one spatial
block are not independent: they share weather, labeller and mostly the class in the map. Counted as
independent samples they give intervals that are far too narrow. Therefore `by_piece` resamples
whole polygons or blocks in a bootstrap.

In all tables, rows are the map and columns the reference, as in those papers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from outcrop.metrics.intervals import (
    Support,
    interval_of_share,
    interval_without_variance,
    ratio,
    resampled_rows,
)

# Smaller standard errors are zero, except for rounding.
_NONE = 1e-9
# The value of the papers; 1.95996 does not reproduce their printed digits.
Z = 1.96


@dataclass(frozen=True)
class Estimate:
    """A fraction, 0 to 1, with its standard error and the ends of its 95 % confidence interval.

    `value` is NaN if the sample does not determine it. `error`, `low` and `high` are NaN if the
    sample does not determine the uncertainty.

    >>> print(Estimate.normal(0.88, 0.0378))
    88.0 ± 7.4
    >>> print(Estimate(0.5, 0.1, 0.31, 0.66), Estimate.normal(0.88, float("nan")))
    50.0 [31.0, 66.0] 88.0 ± unknown
    """

    value: float
    error: float
    low: float
    high: float

    @classmethod
    def normal(cls, value: float, error: float) -> Estimate:
        """An estimate with the interval of ±1.96 standard errors, clipped to 0 and 1."""
        low, high = np.clip((value - Z * error, value + Z * error), 0, 1)
        return cls(float(value), float(error), float(low), float(high))

    @classmethod
    def of(cls, value: float, error: float, effective: float) -> Estimate:
        """As `normal`; if the standard error is zero, with `interval_without_variance`.

        Args:
            effective: effective sample size.
        """
        if not error < _NONE:
            return cls.normal(value, error)
        ends = interval_without_variance(value, effective, (0, 1))
        return cls(float(value), 0.0, ends.low, ends.high)

    @property
    def margin(self) -> float:
        """Margin of error after the ± sign: 1.96 standard errors."""
        return Z * self.error

    @property
    def is_normal(self) -> bool:
        """Whether the interval is that of `normal`, and not from a bootstrap."""
        return np.isnan(self.error) or self == Estimate.normal(self.value, self.error)

    def to_json(self) -> dict[str, float | None]:
        """Plain data for `outcrop.files.write_json`; NaN becomes None."""
        return {name: None if np.isnan(x) else x for name, x in vars(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, float | None]) -> Estimate:
        """The estimate from the result of `to_json`."""
        return cls(**{name: np.nan if x is None else x for name, x in content.items()})

    def __str__(self) -> str:
        return self.scaled(100, 1)

    def scaled(self, unit: float, digits: int = 0) -> str:
        """Value and interval times `unit`: 100 for per cent, or the hectares of the whole map."""
        if np.isnan(self.value):
            return "unknown"
        value, margin, low, high = (
            f"{unit * x:,.{digits}f}" for x in (self.value, self.margin, self.low, self.high)
        )
        if np.isnan(self.error):
            return f"{value} ± unknown"
        return f"{value} ± {margin}" if self.is_normal else f"{value} [{low}, {high}]"


@dataclass(frozen=True)
class MapAccuracy:
    """Accuracy of a map with K classes, and area of its classes.

    Attributes:
        proportions: float64, `K × K`, error matrix as estimated shares of the map's area; rows are
            the map, columns the reference. NaN in the row of a class without samples.
        overall: share of the area with the correct class.
        users: user's accuracy (precision) of each class: correct share of its mapped area; unknown
            without samples in it.
        producers: producer's accuracy (recall) of each class: correctly mapped share of its true
            area; unknown if the reference does not have it.
        area: share of the map's area that each class has in truth.
    """

    proportions: np.ndarray
    overall: Estimate
    users: tuple[Estimate, ...]
    producers: tuple[Estimate, ...]
    area: tuple[Estimate, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `outcrop.files.write_json`; NaN becomes None."""
        return {
            "proportions": [
                [None if np.isnan(x) else x for x in row] for row in self.proportions.tolist()
            ],
            "overall": self.overall.to_json(),
            "users": [one.to_json() for one in self.users],
            "producers": [one.to_json() for one in self.producers],
            "area": [one.to_json() for one in self.area],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MapAccuracy:
        """The accuracy from the result of `to_json`."""
        return cls(
            proportions=np.array(content["proportions"], dtype=np.float64),
            overall=Estimate.from_json(content["overall"]),
            users=tuple(map(Estimate.from_json, content["users"])),
            producers=tuple(map(Estimate.from_json, content["producers"])),
            area=tuple(map(Estimate.from_json, content["area"])),
        )


Moments = tuple[np.ndarray, np.ndarray]


def by_map_class(
    counts: np.ndarray, pixels: np.ndarray, weights: Moments | None = None
) -> MapAccuracy:
    """Accuracy and area from a sample whose strata, or post-strata, are the map's classes.

    If a class of the map has no sample, all values that depend on it are unknown; if it has one
    sample, their uncertainty is.

    Args:
        counts: int, `K × K`, samples; rows are the map, columns the reference.
        pixels: `K`, pixels of each class in the map; 0 for a class that only the reference has.
            Areas, if pixels differ in area.
        weights: if pixels differ in area, the sums of the weights of the samples in each cell of
            `counts`, and of their squares. The weight of a sample is the area of its pixel over the
            mean area of the samples of its stratum (see `_ratios`).

    The example of Olofsson et al. (2014), their table 8: deforestation, forest gain, stable forest,
    stable non-forest.

    >>> counts = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
    >>> found = by_map_class(counts, np.array([200_000, 150_000, 3_200_000, 6_450_000]))
    >>> print(found.overall, "|", found.users[0], "|", found.producers[0])
    94.7 ± 1.8 | 88.0 ± 7.4 | 74.9 ± 21.3
    >>> print(found.area[0].scaled(10_000_000 * 0.09), "ha")
    21,158 ± 6,158 ha
    """
    K = len(pixels)
    table = np.zeros((3, K, K, K))
    table[:, np.arange(K), np.arange(K)] = (counts, *(weights or (counts, counts)))
    none = np.zeros(K, np.int64)
    return _estimate(table, np.asarray(pixels, np.float64), np.eye(K, dtype=bool), none)


def by_stratum(
    table: np.ndarray,
    pixels: np.ndarray,
    weights: Moments | None = None,
    off_map: np.ndarray | None = None,
) -> MapAccuracy:
    """Accuracy and area from a stratified random sample whose strata are not the map's classes.

    Any stratum may contain pixels of any class. If a stratum has no sample, all values are unknown;
    if it has one sample, their uncertainty is. If strata extend beyond the map, the map is a domain
    of the sampled population: all values are ratios to the sampled area on the map (Cochran 1977,
    Sampling Techniques, 3rd edition, sections 2.13 and 6.11).

    Args:
        table: int, `H × K × K`, samples by stratum, class in the map, class in the reference.
        pixels: `H`, pixels of each stratum; areas, if pixels differ in area.
        weights: see `by_map_class`.
        off_map: int, `H`, samples of each stratum where the map has no class; None for none.
    """
    holds = np.ones(table.shape[:2], bool)
    every = np.array((table, *(weights or (table, table))), np.float64)
    off = np.zeros(len(pixels), np.int64) if off_map is None else np.asarray(off_map)
    return _estimate(every, np.asarray(pixels, np.float64), holds, off)


def _estimate(
    table: np.ndarray, pixels: np.ndarray, holds: np.ndarray, off_map: np.ndarray
) -> MapAccuracy:
    """Stehman's estimators.

    Args:
        table: `3 × H × K × K`: samples, the sums of their weights, and of their squares.
        pixels: `H`, pixels or areas of the strata.
        holds: bool, `H × K`, which strata can contain which map classes.
        off_map: `H`, samples outside the map.
    """
    there = pixels > 0
    table, pixels, holds, off_map = table[:, there], pixels[there], holds[there], off_map[there]
    n = table[0].sum(axis=(1, 2)) + off_map
    squares = (table[2].sum(axis=(1, 2)) + off_map)[:, None]
    mapped, reference = table.sum(axis=3), table.sum(axis=2)
    right = np.diagonal(table, axis1=2, axis2=3)
    all_hold = np.ones_like(holds)
    whole = np.broadcast_to(table.sum(axis=(2, 3))[:, :, None], reference.shape)

    def ratios(part: np.ndarray, of: np.ndarray, held: np.ndarray, least: int) -> list[Estimate]:
        values, errors = _ratios(part, of, squares, n, pixels, held)
        errors = np.where(of[0].sum(axis=0) >= least, errors, np.nan)
        each = zip(values, errors, _effective(of[0], n, pixels), strict=True)
        return [Estimate.of(value, error, effective) for value, error, effective in each]

    one = slice(0, 1)
    everything = whole[..., one]
    overall = ratios(right.sum(axis=2, keepdims=True), everything, all_hold[:, one], 1)
    return MapAccuracy(
        proportions=_proportions(table[1], n, pixels, holds),
        overall=overall[0],
        users=tuple(ratios(right, mapped, holds, 2)),
        producers=tuple(ratios(right, reference, all_hold, 2)),
        area=tuple(ratios(reference, whole, all_hold, 1)),
    )


def _effective(of: np.ndarray, n: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Effective sample size of each ratio: float64, `Q` (Kish 1965).

    Args:
        of: `H × Q`, samples with x.
        n: `H`, samples.
        pixels: `H`, pixels or areas of the strata.
    """
    weight = np.divide(pixels, n, out=np.zeros(len(n)), where=n > 0)
    return ratio((weight @ of) ** 2, weight**2 @ of)


def _ratios(
    part: np.ndarray,
    of: np.ndarray,
    squares: np.ndarray,
    n: np.ndarray,
    pixels: np.ndarray,
    holds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Q combined ratio estimates and their standard errors (Stehman 2014, equations 27 and 28).

    Each ratio R is the share of the area with property x that also has y; y implies x. A sample of
    weight w counts w towards y and x. Because the size of a stratum is known, its means of y and x
    are ratios to the mean of w (Cochran 1977, Sampling Techniques, 3rd edition, section 6.11). The
    residuals are y - R x, minus their mean times w. With equal weights 1 this is Stehman's
    variance.

    Args:
        part, of: `3 × H × Q`, samples with y, and with x; the sums of their weights; the sums of
            the squares of their weights.
        squares: `H × 1`, sum of the squared weights of all samples.
        n: `H`, samples.
        pixels: `H`, pixels or areas of the strata, all above 0.
        holds: bool, `H × Q`, whether x occurs in the stratum.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        (y, yy), (x, xx) = (np.where(holds, sums[1:] / n[:, None], 0.0) for sums in (part, of))
        ww = squares / n[:, None]
        total = pixels @ x
        ratio = (pixels @ y) / total
        mean, square = y - ratio * x, yy + ratio**2 * xx - 2 * ratio * yy
        variance = square - 2 * mean * (yy - ratio * xx) + mean**2 * ww
        per_sample = np.where(holds, np.maximum(variance, 0) / (n[:, None] - 1), 0.0)
        return ratio, np.sqrt(pixels**2 @ per_sample) / total


def _proportions(
    table: np.ndarray, n: np.ndarray, pixels: np.ndarray, holds: np.ndarray
) -> np.ndarray:
    share = pixels / pixels.sum()
    with np.errstate(invalid="ignore"):
        shares = share[:, None, None] * table / n[:, None, None]
        on_map = share @ np.where(n > 0, table.sum(axis=(1, 2)) / n, 1.0)
    return np.where(holds[:, :, None], shares, 0.0).sum(axis=0) / on_map


_NOTHING = Support(0, 0, 0)


def by_piece(
    table: sparse.csr_array,
    pixels: np.ndarray,
    wall_to_wall: bool = False,
    draws: int = 2000,
    seed: int = 0,
) -> MapAccuracy:
    """Accuracy and area from labelled polygons or blocks; each map class is weighted by its area.

    The estimators are those of `by_map_class` with pixels instead of samples: within a class of the
    map, the labelled pixels represent the whole class. This is an assumption, because polygons
    selected by hand are no probability sample. Standard errors and intervals are from a bootstrap
    of whole pieces (`outcrop.metrics.intervals`: `resampled_rows`, `interval_of_share`). They are
    unknown if a class of the map that contributes is in one piece only.

    Args:
        table: `G × K²`, labelled pixels of each piece; column `i K + j` counts those of class i in
            the map and class j in the reference.
        pixels: `K`, pixels of each class in the map; 0 for a class that only the reference has.
        wall_to_wall: whether the pieces cover the whole map. Then areas are counted without error,
            and each bootstrap sample has its own areas of the map classes: the intervals show how
            much accuracies would vary in other areas like this one.
        draws: number of bootstrap samples.
        seed: random seed of the bootstrap.
    """
    K = len(pixels)
    share = np.asarray(pixels, np.float64) / np.sum(pixels)
    table = sparse.csr_array(table, dtype=np.float64)
    counts = np.asarray(table.sum(axis=0)).reshape(-1)
    cells = np.flatnonzero(counts)
    drawn = resampled_rows(table[:, cells], None, draws, seed)
    found = _measures(counts[None, cells], cells, share)
    redrawn = _measures(drawn, cells, share, wall_to_wall)

    i, j = np.divmod(cells, K)
    table = table[:, cells].tocsc()
    # The weight of a pixel is the area of its map class that it represents.
    stands_for = share[i] / np.bincount(i, counts[cells], K)[i]
    weighed = table if wall_to_wall else table.multiply(stands_for).tocsc()
    of_map = [_support(table, table, i == k) for k in range(K)]
    of_reference = [_support(table, weighed, j == k) for k in range(K)]
    whole = _support(table, weighed, cells >= 0)
    known = wall_to_wall or all(of_map[k].pieces > 1 for k in np.flatnonzero(share))

    def estimates(what: str, standing: Sequence[Support], known: bool) -> tuple[Estimate, ...]:
        return tuple(
            _bootstrap_estimate(found[what][0, k], redrawn[what][:, k], one if known else _NOTHING)
            for k, one in enumerate(standing)
        )

    proportions = np.zeros((K, K))
    proportions[i, j] = stands_for * counts[cells]
    proportions[(share > 0) & (np.bincount(i, minlength=K) == 0)] = np.nan
    return MapAccuracy(
        proportions=proportions,
        overall=estimates("overall", [whole], known)[0],
        users=estimates("users", of_map, True),
        producers=estimates("producers", of_reference, known),
        area=(
            tuple(Estimate.normal(value, 0) for value in found["area"][0])
            if wall_to_wall
            else estimates("area", [whole] * K, known)
        ),
    )


def _measures(
    counts: np.ndarray, cells: np.ndarray, share: np.ndarray, as_counted: bool = False
) -> dict[str, np.ndarray]:
    """The measures, `D × K` each (overall `D × 1`), from D sets of counts of C cells."""
    K = len(share)
    i, j = np.divmod(cells, K)
    # Sparse matrices, because a map of many classes has many cells.
    to_map, to_reference, to_right = (
        sparse.coo_array((weight, (np.arange(len(cells)), kind)), shape=(len(cells), K)).tocsr()
        for kind, weight in ((i, np.ones(len(i))), (j, np.ones(len(j))), (i, (i == j) * 1.0))
    )
    in_map = counts @ to_map
    weight = np.divide(share, in_map, out=np.zeros_like(in_map), where=in_map > 0)
    area = counts / counts.sum(axis=1, keepdims=True) if as_counted else counts * weight[:, i]
    right, reference = area @ to_right, area @ to_reference
    # The truth is unknown in a class of the map without labelled pixels.
    unknown = ((in_map == 0) & (share > 0)).any(axis=1, keepdims=True) & (not as_counted)
    return {
        "overall": np.where(unknown, np.nan, right.sum(axis=1, keepdims=True)),
        "users": ratio(counts @ to_right, in_map),
        "producers": np.where(unknown, np.nan, ratio(right, reference)),
        "area": np.where(unknown, np.nan, reference),
    }


def _support(table: sparse.csc_array, weighed: sparse.csc_array, chosen: np.ndarray) -> Support:
    """Support of a measure that is computed from some of the weighted cells."""
    weights = np.asarray(weighed[:, chosen].sum(axis=1)).reshape(-1)
    return Support.of(weights, float(table[:, chosen].sum()))


def _bootstrap_estimate(value: float, draws: np.ndarray, standing: Support) -> Estimate:
    ends = interval_of_share(value, draws, standing)
    if np.isnan(ends.low):
        return Estimate(float(value), np.nan, np.nan, np.nan)
    scale = standing.pieces / (standing.pieces - 1)
    error = float(np.sqrt(np.nanvar(draws, ddof=1) * scale))
    return Estimate(float(value), error, ends.low, ends.high)
