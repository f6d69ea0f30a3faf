"""Positions of patches, and the convention for the pixel that a patch belongs to.

A patch of `size` pixels belongs to its *centre pixel*. Its upper-left pixel lies `size // 2` rows
above and `size // 2` columns left of the centre. For odd sizes that is the true centre. For even
sizes it is the lower right of the four central pixels. Cutting, locating and mapping use this
convention (`upper_left`).

A patch of a volume lies in a slice across one of the axes 0, 1 and 2. Slice `index` across axis K
is `np.take(volume, index, axis=K)`, and its rows and columns run along the remaining axes in their
order. Coordinates in a volume are counted in voxels: coordinate i is the centre of voxel i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from outcrop.errors import OutcropError
from outcrop.sources.grids import Grid
from outcrop.sources.names import file_name, stem
from outcrop.sources.reading import SegyReading
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume

Coordinate = TypeVar("Coordinate", int, np.ndarray)
Size = int | tuple[int, int]
"""Height and width of a patch in pixels, or one number for both."""


def upper_left(centre: Coordinate, size: int) -> Coordinate:
    """Row (or column) of a patch's upper-left pixel, computed from that of its centre pixel.

    >>> upper_left(10, 5), upper_left(10, 4)
    (8, 8)
    """
    return centre - size // 2


def sides(size: Size) -> tuple[int, int]:
    """Height and width of a patch."""
    return (size, size) if isinstance(size, int) else size


def in_slice(axis: int) -> tuple[int, int]:
    """The axes of a volume along the rows and the columns of a slice across `axis`.

    >>> in_slice(1)
    (0, 2)
    """
    down, right = (other for other in range(3) if other != axis)
    return down, right


@dataclass(frozen=True)
class Source:
    """A scene or a volume that patches were cut from.

    Attributes:
        name: file or folder, or several with plus signs between them.
        shape: height and width of a scene in pixels, or the three lengths of a volume in voxels.
        crs: a scene's coordinate reference system as WKT.
        transform: coefficients a, b, c, d, e, f of the affine map from (column, row) to (x, y) in
            that system; None for a volume.
        metric_crs: metric system of a scene as WKT, which x and y of its patches refer to
            (`outcrop.sources.metric.metric_systems`).
        files: names of the files that were opened as a scene.
        mask: name of the raster that masked pixels of a scene; empty if there was none.
        sensor: platform and instrument of a scene, if its files name them.
        bands: names of a scene's bands in its files, in the order of the patch set's bands.
        units: units of the bands, if the files name them.
        segy: how a volume in SEG-Y was read.
        axes: names of the axes of a volume.
        ends: first and last coordinate along each axis of a volume; None for an axis without
            coordinates.
    """

    name: str
    shape: tuple[int, ...]
    crs: str = ""
    transform: tuple[float, float, float, float, float, float] | None = None
    metric_crs: str = ""
    files: tuple[str, ...] = ()
    mask: str = ""
    sensor: str = ""
    bands: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    segy: SegyReading = SegyReading()
    axes: tuple[str, ...] = ()
    ends: tuple[tuple[float, float] | None, ...] = ()

    @classmethod
    def of(cls, opened: Scene | Volume, metric_crs: str = "") -> Source:
        """The description of an open scene or volume."""
        if isinstance(opened, Volume):
            return cls(
                opened.name, opened.shape, segy=opened.reading, axes=opened.axes, ends=opened.ends
            )
        return cls(
            opened.name,
            (opened.height, opened.width),
            opened.crs,
            opened.transform,
            metric_crs,
            files=opened.opened,
            mask=opened.reading.mask[0] if opened.reading.mask else "",
            sensor=opened.sensor,
            bands=opened.band_names,
            units=tuple(band.unit for band in opened.bands),
        )

    @property
    def opened(self) -> tuple[str, ...]:
        """Names of the files or of the folder."""
        return self.files or (self.name,)

    @property
    def is_volume(self) -> bool:
        """Whether it is a volume."""
        return len(self.shape) == 3

    @property
    def height(self) -> int:
        """Rows of a scene."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Columns of a scene."""
        return self.shape[1]

    @property
    def grid(self) -> Grid:
        """The grid of a scene."""
        assert self.transform is not None
        return Grid(self.crs, self.transform, self.height, self.width)

    def xy(self, row: np.ndarray, column: np.ndarray, crs: str) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates in `crs` of the centres of pixels of a scene."""
        assert self.transform is not None
        a, b, c, d, e, f = self.transform
        column, row = column + 0.5, row + 0.5
        x, y = a * column + b * row + c, d * column + e * row + f
        return (x, y) if crs == self.crs else _transformer(self.crs, crs).transform(x, y)


def fitting(word: str, names: Sequence[str]) -> list[int]:
    """Indices of the sources that a word may name.

    A whole name matches that source. Otherwise the word matches the end of a path, with or without
    the file extension. If a source has several files, any of them may match.

    Args:
        names: names of the sources; those of several files have plus signs between them.

    >>> names = ["2019/scene.tif", "2020/scene.tif", "other.tif"]
    >>> fitting("scene", names), fitting("2020/scene", names), fitting("other.tif", names)
    ([0, 1], [1], [2])
    """
    whole = [i for i, name in enumerate(names) if word == name]
    path = Path(word).absolute()
    whole = whole or [i for i, name in enumerate(names) if path == Path(name).absolute()]
    return whole or [
        i
        for i, name in enumerate(names)
        if any(_ends(file, word) for file in (name, *name.split(" + ")))
    ]


def _ends(file: str, word: str) -> bool:
    asked, path = Path(word).parts, Path(file)
    if not asked:
        return False
    without = path.with_suffix("") if path.name else path
    ends = (path.parts[-len(asked) :], without.parts[-len(asked) :])
    return asked in ends or word in (file_name(file), stem(file))


class Rows:
    """Base of frozen dataclasses whose fields are arrays of one length."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def __getitem__(self, index: np.ndarray) -> Self:
        """Some of the rows, by index or mask."""
        return type(self)(**{name: values[index] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Positions(Rows):
    """Positions of N patches. All fields are arrays of length N.

    In a scene, x and y are metres in the `metric_crs` of the source. In a volume, z, y and x are
    voxels along axes 0, 1 and 2, and the patch is one voxel thick across its slice.

    Attributes:
        source: int32, index of the source in the patch set's `sources`.
        axis: int8, axis perpendicular to the slice, from 0; -1 in a scene.
        index: int32, number of the slice along that axis, from 0; 0 in a scene.
        row, column: int32, centre pixel in the scene or the slice, from 0.
        z: float, 0 in a scene; in a volume the centre of the patch along axis 0.
        y, x: float, in a scene the centre of the centre pixel; in a volume the centre of the patch
            along axes 1 and 2.
        depth: float, 1 in a scene; in a volume the extent of the patch along axis 0.
        height, width: float, extent of the patch along y and x.
        polygon: int, labelled polygon (or group of labelled pixels, or point) that contains the
            centre; unique over all sources. In a volume every patch has its own number.

    Raises:
        OutcropError: the arrays differ in length.
    """

    source: np.ndarray
    axis: np.ndarray
    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    depth: np.ndarray
    height: np.ndarray
    width: np.ndarray
    polygon: np.ndarray

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in vars(self).items()}
        if len(set(lengths.values())) > 1:
            raise OutcropError("positions", f"columns of different length {lengths}")

    @property
    def middle(self) -> np.ndarray:
        """z, y and x of each patch: float64, `N × 3`."""
        return np.stack([self.z, self.y, self.x], axis=1)

    @property
    def extent(self) -> np.ndarray:
        """Depth, height and width of each patch: float64, `N × 3`."""
        return np.stack([self.depth, self.height, self.width], axis=1)


def scene_positions(
    source: int | np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    width: float | np.ndarray,
    height: float | np.ndarray,
    polygon: np.ndarray,
) -> Positions:
    """Positions of N patches of scenes; the arguments are those of `Positions`."""
    n = len(row)
    return Positions(
        source=_each(source, n, np.int32),
        axis=np.full(n, -1, np.int8),
        index=np.zeros(n, np.int32),
        row=_each(row, n, np.int32),
        column=_each(column, n, np.int32),
        z=np.zeros(n),
        y=_each(y, n, np.float64),
        x=_each(x, n, np.float64),
        depth=np.ones(n),
        height=_each(height, n, np.float64),
        width=_each(width, n, np.float64),
        polygon=np.asarray(polygon),
    )


def volume_positions(
    source: int | np.ndarray,
    axis: int | np.ndarray,
    index: int | np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    size: Size,
) -> Positions:
    """Positions of N patches of volumes; every patch has its own polygon number.

    Args:
        source, axis, index: values of each patch, or one for all.
        row, column: int, `N`, centre pixels in the slices.

    >>> at = volume_positions(0, 1, 7, np.array([20]), np.array([30]), size=4)
    >>> at.middle, at.extent
    (array([[19.5,  7. , 29.5]]), array([[4., 1., 4.]]))
    """
    n = len(row)
    height, width = sides(size)
    axis, index = _each(axis, n, np.int8), _each(index, n, np.int32)
    row, column = _each(row, n, np.int32), _each(column, n, np.int32)
    middle, extent = np.empty((3, n)), np.ones((3, n))
    for across in range(3):
        here = axis == across
        down, right = in_slice(across)
        middle[across, here] = index[here]
        middle[down, here] = upper_left(row[here], height) + (height - 1) / 2
        middle[right, here] = upper_left(column[here], width) + (width - 1) / 2
        extent[down, here], extent[right, here] = height, width
    return Positions(
        source=_each(source, n, np.int32),
        axis=axis,
        index=index,
        row=row,
        column=column,
        z=middle[0],
        y=middle[1],
        x=middle[2],
        depth=extent[0],
        height=extent[1],
        width=extent[2],
        polygon=np.arange(n),
    )


@lru_cache
def _transformer(crs: str, other: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(crs, other, always_xy=True)


def _each(value: float | np.ndarray, n: int, dtype: type) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, dtype), n).copy()
