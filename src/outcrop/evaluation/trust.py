"""The area of trust: patches that are no stranger to the training side than held-out ground is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.evaluation.intervals import (
    Interval,
    interval_of_share,
    ratio,
    resampled_counts,
    support,
    supports,
)

_REFERENCES = 512
_PAIRED = 2000
_NARROWEST = 0.01
_CHUNK = 4096
_SAME = 1e-6

Array = TypeVar("Array", np.ndarray, Tensor)


@dataclass(frozen=True, eq=False)
class AreaOfTrust:
    """What the features of a patch are held against.

    Features are standardised, each channel by its mean and deviation on the training side.

    Source: Meyer and Pebesma 2021 (Methods in Ecology and Evolution 12, 1620-1633,
    doi:10.1111/2041-210X.13650): dissimilarity index and area of applicability; there of predictors
    that are weighted by their importance, here of a network's features, of which all count alike.

    Attributes:
        references: float32, `M × channels`, standardised features of training patches.
        mean, std: float32, `channels`.
        mean_distance: between two training patches, standardised.
        threshold: the dissimilarity above which a patch lies outside.
        held_out: float32, `K`, the dissimilarities that the threshold follows from: of the
            validation side, in its order; without one, of training patches to those of other
            ground.
        model: which weights gave the features; empty where that is not kept.
    """

    references: Tensor
    mean: Tensor
    std: Tensor
    mean_distance: float
    threshold: float
    held_out: Tensor
    model: str = ""

    def dissimilarity(self, features: Array) -> Array:
        """The dissimilarity index: the distance to the nearest reference, over the mean distance.

        Args:
            features: float32, `N × channels`, on any device.

        Returns:
            float32, `N`, of the same kind and on the same device; 0 or more, exact to about 0.001.
        """
        if isinstance(features, np.ndarray):
            return self.dissimilarity(torch.from_numpy(features)).numpy()
        device = features.device
        standard = (features.float() - self.mean.to(device)) / self.std.to(device)
        return _nearest(standard, self.references.to(device)) / self.mean_distance


def learn_area(
    training: Tensor,
    groups: np.ndarray,
    held_out: Tensor,
    references: int = _REFERENCES,
    seed: int = 0,
) -> AreaOfTrust:
    """The area of trust of a network that learned from the training side.

    The threshold is the largest dissimilarity of patches on ground that was held out, of those up
    to the upper quartile plus 1.5 times the distance between the quartiles. Where nothing was held
    out it is that of the training patches to the references from other pieces of ground, or, if
    there is one piece only, to those that are not the patch itself.

    The training side is thinned to references that lie as far apart as can be, so that no training
    patch is far from one: dissimilarities grow by no more than the largest distance left.

    Source: as `AreaOfTrust`; references after Gonzalez 1985 (Theoretical Computer Science 38,
    293-306).

    Args:
        training: float32, `N × channels`, N at least 2.
        groups: `N`, the piece of ground of each.
        held_out: float32, `K × channels`; K may be 0.
        references: how many at most.
        seed: of the sample of 2000 training patches whose mean distance is measured.
    """
    mean, std = training.mean(dim=0), training.std(dim=0, correction=0)
    # A channel that hardly ever moved in training must not outweigh all others.
    std = torch.maximum(std, _NARROWEST * std.max())
    std = torch.where(std > 0, std, 1)
    standard = (training - mean) / std
    chosen = farthest_points(standard, references)
    some = torch.randperm(len(standard), generator=torch.Generator().manual_seed(seed))[:_PAIRED]
    distance = float(torch.pdist(standard[some]).mean()) or 1.0
    if len(held_out):
        apart = _nearest((held_out - mean) / std, standard[chosen])
    else:
        apart = _nearest_elsewhere(standard, groups, chosen)
    held = apart / distance
    return AreaOfTrust(standard[chosen], mean, std, distance, _whisker(held), held)


def farthest_points(points: Tensor, number: int) -> Tensor:
    """Indices of up to `number` points: the one nearest the mean, then ever the one farthest from
    all before.

    Args:
        points: float32, `N × channels`.

    >>> farthest_points(torch.tensor([[0.0], [4.0], [5.0], [9.0]]), 3)
    tensor([1, 3, 0])
    """
    squares = points.square().sum(dim=1)

    def apart(which: int) -> Tensor:
        """Squared, by one product of a matrix and a vector."""
        return squares + squares[which] - 2 * (points @ points[which])

    start = int((points - points.mean(dim=0)).norm(dim=1).argmin())
    chosen, left = [start], apart(start)
    # What float32 cannot tell apart is taken once.
    while len(chosen) < number and left.max() > _SAME * squares.max():
        chosen.append(int(left.argmax()))
        left = torch.minimum(left, apart(chosen[-1]))
    return torch.tensor(chosen)


@dataclass(frozen=True)
class Trusted:
    """Scores inside and outside the area of trust.

    Attributes:
        outside: the share of patches that lie outside.
        accuracy_inside, accuracy_outside: shares that are right; undefined where there are none.
    """

    outside: Interval
    accuracy_inside: Interval
    accuracy_outside: Interval


def judge_trust(
    outside: np.ndarray,
    right: np.ndarray,
    groups: np.ndarray | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Trusted:
    """Whether patches outside the area of trust are wrong more often, with 95 % intervals.

    Args:
        outside, right: bool, `N`.
        groups: `N`, the piece of ground of each patch; None when each patch stands for itself.
        draws: number of bootstrap samples (see `outcrop.evaluation.intervals`).
        seed: of the bootstrap.

    Raises:
        OutcropError: no patches.
    """
    if not len(right):
        raise OutcropError("trust", "no patches to judge on; take smaller blocks or buffer")
    cells = 2 * outside.astype(np.int64) + right
    drawn = resampled_counts(cells, 4, groups, draws, seed).reshape(draws, 2, 2)
    counts = np.bincount(cells, minlength=4).reshape(1, 2, 2)
    share, redrawn = (c[:, 1].sum(axis=1) / c.sum(axis=(1, 2)) for c in (counts, drawn))
    accuracy, reaccuracy = (ratio(c[:, :, 1], c.sum(axis=2)) for c in (counts, drawn))
    standing = supports(outside.astype(np.int64), 2, groups)
    inside, beyond = (
        interval_of_share(accuracy[0, k], reaccuracy[:, k], standing[k]) for k in (0, 1)
    )
    return Trusted(
        interval_of_share(share[0], redrawn, support(groups, len(right))), inside, beyond
    )


def _nearest(points: Tensor, references: Tensor) -> Tensor:
    """The distance of each point to the nearest reference, by one matrix product for each chunk."""
    squares = references.square().sum(dim=1)
    found = [
        torch.addmm(squares, part, references.T, alpha=-2).amin(dim=1) + part.square().sum(dim=1)
        for part in points.split(_CHUNK)
    ]
    return torch.cat(found).clamp_min(0).sqrt()


def _nearest_elsewhere(points: Tensor, groups: np.ndarray, chosen: Tensor) -> Tensor:
    """The distance of each point to the nearest chosen one of another group."""
    if len(np.unique(groups)) == 1:
        groups = np.arange(len(groups))
    group = torch.from_numpy(np.unique(groups, return_inverse=True)[1])
    found = torch.cdist(points, points[chosen])
    found[group[:, None] == group[chosen]] = torch.inf
    nearest = found.amin(dim=1)
    # All references may lie on one piece of ground.
    return nearest[nearest.isfinite()]


def _whisker(values: Tensor) -> float:
    """The largest value that a box plot would not draw as an outlier (Tukey 1977)."""
    low, high = np.quantile(values.numpy(), (0.25, 0.75))
    return float(values[values <= high + 1.5 * (high - low)].max())
