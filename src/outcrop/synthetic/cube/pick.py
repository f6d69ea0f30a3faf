"""Places to cut patches from a cube whose classes are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from outcrop.errors import OutcropError
from outcrop.synthetic.cube.earth import CLASSES

_TRIES = 100  # for each patch that is wanted
_CHUNK = 1 << 24  # voxels looked at together


@dataclass(frozen=True)
class Places:
    """Where N patches lie, class by class; int64 arrays of length N.

    Attributes:
        index: of the slice along the axis.
        row, column: of the upper-left pixel in that slice, whose rows and columns are the other two
            axes in order.
        label: index into `CLASSES` of the centre voxel's class.
    """

    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    label: np.ndarray


def random_patches(
    classes: np.ndarray, axis: int, size: int, per_class: int, seed: int, share: float = 0.6
) -> Places:
    """Draw places for patches that lie wholly in a slice and show mostly one class.

    A patch has the class of its centre pixel, which lies `size // 2` below and right of the
    upper-left one. No two patches are the same, but they may overlap.

    Args:
        classes: uint8, three axes: 0, or 1 + index into `CLASSES`; may be memory-mapped.
        axis: across which the slices lie, 0 to 2.
        size: height and width of a patch.
        per_class: how many patches of each class.
        seed: of the draw.
        share: of the patch's pixels that are of its class, at least.

    Raises:
        OutcropError: `axis` or `size` does not fit the cube, or too few such places are found for
            a class.
    """
    if axis not in (0, 1, 2):
        raise OutcropError("axis", f"{axis} is not one of a cube's; take 0, 1 or 2")
    planes = np.moveaxis(classes, axis, 0)
    if not 1 <= size <= min(planes.shape[1:]):
        sides = " × ".join(map(str, planes.shape[1:]))
        raise OutcropError("size", f"a patch of {size} does not fit slices of {sides}; change it")
    windows = sliding_window_view(planes, (size, size), axis=(1, 2))
    places = int(np.prod(windows.shape[:3]))
    tries = min(places, _TRIES * per_class * len(CLASSES))
    drawn = np.random.default_rng(seed).choice(places, tries, replace=False)
    corners = np.stack(np.unravel_index(drawn, windows.shape[:3]))
    centres = windows[..., size // 2, size // 2][tuple(corners)]
    kept = [
        _first(windows, corners[:, centres == k], k, per_class, share)
        for k in range(1, len(CLASSES) + 1)
    ]
    index, row, column = np.concatenate(kept, axis=1)
    return Places(index, row, column, np.repeat(np.arange(len(CLASSES)), per_class))


def _first(
    windows: np.ndarray, corners: np.ndarray, k: int, wanted: int, share: float
) -> np.ndarray:
    """The first of some corners whose window holds enough of class `k`: 3 × wanted."""
    height, width = windows.shape[-2:]
    chunk = max(1, _CHUNK // (height * width))
    kept = np.empty((3, 0), dtype=np.int64)
    for start in range(0, corners.shape[1], chunk):
        some = corners[:, start : start + chunk]
        held = (windows[tuple(some)] == k).mean(axis=(1, 2))
        kept = np.concatenate([kept, some[:, held >= share]], axis=1)
        if kept.shape[1] >= wanted:
            return kept[:, :wanted]
    raise OutcropError(
        f"class '{CLASSES[k - 1]}'",
        f"only {kept.shape[1]} of {wanted} places found where {share:.0%} of {height} × {width} "
        "pixels are of it; ask for fewer or smaller patches or for a smaller share",
    )
