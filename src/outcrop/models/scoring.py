"""Fast and checked scores of fitted scikit-learn classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC
from sklearn.utils import assert_all_finite

from outcrop.errors import OutcropError
from outcrop.files import first_line
from outcrop.models.trees import Trees, compiled

_PART_VALUES = 1 << 19


@dataclass(frozen=True)
class Scorer:
    """Scores of an estimator, one column for each training class.

    Trees are evaluated by a compiled loop and SVMs by matrix products; other estimators by their
    own methods.

    Attributes:
        decides: true: decision values; false: probabilities.
        name: name of the model in error messages.
    """

    estimator: Any
    decides: bool
    name: str

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """The scores of float32 features `N × F`: float64, `N × trained classes`.

        Decision values are comparable within a row; probabilities sum to 1.

        Raises:
            OutcropError: the estimator raises an error or returns invalid results.
        """
        # The compiled loop does not support missing values, which are rare.
        if self._trees is None:
            return self._asked(X)
        gaps = np.isnan(X).any(axis=1)
        if not gaps.any():
            return self._from_trees(X)
        scores = np.empty((len(X), len(self.estimator.classes_)))
        scores[~gaps] = self._from_trees(X[~gaps])
        scores[gaps] = self._asked(X[gaps])
        return scores

    @cached_property
    def _trees(self) -> Trees | None:
        return compiled(self.estimator)

    @cached_property
    def _svm(self) -> RadialSVM | None:
        last = self.estimator[-1] if isinstance(self.estimator, Pipeline) else self.estimator
        return RadialSVM.of(last) if self.decides and type(last) is SVC else None

    def _from_trees(self, X: np.ndarray) -> np.ndarray:
        assert self._trees is not None
        return _two_columns(self._trees.sums(X))

    def _asked(self, X: np.ndarray) -> np.ndarray:
        try:
            if self._svm is not None:
                piped = isinstance(self.estimator, Pipeline)
                given = self.estimator[:-1].transform(X) if piped else X
                found = self._svm.decision_function(given)
            elif self.decides:
                found = np.asarray(self.estimator.decision_function(X), dtype=np.float64)
            else:
                found = np.asarray(self.estimator.predict_proba(X), dtype=np.float64)
        except Exception as error:  # of a class that may be the user's
            raise OutcropError(
                self.name,
                f"cannot predict from these features ({first_line(error)}); "
                "take another classifier or other features",
            ) from error
        return self._checked(found, len(X))

    def _checked(self, found: np.ndarray, rows: int) -> np.ndarray:
        what = "decision_function" if self.decides else "predict_proba"
        expected = (rows, len(self.estimator.classes_))
        two = self.decides and expected[1] == 2
        if found.shape != expected and not (two and found.shape in ((rows,), (rows, 1))):
            wrong = f"an array of shape {found.shape} instead of {expected}"
        elif not np.isfinite(found).all():
            wrong = "NaN or infinity"
        elif self.decides:
            return _two_columns(found) if two else found
        elif (found >= 0).all() and np.allclose(found.sum(axis=1), 1, atol=1e-3):
            return found
        else:
            wrong = "rows that are no probabilities (negative, or not 1 in sum)"
        raise OutcropError(
            self.name, f"its {what} gives {wrong}; correct it or take another classifier"
        )


@dataclass(frozen=True)
class RadialSVM:
    """The decision function of scikit-learn's SVC with a radial kernel, as matrix products.

    libsvm computes the same sums row by row; values differ by rounding only.

    Attributes:
        support: float64, `S × F`, support vectors, class by class.
        first: int, `K + 1`: index of the first support vector of each class.
        weights: float64, `K - 1 × S`, weight of each support vector against each other class.
        intercepts: float64, one for each pair of classes, (0, 1), (0, 2), ... (1, 2), ...
        gamma: parameter of the kernel `exp(-gamma d²)`.
    """

    support: np.ndarray
    first: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray
    gamma: float

    @classmethod
    def of(cls, svc: SVC) -> RadialSVM | None:
        """From a fitted SVC; None for another kernel or another form of decision values."""
        if svc.kernel != "rbf" or svc.decision_function_shape != "ovr":
            return None
        return cls(
            support=svc.support_vectors_,
            first=np.concatenate([[0], np.cumsum(svc.n_support_)]),
            weights=svc.dual_coef_,
            intercepts=svc.intercept_,
            gamma=float(svc._gamma),
        )

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """As in scikit-learn, one against the rest: float64 `N × K`, or `N × 1` for two classes."""
        X = np.asarray(X, dtype=np.float64)
        assert_all_finite(X)
        step = max(1, _PART_VALUES // max(1, len(self.support)))
        parts = [self._part(X[start : start + step]) for start in range(0, max(len(X), 1), step)]
        return np.concatenate(parts)

    def _part(self, X: np.ndarray) -> np.ndarray:
        squares = np.square(self.support).sum(axis=1)
        kernel = X @ (-2 * self.support.T)
        kernel += squares
        kernel += np.square(X).sum(axis=1, keepdims=True)
        np.maximum(kernel, 0, out=kernel)
        kernel *= -self.gamma
        np.exp(kernel, out=kernel)
        classes = len(self.first) - 1
        # The weighted kernel sums of a class against each of the others.
        against = []
        for k in range(classes):
            own = slice(self.first[k], self.first[k + 1])
            against.append(kernel[:, own] @ self.weights[:, own].T)
        pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
        decisions = np.stack([against[i][:, j - 1] + against[j][:, i] for i, j in pairs], axis=1)
        decisions += self.intercepts
        if classes == 2:
            return decisions
        votes, sums = np.zeros((len(X), classes)), np.zeros((len(X), classes))
        for column, (i, j) in enumerate(pairs):
            first_wins = decisions[:, column] >= 0
            votes[:, i] += first_wins
            votes[:, j] += ~first_wins
            sums[:, i] += decisions[:, column]
            sums[:, j] -= decisions[:, column]
        return votes + sums / (3 * (np.abs(sums) + 1))


def _two_columns(scores: np.ndarray) -> np.ndarray:
    """scikit-learn gives two classes one column of decision values."""
    if scores.ndim == 2 and scores.shape[1] > 1:
        return scores
    half = np.ravel(scores) / 2
    return np.stack([-half, half], axis=1)
