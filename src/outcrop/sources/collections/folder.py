"""Images in one folder per class, on disk or in an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.progress import track
from outcrop.sources.collections.collection import Collection, Members, band_names, normalized_sides
from outcrop.sources.collections.image import SUFFIXES, decode_image, limit_image_size

_SIDES = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
_EXPECTED = "put each image in CLASS/ or in train/CLASS/ and test/CLASS/"


@dataclass(frozen=True, order=True)
class Entry:
    """An image of a collection: its class, its side (-1 for none) and its file."""

    label: str
    side: int
    name: str


def read_class_folders(members: Members, learnable: bool = True) -> Collection:
    """Read images in `CLASS/`, or in `train/CLASS/` and `test/CLASS/` (also `val`, `validation`).

    Classes are in alphabetical order and images in the order of class, side and file name,
    independent of the order on disk. Palettes, alpha bands and nodata are described at
    `outcrop.sources.collections.image.decode_image`.

    Args:
        learnable: whether two classes are required.

    Raises:
        OutcropError: there are no images, or only images of one class; an image is outside a class
            folder or cannot be read; images differ in size, bands or dtype.
    """
    entries = list_entries(members, learnable)
    classes = tuple(sorted({entry.label for entry in entries}))
    index = {name: k for k, name in enumerate(classes)}
    sides = np.array([entry.side for entry in entries])
    images = _load(members, [entry.name for entry in entries])
    return Collection(
        images=images,
        labels=np.array([index[entry.label] for entry in entries], dtype=np.int64),
        classes=classes,
        bands=band_names(images.shape[1]),
        sides=None if sides.min() < 0 else normalized_sides(sides),
        names=tuple(entry.name for entry in entries),
    )


def list_entries(members: Members, learnable: bool = True) -> list[Entry]:
    """The images among the files, sorted by class, side and name.

    Raises:
        OutcropError: there are no images, or only images of one class; an image is outside a class
            folder.
    """
    path = members.path
    names = [n for n in members.names if PurePosixPath(n).suffix.lower() in SUFFIXES]
    if not names:
        raise OutcropError(path, f"has no PNG, JPEG or TIFF images; {_EXPECTED}")
    depth = _outer_folders(names)
    entries = sorted(_entry(members, name, depth) for name in names)
    if len({entry.side < 0 for entry in entries}) > 1:
        raise OutcropError(path, f"has images inside and outside train or test; {_EXPECTED}")
    if learnable and entries[0].label == entries[-1].label:
        raise OutcropError(
            path, f"has only the class '{entries[0].label}'; pass images of at least two classes"
        )
    return entries


def _outer_folders(names: list[str]) -> int:
    """Number of outer folders that contain all images and are neither a side nor a class."""
    depth = 0
    folders = [name.split("/")[:-1] for name in names]
    while (
        min(map(len, folders)) > depth + 1
        and len({parts[depth] for parts in folders}) == 1
        and folders[0][depth].lower() not in _SIDES
    ):
        depth += 1
    return depth


def _entry(members: Members, name: str, depth: int) -> Entry:
    match name.split("/")[depth:]:
        case [label, _] if label.lower() not in _SIDES:
            return Entry(label, -1, name)
        case [side, label, _] if side.lower() in _SIDES:
            return Entry(label, _SIDES[side.lower()], name)
    raise OutcropError(members.where(name), f"is not in a class folder; {_EXPECTED}")


def _load(members: Members, names: list[str]) -> np.ndarray:
    """The images of the files, in that order; read in the archive's order, which is faster."""
    row = {name: i for i, name in enumerate(names)}
    images: np.ndarray | None = None
    first = ""
    with limit_image_size():
        for name in track([n for n in members.names if n in row], "reading", len(names)):
            content = members.read(name)
            with decoding(members.where(name), "a readable image", "replace it or remove it"):
                image = decode_image(name, content)
            if images is None:
                first = name
                images = _allocate(members, len(names), image)
            if image.shape != images.shape[1:] or image.dtype != images.dtype:
                raise OutcropError(
                    members.where(name),
                    f"has {_describe(image)}, but {first} has {_describe(images[row[first]])}; "
                    "convert all images to one size, number of bands and dtype",
                )
            images[row[name]] = image
    assert images is not None
    return images


def _allocate(members: Members, n: int, image: np.ndarray) -> np.ndarray:
    try:
        return np.empty((n, *image.shape), image.dtype)
    except MemoryError:
        raise OutcropError(
            members.path,
            f"has {n} images of {_describe(image)}, which do not fit in memory; use fewer or "
            "smaller images",
        ) from None


def _describe(image: np.ndarray) -> str:
    bands, height, width = image.shape
    return f"{width} × {height} pixels in {bands} band{'s'[: bands > 1]} of {image.dtype}"
