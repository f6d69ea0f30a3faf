"""`Planes`: the slices of a volume across one axis, or a scene, as one stack to search in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from outcrop.executors import Executor
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume, VolumeReader
from outcrop.sources.volumes.volume import sum_is_finite

_SLAB_SAMPLES = 12 << 20
# Fewer would not keep several threads at work; more would read more slices twice.
_SLABS = 4
_TILE = 2048
# Samples side by side that the memory brings along with one of them.
_RUN = 64
# Samples that are kept in memory for a whole search: a quarter of a gigabyte.
_KEPT_SAMPLES = 64 << 20

Read = Callable[["Slab"], np.ndarray]


@dataclass(frozen=True)
class Slab:
    """A box of a stack: slices `first` to `last` (exclusive), and a rectangle of each of them."""

    first: int
    last: int
    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Planes:
    """Slices to search in, `count` of `bands × height × width`.

    Attributes:
        source: a volume or scene.
        axis: the axis of the volume that the slices are across; -1 for a scene.
    """

    source: Volume | Scene
    axis: int

    @property
    def count(self) -> int:
        """Number of slices."""
        return 1 if isinstance(self.source, Scene) else self.source.shape[self.axis]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a slice."""
        if isinstance(self.source, Scene):
            return self.source.height, self.source.width
        return self.source.slice_shape(self.axis)

    @property
    def bands(self) -> int:
        """Bands of a slice; 1 for a volume."""
        return len(self.source.bands) if isinstance(self.source, Scene) else 1

    def slabs(self, window: tuple[int, int]) -> list[Slab]:
        """Boxes of bounded size that hold every window of a slice once.

        Args:
            window: height and width; tiles of large slices overlap by one pixel less.
        """
        tops = _cut(self.size[0], window[0])
        lefts = _cut(self.size[1], window[1])
        samples = max(h for _, h in tops) * max(w for _, w in lefts) * self.bands
        thick = max(1, min(_SLAB_SAMPLES // samples, -(-self.count // _SLABS)))
        return [
            Slab(first, min(first + thick, self.count), top, left, height, width)
            for first in range(0, self.count, thick)
            for top, height in tops
            for left, width in lefts
        ]

    def around(self, slab: Slab, slices: int, pixels: tuple[int, int]) -> Slab:
        """The slab with a margin on all sides, as far as there are slices and pixels."""
        height, width = self.size
        top, left = max(0, slab.top - pixels[0]), max(0, slab.left - pixels[1])
        return Slab(
            max(0, slab.first - slices),
            min(self.count, slab.last + slices),
            top,
            left,
            min(height, slab.top + slab.height + pixels[0]) - top,
            min(width, slab.left + slab.width + pixels[1]) - left,
        )

    def cost(self, slab: Slab) -> int:
        """How many samples are read for a slab: those of all chunks of the storage it touches."""
        if isinstance(self.source, Scene):
            return self.size[0] * self.size[1] * self.bands
        chunks = np.maximum(self.source.store.chunks, (1, 1, _RUN))
        chunk = np.array([chunks[self.axis], *np.delete(chunks, self.axis)])
        start = np.array([slab.first, slab.top, slab.left])
        stop = np.array([slab.last, slab.top + slab.height, slab.left + slab.width])
        return int(np.prod((-(-stop // chunk) - start // chunk) * chunk))

    @contextmanager
    def open(self) -> Iterator[Read]:
        """A function that reads a slab: float32, `slices × bands × height × width`, finite.

        Samples without data get the mean of their slice and band.
        """
        if isinstance(self.source, Scene):
            with self.source.reader() as scene:
                yield lambda slab: filled(
                    scene.read(slab.top, slab.left, slab.height, slab.width)[None]
                )
        else:
            with self.source.reader() as volume:
                yield lambda slab: filled(_slices(volume, self.axis, slab))

    def pictures(self, slab: Slab, which: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Some slices of a slab, each with its number; read one by one where that is less."""
        each = [replace(slab, first=index, last=index + 1) for index in which]
        with self.open() as read:
            if sum(map(self.cost, each)) < self.cost(slab):
                yield from ((one.first, read(one)[0]) for one in each)
            else:
                pixels = read(slab)
                yield from ((index, pixels[index - slab.first]) for index in which)


@dataclass(frozen=True)
class _Kept(Planes):
    """Slices that lie in memory.

    Attributes:
        pixels: float32, `slices × bands × height × width`.
    """

    pixels: np.ndarray = field(repr=False, compare=False)

    def cost(self, slab: Slab) -> int:
        """None: nothing is read."""
        return 0

    @contextmanager
    def open(self) -> Iterator[Read]:
        """A function that gives a view of a slab."""
        yield lambda slab: self.pixels[
            slab.first : slab.last,
            :,
            slab.top : slab.top + slab.height,
            slab.left : slab.left + slab.width,
        ]


def kept(planes: Sequence[Planes], window: tuple[int, int], executor: Executor) -> Sequence[Planes]:
    """The same in memory, if that is little and the work is done in this process.

    A search reads a source several times.

    Args:
        window: height and width of the patches.
    """
    shapes = [(one.count, one.bands, *one.size) for one in planes]
    if sum(map(math.prod, shapes)) > _KEPT_SAMPLES or executor.remote:
        return planes
    found = []
    for one, shape in zip(planes, shapes, strict=True):
        pixels = np.empty(shape, np.float32)
        for _ in executor.each(_keep, (one, pixels), one.slabs(window), "reading"):
            pass
        pixels.flags.writeable = False
        found.append(_Kept(one.source, one.axis, pixels))
    return found


def _keep(shared: tuple[Planes, np.ndarray], slab: Slab) -> None:
    planes, pixels = shared
    kept = _Kept(planes.source, planes.axis, pixels)
    with planes.open() as read, kept.open() as view:
        view(slab)[...] = read(slab)


def _slices(volume: VolumeReader, axis: int, slab: Slab) -> np.ndarray:
    start = [slab.top, slab.left]
    stop = [slab.top + slab.height, slab.left + slab.width]
    start.insert(axis, slab.first)
    stop.insert(axis, slab.last)
    box = volume.box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), axis)
    return np.moveaxis(box, axis, 0)[:, None]


def filled(pixels: np.ndarray) -> np.ndarray:
    """Pictures with the mean of the rest of their band where there is no data; 0 if there is none.

    Args:
        pixels: `N × bands × height × width`, of any type.

    Returns:
        float32.
    """
    pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    if sum_is_finite(pixels):
        return pixels
    missing = ~np.isfinite(pixels)
    count = np.maximum((~missing).sum(axis=(2, 3), keepdims=True), 1)
    mean = np.where(missing, 0, pixels).sum(axis=(2, 3), keepdims=True, dtype=np.float64) / count
    return np.where(missing, mean.astype(np.float32), pixels)


def _cut(length: int, window: int) -> list[tuple[int, int]]:
    """Start and length of tiles of a line that hold every window once."""
    tile = max(_TILE, 4 * window)
    step = tile - window + 1
    return [(start, min(tile, length - start)) for start in range(0, length - window + 1, step)]
