"""`read_collection`: what lies at a path, read as what it is."""

from __future__ import annotations

from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.collections.cifar import has_cifar10, read_cifar10
from outcrop.sources.collections.collection import Collection, check
from outcrop.sources.collections.folder import read_class_folders
from outcrop.sources.collections.members import ARCHIVES, open_members
from outcrop.sources.collections.npz import read_npz


def read_collection(path: str | Path, learnable: bool = True) -> Collection:
    """Labelled images from an npz file, or from a folder, tar or zip.

    A folder or archive holds either a folder per class (`read_class_folders`) or the binary files
    of CIFAR-10 (`read_cifar10`); `read_npz` says which arrays an npz file has. Archives are not
    unpacked.

    Args:
        learnable: whether a classifier is to learn from them. If not, an npz file may do without
            labels, one class is enough, and pixels may be missing anywhere.

    Raises:
        OutcropError: nothing is there; it is none of these, or damaged; one class only; infinite
            pixels.
    """
    path = Path(path)
    if not path.exists():
        raise OutcropError(path, "no such file or folder; check the name")
    if path.suffix.lower() == ".npz":
        collection = read_npz(path, learnable)
        return check(collection, path) if learnable else collection
    if not (path.is_dir() or path.name.lower().endswith(ARCHIVES)):
        raise OutcropError(path, f"is not a collection; pass a folder, .npz, {', '.join(ARCHIVES)}")
    with open_members(path) as members:
        if has_cifar10(members):
            collection = read_cifar10(members)
        else:
            collection = read_class_folders(members, learnable)
        return check(collection, path) if learnable else collection
