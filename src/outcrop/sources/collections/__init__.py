"""Collections of labelled images: CIFAR-10, class folders, npz; read without pickle."""

from __future__ import annotations

from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.collections.cifar import cifar10, has_cifar10, read_cifar10
from outcrop.sources.collections.collection import (
    ARCHIVES,
    SIDES,
    Collection,
    check_learnable,
    open_members,
)
from outcrop.sources.collections.folder import read_class_folders
from outcrop.sources.collections.npz import UNLABELLED, read_npz

__all__ = ["SIDES", "UNLABELLED", "Collection", "cifar10", "read_collection"]


def read_collection(path: str | Path, learnable: bool = True) -> Collection:
    """Read labelled images from an npz file, a folder, or a tar or zip archive.

    A folder or archive has either one folder per class (`read_class_folders`) or the binary files
    of CIFAR-10 (`read_cifar10`). The arrays of an npz file are described at `read_npz`. Archives
    are not unpacked to disk.

    Args:
        path: the npz file, folder or archive.
        learnable: whether the images have to be suitable for training a classifier. If not, an npz
            file needs no labels, one class is sufficient, and no pixels are checked.

    Returns:
        images `N × bands × height × width` (uint8, uint16, int16 or float32), labels, classes, and
        train, validation and test sides if the collection has them.

    Raises:
        OutcropError: the path does not exist; the format is another one; the collection is damaged;
            if `learnable`, there is only one class, a pixel is infinite, or a centre pixel is NaN.

    >>> import tempfile
    >>> import numpy as np
    >>> images = np.zeros((4, 8, 8, 3), "uint8")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", images=images, labels=["sea", "land", "sea", "land"])
    ...     collection = read_collection(f"{folder}/a.npz")
    >>> collection.images.shape, collection.classes, collection.labels.tolist()
    ((4, 3, 8, 8), ('land', 'sea'), [1, 0, 1, 0])
    """
    path = Path(path)
    if not path.exists():
        raise OutcropError(path, "there is no such file or folder; check the name")
    if path.suffix.lower() == ".npz":
        collection = read_npz(path, learnable)
        return check_learnable(collection, path) if learnable else collection
    if not (path.is_dir() or path.name.lower().endswith(ARCHIVES)):
        raise OutcropError(path, f"is not a collection; pass a folder, .npz, {', '.join(ARCHIVES)}")
    with open_members(path) as members:
        if has_cifar10(members):
            collection = read_cifar10(members)
        else:
            collection = read_class_folders(members, learnable)
        return check_learnable(collection, path) if learnable else collection
