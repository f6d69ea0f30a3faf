"""Sample size and allocation, compared with Olofsson et al. (2014), section 5.1."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from outcrop.accuracy.allocation import (
    Allocation,
    SamplePlan,
    allocate,
    sample_size,
    smallest_plan,
)
from outcrop.errors import OutcropError

PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
HOPED = np.array([0.7, 0.6, 0.9, 0.95])
NAMES = ("deforestation", "gain", "forest", "other")


def test_the_sample_size_of_the_paper():
    assert sample_size(PIXELS, HOPED, 0.01) == 641
    # A simple sample needs p (1 - p) / 0.01²; p = 0.92375 is the expected overall accuracy.
    assert sample_size(PIXELS, HOPED, 0.01, simple=True) == 705


@pytest.mark.parametrize("how", get_args(Allocation))
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=8), st.integers(2, 5_000))
def test_all_points_are_allocated_and_none_to_an_empty_class(how, pixels, n):
    pixels = np.array(pixels)
    assume(pixels.any())
    try:
        points = allocate(pixels, n, how)
    except OutcropError:
        floor = 50 if how == "compromise" else 2
        assert n < np.minimum(floor, pixels).sum() or n > pixels.sum()
        return
    assert points.sum() == n
    assert (points >= 0).all()
    assert (points[pixels == 0] == 0).all()
    if how == "compromise":
        assert (points >= np.minimum(50, pixels)).all()
    if how == "equal":
        assert np.ptp(points[pixels > 0]) <= 1
    if how == "proportional":
        assert (np.abs(points - n * pixels / pixels.sum()) < 1).all()


def test_expected_errors_are_those_of_the_estimator():
    points = np.array([75, 75, 165, 325])
    plan = SamplePlan(NAMES, PIXELS, points, HOPED)
    np.testing.assert_allclose(plan.users_error, np.sqrt(HOPED * (1 - HOPED) / (points - 1)))
    share = PIXELS / PIXELS.sum()
    assert plan.overall_error == pytest.approx(np.sqrt(share**2 @ plan.users_error**2))
    assert not plan.is_worst_case
    nothing_said = SamplePlan(NAMES, PIXELS, points, np.full(4, np.nan))
    assert nothing_said.is_worst_case
    assert (nothing_said.users_error > plan.users_error).all()


def test_the_sample_size_gives_the_wanted_error():
    """With the assumed allocation, in proportion to W S, equation 13 is exact."""
    spread = PIXELS * np.sqrt(HOPED * (1 - HOPED))
    n = sample_size(PIXELS, HOPED, 0.01)
    points = np.rint(n * spread / spread.sum()).astype(int) + 1
    assert SamplePlan(NAMES, PIXELS, points, HOPED).overall_error == pytest.approx(0.01, rel=0.005)


@pytest.mark.parametrize("how", get_args(Allocation))
@pytest.mark.parametrize("floor", [50, 75, 100])
@pytest.mark.parametrize("wanted", [0.005, 0.01, 0.02])
def test_the_plan_is_the_smallest_with_the_wanted_error(how, floor, wanted):
    def plan_of(n):
        return SamplePlan(NAMES, PIXELS, allocate(PIXELS, n, how, floor), HOPED)

    floors = 4 * (floor if how == "compromise" else 2)
    least = max(sample_size(PIXELS, HOPED, wanted), floors)
    plan = smallest_plan(plan_of, wanted, least, int(PIXELS.sum()))
    n = plan.points.sum()
    assert plan.overall_error <= wanted
    assert n == least or plan_of(n - 1).overall_error > wanted


def test_an_unreachable_error_is_refused():
    few = np.array([200, 300])

    def plan_of(n):
        return SamplePlan(("a", "b"), few, allocate(few, n, "proportional"), np.array([0.7, 0.9]))

    with pytest.raises(OutcropError, match="cannot be reached with 500 pixels"):
        smallest_plan(plan_of, 0.001, 10, 500)


def test_the_error_of_a_simple_sample_agrees_with_simulation():
    share, n = PIXELS / PIXELS.sum(), 500
    random = np.random.default_rng(0)
    drawn = random.multinomial(n, share, size=20_000)
    drawn = drawn[(drawn > 0).all(axis=1)]
    right = random.binomial(drawn, HOPED) / drawn
    plan = SamplePlan(NAMES, PIXELS, n * share, HOPED, simple=True)
    assert plan.overall_error == pytest.approx((right @ share).std(), rel=0.02)


def test_refusals_name_the_class_and_the_remedy():
    with pytest.raises(OutcropError, match=r"too small for 4 classes.*use 200 or more"):
        allocate(PIXELS, 150)
    with pytest.raises(OutcropError, match="more than the 7 pixels"):
        allocate(np.array([3, 4]), 8, "equal")
    few, worst = np.array([12, 10_000]), np.full(2, np.nan)
    with pytest.raises(OutcropError, match=r"'rare'.*12 pixels, fewer than the 50"):
        SamplePlan(("rare", "common"), few, allocate(few, 100, "equal"), worst)
    with pytest.raises(OutcropError, match=r"'rare'.*0 points.*compromise"):
        SamplePlan(("rare", "common"), few, allocate(few, 100, "proportional"), worst)
    plan = SamplePlan(("rare", "common"), few, allocate(few, 100), worst)
    assert plan.points.tolist() == [12, 88]
