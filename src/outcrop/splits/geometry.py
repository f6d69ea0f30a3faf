"""Distances between patches, spatial blocks, the buffer, and the points that a map predicts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions, Rows, Source
from outcrop.sources.metric import metric_system_near
from outcrop.splits.split import BUFFER, TEST, TRAIN, VALIDATION

_ROUNDING = 1e-9
_BLOCKS_PER_FOLD = 5
# Offset between volumes: larger than any distance inside a volume, and exact in float64.
_VOLUME_OFFSET = float(1 << 24)
_place = attrgetter("crs", "transform", "shape")


# Coordinates


def coordinates(positions: Positions) -> np.ndarray:
    """Centres of patches, such that the distance between any two of them is meaningful.

    Volumes share no coordinate system. Each volume is shifted along its last axis, so that patches
    of different volumes are far apart.

    Returns:
        float64, `N × 2` (y, x in metres) for scenes, `N × 3` (z, y, x in voxels) for volumes.
    """
    if (positions.axis < 0).all():
        return positions.middle[:, 1:]
    return positions.middle + np.array([0, 0, _VOLUME_OFFSET]) * positions.source[:, None]


def pixel_coordinates(
    source: Source, number: int, pixel: np.ndarray, crs: str | None
) -> np.ndarray:
    """Coordinates of pixels of a source, as `coordinates`: float64, `M × 2` or `M × 3`.

    Args:
        number: index of the source in the patch set.
        pixel: `M × 2` rows and columns of a scene, or `M × 3` voxels of a volume.
        crs: metric system of the source (`PatchSet.crs_of`).
    """
    if source.transform is None:
        return pixel + np.array([0, 0, _VOLUME_OFFSET]) * number
    row, column = pixel.T
    x, y = source.xy(row, column, source.crs if crs is None else crs)
    return np.stack([y, x], axis=1)


def volume_of(positions: Positions) -> np.ndarray:
    """Index of the volume of each patch; -1 for every scene, because scenes share coordinates."""
    return np.where(positions.axis >= 0, positions.source, -1)


def from_corner(positions: Positions) -> np.ndarray:
    """z, y and x from the origin of a scene's coordinates or the corner of a volume: `N × 3`.

    The corner of a volume lies half a voxel before the centre of the first voxel. So slice k
    extends from k to k + 1.
    """
    return positions.middle + np.where(positions.axis >= 0, 0.5, 0.0)[:, None]


def largest_extent(positions: Positions) -> float:
    """Longest side of any patch, in the unit of the positions."""
    depth = np.where(positions.axis >= 0, positions.depth, 0)  # a scene has no depth
    return float(max(positions.height.max(), positions.width.max(), depth.max()))


def nearest(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Distance of each row of `one` to the nearest row of `other`: `M × D` and `N × D` to `M`."""
    from scipy.spatial import KDTree

    return KDTree(other).query(one)[0]


def nearest_other(at: np.ndarray) -> np.ndarray:
    """Distance of each row to the nearest other row: `N × D` to `N`."""
    from scipy.spatial import KDTree

    return np.asarray(KDTree(at).query(at, k=2)[0][:, 1])


# Spatial blocks


def blocks(positions: Positions, block: float) -> np.ndarray:
    """Block of each patch: int64, `N`, numbered from 0 without gaps.

    Blocks are the squares of a grid through the origin of a scene's coordinates, or the cubes of a
    grid through the corner of each volume. A labelled polygon belongs as a whole to the block with
    most of its patches.

    Args:
        block: side of a block in the unit of the positions.
    """
    cells = np.floor(from_corner(positions)[:, ::-1] / block)
    cells = np.column_stack([cells, volume_of(positions)])
    cell = np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
    return np.unique(most_common(cell, positions.polygon), return_inverse=True)[1]


def most_common(value: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Most common value of each patch's polygon; the smallest of equally common values."""
    if not len(value):
        return value
    number = np.unique(polygon, return_inverse=True)[1]
    low, span = int(value.min()), int(np.ptp(value)) + 1
    # One number for each pair, because sorting rows is slow.
    pairs, counts = np.unique(number * span + (value.astype(np.int64) - low), return_counts=True)
    which, found = np.divmod(pairs, span)
    order = np.lexsort((found, -counts, which))
    first = order[np.r_[True, np.diff(which[order]) != 0]]
    return (found[first] + low)[number].astype(value.dtype)


def suggest_block(positions: Positions, folds: int = 5) -> float:
    """Default block size, in the unit of the positions.

    It starts at a tenth of the longest side of the labelled area. If most of that area is empty,
    as between distant scenes or clusters of labels, such a block would contain a whole scene.
    Blocks are then made smaller until there are five blocks with labels per fold, or half as many
    blocks as polygons if that is fewer. The lower limit is four patches, in a volume two; it is one
    patch if there would be fewer than two blocks per fold. This is a starting point. An audit
    estimates the range of spatial autocorrelation, which blocks should not be smaller than.
    """
    least = (2 if (positions.axis >= 0).any() else 4) * largest_extent(positions)
    polygons = len(np.unique(positions.polygon))
    enough = max(min(_BLOCKS_PER_FOLD * folds, polygons // 2), min(folds, polygons))
    block = float(np.ptp(positions.middle, axis=0).max()) / 10
    while block > least and blocks(positions, block).max() + 1 < enough:
        block /= math.sqrt(2)
    block, few = max(block, least), min(2 * folds, polygons)
    while block > largest_extent(positions) and blocks(positions, block).max() + 1 < few:
        block /= math.sqrt(2)
    return max(block, largest_extent(positions))


# Buffer


def suggest_buffer(positions: Positions) -> float:
    """Default buffer, in the unit of the positions: the largest extent of a patch.

    In a volume it is half of that. There the buffer applies across slices too, and a whole patch
    would remove too many slices.
    """
    return largest_extent(positions) / (2 if (positions.axis >= 0).any() else 1)


def near(one: Positions, other: Positions, buffer: float) -> np.ndarray:
    """Mask of the patches of `one` that overlap a patch of `other` or are closer than `buffer`.

    The distance is measured between extents, as the largest of the gaps in x, y and z; the
    Euclidean distance between corners is at least that. If the patches across one axis differ in
    extent, the largest extent is used for all. Patches of different volumes are never near.

    Args:
        buffer: distance in the unit of the positions; 0 allows extents that touch.
    """
    found = np.zeros(len(one), bool)
    for volume, mine in _by_volume_and_axis(one):
        for volume_of_theirs, theirs in _by_volume_and_axis(other):
            if volume == volume_of_theirs:
                found[mine] |= _near_boxes(one[mine], other[theirs], buffer)
    return found


def _near_boxes(one: Positions, other: Positions, buffer: float) -> np.ndarray:
    """`near`, with the largest extent for all patches of a side."""
    from scipy.spatial import KDTree

    apart = (one.extent.max(axis=0) + other.extent.max(axis=0)) / 2 + buffer
    if not apart.all():  # points have no extent, so they do not overlap
        return np.zeros(len(one), bool)
    origin = other.middle.mean(axis=0)
    tree = KDTree((other.middle - origin) / apart)
    limit = 1 - _ROUNDING
    distance, _ = tree.query((one.middle - origin) / apart, p=np.inf, distance_upper_bound=limit)
    return distance < limit


def _by_volume_and_axis(positions: Positions) -> Iterator[tuple[int, np.ndarray]]:
    """For each volume and slice axis the volume and the indices of its patches."""
    kinds = volume_of(positions).astype(np.int64) * 4 + positions.axis
    for kind in np.unique(kinds):  # one number each, because sorting rows is slow
        yield int(kind + 1) // 4, np.flatnonzero(kinds == kind)


def keep_apart(positions: Positions, sides: np.ndarray, buffer: float) -> np.ndarray:
    """The sides, int8, `N`, after patches move to the buffer until no two sides are too close.

    If a polygon has patches on several sides, only the side with most of them keeps its patches.
    Then patches that are too near to another side are moved: the training patch of a pair of
    training and validation or test, the validation patch of a pair of validation and test.

    Args:
        sides: int8, `N`, index into `outcrop.splits.SIDES`.
        buffer: least distance between the extents of patches of different sides, in the unit of
            the positions.
    """
    sides = np.where(sides == most_common(sides, positions.polygon), sides, BUFFER).astype(np.int8)
    for side, kept in ((VALIDATION, (TEST,)), (TRAIN, (VALIDATION, TEST))):
        here = np.flatnonzero(sides == side)
        others = positions[np.isin(sides, kept)]
        sides[here[near(positions[here], others, buffer)]] = BUFFER
    return sides


# Prediction points


@dataclass(frozen=True)
class PredictionPoints(Rows):
    """M pixels that a map predicts.

    Attributes:
        source: int64, `M`, index into the sources to be mapped.
        pixel: int64, `M × 2` (row and column) in scenes, `M × 3` (axes 0, 1 and 2) in volumes.
        at: float64, `M × 2` or `M × 3`, in the system of `coordinates`.
    """

    source: np.ndarray
    pixel: np.ndarray
    at: np.ndarray


def prediction_points(
    patches: PatchSet, count: int = 2000, sources: Sequence[Source] | None = None
) -> PredictionPoints:
    """A regular grid of about `count` pixels over everything that is to be mapped.

    The number of points of a source is proportional to its number of pixels, and at least one. No
    file is opened, so the points include pixels without data.

    Args:
        sources: scenes or volumes to be mapped; those of the patches by default.
    """
    sources = patches.sources if sources is None else sources
    total = sum(float(np.prod(source.shape)) for source in sources)
    step = (total / count) ** (1 / len(sources[0].shape))
    pixels = [_grid(source.shape, step) for source in sources]
    at = [
        pixel_coordinates(source, i, pixels[i], _metric_system(patches, source))
        for i, source in enumerate(sources)
    ]
    number = np.repeat(np.arange(len(pixels)), [len(part) for part in pixels])
    return PredictionPoints(number, np.concatenate(pixels), np.concatenate(at))


def _metric_system(patches: PatchSet, source: Source) -> str | None:
    """Metric system of a source to be mapped that fits the systems of the patches."""
    systems = [patches.crs_of(i) or "" for i in range(len(patches.sources))]
    for known, crs in zip(patches.sources, systems, strict=True):
        if _place(known) == _place(source):
            return crs or None
    return None if source.is_volume else metric_system_near(source, patches.sources, systems)


def _grid(shape: tuple[int, ...], step: float) -> np.ndarray:
    """Centres of cells of `step` pixels, or of the whole length if that is shorter."""
    axes = []
    for length in shape:
        cells = max(1, round(length / step))
        axes.append(((np.arange(cells) + 0.5) * length / cells).astype(np.int64))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape))
