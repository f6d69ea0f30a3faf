"""Pairwise tests: whether one model is better than another on the same patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
from scipy.stats import t as student

from outcrop.metrics.gaps import mean_recall
from outcrop.metrics.intervals import Interval, check_any, resampled_rows
from outcrop.metrics.significance import McNemar, effective_groups, holm, mcnemar
from outcrop.typed import plain

LEVEL = 0.05

Test = TypeVar("Test", "Difference", McNemar)


@dataclass(frozen=True)
class Difference:
    """One score minus another, and the p-value of the difference.

    Attributes:
        points: difference, a fraction, with its 95 % interval.
        p: two-sided p-value, 0 to 1; NaN if unknown.
        adjusted: `p` after Holm's correction for all pairs of models.
    """

    points: Interval
    p: float
    adjusted: float = np.nan

    def to_json(self) -> dict[str, float | None]:
        """Plain data, with the entries of the interval beside the others; NaN becomes None."""
        return {**self.points.to_json(), "p": plain(self.p), "adjusted": plain(self.adjusted)}

    @classmethod
    def from_json(cls, content: Mapping[str, float | None]) -> Difference:
        """The difference from the result of `to_json`."""
        number = {name: np.nan if x is None else x for name, x in content.items()}
        points = Interval(number["value"], number["low"], number["high"])
        return cls(points, number["p"], number["adjusted"])


@dataclass(frozen=True)
class PairwiseTest:
    """The test of two models on the same patches.

    Attributes:
        one, other: names of the models; differences are scores of `one` minus scores of `other`.
        balanced: difference of balanced accuracy, which decides the verdict.
        overall: difference of overall accuracy.
        mcnemar: McNemar's test, which treats patches as independent.
    """

    one: str
    other: str
    balanced: Difference
    overall: Difference
    mcnemar: McNemar

    @property
    def verdict(self) -> str:
        """Result for `one`: 'better', 'worse', 'no difference shown' or 'unknown'."""
        if np.isnan(self.balanced.adjusted):
            return "unknown"
        if self.balanced.adjusted >= LEVEL:
            return "no difference shown"
        return "better" if self.balanced.points.value > 0 else "worse"

    def to_json(self) -> dict[str, Any]:
        """Plain data for `outcrop.files.write_json`; NaN becomes None."""
        content: dict[str, Any] = plain(vars(self))
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PairwiseTest:
        """The test from the result of `to_json`."""
        return cls(
            one=content["one"],
            other=content["other"],
            balanced=Difference.from_json(content["balanced"]),
            overall=Difference.from_json(content["overall"]),
            mcnemar=McNemar(**content["mcnemar"]),
        )


def pairwise_tests(
    truth: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    groups: np.ndarray | None,
    classes: int,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[PairwiseTest, ...]:
    """Test all pairs of models on the patches that all of them were evaluated on.

    The score of a model is the mean over its random seeds. The difference of two models has two
    sources of variance. Blocks: both models are evaluated on the same bootstrap samples of whole
    groups, and the variance of the difference over the samples is multiplied by G / (G - 1) for G
    groups. Seeds: for each model, the variance of the score over its S seeds, divided by S. The
    difference divided by the root of the sum of variances is compared with Student's t, two-sided,
    with degrees of freedom after Welch and Satterthwaite; the interval is that of the same t.

    - An effect of a seed on some blocks only is part of both variances, so that the test is
      conservative with several seeds (Owen 2007).
    - With one seed, the interval does not include the effect of seeds.
    - G is reduced if a few groups have most of the weight (`effective_groups`). p is at least
      2^(1 - G), the smallest p of a permutation test over all groups: one pair needs six groups to
      show a difference, 36 pairs need eleven. With less than about twenty groups, or two or three
      for a class in balanced accuracy, the test is not reliable.
    - With an effective number of two groups or fewer the interval is unknown; for balanced accuracy
      also if a class lies in one group only.

    Each p is corrected for all pairs by Holm's method, so that the best model may be selected
    afterwards.

    Sources: Field and Welsh (2007), Journal of the Royal Statistical Society B 69, 369-390 (cluster
    bootstrap); Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1, 386-411 (rows
    and columns of a table drawn both); Satterthwaite (1946), Biometrics Bulletin 2, 110-114.

    Args:
        truth: int, `N`.
        predicted: by model, int, `S × N`: classes predicted with each of its seeds; or `N` for one
            seed. McNemar's test uses the first seed.
        groups: `N`, spatial block of each patch; None: patches are independent.
        classes: number of classes.
        draws: number of bootstrap samples.
        seed: random seed of the bootstrap.

    Returns:
        One test for each pair, in the order of `predicted`.

    Raises:
        OutcropError: no patches.
    """
    check_any(truth)
    truth = np.asarray(truth)
    right = {name: np.atleast_2d(one) == truth for name, one in predicted.items()}
    independent = np.arange(len(truth)) if groups is None else groups
    names, piece = np.unique(independent, return_inverse=True)
    cells = piece * classes + truth

    def by_block(weights: np.ndarray | None = None) -> np.ndarray:
        """Number of patches, or sum of their weights, by block and class: `G × K`."""
        found = np.bincount(cells, weights, minlength=len(names) * classes)
        return found.reshape(len(names), classes)

    balanced, overall = _measured(right, by_block, draws, seed)
    counts, pairs = by_block(), list(combinations(predicted, 2))

    def differences(measured: Mapping[str, _Measured], effective: float) -> list[Difference]:
        return _corrected(
            [_difference(measured[a], measured[b], len(names), effective) for a, b in pairs]
        )

    by_class = differences(balanced, _effective_balanced(counts))
    by_patch = differences(overall, effective_groups(counts.sum(axis=1)))
    alike = _corrected([mcnemar(right[a][0], right[b][0]) for a, b in pairs])
    return tuple(
        PairwiseTest(a, b, by_class[i], by_patch[i], alike[i]) for i, (a, b) in enumerate(pairs)
    )


@dataclass(frozen=True)
class _Measured:
    """A score of one model.

    Attributes:
        each: float64, `S`, score with each seed.
        drawn: float64, `draws`, mean over the seeds in each bootstrap sample.
    """

    each: np.ndarray
    drawn: np.ndarray


def _effective_balanced(counts: np.ndarray) -> float:
    """Effective number of blocks if classes weigh the same; 1 if a class lies in one block only."""
    if ((counts > 0).sum(axis=0) == 1).any():
        return 1.0
    return effective_groups((counts / np.maximum(counts.sum(axis=0), 1)).sum(axis=1))


def _measured(
    right: Mapping[str, np.ndarray], by_block: Callable[..., np.ndarray], draws: int, seed: int
) -> tuple[dict[str, _Measured], dict[str, _Measured]]:
    """Balanced and overall accuracy of every model, in the same bootstrap samples."""
    shares = [by_block(), *(by_block(one.mean(axis=0)) for one in right.values())]
    drawn = resampled_rows(np.concatenate(shares, axis=1), None, draws, seed)
    drawn = drawn.reshape(draws, len(shares), -1)
    there, everything = shares[0].sum(axis=0), drawn[:, 0]
    balanced, overall = {}, {}
    for (name, one), found in zip(right.items(), drawn.swapaxes(0, 1)[1:], strict=True):
        each = np.stack([by_block(row).sum(axis=0) for row in one])
        balanced[name] = _Measured(
            mean_recall(each, np.broadcast_to(there, each.shape)), mean_recall(found, everything)
        )
        overall[name] = _Measured(one.mean(axis=1), found.sum(axis=1) / everything.sum(axis=1))
    return balanced, overall


def _difference(one: _Measured, other: _Measured, pieces: int, effective: float) -> Difference:
    value = float(one.each.mean() - other.each.mean())
    if effective <= 2:
        return Difference(Interval(value, np.nan, np.nan), np.nan)
    between_blocks = (one.drawn - other.drawn).var(ddof=1) * pieces / (pieces - 1)
    parts = [(between_blocks, effective - 1)]
    parts += [
        (model.each.var(ddof=1) / len(model.each), len(model.each) - 1)
        for model in (one, other)
        if len(model.each) > 1
    ]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        half, p = 0.0, float(value == 0)
    else:
        freedom = variance**2 / sum(part**2 / of for part, of in parts)
        half = student.ppf(1 - LEVEL / 2, freedom) * np.sqrt(variance)
        p = 2 * student.sf(abs(value) / np.sqrt(variance), freedom)
    low, high = np.clip((value - half, value + half), -1, 1)
    return Difference(Interval(value, float(low), float(high)), max(float(p), 2.0 ** (1 - pieces)))


def _corrected(tests: Sequence[Test]) -> list[Test]:
    adjusted = holm([one.p for one in tests])
    return [replace(one, adjusted=float(p)) for one, p in zip(tests, adjusted, strict=True)]
