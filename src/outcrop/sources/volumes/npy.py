"""Volumes in NumPy's .npy format, mapped into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.sources.volumes.mapped import AROUND_BYTES, Mapped
from outcrop.sources.volumes.volume import PLAIN_AXES, Fill, Triple, Volume, check_cube


def describe_npy(path: Path) -> Volume:
    """Read the header of a .npy file, of either order and either byte order.

    Raises:
        OutcropError: not a .npy file, no cube of numbers, or cut off.
    """
    with decoding(path, "a whole .npy file", "write it again with numpy.save"):
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, columns_first, dtype = header(file)
            offset = file.tell()
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"its shape is {shape}")
    if dtype.hasobject:
        raise OutcropError(
            path, "holds Python objects, which outcrop does not unpickle; save it as numbers"
        )
    cube, read_as = check_cube(path, shape, dtype)
    expected, size = offset + prod(shape) * dtype.itemsize, path.stat().st_size
    if size < expected:
        raise OutcropError(
            path, f"is cut off: {size} bytes where its header says {expected}; fetch it again"
        )
    store = NpyStore(path, cube, dtype, columns_first, offset)
    return Volume(path, "npy", cube, read_as, PLAIN_AXES, store)


@dataclass(frozen=True)
class NpyStore:
    """Where the samples of a .npy file lie.

    Attributes:
        columns_first: Fortran's order: the first axis varies fastest.
        offset: of the first sample, in bytes.
    """

    path: Path
    shape: Triple
    dtype: np.dtype
    columns_first: bool
    offset: int

    @property
    def chunks(self) -> Triple:
        """Any range is as good as another."""
        return 1, 1, 1

    @contextmanager
    def open(self) -> Iterator[Fill]:
        """Map the file."""
        lengths = self.shape[::-1] if self.columns_first else self.shape
        item = self.dtype.itemsize
        strides = (lengths[1] * lengths[2] * item, lengths[2] * item, item)
        mapped = Mapped(self.path, self.dtype, lengths, strides, self.offset)

        def fill(out: np.ndarray, corner: Triple) -> None:
            if self.columns_first:
                out, corner = out.T, (corner[2], corner[1], corner[0])
            first, *rest = (
                slice(i, i + length) for i, length in zip(corner, out.shape, strict=True)
            )
            # One plane of the file at a time, whatever the order of `out`: it fits into the cache.
            run = out.shape[1] * strides[1]
            mapped.expect(run)
            for i, plane in enumerate(mapped.array[first]):
                np.copyto(out[i], plane[tuple(rest)], casting="unsafe")
                mapped.touched(min(run + AROUND_BYTES, strides[0]))

        yield fill
