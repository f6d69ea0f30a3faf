"""Open patch sets and image collections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from outcrop.patches.patchset import Column, PatchSet, read_patches
from outcrop.sources.collections import SIDES, Collection, cifar10, read_collection


def from_collection(collection: Collection) -> PatchSet:
    """The images of a collection as patches without positions.

    If the collection was published with a split, the column "side" has the side of each image:
    train, validation or test.
    """
    columns = {} if collection.sides is None else {"side": Column(collection.sides, SIDES)}
    return PatchSet(
        images=collection.images,
        labels=collection.labels,
        classes=collection.classes,
        bands=collection.bands,
        columns=columns,
    )


AnyPatches = PatchSet | str | Path
"""A patch set, or the name of one or of a collection (`open_patches`)."""


def open_patches(path: AnyPatches, learnable: bool = True) -> PatchSet:
    """Open a patch set, a collection, or "cifar10", which is downloaded.

    For a folder with the name cifar10 use `./cifar10`.

    Args:
        path: name of a file or folder; a patch set that is open is returned as it is.
        learnable: whether the patches are for a classifier (`read_collection`). Otherwise images
            without labels have the class `UNLABELLED`, and images in separate files have the
            column "file".

    Raises:
        OutcropError: the path does not exist, cannot be read, or cannot be downloaded.
    """
    if isinstance(path, PatchSet):
        return path
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
