"""Faults of the ground: what only an audit that knows positions can find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.faults import Fault, changed, deviation, like
from benchmarks.worlds import PIXEL, World
from outcrop.splits import BUFFER, TRAIN, VALIDATION, BlockSplit, Split
from outcrop.splits.geometry import blocks, keep_apart

GROUND = ("ground", "ground_float", "cube")
DEALT = ("overlaps", "leak-gap", "sides")  # sides assigned by hand overlap, and leak
_TINT = 3.0


def dealt_at_random(world: World, strength: float, rng: np.random.Generator) -> World:
    """Assign a share of the patches to sides at random, four to one."""
    sides = world.split.sides.copy()
    used = np.flatnonzero(sides != BUFFER)
    anew = used[rng.random(len(used)) < strength]
    sides[anew] = np.where(rng.random(len(anew)) < 0.2, VALIDATION, TRAIN)
    how = {"splitter": "by rng", "share": strength}
    return World(world.patches, replace(world.split, sides=sides, how=how, spatial=False))


def without_buffer(world: World, strength: float, rng: np.random.Generator) -> World:
    """Blocks of 40 voxels; so many voxels of a buffer are left of what keeps sides apart."""
    positions = world.patches.positions
    assert positions is not None
    pieces = blocks(positions, 40)
    splitter = BlockSplit(block=40, n_splits=4, random_state=int(rng.integers(1 << 31)))
    sides = np.where(splitter.validation_masks(world.patches)[0], VALIDATION, TRAIN).astype(np.int8)
    if strength >= 0:
        sides = keep_apart(positions, sides, strength)
    return World(world.patches, Split(sides, pieces, world.patches.fingerprint))


def wrong_labels(world: World, strength: float, rng: np.random.Generator) -> World:
    """A share of the patches gets another label."""
    labels = world.patches.labels.copy()
    classes = len(world.patches.classes)
    wrong = rng.permutation(len(labels))[: round(strength * len(labels))]
    labels[wrong] = (labels[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return changed(world, labels=labels)


def beside_training(world: World, strength: float, rng: np.random.Generator) -> World:
    """Of each polygon a part judges and the rest trains; the map lies far from any polygon."""
    polygon = world.patches.positions.polygon
    sides = np.where(rng.random(len(polygon)) < strength, VALIDATION, TRAIN).astype(np.int8)
    return World(world.patches, Split(sides, polygon, world.patches.fingerprint))


def local_looks(world: World, strength: float, rng: np.random.Generator) -> World:
    """Patches stand nine by nine, none over another, share a tint, and are split at random.

    Of a share of the nines the class is drawn anew: their tint alone tells it, and only where it
    was seen.
    """
    patches = world.patches
    order = np.argsort(patches.labels, kind="stable")
    group = np.empty(len(order), int)
    group[order] = np.arange(len(order)) // 9
    place = rng.permutation(20 * 20)[group]
    corner = np.empty(len(order), int)
    corner[order] = np.arange(len(order)) % 9
    row = 80 * (place // 20) + 12 + 20 * (corner // 3)
    column = 80 * (place % 20) + 12 + 20 * (corner % 3)
    positions = replace(
        patches.positions,
        row=row.astype(np.int32),
        column=column.astype(np.int32),
        x=600_000 + PIXEL * (column + 0.5),
        y=1_200_000 - PIXEL * (row + 0.5),
        polygon=group,
    )
    groups = group.max() + 1
    tint = rng.normal(size=(groups, patches.images.shape[1]))[group]
    images = patches.images + _TINT * deviation(world) * tint[:, :, None, None]
    anew = rng.random(groups) < strength
    drawn = rng.integers(0, len(patches.classes), groups)
    labels = np.where(anew[group], drawn[group], patches.labels)
    return changed(world, positions=positions, images=like(patches.images, images), labels=labels)


GROUND_FAULTS = (
    Fault("a share assigned at random", dealt_at_random, (0.01, 0.05, 0.2, 1), 0.05, "of all",
          ("overlaps",), beside=DEALT, worlds=GROUND),
    Fault("neighbours with looks of their own, split at random", local_looks, (0.2, 0.4, 0.8),
          0.8, "of all labels", ("leak-gap",), worlds=("scattered",)),
    Fault("blocks without their buffer", without_buffer, (0, -1), -1,
          "voxels of buffer left, -1: overlaps", ("overlaps",), worlds=("cube",)),
    Fault("wrong labels", wrong_labels, (0.005, 0.01, 0.02, 0.05), 0.02, "of all", ("conflicts",),
          severity="warning", worlds=("ground", "ground_float")),
    Fault("validation beside training, map far away", beside_training, (0.1, 0.3), 0.1,
          "of each polygon", ("map-ground",), severity="warning",
          beside=DEALT, worlds=("ground", "ground_float")),
)  # fmt: skip
