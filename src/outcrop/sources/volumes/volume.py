"""The properties of a volume, and reading slices and boxes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from outcrop.errors import OutcropError
from outcrop.sources.dtypes import check_exact, read_dtype
from outcrop.sources.reading import SegyReading

Triple = tuple[int, int, int]
Coordinates = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]
Kind = Literal["npy", "zarr", "netcdf", "segy", "stack"]
Fill = Callable[[np.ndarray, Triple], None]
"""Fills an array with the box of its shape that starts at a corner of the cube."""

PLAIN_AXES = ("axis 0", "axis 1", "axis 2")
_SLAB_BYTES = 256 << 20


class Store(Protocol):
    """The interface of the samples of one format; stores can be pickled."""

    @property
    def chunks(self) -> Triple:
        """The box that is read at once; 1 along an axis where any range costs the same."""

    def open(self) -> AbstractContextManager[Fill]:
        """Open for reading. `Fill` converts samples to the dtype of the array."""


@dataclass(frozen=True)
class Volume:
    """What is known of a volume without reading its samples.

    Attributes:
        path: file or folder.
        kind: file format.
        shape: number of samples along each axis.
        dtype: dtype in which samples are read. uint8, int16 and uint16 are kept; other dtypes are
            read as float32. Integers beyond 2 ** 24, which float32 would round, raise an error when
            they are read.
        axes: name of each axis: inline, crossline and sample for SEG-Y, else "axis 0" to "axis 2".
        store: reader of the samples.
        coordinates: coordinates along each axis that the file declares, floats or integers, or
            None. For SEG-Y inline numbers, crossline numbers, and times of the samples in
            milliseconds (depths in a depth volume); for a folder of slices the numbers in their
            names, along axis 0.
        reading: how a SEG-Y file is read.
    """

    path: Path
    kind: Kind
    shape: Triple
    dtype: np.dtype
    axes: tuple[str, str, str]
    store: Store = field(repr=False, compare=False)
    coordinates: Coordinates = field(default=(None, None, None), repr=False, compare=False)
    reading: SegyReading = field(default=SegyReading(), repr=False)

    @property
    def name(self) -> str:
        """The file or folder, as for `open_volume`."""
        return str(self.path)

    @property
    def title(self) -> str:
        """The file or folder, for messages."""
        return str(self.path)

    @property
    def ends(self) -> tuple[tuple[float, float] | None, ...]:
        """First and last coordinate along each axis, None where an axis has no coordinates."""
        return tuple(
            None if line is None else (float(line[0]), float(line[-1])) for line in self.coordinates
        )

    def slice_shape(self, axis: int) -> tuple[int, int]:
        """Height and width of a slice across an axis.

        Raises:
            OutcropError: there is no such axis.
        """
        self.check_axis(axis)
        height, width = (length for i, length in enumerate(self.shape) if i != axis)
        return height, width

    def slabs(self, axis: int, budget: int = _SLAB_BYTES) -> list[tuple[int, int]]:
        """Divide the volume across an axis into slabs for `VolumeReader.slices`.

        Args:
            budget: largest size of a slab in bytes; a single slice may be larger.

        Returns:
            start and stop of each slab. If the budget allows it, slabs start and stop at chunks of
            the storage, so that no chunk is read twice.

        Raises:
            OutcropError: there is no such axis.
        """
        height, width = self.slice_shape(axis)
        thickness = max(1, budget // (height * width * self.dtype.itemsize))
        chunk = self.store.chunks[axis]
        if thickness > chunk:
            thickness -= thickness % chunk
        length = self.shape[axis]
        return [(start, min(start + thickness, length)) for start in range(0, length, thickness)]

    @contextmanager
    def reader(self) -> Iterator[VolumeReader]:
        """Open the volume for reading.

        Raises:
            OutcropError: the file no longer exists, or has changed since it was opened.
        """
        with self.store.open() as fill:
            yield VolumeReader(self, fill)

    def check_axis(self, axis: int) -> None:
        """Raise an `OutcropError` if there is no such axis."""
        if axis not in (0, 1, 2):
            names = ", ".join(
                str(i) if name == PLAIN_AXES[i] else f"{i} ({name})"
                for i, name in enumerate(self.axes)
            )
            raise OutcropError(self.title, f"has no axis {axis}; pass one of {names}")


class VolumeReader:
    """Reader of slices and boxes of an open volume.

    Samples have the dtype of the volume. In float32, infinite samples become NaN.
    """

    def __init__(self, volume: Volume, fill: Fill) -> None:
        self.volume = volume
        self._fill = fill

    def slices(self, axis: int, start: int, stop: int) -> np.ndarray:
        """Read consecutive slices: `np.moveaxis(cube, axis, 0)[start:stop]`, contiguous.

        Across the last axis of most formats, a hundred slices take hardly longer than one. Read
        many at once, as `Volume.slabs` suggests.

        Returns:
            `(stop - start) × rows × columns`.

        Raises:
            OutcropError: there is no such axis; the range is outside the volume; the file is
                damaged, or has integers that float32 cannot represent.
        """
        self.volume.check_axis(axis)
        first, last = [0, 0, 0], list(self.volume.shape)
        first[axis], last[axis] = start, stop
        return np.moveaxis(self.box(first, last, across=axis), axis, 0)

    def box(self, start: Sequence[int], stop: Sequence[int], across: int = 0) -> np.ndarray:
        """Read a box: `cube[start[0]:stop[0], start[1]:stop[1], start[2]:stop[2]]`.

        Args:
            start, stop: first and end index along each axis.
            across: axis whose slices are contiguous in memory.

        Raises:
            OutcropError: the box is not inside the volume; the file is damaged, or has integers
                that float32 cannot represent.
        """
        volume = self.volume
        for low, high, length, name in zip(start, stop, volume.shape, volume.axes, strict=True):
            if not 0 <= low <= high <= length:
                raise OutcropError(
                    volume.title,
                    f"has no range {low}:{high} along {name}; pass a range from 0 to {length}",
                )
        shape = np.subtract(stop, start)
        out = np.empty((shape[across], *np.delete(shape, across)), volume.dtype)
        out = np.moveaxis(out, 0, across)
        if not out.size:
            return out
        with np.errstate(over="ignore"):
            self._fill(out, (start[0], start[1], start[2]))
        if out.dtype.kind == "f":
            for plane in out:
                if not sum_is_finite(plane):
                    np.copyto(plane, np.nan, where=np.isinf(plane))
        return out


def sum_is_finite(samples: np.ndarray) -> bool:
    """Whether the sum of samples is finite: a quick check that all samples are finite.

    >>> sum_is_finite(np.ones(3)), sum_is_finite(np.array([1, np.nan])), sum_is_finite(np.empty(0))
    (True, False, True)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(samples.sum()))


def check_samples_exact(where: object, stored: np.ndarray, valid: np.ndarray | None = None) -> None:
    """Check that stored integers are the same numbers in float32.

    Raises:
        OutcropError: one is beyond 2 ** 24.
    """
    check_exact(where, "", stored, valid, "subtract or divide first, or save it as floats")


def check_cube(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Triple, np.dtype]:
    """Check that an array can be a volume.

    Returns:
        its shape, and the dtype in which it is read.

    Raises:
        OutcropError: the number of axes is not three; an axis has length 0; the samples are not
            real numbers.
    """
    size = " × ".join(map(str, shape))
    if len(shape) != 3:
        raise OutcropError(
            path, f"has {len(shape)} axes ({size}) instead of 3; save one cube of three axes"
        )
    if 0 in shape:
        raise OutcropError(path, f"has an axis of length 0 ({size}); save it again with samples")
    if dtype.kind == "c":
        raise OutcropError(
            path, f"has complex samples ({dtype}); save their real part or amplitude"
        )
    if dtype.kind not in "iuf":
        raise OutcropError(path, f"has samples of {dtype}; save integers or floats")
    return (shape[0], shape[1], shape[2]), read_dtype(dtype)
