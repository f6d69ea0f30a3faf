"""Patch sets of noise or of positions, and shorthands for the checks of the audit."""

from __future__ import annotations

import numpy as np

from outcrop.auditing.audit import run_check
from outcrop.auditing.check import Context
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source, scene_positions
from outcrop.splits import Split

UTM = "EPSG:32648"
IDENTITY = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def patch_set(images, labels, classes=None):
    """Patches of the classes "a", "b", ...; as many classes as there are labels by default."""
    images, labels = np.asarray(images), np.asarray(labels)
    names = tuple("abcdefgh"[: classes or labels.max(initial=0) + 1])
    return PatchSet(images, labels, names, tuple(f"band {i + 1}" for i in range(images.shape[1])))


def noise(n=60, bands=1, size=8, width=None, seed=0):
    """White noise; patches are square by default."""
    shape = n, bands, size, width or size
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ground(
    x, y, polygon, labels, source=None, width=160.0, height=160.0, columns=None, classes=("a", "b")
):
    """A patch set with positions and one empty pixel per patch."""
    n = len(x)
    source = np.zeros(n, np.int32) if source is None else np.asarray(source, np.int32)
    positions = scene_positions(
        source, np.arange(n), np.zeros(n), x, y, width, height, np.asarray(polygon)
    )
    return PatchSet(
        images=np.zeros((n, 1, 1, 1), np.uint8),
        labels=np.asarray(labels),
        classes=classes,
        bands=("grey",),
        positions=positions,
        sources=tuple(
            Source(f"scene-{i}.tif", (10, 10), UTM, IDENTITY) for i in range(source.max() + 1)
        ),
        crs=UTM,
        columns=columns or {},
    )


def split_of(patches, sides, groups=None):
    groups = np.arange(len(patches)) if groups is None else groups
    return Split(np.asarray(sides, np.int8), groups, patches.fingerprint)


def found_by(check, patches, split=None, **given):
    """Findings of a check of the audit.

    Args:
        given: fields of the context, or measurements that replace those of the context.
    """
    inputs = {name: given.pop(name) for name in ("to_map", "network", "recipe") if name in given}
    context = Context(patches, split, **inputs)
    vars(context).update(given)
    return run_check(check, context)


def the_one(findings):
    (finding,) = findings
    return finding
