"""A classical model as a `torch.nn.Module`, for export."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from outcrop.errors import OutcropError
from outcrop.models.features import LAGS
from outcrop.models.gaussian import MaximumLikelihood
from outcrop.models.scoring import RadialSVM
from outcrop.models.trees import Trees, compiled
from outcrop.patches.positions import upper_left
from outcrop.training.classical import ClassicalModel

_TINY = torch.finfo(torch.float32).tiny


class ClassicalModule(nn.Module):
    """Maps raw pixels to logits, whose softmax are the calibrated probabilities of the model.

    Raises:
        OutcropError: a classifier that outcrop does not define.
    """

    present: Tensor

    def __init__(self, model: ClassicalModel) -> None:
        super().__init__()
        fitted = model.fitted
        self.order = None if model.order is None else list(model.order)
        self.centre = model.seen == (1, 1)
        self.classes, self.decides = fitted.classes, fitted.decides
        self.cold = fitted.temperature if fitted.decides else 1.0
        self.temperature = model.temperature
        self.register_buffer("present", torch.from_numpy(fitted.present))
        self.scores = _scores_of(fitted.estimator, model.title)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32, `N × classes`; about -87 for classes that are never predicted.

        Args:
            images: `N × bands × height × width`; NaN and infinite pixels are no data.
        """
        x = images.double()
        x = torch.where(torch.isfinite(x), x, torch.nan)
        if self.order is not None:
            x = x[:, self.order]
        scores = self.scores(_centre(x) if self.centre else _statistics(x))
        likely = (scores / self.cold).softmax(dim=1) if self.decides else scores
        every = likely.new_zeros(images.shape[0], self.classes)
        every = every.index_copy(1, self.present, likely)
        return (every.clamp_min(_TINY).log() / self.temperature).float()


def _centre(x: Tensor) -> Tensor:
    return x[:, :, x.shape[2] // 2, x.shape[3] // 2].float()


def _statistics(x: Tensor) -> Tensor:
    """See `outcrop.models.features.statistics`."""
    return torch.cat([_centre(x), *(one.float() for one in _measures(x))], dim=1)


def _measures(x: Tensor) -> Iterator[Tensor]:
    for window in (x, _inner(x)):
        mean = _mean(window)
        yield mean
        yield _mean((window - mean[:, :, None, None]).square()).sqrt()
        for axis in (2, 3):
            for lag in LAGS:
                length = window.shape[axis] - lag
                if length > 0:
                    pairs = window.narrow(axis, lag, length) - window.narrow(axis, 0, length)
                    yield _mean(pairs.abs()) / 2


def _inner(x: Tensor) -> Tensor:
    for axis in (2, 3):
        size = x.shape[axis]
        half = (size + 1) // 2
        x = x.narrow(axis, upper_left(size // 2, half), half)
    return x


def _mean(x: Tensor) -> Tensor:
    """The mean of the values that are not NaN; 0 without any."""
    valid = ~x.isnan()
    total = torch.where(valid, x, 0).sum(dim=(2, 3))
    return total / valid.sum(dim=(2, 3)).clamp_min(1)


def _scores_of(estimator: object, title: str) -> nn.Module:
    if isinstance(estimator, Pipeline):
        return nn.Sequential(*(_scores_of(step, title) for step in estimator))
    if (trees := compiled(estimator)) is not None:
        return _TreeModule(trees, isinstance(estimator, HistGradientBoostingClassifier))
    if type(estimator) is StandardScaler:
        return _Scaler(estimator)
    if type(estimator) is PCA:
        return _Components(estimator)
    if type(estimator) is MaximumLikelihood:
        return _Gaussians(estimator)
    svm = RadialSVM.of(estimator) if hasattr(estimator, "support_vectors_") else None
    if svm is None:
        raise OutcropError(
            title,
            "cannot be exported: only outcrop's own classical models can; use `outcrop.map_scene`",
        )
    return _SVM(svm)


class _Step(nn.Module):
    """A part of a classifier with arrays as buffers."""

    def keep(self, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array))


class _Scaler(_Step):
    mean: Tensor
    scale: Tensor

    def __init__(self, scaler: StandardScaler) -> None:
        super().__init__()
        self.keep(mean=scaler.mean_, scale=scaler.scale_)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale


class _Components(_Step):
    mean: Tensor
    axes: Tensor

    def __init__(self, fitted: PCA) -> None:
        super().__init__()
        self.keep(mean=fitted.mean_.astype(np.float64), axes=fitted.components_.astype(np.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x.double() - self.mean) @ self.axes.T


class _Gaussians(_Step):
    mean: Tensor
    whitening: Tensor
    volume: Tensor

    def __init__(self, fitted: MaximumLikelihood) -> None:
        super().__init__()
        rotations, variances = np.stack(fitted.rotations_), np.stack(fitted.scalings_)
        whitening = rotations / np.sqrt(variances)[:, None, :]
        self.keep(mean=fitted.means_, whitening=whitening, volume=np.log(variances).sum(axis=1))

    def forward(self, x: Tensor) -> Tensor:
        white = torch.einsum("nkf,kfg->nkg", x[:, None].double() - self.mean, self.whitening)
        return -0.5 * (white.square().sum(dim=2) + self.volume)


class _SVM(_Step):
    support: Tensor
    against: Tensor
    intercepts: Tensor
    first: Tensor
    second: Tensor

    def __init__(self, svm: RadialSVM) -> None:
        super().__init__()
        classes = len(svm.first) - 1
        pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
        against = np.zeros((len(svm.support), len(pairs)))
        for column, (i, j) in enumerate(pairs):
            for one, row in ((i, j - 1), (j, i)):
                own = slice(svm.first[one], svm.first[one + 1])
                against[own, column] = svm.weights[row, own]
        first, second = (np.eye(classes)[[pair[end] for pair in pairs]] for end in (0, 1))
        self.gamma, self.classes = svm.gamma, classes
        self.keep(support=svm.support, against=against, intercepts=svm.intercepts)
        self.keep(first=first, second=second)

    def forward(self, x: Tensor) -> Tensor:
        x = x.double()
        squares = x.square().sum(dim=1, keepdim=True) + self.support.square().sum(dim=1)
        distances = (squares - 2 * x @ self.support.T).clamp_min(0)
        decisions = (-self.gamma * distances).exp() @ self.against + self.intercepts
        if self.classes == 2:
            return torch.cat([-decisions, decisions], dim=1) / 2
        wins = (decisions >= 0).double()
        votes = wins @ self.first + (1 - wins) @ self.second
        sums = decisions @ (self.first - self.second)
        return votes + sums / (3 * (sums.abs() + 1))


class _TreeModule(_Step):
    roots: Tensor
    feature: Tensor
    threshold: Tensor
    left: Tensor
    values: Tensor
    start: Tensor

    def __init__(self, trees: Trees, boosted: bool) -> None:
        super().__init__()
        nodes, columns = len(trees.left), len(trees.start)
        values = np.zeros((nodes, columns))
        node = np.repeat(np.arange(nodes), trees.first[1:] - trees.first[:-1])
        np.add.at(values, (node, trees.column), trees.value)
        self.boosted, self.divisor = boosted, trees.divisor
        self.depth = _depth(trees)
        roots, feature, left = (
            each.astype(np.int64) for each in (trees.roots, trees.feature, trees.left)
        )
        self.keep(roots=roots, feature=feature, threshold=trees.threshold, left=left)
        self.keep(values=values, start=trees.start)

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        at = self.roots.expand(x.shape[0], -1)
        for _ in range(self.depth):
            at = self.left[at] + (x.gather(1, self.feature[at]) > self.threshold[at])
        sums = (self.start + self.values[at].sum(dim=1)) / self.divisor
        if self.boosted and sums.shape[1] == 1:
            return torch.cat([-sums, sums], dim=1) / 2
        return sums


def _depth(trees: Trees) -> int:
    """Depth of the deepest tree."""
    at, depth = trees.roots.astype(np.int64), 0
    while True:
        inner = at[trees.left[at] != at]
        if not len(inner):
            return depth
        at = np.concatenate([trees.left[inner], trees.left[inner] + 1]).astype(np.int64)
        depth += 1
