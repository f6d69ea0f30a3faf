"""Files mapped into memory, whose pages are let go of again, so that reading all costs little."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError

_HELD_BYTES = 128 << 20
_AHEAD_BYTES = 128 << 10

AROUND_BYTES = 2 << 20
"""What the system may map around a place that is read: up to a huge page of its cache."""


class Mapped:
    """Part of a file as a read-only array.

    The pages that were read stay in the system's cache, but count as memory of this process only
    until `touched` has been told of 128 MiB.

    Args:
        path: the file.
        dtype: as stored, byte order included.
        shape, strides, offset: where its items lie, in bytes.

    Attributes:
        array: the items.

    Raises:
        OutcropError: the file has gone, is too short, or lies where nothing can be mapped.
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
                path, f"cannot be read as it was when opened ({error}); open it again"
            ) from error
        self._touched = 0

    def expect(self, run: int) -> None:
        """Say how many successive bytes are about to be read at each place.

        For short runs the system's reading ahead would fetch many times what is asked for.
        """
        if hasattr(mmap, "MADV_RANDOM"):
            self._memory.madvise(mmap.MADV_RANDOM if run < _AHEAD_BYTES else mmap.MADV_NORMAL)

    def touched(self, size: int) -> None:
        """Note that up to `size` bytes of the file may be mapped by what was read, and may go."""
        self._touched += size
        if self._touched > _HELD_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
