"""Images to be mapped: a scene is one image, a volume has one image per slice."""

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


class ImageReader(Protocol):
    """Reads windows of open images; beyond their edges they are mirrored."""

    def read(self, index: int, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Read `bands × height × width` of the image with number `index`; NaN without data."""


class Images(Protocol):
    """One or several images of one size; they can be pickled."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of each image in pixels."""

    @property
    def count(self) -> int:
        """Number of images."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""

    @property
    def title(self) -> str:
        """Name of the file, for messages."""

    @property
    def identity(self) -> Any:
        """Plain data that changes when the images change."""

    def reader(self, ahead: bool) -> AbstractContextManager[ImageReader]:
        """Open the images.

        Args:
            ahead: whether windows are read in order, so that several may be fetched at once.
        """


@dataclass(frozen=True)
class SceneImage:
    """A scene as an image, or a part of it; pixels around the part are read where needed.

    Attributes:
        scene: the scene.
        part: row and column of the upper-left pixel, height and width; None for the whole scene.
    """

    scene: Scene
    part: tuple[int, int, int, int] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """See `Images`."""
        return (self.scene.height, self.scene.width) if self.part is None else self.part[2:]

    @property
    def count(self) -> int:
        """See `Images`."""
        return 1

    @property
    def bands(self) -> tuple[str, ...]:
        """See `Images`."""
        return self.scene.band_names

    @property
    def title(self) -> str:
        """See `Images`."""
        return self.scene.title

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
class VolumeImages:
    """The slices of a volume across an axis as images of one band."""

    volume: Volume
    axis: int

    @property
    def shape(self) -> tuple[int, int]:
        """See `Images`."""
        return self.volume.slice_shape(self.axis)

    @property
    def count(self) -> int:
        """See `Images`."""
        return self.volume.shape[self.axis]

    @property
    def bands(self) -> tuple[str, ...]:
        """See `Images`."""
        return ("samples",)

    @property
    def title(self) -> str:
        """See `Images`."""
        return self.volume.title

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
