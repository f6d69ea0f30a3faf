"""Pixels drawn from patches, or from the scenes they were cut from, with their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from outcrop.audit.variogram import Draw
from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import in_slice
from outcrop.sources.scene import Scene, open_scene
from outcrop.splits.places import coordinates

DRAWS = 8
_POINTS = 1536
_PATCHES = 512
_WINDOWS = 24
_WINDOW = 64


def open_sources(patches: PatchSet) -> list[Scene]:
    """The scenes that the patches were cut from; none if one is gone, changed, or a volume."""
    if patches.from_volume or patches.positions is None:
        return []
    scenes = []
    for source in patches.sources:
        try:
            scene = open_scene([Path(file) for file in source.name.split(",")], crs=source.crs)
        except OutcropError:
            return []
        names = [band.name for band in scene.bands]
        if (scene.height, scene.width) != source.shape or not set(patches.bands) <= set(names):
            return []
        numbers = [names.index(band) + 1 for band in patches.bands]
        scenes.append(open_scene([Path(f) for f in source.name.split(",")], numbers, source.crs))
    return scenes


def draw_from_patches(patches: PatchSet, seed: int, draws: int = DRAWS) -> list[Draw]:
    """Pixels of patches: in each draw some of up to 512 patches, about 1500 in all.

    Returns:
        Coordinates as of `outcrop.splits.places.coordinates`, and values, `n × bands`; pixels
        without data are left out.
    """
    assert patches.positions is not None
    dice = np.random.default_rng(seed)
    height, width = patches.size
    found = []
    for _ in range(draws):
        count = min(_PATCHES, len(patches))
        index = np.sort(dice.choice(len(patches), count, replace=False))
        each = min(_POINTS // count, height * width)
        pixel = dice.permuted(np.tile(np.arange(height * width), (count, 1)), axis=1)[:, :each]
        row, column = np.divmod(pixel, width)
        values = patches.take(index)[np.arange(count)[:, None], :, row, column]
        at = _pixels_at(patches, index, row, column)
        found.append(_with_data(at.reshape(-1, at.shape[-1]), values.reshape(row.size, -1)))
    return found


def draw_from_scenes(
    patches: PatchSet, scenes: Sequence[Scene], seed: int, draws: int = DRAWS
) -> list[Draw]:
    """Pixels of scenes: in each draw 64 pixels of 24 windows of 64 × 64, anywhere.

    Returns:
        As `draw_from_patches`.
    """
    from pyproj import Transformer

    dice = np.random.default_rng(seed)
    area = np.array([float(scene.height) * scene.width for scene in scenes])
    per_scene = dice.multinomial(_WINDOWS, area / area.sum(), draws)
    parts: list[list[Draw]] = [[] for _ in range(draws)]
    for number, scene in enumerate(scenes):
        to_metres = Transformer.from_crs(scene.crs, patches.crs, always_xy=True)
        for draw, (row, column, values) in _windows(scene, per_scene[:, number], dice):
            x, y = to_metres.transform(*scene.xy(row, column))
            parts[draw].append(_with_data(np.stack([y, x], axis=1), values))
    return [
        (np.concatenate([at for at, _ in part]), np.concatenate([values for _, values in part]))
        for part in parts
    ]


def _windows(
    scene: Scene, counts: np.ndarray, dice: np.random.Generator
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """For so many windows of each draw: the draw, rows, columns and values of the pixels."""
    height, width = min(_WINDOW, scene.height), min(_WINDOW, scene.width)
    with scene.reader() as reader:
        for draw in np.repeat(np.arange(len(counts)), counts):
            top = int(dice.integers(0, scene.height - height + 1))
            left = int(dice.integers(0, scene.width - width + 1))
            pixels = reader.read(top, left, height, width)
            row, column = np.divmod(dice.integers(0, height * width, _POINTS // _WINDOWS), width)
            yield int(draw), (top + row, left + column, pixels[:, row, column].T)


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
        at[..., 0] -= (row - height // 2) * (positions.height / height)[:, None]
        at[..., 1] += (column - width // 2) * (positions.width / width)[:, None]
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
