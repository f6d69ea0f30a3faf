"""Grids of pixels: how far apart two lie, and on which one files of several resolutions meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.errors import OutcropError

Transform = tuple[float, float, float, float, float, float]
NEAR = 0.01  # pixels that grids may lie apart anywhere and still be the same


@dataclass(frozen=True)
class Grid:
    """Pixels of a raster and where they lie.

    Attributes:
        crs: coordinate reference system as WKT.
        transform: a, b, c, d, e, f of the affine map from (column, row) to (x, y).
        height, width: in pixels.
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
        """Coordinates in `crs` of the middles of pixels."""
        a, b, c, d, e, f = self.transform
        column, row = np.asarray(column) + 0.5, np.asarray(row) + 0.5
        return a * column + b * row + c, d * column + e * row + f

    def place(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns, with fractions, of points in `crs`; whole numbers are corners."""
        a, b, c, d, e, f = self.transform
        inverse = np.linalg.inv(np.array([[a, b], [d, e]]))
        column, row = inverse @ np.stack([np.asarray(x) - c, np.asarray(y) - f])
        return row, column

    def coarser(self, size: float) -> Grid:
        """A grid of the same extent, from its upper-left corner on, with pixels of another size."""
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
    """Where the corners and the middle of one grid lie on another, in pixels of that: `5 × 2`.

    Not finite where the CRS of one cannot be brought to that of the other.
    """
    row = np.array([0, 0, other.height, other.height, other.height / 2]) - 0.5
    column = np.array([0, other.width, 0, other.width, other.width / 2]) - 0.5
    x, y = other.xy(row, column)
    if not same_crs(other.crs, grid.crs):
        x, y = _transformed(x, y, other.crs, grid.crs)
    return np.stack(grid.place(x, y), axis=1)


def same_crs(one: str, other: str) -> bool:
    """Whether two coordinate reference systems are the same, however they are written."""
    from pyproj import CRS

    return one == other or CRS.from_user_input(one).equals(
        CRS.from_user_input(other), ignore_axis_order=True
    )


def same_grid(one: Grid, other: Grid) -> bool:
    """Whether two grids have the same pixels: nowhere more than 0.01 of a pixel apart."""
    if (one.height, one.width) != (other.height, other.width):
        return False
    return _apart(one, other, scale=(1.0, 1.0)) <= NEAR


def same_ground(one: Grid, other: Grid) -> bool:
    """Whether two grids cover the same extent, up to one pixel of the coarser."""
    scale = (other.height / one.height, other.width / one.width)
    coarser = (max(1.0, scale[0]), max(1.0, scale[1]))
    found = corners_in(one, other)
    corners = _corners(one) * scale
    return bool((np.abs(found - corners) / coarser <= 1 + NEAR).all())


def overlap(one: Grid, other: Grid) -> float:
    """Share of a grid's bounding box that another's covers, from 0 to 1; 0 where it is unknown."""
    found = corners_in(other, one)
    if not np.isfinite(found).all():
        return 0.0
    low, high = found.min(axis=0), found.max(axis=0)
    size = np.array([one.height, one.width], float)
    covered = np.clip(np.minimum(high, size) - np.maximum(low, 0), 0, None)
    return float(np.prod(covered / size))


def described(grid: Grid) -> str:
    """Size, pixels, corner and system of a grid, for messages."""
    from pyproj import CRS

    a, _, c, _, _, f = grid.transform
    return (
        f"{grid.height} × {grid.width} pixels of {a:g} from {c:.9g}, {f:.9g} in "
        f"{CRS.from_user_input(grid.crs).name}"
    )


def pixel_words(grid: Grid) -> str:
    """The size of a pixel with its unit: `10 m`, `28.5 m`, `0.00009 °`."""
    from pyproj import CRS

    crs = CRS.from_user_input(grid.crs)
    wide, tall = grid.pixel
    unit = {"metre": "m", "meter": "m", "degree": "°"}.get(
        crs.axis_info[0].unit_name if crs.axis_info else "", "units"
    )
    size = f"{wide:.6g}" if abs(wide - tall) <= 1e-3 * wide else f"{wide:.6g} × {tall:.6g}"
    return f"{size} {unit}"


def pixel_metres(grid: Grid) -> tuple[float, float]:
    """Width and height of a pixel in metres, in the middle of the grid; for comparison only."""
    from pyproj import CRS

    wide, tall = grid.pixel
    crs = CRS.from_user_input(grid.crs)
    if crs.is_geographic:
        _, latitude = grid.xy(np.array([grid.height // 2]), np.array([grid.width // 2]))
        degree = 111_320.0
        return wide * degree * float(np.cos(np.radians(latitude[0]))), tall * degree
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    return wide * unit, tall * unit


def target(grids: list[Grid], names: list[str], resolution: str) -> Grid:
    """The grid that files of several resolutions are brought to.

    Args:
        grids, names: of the files.
        resolution: "finest", "coarsest", one of the files by its name, or a size in metres.

    Raises:
        OutcropError: it is none of these; metres where the CRS has other units.
    """
    if resolution in ("finest", "coarsest"):
        choose = min if resolution == "finest" else max
        area = choose(grid.pixel_area for grid in grids)
        return next(grid for grid in grids if np.isclose(grid.pixel_area, area, rtol=1e-6))
    from outcrop.sources.names import file_name, normal

    named = [
        grid
        for grid, name in zip(grids, names, strict=True)
        if resolution == file_name(name) or normal(resolution) == name
    ]
    if named:
        return named[0]
    try:
        size = float(str(resolution).removesuffix("m"))
    except ValueError:
        size = np.nan
    if not 0 < size < np.inf:
        raise OutcropError(
            "--resolution",
            f"must be finest, coarsest, a size in metres or one of the files, not '{resolution}'",
        )
    return _of_size(grids, size)


def _of_size(grids: list[Grid], size: float) -> Grid:
    from pyproj import CRS

    axes = CRS.from_user_input(grids[0].crs).axis_info
    if not axes or axes[0].unit_name not in ("metre", "meter"):
        raise OutcropError(
            "--resolution",
            f"is {size:g} m, and the scene is not in metres; pass finest, coarsest or a file",
        )
    for grid in grids:
        if np.allclose(grid.pixel, size, rtol=1e-3):
            return grid
    return min(grids, key=lambda grid: grid.pixel_area).coarser(size)


def _corners(grid: Grid) -> np.ndarray:
    tall, wide = grid.height, grid.width
    return np.array([(0, 0), (0, wide), (tall, 0), (tall, wide), (tall / 2, wide / 2)], float)


def _apart(one: Grid, other: Grid, scale: tuple[float, float]) -> float:
    apart = np.abs(corners_in(one, other) - _corners(one) * scale).max()
    return float(apart) if np.isfinite(apart) else np.inf


def _transformed(x: np.ndarray, y: np.ndarray, crs: str, to: str) -> tuple[np.ndarray, np.ndarray]:
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        return Transformer.from_crs(crs, to, always_xy=True).transform(x, y)
    except ProjError:
        return np.full(x.shape, np.inf), np.full(y.shape, np.inf)
