"""Pictures are mirrored, turned and shifted in whole batches, by one gather on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outcrop.patches.patchset import PatchSet
from outcrop.training.recipe import Augmentation, LabelOf

# What None stands for in `Augmentation`: the gain of slices of a volume that are cut anew, and the
# jitter of patches of scenes.
_GAIN_OF_NEIGHBOURS = 0.1
_JITTER_OF_SCENES = 0.0


@dataclass(frozen=True)
class Moves:
    """What happens to each of N pictures: first mirrored, then turned, then shifted.

    Attributes:
        mirror: bool, `N`, left and right change places.
        turns: int64, `N`, quarter turns against the clock; only 0 and 2 if not square.
        down, right: int64, `N`, where the new picture begins in the old one, in pixels; beyond
            its rim it is empty.
        label_of: what the label is said of: pictures are mirrored and turned about that.
    """

    mirror: Tensor
    turns: Tensor
    down: Tensor
    right: Tensor
    label_of: LabelOf = "image"

    def __len__(self) -> int:
        return len(self.mirror)

    def __getitem__(self, index: slice) -> Moves:
        """The moves of some of the pictures."""
        return replace(
            self,
            mirror=self.mirror[index],
            turns=self.turns[index],
            down=self.down[index],
            right=self.right[index],
        )

    def to(self, device: torch.device) -> Moves:
        """The same moves on another device."""
        return replace(
            self,
            mirror=self.mirror.to(device),
            turns=self.turns.to(device),
            down=self.down.to(device),
            right=self.right.to(device),
        )


def label_of(augmentation: Augmentation, patches: PatchSet) -> LabelOf:
    """What the label of a patch is said of; "auto" is what the patches say."""
    if augmentation.label_of == "auto":
        return "image" if patches.positions is None else "pixel"
    return augmentation.label_of


def settled(augmentation: Augmentation, patches: PatchSet) -> Augmentation:
    """The same augmentation with what None and "auto" stand for on these patches.

    A label that is said of one pixel does not move with the patch. benchmarks/RESULTS.md has what
    a shift of such patches costs on real scenes.
    """
    has_up = patches.positions is None or patches.from_volume
    cuts_anew, said_of = augmentation.cuts_anew, label_of(augmentation, patches)
    usual: dict[str, Any] = {
        "crop": 0 if cuts_anew or said_of == "pixel" else min(patches.size) // 8,
        "rotate": not has_up,
        "gain": _GAIN_OF_NEIGHBOURS if has_up and cuts_anew else 0.0,
        "jitter": 0.0 if has_up else _JITTER_OF_SCENES,
    }
    open_ = {name: value for name, value in usual.items() if getattr(augmentation, name) is None}
    return replace(augmentation, label_of=said_of, **open_)


def draw(
    augmentation: Augmentation,
    n: int,
    size: tuple[int, int],
    random: np.random.Generator,
    lying: np.ndarray | None = None,
) -> Moves:
    """Random moves for `n` pictures of `size`.

    All four numbers are drawn whatever the augmentation, so that turning one of them off leaves
    the others as they were.

    Args:
        augmentation: settled.
        lying: bool, `n`, pictures whose up is along their rows: they are mirrored up and down.
    """
    mirror, half, quarter = random.integers(2, size=(3, n))
    reach = augmentation.crop or 0
    down, right = random.integers(-reach, reach, size=(2, n), endpoint=True)
    mirrored = mirror.astype(bool) & bool(augmentation.flip or augmentation.rotate)
    if augmentation.rotate:
        turns = 2 * half + (quarter if size[0] == size[1] else 0)
    else:
        # Left and right changed, and then half a turn, is up and down changed.
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
    """Random gains for `n` pictures, float32, `n × bands × 1 × 1`.

    Args:
        augmentation: settled.
    """
    gain = augmentation.gain or 0.0
    drawn = random.uniform(1 - gain, 1 + gain, size=(n, bands, 1, 1))
    return torch.from_numpy(drawn.astype(np.float32))


@dataclass(frozen=True)
class Jitter:
    """What happens to each band of each of N pictures after normalisation: z becomes az + b.

    Attributes:
        factor: float32, `N × bands × 1 × 1`, above 0.
        offset: float32, `N × bands × 1 × 1`, in standard deviations of the band.
    """

    factor: Tensor
    offset: Tensor

    def __getitem__(self, index: slice) -> Jitter:
        """The jitter of some of the pictures."""
        return Jitter(self.factor[index], self.offset[index])


def draw_jitter(
    augmentation: Augmentation,
    n: int,
    bands: int,
    random: np.random.Generator,
    device: torch.device,
) -> Jitter | None:
    """Random factors and offsets for `n` pictures; none if there is to be no jitter.

    The numbers are drawn in any case.

    Args:
        augmentation: settled.
    """
    drawn = torch.from_numpy(random.standard_normal((2, n, bands, 1, 1), np.float32))
    factor, offset = drawn.to(device)
    jitter = augmentation.jitter
    return Jitter((jitter * factor).exp(), jitter * offset) if jitter else None


def move(images: Tensor, moves: Moves) -> tuple[Tensor, Tensor]:
    """Apply `moves` to the pictures.

    Mirrors and turns about the labelled pixel, which has index `size // 2`, leave it where it is.
    Of an even size they need one row and column more than there are; these show the nearest, which
    of 2 pixels is the one that is not labelled.

    Args:
        images: `N × bands × height × width`, any dtype; fastest in channels-last order.

    Returns:
        The moved pictures, in channels-last order, and a boolean `N × 1 × height × width` that is
        false where a picture is empty; what stands there is some pixel of the picture.
    """
    n, bands, height, width = images.shape
    pixel, inside = _origin(moves, height, width)
    pixel = pixel + torch.arange(n, device=images.device).view(-1, 1, 1) * (height * width)
    flat = images.permute(0, 2, 3, 1).reshape(-1, bands)
    moved = flat[pixel.flatten()].view(n, height, width, bands).permute(0, 3, 1, 2)
    return moved, inside[:, None]


def add_noise(images: Tensor, deviation: float, rng: torch.Generator) -> Tensor:
    """Pictures with normal noise of that standard deviation added to every pixel."""
    drawn = torch.randn(images.shape, generator=rng, device=images.device)
    return images + deviation * drawn


def draw_centres(n: int, size: tuple[int, int], random: np.random.Generator) -> Tensor:
    """A random pixel of each of `n` pictures of `size`: int64, `n × 2`, row and column."""
    return torch.from_numpy(random.integers(size, size=(n, 2)))


def cover(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Pictures with a square of `side` pixels around each centre set to zero.

    The square may reach over the rim, as in DeVries and Taylor 2017 (arXiv:1708.04552).
    """
    height, width = images.shape[2:]
    corner = centres.view(-1, 2, 1, 1) - side // 2
    row = torch.arange(height, device=images.device).view(1, -1, 1) - corner[:, 0]
    column = torch.arange(width, device=images.device).view(1, 1, -1) - corner[:, 1]
    covered = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    return images.masked_fill(covered[:, None], 0)


def nearest(length: int) -> int:
    """Which row or column, of an even number, is shown where the one beyond the last is wanted."""
    return length - 1 if length > 2 else 0


def _origin(moves: Moves, height: int, width: int) -> tuple[Tensor, Tensor]:
    """For every new pixel, which pixel of the old picture it shows, and whether there is one."""
    device = moves.down.device
    row = torch.arange(height, device=device).view(1, -1, 1) + moves.down.view(-1, 1, 1)
    column = torch.arange(width, device=device).view(1, 1, -1) + moves.right.view(-1, 1, 1)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    # What row and column 0 change places with; of an even size about a pixel, one beyond the last.
    below, beside = height - 1, width - 1
    if moves.label_of == "pixel":
        below, beside = 2 * (height // 2), 2 * (width // 2)
    half, quarter = (moves.turns >= 2).view(-1, 1, 1), (moves.turns % 2 == 1).view(-1, 1, 1)
    row = torch.where(half, below - row, row)
    column = torch.where(half, beside - column, column)
    row, column = (
        torch.where(quarter, column, row),
        torch.where(quarter, beside - row, column),
    )
    column = torch.where(moves.mirror.view(-1, 1, 1), beside - column, column)
    row = torch.where(row == height, nearest(height), row)
    column = torch.where(column == width, nearest(width), column)
    return row * width + column, inside
