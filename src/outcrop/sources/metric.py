"""Coordinate reference systems in metres whose scale error on the scenes is at most 1 %.

Distances are computed in such a system. The scale error, in any direction and anywhere on the
scenes, is measured: short steps in the system are compared with geodesics on the ellipsoid
(`outcrop.sources.geodesy`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import warn
from outcrop.sources.geodesy import (
    MAX_SCALE_ERROR,
    STEP,
    GridLike,
    GroundPoints,
    centre_lonlat,
    ellipsoid,
    from_lonlat,
    geographic_crs,
    is_earth,
    is_local,
    jacobian,
    metres_per_unit,
    to_lonlat,
)
from outcrop.sources.grids import transformer

_GROUP_DISTANCE = 100_000.0
# Angles in degrees between the rows of a scene and the x axis of a system. The bounding boxes of
# patches become wider by the sine: 0.7 % and 3 %.
_NOT_ROTATED, _MAX_ROTATION = 0.4, 1.7
# No projection stretches the distances of a scene so much; one whose edge lies in the scene does.
_TORN = 4.0


def metric_systems(grids: Sequence[GridLike]) -> list[str]:
    """A coordinate reference system in metres per scene; one for all if it is accurate enough.

    These systems are tried in turn: the scenes' own; the UTM zone of their centre; a Lambert
    azimuthal equal-area projection about their centre, whose scale error is at most 1 % up to 1800
    km from there; a polar stereographic projection that is true to scale at their centre and
    rotated to the rows of the first scene; an equal-area conic or cylindrical projection for scenes
    along a parallel. Of the systems with a scale error of at most 1 %, the first is used that is
    not rotated against the rows of the scenes; if there is none, the one with the smallest
    rotation.

    If no system is accurate enough and some scenes are more than 100 km from the others, each group
    of scenes has its own system. The system of the first group is unchanged. The others have
    another false easting and northing, so that the centres of the groups are at their places in an
    azimuthal equidistant projection about the first. Extents and distances within a group and
    distances from the first group are true; distances between other groups are never too short.

    If even a single group has no accurate system (a scene as large as a continent), the system with
    the smallest error is used and its error is printed.

    Returns:
        the systems as WKT, one per scene.

    Raises:
        OutcropError: a local CRS is not in metres, or scenes have different local CRSs; the
            coordinates of a scene are not on the earth.
    """
    if any(is_local(grid.crs) for grid in grids):
        return [_local(grids)] * len(grids)
    views = [GroundPoints(grid) for grid in grids]
    found = _common_system(views)
    groups = _groups(views)
    if len(groups) == 1 or (found.error <= MAX_SCALE_ERROR and found.rotation <= _MAX_ROTATION):
        _note_error(found, views)
        return [found.crs] * len(grids)
    systems = [""] * len(grids)
    first = [views[i] for i in groups[0]]
    for group in groups:
        mine = [views[i] for i in group]
        found = _common_system(mine)
        _note_error(found, mine)
        crs = found.crs
        if group is not groups[0]:
            crs = _shift_to_bearing(mine, crs, first, systems[0])
        for i in group:
            systems[i] = crs
    return systems


def metric_system_near(grid: GridLike, others: Sequence[GridLike], systems: Sequence[str]) -> str:
    """A CRS in metres for a further scene, in which distances from scenes with a CRS are true.

    Args:
        grid: the further scene.
        others, systems: the scenes that have a CRS in metres, and these as WKT.

    Returns:
        one of `systems` if its scale error on the scene is at most 1 %; otherwise a system that is
        shifted as in `metric_systems`.
    """
    if grid.crs in systems or is_local(grid.crs):
        return grid.crs
    view = GroundPoints(grid)
    errors = {crs: _scale_error(crs, view) for crs in dict.fromkeys(systems)}
    best = min(errors, key=lambda crs: errors[crs])
    if errors[best] <= MAX_SCALE_ERROR:
        return best
    first = [
        GroundPoints(other) for other, crs in zip(others, systems, strict=True) if crs == systems[0]
    ]
    return _shift_to_bearing([view], _common_system([view]).crs, first, systems[0])


@dataclass(frozen=True)
class _Candidate:
    """A CRS with its largest relative scale error and the rotation of scenes in it, in degrees."""

    crs: str
    error: float
    rotation: float


def _common_system(views: Sequence[GroundPoints]) -> _Candidate:
    """The best single CRS for some scenes."""
    from pyproj import CRS

    systems = {view.crs: CRS(view.crs) for view in views}
    own = [crs for crs, one in systems.items() if one.is_projected and metres_per_unit(one) == 1]
    made = _azimuthal(views), _aligned_stereographic(views), _along_parallel(views)
    tried = []
    for crs in (*own, *_utm(views), *made):
        error = max(*(_scale_error(crs, view) for view in views), _distance_error(crs, views))
        candidate = _Candidate(crs, error, max(_rotation(crs, view) for view in views))
        if error <= MAX_SCALE_ERROR and candidate.rotation <= _NOT_ROTATED:
            return candidate
        tried.append(candidate)
    if true := [one for one in tried if one.error <= MAX_SCALE_ERROR]:
        return min(true, key=lambda one: one.rotation)
    return min(tried, key=lambda one: one.error)


def _groups(views: Sequence[GroundPoints]) -> list[list[int]]:
    """Indices of scenes by group: scenes less than 100 km apart, directly or in a chain."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(views)
    one, other = np.triu_indices(n, 1)
    radius = np.array([view.radius for view in views])
    near = _geodesic(views, one, other) - radius[one] - radius[other] < _GROUP_DISTANCE
    graph = coo_array((np.ones(near.sum()), (one[near], other[near])), shape=(n, n))
    number = connected_components(graph, directed=False)[1]
    first = list(dict.fromkeys(number.tolist()))
    return [np.flatnonzero(number == k).tolist() for k in first]


def _shift_to_bearing(
    mine: Sequence[GroundPoints], crs: str, first: Sequence[GroundPoints], first_crs: str
) -> str:
    """Shift a CRS so that scenes have their true distance and bearing from the first group."""
    from pyproj import CRS

    here, there = centre_lonlat(first), centre_lonlat(mine)
    bearing, _, distance = ellipsoid(first_crs).inv(*here, *there)
    from_x, from_y = from_lonlat(first_crs, *here)
    to_x = from_x + distance * math.sin(math.radians(bearing))
    to_y = from_y + distance * math.cos(math.radians(bearing))
    has_false_origin = CRS.from_wkt(crs).to_json_dict()["type"] == "ProjectedCRS"
    moved = _with_origin(crs, there, to_x, to_y) if has_false_origin else crs
    reached = math.dist(from_lonlat(moved, *there), (to_x, to_y)) < 2
    if reached and all(_scale_error(moved, view) < math.inf for view in mine):
        return moved
    # The projection has no false easting, its axes point west or south, or its edge cuts a scene.
    return _with_origin(_azimuthal(mine), there, to_x, to_y)


def _with_origin(crs: str, place: tuple[float, float], to_x: float, to_y: float) -> str:
    """Change false easting and northing of a projection so that a place has the given x and y."""
    from pyproj import CRS

    x, y = from_lonlat(crs, *place)
    content = CRS.from_wkt(crs).to_json_dict()
    content.pop("id", None)
    content["name"] += ", moved"
    for parameter in content["conversion"]["parameters"]:
        if parameter["name"].startswith(("False easting", "Easting at")):
            parameter["value"] += round(to_x - x)
        if parameter["name"].startswith(("False northing", "Northing at")):
            parameter["value"] += round(to_y - y)
    return str(CRS.from_json_dict(content).to_wkt())


def _note_error(found: _Candidate, views: Sequence[GroundPoints]) -> None:
    if found.error > MAX_SCALE_ERROR:
        off = f"up to {100 * found.error:.1f} %" if found.error < 10 else "more than 1000 %"
        warn(
            f"{views[0].grid.name} is so large that no projection is accurate on all of it: "
            f"distances have errors of {off}"
        )


def _utm(views: Sequence[GroundPoints]) -> list[str]:
    from pyproj import CRS

    lon, lat = centre_lonlat(views)
    if not is_earth(views[0].crs) or not -80 <= lat <= 84:
        return []
    zone = int((lon + 180) % 360 // 6) + 1
    return [str(CRS.from_epsg((32600 if lat >= 0 else 32700) + zone).to_wkt())]


def _azimuthal(views: Sequence[GroundPoints]) -> str:
    from pyproj.crs.coordinate_operation import LambertAzimuthalEqualAreaConversion

    lon, lat = (round(z, 2) for z in centre_lonlat(views))
    name = f"Lambert azimuthal equal area about {lat:g}, {lon:g}"
    return _projected(views, name, LambertAzimuthalEqualAreaConversion(lat, lon))


def _aligned_stereographic(views: Sequence[GroundPoints]) -> str:
    """A projection in which the rows of the first scene are parallel to the x axis."""
    from pyproj.crs.coordinate_operation import PolarStereographicBConversion

    # At the equator too the projection needs a pole.
    lat = round(centre_lonlat(views)[1], 2) or 0.01
    view, middle = views[0], len(views[0].x) // 2
    x, y = view.x[middle], view.y[middle]
    ends = [
        to_lonlat(view.crs, x + k * view.along_row[0], y + k * view.along_row[1])
        for k in (-0.5, 0.5)
    ]
    row = ellipsoid(view.crs).inv(*ends[0], *ends[1])[0]
    turned = float(np.nan_to_num(row)) - 90
    at = float(view.lon[middle])
    lon = round((at - math.copysign(1, lat) * turned + 180) % 360 - 180, 2)
    name = f"Polar stereographic, true at {lat:g}, along {lon:g}"
    return _projected(views, name, PolarStereographicBConversion(lat, lon))


def _along_parallel(views: Sequence[GroundPoints]) -> str:
    """An equal-area projection for scenes along a parallel or around the earth."""
    from pyproj.crs.coordinate_operation import (
        AlbersEqualAreaConversion,
        LambertCylindricalEqualAreaConversion,
    )

    lon = round(centre_lonlat(views)[0], 2)
    low, high = (f([f(view.lat) for view in views]) for f in (np.min, np.max))
    south, north = (round(float(low + (high - low) * share), 2) for share in (1 / 6, 5 / 6))
    if abs(south + north) > 1:
        name = f"Albers equal area, {south:g} to {north:g}, about {lon:g}"
        return _projected(views, name, AlbersEqualAreaConversion(south, north, 0, lon))
    name = f"Cylindrical equal area, true at {north:g}, about {lon:g}"
    return _projected(views, name, LambertCylindricalEqualAreaConversion(north, lon))


def _projected(views: Sequence[GroundPoints], name: str, conversion: Any) -> str:
    from pyproj.crs import ProjectedCRS

    geographic = geographic_crs(views[0].crs)
    return str(ProjectedCRS(conversion, name=name, geodetic_crs=geographic).to_wkt())


def _scale_error(crs: str, view: GroundPoints) -> float:
    """The largest relative error of short lengths in a CRS, in any direction, on a scene.

    Infinite if the edge of the projection, such as the meridian of 180°, lies in the scene: its
    parts would be tens of thousands of kilometres apart.
    """
    x, y = from_lonlat(crs, view.lon, view.lat)
    if crs != view.crs:  # otherwise nothing is projected
        first = np.zeros(len(x), int)
        true = ellipsoid(view.crs).inv(view.lon[first], view.lat[first], view.lon, view.lat)[2]
        with np.errstate(invalid="ignore"):
            apart = np.hypot(x - x[0], y - y[0])
        if not apart.max() <= _TORN * max(np.max(true), STEP):
            return math.inf
    matrices = jacobian(crs, x, y, STEP)
    if not np.isfinite(matrices).all():
        return math.inf
    scale = np.linalg.svd(matrices)[1]
    return float(np.abs(1 / scale - 1).max()) if scale.min() > 0 else math.inf


def _distance_error(crs: str, views: Sequence[GroundPoints]) -> float:
    """The largest relative error of the distances between the centres of scenes."""
    one, other = np.triu_indices(len(views), 1)
    true = _geodesic(views, one, other)
    x, y = from_lonlat(crs, *np.array([view.middle for view in views]).T)
    with np.errstate(invalid="ignore"):  # coordinates outside the domain are infinite
        planar = np.hypot(x[one] - x[other], y[one] - y[other])
    far = true > STEP
    off = np.abs(planar[far] / true[far] - 1)
    return float(np.nan_to_num(off, nan=math.inf).max(initial=0.0))


def _geodesic(views: Sequence[GroundPoints], one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lon, lat = np.array([view.middle for view in views]).T
    return np.asarray(ellipsoid(views[0].crs).inv(lon[one], lat[one], lon[other], lat[other])[2])


def _rotation(crs: str, view: GroundPoints) -> float:
    """The largest angle in degrees, up to 45, between rows or columns of a scene and the axes.

    The angle is 0 in the CRS of the scene, also if its transform is rotated.
    """
    if crs == view.crs:
        return 0.0
    step = np.array(view.along_row)
    to = transformer(view.crs, crs)
    start = to.transform(view.x, view.y)
    end = to.transform(view.x + step[0], view.y + step[1])
    with np.errstate(invalid="ignore"):
        x, y = np.subtract(end, start)
    angle = np.degrees(np.arctan2(y, x)) % 90
    off = np.minimum(angle, 90 - angle)
    return float(np.nan_to_num(off, nan=45.0).max())


def _local(grids: Sequence[GridLike]) -> str:
    from pyproj import CRS

    crs = CRS.from_wkt(grids[0].crs)
    for grid in grids:
        if CRS.from_wkt(grid.crs) != crs:
            raise OutcropError(
                grid.name,
                f"has another coordinate reference system than {grids[0].name}, and a local system "
                "cannot be transformed; write the same system into both",
            )
    if metres_per_unit(crs) != 1:
        raise OutcropError(
            grids[0].name,
            f"has a local coordinate reference system ({crs.name}) that is not in metres; "
            "write one in metres into the file, or reproject it",
        )
    return grids[0].crs
