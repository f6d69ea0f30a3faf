"""The distance to the nearest point is that of all pairs, with few comparisons."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from outcrop.metrics import nearest
from outcrop.metrics.nearest import Nearest

seeds = st.integers(0, 2**32 - 1)
several = settings(deadline=None, max_examples=60)


def clumps(n, channels, seed, spread=0.1):
    """Points in clumps, some of them twice, and a few far away."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(9, channels))
    points = middles[random.integers(9, size=n)] + spread * random.normal(size=(n, channels))
    points[random.random(n) < 0.03] *= 20
    points[random.random(n) < 0.1] = points[0]
    return torch.from_numpy(points.astype(np.float32))


def of_all_pairs(queries, points):
    return cdist(queries.double().numpy(), points.double().numpy())


@several
@given(seeds, st.integers(1, 300), st.integers(1, 40), st.sampled_from([0.0, 0.1, 1.0]))
def test_it_is_the_nearest_of_all_pairs(seed, n, channels, spread):
    points, queries = clumps(n, channels, seed, spread), clumps(50, channels, seed + 1, 1.0)
    expected = of_all_pairs(queries, points).min(axis=1)
    found = Nearest(points).distance(queries)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)
    assert Nearest(points).distance(queries[:0]).shape == (0,)


@several
@given(seeds, st.integers(1, 200), st.integers(1, 20), st.integers(1, 20))
def test_of_other_groups_alone(seed, n, channels, groups):
    points = clumps(n, channels, seed)
    group = np.random.default_rng(seed).integers(groups, size=n)
    apart = of_all_pairs(points, points)
    apart[group[:, None] == group] = np.inf
    which = torch.from_numpy(group)
    found = Nearest(points, which).distance(points, which)
    np.testing.assert_allclose(found, apart.min(axis=1), rtol=1e-5, atol=1e-3)


@several
@given(seeds, st.integers(1, 200), st.integers(1, 20))
def test_a_further_point_raises_no_distance_and_a_point_is_at_0(seed, n, channels):
    points, queries = clumps(n + 1, channels, seed), clumps(40, channels, seed + 1, 1.0)
    before, after = (Nearest(some).distance(queries) for some in (points[:-1], points))
    assert (after <= before + 1e-3).all()
    spread = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, channels))).float()
    assert (Nearest(spread).distance(spread) <= 5e-4 * spread.norm(dim=1)).all()


def test_nan_has_no_distance_and_infinity_is_far():
    points = clumps(100, 3, 0)
    queries = torch.tensor([[0, 0, np.nan], [1e30, 0, 0], [0, 0, 0]])
    found = Nearest(points).distance(queries)
    assert found.isnan().tolist() == [True, False, False]
    assert found.isinf().tolist() == [False, True, False]


def test_it_is_the_same_in_one_ball_as_on_other_devices(monkeypatch):
    points, queries = clumps(400, 12, 0), clumps(900, 12, 1)
    in_balls = Nearest(points).distance(queries)
    monkeypatch.setattr(nearest, "_BALLS", 0)
    monkeypatch.setattr(nearest, "_VALUES", 5000)
    torch.testing.assert_close(Nearest(points).distance(queries), in_balls)


@pytest.mark.parametrize("channels", [3, 64])
def test_most_points_are_not_compared(channels, monkeypatch):
    looked = []
    of_ball = nearest._Best.look_into

    def look_into(best, ball, rows):
        looked.append(len(rows) * len(ball.index))
        of_ball(best, ball, rows)

    monkeypatch.setattr(nearest._Best, "look_into", look_into)
    # As in features: few directions vary much, many vary little.
    narrow = 0.7 ** torch.arange(channels)
    points, queries = (
        torch.from_numpy(np.random.default_rng(k).normal(size=(4000, channels))).float() * narrow
        for k in (0, 1)
    )
    Nearest(points).distance(queries)
    assert sum(looked) < 0.25 * 4000**2
