"""Which patch set it is: a hash of the content, the same in memory, on disk and in another folder.

It covers what a split, a run or a comparison rests on: pixels, bands, classes, labels, columns,
positions, and grids, systems and units of the sources. It leaves out the names of the sources,
which change when a folder is moved, the numbers that polygons happen to have, and how the images
are stored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.positions import Positions, Source

_READ_BYTES = 32 << 20
_METADATA = "zarr.json"
_STORED = "sha256"


def hash_of(
    images: Any,
    labels: np.ndarray,
    positions: Positions | None,
    sources: Sequence[Source],
    columns: Mapping[str, np.ndarray],
    words: Mapping[str, Any],
) -> str:
    """The SHA-256 of a patch set, hexadecimal.

    Args:
        images, labels, positions, sources: those of the patch set.
        columns: the code of each patch, by the name of the column.
        words: names and other small content, as JSON holds it.
    """
    grids = [
        [
            list(source.shape),
            source.crs,
            source.transform and [float(number) for number in source.transform],
            list(source.units),
        ]
        for source in sources
    ]
    head = {"words": words, "sources": grids}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True, default=_plain).encode())
    digest.update(pixel_hash(images).encode())
    for array in (labels, *(columns[name] for name in sorted(columns))):
        digest.update(_bytes(array))
    if positions is not None:
        import pandas as pd

        for item in fields(positions):
            values = getattr(positions, item.name)
            # Polygons are numbered in the order of the patches, so that a part of a set is the
            # same however the set numbered them.
            digest.update(_bytes(pd.factorize(values)[0] if item.name == "polygon" else values))
    return digest.hexdigest()


def pixel_hash(images: Any) -> str:
    """The SHA-256 of shape, dtype and pixels of a NumPy or Zarr array, hexadecimal.

    A Zarr array on disk carries its own since it was written (`store_pixel_hash`), and is read
    only where a chunk has been written after that. A copy without times of files is read too.

    Raises:
        OutcropError: an array on disk is damaged.
    """
    folder = _folder(images)
    if folder is None:
        return _read_through(images)
    try:
        return _on_disk(folder, _times(folder))
    except OutcropError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise OutcropError(
            folder.parent,
            "has images that cannot be read; it is damaged, cut it anew with `outcrop patches`",
        ) from error


def store_pixel_hash(images: Any) -> None:
    """Let a Zarr array on disk carry the hash of its pixels, now that all are written."""
    images.attrs[_STORED] = _read_through(images)


@lru_cache(maxsize=32)
def _on_disk(folder: Path, times: tuple[int, int]) -> str:
    """The hash of the array in `folder`, whose metadata and newest chunk were written at `times`.

    Two files written within one tick of the clock have the same time, which therefore proves
    nothing.
    """
    import zarr

    images = zarr.open_array(folder, mode="r")
    annotated, newest = times
    if _STORED in images.attrs and newest < annotated:
        return str(images.attrs[_STORED])
    return _read_through(images)


def _folder(images: Any) -> Path | None:
    """The folder of a Zarr array of version 3, or None where it is something else."""
    at = getattr(images, "store_path", None)
    root = getattr(getattr(at, "store", None), "root", None)
    folder = root / at.path if at is not None and isinstance(root, Path) else None
    return folder if folder is not None and (folder / _METADATA).is_file() else None


def _times(folder: Path) -> tuple[int, int]:
    """When the metadata and the newest chunk of a Zarr array were written, in nanoseconds."""
    metadata = folder / _METADATA
    files = (Path(where) / name for where, _, names in os.walk(folder) for name in names)
    newest = max((file.stat().st_mtime_ns for file in files if file != metadata), default=0)
    return metadata.stat().st_mtime_ns, newest


def _read_through(images: Any) -> str:
    dtype = np.dtype(images.dtype)
    shape = [int(length) for length in images.shape]
    digest = hashlib.sha256(json.dumps([shape, dtype.name]).encode())
    for block in _blocks(images):
        digest.update(np.ascontiguousarray(block, dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def _blocks(images: Any) -> Iterator[np.ndarray]:
    """The images in order, some whole chunks at a time."""
    each = max(1, int(np.prod(images.shape[1:])) * np.dtype(images.dtype).itemsize)
    chunk = getattr(images, "chunks", (1,))[0]
    step = max(1, _READ_BYTES // (each * chunk)) * chunk
    for start in range(0, images.shape[0], step):
        yield np.asarray(images[start : start + step])


def _bytes(values: np.ndarray) -> memoryview:
    """Numbers as 8 bytes each, whatever type they are held in."""
    values = np.asarray(values)
    kind = "<f8" if values.dtype.kind == "f" else "<i8"
    return np.ascontiguousarray(values, kind).data


def _plain(value: Any) -> Any:
    """A number of NumPy as JSON holds it."""
    return value.item()
