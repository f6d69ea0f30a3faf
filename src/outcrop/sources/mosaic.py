"""Mosaics: several scenes on one pixel grid, read as one scene."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import warn
from outcrop.sources.grids import NEAR, grid_xy, same_crs
from outcrop.sources.kinds import open_all_scenes
from outcrop.sources.opening import align_bands
from outcrop.sources.scene import Scene, SceneReader


@dataclass(frozen=True)
class Mosaic(Scene):
    """A scene that is made of several scenes.

    A pixel has the values of the first scene with data in all bands. If there is no such scene, it
    has the values of the first scene with data in any band.

    Attributes:
        parts: the scenes; the first is on top.
        corners: row and column of the upper-left pixel of each scene in the mosaic.
    """

    parts: tuple[Scene, ...] = ()
    corners: tuple[tuple[int, int], ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the rasters of all scenes, without repetition."""
        return tuple(dict.fromkeys(file for part in self.parts for file in part.files))

    def take_bands(self, order: Sequence[int]) -> Mosaic:
        """The mosaic with the bands of these indices, from 0, in this order."""
        return replace(
            self,
            bands=tuple(self.bands[i] for i in order),
            parts=tuple(part.take_bands(order) for part in self.parts),
        )

    @contextmanager
    def reader(self) -> Iterator[MosaicReader]:
        """Open the files for reading windows."""
        with ExitStack() as stack:
            parts = [stack.enter_context(part.reader()) for part in self.parts]
            yield MosaicReader(self, parts)


class MosaicReader(SceneReader):
    """Reader of windows of a mosaic, in float32; pixels outside all scenes are NaN."""

    def __init__(self, mosaic: Mosaic, parts: Sequence[SceneReader]) -> None:
        self.scene = mosaic
        self._mosaic, self._parts = mosaic, parts

    def read_inside(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """See `SceneReader.read_inside`."""
        found = np.full((len(self._mosaic.bands), height, width), np.nan, np.float32)
        empty = np.ones((height, width), bool)
        for part, corner in zip(self._parts, self._mosaic.corners, strict=True):
            shape = part.scene.height, part.scene.width
            start = np.maximum((row, column), corner)
            stop = np.minimum((row + height, column + width), np.add(corner, shape))
            tall, wide = (stop - start).tolist()
            if tall <= 0 or wide <= 0:
                continue
            (top, left), (bottom, right) = start - (row, column), stop - (row, column)
            here = np.s_[top:bottom, left:right]
            if not empty[here].any():
                continue
            first_row, first_column = (start - corner).tolist()
            pixels = part.read_inside(first_row, first_column, tall, wide)
            finite, nothing = np.isfinite(pixels), np.isnan(found[:, *here]).all(axis=0)
            whole = empty[here] & finite.all(axis=0)
            taken = whole | (nothing & finite.any(axis=0))
            found[:, *here][:, taken] = pixels[:, taken]
            empty[here] &= ~whole
        return found


def mosaic_scenes(scenes: Sequence[str | Path | Scene]) -> Scene:
    """Combine scenes on one pixel grid to a scene that covers them all.

    Nothing is resampled: the scenes need the same CRS, pixel size and pixel alignment, as tiles of
    one product have. Bands are matched by name. A single scene is returned unchanged.

    Args:
        scenes: scenes, opened or by name; where they overlap, the first has priority.

    Returns:
        a scene whose pixels are read as float32.

    Raises:
        OutcropError: the scenes differ in bands, CRS, pixel size or pixel alignment.

    >>> from rasterio import Affine
    >>> from outcrop.sources.opening import scene_from_array
    >>> west, east = (
    ...     scene_from_array(np.ones((4, 3)), Affine(10, 0, x, 0, -10, 0), 32648) for x in (0, 30)
    ... )
    >>> mosaic = mosaic_scenes([west, east])
    >>> mosaic.height, mosaic.width
    (4, 6)
    """
    return _mosaic(open_all_scenes(scenes))


def _mosaic(scenes: Sequence[Scene]) -> Scene:
    if len(scenes) == 1:
        return scenes[0]
    matched = align_bands(scenes)
    scenes = [scene for scene, _ in matched]
    for _, note in matched:
        if note:
            warn(note)
    first = scenes[0]
    corners = np.array([_corner(scene, first) for scene in scenes])
    sizes = np.array([(scene.height, scene.width) for scene in scenes])
    top, left = corners.min(axis=0)
    height, width = (corners + sizes).max(axis=0) - (top, left)
    a, b, _, d, e, _ = first.transform
    x, y = grid_xy(first.transform, top, left)
    return Mosaic(
        bands=first.bands,
        crs=first.crs,
        transform=(a, b, x, d, e, y),
        height=int(height),
        width=int(width),
        dtype=np.dtype("float32"),
        opened=tuple(name for scene in scenes for name in scene.opened),
        reading=first.reading,
        sensor=first.sensor,
        parts=tuple(scenes),
        corners=tuple((int(row - top), int(column - left)) for row, column in corners),
    )


def _corner(scene: Scene, first: Scene) -> tuple[int, int]:
    """Row and column of the upper-left pixel of a scene on the grid of the first scene."""
    from pyproj import CRS

    if not same_crs(scene.crs, first.crs):
        mine, its = CRS.from_wkt(scene.crs), CRS.from_wkt(first.crs)
        raise OutcropError(
            scene.title,
            f"is in {mine.name}, {first.title} is in {its.name}; reproject one of them "
            "(gdalwarp -t_srs), or map them one by one",
        )
    matrix, its_matrix = (
        np.array([[t[0], t[1]], [t[3], t[4]]]) for t in (scene.transform, first.transform)
    )
    longest = max(scene.height, scene.width)
    if np.abs(np.linalg.solve(its_matrix, matrix) - np.eye(2)).max() * longest > NEAR:
        raise OutcropError(
            scene.title,
            f"has pixels of {abs(matrix[0, 0]):g} × {abs(matrix[1, 1]):g}, {first.title} has "
            f"pixels of {abs(its_matrix[0, 0]):g} × {abs(its_matrix[1, 1]):g}; resample one of "
            "them (gdalwarp -tr), or map them one by one",
        )
    left, top = np.array([scene.transform[2]]), np.array([scene.transform[5]])
    (row,), (column,) = first.fractional_row_column(left, top)
    if max(abs(row - round(row)), abs(column - round(column))) > NEAR:
        raise OutcropError(
            scene.title,
            f"is shifted by {row % 1:.2f} rows and {column % 1:.2f} columns against the pixels of "
            f"{first.title}; resample one of them to the other's grid (gdalwarp -tap), or map "
            "them one by one",
        )
    return round(row), round(column)
