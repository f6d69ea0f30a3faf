"""Grids of pixels and their coordinate reference systems: comparing, and choosing a common grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.sources.names import file_name, normalized_name

Transform = tuple[float, float, float, float, float, float]
NEAR = 0.01  # largest distance in pixels between grids that count as the same


def grid_xy(transform: Sequence[float], row: Any, column: Any) -> tuple[Any, Any]:
    """x and y of rows and columns, with fractions, of a grid; integers are corners of pixels."""
    a, b, c, d, e, f = transform
    return a * column + b * row + c, d * column + e * row + f


@dataclass(frozen=True)
class Grid:
    """The size and the georeference of a raster.

    Attributes:
        crs: coordinate reference system as WKT.
        transform: a, b, c, d, e, f of the affine map from (column, row) to (x, y).
        height, width: number of rows and columns.
    """

    crs: str
    transform: Transform
    height: int
    width: int

    @property
    def pixel(self) -> tuple[float, float]:
        """Width and height of a pixel in units of the CRS."""
        a, b, _, d, e, _ = self.transform
        return float(np.hypot(a, d)), float(np.hypot(b, e))

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in squared units of the CRS."""
        a, b, _, d, e, _ = self.transform
        return abs(a * e - b * d)

    def xy(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the centres of pixels, in `crs`."""
        return grid_xy(self.transform, np.asarray(row) + 0.5, np.asarray(column) + 0.5)

    def fractional_row_column(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns, with fractions, of points in `crs`. Integers are corners of pixels."""
        a, b, c, d, e, f = self.transform
        inverse = np.linalg.inv(np.array([[a, b], [d, e]]))
        column, row = inverse @ np.stack([np.asarray(x) - c, np.asarray(y) - f])
        return row, column

    def resized(self, size: float) -> Grid:
        """The grid with another pixel size in units of the CRS; the upper-left corner stays."""
        wide, tall = self.pixel
        a, b, c, d, e, f = self.transform
        right, down = size / wide, size / tall
        return Grid(
            self.crs,
            (a * right, b * down, c, d * right, e * down, f),
            max(1, round(self.height / down)),
            max(1, round(self.width / right)),
        )


def corners_in(other: Grid, grid: Grid) -> np.ndarray:
    """Corners and centre of one grid as rows and columns of another: float64, `5 × 2`.

    They are not finite where one CRS cannot be transformed to the other.
    """
    from pyproj.exceptions import ProjError

    x, y = grid_xy(other.transform, *_corners(other).T)
    if not same_crs(other.crs, grid.crs):
        try:
            x, y = transformer(other.crs, grid.crs).transform(x, y)
        except ProjError:
            x, y = np.full((2, len(x)), np.inf)
    return np.stack(grid.fractional_row_column(x, y), axis=1)


def same_crs(one: str, other: str) -> bool:
    """Whether two coordinate reference systems are the same, whatever their notation."""
    from pyproj import CRS

    return one == other or CRS.from_user_input(one).equals(
        CRS.from_user_input(other), ignore_axis_order=True
    )


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether two grids have the same pixels: their corners are at most 0.01 pixels apart."""
    if (one.height, one.width) != (other.height, other.width):
        return False
    return bool(np.abs(corners_in(one, other) - _corners(one)).max() <= NEAR)


def same_extent(one: Grid, other: Grid) -> bool:
    """Whether two grids cover the same extent, to within one pixel of the coarser grid."""
    scale = np.array([other.height / one.height, other.width / one.width])
    apart = np.abs(corners_in(one, other) - _corners(one) * scale)
    return bool((apart / np.maximum(scale, 1) <= 1 + NEAR).all())


def overlap(one: Grid, other: Grid) -> float:
    """Share of the extent of one grid that another covers, from 0 to 1; 0 where it is unknown."""
    found = corners_in(other, one)
    if not np.isfinite(found).all():
        return 0.0
    low, high = found.min(axis=0), found.max(axis=0)
    size = np.array([one.height, one.width], float)
    covered = np.clip(np.minimum(high, size) - np.maximum(low, 0), 0, None)
    return float(np.prod(covered / size))


def grid_text(grid: Grid) -> str:
    """Size, pixel size, corner and CRS of a grid, for messages."""
    from pyproj import CRS

    a, _, c, _, _, f = grid.transform
    return (
        f"{grid.height} × {grid.width} pixels of {a:g} from {c:.9g}, {f:.9g} in "
        f"{CRS.from_user_input(grid.crs).name}"
    )


def pixel_size_text(grid: Grid) -> str:
    """The pixel size with its unit: `10 m`, `28.5 m`, `0.00009 °`."""
    from pyproj import CRS

    crs = CRS.from_user_input(grid.crs)
    wide, tall = grid.pixel
    unit = {"metre": "m", "meter": "m", "degree": "°"}.get(
        crs.axis_info[0].unit_name if crs.axis_info else "", "units"
    )
    size = f"{wide:.6g}" if abs(wide - tall) <= 1e-3 * wide else f"{wide:.6g} × {tall:.6g}"
    return f"{size} {unit}"


def pixel_metres(grid: Grid) -> tuple[float, float]:
    """Width and height of a pixel in metres at the centre of the grid; an approximation."""
    from pyproj import CRS

    wide, tall = grid.pixel
    crs = CRS.from_user_input(grid.crs)
    if crs.is_geographic:
        _, latitude = grid.xy(np.array([grid.height // 2]), np.array([grid.width // 2]))
        degree = 111_320.0
        return wide * degree * float(np.cos(np.radians(latitude[0]))), tall * degree
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    return wide * unit, tall * unit


def common_grid(grids: list[Grid], names: list[str], resolution: str) -> Grid:
    """The grid to which files of several resolutions are resampled.

    Args:
        resolution: "finest", "coarsest", the name of one of the files, or a pixel size in metres.

    Raises:
        OutcropError: `resolution` is none of these, is the name of several files with different
            grids, or is in metres while the CRS has other units.
    """
    if resolution in ("finest", "coarsest"):
        choose = min if resolution == "finest" else max
        area = choose(grid.pixel_area for grid in grids)
        return next(grid for grid in grids if np.isclose(grid.pixel_area, area, rtol=1e-6))

    named = [
        grid
        for grid, name in zip(grids, names, strict=True)
        if resolution == file_name(name) or normalized_name(resolution) == name
    ]
    if named and all(same_grid(grid, named[0]) for grid in named):
        return named[0]
    if named:
        raise OutcropError(
            "`resolution`",
            f"is '{resolution}', which is the name of several files; pass the whole path",
        )
    try:
        size = float(str(resolution).removesuffix("m"))
    except ValueError:
        size = np.nan
    if not 0 < size < np.inf:
        raise OutcropError(
            "`resolution`",
            f"is '{resolution}'; pass finest, coarsest, a pixel size in metres or one of the files",
        )
    return _of_size(grids, size)


def _of_size(grids: list[Grid], size: float) -> Grid:
    from pyproj import CRS

    axes = CRS.from_user_input(grids[0].crs).axis_info
    if not axes or axes[0].unit_name not in ("metre", "meter"):
        raise OutcropError(
            "`resolution`",
            f"is {size:g} m, but the units of the scene are not metres; pass finest, coarsest or "
            "one of the files",
        )
    for grid in grids:
        if np.allclose(grid.pixel, size, rtol=1e-3):
            return grid
    return min(grids, key=lambda grid: grid.pixel_area).resized(size)


def _corners(grid: Grid) -> np.ndarray:
    tall, wide = grid.height, grid.width
    return np.array([(0, 0), (0, wide), (tall, 0), (tall, wide), (tall / 2, wide / 2)], float)


@lru_cache(maxsize=256)
def transformer(crs: str, other: str) -> Any:
    """The transformation from one CRS to another, in the axis order x, y."""
    from pyproj import Transformer

    return Transformer.from_crs(crs, other, always_xy=True)


def parse_crs(crs: str | None, option: str) -> str:
    """The WKT of a coordinate reference system.

    Args:
        crs: any notation that pyproj reads, such as EPSG:32648.
        option: the option that is named in the error.

    Raises:
        OutcropError: pyproj does not know the system.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(crs).to_wkt()
    except CRSError:
        raise OutcropError(
            option, f"'{crs}' is not a coordinate reference system; pass e.g. EPSG:32648"
        ) from None


def check_transformable(path: str | Path, crs: str, other: str) -> None:
    """Check that coordinates can be transformed from one system to another.

    Raises:
        OutcropError: one system is local, or the systems are of different celestial bodies.
    """
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    try:
        Transformer.from_crs(crs, other)
    except ProjError as error:
        raise OutcropError(
            path,
            f"cannot be transformed from {CRS(crs).name} to {CRS(other).name}; "
            "correct one of the coordinate reference systems",
        ) from error
