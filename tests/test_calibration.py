import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from torchmetrics.functional.classification import multiclass_calibration_error

from outcrop.errors import OutcropError
from outcrop.metrics.calibration import (
    calibrate,
    fit_temperature,
    reliability,
    temperature_that_holds,
    tempered,
)
from outcrop.metrics.scores import score

seeds = st.integers(0, 2**32 - 1)


def simulated(n, temperature, seed=0, classes=4):
    """Truth drawn from softmax(z), and overconfident probabilities softmax(temperature · z)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes))
    truth = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return truth, softmax(temperature * logits, axis=1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature):
    truth, sure = simulated(20_000, temperature)
    assert fit_temperature(truth, sure) == pytest.approx(temperature, rel=0.04)


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0.3, 4))
def test_the_temperature_is_that_of_lbfgs(seed, temperature):
    truth, sure = simulated(300, temperature, seed)
    logarithms = torch.from_numpy(np.log(sure))
    coldness = torch.ones((), dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([coldness], max_iter=200, line_search_fn="strong_wolfe",
                                  tolerance_grad=1e-10, tolerance_change=1e-14)  # fmt: skip

    def loss():
        optimiser.zero_grad()
        found = torch.nn.functional.cross_entropy(coldness * logarithms, torch.from_numpy(truth))
        found.backward()
        return found

    optimiser.step(loss)
    assert fit_temperature(truth, sure) == pytest.approx(1 / coldness.item(), rel=1e-4)


def test_for_two_classes_it_is_logistic_regression_without_an_intercept():
    truth, sure = simulated(500, 2.0, classes=2)
    odds = np.log(sure[:, 1] / sure[:, 0])
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(odds[:, None], truth)
    assert fit_temperature(truth, sure) == pytest.approx(1 / model.coef_.item(), rel=1e-5)


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0.05, 20))
def test_the_order_of_the_classes_stays_and_rows_sum_to_one(seed, temperature):
    _, sure = simulated(50, 3.0, seed)
    found = tempered(sure, temperature)
    np.testing.assert_array_equal(found.argsort(axis=1), sure.argsort(axis=1))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found, softmax(np.log(sure) / temperature, axis=1), atol=1e-12)


def test_without_errors_the_temperature_is_1():
    sure = np.float32([[0.6, 0.4], [0.1, 0.9], [1, 0]])
    assert fit_temperature(np.array([0, 1, 0]), sure) == 1
    assert fit_temperature(np.empty(0, int), np.empty((0, 2), np.float32)) == 1
    assert tempered(sure, 1.0) is sure


def test_the_temperature_has_bounds():
    always_wrong = np.float32([[1, 0], [1, 0]])
    assert fit_temperature(np.array([1, 1]), always_wrong) == pytest.approx(20, rel=1e-3)
    nearly_even = np.tile(np.float32([0.5001, 0.4999]), (100, 1))
    truth = np.zeros(100, int)
    truth[0] = 1
    assert fit_temperature(truth, nearly_even) == pytest.approx(0.05, rel=1e-3)
    found = tempered(always_wrong, 20.0)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_reliability_by_hand():
    truth = np.array([0, 0, 1, 1, 0])
    sure = np.array([[1, 0], [0.75, 0.25], [0.75, 0.25], [0.4, 0.6], [0.5, 0.5]])
    found = reliability(truth, sure, bins=4)
    np.testing.assert_array_equal(found.counts, [0, 1, 3, 1])  # 0.5 and 0.75 end their bins
    np.testing.assert_allclose(found.confidence, [np.nan, 0.5, 0.7, 1])
    np.testing.assert_allclose([one.value for one in found.accuracy], [np.nan, 1, 2 / 3, 1])
    assert found.error == pytest.approx((0.5 + 3 * (0.7 - 2 / 3)) / 5)
    assert found.excess.value == pytest.approx(3.6 / 5 - 4 / 5)


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(1, 30), st.floats(0.3, 4))
def test_the_error_is_that_of_torchmetrics(seed, bins, temperature):
    truth, sure = simulated(200, temperature, seed)
    expected = multiclass_calibration_error(
        torch.from_numpy(sure), torch.from_numpy(truth), num_classes=4, n_bins=bins, norm="l1"
    )
    assert reliability(truth, sure, bins).error == pytest.approx(float(expected), abs=1e-6)


def test_intervals_depend_on_spatial_blocks():
    truth, sure = simulated(600, 2.0)
    alone, ground = (reliability(truth, sure, groups=g) for g in (None, np.arange(600) // 60))
    accuracy = score(truth, sure.argmax(axis=1), ("a", "b", "c", "d")).overall
    width = accuracy.high - accuracy.low
    assert alone.excess.low < alone.excess.value < alone.excess.high
    assert alone.excess.high - alone.excess.low == pytest.approx(width, rel=0.3)
    assert alone.excess.low > 0
    one_piece = reliability(truth, sure, groups=np.zeros(600, int))
    assert np.isnan(one_piece.excess.low)
    assert all(np.isnan(one.low) for one in one_piece.accuracy)
    assert ground.error == alone.error == one_piece.error
    with pytest.raises(OutcropError, match="no patches"):
        reliability(truth[:0], sure[:0])


def test_the_temperature_is_evaluated_on_other_blocks():
    truth, sure = simulated(3000, 3.0)
    found = calibrate(truth, sure, np.arange(3000) // 30)
    assert found.temperature == fit_temperature(truth, sure)
    assert found.after.error < 0.5 * found.before.error
    assert found.before.excess.low > 0
    assert found.after.excess.low < 0 < found.after.excess.high

    # Two blocks, one always right, the other never: neither predicts the other.
    truth, sure = np.repeat([0, 1], 50), np.tile([0.9, 0.1], (100, 1))
    after = calibrate(truth, sure, np.repeat([0, 1], 50)).after
    flattered = reliability(truth, tempered(sure, fit_temperature(truth, sure)))
    assert after.error > 0.1 > flattered.error
    assert calibrate(truth, sure, np.zeros(100, int)).after is None


def test_a_temperature_that_does_not_transfer_is_not_used():
    """Half of the blocks are overconfident, half underconfident: no temperature suits both."""
    (truth, cold), (_, hot) = simulated(1000, 0.3), simulated(1000, 4.0)
    ground = np.repeat([0, 1], 500)
    mixed = np.where(ground[:, None] == 0, cold, hot)
    assert fit_temperature(truth, mixed) != 1
    assert temperature_that_holds(truth, mixed, ground) == 1
    found = calibrate(truth, mixed, ground)
    assert found.temperature == 1
    assert found.after.error > found.before.error
    assert temperature_that_holds(truth, hot, ground) == fit_temperature(truth, hot)
    assert temperature_that_holds(truth, hot, np.zeros(1000)) == fit_temperature(truth, hot)
    assert temperature_that_holds(truth[:0], hot[:0], ground[:0]) == 1


def test_a_missing_class_is_accepted():
    truth, sure = simulated(500, 2.0)
    here = truth != 3
    found = calibrate(truth[here], sure[here].astype(np.float32))
    assert found.temperature > 1
    assert found.after is not None


def test_shares_of_votes_of_zero_do_not_decide_the_temperature():
    """Two of a hundred labels are wrong: a forest then has no vote for some true classes."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 4000)
    seen = truth[:, None] * 2.0 + rng.normal(size=(4000, 4))
    noisy = np.where(rng.random(4000) < 0.02, (truth + 1) % 3, truth)
    forest = RandomForestClassifier(100, random_state=0).fit(seen[:2000], noisy[:2000])
    votes = forest.predict_proba(seen[2000:])
    labels = noisy[2000:]
    assert (votes[np.arange(2000), labels] == 0).sum() > 10
    T = temperature_that_holds(labels, votes)
    before = reliability(labels, votes)
    after = reliability(labels, tempered(votes, T))
    assert 0.7 < T < 2
    assert abs(after.excess.value) < abs(before.excess.value) + 0.02
