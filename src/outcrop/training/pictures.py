"""Images of one side of a split as tensors: on the device, or read in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from outcrop.patches import patchset
from outcrop.patches.patchset import PatchSet
from outcrop.training.cutter import Cutter, Shifts

_AHEAD = 3

# torch has few operations for uint16; no dtype of patches is wider than float32.
_COMPACT = {"uint8": np.uint8, "int16": np.int16, "uint16": np.int32}


def to_tensor(images: np.ndarray) -> Tensor:
    """Images `N × bands × height × width` in channels-last order and a compact dtype."""
    dtype = _COMPACT.get(images.dtype.name, np.float32)
    last = np.array(np.moveaxis(images, 1, -1), dtype=dtype, order="C")
    return torch.from_numpy(last).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Pictures:
    """The images and labels of one side of a split, as batches on a device.

    Attributes:
        index: indices of the patches of this side.
        labels: int64, label of each patch, on the device.
        resident: all images on the device; None: images are read when they are needed.
        cutter: cuts images again from their sources, or None.
        weights: float32, weight of each patch in the loss, on the device; None: 1 each.
    """

    patches: PatchSet
    index: np.ndarray
    labels: Tensor
    resident: Tensor | None
    cutter: Cutter | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def all(self) -> np.ndarray:
        """Indices of all images of this side."""
        return np.arange(len(self))

    def batches(
        self, wanted: Sequence[np.ndarray], shifts: Shifts | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels for each array of indices into this side.

        Images are `M × bands × height × width`, not yet normalised. Images that are not on the
        device are read some batches ahead, while the device computes. With `shifts` of all images
        of this side they are cut again.
        """
        device = self.labels.device
        if self.resident is not None:
            for which in wanted:
                there = torch.from_numpy(which).to(device, non_blocking=True)
                yield self.resident[there], self.labels[there]
            return
        with ThreadPoolExecutor(1, "outcrop-read") as reader:
            waiting: deque[Future[Tensor]] = deque()
            try:
                for k, which in enumerate(wanted):
                    for ahead in wanted[k + len(waiting) : k + 1 + _AHEAD]:
                        waiting.append(reader.submit(self._read, ahead, shifts))
                    images = waiting.popleft().result().to(device, non_blocking=True)
                    yield images, self.labels[torch.from_numpy(which).to(device)]
            finally:
                # The sources may be closed only after the last batch is read.
                reader.shutdown(cancel_futures=True)

    def _read(self, which: np.ndarray, shifts: Shifts | None) -> Tensor:
        if self.cutter is None or shifts is None:
            images = to_tensor(self.patches.take(self.index[which]))
        else:
            images = to_tensor(self.cutter.cut(which, shifts))
        return images.pin_memory() if self.labels.is_cuda else images


def load_pictures(
    patches: PatchSet,
    index: np.ndarray,
    device: torch.device,
    cutter: Cutter | None = None,
    weights: np.ndarray | None = None,
) -> Pictures:
    """The patches at `index`, loaded now if the whole set is at most `patchset.RESIDENT_BYTES`.

    Images that are cut again are never loaded now. `weights` are those of all patches of the set in
    the loss.
    """
    fits = patches.nbytes <= patchset.RESIDENT_BYTES and cutter is None
    return Pictures(
        patches,
        index,
        labels=torch.from_numpy(np.asarray(patches.labels[index], dtype=np.int64)).to(device),
        resident=to_tensor(patches.take(index)).to(device) if fits else None,
        cutter=cutter,
        weights=None if weights is None else torch.from_numpy(weights[index]).float().to(device),
    )
