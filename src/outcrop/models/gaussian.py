"""Gaussian maximum likelihood, the standard classical classifier of remote sensing."""

from __future__ import annotations

import numpy as np
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.utils.validation import validate_data

_SMALLEST_VARIANCE = 1e-6


class MaximumLikelihood(QuadraticDiscriminantAnalysis):
    """One Gaussian for each class, with its own mean and covariance, and equal priors.

    Decision values and predictions are those of scikit-learn's quadratic discriminant analysis,
    which does not accept a class with one patch and cannot shrink towards the pooled covariance.
    Because labelled sites often have rare classes, the covariance of a class is here
    `(1 - shrinkage) S + shrinkage ((1 - ridge) P + ridge I)`, where S is the maximum likelihood
    covariance of the class and P the pooled covariance within classes. Variances along its axes are
    at least 1e-6. Features should be standardised.

    Source: Friedman (1989), Regularized discriminant analysis, Journal of the American
    Statistical Association 84, 165-175; the two parameters are nested differently here.

    Args:
        shrinkage: 0 (maximum likelihood) to 1 (one covariance for all classes).
        ridge: share of the identity in the pooled covariance, 0 to 1.
    """

    def __init__(self, shrinkage: float = 0.0, ridge: float = 0.0) -> None:
        self.shrinkage = shrinkage
        self.ridge = ridge

    def fit(self, X: np.ndarray, y: np.ndarray) -> MaximumLikelihood:
        """Estimate the Gaussians from features `N × F` and labels `N`."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        self.classes_, member = np.unique(y, return_inverse=True)
        members = [X[member == k] for k in range(len(self.classes_))]
        own = np.stack([np.atleast_2d(np.cov(of_class.T, bias=True)) for of_class in members])
        shares = np.bincount(member) / len(X)
        shared = np.tensordot(shares, own, axes=1) * (1 - self.ridge)
        shared = shared + self.ridge * np.eye(X.shape[1])
        covariances = (1 - self.shrinkage) * own + self.shrinkage * shared
        variances, axes = np.linalg.eigh(covariances)
        self.means_ = np.stack([of_class.mean(axis=0) for of_class in members])
        self.scalings_ = list(np.maximum(variances, _SMALLEST_VARIANCE))
        self.rotations_ = list(axes)
        self.priors_ = np.full(len(members), 1 / len(members))
        return self
