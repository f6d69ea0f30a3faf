"""A patch set as a dataset of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class PatchDataset:
    """Some patches as a map-style dataset of PyTorch, for `torch.utils.data.DataLoader`.

    An item is the image, float32 `bands × height × width` in the units of the source (NaN: no
    data), and its label, an index into `classes`.
    """

    def __init__(self, patches: Any, index: np.ndarray) -> None:
        self.patches, self.index = patches, index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Several items at once, as a DataLoader asks for a batch: images on disk are read once."""
        import torch

        index = self.index[np.asarray(numbers)]
        images = torch.from_numpy(self.patches.take(index).astype(np.float32))
        return list(zip(images, self.patches.labels[index].tolist(), strict=True))
