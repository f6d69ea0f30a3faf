"""Coordinates on both sides of the antimeridian, where 180° and -180° are the same place.

Longitudes have several conventions: from -180 to 180, from 0 to 360, or beyond 180 in a scene that
crosses the antimeridian. The same holds for x in cylindrical projections such as Mercator. Two
values of x that differ by the period of the system are the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from outcrop.sources.grids import grid_xy, transformer

_PERIODS = (-2, -1, 0, 1, 2)
_LATTICE = 33


@lru_cache(maxsize=256)
def x_period(crs: str) -> float | None:
    """The difference in x after one revolution around the earth; None if x is not periodic.

    Args:
        crs: coordinate reference system as WKT.
    """
    from pyproj import CRS, Transformer

    system = CRS.from_wkt(crs)
    if system.is_geographic:
        return round(2 * np.pi / system.axis_info[0].unit_conversion_factor, 9)
    if not system.is_projected:
        return None
    # In a cylindrical projection x depends on the longitude alone.
    way = Transformer.from_crs(system.geodetic_crs, system, always_xy=True)
    half = x_period(system.geodetic_crs.to_wkt())
    assert half is not None
    half /= 2
    lon = np.linspace(-half, half, 73)[:-1]
    x = np.array([way.transform(lon, np.full(len(lon), lat))[0] for lat in (0.0, 0.2 * half)])
    if not np.isfinite(x).all():
        return None
    step = np.median(np.diff(x[0]))
    straight = np.isclose(np.diff(x, axis=1), step, rtol=1e-6).sum(axis=1) >= len(lon) - 2
    if not straight.all() or not np.allclose(x[0], x[1], rtol=0, atol=1e-6 * abs(step)):
        return None
    return float(abs(step) * len(lon))


def wrap_x(x: np.ndarray, centre: float, crs: str) -> np.ndarray:
    """Shift values of x by multiples of the period to within half a period of `centre`."""
    period = x_period(crs)
    if period is None:
        return x
    with np.errstate(invalid="ignore"):  # x is infinite outside the domain of the projection
        return np.asarray(x - period * np.round((x - centre) / period))


def unwrap(frame: Any, bounds: tuple[float, float, float, float]) -> Any:
    """Shift geometries by multiples of the period of x to the place of a scene.

    Points are shifted to the period of the scene. A polygon is copied to every period in which it
    touches the scene; a polygon that touches it in none is not shifted. An edge that is longer than
    half a period is taken to cross the antimeridian, unless its ring spans a whole period.

    Args:
        frame: GeoDataFrame in the CRS of the scene.
        bounds: smallest x, smallest y, largest x and largest y of the scene.

    Returns:
        a GeoDataFrame; a copy has the index of its original.
    """
    import geopandas as gpd
    import shapely

    period = x_period(frame.crs.to_wkt())
    if period is None or frame.empty:
        return frame
    shapes = frame.geometry.to_numpy().copy()
    for i in np.flatnonzero(_has_long_edge(shapes, period)):
        shapes[i] = _shorten_edges(shapes[i], period)
    points = np.isin(shapely.get_type_id(shapes), (0, 4))
    centre = (bounds[0] + bounds[2]) / 2

    def nearest(at: np.ndarray) -> np.ndarray:
        return np.column_stack([wrap_x(at[:, 0], centre, frame.crs.to_wkt()), at[:, 1]])

    shapes[points] = shapely.transform(shapes[points], nearest)
    left, low, right, high = shapely.bounds(shapes).T
    level = ~points & (low <= bounds[3]) & (high >= bounds[1])
    elsewhere = np.ones(len(shapes), bool)
    number, moved = [], []
    for k in _PERIODS:
        here = level & (left + k * period <= bounds[2]) & (right + k * period >= bounds[0])
        elsewhere &= ~here
        number.append(np.flatnonzero(here))
        moved.append(shapely.transform(shapes[here], partial(np.add, (k * period, 0))))
    at = np.concatenate([*number, np.flatnonzero(elsewhere)])
    order = np.argsort(at, kind="stable")
    geometry = np.concatenate([*moved, shapes[elsewhere]])[order]
    made = frame.iloc[at[order]].copy()
    made[frame.geometry.name] = gpd.array.from_shapely(geometry, crs=frame.crs)
    return made


def count_unsplit(frame: Any) -> int:
    """Number of polygons with an edge longer than half a period that do not span a whole period."""
    period = x_period(frame.crs.to_wkt())
    return 0 if period is None else int(_has_long_edge(frame.geometry.to_numpy(), period).sum())


def _has_long_edge(shapes: np.ndarray, period: float) -> np.ndarray:
    """Mask of the geometries with an edge longer than half a period and without a whole period."""
    import shapely

    left, _, right, _ = shapely.bounds(shapes).T
    wide = (right - left > period / 2) & (right - left < period * (1 - 1e-9))
    polygons = np.isin(shapely.get_type_id(shapes), (3, 6))
    torn = np.zeros(len(shapes), bool)
    for i in np.flatnonzero(wide & polygons):
        torn[i] = any(
            (np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])) > period / 2).any()
            for part in shapely.get_parts(shapes[i])
            for ring in (part.exterior, *part.interiors)
        )
    return torn


def _shorten_edges(shape: Any, period: float) -> Any:
    """The geometry with all edges shorter than half a period."""
    import shapely

    parts = []
    for part in shapely.get_parts(shape):
        rings = [shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)]
        for ring in rings:
            ring[:, 0] = np.unwrap(ring[:, 0], period=period)
            ring[:, 0] += period * np.round((rings[0][0, 0] - ring[0, 0]) / period)
        parts.append(shapely.Polygon(rings[0], rings[1:]))
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def x_shifts(
    bounds: tuple[float, float, float, float],
    own_crs: str,
    crs: str,
    transform: Sequence[float],
    height: int,
    width: int,
) -> list[float]:
    """Shifts of x at which a raster overlaps a grid.

    Args:
        bounds: left, bottom, right and top of the raster, in `own_crs`.
        crs, transform, height, width: CRS, affine map and size of the grid.

    Returns:
        multiples of the period; `[0.0]` if the raster and the grid do not overlap.
    """
    period = x_period(own_crs)
    if period is None:
        return [0.0]
    row, column = np.meshgrid(
        *(np.linspace(0, length, _LATTICE) for length in (height, width)), indexing="ij"
    )
    x, y = grid_xy(transform[:6], row, column)
    if crs != own_crs:
        x, _ = transformer(crs, own_crs).transform(x, y)
    x = x[np.isfinite(x)]
    if not len(x):
        return [0.0]
    # The grid may extend a little beyond the lattice points.
    span = np.ptp(np.mod(x - x[0] + period / 2, period))
    margin = 2 * period / _LATTICE**2 + span / (_LATTICE - 1)
    left, right = min(bounds[0], bounds[2]) - margin, max(bounds[0], bounds[2]) + margin
    shifts = [
        k * period for k in _PERIODS if ((x >= left + k * period) & (x <= right + k * period)).any()
    ]
    return shifts or [0.0]
