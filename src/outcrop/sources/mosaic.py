"""Several scenes of one grid, laid over each other as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import tell
from outcrop.sources.grids import NEAR, same_crs
from outcrop.sources.opening import aligned
from outcrop.sources.scene import Scene, SceneReader


@dataclass(frozen=True)
class Mosaic(Scene):
    """A scene made of several. A pixel is that of the first scene that has data there in all
    bands, or else in any.

    Attributes:
        parts: the scenes; the first lies on top.
        corners: row and column of the upper-left pixel of each.
    """

    parts: tuple[Scene, ...] = ()
    corners: tuple[tuple[int, int], ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the rasters of all scenes, each once."""
        return tuple(dict.fromkeys(file for part in self.parts for file in part.files))

    def with_order(self, order: Sequence[int]) -> Mosaic:
        """The mosaic with some of its bands, by index from 0, in this order."""
        return replace(
            self,
            bands=tuple(self.bands[i] for i in order),
            parts=tuple(part.with_order(order) for part in self.parts),
        )

    @contextmanager
    def reader(self) -> Iterator[MosaicReader]:
        """Open the files for reading windows."""
        with ExitStack() as stack:
            parts = [stack.enter_context(part.reader()) for part in self.parts]
            yield MosaicReader(self, parts)


class MosaicReader(SceneReader):
    """Reads windows of an open mosaic, as float32; what no scene covers is NaN."""

    def __init__(self, mosaic: Mosaic, parts: Sequence[SceneReader]) -> None:
        self.scene = mosaic
        self._mosaic, self._parts = mosaic, parts

    def inside(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """See `SceneReader.inside`."""
        found = np.full((len(self._mosaic.bands), height, width), np.nan, np.float32)
        empty = np.ones((height, width), bool)
        for part, corner in zip(self._parts, self._mosaic.corners, strict=True):
            shape = part.scene.height, part.scene.width
            starts = [max(at, here) for at, here in zip((row, column), corner, strict=True)]
            stops = [
                min(at + length, here + whole)
                for at, length, here, whole in zip(
                    (row, column), (height, width), corner, shape, strict=True
                )
            ]
            tall, wide = (stop - start for start, stop in zip(starts, stops, strict=True))
            if tall <= 0 or wide <= 0:
                continue
            here = np.s_[starts[0] - row : stops[0] - row, starts[1] - column : stops[1] - column]
            if not empty[here].any():
                continue
            pixels = part.inside(starts[0] - corner[0], starts[1] - corner[1], tall, wide)
            finite, nothing = np.isfinite(pixels), np.isnan(found[:, *here]).all(axis=0)
            whole = empty[here] & finite.all(axis=0)
            taken = whole | (nothing & finite.any(axis=0))
            found[:, *here][:, taken] = pixels[:, taken]
            empty[here] &= ~whole
        return found


def lay_together(scenes: Sequence[Scene]) -> Scene:
    """One scene as it is, or several of the same grid as a mosaic that covers them all.

    Nothing is resampled: the scenes must share their coordinate reference system, the size of
    their pixels and their lattice, as the tiles of one product do. Bands are matched by name.

    Raises:
        OutcropError: they do not; the line says which, and what to do.
    """
    if len(scenes) == 1:
        return scenes[0]
    matched = aligned(scenes)
    scenes = [scene for scene, _ in matched]
    for _, note in matched:
        if note:
            tell(f"note: {note}")
    first = scenes[0]
    corners = np.array([_corner(scene, first) for scene in scenes])
    sizes = np.array([(scene.height, scene.width) for scene in scenes])
    top, left = corners.min(axis=0)
    height, width = (corners + sizes).max(axis=0) - (top, left)
    a, b, c, d, e, f = first.transform
    return Mosaic(
        bands=first.bands,
        crs=first.crs,
        transform=(a, b, c + a * left + b * top, d, e, f + d * left + e * top),
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
    """Row and column of the upper-left pixel of a scene on the grid of the first."""
    from pyproj import CRS

    if not same_crs(scene.crs, first.crs):
        mine, its = CRS.from_wkt(scene.crs), CRS.from_wkt(first.crs)
        raise OutcropError(
            scene.title,
            f"is in {mine.name}, {first.title} in {its.name}; reproject one of them "
            "(gdalwarp -t_srs), or map them one by one",
        )
    matrix, its_matrix = (
        np.array([[t[0], t[1]], [t[3], t[4]]]) for t in (scene.transform, first.transform)
    )
    longest = max(scene.height, scene.width)
    if np.abs(np.linalg.solve(its_matrix, matrix) - np.eye(2)).max() * longest > NEAR:
        raise OutcropError(
            scene.title,
            f"has pixels of {abs(matrix[0, 0]):g} × {abs(matrix[1, 1]):g}, {first.title} of "
            f"{abs(its_matrix[0, 0]):g} × {abs(its_matrix[1, 1]):g}; resample one of them "
            "(gdalwarp -tr), or map them one by one",
        )
    shift = np.array([scene.transform[2], scene.transform[5]]) - (
        first.transform[2],
        first.transform[5],
    )
    column, row = np.linalg.solve(its_matrix, shift)
    if max(abs(row - round(row)), abs(column - round(column))) > NEAR:
        raise OutcropError(
            scene.title,
            f"lies {row % 1:.2f} rows and {column % 1:.2f} columns beside the pixels of "
            f"{first.title}; resample one of them onto the other's grid (gdalwarp -tap), or map "
            "them one by one",
        )
    return round(row), round(column)
