"""Intervals of proportions and differences, from whole spatial blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from outcrop.metrics.intervals import (
    Support,
    interval_of_difference,
    interval_of_share,
    resampled_means,
    support,
    support_where,
    supports,
)


def of_patches(right, groups, draws=2000):
    """The interval of the accuracy."""
    drawn = resampled_means(right[:, None].astype(float), groups, draws, 0)[:, 0]
    return interval_of_share(right.mean(), drawn, support(groups, len(right)))


@pytest.mark.parametrize("right", [0, 1, 7, 30, 59, 60])
def test_independent_patches_have_the_interval_of_clopper_and_pearson(right):
    found = of_patches(np.arange(60) < right, None, draws=100_000)
    wanted = stats.binomtest(right, 60).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.003)


def test_the_interval_is_that_of_korn_and_graubard():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(18), rng.integers(5, 40, 18))
    right = rng.random(len(groups)) < rng.beta(4, 1.5, 18)[groups]
    found = of_patches(right, groups, draws=100_000)
    # With the variance of a ratio by linearisation instead of a bootstrap.
    size, hits = np.bincount(groups), np.bincount(groups, right)
    n, G, p = len(groups), 18, right.mean()
    variance = G / (G - 1) * ((hits - p * size) ** 2).sum() / n**2
    freedom = size.sum() ** 2 / (size**2).sum() - 1
    trials = p * (1 - p) / variance
    trials *= (stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, freedom)) ** 2
    low = stats.beta.ppf(0.025, p * trials, (1 - p) * trials + 1)
    high = stats.beta.ppf(0.975, p * trials + 1, (1 - p) * trials)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)


@given(
    pieces=st.integers(2, 40),
    each=st.integers(1, 30),
    chance=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_every_share_on_two_or_more_blocks_has_an_interval_with_a_width(pieces, each, chance, seed):
    groups = np.repeat(np.arange(pieces), each)
    right = np.random.default_rng(seed).random(len(groups)) < chance
    found = of_patches(right, groups, draws=200)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high > found.low


@given(pieces=st.integers(2, 60), each=st.integers(1, 20))
def test_without_errors_each_block_counts_as_one_trial(pieces, each):
    found = of_patches(np.ones(pieces * each, bool), np.repeat(np.arange(pieces), each), draws=3)
    wanted = stats.binomtest(pieces, pieces).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((wanted.low, 1))


def test_one_block_gives_no_interval():
    found = of_patches(np.arange(10) < 7, np.zeros(10))
    assert found.value == 0.7
    assert np.isnan([found.low, found.high]).all()


def test_undefined_scores_stay_undefined():
    nothing = interval_of_share(np.nan, np.full(50, np.nan), Support(0, 0, 0))
    assert str(nothing) == "undefined"
    some = interval_of_share(0.5, np.full(50, np.nan), Support(10, 5, 5))
    assert np.isnan(some.low)


def test_a_difference_has_the_interval_of_student():
    rng = np.random.default_rng(1)
    each = rng.normal(0.1, 0.2, 15)
    drawn = resampled_means(each[:, None], None, 100_000, 0)[:, 0]
    found = interval_of_difference(each.mean(), drawn, Support.of(np.ones(15)))
    low, high = stats.t.interval(0.95, 14, each.mean(), each.std(ddof=1) / np.sqrt(15))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.002)


def test_differences_stay_within_their_bounds():
    wild = np.random.default_rng(2).normal(0.9, 0.5, 500)
    found = interval_of_difference(0.9, wild, Support.of(np.ones(3)))
    assert (found.low, found.high) == (-1, 1)
    ratio = interval_of_difference(0.9, wild, Support.of(np.ones(3)), (0, np.inf))
    assert ratio.low == 0
    assert ratio.high > 1


def test_unequal_blocks_reduce_the_effective_number():
    groups = np.repeat(np.arange(4), (30, 10, 10, 10))
    assert support(groups, 60) == Support(60, 4, 3.0)
    assert support(None, 60) == Support(60, 60, 60)
    first, second = supports((groups == 0).astype(int), 2, groups)
    assert (first.pieces, second.pieces) == (3, 1)
    assert support_where(groups > 0, groups).samples == 30


def test_intervals_have_their_coverage_on_few_unequal_blocks():
    rng = np.random.default_rng(5)
    held, simulations = np.zeros(3), 250
    for k, pieces in enumerate((5, 10, 25)):
        for _ in range(simulations):
            size = np.ceil(np.exp(rng.normal(2.5, 0.9, pieces))).astype(int)
            groups = np.repeat(np.arange(pieces), size)
            right = rng.random(len(groups)) < rng.beta(4, 1, pieces)[groups]
            found = of_patches(right, groups, draws=200)
            held[k] += found.low <= 0.8 <= found.high
    assert (held / simulations >= 0.93).all(), held / simulations
