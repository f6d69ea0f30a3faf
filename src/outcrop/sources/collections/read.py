"""`read_collection`: what lies at a path, read as what it is."""

from __future__ import annotations

from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.collections.cifar import has_cifar10, read_cifar10
from outcrop.sources.collections.collection import Collection, check
from outcrop.sources.collections.folder import read_class_folders
from outcrop.sources.collections.members import ARCHIVES, open_members
from outcrop.sources.collections.npz import read_npz


def read_collection(path: str | Path) -> Collection:
    """Labelled images from an npz file, or from a folder, tar or zip.

    A folder or archive holds either a folder per class (`read_class_folders`) or the binary files
    of CIFAR-10 (`read_cifar10`); `read_npz` says which arrays an npz file has. Archives are not
    unpacked.

    Raises:
        OutcropError: nothing is there; it is none of these, or damaged; one class only; infinite
            pixels.
    """
    path = Path(path)
    if not path.exists():
        raise OutcropError(path, "no such file or folder; check the name")
    if path.suffix.lower() == ".npz":
        return check(read_npz(path), path)
    if not (path.is_dir() or path.name.lower().endswith(ARCHIVES)):
        raise OutcropError(path, f"is not a collection; pass a folder, .npz, {', '.join(ARCHIVES)}")
    with open_members(path) as members:
        read = read_cifar10 if has_cifar10(members) else read_class_folders
        return check(read(members), path)
