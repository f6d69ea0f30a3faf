"""Blocks and a buffer that fit the range of a variogram, tried out on the patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source
from outcrop.splits import BlockSplit
from outcrop.splits.ground import largest_extent
from outcrop.splits.places import coordinates, nearest, places_to_map

FOLDS = 5
BEYOND = (
    "assumed: new ground is mapped. Smaller blocks or buffer make scores too high, because "
    "neighbours are on both sides (Roberts et al. 2017, Ecography 40, 913; Ploton et al. 2020, "
    "Nature Communications 11, 4540)"
)
BETWEEN = (
    "assumed: ground between the patches is mapped. There these blocks suit a model that sees "
    "features; for one that interpolates scores are too low (Wadoux et al. 2021, Ecological "
    "Modelling 457, 109692): judge at the distances of the map, `outcrop split --by matching`, and "
    "name what else is to be mapped with --to-map. For new ground smaller blocks make scores too "
    "high (Roberts et al. 2017, Ecography 40, 913; Ploton et al. 2020, Nature Communications 11, "
    "4540)"
)
_TRIED = 5000
_KEPT = 1 / 3
_PLACES, _BETWEEN = 1000, 0.9
# Blocks and buffer as multiples of what is wanted, from the best to what may still be had.
_COMPROMISES = tuple(
    (block, buffer) for buffer in (1, 0.5, 0) for block in ((1, 2) if buffer else (1, 0.5, 0.25))
)


@dataclass(frozen=True)
class Blocks:
    """Blocks and a buffer that suit the ground, in the patch set's unit.

    Attributes:
        block, buffer: for `outcrop.splits.BlockSplit`.
        unit: "m" or "voxels".
        wide: whether they are as wide as they should be; else they are the most that the labelled
            ground allows.
    """

    block: float
    buffer: float
    unit: str
    wide: bool

    @property
    def command(self) -> str:
        """The command that splits so."""
        return f"`outcrop split --block {self.block:g} --buffer {self.buffer:g}`"

    def __str__(self) -> str:
        most = "" if self.wide else "the most that this ground allows: "
        return f"{most}blocks of {self.block:g} {self.unit}, buffer {self.buffer:g} {self.unit}"


def advise_blocks(
    patches: PatchSet, ranges: np.ndarray | None = None, least: float = 0.0, seed: int = 0
) -> Blocks | None:
    """A block size and a buffer for a range, tried out on the patches.

    Blocks no smaller than the range, and patches of different sides further apart than the range,
    from middle to middle: Roberts et al. (2017), Cross-validation strategies for data with
    temporal, spatial, hierarchical, or phylogenetic structure, Ecography 40, 913-929; Valavi et
    al. (2019), blockCV, Methods in Ecology and Evolution 10, 225-232 (`cv_spatial_autocor`,
    `cv_buffer`). Where the ground is too small for them (fewer than a third of the patches would be
    used, or a side would be without classes) the buffer is cut first, then the blocks.

    Such blocks suit a map of new ground, and any model that sees features. A map between evenly
    spread patches by a model that interpolates is better than they say (Wadoux et al. 2021,
    Ecological Modelling 457, 109692): see `lies_between`.

    Args:
        ranges: float64, 3, how far pixels resemble each other along axis 0, 1 and 2, in the patch
            set's unit (`Autocorrelation.ranges`); NaN or None if that is not known.
        least: the smallest buffer that keeps sides from showing the same.

    Returns:
        None where no blocks can be had.
    """
    if patches.positions is None or not len(patches):
        return None
    ranges = np.zeros(3) if ranges is None else np.nan_to_num(ranges)
    block_wanted = (2 if patches.from_volume else 4) * largest_extent(patches.positions)
    block_wanted = max(block_wanted, float(ranges.max()))
    apart = ranges - patches.positions.extent.min(axis=0)
    buffer_wanted = max(least, float(apart[0 if patches.from_volume else 1 :].max()))
    tried = _bare(patches, seed)
    for block_share, buffer_share in _COMPROMISES:
        block = round_up(block_wanted * block_share)
        buffer = round_up(max(least, buffer_wanted * buffer_share))
        if patches.from_volume:
            block, buffer = math.ceil(block), math.ceil(buffer)
        try:
            splitter = BlockSplit(block=block, buffer=buffer, folds=FOLDS, seed=seed)
            split = splitter.assign(tried)
        except OutcropError:
            continue
        if len(split.train) + len(split.validation) >= _KEPT * len(tried):
            wide = block >= block_wanted and buffer >= buffer_wanted
            return Blocks(block, buffer, patches.unit, wide)
    return None


def lies_between(
    patches: PatchSet, ranges: np.ndarray | None, sources: Sequence[Source] | None = None
) -> bool | None:
    """Whether what is to be mapped lies between the patches, and not on new ground.

    It does if nine of ten of its places are no further from a patch than the range.

    Args:
        ranges: as of `advise_blocks`.
        sources: what is to be mapped; the patches' own sources if not given.

    Returns:
        None if that cannot be said.
    """
    if patches.positions is None or not patches.sources or ranges is None:
        return None
    if not np.isfinite(ranges).any():
        return None
    if patches.from_volume and sources is not None:  # other volumes share no ground
        return False
    apart = nearest(places_to_map(patches, _PLACES, sources).at, coordinates(patches.positions))
    return bool((apart <= np.nanmax(ranges)).mean() >= _BETWEEN)


def round_up(value: float) -> float:
    """The next number of two significant digits.

    >>> round_up(568.1), round_up(0.0), round_up(1000)
    (570.0, 0.0, 1000.0)
    """
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(round(value / step, 6)) * step


def _bare(patches: PatchSet, seed: int) -> PatchSet:
    """At most 5000 of the patches, without images and classes that are too rare to be dealt."""
    index = np.random.default_rng(seed).permutation(len(patches))[:_TRIED]
    counts = np.bincount(patches.labels[index], minlength=len(patches.classes))
    index = index[counts[patches.labels[index]] >= FOLDS]
    images = np.broadcast_to(np.uint8(0), (len(index), len(patches.bands), 1, 1))
    return replace(
        patches,
        images=images,
        labels=patches.labels[index],
        positions=None if patches.positions is None else patches.positions[index],
        columns={},
    )
