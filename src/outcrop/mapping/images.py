"""Images to be mapped: a scene is one image, a volume has one image per slice."""

from __future__ import annotations

from abc import ABC, abstractmethod
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

Part = tuple[int, int, int, int]
"""A part of a scene: row and column of its upper-left pixel, height and width."""


class ImageReader(Protocol):
    """Reads windows of open images; beyond their edges they are mirrored."""

    def read(self, index: int, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Read `bands × height × width` of the image with number `index`; NaN without data."""


@dataclass(frozen=True)
class Images(ABC):
    """One or several images of one size; they can be pickled.

    Attributes:
        shape: height and width of each image in pixels.
        count: number of images.
        bands: names of the bands.
        title: name of the file, for messages.
    """

    shape: tuple[int, int]
    count: int
    bands: tuple[str, ...]
    title: str

    @property
    @abstractmethod
    def identity(self) -> Any:
        """Plain data that changes when the images change."""

    @abstractmethod
    def reader(self, ahead: bool) -> AbstractContextManager[ImageReader]:
        """Open the images.

        Args:
            ahead: whether windows are read in order, so that several may be fetched at once.
        """


@dataclass(frozen=True)
class SceneImage(Images):
    """A scene as an image, or a part of it; pixels around the part are read where needed."""

    scene: Scene
    part: Part | None

    @classmethod
    def of(cls, scene: Scene, part: Part | None = None) -> SceneImage:
        """From a scene, or a part of it."""
        shape = (scene.height, scene.width) if part is None else part[2:]
        return cls(shape, 1, scene.band_names, scene.title, scene, part)

    @property
    def identity(self) -> Any:
        """See `Images`."""
        return [_identity(self.scene), self.part]

    @contextmanager
    def reader(self, ahead: bool) -> Iterator[ImageReader]:
        """See `Images`."""
        row, column = (0, 0) if self.part is None else self.part[:2]
        with self.scene.reader() as reader:
            yield _SceneWindows(reader, row, column)


def _identity(scene: Scene) -> list[Any]:
    """Plain data that changes when the pixels of a scene, or of the parts of a mosaic, change."""
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
class VolumeImages(Images):
    """The slices of a volume across an axis as images of one band."""

    volume: Volume
    axis: int

    @classmethod
    def of(cls, volume: Volume, axis: int) -> VolumeImages:
        """From an open volume."""
        shape, count = volume.slice_shape(axis), volume.shape[axis]
        return cls(shape, count, ("samples",), volume.title, volume, axis)

    @property
    def identity(self) -> Any:
        """See `Images`."""
        return [file_stamp(str(self.volume.path)), self.axis]

    @contextmanager
    def reader(self, ahead: bool) -> Iterator[ImageReader]:
        """See `Images`."""
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
