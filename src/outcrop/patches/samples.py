"""Choose the labelled pixels that become patches, and compute their positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.positions import Positions, scene_positions, upper_left
from outcrop.sources.labels import LabelledPixels
from outcrop.sources.scene import Scene

_TILE = 512
_ROTATED, _SHEARED, _DIFFER = 0.18, 0.015, 1.05


def check_numbers(seed: int, **numbers: int | None) -> None:
    """Raise an error for numbers below 1 and a seed below 0; the message names the option."""
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise OutcropError(f"`{name}`", f"must be at least 1, not {number}")
    if seed < 0:
        raise OutcropError("`seed`", f"must be 0 or more, not {seed}")


def by_tile(row: np.ndarray, column: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of pixels by tile of 512 × 512 pixels, in row-major order of tiles and pixels."""
    tile = row // _TILE, column // _TILE
    order = np.lexsort((column, row, tile[1], tile[0]))
    changes = np.diff(tile[0][order]) | np.diff(tile[1][order])
    yield from (part for part in np.split(order, np.flatnonzero(changes) + 1) if len(part))


def inside(scene: Scene, pixels: LabelledPixels, size: int) -> np.ndarray:
    """Mask of the pixels whose patch is inside the scene."""
    top, left = upper_left(pixels.row, size), upper_left(pixels.column, size)
    whole = (top >= 0) & (left >= 0)
    return whole & (top + size <= scene.height) & (left + size <= scene.width)


def with_data(scene: Scene, pixels: LabelledPixels, size: int) -> tuple[np.ndarray, bool]:
    """Mask of the pixels with data in every band, and whether any patch may have gaps.

    Raises:
        OutcropError: a band, or the whole scene, has no data at any of the pixels.
    """
    valid = np.ones((len(scene.bands), len(pixels)), bool)
    gaps = False
    with scene.reader() as reader:
        for index in by_tile(pixels.row, pixels.column):
            top, left = upper_left(pixels.row[index], size), upper_left(pixels.column[index], size)
            row, column = int(top.min()), int(left.min())
            window = reader.read(row, column, int(np.ptp(top)) + size, int(np.ptp(left)) + size)
            finite = np.isfinite(window)
            gaps = gaps or not finite.all()
            valid[:, index] = finite[:, pixels.row[index] - row, pixels.column[index] - column]
    if len(pixels):
        _check_empty_bands(scene, valid)
    return np.asarray(valid.all(axis=0)), gaps


def in_tile_order(pixels: LabelledPixels) -> LabelledPixels:
    """The pixels in the order of `by_tile`."""
    if not len(pixels):
        return pixels
    return pixels[np.concatenate(list(by_tile(pixels.row, pixels.column)))]


def draw(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Indices, ascending, of a random sample of at most `per_class` patches of each class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = [order[labels[order] == label][:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(drawn)) if drawn else order


def positions_of(
    scene: Scene, pixels: LabelledPixels, source: int, size: int, crs: str, first_polygon: int
) -> Positions:
    """Positions of patches in the metric system `crs`; `first_polygon` is the first number."""
    from pyproj import Transformer

    to_metres = Transformer.from_crs(scene.crs, crs, always_xy=True)
    x, y = to_metres.transform(*scene.xy(pixels.row, pixels.column))
    width, height = _extent(scene, to_metres, size)
    polygon = pixels.polygon + first_polygon
    return scene_positions(source, pixels.row, pixels.column, x, y, width, height, polygon)


def common_crs(systems: Sequence[str]) -> str | None:
    """The common system of all scenes; None if they have several."""
    return systems[0] if len(set(systems)) == 1 else None


def join_positions(parts: Sequence[Positions]) -> Positions:
    """Concatenate the positions of several sources."""
    every = zip(*(vars(part).values() for part in parts), strict=True)
    return Positions(*map(np.concatenate, every))


def _extent(scene: Scene, to_metres: Any, size: int) -> tuple[float, float]:
    """Width and height of a patch in metres.

    They are computed in the corners and the centre of the scene. They are the smallest distance
    between the centres of touching patches, so that touching patches do not overlap if the rows of
    the scene are slightly rotated in the metric system, as those of a scene in degrees are. If the
    scene is rotated by more than ten degrees or sheared by more than one, or if pixel sizes differ
    by more than 5 %, they are those of the largest bounding box.
    """
    rows = np.array([0, 0, scene.height - size, scene.height - size, (scene.height - size) // 2])
    columns = np.array([0, scene.width - size, 0, scene.width - size, (scene.width - size) // 2])
    corners = [
        to_metres.transform(*scene.xy(rows + dr - 0.5, columns + dc - 0.5))
        for dr in (0, size)
        for dc in (0, size)
    ]
    x, y = np.array(corners).swapaxes(0, 1)
    # A corner may be outside the earth, as for a map of the whole earth in an oval projection.
    there = np.isfinite(x).all(axis=0) & np.isfinite(y).all(axis=0)
    x, y = x[:, there], y[:, there]
    # Corners are upper left, upper right, lower left and lower right.
    wide, tall = np.abs(x[1] - x[0]), np.abs(y[2] - y[0])
    along, down = np.stack([x[1] - x[0], y[1] - y[0]]), np.stack([x[2] - x[0], y[2] - y[0]])
    lengths = np.hypot(*along), np.hypot(*down)
    rotated = max(np.abs(along[1] / lengths[0]).max(), np.abs(down[0] / lengths[1]).max())
    sheared = np.abs((along * down).sum(axis=0) / (lengths[0] * lengths[1])).max()
    equal = all(side.max() < _DIFFER * side.min() for side in (wide, tall))
    if equal and rotated < _ROTATED and sheared < _SHEARED:
        return float(wide.min()), float(tall.min())
    return float(np.ptp(x, axis=0).max()), float(np.ptp(y, axis=0).max())


def _check_empty_bands(scene: Scene, valid: np.ndarray) -> None:
    empty = ~valid.any(axis=1)
    if not empty.any():
        return
    if empty.all():
        raise OutcropError(
            scene.title, "has no data at any labelled pixel; are nodata and CRS right?"
        )
    band = int(np.flatnonzero(empty)[0])
    rest = ", ".join(str(i + 1) for i in np.flatnonzero(~empty))
    raise OutcropError(
        scene.title, f"band {band + 1} is nodata at every labelled pixel; pass `bands=[{rest}]`"
    )
