"""One side of a patch set as tensors: on the device if it fits there, else read in batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from outcrop.patches.patchset import PatchSet

RESIDENT_BYTES = 2 << 30

# torch has few operations for uint16, and none of the formats of patches is wider than float32.
_COMPACT = {"uint8": np.uint8, "int16": np.int16, "uint16": np.int32}


def to_tensor(images: np.ndarray) -> Tensor:
    """Images `N × bands × height × width` in channels-last order and a compact dtype."""
    dtype = _COMPACT.get(images.dtype.name, np.float32)
    last = np.array(np.moveaxis(images, 1, -1), dtype=dtype, order="C")
    return torch.from_numpy(last).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Pictures:
    """The pictures and labels of one side of a split, as batches on a device.

    Attributes:
        patches: the set they come from.
        index: which patches of the set.
        labels: int64, the class of each, on the device.
        resident: all pictures on the device, or None if they are read as they are asked for.
    """

    patches: PatchSet
    index: np.ndarray
    labels: Tensor
    resident: Tensor | None

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, which: np.ndarray) -> tuple[Tensor, Tensor]:
        """Pictures `M × bands × height × width`, not yet normalised, and their labels."""
        there = torch.from_numpy(which).to(self.labels.device)
        if self.resident is None:
            images = to_tensor(self.patches.take(self.index[which])).to(self.labels.device)
        else:
            images = self.resident[there]
        return images, self.labels[there]


def load_pictures(patches: PatchSet, index: np.ndarray, device: torch.device) -> Pictures:
    """The patches at `index`, loaded now if the whole set is at most `RESIDENT_BYTES`."""
    fits = patches.nbytes <= RESIDENT_BYTES
    return Pictures(
        patches,
        index,
        labels=torch.from_numpy(np.asarray(patches.labels[index], dtype=np.int64)).to(device),
        resident=to_tensor(patches.take(index)).to(device) if fits else None,
    )
