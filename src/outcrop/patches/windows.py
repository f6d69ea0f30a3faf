"""Random access to windows of scenes and volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from outcrop.patches.positions import in_slice
from outcrop.progress import track
from outcrop.sources.scene import Scene, SceneReader
from outcrop.sources.volumes import Volume, VolumeReader

_HELD_BYTES = 2 << 30

Window = Callable[[int, int, int, int], np.ndarray]
"""Function of axis, slice, row and column of the upper-left pixel of a square inside the source. It
returns the pixels, `bands × size × size`. Axis and slice are ignored in a scene."""


@contextmanager
def open_windows(sources: Sequence[Volume | Scene], size: int) -> Iterator[list[Window]]:
    """Open sources for windows of `size` pixels in any order; only one thread may read.

    An .npy file is memory-mapped, so that processes share it. Other sources are kept in memory if
    they fit into 2 GiB together; larger ones are read window by window.

    Yields:
        The window function of each source. Windows have the dtype of the source or a wider one, in
        any byte order. Pixels without data are NaN or infinite.

    Raises:
        OutcropError: a file is damaged, or has changed since it was opened.
    """
    left = _HELD_BYTES
    with ExitStack() as stack:
        windows = []
        for source in sources:
            mapped = isinstance(source, Volume) and source.kind == "npy"
            fits = not mapped and _bytes(source) <= left
            left -= _bytes(source) if fits else 0
            if isinstance(source, Scene):
                scene = stack.enter_context(source.reader())
                windows.append(_held_scene(scene, size) if fits else _read_scene(scene, size))
            elif mapped:
                cube = np.load(source.path, mmap_mode="r", allow_pickle=False)
                windows.append(_held_volume(cube, size))
            else:
                volume = stack.enter_context(source.reader())
                windows.append(
                    _held_volume(_whole(volume), size) if fits else _read_volume(volume, size)
                )
        yield windows


def _bytes(source: Volume | Scene) -> int:
    """Size of a source in memory; of a scene as float32, which gaps may require."""
    if isinstance(source, Scene):
        return 4 * len(source.bands) * source.height * source.width
    return int(np.prod(source.shape)) * source.dtype.itemsize


def _whole(volume: VolumeReader) -> np.ndarray:
    shape, slabs = volume.volume.shape, volume.volume.slabs(0)
    cube = np.empty(shape, volume.volume.dtype)
    for start, stop in track(slabs, "reading the volume"):
        cube[start:stop] = volume.slices(0, start, stop)
    return cube


def _held_volume(cube: np.ndarray, size: int) -> Window:
    planes = [np.moveaxis(cube, axis, 0)[:, None] for axis in range(3)]
    return lambda axis, index, row, column: planes[axis][
        index, :, row : row + size, column : column + size
    ]


def _held_scene(scene: SceneReader, size: int) -> Window:
    pixels = scene.read(0, 0, scene.scene.height, scene.scene.width)
    return lambda axis, index, row, column: pixels[:, row : row + size, column : column + size]


def _read_volume(volume: VolumeReader, size: int) -> Window:
    def window(axis: int, index: int, row: int, column: int) -> np.ndarray:
        start, stop = [index] * 3, [index + 1] * 3
        for along, first in zip(in_slice(axis), (row, column), strict=True):
            start[along], stop[along] = first, first + size
        box = volume.box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        return np.moveaxis(box, axis, 0)

    return window


def _read_scene(scene: SceneReader, size: int) -> Window:
    return lambda axis, index, row, column: scene.read(row, column, size, size)
