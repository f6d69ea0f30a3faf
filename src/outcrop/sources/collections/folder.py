"""A folder per class, on disk or in an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.progress import track
from outcrop.sources.collections import picture
from outcrop.sources.collections.collection import Collection, band_names, held_out
from outcrop.sources.collections.members import Members

_SIDES = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}
_EXPECTED = "put each image in CLASS/ or in train/CLASS/ and test/CLASS/"


@dataclass(frozen=True, order=True)
class Entry:
    """An image of a collection: its class, its side (or -1 for none) and its file."""

    label: str
    side: int
    name: str


def read_class_folders(members: Members, learnable: bool = True) -> Collection:
    """Images in `CLASS/`, or in `train/CLASS/` and `test/CLASS/` (also `val`, `validation`).

    Classes stand in the order of their names, images in that of class, side and file name,
    whatever the order on disk or in the archive. `picture.decode` says what becomes of palettes,
    alpha bands and nodata.

    Args:
        learnable: whether there have to be two classes.

    Raises:
        OutcropError: no images; one class only; images outside a class folder; images that differ
            in size, bands or type; an image that cannot be read.
    """
    entries = list_entries(members, learnable)
    classes = tuple(sorted({entry.label for entry in entries}))
    index = {name: k for k, name in enumerate(classes)}
    images = _load(members, [entry.name for entry in entries])
    return Collection(
        images=images,
        labels=np.array([index[entry.label] for entry in entries], dtype=np.int64),
        classes=classes,
        bands=band_names(images.shape[1]),
        sides=None if entries[0].side < 0 else held_out(np.array([e.side for e in entries])),
        names=tuple(entry.name for entry in entries),
    )


def list_entries(members: Members, learnable: bool = True) -> list[Entry]:
    """The images among the files, sorted by class, side and name.

    Raises:
        OutcropError: no images; one class only; images outside a class folder.
    """
    path = members.path
    names = [n for n in members.names if PurePosixPath(n).suffix.lower() in picture.SUFFIXES]
    if not names:
        raise OutcropError(path, f"holds no PNG, JPEG or TIFF images; {_EXPECTED}")
    depth = _wrapping(names)
    entries = sorted(_entry(members, name, depth) for name in names)
    if len({entry.side < 0 for entry in entries}) > 1:
        raise OutcropError(path, f"only some images lie in train or test folders; {_EXPECTED}")
    if learnable and entries[0].label == entries[-1].label:
        raise OutcropError(
            path, f"one class only, '{entries[0].label}'; a classifier needs images of at least two"
        )
    return entries


def _wrapping(names: list[str]) -> int:
    """How many outer folders hold all the images and are neither a side nor a class."""
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
    raise OutcropError(members.where(name), f"does not lie in a class folder; {_EXPECTED}")


def _load(members: Members, names: list[str]) -> np.ndarray:
    """The images of the files, in that order; read in the archive's order, which is faster."""
    row = {name: i for i, name in enumerate(names)}
    images: np.ndarray | None = None
    first = ""
    with picture.strict():
        for name in track([n for n in members.names if n in row], "reading", len(names)):
            image = _decode(members, name)
            if images is None:
                first = name
                images = _room(members, len(names), image)
            if image.shape != images.shape[1:] or image.dtype != images.dtype:
                raise OutcropError(
                    members.where(name),
                    f"is {_describe(image)}, but {first} is {_describe(images[row[first]])}; "
                    "bring all images to one size, band count and type",
                )
            images[row[name]] = image
    assert images is not None
    return images


def _decode(members: Members, name: str) -> np.ndarray:
    content = members.read(name)
    with decoding(members.where(name), "a readable image", "replace it or leave it out"):
        return picture.decode(name, content)


def _room(members: Members, n: int, image: np.ndarray) -> np.ndarray:
    try:
        return np.empty((n, *image.shape), image.dtype)
    except MemoryError:
        raise OutcropError(
            members.path,
            f"{n} images of {_describe(image)} do not fit in memory; take smaller images",
        ) from None


def _describe(image: np.ndarray) -> str:
    bands, height, width = image.shape
    return f"{width} × {height} pixels in {bands} band{'s'[: bands > 1]} of {image.dtype}"
