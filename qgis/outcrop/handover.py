"""Rules for layers: which file outcrop reads for a layer, if any. Imports nothing of QGIS."""

from __future__ import annotations

from dataclasses import dataclass

from .process import OutcropFailed

_WEB = {
    "wms": "a web map (WMS, WMTS or XYZ tiles)",
    "wcs": "a web coverage (WCS)",
    "arcgismapserver": "a web map (ArcGIS)",
    "vectortile": "a layer of vector tiles",
}
_SAVE = "save the part that you need as a GeoTIFF (Export > Save As) and choose that file"


@dataclass(frozen=True)
class VectorState:
    """What QGIS knows of a vector layer.

    Attributes:
        provider: name of the data provider, for example ogr.
        path: file of the layer, if it has one.
        filtered: the layer has a filter, or only a part of its features is wanted.
        edited: it has changes that were not saved.
        joined: it has joined or virtual fields.
        other_crs: its coordinate reference system in QGIS is not the one in the file.
    """

    provider: str
    path: str = ""
    filtered: bool = False
    edited: bool = False
    joined: bool = False
    other_crs: bool = False


def reason_to_export(layer: VectorState) -> str | None:
    """Why a copy of a vector layer is handed over instead of its file; None for the file.

    >>> reason_to_export(VectorState("ogr", "/data/fields.gpkg"))
    >>> reason_to_export(VectorState("ogr", "/data/fields.gpkg", edited=True))
    'it has changes that are not saved'
    """
    if layer.provider != "ogr" or not layer.path:
        return "it is not a file"
    if layer.edited:
        return "it has changes that are not saved"
    if layer.filtered:
        return "only a part of its features is used"
    if layer.joined:
        return "it has joined or virtual fields"
    if layer.other_crs:
        return "its coordinate reference system was set in QGIS"
    return None


def refuse_raster(provider: str, name: str) -> None:
    """Refuse a raster layer that has no pixel values which outcrop could read.

    Raises:
        OutcropFailed: with the reason and what to do.
    """
    if provider in ("gdal", "virtualraster"):
        return
    kind = _WEB.get(provider, f"a layer of the provider '{provider}'")
    raise OutcropFailed(f"layer '{name}': is {kind}, whose pixels outcrop cannot read; {_SAVE}")


def raster_name(source: str, options: list[str], name: str) -> str:
    """The name by which GDAL opens a raster layer.

    Args:
        source: source of the layer, a file or a name such as NETCDF:"file.nc":ndvi.
        options: with which GDAL opens it.

    Raises:
        OutcropFailed: it is opened with options, which outcrop cannot pass on.
    """
    if options:
        raise OutcropFailed(
            f"layer '{name}': is opened with options of GDAL ({', '.join(options)}); {_SAVE}"
        )
    return source.split("|")[0]


def check_field(field: str, fields: list[str], name: str) -> None:
    """Check that a vector layer has a column.

    Raises:
        OutcropFailed: with the columns that it has.
    """
    if field not in fields:
        has = ", ".join(fields) if fields else "none"
        raise OutcropFailed(
            f"layer '{name}': has no column '{field}'; choose one of its columns: {has}"
        )


def check_crs(valid: bool, name: str) -> None:
    """Check that a layer says where it lies.

    Raises:
        OutcropFailed: it has no coordinate reference system.
    """
    if not valid:
        raise OutcropFailed(
            f"layer '{name}': has no coordinate reference system; set it in QGIS "
            "(right click on the layer > Layer CRS) or in the advanced parameters"
        )
