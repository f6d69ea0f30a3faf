"""Perceptrons that see a pixel and what surrounds it at several scales, as one network."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOWS = (3, 9, 25)
_FLOOR = 0.05
_ROWS = 1 << 15


class ContextNetwork(nn.Module):
    """Perceptrons on three views of a patch, whose probabilities are averaged.

    The views are the centre pixel; the same with the means of square windows around it; and all
    that with the logarithms of the standard deviations in these windows. Each view learns from its
    own loss, so that one that is of no use on some site costs little there. Choosing between views
    by inner folds is less certain than averaging them.

    Attributes:
        bands, classes: their numbers.
        size: height and width of a patch.
        windows: sides of the windows in pixels, those of `WINDOWS` that a patch holds.
        channels: how many features lie before the last layers.
    """

    def __init__(
        self,
        bands: int,
        classes: int,
        size: tuple[int, int],
        width: int = 64,
        members: int = 1,
    ) -> None:
        super().__init__()
        self.bands, self.classes, self.size = bands, classes, size
        self.windows = tuple(side for side in WINDOWS if side <= min(_odd(one) for one in size))
        means = bands * (1 + len(self.windows))
        self.spread = nn.BatchNorm1d(bands * len(self.windows), affine=False, momentum=None)
        inputs = [bands, means, means + bands * len(self.windows)] if self.windows else [bands]
        self.views = nn.ModuleList(Perceptrons(one, width, classes, members) for one in inputs)
        self.channels = len(inputs) * members * width

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every member, `N × members × classes`, of normalised patches."""
        return self.both(images)[0]

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of every member, and features `N × channels`."""
        table = self._context(images, 1, 1)[:, :, 0, 0]
        return self._of_rows(table)

    def dense(self, images: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The same of every pixel of a window.

        Args:
            images: `1 × bands × (height + size - 1) × (width + size - 1)`, normalised.

        Returns:
            `members × classes × height × width`, `channels × height × width`.
        """
        logits, features = [], []
        step = max(1, _ROWS // width)
        for row in range(0, height, step):
            tall = min(step, height - row)
            part = images[:, :, row : row + tall + self.size[0] - 1]
            table = self._context(part, tall, width)
            its, inner = self._of_rows(table[0].flatten(1).T)
            logits.append(its.permute(1, 2, 0).unflatten(2, (tall, width)))
            features.append(inner.T.unflatten(1, (tall, width)))
        return torch.cat(logits, dim=2), torch.cat(features, dim=1)

    def _context(self, images: Tensor, height: int, width: int) -> Tensor:
        """Centre, means and logarithms of deviations, `N × features × height × width`."""
        centre = self._around(images, 1, height, width)
        means, deviations = [centre], []
        for side in self.windows:
            window = self._around(images, side, height, width)
            mean = _mean(window, side)
            variance = _mean(window.square(), side) - mean.square()
            means.append(mean)
            deviations.append((variance.clamp_min(0).sqrt() + _FLOOR).log())
        return torch.cat(means + deviations, dim=1)

    def _around(self, images: Tensor, side: int, height: int, width: int) -> Tensor:
        """What windows of `side` pixels around the pixels see."""
        top, left = (length // 2 - side // 2 for length in self.size)
        return images[:, :, top : top + height + side - 1, left : left + width + side - 1]

    def _of_rows(self, table: Tensor) -> tuple[Tensor, Tensor]:
        if self.windows:
            means = self.bands * (1 + len(self.windows))
            table = torch.cat([table[:, :means], self.spread(table[:, means:])], dim=1)
        said = [view(table[:, : view.inputs]) for view in self.views]
        logits, features = zip(*said, strict=True)
        return torch.cat(logits, dim=1), torch.cat(features, dim=1)


class Perceptrons(nn.Module):
    """Several perceptrons of two hidden layers on the same features, computed at once.

    Attributes:
        inputs: number of features.
    """

    def __init__(self, inputs: int, width: int, classes: int, members: int) -> None:
        super().__init__()
        self.inputs = inputs
        sizes = [inputs, width, width, classes]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for before, after in pairwise(sizes):
            gain = math.sqrt((1 if after == classes else 2) / before)
            self.weights.append(nn.Parameter(gain * torch.randn(members, before, after)))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, after)))
        with torch.no_grad():
            self.biases[0].normal_(0, 0.3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `N × members × classes`, and the last hidden layer, `N × members · width`."""
        *hidden, (last, shift) = zip(self.weights, self.biases, strict=True)
        inner = x.expand(len(last), *x.shape)
        for weight, bias in hidden:
            inner = F.gelu(torch.baddbmm(bias, inner, weight))
        logits = torch.baddbmm(shift, inner, last)
        return logits.transpose(0, 1), inner.transpose(0, 1).flatten(1)


def mean_of(logits: Tensor, dim: int) -> Tensor:
    """Logits whose softmax is the mean of the softmaxes of members.

    Args:
        logits: of members along `dim`, of classes along the dimension that follows.
    """
    each = logits.float().log_softmax(dim=dim + 1)
    return each.logsumexp(dim=dim) - math.log(logits.shape[dim])


def _mean(x: Tensor, side: int) -> Tensor:
    """The mean of every square window, one direction after the other."""
    return F.avg_pool2d(F.avg_pool2d(x, (side, 1), 1), (1, side), 1)


def _odd(length: int) -> int:
    """The side of the largest window around index `length // 2`."""
    return length - 1 + length % 2
