"""Fingerprint of a patch set: a hash of its content.

It is the same in memory, on disk and in another folder. It covers everything that splits, runs and
comparisons depend on: pixels, bands, classes, labels, columns, positions, and the grids, coordinate
reference systems and units of the sources. It does not cover the names of the sources, which change
if a folder is moved, the numbers of polygons, and the storage format of the images.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError

_READ_BYTES = 32 << 20
_METADATA = "zarr.json"
_STORED = "sha256"


def hash_of(patches: Any) -> str:
    """The SHA-256 of a `PatchSet`, hexadecimal."""
    columns, positions = patches.columns, patches.positions
    words = {
        "classes": list(patches.classes),
        "bands": list(patches.bands),
        "crs": patches.crs,
        "columns": {name: list(column.names) for name, column in columns.items()},
    }
    grids = [
        [
            list(source.shape),
            source.crs,
            source.transform and [float(number) for number in source.transform],
            list(source.units),
        ]
        for source in patches.sources
    ]
    head = {"words": words, "sources": grids}
    text = json.dumps(head, sort_keys=True, default=lambda number: number.item())
    digest = hashlib.sha256(text.encode())
    digest.update(pixel_hash(patches.images).encode())
    for array in (patches.labels, *(columns[name].codes for name in sorted(columns))):
        digest.update(_bytes(array))
    if positions is not None:
        import pandas as pd

        for item in fields(positions):
            values = getattr(positions, item.name)
            # Polygons are numbered in the order of the patches, so that a part of a set does not
            # depend on the numbers in the whole set.
            digest.update(_bytes(pd.factorize(values)[0] if item.name == "polygon" else values))
    return digest.hexdigest()


def pixel_hash(images: Any) -> str:
    """The SHA-256 of shape, dtype and pixels of a NumPy or Zarr array, hexadecimal.

    A Zarr array on disk stores its hash (`store_pixel_hash`). It is read only if a chunk was
    written after the hash, or if a copy has lost the times of its files.

    Raises:
        OutcropError: an array on disk is damaged.
    """
    folder = _folder(images)
    if folder is None:
        return _read_hash(images)
    try:
        return _on_disk(folder, _times(folder))
    except OutcropError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise OutcropError(
            folder.parent,
            "has images that cannot be read; it is damaged, cut it again with `outcrop.cut`",
        ) from error


def store_pixel_hash(images: Any) -> None:
    """Store the hash of the pixels with a Zarr array on disk, after all pixels are written."""
    images.attrs[_STORED] = _read_hash(images)


@lru_cache(maxsize=32)
def _on_disk(folder: Path, times: tuple[int, int]) -> str:
    """The hash of the array in `folder`, whose metadata and newest chunk were written at `times`.

    Equal times do not show which file was written first, so the array is read then.
    """
    import zarr

    images = zarr.open_array(folder, mode="r")
    annotated, newest = times
    if _STORED in images.attrs and newest < annotated:
        return str(images.attrs[_STORED])
    return _read_hash(images)


def _folder(images: Any) -> Path | None:
    """The folder of a Zarr array of version 3; None for other arrays."""
    at = getattr(images, "store_path", None)
    root = getattr(getattr(at, "store", None), "root", None)
    folder = root / at.path if at is not None and isinstance(root, Path) else None
    return folder if folder is not None and (folder / _METADATA).is_file() else None


def _times(folder: Path) -> tuple[int, int]:
    """Times of the metadata and of the newest chunk of a Zarr array, in nanoseconds."""
    metadata = folder / _METADATA
    files = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    newest = max((file.stat().st_mtime_ns for file in files if file != metadata), default=0)
    return metadata.stat().st_mtime_ns, newest


def _read_hash(images: Any) -> str:
    dtype = np.dtype(images.dtype)
    shape = [int(length) for length in images.shape]
    digest = hashlib.sha256(json.dumps([shape, dtype.name]).encode())
    for block in _blocks(images):
        digest.update(np.ascontiguousarray(block, dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def _blocks(images: Any) -> Iterator[np.ndarray]:
    """The images in order, in blocks of whole chunks."""
    each = max(1, int(np.prod(images.shape[1:])) * np.dtype(images.dtype).itemsize)
    chunk = getattr(images, "chunks", (1,))[0]
    step = max(1, _READ_BYTES // (each * chunk)) * chunk
    for start in range(0, images.shape[0], step):
        yield np.asarray(images[start : start + step])


def _bytes(values: np.ndarray) -> memoryview:
    """Numbers as 8 bytes each, for any dtype."""
    values = np.asarray(values)
    kind = "<f8" if values.dtype.kind == "f" else "<i8"
    return np.ascontiguousarray(values, kind).data
