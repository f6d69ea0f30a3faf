"""The area of applicability: patches that are similar enough to the training side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from outcrop.metrics.intervals import (
    DRAWS,
    Interval,
    check_any,
    interval_of_share,
    intervals_of_shares,
    ratio,
    resampled_counts,
    support,
    supports,
)
from outcrop.metrics.nearest import Nearest

_PAIRED = 20_000
_ROWS = 1024

Array = TypeVar("Array", np.ndarray, Tensor)


@dataclass(frozen=True, eq=False)
class AreaOfApplicability:
    """The training patches as references of the dissimilarity index, and its threshold.

    The dissimilarity index of Meyer and Pebesma 2021 (Methods in Ecology and Evolution 12,
    1620-1633, doi:10.1111/2041-210X.13650), on all training patches: features are standardised,
    each channel by its mean and standard deviation on the training side, and multiplied by its
    weight; the index of a patch is the Euclidean distance to the nearest training patch over the
    mean distance between two training patches.

    It is the area of applicability of the paper for models whose features have importances: these
    are the weights. For networks, and classical models without importances, it is the same index of
    unweighted features: all channels count alike.

    Attributes:
        references: float32, `N × channels`, standardised and weighted features of all training
            patches.
        mean, std: float32, `channels`.
        weights: float32, `channels`, from 0 to 1; 1 where all channels count alike.
        mean_distance: between two training patches, standardised and weighted.
        mean_distance_error: the standard error of `mean_distance`, where it is of a sample; 0 where
            it is of all pairs. The same factor is in the index and in the threshold: what lies
            outside does not depend on it.
        threshold: the dissimilarity above which a patch lies outside.
        held_out: float32, `K`, the dissimilarities that the threshold follows from: of the
            validation side, in its order; without one, of training patches to those of other folds
            or other ground.
        model: `identity` of the model that gave the features; empty if unknown.
    """

    references: Tensor
    mean: Tensor
    std: Tensor
    weights: Tensor
    mean_distance: float
    mean_distance_error: float
    threshold: float
    held_out: Tensor
    model: str = ""

    def dissimilarity(self, features: Array) -> Array:
        """The dissimilarity index: the distance to the nearest reference, over the mean distance.

        It is computed on the device of the references.

        Args:
            features: float32, `N × channels`, on any device.

        Returns:
            float32, `N`, of the same kind and on the same device; 0 or more, exact to 0.001.
        """
        if isinstance(features, np.ndarray):
            return self.dissimilarity(torch.from_numpy(features)).numpy()
        here = features.float().to(self.references.device)
        standard = _standardised(here, self.mean, self.std, self.weights)
        return (self._nearest.distance(standard) / self.mean_distance).to(features.device)

    def on(self, device: torch.device) -> AreaOfApplicability:
        """The same area on another device."""
        names = ("references", "mean", "std", "weights")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest(self.references)


def learn_area(
    training: np.ndarray | Tensor,
    groups: np.ndarray,
    held_out: np.ndarray | Tensor,
    folds: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    weights: np.ndarray | None = None,
    narrowest: float = 0.0,
    seed: int = 0,
) -> AreaOfApplicability:
    """The area of applicability of a model that learned from the training side.

    The threshold is the largest dissimilarity of patches that were held out, outliers removed:
    those above the upper quartile plus 1.5 times the distance between the quartiles. As in the
    paper, patches that a fold holds out are compared with what the fold trains on. They are, in
    this order:

    - the validation side, compared with the training side;
    - without one, the training patches that `folds` hold out, compared with those of their fold;
    - without folds, the training patches, compared with those of other spatial blocks;
    - with a single block, each patch compared with all others.

    The R package CAST takes the upper quartile plus 1.5 times the distance between the quartiles
    itself, or the largest dissimilarity if that is smaller. Its threshold is at least this one, and
    no held-out patch lies between the two.

    Source: as `AreaOfApplicability`. All references are kept: a run holds `N × channels` float32
    numbers, 1.3 MB for 5,000 patches of 64 channels.

    Args:
        training: float32, `N × channels`, N at least 2.
        groups: `N`, spatial block of each training patch.
        held_out: float32, `K × channels`; K may be 0.
        folds: for each fold, indices into `training` of what it trains on and of what it holds out.
        weights: `channels`, importances; negative ones count as 0. None, or none above 0: all
            channels count alike.
        narrowest: a standard deviation counts as at least this share of the largest. For channels
            of one layer of a network, which have one unit: one that hardly ever moved in training
            must not outweigh all others. 0 for channels with units of their own.
        seed: random seed of the sample of 20,000 training patches whose mean distance is measured,
            if there are more.
    """
    training, held_out = torch.as_tensor(training), torch.as_tensor(held_out)
    mean, std = _moments(training)
    std = torch.maximum(std, narrowest * std.max())
    # A channel that is constant in training counts in its own unit.
    std = torch.where(std > 0, std, 1)
    share = _shares(weights, training.shape[1])
    standard = _standardised(training, mean, std, share)
    distance, error = mean_distance(standard, seed)
    if len(held_out):
        apart = Nearest(standard).distance(_standardised(held_out, mean, std, share))
    elif folds:
        each = [Nearest(standard[train]).distance(standard[held]) for train, held in folds]
        apart = torch.cat(each)
    else:
        apart = _to_other_groups(standard, groups)
    held = apart / (distance or 1.0)
    return AreaOfApplicability(
        standard, mean, std, share, distance or 1.0, error, _whisker(held), held
    )


def mean_distance(points: Tensor, seed: int = 0, most: int = _PAIRED) -> tuple[float, float]:
    """The mean Euclidean distance between two different points, and its standard error.

    Of all pairs, with error 0, up to `most` points; of more, of all pairs of a random sample of
    `most`. The error is that of a U-statistic of two points, drawn without replacement: 2 s / √n
    times √(1 - n/N), where s is the standard deviation, over the sample, of a point's mean distance
    to the others. Source: Hoeffding 1948, Annals of Mathematical Statistics 19, 293-325.

    Args:
        points: float32, `N × channels`.
        seed: random seed of the sample.

    >>> mean_distance(torch.tensor([[0.0], [1.0], [5.0]]))  # (1 + 4 + 5) / 3
    (3.3333333333333335, 0.0)
    """
    sampled = len(points) > most
    some = points
    if sampled:
        some = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))]
        some = some[:most]
    sums = torch.cat([torch.cdist(part, some).double().sum(dim=1) for part in some.split(_ROWS)])
    own = sums / max(1, len(some) - 1)
    if not sampled:
        return float(own.mean()), 0.0
    left = 1 - most / len(points)
    return float(own.mean()), float(2 * own.std() * (left / most) ** 0.5)


@dataclass(frozen=True)
class Applicability:
    """Scores inside and outside the area of applicability.

    Attributes:
        outside: share of patches that lie outside.
        accuracy_inside, accuracy_outside: overall accuracy; undefined without patches.
    """

    outside: Interval
    accuracy_inside: Interval
    accuracy_outside: Interval


def judge_applicability(
    outside: np.ndarray, right: np.ndarray, groups: np.ndarray | None = None
) -> Applicability:
    """Whether patches outside the area of applicability are wrong more often, with 95 % intervals.

    Args:
        outside, right: bool, `N`.
        groups: `N`, spatial block of each patch; None: patches are independent.

    Raises:
        OutcropError: no patches.
    """
    check_any(right, "area of applicability")
    cells = 2 * outside.astype(np.int64) + right
    drawn = resampled_counts(cells, 4, groups).reshape(DRAWS, 2, 2)
    counts = np.bincount(cells, minlength=4).reshape(1, 2, 2)
    share, redrawn = (c[:, 1].sum(axis=1) / c.sum(axis=(1, 2)) for c in (counts, drawn))
    accuracy, reaccuracy = (ratio(c[:, :, 1], c.sum(axis=2)) for c in (counts, drawn))
    all_outside = interval_of_share(share[0], redrawn, support(groups, len(right)))
    standing = supports(outside.astype(np.int64), 2, groups)
    return Applicability(all_outside, *intervals_of_shares(accuracy[0], reaccuracy, standing))


def _standardised(features: Tensor, mean: Tensor, std: Tensor, weights: Tensor) -> Tensor:
    # In float32 and in this order everywhere, so that equal patches have a distance of 0.
    return (features - mean) / std * weights


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, float32; 0 for what is only rounding."""
    exact = features.double()
    mean, std = exact.mean(dim=0), exact.std(dim=0, correction=0)
    rounding = torch.finfo(torch.float32).eps * exact.abs().amax(dim=0)
    return mean.float(), torch.where(std > rounding, std, 0).float()


def _shares(weights: np.ndarray | None, channels: int) -> Tensor:
    """Weights, float32, of which the largest is 1."""
    if weights is None:
        return torch.ones(channels)
    share = np.nan_to_num(weights).clip(0)
    return torch.from_numpy(share / share.max()).float() if share.any() else torch.ones(channels)


def _to_other_groups(points: Tensor, groups: np.ndarray) -> Tensor:
    """The distance of each point to the nearest one of another group."""
    group = torch.from_numpy(np.unique(groups, return_inverse=True)[1])
    if not group.any():
        group = torch.arange(len(points))
    return Nearest(points, group).distance(points, group)


def _whisker(values: Tensor) -> float:
    """The largest value that a box plot would not draw as an outlier (Tukey 1977)."""
    low, high = np.quantile(values.numpy(), (0.25, 0.75))
    return float(values[values <= high + 1.5 * (high - low)].max())
