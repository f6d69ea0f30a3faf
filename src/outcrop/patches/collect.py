"""Images that were cut, in whatever order, become a patch set in memory or on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import new_folder
from outcrop.patches.patchset import PatchSet, create_images, read_patches, write_annotations
from outcrop.patches.positions import Size, sides
from outcrop.progress import track
from outcrop.sources.features import dropped_text

Batch = tuple[np.ndarray, np.ndarray]
"""Indices of patches, and their images: `n × bands × height × width`."""


def collect(
    patches: PatchSet,
    batches: Iterable[Batch],
    size: Size,
    dtype: np.dtype,
    output: str | Path | None = None,
    overwrite: bool = False,
    ordered: bool = True,
) -> PatchSet:
    """Put images into a patch set that has none yet.

    On their way to disk images out of order go through a temporary file beside the set, so that
    memory holds one batch and each chunk is compressed once.

    Args:
        patches: everything else of the set; the size of its images is not looked at.
        batches: every patch once.
        dtype: of the images.
        output: a folder to write the patch set to; without it the images are kept in memory.
        overwrite: whether `output` may exist.
        ordered: whether the batches come in the order of the patches.

    Raises:
        OutcropError: as `outcrop.files.new_folder`.
    """
    shape = (len(patches), len(patches.bands), *sides(size))
    batches = track(batches, "cutting patches")
    if output is None:
        images = np.empty(shape, dtype)
        for index, pixels in batches:
            images[index] = pixels
        return replace(patches, images=images)
    with new_folder(output, overwrite) as folder:
        stored = create_images(folder, shape, dtype)
        for index, pixels in batches if ordered else _in_order(stored, batches, folder):
            stored[index[0] : index[-1] + 1] = pixels
        write_annotations(folder, patches)
    return read_patches(output)


def check_classes(patches: PatchSet, where: object) -> None:
    """Refuse patches of one class, which nothing can be learned from; the error names `where`."""
    if (patches.counts > 0).sum() < 2:
        reasons = "; ".join(dropped_text(*item) for item in patches.dropped.items())
        raise OutcropError(
            where,
            f"gives patches of '{patches.classes[int(patches.counts.argmax())]}' only"
            f"{f' (dropped {reasons})' if reasons else ''}; "
            "a classifier needs two classes or more",
        )


def without_images(patches: int, bands: int) -> np.ndarray:
    """What stands for the images of a patch set until `collect`."""
    return np.empty((patches, bands, 0, 0), np.uint8)


def _in_order(images: Any, batches: Iterable[Batch], folder: Path) -> Iterator[Batch]:
    """Batches in the order of the patches, by way of a temporary file."""
    n, *each = images.shape
    length = int(np.prod(each)) * images.dtype.itemsize
    with tempfile.TemporaryFile(dir=folder) as file:
        for index, pixels in batches:
            for i, image in zip(index, pixels.astype(images.dtype, copy=False), strict=True):
                file.seek(int(i) * length)
                file.write(image.tobytes())
        file.seek(0)
        step = images.chunks[0]
        for start in range(0, n, step):
            index = np.arange(start, min(start + step, n))
            content = file.read(len(index) * length)
            yield index, np.frombuffer(content, images.dtype).reshape(len(index), *each)
