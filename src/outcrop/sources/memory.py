"""Scenes and labels in memory: DataArrays, arrays with a transform, GeoDataFrames.

They are written to files in a temporary folder of this process, because scenes are read window by
window and by several processes. The folder is removed when the process ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import warn
from outcrop.sources.scene import Scene

if TYPE_CHECKING:
    import geopandas
    import xarray

AnyScene: TypeAlias = "str | Path | Scene | xarray.DataArray"
AnyLabels: TypeAlias = "str | Path | geopandas.GeoDataFrame"

_ALONG_Y = ("y", "lat", "latitude", "northing", "row")
_ALONG_X = ("x", "lon", "longitude", "easting", "column")
_NUMBERS = count(1)
# Tolerance as a share of the pixel size: float32 coordinates in UTM have errors of half a metre.
_UNEVEN = 0.05


def write_array(
    pixels: np.ndarray,
    transform: Sequence[float],
    crs: Any,
    band_names: Sequence[str] = (),
    nodata: float | None = None,
    scales: Sequence[float] = (),
    offsets: Sequence[float] = (),
) -> Path:
    """Write an array to a raster file.

    Args:
        pixels, transform, crs, band_names, nodata: as for `outcrop.scene_from_array`.
        scales, offsets: for each band, physical value = pixel value × scale + offset.

    Raises:
        OutcropError: the array has another number of axes, an axis of length 0, or another dtype;
            the number of names differs from that of the bands; the dtype cannot hold the nodata
            value; the coordinate reference system is unknown.
    """
    pixels = np.asarray(pixels)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise OutcropError(
            "scene", f"has the shape {pixels.shape}; pass bands × height × width or height × width"
        )
    if pixels.dtype.kind not in "biuf":
        raise OutcropError("scene", f"has the dtype {pixels.dtype}; pass integers or floats")
    if band_names and len(band_names) != len(pixels):
        raise OutcropError(
            "scene",
            f"has {len(pixels)} bands, but {len(band_names)} band names are given; name each band",
        )
    stored = {"bool": "uint8", "float16": "float32"}.get(pixels.dtype.name, pixels.dtype.name)
    pixels = pixels.astype(stored, copy=False)
    if nodata is not None and not _can_hold(pixels.dtype, nodata):
        raise OutcropError(
            "scene",
            f"has the dtype {pixels.dtype}, which cannot hold the nodata value {nodata}; "
            "correct the nodata value or convert the pixels",
        )
    import rasterio

    path = _new_path("scene.tif")
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(pixels),
        height=pixels.shape[1],
        width=pixels.shape[2],
        dtype=pixels.dtype,
        nodata=nodata,
        tiled=True,
        BIGTIFF="IF_SAFER",
        crs=_known_crs(crs),
        transform=rasterio.Affine(*list(transform)[:6]),
    ) as dataset:
        dataset.write(pixels)
        for number, name in enumerate(band_names, start=1):
            dataset.set_band_description(number, str(name))
        if scales:
            dataset.scales = scales
        if offsets:
            dataset.offsets = offsets
    return path


def _can_hold(dtype: np.dtype, value: float) -> bool:
    """Whether a dtype can represent a number."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def write_dataarray(array: Any) -> Path:
    """Write an xarray DataArray to a raster file, with the properties in its attributes.

    These follow rioxarray. The georeference is the coordinates of pixel centres, and a coordinate
    `spatial_ref` with the CRS. The nodata value is the attribute `_FillValue`. If the attributes
    have a scale or an offset, the values are stored values, because rioxarray and xarray remove
    these attributes when they decode values; a note is printed.

    Raises:
        OutcropError: the array has no coordinates along rows or columns; they are not evenly
            spaced; it has no CRS; its scale or offset is not a number; as for `write_array`.
    """
    if array.ndim not in (2, 3):
        raise OutcropError(
            "scene", f"has the dimensions {array.dims}; pass band, y and x, or y and x"
        )
    down = next((name for name in array.dims if name in _ALONG_Y), array.dims[-2])
    right = next((name for name in array.dims if name in _ALONG_X), array.dims[-1])
    (top, a_y), (left, a_x) = _edge(array, down), _edge(array, right)
    bands = [name for name in array.dims if name not in (down, right)]
    pixels = array.transpose(*bands, down, right)
    band_count = pixels.sizes[bands[0]] if bands else 1
    names: list[Any] = []
    title = array.attrs.get("long_name")
    if bands and bands[0] in array.coords and array.coords[bands[0]].dtype.kind in "UO":
        names = array.coords[bands[0]].values.tolist()
    elif isinstance(title, list | tuple):
        names = list(title)
    elif isinstance(title, str) and band_count == 1:
        names = [title]
    nodata = array.attrs.get("_FillValue", array.attrs.get("nodata"))
    transform = (a_x, 0.0, left, 0.0, a_y, top)
    scales = _per_band(array, ("scales", "scale_factor"), band_count)
    offsets = _per_band(array, ("offsets", "add_offset"), band_count)
    if any(scale != 1 for scale in scales) or any(offsets):
        warn(
            "scene: its values are converted with the scale and offset in its attributes; "
            "remove these attributes if the values are physical"
        )
    return write_array(pixels.values, transform, _crs_of(array), names, nodata, scales, offsets)


def _per_band(array: Any, names: Sequence[str], count: int) -> list[float]:
    """The numbers of an attribute, one per band; empty without one of these attributes."""
    name = next((name for name in names if name in array.attrs), None)
    if name is None:
        return []
    try:
        return np.broadcast_to(np.asarray(array.attrs[name], np.float64), (count,)).tolist()
    except (TypeError, ValueError):
        raise OutcropError(
            "scene",
            f"has the attribute {name} = {array.attrs[name]!r} for {count} bands; set one number, "
            "or one per band",
        ) from None


def _edge(array: Any, name: Any) -> tuple[float, float]:
    """The outer edge of the first pixel along a dimension, and the pixel size with its sign."""
    if name not in array.coords or array.coords[name].ndim != 1:
        raise OutcropError(
            "scene", f"has no coordinates along {name}; assign the coordinates of pixel centres"
        )
    values = array.coords[name].values.astype(np.float64)
    if len(values) < 2:
        raise OutcropError(
            "scene",
            f"has a single pixel along {name}, whose size is unknown; pass two or more, or an "
            "array with its transform to scene_from_array",
        )
    step = (values[-1] - values[0]) / (len(values) - 1)
    uneven = np.abs(np.diff(values) - step).max() > _UNEVEN * abs(step)
    if not np.isfinite(step) or step == 0 or uneven:
        raise OutcropError(
            "scene", f"has unevenly spaced coordinates along {name}; resample it to a regular grid"
        )
    return float(values[0] - step / 2), float(step)


def _crs_of(array: Any) -> Any:
    """The coordinate reference system in the form of rioxarray or of the CF conventions."""
    mappings = (source.get("grid_mapping") for source in (array.attrs, array.encoding))
    for name in (*mappings, "spatial_ref"):
        if name in array.coords:
            stored = array.coords[name].attrs
            if found := stored.get("crs_wkt") or stored.get("spatial_ref"):
                return found
    if found := array.attrs.get("crs"):
        return found
    raise OutcropError(
        "scene", "has no coordinate reference system; set it, e.g. array.rio.write_crs(32648)"
    )


def _known_crs(crs: Any) -> Any:
    import pyproj
    from rasterio.crs import CRS

    try:
        return CRS.from_wkt(pyproj.CRS.from_user_input(crs).to_wkt())
    except pyproj.exceptions.CRSError:
        raise OutcropError(
            "scene", f"has the unknown coordinate reference system {crs!r}; pass e.g. 'EPSG:32648'"
        ) from None


def write_geodataframe(frame: Any) -> Path:
    """Write labelled polygons or points to a file that `open_labels` reads.

    Raises:
        OutcropError: the frame is empty or has no CRS; a column cannot be stored.
    """
    if not len(frame):
        raise OutcropError("labels", "are empty; pass at least one polygon or point")
    if frame.crs is None:
        raise OutcropError(
            "labels", "have no coordinate reference system; set it, e.g. frame.set_crs(4326)"
        )
    plain = frame.reset_index(drop=True).copy()
    for name in plain.columns:
        if str(plain[name].dtype) == "category":
            plain[name] = plain[name].astype(object)
    path = _new_path("labels.parquet")
    try:
        plain.to_parquet(path)
    except (TypeError, ValueError) as error:  # Arrow's errors are subclasses of these
        why = " ".join(map(str, error.args))
        raise OutcropError(
            "labels", f"have a column that cannot be stored ({why}); drop it or convert it to text"
        ) from error
    return path


def is_dataarray(source: Any) -> bool:
    """Whether an object is an xarray DataArray, without importing xarray.

    Raises:
        OutcropError: it is another xarray object, such as a Dataset.
    """
    if type(source).__module__.partition(".")[0] != "xarray":
        return False
    if type(source).__name__ != "DataArray":
        raise OutcropError(
            "scene", f"is an xarray {type(source).__name__}; pass a DataArray (see to_dataarray)"
        )
    return True


def is_geodataframe(labels: Any) -> bool:
    """Whether an object is a GeoDataFrame, without importing geopandas.

    Raises:
        OutcropError: it is a DataFrame without geometry, or a GeoSeries.
    """
    library = type(labels).__module__.partition(".")[0]
    if library not in ("geopandas", "pandas"):
        return False
    if type(labels).__name__ != "GeoDataFrame":
        raise OutcropError("labels", f"are a {type(labels).__name__}; pass a GeoDataFrame")
    return True


def as_list(given: Any) -> list[Any]:
    """A list of sources: one scene, volume, label set or name becomes a list of length 1.

    >>> as_list("a.tif"), as_list(("a.tif", "b.tif"))
    (['a.tif'], ['a.tif', 'b.tif'])
    """
    alone = isinstance(given, str) or is_dataarray(given) or is_geodataframe(given)
    return [given] if alone or not isinstance(given, Iterable) else list(given)


def _new_path(name: str) -> Path:
    folder = Path(_folder().name) / str(next(_NUMBERS))
    folder.mkdir()
    return folder / name


@lru_cache(maxsize=1)
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="outcrop-")
