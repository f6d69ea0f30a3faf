"""Do 95 % intervals hold the true value 95 times in 100? On grounds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from benchmarks.coverage import rows, table
from outcrop.accuracy.areas import by_map_class, by_piece, by_stratum

SHARE = np.array([0.05, 0.15, 0.8])
# Of each class of the map, what is there in truth.
TRUTH = np.array([[0.85, 0.1, 0.05], [0.05, 0.8, 0.15], [0.02, 0.04, 0.94]])
OVERALL = float(SHARE @ np.diag(TRUTH))
AREA = SHARE @ TRUTH
PIXELS = np.rint(1e7 * SHARE)


def held(estimate, truth):
    return estimate.low <= truth <= estimate.high


def coverage(found):
    """Of the overall accuracy, and of the areas."""
    overall = np.mean([held(one.overall, OVERALL) for one in found])
    areas = np.mean([[held(a, t) for a, t in zip(one.area, AREA, strict=True)] for one in found])
    return overall, areas


def draws_within(random, points):
    return np.stack([random.multinomial(n, row) for n, row in zip(points, TRUTH, strict=True)])


@pytest.mark.parametrize("design", ["stratified", "simple"])
def test_intervals_of_random_points_hold_the_truth(design):
    found = []
    for seed in range(1_000):
        random = np.random.default_rng(seed)
        points = [100, 150, 350] if design == "stratified" else random.multinomial(600, SHARE)
        found.append(by_map_class(draws_within(random, points), PIXELS))
    # Chance alone moves 95 % by 0.7 points here; normal intervals of shares fall a little short.
    assert coverage(found) == (pytest.approx(0.95, abs=0.02), pytest.approx(0.945, abs=0.02))


def test_intervals_hold_where_the_map_was_changed_after_the_points_were_drawn():
    found = []
    # The new map finds half of what is class 0 in truth within stratum 2.
    for seed in range(1_000):
        random = np.random.default_rng(seed)
        table = np.zeros((3, 3, 3), int)
        for h, n in enumerate((100, 150, 350)):
            table[h, h] = random.multinomial(n, TRUTH[h])
        moved = random.binomial(table[2, 2, 0], 0.5)
        table[2, 2, 0] -= moved
        table[2, 0, 0] += moved
        found.append(by_stratum(table, PIXELS))
    overall = OVERALL + SHARE[2] * TRUTH[2, 0] / 2
    assert np.mean([held(one.overall, overall) for one in found]) == pytest.approx(0.95, abs=0.02)
    producers = (SHARE[0] * TRUTH[0, 0] + SHARE[2] * TRUTH[2, 0] / 2) / AREA[0]
    # Seven points of 350 decide it, and a normal interval of so few is somewhat short.
    assert np.mean([held(one.producers[0], producers) for one in found]) > 0.89
    users = producers * AREA[0] / (SHARE[0] + SHARE[2] * TRUTH[2, 0] / 2)
    assert np.mean([held(one.users[0], users) for one in found]) > 0.89


def test_pixels_of_a_polygon_that_agree_are_one_sample_and_not_many():
    """Each polygon lies in one class of the map and is one class in truth."""
    whole, naive = [], []
    for seed in range(200):
        random = np.random.default_rng(seed)
        mapped = np.repeat(np.arange(3), (40, 40, 120))
        truth = np.array([random.choice(3, p=TRUTH[i]) for i in mapped])
        pixels = random.integers(20, 60, len(mapped))
        cells = mapped * 3 + truth
        table = sparse.csr_array((pixels, (np.arange(len(mapped)), cells)), shape=(200, 9))
        whole.append(by_piece(table, PIXELS, draws=400, seed=seed))
        naive.append(by_map_class(np.bincount(cells, pixels, 9).reshape(3, 3), PIXELS))
    of_whole, of_naive = coverage(whole), coverage(naive)
    assert min(of_whole) > 0.88
    assert max(of_naive) < 0.4


def test_the_benchmark_has_a_row_for_each_setting():
    found = rows(2)
    assert {row.what for row in found} >= {"overall accuracy", "leak gap", "area, points"}
    assert all(0 <= row.holds <= 1 for row in found if row.unknown < 1)
    assert table(found).count("| --- ") >= 3
