"""Blocks and a buffer that fit the range of a variogram, tried out on the patches."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BlockSplit
from outcrop.splits.ground import largest_extent

_FOLDS = 5
_TRIED = 5000
_KEPT = 0.5
# Blocks and buffer as multiples of what is wanted, from the best to what may still be had.
_COMPROMISES = tuple(
    (block, buffer) for buffer in (1, 0.5, 0) for block in ((1, 2) if buffer else (1, 0.5, 0.25))
)


def advise_blocks(patches: PatchSet, reach: float, seed: int = 0) -> tuple[float, float] | None:
    """A block size and a buffer for a range, tried out on the patches.

    Where the ground is too small for them (fewer than half of the patches would be used, or a
    side would be without classes) the buffer is cut first, then the blocks.

    Args:
        reach: how far pixels resemble each other, in the patch set's unit.

    Returns:
        Block and buffer in the patch set's unit; None where no blocks can be had.
    """
    assert patches.positions is not None
    tried = _bare(patches, seed)
    wanted = max(reach, (2 if patches.from_volume else 4) * largest_extent(patches.positions))
    for block_share, buffer_share in _COMPROMISES:
        block = round_up(wanted * block_share)
        buffer = round_up(wanted_buffer(patches, reach) * buffer_share)
        try:
            splitter = BlockSplit(block=block, buffer=buffer, folds=_FOLDS, seed=seed)
            split = splitter.assign(tried)
        except OutcropError:
            continue
        if len(split.train) + len(split.validation) >= _KEPT * len(tried):
            return block, buffer
    return None


def round_up(value: float) -> float:
    """The next number of two significant digits.

    >>> round_up(568.1), round_up(0.0), round_up(1000)
    (570.0, 0.0, 1000.0)
    """
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(round(value / step, 6)) * step


def wanted_buffer(patches: PatchSet, reach: float) -> float:
    """Between extents, so that middles are further apart than the range."""
    assert patches.positions is not None
    return max(0.0, reach - largest_extent(patches.positions))


def _bare(patches: PatchSet, seed: int) -> PatchSet:
    """At most 5000 of the patches, without images and classes that are too rare to be dealt."""
    index = np.random.default_rng(seed).permutation(len(patches))[:_TRIED]
    counts = np.bincount(patches.labels[index], minlength=len(patches.classes))
    index = index[counts[patches.labels[index]] >= _FOLDS]
    images = np.broadcast_to(np.uint8(0), (len(index), len(patches.bands), 1, 1))
    assert patches.positions is not None
    return replace(
        patches,
        images=images,
        labels=patches.labels[index],
        positions=patches.positions[index],
        columns={},
    )
