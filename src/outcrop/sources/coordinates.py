"""Tables without geometries: points from coordinate columns, or geometries from a text column."""

from __future__ import annotations

from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import warn
from outcrop.sources.grids import parse_crs

_DEGREES = (
    ("lon", "lat"),
    ("longitude", "latitude"),
    ("long", "lat"),
    ("lng", "lat"),
    ("decimallongitude", "decimallatitude"),
)
_LENGTHS = (
    ("x", "y"),
    ("easting", "northing"),
    ("eastings", "northings"),
    ("east", "north"),
    ("e", "n"),
    ("x_coord", "y_coord"),
    ("xcoord", "ycoord"),
    ("coord_x", "coord_y"),
    ("point_x", "point_y"),
    ("utm_x", "utm_y"),
    ("utm_e", "utm_n"),
    ("utm_easting", "utm_northing"),
)
_GEOMETRIES = ("wkt", "geom", "geometry", "the_geom", "wkb_geometry", "wkb", ".geo", "geojson")
_DECIMAL_COMMA = r"[+-]?\d+,\d+"


def place_rows(name: str, frame: Any, crs: str | None) -> Any:
    """Convert a table to a GeoDataFrame with the columns that hold coordinates or geometries.

    Columns are recognised by name, in upper or lower case: lon and lat, x and y, easting and
    northing and similar names; or wkt, geom or geometry with WKT, WKB or GeoJSON. The columns that
    are used are printed. A row with an empty coordinate has no geometry.

    Args:
        crs: coordinate reference system. Without it, degrees and GeoJSON are in EPSG:4326.

    Returns:
        a GeoDataFrame. Its CRS is None if `crs` is None and the table does not declare one.

    Raises:
        OutcropError: there are no such columns; a coordinate is not a number, or is outside the
            range of longitude or latitude.
    """
    columns = {str(column).strip().casefold(): column for column in frame.columns}
    text = next((columns[one] for one in _GEOMETRIES if one in columns), None)
    if text is not None:
        return _from_geometries(name, frame, text)
    degrees, lengths = (
        next(([columns[x], columns[y]] for x, y in pairs if {x, y} <= columns.keys()), None)
        for pairs in (_DEGREES, _LENGTHS)
    )
    if degrees and not (lengths and _is_projected(crs)):
        return _from_degrees(name, frame, degrees, crs)
    if lengths:
        return _from_lengths(name, frame, lengths, crs)
    have = ", ".join(map(str, frame.columns)) or "none"
    raise OutcropError(
        name,
        f"has no geometry and no coordinate columns (it has {have}); name the columns lon and lat, "
        "x and y, easting and northing, or wkt",
    )


def _from_degrees(name: str, frame: Any, columns: list[Any], crs: str | None) -> Any:
    if _is_projected(crs):
        raise OutcropError(
            "`labels_crs`",
            f"'{crs}' is not in degrees, but {name} has the columns {columns[0]} and {columns[1]}; "
            "leave the option out, or name the columns x and y",
        )
    lon, lat = (_numbers(name, frame, column) for column in columns)
    for column, values, least, most in ((columns[0], lon, -180, 360), (columns[1], lat, -90, 90)):
        beyond = (values < least) | (values > most)
        if beyond.any():
            raise OutcropError(
                name,
                f"has the value {values[beyond][0]:g} in column {column}, which is not in degrees; "
                "name the columns x and y and pass `labels_crs`",
            )
    assumed = "" if crs else ", assumed in EPSG:4326; `labels_crs` sets another system"
    warn(f"{name}: points from the columns {columns[0]} and {columns[1]}{assumed}")
    return _points(frame, lon, lat, parse_crs(crs or "EPSG:4326", "`labels_crs`"))


def _from_lengths(name: str, frame: Any, columns: list[Any], crs: str | None) -> Any:
    if crs is None:
        raise OutcropError(
            name,
            f"has the columns {columns[0]} and {columns[1]} but no coordinate reference system; "
            "pass `labels_crs`, e.g. EPSG:32648",
        )
    x, y = (_numbers(name, frame, column) for column in columns)
    warn(f"{name}: points from the columns {columns[0]} and {columns[1]}")
    return _points(frame, x, y, parse_crs(crs, "`labels_crs`"))


def _points(frame: Any, x: np.ndarray, y: np.ndarray, crs: str) -> Any:
    import geopandas as gpd

    known = np.isfinite(x) & np.isfinite(y)
    points = np.full(len(frame), None, object)
    points[known] = gpd.points_from_xy(x[known], y[known])
    return gpd.GeoDataFrame(frame, geometry=points, crs=crs)


def _from_geometries(name: str, frame: Any, column: Any) -> Any:
    import geopandas as gpd
    import shapely

    values = frame[column]
    parsed = np.full(len(frame), None, object)
    srids, lonlat = set(), False
    for i, value in enumerate(values):
        if value is None or value != value or value in ("", b""):
            continue
        try:
            if isinstance(value, str) and value.lstrip().startswith("{"):
                parsed[i], lonlat = shapely.from_geojson(value), True
            elif isinstance(value, str) and not _is_hexadecimal(value):
                srid, _, rest = value.rpartition(";")
                parsed[i] = shapely.from_wkt(rest)
                if srid.strip().upper().startswith("SRID="):
                    srids.add(int(srid.strip()[5:]))
            else:
                parsed[i] = shapely.from_wkb(value)
                srids.add(int(shapely.get_srid(parsed[i])))
        except (shapely.errors.ShapelyError, TypeError, ValueError):
            raise OutcropError(
                name,
                f"row {i + 1} has no valid geometry in column '{column}' ('{str(value)[:40]}'); "
                "write WKT, WKB or GeoJSON",
            ) from None
    srids.discard(0)
    if len(srids) > 1:
        raise OutcropError(
            name, f"has geometries in several systems (SRID {sorted(srids)}); use one system"
        )
    crs = f"EPSG:{srids.pop()}" if srids else "EPSG:4326" if lonlat else None
    warn(f"{name}: geometries from the column {column}{f', in {crs}' if crs else ''}")
    rest = frame.drop(columns=[column])
    return gpd.GeoDataFrame(rest, geometry=parsed, crs=crs and parse_crs(crs, name))


def _numbers(name: str, frame: Any, column: Any) -> np.ndarray:
    """A column of coordinates as float64, NaN where it is empty; a decimal comma is accepted."""
    import pandas as pd

    values = frame[column]
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(np.float64, na_value=np.nan)
    text = values.astype("string").str.strip()
    text = text.mask(text == "")
    comma = text.str.fullmatch(_DECIMAL_COMMA).fillna(False)
    text = text.where(~comma, text.str.replace(",", ".", regex=False))
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = np.flatnonzero(text.notna() & numbers.isna())
    if len(wrong):
        raise OutcropError(
            name,
            f"row {wrong[0] + 1} has '{values.iloc[wrong[0]]}' in column {column}, which is not a "
            "number; write coordinates as decimal numbers",
        )
    if comma.any():
        warn(f"{name}: commas in column {column} are read as decimal points")
    return numbers.to_numpy(np.float64, na_value=np.nan)


def _is_projected(crs: str | None) -> bool:
    from pyproj import CRS

    return crs is not None and not CRS.from_wkt(parse_crs(crs, "`labels_crs`")).is_geographic


def _is_hexadecimal(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True
