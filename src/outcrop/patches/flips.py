"""The eight flips and rotations of a patch by 90°: the symmetries of the square.

All code that flips or rotates patches, or finds how they were flipped, uses the names in `FLIPS`.
They are about the centre of the array, which is between pixels if the size is even. Maps use arrays
of odd size with the labelled pixel in the centre. In training, `outcrop.training.augment.move`
rotates about the labelled pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np

FLIPS = MappingProxyType[str, Callable[[np.ndarray], np.ndarray]](
    {
        "none": lambda image: image,
        "left-right": lambda image: image[..., ::-1],
        "up-down": lambda image: image[..., ::-1, :],
        "turn 90": lambda image: np.rot90(image, 1, axes=(-2, -1)),
        "turn 180": lambda image: image[..., ::-1, ::-1],
        "turn 270": lambda image: np.rot90(image, 3, axes=(-2, -1)),
        "transpose": lambda image: np.swapaxes(image, -2, -1),
        "anti-transpose": lambda image: np.swapaxes(image[..., ::-1, ::-1], -2, -1),
    }
)
KEEP_SHAPE = ("none", "left-right", "up-down", "turn 180")
_INVERSE = {"turn 90": "turn 270", "turn 270": "turn 90"}


def flip(image: np.ndarray, name: str) -> np.ndarray:
    """Flip or rotate an image, or a stack of images; a view.

    Args:
        image: any shape that ends in height × width.
        name: one of `FLIPS`. Rotations are counter-clockwise, as in `numpy.rot90`. "transpose"
            mirrors at the diagonal from the upper left, "anti-transpose" at the other diagonal.

    >>> flip(np.array([[1, 2], [3, 4]]), "turn 90")
    array([[2, 4],
           [1, 3]])
    """
    return FLIPS[name](image)


def unflip(image: np.ndarray, name: str) -> np.ndarray:
    """Inverse of `flip`; a view."""
    return FLIPS[_INVERSE.get(name, name)](image)
