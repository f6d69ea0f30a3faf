"""The meridian at which the coordinates of a system begin anew, where 180° is also -180°.

Longitudes are written in several ways: from -180 to 180, from 0 to 360, or past 180 by a scene that
crosses it. So are the x of cylindrical projections such as Mercator. Two that differ by the period
of the system are the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

_TURNS = (-2, -1, 0, 1, 2)
_LATTICE = 33


@lru_cache(maxsize=256)
def period(crs: str) -> float | None:
    """The length of a turn around the earth in x of a system; None where x does not begin anew."""
    from pyproj import CRS, Transformer

    system = CRS.from_wkt(crs)
    if system.is_geographic:
        return round(2 * np.pi / system.axis_info[0].unit_conversion_factor, 9)
    if not system.is_projected:
        return None
    # Cylindrical: x of a longitude is the same on every parallel.
    way = Transformer.from_crs(system.geodetic_crs, system, always_xy=True)
    half = period(system.geodetic_crs.to_wkt())
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


def nearest_turn(x: np.ndarray, middle: float, crs: str) -> np.ndarray:
    """x of places, each written so that it lies within half a turn of `middle`."""
    turn = period(crs)
    if turn is None:
        return x
    with np.errstate(invalid="ignore"):  # of places that the system does not reach
        return np.asarray(x - turn * np.round((x - middle) / turn))


def unwrapped(frame: Any, bounds: tuple[float, float, float, float]) -> Any:
    """Shapes as a scene with these bounds writes them, where its system has a period.

    Points move to the turn that the scene lies in. Of polygons there is a copy in every turn in
    which they touch the scene; the others stay as they are. A ring with an edge longer than half a
    turn crosses the meridian of the seam the short way, unless it spans the whole turn.

    Args:
        frame: a GeoDataFrame in the scene's system; its index tells which shape a copy is of.
        bounds: smallest x, smallest y, largest x and largest y of the scene.

    """
    import geopandas as gpd
    import shapely

    turn = period(frame.crs.to_wkt())
    if turn is None or frame.empty:
        return frame
    shapes = frame.geometry.to_numpy().copy()
    for i in np.flatnonzero(_torn(shapes, turn)):
        shapes[i] = _mended(shapes[i], turn)
    points = np.isin(shapely.get_type_id(shapes), (0, 4))
    middle = (bounds[0] + bounds[2]) / 2

    def nearest(at: np.ndarray) -> np.ndarray:
        return np.column_stack([nearest_turn(at[:, 0], middle, frame.crs.to_wkt()), at[:, 1]])

    shapes[points] = shapely.transform(shapes[points], nearest)
    left, low, right, high = shapely.bounds(shapes).T
    level = ~points & (low <= bounds[3]) & (high >= bounds[1])
    elsewhere = np.ones(len(shapes), bool)
    number, moved = [], []
    for k in _TURNS:
        here = level & (left + k * turn <= bounds[2]) & (right + k * turn >= bounds[0])
        elsewhere &= ~here
        number.append(np.flatnonzero(here))
        moved.append(shapely.transform(shapes[here], partial(np.add, (k * turn, 0))))
    at = np.concatenate([*number, np.flatnonzero(elsewhere)])
    order = np.argsort(at, kind="stable")
    geometry = np.concatenate([*moved, shapes[elsewhere]])[order]
    made = frame.iloc[at[order]].copy()
    made[frame.geometry.name] = gpd.array.from_shapely(geometry, crs=frame.crs)
    return made


def unsplit(frame: Any) -> int:
    """How many polygons have an edge longer than half a turn, without spanning the whole turn."""
    turn = period(frame.crs.to_wkt())
    return 0 if turn is None else int(_torn(frame.geometry.to_numpy(), turn).sum())


def _torn(shapes: np.ndarray, turn: float) -> np.ndarray:
    """Which shapes have an edge longer than half a turn and do not span the whole of it."""
    import shapely

    left, _, right, _ = shapely.bounds(shapes).T
    wide = (right - left > turn / 2) & (right - left < turn * (1 - 1e-9))
    polygons = np.isin(shapely.get_type_id(shapes), (3, 6))
    torn = np.zeros(len(shapes), bool)
    for i in np.flatnonzero(wide & polygons):
        torn[i] = any(
            (np.abs(np.diff(shapely.get_coordinates(ring)[:, 0])) > turn / 2).any()
            for part in shapely.get_parts(shapes[i])
            for ring in (part.exterior, *part.interiors)
        )
    return torn


def _mended(shape: Any, turn: float) -> Any:
    """A shape whose rings go the short way along every edge."""
    import shapely

    parts = []
    for part in shapely.get_parts(shape):
        rings = [shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)]
        for ring in rings:
            ring[:, 0] = np.unwrap(ring[:, 0], period=turn)
            ring[:, 0] += turn * np.round((rings[0][0, 0] - ring[0, 0]) / turn)
        parts.append(shapely.Polygon(rings[0], rings[1:]))
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def turns_within(
    bounds: tuple[float, float, float, float],
    own_crs: str,
    crs: str,
    transform: Sequence[float],
    height: int,
    width: int,
) -> list[float]:
    """By how much x of a raster has to be moved to lie where a grid needs it.

    Args:
        bounds: left, bottom, right and top of the raster, in `own_crs`.
        crs, transform, height, width: of the grid.

    Returns:
        One length for each turn in which the grid meets the raster; 0 alone if there is none.
    """
    from pyproj import Transformer

    turn = period(own_crs)
    if turn is None:
        return [0.0]
    row, column = np.meshgrid(
        *(np.linspace(0, length, _LATTICE) for length in (height, width)), indexing="ij"
    )
    a, b, c, d, e, f = transform[:6]
    x, y = a * column + b * row + c, d * column + e * row + f
    if crs != own_crs:
        x, _ = Transformer.from_crs(crs, own_crs, always_xy=True).transform(x, y)
    x = x[np.isfinite(x)]
    if not len(x):
        return [0.0]
    # Between points of the lattice the grid may reach a little further.
    margin = 2 * turn / _LATTICE**2 + np.ptp(np.mod(x - x[0] + turn / 2, turn)) / (_LATTICE - 1)
    left, right = min(bounds[0], bounds[2]) - margin, max(bounds[0], bounds[2]) + margin
    turns = [k * turn for k in _TURNS if ((x >= left + k * turn) & (x <= right + k * turn)).any()]
    return turns or [0.0]
