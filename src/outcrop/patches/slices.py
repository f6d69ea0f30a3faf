"""Patches of slices of volumes, read slab by slab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from outcrop.errors import OutcropError
from outcrop.patches.collect import Batch
from outcrop.patches.positions import Positions, Size, sides, upper_left
from outcrop.sources import read_dtype
from outcrop.sources.volumes import Volume

_BATCH_BYTES = 64 << 20


def cut_slices(
    volume: Volume,
    axis: int,
    index: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    size: Size,
) -> Iterator[Batch]:
    """Cut patches around given centre pixels of slices across one axis, slab after slab.

    Args:
        index: int, `N`, the slices.
        row, column: int, `N`, the centre pixels; every patch lies wholly in its slice.

    Yields:
        Indices into `row`, and the patches there: `n × 1 × height × width` in the volume's dtype.
    """
    height, width = sides(size)
    top, left = upper_left(row, height), upper_left(column, width)
    order = np.argsort(index, kind="stable")
    step = max(1, _BATCH_BYTES // (height * width * volume.dtype.itemsize))
    with volume.reader() as reader:
        for start, stop in volume.slabs(axis):
            here = order[slice(*np.searchsorted(index, (start, stop), sorter=order))]
            if not len(here):
                continue
            first = int(index[here[0]])
            slab = reader.slices(axis, first, int(index[here[-1]]) + 1)
            windows = sliding_window_view(slab, (height, width), axis=(1, 2))
            for at in range(0, len(here), step):
                part = here[at : at + step]
                yield part, windows[index[part] - first, top[part], left[part]][:, None]


def volume_images(volumes: Sequence[Volume], positions: Positions, size: Size) -> Iterator[Batch]:
    """Cut patches of volumes, volume after volume and axis after axis."""
    for number, volume in enumerate(volumes):
        for axis in range(3):
            here = np.flatnonzero((positions.source == number) & (positions.axis == axis))
            at = positions[here]
            if len(here):
                for part, pixels in cut_slices(volume, axis, at.index, at.row, at.column, size):
                    yield here[part], pixels


def with_samples(volumes: Sequence[Volume], positions: Positions) -> np.ndarray:
    """Mask of the patches whose centre voxel has a value, not NaN."""
    valid = np.ones(len(positions), bool)
    if any(volume.dtype.kind == "f" for volume in volumes):
        for part, centres in volume_images(volumes, positions, size=1):
            valid[part] = np.isfinite(centres[:, 0, 0, 0])
    return valid


def common_dtype(volumes: Sequence[Volume]) -> np.dtype:
    """The dtype of patches cut from several volumes: the volumes' own if a patch set keeps it."""
    return read_dtype(np.result_type(*(volume.dtype for volume in volumes)))


def check_size(volume: Volume, axis: int, size: int) -> None:
    """Refuse patches that no slice across `axis` has room for."""
    height, width = volume.slice_shape(axis)
    if size > min(height, width):
        raise OutcropError(
            volume.title,
            f"has slices of {height} × {width} across axis {axis}, smaller than a patch of {size}; "
            "take a smaller --size",
        )
