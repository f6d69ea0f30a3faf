"""Faults of the ground: what only an audit that knows positions can find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.faults import Fault, changed
from benchmarks.worlds import World
from outcrop.splits import BUFFER, TRAIN, VALIDATION, BlockSplit, Split
from outcrop.splits.ground import blocks, keep_apart

GROUND = ("ground", "ground_float", "cube")


def dealt_at_random(world: World, strength: float, dice: np.random.Generator) -> World:
    """A share of the patches that train or judge is dealt anew by dice, four to one."""
    sides = world.split.sides.copy()
    used = np.flatnonzero(sides != BUFFER)
    anew = used[dice.random(len(used)) < strength]
    sides[anew] = np.where(dice.random(len(anew)) < 0.2, VALIDATION, TRAIN)
    how = {"splitter": "by dice", "share": strength}
    return World(world.patches, replace(world.split, sides=sides, how=how, by_ground=False))


def without_buffer(world: World, strength: float, dice: np.random.Generator) -> World:
    """Blocks of 40 voxels; so many voxels of a buffer are left of what keeps sides apart."""
    positions = world.patches.positions
    assert positions is not None
    pieces = blocks(positions, 40)
    splitter = BlockSplit(block=40, folds=4, seed=int(dice.integers(1 << 31)))
    sides = np.where(splitter.folds_of(world.patches)[0], VALIDATION, TRAIN).astype(np.int8)
    if strength >= 0:
        sides = keep_apart(positions, sides, strength)
    return World(world.patches, Split(sides, pieces, world.patches.fingerprint))


def wrong_labels(world: World, strength: float, dice: np.random.Generator) -> World:
    """A share of the patches gets another label."""
    labels = world.patches.labels.copy()
    classes = len(world.patches.classes)
    wrong = dice.permutation(len(labels))[: round(strength * len(labels))]
    labels[wrong] = (labels[wrong] + dice.integers(1, classes, len(wrong))) % classes
    return changed(world, labels=labels)


def beside_training(world: World, strength: float, dice: np.random.Generator) -> World:
    """Of each polygon a part judges and the rest trains; the map lies far from any polygon."""
    polygon = world.patches.positions.polygon
    sides = np.where(dice.random(len(polygon)) < strength, VALIDATION, TRAIN).astype(np.int8)
    return World(world.patches, Split(sides, polygon, world.patches.fingerprint))


GROUND_FAULTS = (
    Fault("a share dealt at random", dealt_at_random, (0.01, 0.05, 0.2, 1), 0.05, "of all",
          ("overlaps",), worlds=GROUND),
    Fault("all dealt at random: the leak", dealt_at_random, (1,), 1, "of all", ("leak-gap",),
          worlds=GROUND),
    Fault("blocks without their buffer", without_buffer, (5, 0, -1), 0,
          "voxels of buffer left, -1: overlaps", ("overlaps",), worlds=("cube",)),
    Fault("wrong labels", wrong_labels, (0.005, 0.01, 0.02, 0.05), 0.02, "of all", ("conflicts",),
          severity="warning", worlds=("ground", "ground_float")),
    Fault("validation beside training, map far away", beside_training, (0.1, 0.3), 0.1,
          "of each polygon", ("map-ground",), severity="warning",
          worlds=("ground", "ground_float")),
)  # fmt: skip
