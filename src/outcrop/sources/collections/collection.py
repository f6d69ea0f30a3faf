"""`Collection`: labelled images that nobody knows the place of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from outcrop.errors import OutcropError

if TYPE_CHECKING:
    from torch import Tensor

SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class Collection:
    """N labelled images of one size.

    Attributes:
        images: `N × bands × height × width`, uint8, uint16, int16 or float32, in the units of the
            files; NaN where a float image has no data.
        labels: int64, `N`, an index into `classes`.
        classes: the class names, in the order of the labels.
        bands: as the file names them; else "red", "green", "blue"; "grey"; or "band 1" and so on.
        sides: int8, `N`, an index into `SIDES`, as the collection was delivered, or None where it
            was not delivered in parts. The part held out is the validation side; only where both
            a validation and a test part were delivered is there a test side.
        names: the file of each image, or None where an image has none of its own.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    bands: tuple[str, ...]
    sides: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Image, float32 `bands × height × width`, and label: a map-style dataset of PyTorch.

        >>> some = Collection(np.ones((2, 1, 4, 4)), np.array([1, 0]), ("cat", "dog"), ("grey",))
        >>> image, label = some[0]
        >>> image.shape, some.classes[label]
        (torch.Size([1, 4, 4]), 'dog')
        """
        import torch

        return torch.from_numpy(self.images[index].astype(np.float32)), int(self.labels[index])


def band_names(bands: int) -> tuple[str, ...]:
    """What the bands of a loose image are called.

    >>> band_names(1), band_names(3), band_names(2)
    (('grey',), ('red', 'green', 'blue'), ('band 1', 'band 2'))
    """
    usual = {1: ("grey",), 3: ("red", "green", "blue")}
    return usual.get(bands) or tuple(f"band {i}" for i in range(1, bands + 1))


def held_out(sides: np.ndarray) -> np.ndarray:
    """Sides in which the only part held out, whatever its name, is the validation side.

    >>> held_out(np.array([0, 2, 0])), held_out(np.array([0, 2, 1]))
    (array([0, 1, 0], dtype=int8), array([0, 2, 1], dtype=int8))
    """
    sides = np.asarray(sides, dtype=np.int8)
    return sides if (sides == 1).any() else np.minimum(sides, 1)


def check(collection: Collection, path: Path) -> Collection:
    """The collection, if a classifier can learn from it.

    Raises:
        OutcropError: one class only; pixels that are infinite; a centre pixel (`size // 2`) that
            is NaN.
    """
    images = collection.images
    if len(np.unique(collection.labels)) < 2:
        raise OutcropError(path, "one class only; a classifier needs images of at least two")
    if images.dtype.kind != "f":
        return collection
    flaws = (
        (np.isinf(images).any(axis=(1, 2, 3)), "holds infinite pixels; put NaN for no data"),
        (
            np.isnan(images[..., images.shape[2] // 2, images.shape[3] // 2]).any(axis=1),
            "has no data at its centre; leave it out",
        ),
    )
    for flawed, what in flaws:
        if flawed.any():
            first = int(flawed.argmax())
            name = collection.names[first] if collection.names else f"image {first}"
            raise OutcropError(path, f"{name} {what}")
    return collection
