"""Differences between two balanced accuracies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from outcrop.errors import OutcropError
from outcrop.metrics.gaps import balanced_gap, leak_gap, paired_gain, unpaired_leak_gap


def some_case(seed: int, right: float, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, n, p=(0.6, 0.2, 0.15, 0.05))
    said = np.where(rng.random(n) < right, truth, rng.integers(0, 4, n))
    return truth, said, rng.integers(0, 30, n)


@pytest.mark.parametrize("seed", range(3))
def test_values_are_differences_of_scikit_learns_balanced_accuracy(seed):
    one, other = some_case(seed, 0.8), some_case(seed + 10, 0.5)
    expected = balanced_accuracy_score(*one[:2]) - balanced_accuracy_score(*other[:2])
    assert balanced_gap(one, other, 4).value == pytest.approx(expected)
    truth, said, groups = one
    worse = some_case(seed, 0.3)[1]
    expected = balanced_accuracy_score(truth, said) - balanced_accuracy_score(truth, worse)
    assert paired_gain(truth, said, worse, groups, 4, draws=3).value == pytest.approx(expected)


def test_a_class_that_is_not_there_does_not_count():
    truth = np.array([0, 0, 2, 2])
    said = np.array([0, 1, 2, 2])
    assert paired_gain(truth, truth, said, None, 3).value == pytest.approx(0.25)


def test_pairs_are_told_apart_where_independent_draws_are_not():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 20)
    truth = np.tile(np.arange(4), 200)
    # Half of the blocks are hard for both models; one is slightly better everywhere.
    hard = groups % 2 == 0
    chance = rng.random(800)
    one = np.where(chance < np.where(hard, 0.35, 0.95), truth, (truth + 1) % 4)
    other = np.where(chance < np.where(hard, 0.28, 0.88), truth, (truth + 1) % 4)
    paired = paired_gain(truth, one, other, groups, 4)
    alone = balanced_gap((truth, one, groups), (truth, other, groups), 4)
    assert paired.value == pytest.approx(alone.value)
    assert paired.low > 0 > alone.low


def test_intervals_have_their_nominal_coverage():
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth, groups = np.tile(np.arange(2), 150), np.repeat(np.arange(50), 6)
        one, other = (np.where(rng.random(300) < p, truth, 1 - truth) for p in (0.8, 0.7))
        found = paired_gain(truth, one, other, groups, 2, draws=300)
        held += found.low <= 0.1 <= found.high
    assert 50 <= held <= 60


def test_one_block_gives_no_interval():
    truth, said, _ = some_case(0, 0.7)
    found = paired_gain(truth, truth, said, np.zeros(len(truth)), 4)
    assert found.value > 0
    assert np.isnan([found.low, found.high]).all()
    nowhere = np.empty(0, int)
    with pytest.raises(OutcropError, match="no patches"):
        paired_gain(nowhere, nowhere, nowhere, None, 4)


def test_the_same_seed_gives_the_same_interval():
    truth, said, groups = some_case(0, 0.7)
    found = [paired_gain(truth, truth, said, groups, 4, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_a_leak_gap_is_the_mean_difference_of_the_patches():
    rng = np.random.default_rng(0)
    random, ground = rng.random(120) < 0.9, rng.random(120) < 0.7
    found = leak_gap(random, ground, np.arange(120) // 6)
    assert found.value == pytest.approx(random.mean() - ground.mean())
    assert found.low < found.value < found.high


def test_a_leak_gap_has_the_interval_of_the_means_of_equal_pieces():
    # Pieces of one size: Student's t of their differences.
    rng = np.random.default_rng(1)
    random, ground = rng.random(240) < 0.9, rng.random(240) < 0.6
    found = leak_gap(random, ground, np.repeat(np.arange(24), 10), draws=40_000)
    each = (random.astype(float) - ground).reshape(24, 10).mean(axis=1)
    low, high = stats.t.interval(0.95, 23, each.mean(), each.std(ddof=1) / np.sqrt(24))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.002)


def test_blocks_that_are_hard_for_both_do_not_widen_a_leak_gap():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(25), 20)
    hard = (groups % 2 == 0) * 0.5
    random, ground = (rng.random(500) < p - hard for p in (0.95, 0.85))
    paired = leak_gap(random, ground, groups)
    truth = np.ones(500, int)
    apart = unpaired_leak_gap(
        (truth, random.astype(int), groups), (truth, ground.astype(int), groups)
    )
    assert paired.value == pytest.approx(apart.value)
    assert paired.low > 0 > apart.low


def test_a_leak_gap_covers_the_true_difference():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(12), rng.integers(4, 30, 12))
    covered = 0
    for seed in range(200):
        chance = rng.beta(2.8, 1.2, 12)[groups]
        random, ground = rng.random(len(groups)) < 0.9, rng.random(len(groups)) < chance
        found = leak_gap(random, ground, groups, draws=300, seed=seed)
        covered += found.low <= 0.2 <= found.high
    assert 0.92 <= covered / 200 <= 0.99


def test_models_that_agree_everywhere_have_a_gap_that_is_not_known_to_be_nothing():
    right = np.arange(100) % 3 > 0
    found = leak_gap(right, right, np.repeat(np.arange(10), 10))
    assert found.value == 0
    # Of ten pieces none differs: at most the bound of Clopper and Pearson for 0 of 10.
    assert (-found.low, found.high) == pytest.approx(
        [stats.binomtest(0, 10).proportion_ci().high] * 2
    )


def test_a_leak_gap_of_one_piece_is_unknown():
    truth, said, groups = some_case(3, 0.7)
    one = leak_gap(truth == truth, truth == said, np.zeros(len(truth)))
    assert one.value == pytest.approx(1 - (truth == said).mean())
    assert np.isnan(one.low)
    apart = unpaired_leak_gap((truth, truth, groups), (truth, said, np.zeros(len(truth))))
    assert np.isnan(apart.low)
