"""Volumes as stacks of grey slices: a folder of TIFF or PNG files, or one TIFF of many pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import track
from outcrop.sources.volumes.slice_file import FORMATS, Slice, read_slice, slices_of
from outcrop.sources.volumes.slice_names import in_order
from outcrop.sources.volumes.volume import PLAIN_AXES, Fill, Triple, Volume, check_cube


def describe_stack(path: Path) -> Volume:
    """Look at every slice of a stack.

    Raises:
        OutcropError: no slices, or one alone; slices of both formats; one that is damaged, in
            colour, or of another size or dtype than the first; names as of several volumes; a gap
            in their numbers.
    """
    files, numbers = in_order(path, _files(path)) if path.is_dir() else ([path], None)
    slices: list[Slice] = []
    for file in track(files, "looking at slices"):
        for part in slices_of(file):
            slices.append(part)
            if (part.shape, part.dtype) != (slices[0].shape, slices[0].dtype):
                raise OutcropError(
                    file,
                    f"is {part} where {slices[0].file.name} is {slices[0]}; "
                    "slices of one volume must match",
                )
    if len(slices) == 1:
        raise OutcropError(
            path, "is a single slice, and so no volume; pass all slices, or open it as a scene"
        )
    shape = (len(slices), *slices[0].shape)
    cube, dtype = check_cube(path, shape, np.dtype(slices[0].dtype))
    if any(part.read_as != dtype for part in slices):
        dtype = np.dtype("float32")
    store = StackStore(tuple(slices), cube)
    known = numbers is not None and len(numbers) == len(slices)
    return Volume(
        path, "stack", cube, dtype, PLAIN_AXES, store, (numbers if known else None, None, None)
    )


@dataclass(frozen=True)
class StackStore:
    """The slices of a stack, in order."""

    slices: tuple[Slice, ...]
    shape: Triple

    @property
    def chunks(self) -> Triple:
        """A slice, for most have to be decompressed whole."""
        return 1, self.shape[1], self.shape[2]

    @contextmanager
    def open(self) -> Iterator[Fill]:
        """Nothing is held open: there may be more slices than files that may be open."""

        def fill(out: np.ndarray, corner: Triple) -> None:
            first, row, column = corner
            rows = slice(row, row + out.shape[1])
            columns = slice(column, column + out.shape[2])
            for plane, part in zip(out, self.slices[first : first + len(out)], strict=True):
                np.copyto(plane, read_slice(part, rows, columns), casting="unsafe")

        yield fill


def _files(folder: Path) -> list[Path]:
    files = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in FORMATS and not file.name.startswith(".")
    ]
    if not files:
        raise OutcropError(
            folder, "holds neither TIFF or PNG slices nor a Zarr array; pass the folder that does"
        )
    if len({FORMATS[file.suffix.lower()] for file in files}) > 1:
        raise OutcropError(folder, "holds TIFF and PNG slices; leave those of one volume there")
    return files
