"""Coordinate reference systems that users name, and ways from one to another."""

from __future__ import annotations

from pathlib import Path

from outcrop.errors import OutcropError


def parse_crs(crs: str | None, option: str) -> str:
    """The coordinate reference system that a user names, as WKT.

    Raises:
        OutcropError: there is none of this name; the line names `option`.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(crs).to_wkt()
    except CRSError:
        raise OutcropError(
            option, f"'{crs}' is not a coordinate reference system; pass e.g. EPSG:32648"
        ) from None


def check_way(path: str | Path, crs: str, other: str) -> None:
    """Refuse what lies at `path` if there is no way from its system to another.

    Args:
        crs, other: coordinate reference systems as WKT.

    Raises:
        OutcropError: one of them is local, or they are of two planets.
    """
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    try:
        Transformer.from_crs(crs, other)
    except ProjError as error:
        raise OutcropError(
            path,
            f"cannot be brought from {CRS(crs).name} to {CRS(other).name}; "
            "correct the coordinate reference system of one of them",
        ) from error
