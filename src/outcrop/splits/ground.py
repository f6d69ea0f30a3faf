"""Distance on the ground: pieces of ground, and the buffer between the sides of a split."""

from __future__ import annotations

import numpy as np

from outcrop.patches.positions import Positions
from outcrop.splits.split import BUFFER, TEST, TRAIN, VALIDATION

_ROUNDING = 1e-9


def blocks(positions: Positions, block: float) -> np.ndarray:
    """The square block that each patch belongs to, keeping labelled polygons whole.

    Blocks are cells of a grid through the origin of the coordinates. A polygon belongs to the
    block that holds most of its patches.

    Args:
        block: side of a block in metres.

    Returns:
        int64, `N`, numbered from 0 without gaps.
    """
    cells = np.stack([np.floor(positions.x / block), np.floor(positions.y / block)], axis=1)
    cell = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
    return np.unique(most_common(cell, positions.polygon), return_inverse=True)[1]


def most_common(value: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """For each patch the commonest of its polygon's values; of equals the smallest."""
    number = np.unique(polygon, return_inverse=True)[1]
    pairs, counts = np.unique(np.stack([number, value]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    first = order[np.r_[True, np.diff(pairs[0][order]) != 0]] if len(order) else order
    return pairs[1][first][number]


def suggest_block(positions: Positions) -> float:
    """A block size in metres where the user names none.

    A tenth of the longer side of the labelled ground, but at least four patches. A starting
    point, not a measurement: how far the ground resembles itself is for an audit to say.
    """
    extent = max(np.ptp(positions.x), np.ptp(positions.y))
    return float(max(extent / 10, 4 * positions.width.max(), 4 * positions.height.max()))


def near(one: Positions, other: Positions, buffer: float) -> np.ndarray:
    """Mask of the patches of `one` that overlap, or come nearer than `buffer` to, any of `other`.

    Measured between extents, as the larger of the gaps in x and y (so that corners are at least
    as far apart in a straight line). Where patches differ in extent the largest counts for all.

    Args:
        buffer: in metres; 0 allows extents that touch.
    """
    if not len(one) or not len(other):
        return np.zeros(len(one), bool)
    from scipy.spatial import KDTree

    reach_x = max(one.width.max(), other.width.max()) + buffer
    reach_y = max(one.height.max(), other.height.max()) + buffer
    origin_x, origin_y = other.x.mean(), other.y.mean()
    scaled = [
        np.stack([(p.x - origin_x) / reach_x, (p.y - origin_y) / reach_y], axis=1)
        for p in (one, other)
    ]
    limit = 1 - _ROUNDING
    distance, _ = KDTree(scaled[1]).query(scaled[0], p=np.inf, distance_upper_bound=limit)
    return distance < limit


def keep_apart(positions: Positions, sides: np.ndarray, buffer: float) -> np.ndarray:
    """Move patches to the buffer until the sides are apart on the ground.

    Of a polygon that stands on several sides only the larger part stays. Then patches too near
    to another side go: of training and another the training patch, of validation and test the
    validation patch.

    Args:
        sides: int8, `N`, an index into `outcrop.splits.SIDES`.
        buffer: in metres, between the extents of patches.

    Returns:
        The new sides.
    """
    sides = np.where(sides == most_common(sides, positions.polygon), sides, BUFFER).astype(np.int8)
    for side, judges in ((VALIDATION, (TEST,)), (TRAIN, (VALIDATION, TEST))):
        here = np.flatnonzero(sides == side)
        others = positions[np.isin(sides, judges)]
        sides[here[near(positions[here], others, buffer)]] = BUFFER
    return sides
