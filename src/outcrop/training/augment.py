"""Augmentation of whole batches: flips, rotations and shifts by one gather on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outcrop.patches.patchset import PatchSet
from outcrop.training.recipe import Augmentation, LabelOf

_GAIN_OF_NEIGHBOURS = 0.1  # default gain of slices that are cut again


@dataclass(frozen=True)
class Moves:
    """The geometric changes of N images: a horizontal flip, then a rotation, then a shift.

    Attributes:
        mirror: bool, `N`, horizontal flip.
        turns: int64, `N`, counter-clockwise rotations by 90°; only 0 and 2 if not square.
        down, right: int64, `N`, shift in pixels: origin of the new image in the old one; outside
            the old image it is empty.
        label_of: whether the label belongs to the middle pixel or the image, which is the centre of
            flips and rotations.
    """

    mirror: Tensor
    turns: Tensor
    down: Tensor
    right: Tensor
    label_of: LabelOf = "image"

    def __len__(self) -> int:
        return len(self.mirror)

    def __getitem__(self, index: slice) -> Moves:
        """The changes of some of the images."""
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device) -> Moves:
        """The same changes on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Moves:
        mirror, turns, down, right = map(change, (self.mirror, self.turns, self.down, self.right))
        return Moves(mirror, turns, down, right, self.label_of)


def label_of(augmentation: Augmentation, patches: PatchSet) -> LabelOf:
    """Whether labels belong to pixels or images; "auto" depends on the patches."""
    if augmentation.label_of == "auto":
        return "image" if patches.positions is None else "pixel"
    return augmentation.label_of


def settled(augmentation: Augmentation, patches: PatchSet) -> Augmentation:
    """The augmentation with the values of None and "auto" for these patches.

    Patches whose label belongs to one pixel are not shifted by default; docs/benchmarks/training.md
    shows what a shift costs on real scenes.
    """
    has_up = patches.positions is None or patches.from_volume
    cuts_anew, belongs_to = augmentation.cuts_anew, label_of(augmentation, patches)
    usual: dict[str, Any] = {
        "crop": 0 if cuts_anew or belongs_to == "pixel" else min(patches.size) // 8,
        "rotate": not has_up,
        "gain": _GAIN_OF_NEIGHBOURS if has_up and cuts_anew else 0.0,
        "jitter": 0.0,
    }
    open_ = {name: value for name, value in usual.items() if getattr(augmentation, name) is None}
    return replace(augmentation, label_of=belongs_to, **open_)


def draw(
    augmentation: Augmentation,
    n: int,
    size: tuple[int, int],
    random: np.random.Generator,
    lying: np.ndarray | None = None,
) -> Moves:
    """Random geometric changes for `n` images of `size`, by a settled augmentation.

    All random numbers are drawn for every augmentation, so that switching one part off does not
    change the others.

    Args:
        lying: bool, `n`, images whose vertical runs along their rows: they are flipped vertically.
    """
    mirror, half, quarter = random.integers(2, size=(3, n))
    reach = augmentation.crop or 0
    down, right = random.integers(-reach, reach, size=(2, n), endpoint=True)
    mirrored = mirror.astype(bool) & bool(augmentation.flip or augmentation.rotate)
    if augmentation.rotate:
        turns = 2 * half + (quarter if size[0] == size[1] else 0)
    else:
        # A horizontal flip and a rotation by 180° are a vertical flip.
        turns = 2 * (mirrored & (False if lying is None else lying))
    return Moves(
        mirror=torch.from_numpy(mirrored),
        turns=torch.from_numpy(turns),
        down=torch.from_numpy(down),
        right=torch.from_numpy(right),
        label_of="pixel" if augmentation.label_of == "pixel" else "image",
    )


def draw_gains(
    augmentation: Augmentation, n: int, bands: int, random: np.random.Generator
) -> Tensor:
    """Random gains for `n` images by a settled augmentation, float32, `n × bands × 1 × 1`."""
    gain = augmentation.gain or 0.0
    drawn = random.uniform(1 - gain, 1 + gain, size=(n, bands, 1, 1))
    return torch.from_numpy(drawn.astype(np.float32))


@dataclass(frozen=True)
class Jitter:
    """A linear change az + b of each normalised band z of N images.

    Attributes:
        factor: float32, `N × bands × 1 × 1`, above 0.
        offset: float32, `N × bands × 1 × 1`, in standard deviations of the band.
    """

    factor: Tensor
    offset: Tensor

    def __getitem__(self, index: slice) -> Jitter:
        """The jitter of some of the images."""
        return Jitter(self.factor[index], self.offset[index])


def draw_jitter(
    augmentation: Augmentation,
    n: int,
    bands: int,
    random: np.random.Generator,
    device: torch.device,
) -> Jitter | None:
    """Random factors and offsets for `n` images by a settled augmentation; None without jitter.

    The random numbers are drawn in any case.
    """
    drawn = torch.from_numpy(random.standard_normal((2, n, bands, 1, 1), np.float32))
    factor, offset = drawn.to(device)
    jitter = augmentation.jitter
    return Jitter((jitter * factor).exp(), jitter * offset) if jitter else None


def move(images: Tensor, moves: Moves) -> tuple[Tensor, Tensor]:
    """Apply geometric changes to images.

    Flips and rotations about the labelled pixel, with index `size // 2`, keep it in place. For even
    sizes they need one more row and column than there are, which repeat the nearest one; for a size
    of 2 this is the one without the labelled pixel.

    Args:
        images: `N × bands × height × width`, any dtype; fastest in channels-last order.

    Returns:
        The changed images, in channels-last order, and a boolean `N × 1 × height × width` that is
        false where an image is empty; the image has some of its pixels there.
    """
    n, bands, height, width = images.shape
    pixel, inside = _origin(moves, height, width)
    pixel = pixel + torch.arange(n, device=images.device).view(-1, 1, 1) * (height * width)
    flat = images.permute(0, 2, 3, 1).reshape(-1, bands)
    moved = flat[pixel.flatten()].view(n, height, width, bands).permute(0, 3, 1, 2)
    return moved, inside[:, None]


def add_noise(images: Tensor, deviation: float, rng: torch.Generator) -> Tensor:
    """Images with Gaussian noise of a standard deviation added to every pixel."""
    drawn = torch.randn(images.shape, generator=rng, device=images.device)
    return images + deviation * drawn


def draw_centres(n: int, size: tuple[int, int], random: np.random.Generator) -> Tensor:
    """A random pixel of each of `n` images of `size`: int64, `n × 2`, row and column."""
    return torch.from_numpy(random.integers(size, size=(n, 2)))


def cover(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Images with a square of `side` pixels around each centre set to zero.

    The square may extend beyond the edge, as in DeVries and Taylor 2017 (arXiv:1708.04552).
    """
    height, width = images.shape[2:]
    corner = centres.view(-1, 2, 1, 1) - side // 2
    row = torch.arange(height, device=images.device).view(1, -1, 1) - corner[:, 0]
    column = torch.arange(width, device=images.device).view(1, 1, -1) - corner[:, 1]
    covered = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    return images.masked_fill(covered[:, None], 0)


def nearest(length: int) -> int:
    """The row or column that stands for the one after the last, for an even length."""
    return length - 1 if length > 2 else 0


def _origin(moves: Moves, height: int, width: int) -> tuple[Tensor, Tensor]:
    """For each new pixel the index of the old pixel, and whether there is one."""
    device = moves.down.device
    row = torch.arange(height, device=device).view(1, -1, 1) + moves.down.view(-1, 1, 1)
    column = torch.arange(width, device=device).view(1, 1, -1) + moves.right.view(-1, 1, 1)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    # The mirror image of row and column 0; about a pixel of an even size it is one after the last.
    below, beside = height - 1, width - 1
    if moves.label_of == "pixel":
        below, beside = 2 * (height // 2), 2 * (width // 2)
    half, quarter = (moves.turns >= 2).view(-1, 1, 1), (moves.turns % 2 == 1).view(-1, 1, 1)
    row = torch.where(half, below - row, row)
    column = torch.where(half, beside - column, column)
    row, column = torch.where(quarter, column, row), torch.where(quarter, beside - row, column)
    column = torch.where(moves.mirror.view(-1, 1, 1), beside - column, column)
    row = torch.where(row == height, nearest(height), row)
    column = torch.where(column == width, nearest(width), column)
    return row * width + column, inside
