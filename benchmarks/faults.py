"""Faults to plant in a clean patch set: each from a world, a strength and rng."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.worlds import World
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BUFFER, TRAIN, VALIDATION, Split
from outcrop.splits.base import spatial_groups

ANY = ("textured", "uneven", "layered", "alike", "ground", "ground_float", "cube", "cube_lost")
NEAR = ("textured", "uneven", "layered", "ground", "cube", "cube_lost")
LOOSE = ("textured", "uneven", "layered")
FLOAT = ("uneven", "ground_float", "cube")
FEW = 4

Plant = Callable[[World, float, np.random.Generator], World]


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: what was done.
        plant: does it.
        strengths: from weak to strong, in `unit`.
        stated: at this strength and stronger it is said to be found.
        unit: what the strength is.
        checks: findings of any of these count as found.
        beside: other checks that are right to speak up too. A class that order gave to one side is
            missing from the other, and a split by place in the list is none by ground, and leaks;
            in the cube whose positions are lost what is near overlaps, and so do copies of it.
        severity: that such a finding must have, or worse.
        worlds: in which it is planted.
    """

    name: str
    plant: Plant
    strengths: tuple[float, ...]
    stated: float
    unit: str
    checks: tuple[str, ...]
    beside: tuple[str, ...] = ()
    severity: str = "critical"
    worlds: tuple[str, ...] = ANY

    def is_stated(self, strength: float) -> bool:
        """Whether the fault is said to be found at this strength."""
        return self.strengths.index(strength) >= self.strengths.index(self.stated)


def changed(world: World, split: Split | None = None, **fields: Any) -> World:
    """The world with other patches and a split that fits them."""
    patches = replace(world.patches, **fields)
    split = replace(split or world.split, fingerprint=patches.fingerprint)
    return World(patches, split, world.wide)


def sorted_labels(world: World, strength: float, rng: np.random.Generator) -> World:
    """Class after class, all but a share of the patches; the last fifth validates."""
    patches = world.patches
    order = np.argsort(patches.labels, kind="stable")
    loose = rng.random(len(order)) < strength
    order[loose] = rng.permutation(order[loose])
    sides = np.full(len(order), TRAIN, np.int8)
    sides[round(0.8 * len(order)) :] = VALIDATION
    return _reordered(world, order, sides)


def copies(change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Plant:
    """So many validation patches become copies, changed, of training patches."""

    def plant(world: World, strength: float, rng: np.random.Generator) -> World:
        index, of = _pairs(world, round(strength), rng)
        return _with_images(world, index, change(world.patches.images[of], rng))

    return plant


def damaged(
    damage: Callable[[np.ndarray, float, np.random.Generator], np.ndarray],
) -> Plant:
    """A few validation patches become copies of training patches, damaged so much."""

    def plant(world: World, strength: float, rng: np.random.Generator) -> World:
        index, of = _pairs(world, FEW, rng)
        return _with_images(world, index, damage(world.patches.images[of], strength, rng))

    return plant


def overlaps(world: World, strength: float, rng: np.random.Generator) -> World:
    """A few validation patches show training patches, shifted."""
    index, of = _pairs(world, FEW, rng)
    height, width = world.patches.size
    far = [min(world.margin, round(strength * side)) for side in (height, width)]
    images = []
    for i in of:
        top, left = (world.margin + int(rng.choice([-f, f])) for f in far)
        images.append(world.wide[i, :, top : top + height, left : left + width])
    return _with_images(world, index, np.stack(images))


def conflicting(world: World, strength: float, rng: np.random.Generator) -> World:
    """So many training patches become copies of others, brighter, with another label."""
    train, number = rng.permutation(world.split.train), round(strength)
    of = train[number : 2 * number]
    labels = world.patches.labels.copy()
    classes = len(world.patches.classes)
    labels[train[:number]] = (labels[of] + rng.integers(1, classes, number)) % classes
    images = world.patches.images.copy()
    images[train[:number]] = brighter(images[of], rng)
    return changed(world, images=images, labels=labels)


def missing(side: int) -> Plant:
    """One class leaves a side, but for a share of its patches."""

    def plant(world: World, strength: float, rng: np.random.Generator) -> World:
        labels = world.patches.labels
        k = rng.choice(np.unique(labels[world.split.sides == side]))
        sides = world.split.sides.copy()
        sides[(labels == k) & (sides == side)] = BUFFER
        return changed(world, replace(world.split, sides=sides))

    return plant


def constant(world: World, strength: float, rng: np.random.Generator) -> World:
    """A share of the patches becomes one value."""
    index = _some(world, strength, rng)
    images = world.patches.images.copy()
    images[index] = images[index][..., :1, :1]
    return changed(world, images=images)


def without_data(world: World, strength: float, rng: np.random.Generator) -> World:
    """A share of the patches loses its data, but for the middle pixel."""
    index = _some(world, strength, rng)
    images = world.patches.images.copy()
    height, width = world.patches.size
    middle = images[index][..., height // 2, width // 2]
    images[index] = np.nan
    images[index, :, height // 2, width // 2] = middle
    return changed(world, images=images)


def brighter_class(world: World, strength: float, rng: np.random.Generator) -> World:
    """Classes become brighter one after the other, by so many deviations of brightness."""
    step = strength * deviation(world)
    return _shifted(world, step * (world.patches.labels - world.patches.labels.max() / 2))


def brighter_side(world: World, strength: float, rng: np.random.Generator) -> World:
    """The validation side becomes brighter by so many deviations of brightness."""
    return _shifted(world, strength * deviation(world) * (world.split.sides == VALIDATION))


def marked(world: World, strength: float, rng: np.random.Generator) -> World:
    """Two by two pixels in a corner of a share of one class take the set's brightest value."""
    labels = world.patches.labels
    k = rng.integers(len(world.patches.classes))
    index = np.flatnonzero((labels == k) & (rng.random(len(labels)) < strength))
    images = world.patches.images.copy()
    images[index, :, :2, :2] = np.nanmax(images)
    return changed(world, images=images)


def coarser(world: World, strength: float, rng: np.random.Generator) -> World:
    """One class loses so many of eight bits."""
    images = world.patches.images.astype(np.float64)
    low, high = images.min(), images.max()
    index = world.patches.labels == rng.integers(len(world.patches.classes))
    step = (high - low) / 256 * 2**strength
    if world.patches.images.dtype.kind != "f":
        step = round(max(1, (high - low) / 256) * 2**strength)
    images[index] = low + np.floor((images[index] - low) / step) * step
    return changed(world, images=images.astype(world.patches.images.dtype))


def same(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixel for pixel."""
    return images


def turned(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flipped or turned."""
    quarter = int(rng.integers(1, 4))
    images = np.rot90(images, quarter, axes=(2, 3))
    return images[..., ::-1] if rng.random() < 0.5 else images


def brighter(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gain of 0.6 to 1.4, an offset, rounded and clipped."""
    n = len(images)
    middle = np.nanmean(images.astype(float), axis=(1, 2, 3), keepdims=True)
    spread = np.nanstd(images.astype(float))
    gain = rng.uniform(0.6, 1.4, (n, 1, 1, 1))
    return like(
        images, middle + (images - middle) * gain + spread * rng.uniform(-0.5, 0.5, gain.shape)
    )


def turned_brighter(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Both."""
    return brighter(turned(images, rng), rng)


def noisy(images: np.ndarray, decibels: float, rng: np.random.Generator) -> np.ndarray:
    """Noise so many decibels below the contrast."""
    spread = np.nanstd(images.astype(float), axis=(2, 3), keepdims=True)
    noise = 10 ** (-decibels / 20) * spread * rng.normal(size=images.shape)
    return like(images, images + noise)


def jpeg(images: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Saved as JPEG, band by band, and read again."""
    saved = [[_jpeg(band, round(quality)) for band in image] for image in images]
    return np.stack(saved).astype(images.dtype)


FAULTS = (
    Fault("sorted labels, the last fifth validates", sorted_labels, (0.2, 0.05, 0.0), 0.05,
          "share shuffled", ("order",), ("sides", "overlaps", "leak-gap")),
    Fault("exact copies across sides", copies(same), (1, 4, 16), 1, "copies",
          ("duplicates",), ("overlaps",)),
    Fault("flipped or turned copies across sides", copies(turned), (1, 4, 16), 1, "copies",
          ("duplicates",), ("overlaps",)),
    Fault("copies in other brightness across sides", copies(brighter), (1, 4, 16), 4, "copies",
          ("duplicates",), ("overlaps",), worlds=NEAR),
    Fault("turned copies in other brightness", copies(turned_brighter), (1, 4, 16), 4, "copies",
          ("duplicates",), ("overlaps",), worlds=NEAR),
    Fault("four copies with noise", damaged(noisy), (10, 20, 30), 20, "dB below contrast",
          ("duplicates",), ("overlaps",), worlds=NEAR),
    Fault("four copies saved as JPEG", damaged(jpeg), (20, 50, 75), 50, "quality",
          ("duplicates",), ("overlaps",), worlds=("textured", "layered")),
    Fault("four shifted overlaps across sides", overlaps, (0.4, 0.25, 0.1), 0.25, "sides apart",
          ("overlaps", "duplicates"), worlds=LOOSE),
    Fault("copies with another label", conflicting, (1, 4, 16), 4, "copies", ("duplicates",),
          ("overlaps",), worlds=NEAR),
    Fault("a class missing from validation", missing(VALIDATION), (1,), 1, "classes", ("sides",)),
    Fault("a class missing from training", missing(TRAIN), (1,), 1, "classes", ("sides",)),
    Fault("constant patches", constant, (0.002, 0.01, 0.05), 0.01, "share of all", ("gaps",)),
    Fault("patches without data", without_data, (0.002, 0.01, 0.05), 0.01, "share of all",
          ("gaps",), worlds=FLOAT),
    Fault("brightness tells the class", brighter_class, (1, 2, 3), 2, "deviations",
          ("intensity",), severity="warning",
          worlds=("textured", "uneven", "ground", "ground_float", "cube", "cube_lost")),
    Fault("brightness differs between sides", brighter_side, (0.75, 1.5, 3), 1.5, "deviations",
          ("intensity",),
          worlds=("textured", "uneven", "layered", "ground", "ground_float")),
    Fault("a mark burnt into a class", marked, (0.4, 0.6, 1), 0.6, "share of the class",
          ("marks",)),
    Fault("a class of coarser grey levels", coarser, (1, 2, 3), 1, "bits lost of 8", ("levels",),
          worlds=("textured", "layered", "ground", "cube_lost")),
)  # fmt: skip


def _some(world: World, strength: float, rng: np.random.Generator) -> np.ndarray:
    n = len(world.patches)
    return rng.permutation(n)[: max(1, int(np.ceil(strength * n)))]


def _pairs(world: World, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Validation patches to replace, and as many training patches of the same classes."""
    validation = rng.permutation(world.split.validation)
    labels = world.patches.labels
    train = world.split.train
    validation = validation[np.isin(labels[validation], labels[train])]
    index = validation[:number]
    of = np.array([rng.choice(train[labels[train] == labels[i]]) for i in index])
    return index, of


def _with_images(world: World, index: np.ndarray, images: np.ndarray) -> World:
    every = world.patches.images.copy()
    every[index] = images
    return changed(world, images=every)


def _reordered(world: World, order: np.ndarray, sides: np.ndarray) -> World:
    patches: PatchSet = world.patches.subset(order)
    how = {"splitter": "by position"}
    pieces = spatial_groups(patches)
    return World(patches, Split(sides, pieces, patches.fingerprint, how, spatial=False))


def deviation(world: World) -> float:
    """The deviation of brightness within a class."""
    bright = world.patches.images.mean(axis=(1, 2, 3), dtype=float)
    labels = world.patches.labels
    return float(np.sqrt(np.mean([bright[labels == k].var() for k in np.unique(labels)])))


def _shifted(world: World, by: np.ndarray) -> World:
    images = world.patches.images
    return changed(world, images=like(images, images + by[:, None, None, None]))


def like(images: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Pixels in the dtype of images: integers are rounded and clipped."""
    if images.dtype.kind == "f":
        return pixels.astype(images.dtype)
    limits = np.iinfo(images.dtype)
    return np.clip(np.round(pixels), limits.min, limits.max).astype(images.dtype)


def _jpeg(band: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(band).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
