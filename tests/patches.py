"""Patch sets made of noise, for tests of what is wrong with a patch set."""

from __future__ import annotations

import numpy as np

from outcrop.patches.patchset import PatchSet
from outcrop.splits import Split


def patch_set(images, labels, classes=None):
    """Of classes "a", "b", ..., as many as there are labels if not given."""
    images, labels = np.asarray(images), np.asarray(labels)
    names = tuple("abcdefgh"[: classes or labels.max(initial=0) + 1])
    return PatchSet(images, labels, names, tuple(f"band {i + 1}" for i in range(images.shape[1])))


def noise(n=60, bands=1, size=8, width=None, seed=0):
    """White noise; patches are square if no width is given."""
    shape = n, bands, size, width or size
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def split_of(patches, sides, groups=None):
    groups = np.arange(len(patches)) if groups is None else groups
    return Split(np.asarray(sides, np.int8), groups, patches.fingerprint)


def the_one(findings):
    (finding,) = findings
    return finding
