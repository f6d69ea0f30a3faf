"""Compiled trees and SVMs as matrix products give the results of scikit-learn."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from outcrop.errors import OutcropError
from outcrop.models.baselines import Baseline
from outcrop.models.scoring import RadialSVM, Scorer
from outcrop.models.trees import check_trees, compiled

TREES = {
    "tree": lambda **k: DecisionTreeClassifier(**k),
    "forest": lambda **k: RandomForestClassifier(7, **k),
    "extra trees": lambda **k: ExtraTreesClassifier(7, **k),
    "boosting": lambda **k: HistGradientBoostingClassifier(max_iter=5, **k),
}


def clouds(seed, n, features, classes, levels=None):
    """Overlapping clouds; with few levels, many features stand exactly on a threshold."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    X = rng.normal(0, 1.5, (n, features)) + y[:, None]
    X = X if levels is None else np.round(X * levels) / levels
    return X.astype(np.float32), y


def own_scores(estimator, X):
    if isinstance(estimator, HistGradientBoostingClassifier):
        scores = estimator.decision_function(X)
        return scores if scores.ndim == 2 else np.stack([-scores / 2, scores / 2], axis=1)
    return estimator.predict_proba(X)


@given(
    kind=st.sampled_from(sorted(TREES)),
    seed=st.integers(0, 1000),
    classes=st.integers(2, 5),
    features=st.integers(1, 4),
    rows=st.integers(0, 50),
    levels=st.sampled_from([None, 1, 3]),
    leaf=st.integers(1, 6),
    gaps=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_compiled_trees_give_the_same_bits(kind, seed, classes, features, rows, levels, leaf, gaps):
    X, y = clouds(seed, 60, features, classes, levels)
    fitted = TREES[kind](random_state=seed, min_samples_leaf=leaf).fit(X, y)
    new, _ = clouds(seed + 1, max(rows, classes), features, classes, levels)
    new = np.concatenate([new[:rows], X, [[np.inf] * features, [-np.inf] * features]])
    new[0, 0] = np.nan if gaps else 0
    new = new.astype(np.float32)
    if kind != "boosting":
        new = np.clip(new, -1e30, 1e30)  # scikit-learn refuses infinity here
    found = Scorer(fitted, kind == "boosting", kind)
    assert found._trees is not None
    np.testing.assert_array_equal(found(new), own_scores(fitted, new))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_feature_beside_a_threshold_goes_the_same_way(seed):
    """Thresholds are halfway between two features, where float32 cannot tell them apart."""
    rng = np.random.default_rng(seed)
    start = np.float32(rng.uniform(0.1, 60_000))
    X = np.array([start], dtype=np.float32)
    for _ in range(20):
        X = np.append(X, np.nextafter(X[-1], np.float32(np.inf)))
    y = rng.integers(0, 3, len(X))
    y[:2] = 0, 1
    tree = DecisionTreeClassifier().fit(X[:, None], y)
    np.testing.assert_array_equal(compiled(tree).sums(X[:, None]), tree.predict_proba(X[:, None]))


def test_threads_and_parts_change_nothing():
    X, y = clouds(0, 300, 5, 4)
    fitted = Baseline("random forest", "centre pixel").fit(X, y)
    new = np.tile(X, (70, 1))
    whole = fitted.probabilities_of(new)
    np.testing.assert_array_equal(whole[:300], fitted.probabilities_of(X))
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(fitted.probabilities_of, np.array_split(new, 9)))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@given(
    seed=st.integers(0, 1000),
    classes=st.integers(2, 6),
    C=st.sampled_from([0.1, 10.0, 1000.0]),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    weights=st.sampled_from([None, "balanced"]),
)
@settings(max_examples=60, deadline=None)
def test_an_svm_as_matrix_products_decides_alike(seed, classes, C, scale, weights):
    X, y = clouds(seed, 80, 3, classes)
    svc = SVC(C=C, gamma=0.3 * scale, class_weight=weights, break_ties=True)
    model = make_pipeline(StandardScaler(), svc).fit(X, y)
    new = np.concatenate([X, 5 * X, clouds(seed + 1, 200, 3, classes)[0]])
    found = Scorer(model, True, "SVM")
    scores, expected = found(new), model.decision_function(new)
    assert found._svm is not None
    if classes == 2:
        expected = np.stack([-expected / 2, expected / 2], axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_array_equal(scores.argmax(axis=1), model.predict(new))


def test_an_svm_is_evaluated_in_parts(monkeypatch):
    X, y = clouds(3, 80, 3, 4)
    svm = RadialSVM.of(SVC().fit(X, y))
    whole = svm.decision_function(X)
    monkeypatch.setattr("outcrop.models.scoring._PART_VALUES", 500)
    np.testing.assert_allclose(svm.decision_function(X), whole, atol=1e-12)
    assert svm.decision_function(X[:0]).shape == (0, 4)


OTHERS = {
    "linear SVM": LinearSVC(),
    "neighbours": KNeighborsClassifier(3),
    "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
    "polynomial SVM": SVC(kernel="poly", break_ties=True),
    "extra trees": ExtraTreesClassifier(5),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_any_classifier_of_scikit_learn_can_be_used(name, classes):
    X, y = clouds(0, 120, 3, classes)
    y = np.where(y == 1, 4, y)
    baseline = Baseline(name, "centre pixel", OTHERS[name])
    fitted = baseline.fit(X[:, :, None, None], y, classes=6, seed=3)
    assert not hasattr(OTHERS[name], "classes_")  # a copy was fitted
    probabilities = fitted.predict_proba(X[:, :, None, None])
    assert probabilities.shape == (120, 6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (probabilities[:, [3, 5]] == 0).all()
    predicted = fitted.present[fitted.estimator.predict(X)]
    np.testing.assert_array_equal(fitted.predict(X), predicted)
    if hasattr(fitted.estimator, "predict_proba"):
        expected = fitted.estimator.predict_proba(X)
        np.testing.assert_array_equal(probabilities[:, fitted.present], expected)
    again = baseline.fit(X, y, classes=6, seed=3).predict_proba(X)
    np.testing.assert_array_equal(again, probabilities)


class Odd(ClassifierMixin, BaseEstimator):
    """A classifier with a given fault."""

    def __init__(self, fault="none"):
        self.fault = fault

    def fit(self, X, y):
        if self.fault == "fit":
            raise RuntimeError("no such luck\nand more lines")
        self.classes_ = np.unique(y)[: 1 if self.fault == "classes" else None]
        return self

    def predict_proba(self, X):
        if self.fault == "predict":
            raise RuntimeError("no such luck")
        found = np.full((len(X), len(self.classes_)), 1 / len(self.classes_))
        if self.fault == "shape":
            return found[:, :-1]
        if self.fault == "rows":
            return found[:-1]
        if self.fault == "flat":
            return found[:, 0]
        if self.fault == "nan":
            found[0, 0] = np.nan
        if self.fault == "sum":
            found *= 2
        if self.fault == "negative":
            found[0, :2] = -1, 2 - (len(self.classes_) - 2) / len(self.classes_)
        return found


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("fit", "cannot be fitted to these features .no such luck.;"),
        ("classes", "1 classes_ after it was fitted to 3;"),
        ("predict", "cannot predict from these features .no such luck.;"),
        ("shape", "shape .30, 2. instead of .30, 3.;"),
        ("rows", "shape .29, 3. instead of .30, 3.;"),
        ("flat", "shape .30,. instead of .30, 3.;"),
        ("nan", "gives NaN or infinity;"),
        ("sum", "are no probabilities"),
        ("negative", "are no probabilities"),
    ],
)
def test_an_invalid_classifier_gives_one_error_line(fault, line):
    X, y = clouds(0, 30, 2, 3)
    with pytest.raises(OutcropError, match=line) as error:
        Baseline("odd", "centre pixel", Odd(fault)).fit(X, y).predict_proba(X)
    assert str(error.value).startswith("odd: ")
    assert "\n" not in str(error.value)


class Rewriting(Odd):
    def __init__(self, fault="none"):
        self.fault = fault + "!"


def test_a_classifier_that_cannot_be_copied_is_one_line():
    X, y = clouds(0, 30, 2, 3)
    with pytest.raises(OutcropError, match="cannot be copied as scikit-learn copies estimators"):
        Baseline("odd", "centre pixel", Rewriting()).fit(X, y)


def test_a_classifier_without_scores_is_one_line():
    X, y = clouds(0, 30, 2, 3)
    vote = VotingClassifier([("a", DecisionTreeClassifier())], voting="hard")
    with pytest.raises(OutcropError, match="has neither predict_proba nor decision_function"):
        Baseline("vote", "centre pixel", vote).fit(X, y)


@pytest.mark.parametrize("thing", [Odd, "SVC", StandardScaler(), object()])
def test_objects_without_the_methods_of_a_classifier_are_refused(thing):
    with pytest.raises(OutcropError, match="is no classifier of scikit-learn's kind"):
        Baseline("mine", "centre pixel", thing)


def test_a_name_without_a_classifier_is_refused():
    with pytest.raises(OutcropError, match="take one of maximum likelihood, decision tree"):
        Baseline("forest", "centre pixel")


def test_other_features_than_it_was_fitted_to_are_refused():
    X, y = clouds(0, 60, 3, 3)
    fitted = Baseline("decision tree", "centre pixel").fit(X, y)
    with pytest.raises(OutcropError, match="3 features and got an array of shape"):
        fitted.probabilities_of(X[:, :2])


def test_trees_are_checked_before_they_are_followed():
    X, y = clouds(0, 60, 3, 3)
    whole = [
        *(make(random_state=0) for make in TREES.values()),
        make_pipeline(PolynomialFeatures(), RandomForestClassifier(3)),
        BaggingClassifier(DecisionTreeClassifier(), max_features=2),
        AdaBoostClassifier(),
        GradientBoostingClassifier(n_estimators=3),
        StackingClassifier(
            [("a", SVC()), ("b", DecisionTreeClassifier())], DecisionTreeClassifier()
        ),
    ]
    for estimator in whole:
        check_trees(estimator.fit(X, y), 3, "model")
    for name, index in (("left", 0), ("right", 10_000), ("feature_idx", 3)):
        damaged = TREES["boosting"](random_state=0).fit(X, y)
        damaged._predictors[-1][-1].nodes[name][0] = index
        with pytest.raises(OutcropError, match="damaged decision tree"):
            check_trees({"deep": [damaged]}, 3, "model")


@pytest.mark.parametrize("kind", TREES)
def test_an_estimator_that_claims_fewer_features_is_refused(kind):
    X, y = clouds(0, 60, 3, 3)
    fitted = TREES[kind](random_state=0).fit(X, y)
    fitted.n_features_in_ = 1
    with pytest.raises(OutcropError, match="damaged decision tree"):
        check_trees(make_pipeline(StandardScaler().fit(X), fitted), 3, "model")
