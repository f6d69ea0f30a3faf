"""Coordinate reference systems in metres whose lengths are true where scenes lie.

A system is used for distances if it measures in metres and its scale error, in any direction and
anywhere on the scenes, is at most 1 %. Scale is measured, not looked up: short steps in the system
are compared with geodesics on the ellipsoid (Karney 2013, Algorithms for geodesics, Journal of
Geodesy 87, 43-55, as implemented in PROJ).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import tell

MOST_ERROR = 0.01
_APART = 100_000.0
_STEP = 100.0
_LATTICE = 5
_NODES = 65
# Degrees between the rows of a scene and the x axis of a system. The bounding boxes of patches
# become wider by the sine: 0.7 % and 3 %.
_STRAIGHT, _ASKEW = 0.4, 1.7
_EARTH = 6_378_137.0


class Grid(Protocol):
    """What is needed to know of a scene."""

    @property
    def name(self) -> str:
        """The file, for messages."""
        ...

    @property
    def crs(self) -> str:
        """WKT."""
        ...

    @property
    def transform(self) -> tuple[float, float, float, float, float, float] | None:
        """The affine map from (column, row) to (x, y)."""
        ...

    @property
    def height(self) -> int:
        """Rows."""
        ...

    @property
    def width(self) -> int:
        """Columns."""
        ...


@dataclass(frozen=True)
class PixelAreas:
    """The true areas of a grid's pixels.

    Attributes:
        constant: square metres, if all pixels count as equal (the system's areas are true to 1 %,
            or it is a local one); else NaN. NaN too where areas are unknown, because the grid's
            coordinates lie nowhere on the earth.
        spline: square metres as a function of row and column, if they are not equal.
    """

    constant: float
    spline: Any = None

    @property
    def are_equal(self) -> bool:
        """Whether all pixels count as equal in area."""
        return self.spline is None

    def at(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Square metres of the pixels at `row` and `column`: float64, `N`."""
        if self.spline is None:
            return np.full(len(row), self.constant)
        return np.asarray(self.spline(row + 0.5, column + 0.5, grid=False))

    def window(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Square metres of the pixels of a window: float64, `height × width`."""
        if self.spline is None:
            return np.full((height, width), self.constant)
        rows, columns = np.arange(row, row + height) + 0.5, np.arange(column, column + width) + 0.5
        return np.asarray(self.spline(rows, columns))


def metric_systems(grids: Sequence[Grid]) -> list[str]:
    """For each scene a system in metres, as WKT; one for all of them where one shows all true.

    Tried in this order: the scenes' own systems; the UTM zone of their middle; a Lambert azimuthal
    equal-area projection about their middle, whose scale is true to 1 % up to 1800 km from there; a
    polar stereographic projection that is true at their middle and turned as the first scene's rows
    are; an equal-area conic or cylindrical projection for belts along a parallel. Of those true to
    1 % the first is taken that is not turned against the scenes' rows, else the one turned least.

    If none is, and scenes lie more than 100 km from others, each group of scenes gets a system of
    its own. The first group's is as it is. The others' are moved by their false easting and
    northing, so that the middles of the groups lie as in an azimuthal equidistant projection about
    the first: extents and distances within a group are true, distances from the first group too,
    and those between other groups are never too short.

    Where not even one group can be shown true (a scene as large as a continent), the system with
    the smallest error is taken, and a note says how large that is.

    Raises:
        OutcropError: a local system that does not measure in metres, or local systems that differ;
            coordinates that lie nowhere on the earth.
    """
    if any(_is_local(grid.crs) for grid in grids):
        return [_local(grids)] * len(grids)
    views = [_View(grid) for grid in grids]
    found = _one_for_all(views)
    groups = _groups(views)
    if len(groups) == 1 or (found.error <= MOST_ERROR and found.turn <= _ASKEW):
        _say_error(found, views)
        return [found.crs] * len(grids)
    systems = [""] * len(grids)
    first = [views[i] for i in groups[0]]
    for group in groups:
        mine = [views[i] for i in group]
        found = _one_for_all(mine)
        _say_error(found, mine)
        crs = found.crs if group is groups[0] else _beside(mine, found.crs, first, systems[0])
        for i in group:
            systems[i] = crs
    return systems


def system_beside(grid: Grid, others: Sequence[Grid], systems: Sequence[str]) -> str:
    """A system for one more scene, so that its distances from scenes that have systems are true.

    Args:
        others: the scenes that have `systems`, one each.

    Returns:
        One of `systems` if its scale is true to 1 % on the scene, else one placed as
        `metric_systems` places groups.
    """
    if grid.crs in systems or _is_local(grid.crs):
        return grid.crs
    view = _View(grid)
    errors = {crs: _scale_error(crs, view.lon, view.lat) for crs in dict.fromkeys(systems)}
    best = min(errors, key=lambda crs: errors[crs])
    if errors[best] <= MOST_ERROR:
        return best
    first = [_View(other) for other, crs in zip(others, systems, strict=True) if crs == systems[0]]
    return _beside([view], _one_for_all([view]).crs, first, systems[0])


def pixel_areas(grid: Grid) -> PixelAreas:
    """The true areas of a grid's pixels, in any system.

    Where the system's own areas are true to 1 %, they are taken, and all pixels are equal. Else
    (degrees, Mercator, ...) areas are those on the ellipsoid, pixel by pixel.
    """
    from pyproj import CRS
    from scipy.interpolate import RectBivariateSpline

    assert grid.transform is not None
    a, b, _, d, e, _ = grid.transform
    size = abs(a * e - b * d)
    crs = CRS.from_wkt(grid.crs)
    if _is_local(grid.crs):
        return PixelAreas(size * _unit(crs) ** 2)
    try:
        view = _View(grid)
    except OutcropError:
        return PixelAreas(np.nan)
    if not crs.is_geographic:
        # Per square unit of the system, in square metres.
        true = _determinant(_jacobian(grid.crs, view.x, view.y, _STEP / _unit(crs)))
        off = np.abs(true / _unit(crs) ** 2 - 1)
        if np.isfinite(off).any() and np.nanmax(off) <= MOST_ERROR:
            return PixelAreas(size * _unit(crs) ** 2)
    rows, columns = (
        np.linspace(0.25, length - 0.25, max(4, min(_NODES, length)))
        for length in (grid.height, grid.width)
    )
    row, column = (z.ravel() for z in np.meshgrid(rows, columns, indexing="ij"))
    x, y = _at(grid.transform, row, column)
    true = _determinant(_jacobian(grid.crs, x, y, 0.01 * math.sqrt(size))) * size
    inside = np.isfinite(true)
    # A cubic would swing at the rim of the earth.
    degree = 3 if inside.all() else 1
    nodes = np.where(inside, true, 0).reshape(len(rows), len(columns))
    return PixelAreas(np.nan, RectBivariateSpline(rows, columns, nodes, kx=degree, ky=degree))


def geocentric(crs: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points in metres from the middle of the earth, so that chords are distances: `N × 3`.

    A chord is shorter than the geodesic by 0.1 % at 1000 km. Of a local system x and y in metres,
    and 0.
    """
    from pyproj import CRS

    if _is_local(crs):
        unit = _unit(CRS.from_wkt(crs))
        return np.stack([x * unit, y * unit, np.zeros(len(x))], axis=1)
    lon, lat = _lonlat(crs, x, y)
    return _earth_centred(crs, lon, lat)


class _View:
    """Points spread over a scene, in its own system and in degrees."""

    def __init__(self, grid: Grid) -> None:
        assert grid.transform is not None
        self.grid, self.crs = grid, grid.crs
        rows, columns = (
            np.linspace(0.005, 0.995, _LATTICE) * length for length in (grid.height, grid.width)
        )
        row, column = (z.ravel() for z in np.meshgrid(rows, columns, indexing="ij"))
        self.x, self.y = _at(grid.transform, row, column)
        lon, lat = _lonlat(grid.crs, self.x, self.y)
        on_earth = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90)
        if not on_earth.any():
            raise OutcropError(
                grid.name,
                "has coordinates that lie nowhere on the earth; correct its transform or its "
                "coordinate reference system",
            )
        self.lon, self.lat = lon[on_earth], lat[on_earth]
        self.x, self.y = self.x[on_earth], self.y[on_earth]

    @cached_property
    def middle(self) -> tuple[float, float]:
        """Longitude and latitude."""
        return _middle([self])

    @cached_property
    def radius(self) -> float:
        """Metres from the middle to the furthest point."""
        lon, lat = (np.full(len(self.lon), z) for z in self.middle)
        return float(np.max(_geod(self.crs).inv(lon, lat, self.lon, self.lat)[2]))

    @property
    def along_row(self) -> tuple[float, float]:
        """Step in x and y along a row."""
        assert self.grid.transform is not None
        return self.grid.transform[0], self.grid.transform[3]


@dataclass(frozen=True)
class _Candidate:
    """A system, the largest relative error of its lengths, and how askew scenes lie, in degrees."""

    crs: str
    error: float
    turn: float


def _one_for_all(views: Sequence[_View]) -> _Candidate:
    """The best of the systems that can be had for these scenes together."""
    from pyproj import CRS

    own = [crs for crs in dict.fromkeys(view.crs for view in views) if _in_metres(CRS(crs))]
    tried = []
    for crs in (*own, *_utm(views), _azimuthal(views), _aligned(views), _belt(views)):
        error = max(max(_scale_error(crs, v.lon, v.lat) for v in views), _between(crs, views))
        candidate = _Candidate(crs, error, max(_turn(crs, view) for view in views))
        if error <= MOST_ERROR and candidate.turn <= _STRAIGHT:
            return candidate
        tried.append(candidate)
    true = [one for one in tried if one.error <= MOST_ERROR]
    return min(true, key=lambda one: one.turn) if true else min(tried, key=lambda one: one.error)


def _groups(views: Sequence[_View]) -> list[list[int]]:
    """Scenes less than 100 km apart, directly or through others, belong together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(views)
    one, other = np.triu_indices(n, 1)
    radius = np.array([view.radius for view in views])
    near = _geodesic(views, one, other) - radius[one] - radius[other] < _APART
    graph = coo_array((np.ones(near.sum()), (one[near], other[near])), shape=(n, n))
    number = connected_components(graph, directed=False)[1]
    first = list(dict.fromkeys(number.tolist()))
    return [np.flatnonzero(number == k).tolist() for k in first]


def _beside(mine: Sequence[_View], crs: str, first: Sequence[_View], first_crs: str) -> str:
    """`crs`, moved so that scenes lie at their true distance and bearing from the first group."""
    here, there = _middle(first), _middle(mine)
    bearing, _, distance = _geod(first_crs).inv(*here, *there)
    from_x, from_y = _project(first_crs, *here)
    to_x = from_x + distance * math.sin(math.radians(bearing))
    to_y = from_y + distance * math.cos(math.radians(bearing))
    moved = _moved(crs, there, to_x, to_y) if _can_move(crs) else crs
    if math.dist(_project(moved, *there), (to_x, to_y)) < 2:
        return moved
    # A projection without a false easting, or whose axes run west or south.
    return _moved(_azimuthal(mine), there, to_x, to_y)


def _can_move(crs: str) -> bool:
    from pyproj import CRS

    return CRS.from_wkt(crs).to_json_dict()["type"] == "ProjectedCRS"


def _moved(crs: str, place: tuple[float, float], to_x: float, to_y: float) -> str:
    """The same projection with the false easting and northing that bring a place to x and y."""
    from pyproj import CRS

    x, y = _project(crs, *place)
    content = CRS.from_wkt(crs).to_json_dict()
    content.pop("id", None)
    content["name"] += ", moved"
    for parameter in content["conversion"]["parameters"]:
        if parameter["name"].startswith(("False easting", "Easting at")):
            parameter["value"] += round(to_x - x)
        if parameter["name"].startswith(("False northing", "Northing at")):
            parameter["value"] += round(to_y - y)
    return str(CRS.from_json_dict(content).to_wkt())


def _say_error(found: _Candidate, views: Sequence[_View]) -> None:
    if found.error > MOST_ERROR:
        off = f"up to {found.error:.1%}" if found.error < 10 else "far"
        tell(
            f"{views[0].grid.name}: lies over so much of the earth that no system shows it true: "
            f"distances are {off} off"
        )


def _utm(views: Sequence[_View]) -> list[str]:
    from pyproj import CRS

    lon, lat = _middle(views)
    if not _is_earth(views[0].crs) or not -80 <= lat <= 84:
        return []
    zone = int((lon + 180) % 360 // 6) + 1
    return [str(CRS.from_epsg((32600 if lat >= 0 else 32700) + zone).to_wkt())]


def _azimuthal(views: Sequence[_View]) -> str:
    from pyproj.crs.coordinate_operation import LambertAzimuthalEqualAreaConversion

    lon, lat = (round(z, 2) for z in _middle(views))
    name = f"Lambert azimuthal equal area about {lat:g}, {lon:g}"
    return _projected(views, name, LambertAzimuthalEqualAreaConversion(lat, lon))


def _aligned(views: Sequence[_View]) -> str:
    """A projection in which the rows of the first scene run along the x axis."""
    from pyproj.crs.coordinate_operation import PolarStereographicBConversion

    # The projection of the northern or southern pole, also at the equator.
    lat = round(_middle(views)[1], 2) or 0.01
    view, middle = views[0], len(views[0].x) // 2
    x, y = view.x[middle], view.y[middle]
    ends = [
        _lonlat(view.crs, x + k * view.along_row[0], y + k * view.along_row[1]) for k in (-0.5, 0.5)
    ]
    row = _geod(view.crs).inv(*ends[0], *ends[1])[0]
    turned = float(np.nan_to_num(row)) - 90
    at = float(view.lon[middle])
    lon = round((at - math.copysign(1, lat) * turned + 180) % 360 - 180, 2)
    name = f"Polar stereographic, true at {lat:g}, along {lon:g}"
    return _projected(views, name, PolarStereographicBConversion(lat, lon))


def _belt(views: Sequence[_View]) -> str:
    """A projection for land along a parallel, or all around the earth."""
    from pyproj.crs.coordinate_operation import (
        AlbersEqualAreaConversion,
        LambertCylindricalEqualAreaConversion,
    )

    lon = round(_middle(views)[0], 2)
    low, high = (f([f(view.lat) for view in views]) for f in (np.min, np.max))
    south, north = (round(float(low + (high - low) * share), 2) for share in (1 / 6, 5 / 6))
    if abs(south + north) > 1:
        name = f"Albers equal area, {south:g} to {north:g}, about {lon:g}"
        return _projected(views, name, AlbersEqualAreaConversion(south, north, 0, lon))
    name = f"Cylindrical equal area, true at {north:g}, about {lon:g}"
    return _projected(views, name, LambertCylindricalEqualAreaConversion(north, lon))


def _projected(views: Sequence[_View], name: str, conversion: Any) -> str:
    from pyproj.crs import ProjectedCRS

    return str(ProjectedCRS(conversion, name=name, geodetic_crs=_degrees(views[0].crs)).to_wkt())


def _scale_error(crs: str, lon: np.ndarray, lat: np.ndarray) -> float:
    """The largest relative error of short lengths in `crs`, in any direction, at these points."""
    scale = np.linalg.svd(_finite(_jacobian(crs, *_project(crs, lon, lat), _STEP)))[1]
    return float(np.abs(1 / scale - 1).max()) if scale.size and scale.min() > 0 else math.inf


def _finite(matrices: np.ndarray) -> np.ndarray:
    """The matrices, or none if one is not finite."""
    return matrices if np.isfinite(matrices).all() else matrices[:0]


def _between(crs: str, views: Sequence[_View]) -> float:
    """The largest relative error of the distances between the middles of scenes."""
    one, other = np.triu_indices(len(views), 1)
    true = _geodesic(views, one, other)
    x, y = _project(crs, *np.array([view.middle for view in views]).T)
    with np.errstate(invalid="ignore"):  # of places that the system does not reach
        planar = np.hypot(x[one] - x[other], y[one] - y[other])
    far = true > _STEP
    off = np.abs(planar[far] / true[far] - 1)
    return float(np.nan_to_num(off, nan=math.inf).max(initial=0.0))


def _geodesic(views: Sequence[_View], one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lon, lat = np.array([view.middle for view in views]).T
    return np.asarray(_geod(views[0].crs).inv(lon[one], lat[one], lon[other], lat[other])[2])


def _turn(crs: str, view: _View) -> float:
    """The largest angle in degrees, up to 45, between the scene's rows or columns and the axes.

    Rows of a scene whose transform is turned are askew in every system: 0 in its own.
    """
    if crs == view.crs:
        return 0.0
    step = np.array(view.along_row)
    to = _transformer(view.crs, crs)
    start = to.transform(view.x, view.y)
    end = to.transform(view.x + step[0], view.y + step[1])
    with np.errstate(invalid="ignore"):
        x, y = np.subtract(end, start)
    angle = np.degrees(np.arctan2(y, x)) % 90
    off = np.minimum(angle, 90 - angle)
    return float(np.nan_to_num(off, nan=45.0).max())


def _jacobian(crs: str, x: np.ndarray, y: np.ndarray, step: float) -> np.ndarray:
    """Metres to the east and north for a unit of x and of y: `N × 2 × 2`, NaN off the earth."""
    geod, middle = _geod(crs), _lonlat(crs, x, y)
    sides = []
    for dx, dy in ((step, 0.0), (0.0, step)):
        ends = []
        for sign in (1, -1):
            lon, lat = _lonlat(crs, x + sign * dx, y + sign * dy)
            azimuth, _, length = geod.inv(*middle, lon, lat)
            azimuth = np.radians(azimuth)
            ends.append(length * np.stack([np.sin(azimuth), np.cos(azimuth)]))
        sides.append((ends[0] - ends[1]) / (2 * step))
    return np.stack(sides, axis=-1).transpose(1, 0, 2)


def _determinant(matrices: np.ndarray) -> np.ndarray:
    (a, b), (c, d) = matrices.transpose(1, 2, 0)
    return np.asarray(np.abs(a * d - b * c))


def _middle(views: Sequence[_View]) -> tuple[float, float]:
    """Longitude and latitude of the middle of scenes."""
    points = np.mean([_earth_centred(v.crs, v.lon, v.lat).mean(axis=0) for v in views], axis=0)
    lon = math.degrees(math.atan2(points[1], points[0]))
    flat = (1 - _geod(views[0].crs).es) * math.hypot(points[0], points[1])
    return lon, math.degrees(math.atan2(points[2], flat))


def _earth_centred(crs: str, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    geod = _geod(crs)
    lon, lat = np.radians(lon), np.radians(lat)
    normal = geod.a / np.sqrt(1 - geod.es * np.sin(lat) ** 2)
    return np.stack(
        [
            normal * np.cos(lat) * np.cos(lon),
            normal * np.cos(lat) * np.sin(lon),
            normal * (1 - geod.es) * np.sin(lat),
        ],
        axis=-1,
    )


def _at(transform: Sequence[float], row: Any, column: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d, e, f = transform
    return a * column + b * row + c, d * column + e * row + f


def _lonlat(crs: str, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    lon, lat = _transformer(crs, _degrees(crs)).transform(x, y)
    gone = ~(np.isfinite(lon) & np.isfinite(lat)) | (np.abs(lat) > 90)
    return np.where(gone, np.nan, lon), np.where(gone, np.nan, lat)


def _project(crs: str, lon: Any, lat: Any) -> tuple[Any, Any]:
    x, y = _transformer(_degrees(crs), crs).transform(lon, lat)
    return x, y


@lru_cache(maxsize=256)
def _transformer(crs: str, other: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(crs, other, always_xy=True)


@lru_cache(maxsize=256)
def _degrees(crs: str) -> str:
    """The geographic system that positions are compared in."""
    from pyproj import CRS

    if _is_earth(crs):
        return str(CRS.from_epsg(4326).to_wkt())
    return str(CRS.from_wkt(crs).geodetic_crs.to_wkt())


@lru_cache(maxsize=256)
def _geod(crs: str) -> Any:
    """The ellipsoid: of the earth always WGS 84, for a system on a sphere measures that too."""
    from pyproj import CRS, Geod

    return Geod(ellps="WGS84") if _is_earth(crs) else CRS.from_wkt(crs).get_geod()


@lru_cache(maxsize=256)
def _is_earth(crs: str) -> bool:
    from pyproj import CRS

    geod = CRS.from_wkt(crs).get_geod()
    return geod is None or abs(geod.a / _EARTH - 1) < 0.005


@lru_cache(maxsize=256)
def _is_local(crs: str) -> bool:
    """Whether a system has no place on the earth: lengths in it are what they are."""
    from pyproj import CRS

    return CRS.from_wkt(crs).geodetic_crs is None


def _in_metres(crs: Any) -> bool:
    return bool(crs.is_projected) and _unit(crs) == 1


def _unit(crs: Any) -> float:
    """Metres for a unit of the system; NaN where its two axes differ."""
    factors = {axis.unit_conversion_factor for axis in crs.axis_info[:2]}
    return float(factors.pop()) if len(factors) == 1 else math.nan


def _local(grids: Sequence[Grid]) -> str:
    from pyproj import CRS

    crs = CRS.from_wkt(grids[0].crs)
    for grid in grids:
        if CRS.from_wkt(grid.crs) != crs:
            raise OutcropError(
                grid.name,
                f"has another coordinate reference system than {grids[0].name}, and a local one has"
                " no place on the earth; give both the same",
            )
    if _unit(crs) != 1:
        raise OutcropError(
            grids[0].name,
            f"has a local coordinate reference system ({crs.name}) that does not measure in "
            "metres; write one in metres into it, or reproject it",
        )
    return grids[0].crs
