"""What is mapped, as pictures: a scene is one, a volume as many as it has slices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from outcrop.sources.mosaic import Mosaic
from outcrop.sources.names import file_stamp
from outcrop.sources.scene import Scene, SceneReader, read_mirrored
from outcrop.sources.volumes import Volume, VolumeReader

_SLAB_BYTES = 64 << 20


class PictureReader(Protocol):
    """Reads windows of open pictures; beyond their edges they are mirrored."""

    def read(self, index: int, row: int, column: int, height: int, width: int) -> np.ndarray:
        """`bands × height × width` of the picture of that number; NaN where there is no data."""


class Pictures(Protocol):
    """Pictures of one size; they can be pickled."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of each."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def bands(self) -> tuple[str, ...]:
        """The names of the bands of each."""

    @property
    def title(self) -> str:
        """The file, for messages."""

    @property
    def identity(self) -> Any:
        """Plain data that changes when the pictures do."""

    def reader(self, ahead: bool) -> AbstractContextManager[PictureReader]:
        """Open them; `ahead`: windows are read in their order, so that more may be fetched."""


@dataclass(frozen=True)
class OfScene:
    """A scene as a picture, or a part of it, whose surroundings are read where they are needed.

    Attributes:
        scene: the scene.
        part: row and column of the upper-left pixel, height and width; the whole if not given.
    """

    scene: Scene
    part: tuple[int, int, int, int] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """See `Pictures`."""
        return (self.scene.height, self.scene.width) if self.part is None else self.part[2:]

    @property
    def count(self) -> int:
        """See `Pictures`."""
        return 1

    @property
    def bands(self) -> tuple[str, ...]:
        """See `Pictures`."""
        return self.scene.band_names

    @property
    def title(self) -> str:
        """See `Pictures`."""
        return self.scene.title

    @property
    def identity(self) -> Any:
        """See `Pictures`."""
        return [_identity(self.scene), self.part]

    @contextmanager
    def reader(self, ahead: bool) -> Iterator[PictureReader]:
        """See `Pictures`."""
        row, column = (0, 0) if self.part is None else self.part[:2]
        with self.scene.reader() as reader:
            yield _SceneWindows(reader, row, column)


def _identity(scene: Scene) -> list[Any]:
    """Plain data that changes when the pixels of a scene do, or those of a mosaic's parts."""
    if isinstance(scene, Mosaic):
        return [[_identity(part) for part in scene.parts], scene.corners]
    mask = () if scene.mask is None else (scene.mask.file,)
    return [
        [file_stamp(file) for file in (*scene.files, *mask)],
        [asdict(band) for band in scene.bands],
        asdict(scene.reading),
        None if scene.mask is None else asdict(scene.mask),
        [scene.transform, scene.height, scene.width],
    ]


@dataclass(frozen=True)
class _SceneWindows:
    reader: SceneReader
    row: int
    column: int

    def read(self, index: int, row: int, column: int, height: int, width: int) -> np.ndarray:
        return self.reader.read(self.row + row, self.column + column, height, width)


@dataclass(frozen=True)
class OfVolume:
    """The slices of a volume across an axis as pictures of one band."""

    volume: Volume
    axis: int

    @property
    def shape(self) -> tuple[int, int]:
        """See `Pictures`."""
        return self.volume.slice_shape(self.axis)

    @property
    def count(self) -> int:
        """See `Pictures`."""
        return self.volume.shape[self.axis]

    @property
    def bands(self) -> tuple[str, ...]:
        """See `Pictures`."""
        return ("samples",)

    @property
    def title(self) -> str:
        """See `Pictures`."""
        return self.volume.title

    @property
    def identity(self) -> Any:
        """See `Pictures`."""
        return [file_stamp(str(self.volume.path)), self.axis]

    @contextmanager
    def reader(self, ahead: bool) -> Iterator[PictureReader]:
        """See `Pictures`."""
        budget = _SLAB_BYTES if ahead else 1
        with self.volume.reader() as reader:
            yield _Slices(reader, self.axis, self.volume.slabs(self.axis, budget))


class _Slices:
    """Slices of an open volume, fetched a slab at a time."""

    def __init__(self, reader: VolumeReader, axis: int, slabs: list[tuple[int, int]]) -> None:
        self._reader, self._axis, self._slabs = reader, axis, slabs
        self._start, self._slab = 0, np.empty((0, 0, 0))

    def read(self, index: int, row: int, column: int, height: int, width: int) -> np.ndarray:
        if not self._start <= index < self._start + len(self._slab):
            start, stop = next(slab for slab in self._slabs if slab[0] <= index < slab[1])
            self._start, self._slab = start, self._reader.slices(self._axis, start, stop)
        whole = self._slab[index - self._start][None]

        def inside(row: int, column: int, height: int, width: int) -> np.ndarray:
            return whole[:, row : row + height, column : column + width]

        shape = whole.shape[1], whole.shape[2]
        return read_mirrored(inside, shape, (row, column, height, width))
