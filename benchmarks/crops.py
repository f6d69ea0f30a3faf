"""Crops of labelled scenes, and a network that gives all their pixels logits while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from outcrop.models.architectures import ResidualNet
from outcrop.models.residual import ResidualNetwork
from outcrop.patches.cut import cut
from outcrop.sources.opening import open_scene

NO_LABEL = -100


def every_pixel(module: ResidualNetwork, x: Tensor) -> Tensor:
    """Logits of every pixel whose footprint `x` holds, for a network of one level without padding.

    As `outcrop.models.dense`, but all shifts lie in one batch, so that normalisation sees them
    together, and gradients flow.

    Args:
        x: `N × bands × ...`; its sides less those of the footprint, plus 1, are multiples of the
            network's stride.

    Returns:
        `M × classes × h × w`, ordered as `phases`.
    """
    x = module.stem(x)
    for block in module.blocks:
        height, width = (length - block.stride + 1 for length in x.shape[2:])
        shifts = product(range(block.stride), repeat=2)
        x = block(torch.cat([x[:, :, i : i + height, j : j + width] for i, j in shifts]))
    weight, bias = module.linear.weight, module.linear.bias
    return F.conv2d(module.rectified(x), weight[:, :, None, None], bias)


def phases(labels: Tensor, network: ResidualNet) -> Tensor:
    """Labels `N × height × width` in the order in which `every_pixel` gives logits."""
    for _, stride in network.windows:
        shifts = product(range(stride), repeat=2)
        labels = torch.cat([labels[:, i::stride, j::stride] for i, j in shifts])
    return labels


@dataclass(frozen=True)
class Ground:
    """Scenes and their labelled pixels, with a margin.

    Attributes:
        scenes: float32, `bands × rows × columns` each.
        labels: int64, `rows × columns` each; `NO_LABEL` where there is none.
        at: int64, `N × 3`, scene, row and column of all labelled pixels, margin included.
        classes: their names.
        crop: rows and columns of pixels that a crop gives logits to.
        before: pixels that the network sees beyond these, on each side.
    """

    scenes: Sequence[np.ndarray]
    labels: Sequence[np.ndarray]
    at: np.ndarray
    classes: tuple[str, ...]
    crop: int
    before: int

    def draw(self, number: int, gain: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Crops, each around a labelled pixel, which lies anywhere in it, and their labels.

        All eight positions are equally likely, and each band has a gain between 1 - gain and
        1 + gain.

        Returns:
            float32 `number × bands × (crop + 2 before) × ...` in the scenes' units, and int64
            `number × crop × crop`.
        """
        images, labels = [], []
        for scene, row, column in rng.choice(self.at, number):
            top, left = np.array([row, column]) - rng.integers(self.crop, size=2)
            seen = _window(self.scenes[scene], top, left, self.crop, self.before)
            seen = seen * rng.uniform(1 - gain, 1 + gain, (len(seen), 1, 1))
            said = _window(self.labels[scene], top, left, self.crop)
            turns, mirror = rng.integers(4), rng.integers(2)
            images.append(_turned(seen.astype(np.float32), turns, mirror))
            labels.append(_turned(said, turns, mirror))
        return torch.stack(images), torch.stack(labels)


def labelled_ground(scenes: Sequence[Path], labels: Path, crop: int, footprint: int) -> Ground:
    """All labelled pixels of `scenes`, which are mirrored about their edges."""
    pixels = cut(scenes, labels, "class", size=1)
    before = footprint // 2
    margin = crop + before
    read = []
    for scene in map(open_scene, scenes):
        with scene.reader() as reader:
            rows, columns = scene.height + 2 * margin, scene.width + 2 * margin
            read.append(reader.read(-margin, -margin, rows, columns))
    where = pixels.positions
    at = np.stack([where.source, where.row + margin, where.column + margin], axis=1)
    drawn = [np.full(scene.shape[1:], NO_LABEL) for scene in read]
    for (scene, row, column), label in zip(at, pixels.labels, strict=True):
        drawn[scene][row, column] = label
    return Ground(read, drawn, at, pixels.classes, crop, before)


def _window(pixels: np.ndarray, top: int, left: int, side: int, around: int = 0) -> np.ndarray:
    rows, columns = (slice(start - around, start + side + around) for start in (top, left))
    return pixels[..., rows, columns]


def _turned(pixels: np.ndarray, turns: int, mirror: int) -> Tensor:
    turned = np.rot90(pixels, turns, axes=(-2, -1))
    return torch.from_numpy((turned[..., ::-1] if mirror else turned).copy())
