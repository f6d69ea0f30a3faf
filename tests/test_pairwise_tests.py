"""Pairwise tests of models on the same patches."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from sklearn.metrics import balanced_accuracy_score

from benchmarks.false_alarms import CLASSES, World
from outcrop.errors import OutcropError
from outcrop.metrics.pairwise import PairwiseTest, pairwise_tests
from outcrop.metrics.significance import effective_groups, holm, mcnemar


def judged(seed, **world):
    """Equally good models, but for the `gain` of the first."""
    return World(**world).predictions(seed)


def held(*case, draws=200, **how):
    return pairwise_tests(*case, CLASSES, draws=draws, **how)


def share(found) -> float:
    return float(np.mean(list(found)))


@pytest.mark.parametrize(
    ("how", "fewest"),
    [
        ({}, 0.02),
        ({"groups": 10}, 0.02),
        ({"uneven": 1.0}, 0.02),
        ({"seeds": 3, "seed_effect": 0.03}, 0.01),
        ({"seeds": 2, "seed_effect": 0.05, "local": 0.0, "patches": 40}, 0.01),
        ({"seeds": 5, "seed_effect": 0.02}, 0.01),
    ],
)
def test_a_difference_that_is_noise_is_shown_in_five_of_a_hundred(how, fewest):
    alone = [held(*judged(seed, **how))[0] for seed in range(300)]
    for measure in ("balanced", "overall"):
        found = [getattr(one, measure) for one in alone]
        assert fewest <= share(one.p < 0.05 for one in found) <= 0.08
        assert share(one.points.low <= 0 <= one.points.high for one in found) >= 0.92


def test_patches_taken_as_independent_find_differences_that_are_none():
    found = [held(*judged(seed))[0].mcnemar.p for seed in range(200)]
    assert share(p < 0.05 for p in found) > 0.1
    apart = [held(*judged(seed, local=0.0))[0].mcnemar.p for seed in range(200)]
    assert share(p < 0.05 for p in apart) <= 0.08


def test_seeds_that_are_left_out_of_the_reckoning_make_noise_look_like_a_difference():
    cases = [judged(seed, seeds=2, seed_effect=0.06, local=0.0, patches=40) for seed in range(200)]
    first = [
        held(truth, {name: one[:1] for name, one in said.items()}, groups)[0]
        for truth, said, groups in cases
    ]
    assert share(one.verdict != "no difference shown" for one in first) > 0.15


def test_the_best_of_many_may_be_picked_afterwards():
    wrong = 0
    for seed in range(200):
        found = held(*judged(seed, models=6, uneven=0.5))
        assert len(found) == 15
        wrong += any(one.verdict != "no difference shown" for one in found)
    assert wrong <= 0.08 * 200


def test_a_difference_that_is_there_is_found_the_more_surely_the_larger_it_is():
    found = [
        share(
            held(*judged(seed, gain=gain, local=0.03))[0].verdict == "better" for seed in range(60)
        )
        for gain in (0.0, 0.05, 0.15)
    ]
    assert found[0] < 0.1 < found[1] < 0.9 < found[2]


def test_values_are_differences_of_the_means_over_seeds():
    truth, said, groups = judged(0, seeds=3, seed_effect=0.05)
    found = held(truth, said, groups)[0]
    one, other = said.values()

    def balanced(rows):
        return np.mean([balanced_accuracy_score(truth, row) for row in rows])

    assert found.balanced.points.value == pytest.approx(balanced(one) - balanced(other))
    assert found.overall.points.value == pytest.approx(
        (one == truth).mean() - (other == truth).mean()
    )
    assert found.mcnemar.only_one == ((one[0] == truth) & (other[0] != truth)).sum()


def test_exchanging_two_models_changes_the_sign_alone():
    truth, said, groups = judged(0, seeds=3, seed_effect=0.01, gain=0.2)
    there, back = held(truth, said, groups)[0], held(truth, dict(reversed(said.items())), groups)[0]
    assert there.verdict == "better"
    assert back.verdict == "worse"
    assert there.balanced.p == pytest.approx(back.balanced.p)
    assert there.balanced.points.low == pytest.approx(-back.balanced.points.high)


def test_a_model_against_itself_is_no_difference():
    truth, said, groups = judged(0)
    found = held(truth, {"one": said["0"], "other": said["0"]}, groups)[0]
    assert (found.balanced.points.value, found.balanced.p, found.mcnemar.p) == (0, 1, 1)
    assert found.verdict == "no difference shown"


@pytest.mark.parametrize("number", [1, 2])
def test_one_or_two_blocks_never_show_a_difference(number):
    truth = np.arange(400) % CLASSES
    wrong = (truth + 1) % CLASSES
    found = held(truth, {"all": truth, "none": wrong}, np.arange(400) * number // 400)[0]
    assert found.verdict == "unknown"
    assert found.balanced.points.value == 1
    assert np.isnan([found.balanced.points.low, found.balanced.p, found.overall.p]).all()
    assert found.mcnemar.p < 1e-9


def test_few_blocks_have_the_smallest_p_of_a_permutation_test():
    truth = np.arange(500) % CLASSES
    wrong = (truth + 1) % CLASSES
    verdicts = {}
    for number in (5, 6):
        groups = np.arange(500) * number // 500
        found = held(truth, {"all": truth, "none": wrong}, groups)[0]
        verdicts[number] = found.verdict
        assert found.balanced.p == pytest.approx(2.0 ** (1 - number), rel=0.01)
    assert verdicts == {5: "no difference shown", 6: "better"}


def test_a_class_in_one_block_leaves_the_balanced_accuracy_unknown():
    groups = np.repeat(np.arange(20), 20)
    truth = np.where(groups == 0, 3, np.arange(400) % 3)
    found = held(truth, {"all": truth, "none": (truth + 1) % 4}, groups)[0]
    assert found.verdict == "unknown"
    assert found.overall.adjusted < 0.001


def test_tests_survive_json():
    for case in (
        judged(0, models=3),
        (np.zeros(4, int), {"a": np.zeros(4, int), "b": np.ones(4, int)}, np.zeros(4)),
    ):
        for one in held(*case):
            again = PairwiseTest.from_json(json.loads(json.dumps(one.to_json())))
            assert repr(again) == repr(one)


def test_no_patches_are_refused():
    nothing = np.empty(0, int)
    with pytest.raises(OutcropError, match="no patches"):
        held(nothing, {"a": nothing, "b": nothing}, None)


def test_the_same_seed_gives_the_same_test():
    case = judged(3, seeds=2)
    assert held(*case, seed=1) == held(*case, seed=1)
    assert held(*case, seed=1) != held(*case, seed=2)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_the_raw_p_and_bonferronis(p):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p))).all()
    ranked = adjusted[np.argsort(p, kind="stable")]
    assert all(a <= b for a, b in pairwise(ranked))
    assert len(p) == 0 or adjusted.min() == min(1, len(p) * min(p))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(0, 8))
def test_an_unknown_p_is_no_test(p, at):
    there = np.insert(p, min(at, len(p)), np.nan)
    adjusted = holm(there)
    assert np.isnan(adjusted[min(at, len(p))])
    np.testing.assert_array_equal(adjusted[~np.isnan(there)], holm(p))


def table(only_one: int, only_other: int, both: int = 5):
    one = np.repeat([True, False, True], [only_one, only_other, both])
    other = np.repeat([False, True, True], [only_one, only_other, both])
    return mcnemar(one, other)


@given(st.integers(0, 200))
def test_a_tie_shows_nothing_by_mcnemars_test(each):
    one = np.arange(2 * each) < each
    assert mcnemar(one, ~one).p == 1


@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemars_p_falls_as_the_two_move_apart(only_one, only_other):
    def p(a, b):
        return mcnemar(np.arange(a + b) < a, np.arange(a + b) >= a).p

    more, less = max(only_one, only_other), min(only_one, only_other)
    assert 0 <= p(more, less) <= 1
    assert p(more, less) == pytest.approx(p(less, more))
    if less:
        assert p(more + 1, less - 1) <= p(more, less) + 1e-12


def test_mcnemar_as_published():
    # Agresti (1990), Categorical Data Analysis, p. 350: of 1600 asked twice, 150 and 86 changed
    # their minds, z = -4.17; the correction for continuity takes 1 from the 64 between them.
    found = table(150, 86)
    assert (found.only_one, found.only_other) == (150, 86)
    assert found.p == pytest.approx(2 * norm.sf(4.17 * 63 / 64), rel=0.03)
    assert found.p == pytest.approx(2 * binom.cdf(86, 236, 0.5), rel=0.15)


@settings(max_examples=50)
@given(st.integers(0, 24), st.integers(0, 24))
def test_few_discordant_patches_are_counted_exactly(a, b):
    if a + b >= 25:
        return
    exact = min(1.0, 2 * binom.cdf(min(a, b), a + b, 0.5))
    assert table(a, b).p == pytest.approx(exact)
    assert table(a, b).p == table(b, a).p


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30))
def test_uneven_pieces_amount_to_fewer(weights):
    found = effective_groups(np.array(weights))
    assert 1 - 1e-9 <= found <= len(weights) + 1e-9
    assert effective_groups(np.array(weights) * 7) == pytest.approx(found)
