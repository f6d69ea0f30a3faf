"""Pixels drawn from patches, or from what they were cut from, with their place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from outcrop.auditing.origin import Origins
from outcrop.auditing.variogram import Draw
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import in_slice, upper_left
from outcrop.sources.scene import SceneReader
from outcrop.sources.volumes.volume import VolumeReader
from outcrop.splits.places import coordinates, on_ground

_POINTS = 1536
_PATCHES = 512
_WINDOWS = 24
_EACH = _POINTS // _WINDOWS
_SQUARE = 64
_BEAM, _SHORT = 2, 16


def draw_from_patches(patches: PatchSet, seed: int, draws: int) -> list[Draw]:
    """Pixels of patches: in each draw some of up to 512 patches, about 1500 in all.

    Returns:
        Coordinates as of `outcrop.splits.places.coordinates`, and values, `n × bands`; pixels
        without data are left out.
    """
    assert patches.positions is not None
    rng = np.random.default_rng(seed)
    height, width = patches.size
    found = []
    for _ in range(draws):
        count = min(_PATCHES, len(patches))
        index = np.sort(rng.choice(len(patches), count, replace=False))
        each = min(_POINTS // count, height * width)
        pixel = rng.permuted(np.tile(np.arange(height * width), (count, 1)), axis=1)[:, :each]
        row, column = np.divmod(pixel, width)
        values = patches.take(index)[np.arange(count)[:, None], :, row, column]
        at = _pixels_at(patches, index, row, column)
        found.append(_with_data(at.reshape(-1, at.shape[-1]), values.reshape(row.size, -1)))
    return found


def draw_from_origins(
    patches: PatchSet, origins: Origins, seed: int, draws: int, axis: int | None = None
) -> list[Draw]:
    """Pixels of scenes or volumes: in each draw 64 pixels of each of 24 windows, anywhere.

    Windows of scenes are squares of 64 pixels. Those of volumes are beams along one axis, 2 voxels
    wide, every second one as long as the volume and the others 16 voxels, so that pairs of voxels
    are as near as neighbours and as far apart as the volume is long.

    Args:
        axis: of volumes, the one that beams run along.

    Returns:
        As `draw_from_patches`.
    """
    rng = np.random.default_rng(seed)
    size = np.array([np.prod(source.shape, dtype=float) for source in patches.sources])
    windows = rng.multinomial(_WINDOWS, size / size.sum(), draws)
    parts: list[list[Draw]] = [[] for _ in range(draws)]
    for number, (source, origin) in enumerate(zip(patches.sources, origins, strict=True)):
        draw = np.repeat(np.arange(draws), windows[:, number])
        if not len(draw):
            continue
        with origin.reader() as reader:
            seen = [
                _look(reader, source.shape, _extent(source.shape, axis, window), rng)
                for window in range(len(draw))
            ]
        pixel, values = (np.concatenate(part) for part in zip(*seen, strict=True))
        at = on_ground(source, number, pixel, patches.crs_of(number))
        for one in np.unique(draw):
            here = np.repeat(draw == one, _EACH)
            parts[one].append(_with_data(at[here], values[here]))
    return [
        (np.concatenate([at for at, _ in part]), np.concatenate([values for _, values in part]))
        for part in parts
    ]


def _extent(shape: tuple[int, ...], axis: int | None, number: int) -> np.ndarray:
    """Lengths of the window of that number in a scene or a volume."""
    sides = np.full(len(shape), _SQUARE if axis is None else _BEAM)
    if axis is not None:
        sides[axis] = shape[axis] if number % 2 else _SHORT
    return np.minimum(sides, shape)


def _look(
    reader: SceneReader | VolumeReader, shape: tuple[int, ...], extent: np.ndarray, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Some pixels of a window anywhere: their rows and columns (or voxels), and values."""
    corner = rng.integers(0, np.subtract(shape, extent) + 1)
    pixel = rng.integers(0, extent, (_EACH, len(shape)))
    if isinstance(reader, VolumeReader):
        z, y, x = map(int, corner)
        box = reader.box((z, y, x), (z + extent[0], y + extent[1], x + extent[2]))
        return corner + pixel, box[tuple(pixel.T)][:, None]
    bands = reader.read(*map(int, corner), *map(int, extent))
    return corner + pixel, bands[:, pixel[:, 0], pixel[:, 1]].T


def first_component(draws: Sequence[Draw]) -> list[Draw]:
    """The first principal component of the bands, each first brought to variance 1."""
    every = np.concatenate([values for _, values in draws])
    deviation = every.std(axis=0)
    scaled = (every - every.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    _, axes = np.linalg.eigh(scaled.T @ scaled)
    scores = np.split(scaled @ axes[:, -1], np.cumsum([len(at) for at, _ in draws])[:-1])
    return [(at, score) for (at, _), score in zip(draws, scores, strict=True)]


def pixel_size(patches: PatchSet) -> float:
    """The smallest distance between pixels of a patch, in the patch set's unit."""
    assert patches.positions is not None
    if patches.from_volume:
        return 1.0
    height, width = patches.size
    sides = patches.positions.height.min() / height, patches.positions.width.min() / width
    return float(min(sides))


def _pixels_at(
    patches: PatchSet, index: np.ndarray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Coordinates of pixels of patches, `n × each × D`."""
    assert patches.positions is not None
    positions = patches.positions[index]
    at = np.repeat(coordinates(positions)[:, None], row.shape[1], axis=1)
    height, width = patches.size
    if not patches.from_volume:
        pixel = np.stack(
            [
                upper_left(positions.row, height)[:, None] + row,
                upper_left(positions.column, width)[:, None] + column,
            ],
            axis=-1,
        )
        for number in np.unique(positions.source):
            here, source = positions.source == number, patches.sources[number]
            flat = on_ground(source, number, pixel[here].reshape(-1, 2), patches.crs_of(number))
            at[here] = flat.reshape(*row[here].shape, 2)
        return at
    for axis in range(3):
        here = positions.axis == axis
        down, right = in_slice(axis)
        at[here, :, down] += row[here] - (height - 1) / 2
        at[here, :, right] += column[here] - (width - 1) / 2
    return at


def _with_data(at: np.ndarray, values: np.ndarray) -> Draw:
    values = values.astype(np.float64)
    valid = np.isfinite(values).all(axis=1)
    return at[valid], values[valid]
