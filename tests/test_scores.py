import json
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from outcrop.errors import OutcropError
from outcrop.metrics.intervals import resampled_counts
from outcrop.metrics.scores import (
    Scores,
    precision_recall,
    score,
    worst_mistakes,
)

NAMES = ("rice", "water", "mangrove", "mudflat")


def random_case(seed, n=200, classes=4, groups=15, right=0.6):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    predicted = np.where(rng.random(n) < right, truth, rng.integers(0, classes, n))
    return truth, predicted, rng.integers(0, groups, n)


def values(intervals):
    return np.array([i.value for i in intervals])


@given(seed=st.integers(0, 10_000), n=st.integers(1, 80), classes=st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_values_are_those_of_scikit_learn(seed, n, classes):
    truth, predicted, groups = random_case(seed, n, classes)
    scores = score(truth, predicted, NAMES[:classes], groups, draws=3)
    labels = np.arange(classes)
    expected = metrics.precision_recall_fscore_support(
        truth, predicted, labels=labels, zero_division=np.nan
    )
    np.testing.assert_allclose(values(scores.precision), expected[0])
    np.testing.assert_allclose(values(scores.recall), expected[1])
    np.testing.assert_allclose(values(scores.f1), np.where(expected[3] > 0, expected[2], np.nan))
    np.testing.assert_array_equal(
        scores.confusion, metrics.confusion_matrix(truth, predicted, labels=labels)
    )
    assert scores.overall.value == pytest.approx(metrics.accuracy_score(truth, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        balanced = metrics.balanced_accuracy_score(truth, predicted)
    assert scores.balanced.value == pytest.approx(balanced)


def test_same_seed_same_intervals():
    case = random_case(1)
    first, second = (score(*case[:2], NAMES, case[2], draws=200, seed=3) for _ in range(2))
    assert json.dumps(first.to_json()) == json.dumps(second.to_json())
    assert score(*case[:2], NAMES, case[2], draws=200, seed=4).to_json() != first.to_json()


def test_undefined_is_not_zero():
    truth = np.array([0, 0, 1, 1, 1, 0])
    predicted = np.array([0, 0, 0, 0, 0, 0])
    scores = score(truth, predicted, NAMES[:3])
    assert np.isnan(scores.precision[1].value)
    assert scores.recall[1].value == 0
    assert scores.f1[1].value == 0
    for interval in (scores.precision[2], scores.recall[2], scores.f1[2]):
        assert str(interval) == "undefined"
    assert scores.balanced.value == 0.5


def test_one_group_gives_no_interval():
    truth, predicted, _ = random_case(2)
    scores = score(truth, predicted, NAMES, np.zeros(len(truth)), draws=100)
    assert scores.groups == 1
    for interval in (scores.overall, scores.balanced, *scores.recall, *scores.precision):
        assert not np.isnan(interval.value)
        assert np.isnan([interval.low, interval.high]).all()
    assert "unknown" in str(scores.overall)


def test_class_on_one_group_has_no_interval_of_recall():
    truth = np.array([0, 0, 1, 1, 0, 0])
    groups = np.array([0, 0, 1, 1, 2, 2])
    scores = score(truth, truth, NAMES[:2], groups, draws=100)
    assert scores.groups == 3
    assert np.isnan(scores.recall[1].low)
    # Two blocks that agree have the interval of two trials (Clopper and Pearson 1934).
    assert scores.recall[0].value == scores.recall[0].high == 1
    assert scores.recall[0].low == pytest.approx(0.025 ** (1 / 2))


def test_drawing_groups_is_drawing_groups():
    cells, _, groups = random_case(5, n=60, classes=4, groups=7)
    counts = resampled_counts(cells, 4, groups, draws=20_000, seed=0)
    tables = np.array([np.bincount(cells[groups == g], minlength=4) for g in np.unique(groups)])
    rng = np.random.default_rng(1)
    direct = tables[rng.integers(0, len(tables), (20_000, len(tables)))].sum(axis=1)
    np.testing.assert_allclose(counts.mean(axis=0), direct.mean(axis=0), rtol=0.02)
    np.testing.assert_allclose(counts.std(axis=0), direct.std(axis=0), rtol=0.03)


def test_groups_of_one_patch_are_no_groups():
    truth, predicted, _ = random_case(6)
    alone = score(truth, predicted, NAMES, np.arange(len(truth)), draws=50)
    assert alone.to_json() == score(truth, predicted, NAMES, draws=50).to_json()


def clustered_predictions(rng, groups=60, members=20):
    """Whether each patch is right: each block has its own accuracy, 0.7 on average."""
    chance = rng.beta(0.7 * 4, 0.3 * 4, groups)
    return (rng.random((groups, members)) < chance[:, None]).ravel().astype(int)


def test_intervals_by_group_cover_and_naive_ones_do_not():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 20)
    truth = np.ones(len(groups), dtype=int)
    covered = np.zeros(2)
    simulations = 300
    for seed in range(simulations):
        right = clustered_predictions(rng)
        for i, known in enumerate((groups, None)):
            overall = score(truth, right, NAMES[:2], known, draws=400, seed=seed).overall
            covered[i] += overall.low <= 0.7 <= overall.high
    by_group, naive = covered / simulations
    assert 0.92 <= by_group <= 0.985
    assert naive < 0.75


@pytest.mark.parametrize("groups", [1000, None])
def test_a_million_patches_take_seconds_at_most(groups):
    truth, predicted, group = random_case(4, n=1_000_000, groups=groups or 2)
    start = time.perf_counter()
    scores = score(truth, predicted, NAMES, group if groups else None)
    assert time.perf_counter() - start < 5
    assert scores.groups == (groups or 1_000_000)
    assert scores.overall.low < scores.overall.value < scores.overall.high


def test_json_is_standard_and_comes_back():
    truth, predicted, groups = random_case(7, classes=3)
    scores = score(truth, predicted, NAMES, groups, draws=50)
    text = json.dumps(scores.to_json(), allow_nan=False)
    back = Scores.from_json(json.loads(text))
    np.testing.assert_array_equal(back.confusion, scores.confusion)
    assert back.to_json() == scores.to_json()
    assert np.isnan(back.recall[3].value)


def test_no_patches_are_refused():
    with pytest.raises(OutcropError, match="no patches"):
        score(np.empty(0, int), np.empty(0, int), NAMES)


def test_precision_recall_curves():
    rng = np.random.default_rng(8)
    truth = rng.integers(0, 3, 300)
    probabilities = rng.dirichlet(np.ones(4), 300)
    probabilities[np.arange(300), truth] += 0.3
    curves = precision_recall(truth, probabilities)
    for k in range(3):
        expected = metrics.average_precision_score(truth == k, probabilities[:, k])
        assert curves[k].average_precision == pytest.approx(expected)
        above = probabilities[:, k] >= curves[k].thresholds[5]
        assert curves[k].recall[5] == pytest.approx(above[truth == k].mean())
    assert np.isnan(curves[3].average_precision)
    assert len(curves[3].precision) == 0


def test_worst_mistakes_are_wrong_and_sorted():
    rng = np.random.default_rng(9)
    truth = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet(np.ones(3), 200)
    worst = worst_mistakes(truth, probabilities, count=10)
    assert len(worst) == 10
    assert (probabilities[worst].argmax(axis=1) != truth[worst]).all()
    confidence = probabilities[worst].max(axis=1)
    assert (np.diff(confidence) <= 0).all()
    right = probabilities.argmax(axis=1) == truth
    others = np.setdiff1d(np.flatnonzero(~right), worst)
    assert probabilities[others].max() <= confidence[-1]
