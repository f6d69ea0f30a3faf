"""Clean patch sets of several kinds, each from a seed, with splits that nothing is wrong with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import KDTree

from outcrop.patches.cut_volume import cut_volume
from outcrop.patches.patchset import Column, PatchSet
from outcrop.patches.positions import Source, scene_positions, upper_left
from outcrop.splits import BlockSplit, RandomSplit, Split, block_split
from outcrop.synthetic.cube import CLASSES, make_cube
from outcrop.synthetic.damage import damage

UTM = "EPSG:32648"
PIXEL = 10.0
PLACE = (PIXEL, 0, 600_000, 0, -PIXEL, 1_200_000)


@dataclass(frozen=True)
class World:
    """Patches and their split; `wide` holds each picture with a margin, where it has one.

    Attributes:
        wide: `N × bands × (height + 2 · margin) × (width + 2 · margin)`; the patch is its middle.
    """

    patches: PatchSet
    split: Split
    wide: np.ndarray | None = None

    @property
    def margin(self) -> int:
        return (self.wide.shape[2] - self.patches.size[0]) // 2


def textured(seed: int, number: int = 400) -> World:
    """A collection of 8-bit RGB pictures: grain of four sizes and directions, split at random."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, number)
    wide = np.stack([_grain(rng, 64, 3, 0.8 + 0.5 * k, 25 * k) for k in labels])
    bright = rng.normal(110, 18, (number, 1, 1, 1)) + 4 * labels[:, None, None, None]
    contrast = rng.uniform(14, 30, (number, 1, 1, 1))
    return _collection(seed, labels, _eight_bits(bright + contrast * wide))


def uneven(seed: int, number: int = 400) -> World:
    """Float pictures of one band, three classes of unlike number, with the sides they came with."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.choice(3, number, p=(0.6, 0.3, 0.1)))
    wide = np.stack([_grain(rng, 48, 1, 0.7 + 0.6 * k, 40 * k) for k in labels])
    wide = (rng.normal(0, 0.3, (number, 1, 1, 1)) + wide).astype(np.float32)
    world = _collection(seed, labels, wide, size=24)
    sides = Column(world.split.sides.astype(np.int64), ("train", "validation", "test"))
    patches = replace(world.patches, columns={"side": sides})
    split = replace(world.split, fingerprint=patches.fingerprint)
    return replace(world, patches=patches, split=split)


def layered(seed: int, number: int = 300) -> World:
    """Seismic-like 8-bit sections: parallel, chaotic, faulted, and faint; shuffled, no origin."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, number)
    draw = (_parallel, _chaotic, _faulted, _faint)
    wide = np.stack([draw[k](rng, 96)[None] for k in labels])
    return _collection(seed, labels, _eight_bits(128 + 30 * wide), size=48)


def alike(seed: int, number: int = 400) -> World:
    """8-bit pictures that resemble each other: water, sky, one straight edge, regular rows."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, number)
    draw = (_water, _sky, _edge, _rows)
    wide = np.stack([draw[k](rng, 48)[None] for k in labels])
    return _collection(seed, labels, _eight_bits(wide))


def ground(seed: int, dtype: str = "uint16") -> World:
    """Patches cut from labelled places on synthetic ground, overlapping, split by block.

    Three bands; fields of four classes, a tint that drifts over some 150 m, noise.
    """
    rng = np.random.default_rng(seed)
    side, size = 1000, 16
    fields, classes = 500, 4
    middle = rng.uniform(0, side, (fields, 2))
    every = np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2)
    field = KDTree(middle).query(every)[1].reshape(side, side)
    kind = rng.integers(0, classes, fields)
    scene = np.zeros((3, side, side), np.float32)
    for k in range(classes):
        grain = _grain(rng, side, 3, 0.8 + 0.5 * k, 25 * k)
        scene = np.where(kind[field] == k, 8 * k + 25 * grain, scene)
    tint = gaussian_filter(rng.normal(size=(side, side)), 10)
    scene += 12 * (tint / tint.std()) + rng.normal(0, 12, fields)[field]
    pixels = np.maximum(np.round(400 + 4 * (scene + rng.normal(0, 2, scene.shape))), 1)
    place = rng.permutation(fields)[:160]
    row, column, polygon = [], [], []
    for number, which in enumerate(place):
        y, x = np.clip(middle[which], 30, side - 31).astype(int)
        for dy, dx in np.ndindex(3, 3):
            r, c = y + 4 * (dy - 1), x + 4 * (dx - 1)
            if kind[field[r, c]] == kind[which]:
                row.append(r), column.append(c), polygon.append(number)
    row, column, polygon = np.array(row), np.array(column), np.array(polygon)
    once = np.sort(np.unique(row * side + column, return_index=True)[1])
    row, column, polygon = row[once], column[once], polygon[once]
    top, left = upper_left(row, size), upper_left(column, size)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (size, size), axis=(1, 2))
    positions = scene_positions(
        source=0,
        row=row,
        column=column,
        x=600_000 + PIXEL * (column + 0.5),
        y=1_200_000 - PIXEL * (row + 0.5),
        width=PIXEL * size,
        height=PIXEL * size,
        polygon=polygon,
    )
    patches = PatchSet(
        images=windows[:, top, left].swapaxes(0, 1).astype(dtype),
        labels=kind[field[row, column]],
        classes=("water", "rice", "town", "wood"),
        bands=("green", "red", "nir"),
        positions=positions,
        sources=(Source("made.tif", (side, side), UTM, PLACE),),
        crs=UTM,
    )
    return World(patches, block_split(patches, None, None, folds=5, seed=seed).assign(patches))


def ground_float(seed: int) -> World:
    """The same in float32."""
    return ground(seed, "float32")


def cube(seed: int) -> World:
    """Sections of a synthetic seismic cube, overlapping, split by block with a buffer."""
    with TemporaryDirectory() as folder:
        made = make_cube(Path(folder) / "cube", (96, 144, 192), seed)
        patches = cut_volume(
            made.volume,
            made.classes,
            axis=0,
            size=24,
            stride=8,
            slice_stride=6,
            per_class=100,
            classes=CLASSES,
            seed=seed,
        )
    return World(
        patches, BlockSplit(block=48, buffer=8, n_splits=4, random_state=seed).assign(patches)
    )


def cube_lost(seed: int) -> World:
    """The same as they lie about: 8 bits, brightness and contrast of each, turned, no positions."""
    world = cube(seed)
    patches = world.patches
    images, labels, done = damage(patches.images, patches.labels, seed, flips=True)
    lost = PatchSet(images, labels, patches.classes, patches.bands)
    split = replace(
        world.split,
        sides=world.split.sides[done.order],
        groups=world.split.groups[done.order],
        fingerprint=lost.fingerprint,
    )
    return World(lost, split)


def scattered(seed: int, number: int = 500) -> World:
    """Patches that share no ground, split at random, as far apart as the map's pixels from them."""
    rng = np.random.default_rng(seed)
    side, size, classes = 1600, 16, 4
    cell = rng.permutation(40 * 40)[:number]
    row, column = (40 * part + 12 + rng.integers(0, 16, number) for part in np.divmod(cell, 40))
    labels = rng.integers(0, classes, number)
    images = np.stack([_grain(rng, size, 3, 0.8 + 0.5 * k, 25 * k) for k in labels])
    bright = rng.normal(0, 12, (number, 1, 1, 1)) + 8 * labels[:, None, None, None]
    patches = PatchSet(
        images=np.round(400 + 4 * (bright + 25 * images)).astype(np.uint16),
        labels=labels,
        classes=("water", "rice", "town", "wood"),
        bands=("green", "red", "nir"),
        positions=scene_positions(
            source=0,
            row=row,
            column=column,
            x=600_000 + PIXEL * (column + 0.5),
            y=1_200_000 - PIXEL * (row + 0.5),
            width=PIXEL * size,
            height=PIXEL * size,
            polygon=np.arange(number),
        ),
        sources=(Source("made.tif", (side, side), UTM, PLACE),),
        crs=UTM,
    )
    return World(patches, RandomSplit(random_state=seed).assign(patches))


WORLDS: dict[str, Callable[[int], World]] = {
    world.__name__: world
    for world in (
        textured,
        uneven,
        layered,
        alike,
        ground,
        ground_float,
        scattered,
        cube,
        cube_lost,
    )
}


def _collection(seed: int, labels: np.ndarray, wide: np.ndarray, size: int = 32) -> World:
    margin = (wide.shape[2] - size) // 2
    patches = PatchSet(
        images=np.ascontiguousarray(wide[:, :, margin : margin + size, margin : margin + size]),
        labels=labels,
        classes=tuple("abcd"[: labels.max() + 1]),
        bands=("red", "green", "blue") if wide.shape[1] == 3 else ("grey",),
    )
    return World(patches, RandomSplit(random_state=seed).assign(patches), wide)


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def _grain(
    rng: np.random.Generator, side: int, bands: int, blur: float, degrees: float
) -> np.ndarray:
    """Blurred noise, longer in one direction, partly common to the bands: deviation 1."""
    noise = rng.normal(size=(bands + 1, side, side))
    long = gaussian_filter(noise, (0, blur, blur))
    angle = np.deg2rad(degrees)
    for step in range(1, 4):
        shift = round(step * np.sin(angle)), round(step * np.cos(angle))
        long = long + np.roll(long, shift, axis=(1, 2)) / 2
    grain = long[:1] + 0.7 * long[1:] + 0.05 * rng.normal(size=(bands, side, side))
    return (grain - grain.mean()) / grain.std()


def _horizons(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A trace of reflections and the depth at which each pixel of a section reads it."""
    trace = gaussian_filter(rng.normal(size=4 * side), 1.5, order=2)
    rows, columns = np.mgrid[:side, :side].astype(float)
    dip = rng.uniform(-0.4, 0.4)
    bend = gaussian_filter(np.cumsum(rng.normal(0, 0.4, side)), 6)
    return trace / trace.std(), 1.5 * side + rows + dip * columns + bend


def _parallel(rng: np.random.Generator, side: int) -> np.ndarray:
    trace, depth = _horizons(rng, side)
    return map_coordinates(trace, [depth], order=1) + rng.normal(0, 0.3, (side, side))


def _faulted(rng: np.random.Generator, side: int) -> np.ndarray:
    trace, depth = _horizons(rng, side)
    rows, columns = np.mgrid[:side, :side]
    beyond = columns + rng.uniform(-0.5, 0.5) * rows > rng.uniform(0.4, 0.6) * side
    depth = depth + np.where(beyond, rng.uniform(5, 12), 0)
    return map_coordinates(trace, [depth], order=1) + rng.normal(0, 0.3, (side, side))


def _chaotic(rng: np.random.Generator, side: int) -> np.ndarray:
    noise = gaussian_filter(rng.normal(size=(side, side)), (1.5, 2.5))
    return noise / noise.std() + rng.normal(0, 0.3, (side, side))


def _faint(rng: np.random.Generator, side: int) -> np.ndarray:
    return 0.3 * _chaotic(rng, side) + rng.normal(0, 0.3, (side, side))


def _water(rng: np.random.Generator, side: int) -> np.ndarray:
    return rng.uniform(30, 60) + rng.normal(0, 1.5, (side, side))


def _sky(rng: np.random.Generator, side: int) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] / side
    slope = rng.normal(0, 40, 2)
    return 130 + slope[0] * rows + slope[1] * columns + rng.normal(0, 2, (side, side))


def _edge(rng: np.random.Generator, side: int) -> np.ndarray:
    where = rng.integers(side // 4, 3 * side // 4)
    picture = np.where(np.arange(side) < where, 60.0, 150.0)[:, None] + np.zeros(side)
    picture = picture if rng.random() < 0.5 else picture.T
    return picture + rng.normal(0, 4, (side, side))


def _rows(rng: np.random.Generator, side: int) -> np.ndarray:
    period, phase = rng.choice([3, 4, 6]), rng.integers(0, 6)
    stripes = 40 * (((np.arange(side) + phase) // (period / 2)) % 2)
    picture = stripes[:, None] + np.zeros(side)
    picture = picture if rng.random() < 0.5 else picture.T
    return 80 + picture + rng.normal(0, 8, (side, side))
