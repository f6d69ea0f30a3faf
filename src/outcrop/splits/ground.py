"""Distance on the ground: pieces of ground, and the buffer between the sides of a split."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from outcrop.patches.positions import Positions
from outcrop.splits.split import BUFFER, TEST, TRAIN, VALIDATION

_ROUNDING = 1e-9
_BLOCKS_A_FOLD = 5


def blocks(positions: Positions, block: float) -> np.ndarray:
    """The block that each patch belongs to, keeping labelled polygons whole.

    Blocks are the squares of a grid through the origin of a scene's coordinates, or the cubes of
    one through the corner of each volume. A polygon belongs to the block that holds most of its
    patches.

    Args:
        block: side of a block in the unit of the positions.

    Returns:
        int64, `N`, numbered from 0 without gaps.
    """
    cells = np.floor(from_corner(positions)[:, ::-1] / block)
    cells = np.column_stack([cells, volume_of(positions)])
    cell = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
    return np.unique(most_common(cell, positions.polygon), return_inverse=True)[1]


def volume_of(positions: Positions) -> np.ndarray:
    """The volume that each patch is from; -1 for all scenes, which share their ground."""
    return np.where(positions.axis >= 0, positions.source, -1)


def from_corner(positions: Positions) -> np.ndarray:
    """z, y and x from the origin of a scene's coordinates, or the corner of a volume: `N × 3`.

    The corner of a volume lies half a voxel before the middle of the first voxel, so that slice
    k reaches from k to k + 1.
    """
    return positions.middle + np.where(positions.axis >= 0, 0.5, 0.0)[:, None]


def most_common(value: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """For each patch the commonest of its polygon's values; of equals the smallest."""
    if not len(value):
        return value
    number = np.unique(polygon, return_inverse=True)[1]
    low, span = int(value.min()), int(np.ptp(value)) + 1
    # One number for each pair, because rows are slow to sort.
    pairs, counts = np.unique(number * span + (value.astype(np.int64) - low), return_counts=True)
    which, found = np.divmod(pairs, span)
    order = np.lexsort((found, -counts, which))
    first = order[np.r_[True, np.diff(which[order]) != 0]]
    return (found[first] + low)[number].astype(value.dtype)


def suggest_block(positions: Positions, folds: int = 5) -> float:
    """A block size, in the unit of the positions, where the user names none.

    A tenth of the longest side of the labelled ground. Where most of that is empty, as between
    scenes far apart or clusters of labels, such blocks would hold a whole scene: they are made
    smaller until five of them for each fold hold labels, or half as many as there are polygons, if
    those are fewer. But at least four patches, and in a volume, where four would soon be all there
    is, two; or one, where there would not be two blocks for each fold. A starting point, not a
    measurement: how far the ground resembles itself is for an audit to say.
    """
    least = (2 if (positions.axis >= 0).any() else 4) * largest_extent(positions)
    polygons = len(np.unique(positions.polygon))
    enough = max(min(_BLOCKS_A_FOLD * folds, polygons // 2), min(folds, polygons))
    block = float(np.ptp(positions.middle, axis=0).max()) / 10
    while block > least and blocks(positions, block).max() + 1 < enough:
        block /= math.sqrt(2)
    block, few = max(block, least), min(2 * folds, polygons)
    while block > largest_extent(positions) and blocks(positions, block).max() + 1 < few:
        block /= math.sqrt(2)
    return max(block, largest_extent(positions))


def suggest_buffer(positions: Positions) -> float:
    """A buffer, in the unit of the positions, where the user names none.

    One patch: the largest extent of any. In a volume half of that, because the buffer counts
    across the slices too, where a whole patch would take too many of them.
    """
    return largest_extent(positions) / (2 if (positions.axis >= 0).any() else 1)


def largest_extent(positions: Positions) -> float:
    """The longest side of any patch on the ground, in the unit of the positions."""
    depth = np.where(positions.axis >= 0, positions.depth, 0)  # that of a scene is no length
    return float(max(positions.height.max(), positions.width.max(), depth.max()))


def near(one: Positions, other: Positions, buffer: float) -> np.ndarray:
    """Mask of the patches of `one` that overlap, or come nearer than `buffer` to, any of `other`.

    Measured between extents, as the largest of the gaps in x, y and z (so that corners are at
    least as far apart in a straight line). Where patches of one axis differ in extent the largest
    counts for all. Patches of different volumes are never near.

    Args:
        buffer: in the unit of the positions; 0 allows extents that touch.
    """
    found = np.zeros(len(one), bool)
    for volume, mine in _alike(one):
        for volume_of_theirs, theirs in _alike(other):
            if volume == volume_of_theirs:
                found[mine] |= _reach(one[mine], other[theirs], buffer)
    return found


def _reach(one: Positions, other: Positions, buffer: float) -> np.ndarray:
    """`near` as if all patches of a side were as large as the largest."""
    from scipy.spatial import KDTree

    apart = (one.extent.max(axis=0) + other.extent.max(axis=0)) / 2 + buffer
    if not apart.all():  # points: without extent nothing overlaps
        return np.zeros(len(one), bool)
    origin = other.middle.mean(axis=0)
    tree = KDTree((other.middle - origin) / apart)
    limit = 1 - _ROUNDING
    distance, _ = tree.query((one.middle - origin) / apart, p=np.inf, distance_upper_bound=limit)
    return distance < limit


def _alike(positions: Positions) -> Iterator[tuple[int, np.ndarray]]:
    """The patches of each volume and axis: the volume and their indices."""
    kinds = volume_of(positions).astype(np.int64) * 4 + positions.axis
    for kind in np.unique(kinds):  # one number each, because rows are slow to sort
        yield int(kind + 1) // 4, np.flatnonzero(kinds == kind)


def keep_apart(positions: Positions, sides: np.ndarray, buffer: float) -> np.ndarray:
    """Move patches to the buffer until the sides are apart on the ground.

    Of a polygon that stands on several sides only the larger part stays. Then patches too near
    to another side go: of training and another the training patch, of validation and test the
    validation patch.

    Args:
        sides: int8, `N`, an index into `outcrop.splits.SIDES`.
        buffer: between the extents of patches, in the unit of the positions.

    Returns:
        The new sides.
    """
    sides = np.where(sides == most_common(sides, positions.polygon), sides, BUFFER).astype(np.int8)
    for side, judges in ((VALIDATION, (TEST,)), (TRAIN, (VALIDATION, TEST))):
        here = np.flatnonzero(sides == side)
        others = positions[np.isin(sides, judges)]
        sides[here[near(positions[here], others, buffer)]] = BUFFER
    return sides
