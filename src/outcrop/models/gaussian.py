"""Gaussian maximum likelihood, the classifier that remote sensing has compared with for decades."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

_SMALLEST_VARIANCE = 1e-6


class MaximumLikelihood(ClassifierMixin, BaseEstimator):
    """One Gaussian per class, each with its own mean and covariance; equal priors.

    scikit-learn's quadratic discriminant analysis does the same for classes with more members
    than features and refuses all others, however much it is told to regularise. Rare classes are
    the rule on labelled ground, so here the covariance of each class is drawn towards what all
    classes share: with S the class's own (maximum likelihood) covariance and P the pooled one
    within classes, it is `(1 - shrinkage) S + shrinkage ((1 - ridge) P + ridge I)`, and no
    variance along its axes counts as less than 1e-6. Features should be standardised.

    Source: Friedman (1989), Regularized discriminant analysis, Journal of the American
    Statistical Association 84, 165-175; the two parameters are nested differently here.

    Args:
        shrinkage: 0 (the textbook's maximum likelihood) to 1 (one covariance for all classes).
        ridge: how much of the shared covariance is the identity, 0 to 1.
    """

    def __init__(self, shrinkage: float = 0.0, ridge: float = 0.0) -> None:
        self.shrinkage = shrinkage
        self.ridge = ridge

    def fit(self, X: np.ndarray, y: np.ndarray) -> MaximumLikelihood:
        """Estimate the Gaussians from features `N × F` and labels `N`."""
        X = np.asarray(X, dtype=np.float64)
        self.classes_, member = np.unique(y, return_inverse=True)
        members = [X[member == k] for k in range(len(self.classes_))]
        self.means_ = np.stack([of_class.mean(axis=0) for of_class in members])
        own = np.stack([np.atleast_2d(np.cov(of_class.T, bias=True)) for of_class in members])
        shares = np.bincount(member) / len(X)
        shared = np.tensordot(shares, own, axes=1) * (1 - self.ridge)
        shared = shared + self.ridge * np.eye(X.shape[1])
        covariances = (1 - self.shrinkage) * own + self.shrinkage * shared
        variances, axes = np.linalg.eigh(covariances)
        variances = np.maximum(variances, _SMALLEST_VARIANCE)
        self.whitenings_ = axes / np.sqrt(variances)[:, None, :]
        self.log_volumes_ = np.log(variances).sum(axis=1)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """The log-likelihood of every class, float64, `N × K`, up to one constant for all."""
        X = np.asarray(X, dtype=np.float64)
        distances = [
            np.square((X - mean) @ whitening).sum(axis=1)
            for mean, whitening in zip(self.means_, self.whitenings_, strict=True)
        ]
        return -0.5 * (np.stack(distances, axis=1) + self.log_volumes_)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class under which the features are most likely, `N`."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]
