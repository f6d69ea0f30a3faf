"""Vector files: shapes on the ground, in a known coordinate reference system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.progress import tell
from outcrop.sources.scene import NO_CRS
from outcrop.sources.seam import unsplit, unwrapped
from outcrop.sources.systems import check_way, parse_crs

_VECTOR = {".gpkg", ".geojson", ".json", ".shp", ".fgb", ".gml", ".kml", ".zip", ".parquet"}


def is_vector(path: Path) -> bool:
    """Whether a file's name is that of a vector file, and not of a raster."""
    return path.suffix.lower() in _VECTOR


def read_vector(path: str | Path, crs: str | None = None) -> Any:
    """Read any vector format of GDAL, or GeoParquet, as a GeoDataFrame.

    Args:
        crs: the coordinate reference system, for files that do not carry one.

    Raises:
        OutcropError: missing or unreadable file, no geometry, no CRS.
    """
    import geopandas as gpd

    path = Path(path)
    if not path.exists():
        raise OutcropError(path, "no such file; check the name")
    with decoding(path, "a vector file that GDAL can read", "export it anew"):
        frame = gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)
        decode_text(frame)
    if not isinstance(frame, gpd.GeoDataFrame):
        raise OutcropError(path, "has no geometry; pass polygons or points")
    if frame.crs is not None:
        return frame
    if crs is None:
        raise OutcropError(path, NO_CRS)
    return frame.set_crs(parse_crs(crs, "--labels-crs"))


def decode_text(frame: Any) -> None:
    """Decode all text of a table now: Arrow leaves it until somebody asks for a value.

    Raises:
        UnicodeDecodeError: a value is no text.
    """
    for name in frame.columns:
        if frame[name].dtype.kind == "O" and name != getattr(frame, "_geometry_column_name", None):
            frame[name].tolist()


def reproject(frame: Any, crs: str, path: Path, bounds: tuple[float, float, float, float]) -> Any:
    """Bring what was read from `path` to where a scene lies in another coordinate reference system.

    Longitudes may be written otherwise than the scene's, or cross 180°
    (`outcrop.sources.seam.unwrapped`).

    Args:
        bounds: smallest x, smallest y, largest x and largest y of the scene, in `crs`.

    Raises:
        OutcropError: there is no way from one system to the other.
    """
    check_way(path, frame.crs.to_wkt(), crs)
    torn = unsplit(frame)
    if torn:
        tell(f"{path}: {torn} polygons cross 180° without being split there; taken the short way")
    return unwrapped(frame.to_crs(crs), bounds)
