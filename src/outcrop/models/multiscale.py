"""A small network on a pixel and its surroundings at several scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outcrop.models.architectures import MultiScaleNet

WINDOWS = (3, 9, 25)
NEAR = 9
_COMPONENTS = 24
_FLOOR = 0.05
_DROPPED = 0.3
_LEAST = math.log(1e-3)
_ROWS = 1 << 13


class MultiScaleNetwork(nn.Module):
    """See `MultiScaleNet`.

    Attributes:
        windows: sides of the windows in pixels.
        channels: number of features: width of the last hidden layer of the widest view.
        used: views whose log-probabilities are averaged; all, except in tuning.
        rng: generator of dropout; None: torch's global generator.
    """

    components: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(
        self, description: MultiScaleNet, bands: int, classes: int, size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.description, self.size = description, size
        self.bands = bands
        self.rng: torch.Generator | None = None
        side = min(length - 1 + length % 2 for length in size)
        seen_around = "windows" in description.views
        self.windows = tuple(one for one in WINDOWS if seen_around and one <= side)
        seen = min(bands, _COMPONENTS) * len(self.windows)
        self.register_buffer("components", torch.eye(bands)[:_COMPONENTS])
        self.register_buffer("shift", torch.zeros(seen))
        self.register_buffer("scale", torch.ones(seen))
        hidden, members = description.hidden, description.members
        widths = {
            "pixel": [bands, hidden, hidden],
            "waves": [bands, 2 * hidden],
            "windows": [bands + 2 * seen, hidden, hidden],
        }
        self.used: tuple[str, ...] = description.views
        self.views = nn.ModuleDict()
        for name, sizes in widths.items():
            if name in description.views and (self.windows or name != "windows"):
                dropped = _DROPPED if name == "windows" else 0.0
                self.views[name] = Perceptrons([*sizes, classes], members, name == "waves", dropped)
        self.widest = next(name for name in ("windows", "pixel", "waves") if name in self.views)
        self.channels = widths[self.widest][-1]
        has_near = "near" in description.views and side >= NEAR
        self.near = Near(bands, classes) if has_near else None

    def forward(self, images: Tensor, kept: Any = None) -> Tensor:
        """Logits of normalised patches `N × bands × height × width`.

        In training `N × members × classes`, because each member has its own loss; in evaluation
        `N × classes`, the mean of the log-probabilities of the members.
        """
        return self.logits_and_features(images)[0]

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits as in `forward`, and features `N × channels`."""
        table = self._table(images, 1, 1)[:, :, 0, 0]
        near = None
        if self.near is not None:
            near = self.near(self._around(images, NEAR, 1, 1))[:, :, 0, 0]
        logits, features = self._of_rows(table, near)
        return (torch.cat(logits, dim=1) if self.training else _joined(logits)), features

    def dense(self, images: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Logits and features of every pixel of a window.

        Args:
            images: `1 × bands × (height + size - 1) × (width + size - 1)`, normalised.

        Returns:
            `classes × height × width`, `channels × height × width`.
        """
        logits, features = [], []
        step = max(1, _ROWS // width)
        for row in range(0, height, step):
            tall = min(step, height - row)
            part = images[:, :, row : row + tall + self.size[0] - 1]
            near = None
            if self.near is not None:
                near = self.near(self._around(part, NEAR, tall, width))[0].flatten(1).T
            table = self._table(part, tall, width)[0].flatten(1).T
            its, inner = self._of_rows(table, near)
            logits.append(_joined(its).T.unflatten(1, (tall, width)))
            features.append(inner.T.unflatten(1, (tall, width)))
        return torch.cat(logits, dim=1), torch.cat(features, dim=1)

    def learn_scale(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        """Principal components, and mean and spread of the deviations, of the training side.

        `batches` gives the normalised patches, all of them once; it is called twice at most.
        """
        if not self.windows:
            return
        with torch.no_grad():
            if self.bands > _COMPONENTS:
                centres = torch.cat([self._around(one, 1, 1, 1)[:, :, 0, 0] for one in batches()])
                centred = centres.double() - centres.double().mean(dim=0)
                axes = torch.linalg.svd(centred, full_matrices=False).Vh[:_COMPONENTS]
                largest = (centred @ axes.T).std(dim=0, correction=0).max().clamp_min(1e-6)
                self.components[: len(axes)] = (axes / largest).float()
            seen = self.bands + len(self.shift)
            deviations = torch.cat([self._table(one, 1, 1)[:, seen:, 0, 0] for one in batches()])
            self.shift.copy_(deviations.mean(dim=0))
            spread = deviations.std(dim=0, correction=0)
            self.scale.copy_(torch.where(spread > 1e-6, spread, 1))

    def in_order(self, back: Sequence[int]) -> MultiScaleNetwork:
        """A copy for images whose band j is band `back[j]` of this network."""
        copy, order = deepcopy(self), torch.as_tensor(list(back))
        reduced = self.bands > _COMPONENTS
        # For each column of the new table its index in the old one. Windows see bands, or
        # components, whose order does not change.
        seen = torch.arange(len(self.components)) if reduced else order
        several = (torch.arange(2 * len(self.windows))[:, None] * len(seen) + seen).flatten()
        columns = torch.cat([order, self.bands + several])
        with torch.no_grad():
            for view in copy.views.values():
                assert isinstance(view, Perceptrons)
                view.weights[0].copy_(view.weights[0][:, columns[: view.inputs]])
            if reduced:
                copy.components.copy_(self.components[:, order])
            copy.shift.copy_(self.shift[several[: len(self.shift)]])
            copy.scale.copy_(self.scale[several[: len(self.scale)]])
            if copy.near is not None:
                copy.near.first.weight.copy_(copy.near.first.weight[:, order])
        return copy

    def _around(self, images: Tensor, side: int, height: int, width: int) -> Tensor:
        """Inputs of the windows of `side` pixels around the pixels."""
        top, left = (length // 2 - side // 2 for length in self.size)
        return images[:, :, top : top + height + side - 1, left : left + width + side - 1]

    def _table(self, images: Tensor, height: int, width: int) -> Tensor:
        """Pixel, means and logarithms of deviations, `N × features × height × width`."""
        means, deviations = [self._around(images, 1, height, width)], []
        if self.windows and self.bands > _COMPONENTS:
            images = F.conv2d(images, self.components[:, :, None, None])
        for side in self.windows:
            window = self._around(images, side, height, width)
            mean = window_means(window, side, side)
            variance = window_means(window.square(), side, side) - mean.square()
            means.append(mean)
            deviations.append((variance.clamp_min(0).sqrt() + _FLOOR).log())
        return torch.cat(means + deviations, dim=1)

    def _of_rows(self, table: Tensor, near: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Logits of each view, `N × members × classes`, and features."""
        seen = self.bands + len(self.shift)
        deviations = (table[:, seen:] - self.shift) / self.scale
        table = torch.cat([table[:, :seen], deviations], dim=1) if self.windows else table
        found, features = {}, {}
        for name, view in self.views.items():
            found[name], features[name] = view(table[:, : view.inputs], self.rng)
        if near is not None:
            found["near"] = near[:, None]
        used = [logits for name, logits in found.items() if name in self.used]
        return used, features[self.widest]


class Perceptrons(nn.Module):
    """Several perceptrons on the same features, `inputs` in number, computed at once."""

    def __init__(self, sizes: Sequence[int], members: int, waves: bool, dropped: float) -> None:
        super().__init__()
        self.inputs, self.waves, self.dropped = sizes[0], waves, dropped
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for k, (before, after) in enumerate(pairwise(sizes)):
            last = k == len(sizes) - 2
            gain = math.sqrt((1 if last else 2) / before)
            spread = 0.0 if k else (3.0 if waves else 0.3)
            self.weights.append(nn.Parameter(gain * torch.randn(members, before, after)))
            self.biases.append(nn.Parameter(spread * torch.randn(members, 1, after)))

    def forward(self, x: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Logits `N × members × classes`, and the last hidden layer of the first, `N × hidden`."""
        *hidden, (last, shift) = zip(self.weights, self.biases, strict=True)
        inner = x.expand(len(last), *x.shape)
        for weight, bias in hidden:
            inner = torch.baddbmm(bias, inner, weight)
            inner = math.sqrt(2) * torch.cos(inner) if self.waves else F.gelu(inner)
            if self.training and self.dropped:
                drawn = torch.rand(inner.shape, generator=rng, device=inner.device)
                inner = inner * (drawn >= self.dropped) / (1 - self.dropped)
        return torch.baddbmm(shift, inner, last).transpose(0, 1), inner[0]


class Near(nn.Module):
    """Four 3 × 3 convolutions without padding, with a shortcut over the second and third."""

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        self.fewer = bands > _COMPONENTS
        channels = 16
        inputs = [channels] * 3
        if self.fewer:
            self.first = nn.Conv2d(bands, _COMPONENTS, 1)
            inputs = [_COMPONENTS, *inputs]
        else:
            self.first = nn.Conv2d(bands, channels, 3, bias=False)
        self.convolutions = nn.ModuleList(nn.Conv2d(one, channels, 3, bias=False) for one in inputs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(4))
        self.last = nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `N × classes × (height - 8) × (width - 8)`."""
        x = self.first(x)
        rest = list(self.convolutions)
        if self.fewer:
            x = rest.pop(0)(x)
        one = F.relu(self.norms[0](x))
        two = F.relu(self.norms[1](rest[0](one)))
        three = F.relu(self.norms[2](rest[1](two)) + one[:, :, 2:-2, 2:-2])
        return self.last(F.relu(self.norms[3](rest[2](three))))


def _joined(logits: Sequence[Tensor]) -> Tensor:
    """The mean over views of the mean log-probability of their members, `N × classes`.

    Probabilities are at least 0.001, so that no view can exclude a class alone.
    """
    views = [one.float().log_softmax(dim=2).clamp_min(_LEAST).mean(dim=1) for one in logits]
    return torch.stack(views).mean(dim=0)


def window_means(x: Tensor, tall: int, wide: int) -> Tensor:
    """The mean of every window of `tall` rows and `wide` columns, first along columns."""
    return F.avg_pool2d(F.avg_pool2d(x, (tall, 1), 1), (1, wide), 1)
