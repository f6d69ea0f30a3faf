"""Areas of pixels, distances and positions on the ellipsoid.

Lengths are geodesics (Karney 2013, Algorithms for geodesics, Journal of Geodesy 87, 43-55, as
implemented in PROJ).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np

from outcrop.errors import OutcropError
from outcrop.sources.grids import Transform, grid_xy, transformer

MAX_SCALE_ERROR = 0.01
STEP = 100.0
_LATTICE = 5
_NODES = 65
_EARTH = 6_378_137.0


class GridLike(Protocol):
    """The properties of a scene that are needed here."""

    @property
    def name(self) -> str:
        """The file, for messages."""

    @property
    def crs(self) -> str:
        """The coordinate reference system as WKT."""

    @property
    def transform(self) -> Transform | None:
        """The affine map from (column, row) to (x, y)."""

    @property
    def height(self) -> int:
        """Number of rows."""

    @property
    def width(self) -> int:
        """Number of columns."""


@dataclass(frozen=True)
class PixelAreas:
    """The true areas of the pixels of a grid.

    Attributes:
        constant: area in square metres, if all pixels have the same area (areas in the CRS have
            errors of at most 1 %, or the CRS is local); otherwise NaN. NaN also where areas are
            unknown, because no pixel is on the earth.
        spline: area in square metres as a function of row and column, if areas differ.
    """

    constant: float
    spline: Any = None

    @property
    def are_equal(self) -> bool:
        """Whether all pixels have the same area."""
        return self.spline is None

    def at(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Areas in square metres of the pixels at `row` and `column`: float64, `N`."""
        if self.spline is None:
            return np.full(len(row), self.constant)
        return np.asarray(self.spline(row + 0.5, column + 0.5, grid=False))

    def window(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Areas in square metres of the pixels of a window: float64, `height × width`."""
        if self.spline is None:
            return np.full((height, width), self.constant)
        rows, columns = np.arange(row, row + height) + 0.5, np.arange(column, column + width) + 0.5
        return np.asarray(self.spline(rows, columns))


def pixel_areas(grid: GridLike) -> PixelAreas:
    """The true areas of the pixels of a grid.

    If areas in the CRS have errors of at most 1 %, they are used, and all pixels are equal.
    Otherwise (degrees, Mercator, ...) areas are computed on the ellipsoid and interpolated.
    """
    from pyproj import CRS
    from scipy.interpolate import RectBivariateSpline

    assert grid.transform is not None
    a, b, _, d, e, _ = grid.transform
    size = abs(a * e - b * d)
    crs = CRS.from_wkt(grid.crs)
    if is_local(grid.crs):
        return PixelAreas(size * metres_per_unit(crs) ** 2)
    try:
        view = GroundPoints(grid)
    except OutcropError:
        return PixelAreas(np.nan)
    if not crs.is_geographic:
        # Square metres per squared unit of the CRS.
        true = _determinant(jacobian(grid.crs, view.x, view.y, STEP / metres_per_unit(crs)))
        off = np.abs(true / metres_per_unit(crs) ** 2 - 1)
        if np.isfinite(off).any() and np.nanmax(off) <= MAX_SCALE_ERROR:
            return PixelAreas(size * metres_per_unit(crs) ** 2)
    rows, columns = (
        np.linspace(0.25, length - 0.25, max(4, min(_NODES, length)))
        for length in (grid.height, grid.width)
    )
    row, column = (z.ravel() for z in np.meshgrid(rows, columns, indexing="ij"))
    x, y = grid_xy(grid.transform, row, column)
    true = _determinant(jacobian(grid.crs, x, y, 0.01 * math.sqrt(size))) * size
    inside = np.isfinite(true)
    # A cubic spline would overshoot at the edge of the domain of the projection.
    degree = 3 if inside.all() else 1
    nodes = np.where(inside, true, 0).reshape(len(rows), len(columns))
    return PixelAreas(np.nan, RectBivariateSpline(rows, columns, nodes, kx=degree, ky=degree))


def geocentric(crs: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Geocentric coordinates in metres, whose Euclidean distances approximate geodesics: `N × 3`.

    At 1000 km the chord is 0.1 % shorter than the geodesic. In a local CRS the coordinates are x
    and y in metres, and 0.
    """
    from pyproj import CRS

    if is_local(crs):
        unit = metres_per_unit(CRS.from_wkt(crs))
        return np.stack([x * unit, y * unit, np.zeros(len(x))], axis=1)
    return earth_centred(crs, *to_lonlat(crs, x, y))


class GroundPoints:
    """A lattice of points on a scene, in the CRS of the scene and in degrees.

    Raises:
        OutcropError: no point is on the earth.
    """

    def __init__(self, grid: GridLike) -> None:
        assert grid.transform is not None
        self.grid, self.crs = grid, grid.crs
        rows, columns = (
            np.linspace(0.005, 0.995, _LATTICE) * length for length in (grid.height, grid.width)
        )
        row, column = (z.ravel() for z in np.meshgrid(rows, columns, indexing="ij"))
        self.x, self.y = grid_xy(grid.transform, row, column)
        lon, lat = to_lonlat(grid.crs, self.x, self.y)
        on_earth = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90)
        if not on_earth.any():
            raise OutcropError(
                grid.name,
                "has coordinates that are not on the earth; correct its transform or its "
                "coordinate reference system",
            )
        self.lon, self.lat = lon[on_earth], lat[on_earth]
        self.x, self.y = self.x[on_earth], self.y[on_earth]

    @cached_property
    def middle(self) -> tuple[float, float]:
        """Longitude and latitude of the centre."""
        return centre_lonlat([self])

    @cached_property
    def radius(self) -> float:
        """Distance in metres from the centre to the farthest point."""
        lon, lat = (np.full(len(self.lon), z) for z in self.middle)
        return float(np.max(ellipsoid(self.crs).inv(lon, lat, self.lon, self.lat)[2]))

    @property
    def along_row(self) -> tuple[float, float]:
        """The change of x and y from one column to the next."""
        assert self.grid.transform is not None
        return self.grid.transform[0], self.grid.transform[3]


def jacobian(crs: str, x: np.ndarray, y: np.ndarray, step: float) -> np.ndarray:
    """Metres east and north per unit of x and of y: `N × 2 × 2`, NaN outside the earth."""
    geod, middle = ellipsoid(crs), to_lonlat(crs, x, y)
    sides = []
    for dx, dy in ((step, 0.0), (0.0, step)):
        ends = []
        for sign in (1, -1):
            lon, lat = to_lonlat(crs, x + sign * dx, y + sign * dy)
            azimuth, _, length = geod.inv(*middle, lon, lat)
            azimuth = np.radians(azimuth)
            ends.append(length * np.stack([np.sin(azimuth), np.cos(azimuth)]))
        sides.append((ends[0] - ends[1]) / (2 * step))
    return np.stack(sides, axis=-1).transpose(1, 0, 2)


def _determinant(matrices: np.ndarray) -> np.ndarray:
    (a, b), (c, d) = matrices.transpose(1, 2, 0)
    return np.asarray(np.abs(a * d - b * c))


def centre_lonlat(views: Sequence[GroundPoints]) -> tuple[float, float]:
    """Longitude and latitude of the common centre of scenes."""
    points = np.mean([earth_centred(v.crs, v.lon, v.lat).mean(axis=0) for v in views], axis=0)
    lon = math.degrees(math.atan2(points[1], points[0]))
    flat = (1 - ellipsoid(views[0].crs).es) * math.hypot(points[0], points[1])
    return lon, math.degrees(math.atan2(points[2], flat))


def earth_centred(crs: str, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Geocentric coordinates in metres of points on the ellipsoid: `N × 3`."""
    geod = ellipsoid(crs)
    lon, lat = np.radians(lon), np.radians(lat)
    normal = geod.a / np.sqrt(1 - geod.es * np.sin(lat) ** 2)
    across, up = normal * np.cos(lat), normal * (1 - geod.es) * np.sin(lat)
    return np.stack([across * np.cos(lon), across * np.sin(lon), up], axis=-1)


def to_lonlat(crs: str, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes in degrees of points in a CRS, NaN outside its domain."""
    lon, lat = transformer(crs, geographic_crs(crs)).transform(x, y)
    gone = ~(np.isfinite(lon) & np.isfinite(lat)) | (np.abs(lat) > 90)
    return np.where(gone, np.nan, lon), np.where(gone, np.nan, lat)


def from_lonlat(crs: str, lon: Any, lat: Any) -> tuple[Any, Any]:
    """x and y in a CRS of longitudes and latitudes in degrees."""
    x, y = transformer(geographic_crs(crs), crs).transform(lon, lat)
    return x, y


@lru_cache(maxsize=256)
def geographic_crs(crs: str) -> str:
    """The geographic CRS in which positions are compared, as WKT: for the earth WGS 84."""
    from pyproj import CRS

    if is_earth(crs):
        return str(CRS.from_epsg(4326).to_wkt())
    return str(CRS.from_wkt(crs).geodetic_crs.to_wkt())


@lru_cache(maxsize=256)
def ellipsoid(crs: str) -> Any:
    """The ellipsoid of a CRS: for the earth always WGS 84, also if the CRS assumes a sphere."""
    from pyproj import CRS, Geod

    return Geod(ellps="WGS84") if is_earth(crs) else CRS.from_wkt(crs).get_geod()


@lru_cache(maxsize=256)
def is_earth(crs: str) -> bool:
    """Whether a CRS has an ellipsoid of the size of the earth."""
    from pyproj import CRS

    geod = CRS.from_wkt(crs).get_geod()
    return geod is None or abs(geod.a / _EARTH - 1) < 0.005


@lru_cache(maxsize=256)
def is_local(crs: str) -> bool:
    """Whether a CRS has no relation to the earth, so that its lengths are taken as they are."""
    from pyproj import CRS

    return CRS.from_wkt(crs).geodetic_crs is None


def metres_per_unit(crs: Any) -> float:
    """Metres per unit of a CRS; NaN if the units of its axes differ."""
    factors = {axis.unit_conversion_factor for axis in crs.axis_info[:2]}
    return float(factors.pop()) if len(factors) == 1 else math.nan
