"""`Volume`: what is known of a cube of samples, and `VolumeReader`, which reads boxes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from outcrop.errors import OutcropError
from outcrop.sources.dtypes import kept
from outcrop.sources.volumes.segy_reading import SegyReading

Triple = tuple[int, int, int]
Coordinates = tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]
Kind = Literal["npy", "zarr", "netcdf", "segy", "stack"]
Fill = Callable[[np.ndarray, Triple], None]
"""Copies the box of the cube that begins at a corner into an array, whose shape is the box's."""

PLAIN_AXES = ("axis 0", "axis 1", "axis 2")
_SLAB_BYTES = 256 << 20


class Store(Protocol):
    """How the samples of one format are read. It can be pickled, and knows what opening found."""

    @property
    def chunks(self) -> Triple:
        """The box that storage gives at once; 1 along an axis where any range is as good."""

    def open(self) -> AbstractContextManager[Fill]:
        """Open for reading; converts to the dtype of the array that is filled."""


@dataclass(frozen=True)
class Volume:
    """What is known of a volume without reading its samples.

    Attributes:
        path: the file or folder.
        kind: the format.
        shape: samples along each axis.
        dtype: uint8, int16 and uint16 are kept; every other type is read as float32.
        axes: what each axis is: inline, crossline and sample for SEG-Y, else "axis 0" to "axis 2".
        store: how its samples are read.
        coordinates: what the file says of each axis, one float or integer array per axis, or None.
            For SEG-Y the inline numbers, the crossline numbers, and the samples' times in
            milliseconds (in a depth volume: depths); for a folder of slices the numbers in their
            names, along axis 0.
        reading: how a SEG-Y file was opened.
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
        """The file or folder: what `open_volume` takes."""
        return str(self.path)

    @property
    def title(self) -> str:
        """The file or folder, for messages."""
        return str(self.path)

    @property
    def ends(self) -> tuple[tuple[float, float] | None, ...]:
        """The first and last coordinate along each axis, None where it has none."""
        return tuple(
            None if line is None else (float(line[0]), float(line[-1])) for line in self.coordinates
        )

    def plane(self, axis: int) -> tuple[int, int]:
        """Height and width of a slice across an axis.

        Raises:
            OutcropError: there is no such axis.
        """
        self._check_axis(axis)
        height, width = (length for i, length in enumerate(self.shape) if i != axis)
        return height, width

    def slabs(self, axis: int, budget: int = _SLAB_BYTES) -> list[tuple[int, int]]:
        """Cut the volume across an axis into slabs that `VolumeReader.slices` can take.

        Args:
            budget: the most bytes of samples that a slab holds, but for a single slice.

        Returns:
            start and stop of each slab, which begin and end with chunks of the storage where the
            budget allows it, so that no chunk is read twice.

        Raises:
            OutcropError: there is no such axis.
        """
        height, width = self.plane(axis)
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
            OutcropError: it has gone, or has changed since it was opened.
        """
        with self.store.open() as fill:
            yield VolumeReader(self, fill)

    def _check_axis(self, axis: int) -> None:
        if axis not in (0, 1, 2):
            names = ", ".join(
                str(i) if name == PLAIN_AXES[i] else f"{i} ({name})"
                for i, name in enumerate(self.axes)
            )
            raise OutcropError(self.title, f"has no axis {axis}; choose one of {names}")


class VolumeReader:
    """Reads boxes of an open volume.

    Samples come in the volume's dtype. Where it is float32, infinite samples come as NaN.
    """

    def __init__(self, volume: Volume, fill: Fill) -> None:
        self.volume = volume
        self._fill = fill

    def slices(self, axis: int, start: int, stop: int) -> np.ndarray:
        """Read successive slices: `np.moveaxis(cube, axis, 0)[start:stop]`, contiguous.

        Across the last axis of most formats a hundred slices take hardly longer than one, so read
        many at once (`Volume.slabs` says how many).

        Returns:
            `(stop - start) × rows × columns`.

        Raises:
            OutcropError: no such axis; slices beyond the end; the file is damaged.
        """
        shape = (stop - start, *self.volume.plane(axis))
        corner = [0, 0, 0]
        corner[axis] = start
        self._check_range(axis, start, stop)
        out = np.empty(shape, self.volume.dtype)
        self._read(np.moveaxis(out, 0, axis), (corner[0], corner[1], corner[2]))
        return out

    def box(self, start: Triple, stop: Triple, across: int = 0) -> np.ndarray:
        """Read a box: `cube[start[0]:stop[0], start[1]:stop[1], start[2]:stop[2]]`.

        Args:
            across: the axis whose slices are contiguous in memory.

        Raises:
            OutcropError: the box reaches beyond the volume; the file is damaged.
        """
        for axis in range(3):
            self._check_range(axis, start[axis], stop[axis])
        shape = np.subtract(stop, start)
        out = np.empty((shape[across], *np.delete(shape, across)), self.volume.dtype)
        out = np.moveaxis(out, 0, across)
        self._read(out, start)
        return out

    def _read(self, out: np.ndarray, corner: Triple) -> None:
        if not out.size:
            return
        with np.errstate(over="ignore"):
            self._fill(out, corner)
        if out.dtype.kind == "f":
            for plane in out:
                if not surely_finite(plane):
                    np.copyto(plane, np.nan, where=np.isinf(plane))

    def _check_range(self, axis: int, start: int, stop: int) -> None:
        length = self.volume.shape[axis]
        if not 0 <= start <= stop <= length:
            raise OutcropError(
                self.volume.title,
                f"has no range {start}:{stop} along {self.volume.axes[axis]}; "
                f"it runs from 0 to {length}",
            )


def surely_finite(samples: np.ndarray) -> bool:
    """Whether a look at their sum, which is quick, tells that all samples are finite.

    >>> surely_finite(np.ones(3)), surely_finite(np.array([1, np.nan])), surely_finite(np.empty(0))
    (True, False, True)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(samples.sum()))


def check_cube(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Triple, np.dtype]:
    """Refuse an array that is no volume.

    Returns:
        its shape, and the dtype that it is read as.

    Raises:
        OutcropError: not three axes, an axis of length zero, or samples that are no real numbers.
    """
    size = " × ".join(map(str, shape))
    if len(shape) != 3:
        raise OutcropError(
            path, f"has {len(shape)} axes ({size}) where a volume has 3; take the cube out of it"
        )
    if 0 in shape:
        raise OutcropError(path, f"has an axis of length 0 ({size}); write it again with samples")
    if dtype.kind == "c":
        raise OutcropError(
            path, f"holds complex samples ({dtype}); save their real part or amplitude"
        )
    if dtype.kind not in "iuf":
        raise OutcropError(path, f"holds no numbers but {dtype}; save it as integers or floats")
    return (shape[0], shape[1], shape[2]), kept(dtype)
