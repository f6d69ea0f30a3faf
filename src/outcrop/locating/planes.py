"""What is searched: `Patches`, and `Planes`, the slices of a volume or a scene as one stack."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from outcrop.executors import Executor
from outcrop.locating.correlation import Template
from outcrop.patches.flips import unflip
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume, VolumeReader
from outcrop.sources.volumes.volume import sum_is_finite

_SLAB_SAMPLES = 12 << 20
# Fewer slabs do not occupy several threads; with more of them more slices are read twice.
_SLABS = 4
_TILE = 2048
# Neighbouring samples that are read from memory together with one sample.
_RUN = 64
# Samples that are held in memory during a search: a quarter of a gigabyte.
_HELD_SAMPLES = 64 << 20

Place = tuple[int, int, int, int, int]
"""Variant of the patch, index of the planes, slice, row and column."""

Read = Callable[["Slab"], np.ndarray]
"""Reads a slab: float32, `slices × bands × height × width`, finite."""


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches to search for, in all variants. Variant 2k undoes flip k; 2k + 1 is its negative.

    Attributes:
        images: `N × bands × height × width`, of any type, finite.
        missing: bool, `N × height × width`, pixels to leave out; None if all are compared.
        flips: names from `outcrop.patches.flips`.
    """

    images: np.ndarray
    missing: np.ndarray | None
    flips: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.images.shape[2:]
        return height, width

    def some(self, which: Sequence[int]) -> Patches:
        """The patches with these numbers."""
        missing = None if self.missing is None else self.missing[which]
        return Patches(self.images[which], missing, self.flips)

    def upright(self) -> list[np.ndarray]:
        """All images, once for each flip, with that flip undone."""
        return [unflip(self.images, name) for name in self.flips]

    def template(self, patch: int, variant: int) -> Template:
        """One variant of one patch."""
        name = self.flips[variant // 2]
        image = np.ascontiguousarray(unflip(self.images[patch], name), np.float64)
        missing = None if self.missing is None else unflip(self.missing[patch], name)
        return Template.of(-image if variant % 2 else image, missing)


@dataclass(frozen=True)
class Slab:
    """A box of a stack: slices `first` to `last` (exclusive), and one rectangle of each."""

    first: int
    last: int
    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Planes:
    """Slices to search, `count` of `bands × height × width`.

    Attributes:
        source: a volume or scene.
        axis: axis of the volume that the slices are perpendicular to; -1 for a scene.
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
        """Boxes of bounded size that together hold every window of every slice once.

        Args:
            window: height and width. Tiles of large slices overlap by one pixel less.
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
        """The slab with a margin on all sides, within the stack."""
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
        """Number of samples read for a slab: those of all storage chunks that it touches."""
        if isinstance(self.source, Scene):
            return self.size[0] * self.size[1] * self.bands
        chunks = np.maximum(self.source.store.chunks, (1, 1, _RUN))
        chunk = np.array([chunks[self.axis], *np.delete(chunks, self.axis)])
        start = np.array([slab.first, slab.top, slab.left])
        stop = np.array([slab.last, slab.top + slab.height, slab.left + slab.width])
        return int(np.prod((-(-stop // chunk) - start // chunk) * chunk))

    @contextmanager
    def open(self) -> Iterator[Read]:
        """Open the source. Samples without data get the mean of their slice and band."""
        if isinstance(self.source, Scene):
            with self.source.reader() as scene:
                yield lambda slab: filled(
                    scene.read(slab.top, slab.left, slab.height, slab.width)[None]
                )
        else:
            with self.source.reader() as volume:
                yield lambda slab: filled(_slices(volume, self.axis, slab))

    def slices(self, slab: Slab, which: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Some slices of a slab, each with its number; read one by one if that reads less."""
        each = [replace(slab, first=index, last=index + 1) for index in which]
        with self.open() as read:
            if sum(map(self.cost, each)) < self.cost(slab):
                yield from ((one.first, read(one)[0]) for one in each)
            else:
                pixels = read(slab)
                yield from ((index, pixels[index - slab.first]) for index in which)


@dataclass(frozen=True)
class _InMemory(Planes):
    """Slices in memory.

    Attributes:
        pixels: float32, `slices × bands × height × width`.
    """

    pixels: np.ndarray = field(repr=False, compare=False)

    def cost(self, slab: Slab) -> int:
        """Always 0: nothing is read."""
        return 0

    @contextmanager
    def open(self) -> Iterator[Read]:
        """A function that returns a view of a slab."""
        yield lambda slab: self.pixels[
            slab.first : slab.last,
            :,
            slab.top : slab.top + slab.height,
            slab.left : slab.left + slab.width,
        ]


def in_memory(
    planes: Sequence[Planes], window: tuple[int, int], executor: Executor
) -> Sequence[Planes]:
    """The planes in memory, if they are small and the work is done in this process.

    A search reads a source several times.

    Args:
        window: height and width of the patches.
    """
    shapes = [(one.count, one.bands, *one.size) for one in planes]
    if sum(map(math.prod, shapes)) > _HELD_SAMPLES or executor.remote:
        return planes
    found = []
    for one, shape in zip(planes, shapes, strict=True):
        pixels = np.empty(shape, np.float32)
        for _ in executor.each(_fill, (one, pixels), one.slabs(window), "reading"):
            pass
        pixels.flags.writeable = False
        found.append(_InMemory(one.source, one.axis, pixels))
    return found


def _fill(shared: tuple[Planes, np.ndarray], slab: Slab) -> None:
    planes, pixels = shared
    held = _InMemory(planes.source, planes.axis, pixels)
    with planes.open() as read, held.open() as view:
        view(slab)[...] = read(slab)


def _slices(volume: VolumeReader, axis: int, slab: Slab) -> np.ndarray:
    start = [slab.top, slab.left]
    stop = [slab.top + slab.height, slab.left + slab.width]
    start.insert(axis, slab.first)
    stop.insert(axis, slab.last)
    box = volume.box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), axis)
    return np.moveaxis(box, axis, 0)[:, None]


def filled(pixels: np.ndarray) -> np.ndarray:
    """Images whose missing pixels get the mean of the others of their band; 0 if all are missing.

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
    """Start and length of tiles of a line that together hold every window once."""
    tile = max(_TILE, 4 * window)
    step = tile - window + 1
    return [(start, min(tile, length - start)) for start in range(0, length - window + 1, step)]
