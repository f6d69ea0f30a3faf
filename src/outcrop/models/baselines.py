"""The classical classifiers that a network has to beat, each tuned as well as it can be."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import ParameterGrid, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import threadpool_limits

from outcrop.errors import OutcropError
from outcrop.models.features import FEATURES
from outcrop.models.gaussian import MaximumLikelihood

FOLDS = 5
TUNING_PATCHES = 2500
SVM_PATCHES = 10_000

Folds = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Baseline:
    """A classical classifier and what it sees of a patch.

    Attributes:
        name: 'maximum likelihood', 'decision tree', 'random forest' or 'SVM'.
        features: 'centre pixel' or 'patch statistics' (see `outcrop.models.features`), or what else
            a table of features is called that is given instead of images.
    """

    name: str
    features: str

    def fit(
        self,
        images: Any,
        labels: np.ndarray,
        groups: np.ndarray | None = None,
        classes: int | None = None,
        seed: int = 0,
    ) -> FittedBaseline:
        """Tune by cross-validation inside the training side, then fit.

        The settings are those with the best balanced accuracy over the held-out patches of all
        folds together (5 folds, or as many as the ground allows) that keep groups whole. Where
        not even two folds have two classes each to train on, the first settings are taken
        untuned. Tuning sees at most 2500 patches and the SVM at most 10 000, drawn class by
        class.

        Args:
            images: the training side alone. `N × bands × height × width`, any numeric dtype, NaN
                is no data; or their features, `N × F`, computed once for several models.
            labels: int, `N`. A class may be absent.
            groups: `N`, the piece of ground of each patch, or None.
            classes: K, the number of classes; one more than the largest label when not given.
            seed: of the folds, the sample and the trees; the same seed gives the same model.

        Raises:
            OutcropError: fewer than two classes to train on.
        """
        present, y = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)
        if len(present) < 2:
            raise OutcropError(
                self.name, "fewer than two classes to train on; take smaller blocks or buffer"
            )
        X = _features(images, self.features)
        recipe = _RECIPES[self.name]
        estimator = recipe.estimator(seed)
        sample = stratified_sample(y, TUNING_PATCHES, seed)
        folds = ground_folds(y[sample], None if groups is None else groups[sample], seed)
        used = stratified_sample(y, recipe.most, seed)
        # The matrices are small: BLAS threads would wait for each other more than they compute.
        with threadpool_limits(limits=1, user_api="blas"):
            settings, temperature = _tune(
                estimator, recipe.grid(X.shape[1]), X[sample], y[sample], folds
            )
            estimator.set_params(**settings, **recipe.final).fit(X[used], y[used])
        return FittedBaseline(
            baseline=self,
            estimator=estimator,
            present=present,
            classes=int(present[-1]) + 1 if classes is None else classes,
            settings={name.split("__")[-1]: value for name, value in settings.items()},
            temperature=temperature,
        )


@dataclass(frozen=True)
class FittedBaseline:
    """A tuned and trained classifier.

    Attributes:
        baseline: what was trained.
        estimator: the scikit-learn estimator, trained on indices into `present`.
        present: int64, the classes that the training side had.
        classes: K, the number of classes.
        settings: what tuning chose.
        temperature: what scores are divided by before they become probabilities.
    """

    baseline: Baseline
    estimator: Any
    present: np.ndarray
    classes: int
    settings: Mapping[str, Any]
    temperature: float

    def predict(self, images: Any) -> np.ndarray:
        """The class of each patch, int64, `N`, from images or features as for `Baseline.fit`."""
        return self.present[self._scores(images).argmax(axis=1)]

    def probabilities(self, images: Any) -> np.ndarray:
        """Class probabilities, float64, `N × K`; 0 for classes the training side did not have.

        Trees give the share of votes. Likelihoods and the SVM's decision values become
        probabilities through a softmax whose one parameter, the temperature, is fitted on held-out
        patches of the tuning folds; the largest is always that of the predicted class.

        Source: Guo et al. (2017), On calibration of modern neural networks, section 4.2
        (temperature scaling).
        """
        scores = self._scores(images)
        result = np.zeros((len(scores), self.classes))
        result[:, self.present] = softmax(scores / self.temperature, axis=1)
        return result

    def _scores(self, images: Any) -> np.ndarray:
        X = _features(images, self.baseline.features)
        return _scores(self.estimator, X, len(self.present))


@dataclass(frozen=True)
class _Recipe:
    """How to build one kind of classifier, what to tune, and how to fit it in the end.

    Attributes:
        estimator: from a seed.
        grid: from the number of features; the first of each list is what goes untuned.
        final: settings of the last fit that tuning does without.
        most: patches that the last fit can bear.
    """

    estimator: Callable[[int], BaseEstimator]
    grid: Callable[[int], list[dict[str, list[Any]]]]
    final: Mapping[str, Any] = field(default_factory=dict)
    most: int = sys.maxsize


_WEIGHTS = [None, "balanced"]

_RECIPES: Mapping[str, _Recipe] = {
    "maximum likelihood": _Recipe(
        estimator=lambda seed: Pipeline(
            [("scale", StandardScaler()), ("gaussian", MaximumLikelihood())]
        ),
        grid=lambda features: [
            {
                "gaussian__shrinkage": [0.3, 0.1, 0.7, 1.0],
                "gaussian__ridge": [0.5, 0.1, 1.0],
            },
            {"gaussian__shrinkage": [0.0]},
        ],
    ),
    "decision tree": _Recipe(
        estimator=lambda seed: DecisionTreeClassifier(random_state=seed),
        grid=lambda features: [{"min_samples_leaf": [3, 1, 10, 30], "class_weight": _WEIGHTS}],
    ),
    "random forest": _Recipe(
        estimator=lambda seed: RandomForestClassifier(50, random_state=seed),
        grid=lambda features: [{"min_samples_leaf": [1, 3, 10], "class_weight": _WEIGHTS}],
        final={"n_estimators": 200},
    ),
    "SVM": _Recipe(
        estimator=lambda seed: Pipeline(
            [("scale", StandardScaler()), ("svc", SVC(break_ties=True))]
        ),
        grid=lambda features: [
            {
                "svc__C": [10.0, 1.0, 100.0],
                "svc__gamma": [1 / features, 0.2 / features, 5 / features],
                "svc__class_weight": _WEIGHTS,
            }
        ],
        most=SVM_PATCHES,
    ),
}

BASELINES = tuple(Baseline(name, features) for features in FEATURES for name in _RECIPES)


def ground_folds(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> Folds:
    """Folds, balanced by class, that keep groups together; fewer than 5 if need be, or none.

    Args:
        labels: int, `N`.
        groups: `N`, or None for folds at random.
        seed: of the folds.

    Returns:
        Pairs of training and held-out indices. Every patch is held out once, and every training
        side has at least two classes; an empty list where that cannot be had.
    """
    most = np.bincount(labels).max() if groups is None else len(np.unique(groups))
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    for n in range(min(FOLDS, most), 1, -1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes rarer than folds
            try:
                folds = list(
                    splitter(n, shuffle=True, random_state=seed).split(labels, labels, groups)
                )
            except ValueError:  # every class is rarer than folds
                continue
        if all(len(held) and len(np.unique(labels[train])) > 1 for train, held in folds):
            return folds
    return []


def stratified_sample(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Indices, rising, of at most `size` patches with the class shares of all; none loses all.

    >>> labels = np.array([0] * 90 + [1] * 10)
    >>> np.bincount(labels[stratified_sample(labels, 10, seed=0)])
    array([9, 1])
    """
    if len(labels) <= size:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    firsts = np.cumsum(counts) - counts
    rank = np.arange(len(labels)) - firsts[labels[order]]
    quantile = rank / counts[labels[order]]
    return np.sort(order[np.argsort(quantile, kind="stable")[:size]])


def _features(images: Any, kind: str) -> np.ndarray:
    return images if images.ndim == 2 else FEATURES[kind](images)


def _tune(
    estimator: BaseEstimator,
    grid: list[dict[str, list[Any]]],
    X: np.ndarray,
    y: np.ndarray,
    folds: Folds,
) -> tuple[dict[str, Any], float]:
    """The best settings, the first among equals, and the temperature that suits them."""
    candidates = list(ParameterGrid(grid))
    if not folds:
        return candidates[0], 1.0
    trials = Parallel(n_jobs=-1, prefer="threads")(
        delayed(_held_out_scores)(clone(estimator).set_params(**settings), X, y, folds)
        for settings in candidates
    )
    accuracies = [balanced_accuracy_score(y, scores.argmax(axis=1)) for scores in trials]
    best = int(np.argmax(accuracies))
    calibrated = hasattr(estimator, "decision_function")
    return candidates[best], _temperature(trials[best], y) if calibrated else 1.0


def _held_out_scores(estimator: Any, X: np.ndarray, y: np.ndarray, folds: Folds) -> np.ndarray:
    scores = np.empty((len(y), y.max() + 1))
    for train, held in folds:
        scores[held] = _scores(estimator.fit(X[train], y[train]), X[held], scores.shape[1])
    return scores


def _scores(estimator: Any, X: np.ndarray, classes: int) -> np.ndarray:
    """`N × classes`, to be compared within a row; -inf for classes it was not trained on."""
    if not hasattr(estimator, "decision_function"):
        with np.errstate(divide="ignore"):
            found = np.log(estimator.predict_proba(X))
    else:
        found = estimator.decision_function(X)
        if found.ndim == 1:  # scikit-learn gives two classes one column
            found = np.stack([-found / 2, found / 2], axis=1)
    scores = np.full((len(X), classes), -np.inf)
    scores[:, estimator.classes_] = found
    return scores


def _temperature(scores: np.ndarray, y: np.ndarray) -> float:
    """What to divide scores by for the smallest log-loss where the true class was on offer.

    As in Platt (1999), Probabilistic outputs for support vector machines, the target is not 1
    but (n + 1) / (n + 2): n patches, all of them right, do not prove that none is ever wrong.
    """
    offered = np.isfinite(scores[np.arange(len(y)), y])
    scores, y = scores[offered], y[offered]
    if len(y) == 0:
        return 1.0
    truth = np.arange(scores.shape[1]) == y[:, None]
    true, others = scores[truth], np.where(truth, -np.inf, scores)
    target = (len(y) + 1) / (len(y) + 2)

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        log_odds = true / temperature - logsumexp(others / temperature, axis=1)
        costs = target * np.logaddexp(0, -log_odds) + (1 - target) * np.logaddexp(0, log_odds)
        return costs.mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 15), method="bounded").x))
