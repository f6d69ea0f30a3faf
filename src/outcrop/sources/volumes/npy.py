"""Volumes in NumPy's .npy format, and memory-mapped files, which SEG-Y uses too."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.sources.volumes.volume import (
    PLAIN_AXES,
    Fill,
    Triple,
    Volume,
    check_cube,
    check_samples_exact,
)

_HELD_BYTES = 128 << 20
_AHEAD_BYTES = 128 << 10
AROUND_BYTES = 2 << 20
"""Bytes that the system may map around a place that is read: one huge page."""


def describe_npy(path: Path) -> Volume:
    """Read the header of a .npy file, of any array order and byte order.

    Raises:
        OutcropError: the file is not .npy, not a cube of numbers, or truncated.
    """
    with decoding(path, "a complete .npy file", "save it again with numpy.save"):
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                header = np.lib.format.read_array_header_1_0(file)
            else:
                header = np.lib.format.read_array_header_2_0(file)
            shape, columns_first, dtype = header
            offset = file.tell()
        if not all(type(length) is int and length >= 0 for length in shape):
            raise ValueError(f"its shape is {shape}")
    if dtype.hasobject:
        raise OutcropError(path, "has Python objects, which are not read; save an array of numbers")
    cube, read_as = check_cube(path, shape, dtype)
    expected, size = offset + prod(shape) * dtype.itemsize, path.stat().st_size
    if size < expected:
        raise OutcropError(
            path, f"is truncated: it has {size} bytes instead of {expected}; fetch it again"
        )
    store = NpyStore(path, cube, dtype, columns_first, offset)
    return Volume(path, "npy", cube, read_as, PLAIN_AXES, store)


@dataclass(frozen=True)
class NpyStore:
    """The samples of a .npy file.

    Attributes:
        path: the file.
        shape: number of samples along each axis.
        dtype: stored dtype.
        columns_first: whether the array is in Fortran order, with the first axis varying fastest.
        offset: position of the first sample in bytes.
        chunks: 1 along every axis, because ranges of any length cost the same.
    """

    path: Path
    shape: Triple
    dtype: np.dtype
    columns_first: bool
    offset: int
    chunks: ClassVar[Triple] = (1, 1, 1)

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
            # One plane of the file at a time fits into the cache, whatever the order of `out`.
            run = out.shape[1] * strides[1]
            mapped.expect(run)
            for i, plane in enumerate(mapped.array[first]):
                stored = plane[tuple(rest)]
                check_samples_exact(self.path, stored)
                np.copyto(out[i], stored, casting="unsafe")
                mapped.touched(min(run + AROUND_BYTES, strides[0]))

        yield fill


class Mapped:
    """Part of a file as a read-only array in mapped memory.

    Pages that were read stay in the cache of the system. They are unmapped from this process
    whenever `touched` has counted 128 MiB.

    Args:
        path: the file.
        dtype: stored dtype with its byte order.
        shape, strides, offset: shape of the array, and layout of its items in bytes.

    Attributes:
        array: the array.

    Raises:
        OutcropError: the file no longer exists or is too short, or cannot be mapped.
    """

    def __init__(
        self,
        path: Path,
        dtype: np.dtype,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int,
    ) -> None:
        try:
            with path.open("rb") as file:
                self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.array: np.ndarray = np.ndarray(
                shape, dtype, buffer=self._memory, offset=offset, strides=strides
            )
        except (OSError, TypeError, ValueError) as error:
            raise OutcropError(
                path, f"has changed since it was opened ({error}); open it again"
            ) from error
        self._touched = 0

    def expect(self, run: int) -> None:
        """Announce the number of consecutive bytes that are read at each place.

        For short runs, read-ahead of the system would read many times the requested bytes.
        """
        if hasattr(mmap, "MADV_RANDOM"):
            self._memory.madvise(mmap.MADV_RANDOM if run < _AHEAD_BYTES else mmap.MADV_NORMAL)

    def touched(self, size: int) -> None:
        """Count bytes that may have been mapped, and unmap all pages after 128 MiB."""
        self._touched += size
        if self._touched > _HELD_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
