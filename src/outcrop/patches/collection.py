"""Patch sets from collections, and whatever else holds labelled patches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from outcrop.patches.patchset import Column, PatchSet, read_patches
from outcrop.sources.collections import SIDES, Collection, cifar10, read_collection


def from_collection(collection: Collection) -> PatchSet:
    """The images as patches that have lost their place.

    The side that an image was delivered on, if any, is the column "side": train, validation, test.
    """
    columns = {} if collection.sides is None else {"side": Column(collection.sides, SIDES)}
    return PatchSet(
        images=collection.images,
        labels=collection.labels,
        classes=collection.classes,
        bands=collection.bands,
        columns=columns,
    )


def open_patches(path: str | Path, learnable: bool = True) -> PatchSet:
    """Labelled patches: a patch set cut by outcrop, a collection, or "cifar10" to download it.

    A folder that is called cifar10 is meant by `./cifar10`.

    Args:
        learnable: whether a classifier is to learn from them (`read_collection`). If not, images
            without labels are of the one class `UNLABELLED`, and images in files of their own
            have the column "file".

    Raises:
        OutcropError: nothing is there, it cannot be read, or it cannot be downloaded.
    """
    if path == "cifar10":
        return from_collection(cifar10())
    if (Path(path) / "zarr.json").exists():
        return read_patches(path)
    collection = read_collection(path, learnable)
    patches = from_collection(collection)
    if learnable or collection.names is None:
        return patches
    files = Column(np.arange(len(patches)), collection.names)
    return replace(patches, columns={**patches.columns, "file": files})
