"""Vector files: geometries and attributes in a known coordinate reference system."""

from __future__ import annotations

import codecs
import shutil
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.progress import warn
from outcrop.sources.antimeridian import count_unsplit, unwrap
from outcrop.sources.coordinates import place_rows
from outcrop.sources.grids import check_transformable, parse_crs
from outcrop.sources.names import existing_name, is_gdal_name
from outcrop.sources.scene import NO_CRS

_NO_VECTOR = "is damaged or not a vector file that GDAL reads; export it again"
_PARQUET, _FEATHER, _GZIP, _ZIP = b"PAR1", b"ARROW1", b"\x1f\x8b", b"PK\x03\x04"
# Tables that QGIS stores in a GeoPackage beside the layers.
_QGIS_TABLES = {"layer_styles", "qgis_projects"}
_SHAPEFILE = (".shp", ".dbf", ".prj", ".cpg")
# Suffixes of files that are only parts of a dataset.
_PARTS = {".dbf", ".shx", ".prj", ".cpg", ".sbn", ".sbx", ".qix", ".qpj", ".qml", ".xml", ".xsd"}
_PARTS |= {".gfs", ".txt", ".md", ".pdf", ".tfw", ".ovr", ".map", ".dat", ".id", ".mid", ".csvt"}


@dataclass(frozen=True)
class _Layer:
    """A layer of a dataset, which is a name that GDAL opens."""

    dataset: str
    name: str
    has_geometry: bool


def is_vector(path: str | Path) -> bool:
    """Whether a file has geometries or a table, and is not a raster.

    This is decided by the drivers of GDAL, not by the name. A file with a raster and tables without
    geometry, such as a GeoPackage of tiles, is a raster.

    Raises:
        OutcropError: there is no such file; it is neither vector file nor raster.
    """
    name = existing_name(path)
    if _first_bytes(name).startswith((_PARQUET, _FEATHER)):
        return True
    with _gdal_datasets(name) as datasets:
        layers = _layers(datasets)
    if any(layer.has_geometry for layer in layers):
        return True
    if is_raster(name):
        return False
    if layers:
        return True
    raise OutcropError(
        name,
        "is damaged, or neither a vector file nor a raster that GDAL reads; export it again"
        + _members_hint(name),
    )


def is_raster(name: str) -> bool:
    """Whether a raster driver of GDAL opens a file."""
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    with warnings.catch_warnings(action="ignore"), _silent_hooks():
        try:
            with rasterio.open(name) as dataset:
                # The XYZ driver opens any table of numbers; here such a table has points.
                return bool(dataset.driver != "XYZ")
        except (RasterioError, CPLE_BaseError, ValueError):
            return False


def read_vector(
    path: str | Path,
    crs: str | None = None,
    layer: str | None = None,
    encoding: str | None = None,
    column: str | None = None,
) -> Any:
    """Read any vector format of GDAL, GeoParquet, Feather, or a table with coordinates.

    Curves become line segments; Z and M are dropped. A table without geometries gives points from
    columns such as lon and lat, x and y, or easting and northing, or geometries from a column of
    WKT, WKB or GeoJSON.

    Args:
        path: a file, a folder, or a name that GDAL opens (`/vsizip/...`, `https://...`).
        crs: coordinate reference system for a file without one.
        layer: the layer to read, in a file with several layers.
        encoding: text encoding, if the file declares none or a wrong one.
        column: a column that will be used; it selects the layer if only one layer has it.

    Returns:
        a GeoDataFrame with a CRS and an index from 0.

    Raises:
        OutcropError: the file is missing or unreadable; it has no geometry or no CRS; it has
            several layers and none is selected; there is no such layer; text cannot be decoded.
    """
    import geopandas as gpd

    name = existing_name(path)
    _check_encoding(encoding)
    start = _first_bytes(name)
    if start.startswith((_PARQUET, _FEATHER)):
        if layer is not None:
            raise OutcropError(name, "has no layers; leave `layer` out")
        frame = _read_arrow(name, start.startswith(_PARQUET))
    else:
        frame = _read_layer(name, layer, encoding, column)
    if not isinstance(frame, gpd.GeoDataFrame):
        frame = place_rows(name, frame, crs)
    frame = frame.reset_index(drop=True)
    frame = frame.set_geometry(frame.geometry.force_2d())
    if frame.crs is not None:
        return frame
    if crs is None:
        raise OutcropError(name, NO_CRS)
    return frame.set_crs(parse_crs(crs, "`labels_crs`"))


def decode_text(frame: Any) -> None:
    """Decode all text of a table, because Arrow decodes a value when it is used first.

    Raises:
        UnicodeDecodeError: a value cannot be decoded.
    """
    for name in frame.columns:
        if frame[name].dtype.kind == "O" and name != getattr(frame, "_geometry_column_name", None):
            frame[name].tolist()


def reproject(
    frame: Any, crs: str, path: str | Path, bounds: tuple[float, float, float, float]
) -> Any:
    """Transform geometries to the CRS of a scene, in its convention for longitudes.

    Longitudes may have another convention than in the scene, and geometries may cross 180°
    (`outcrop.sources.antimeridian.unwrap`).

    Args:
        bounds: smallest x, smallest y, largest x and largest y of the scene, in `crs`.

    Raises:
        OutcropError: there is no transformation from one system to the other.
    """
    check_transformable(path, frame.crs.to_wkt(), crs)
    if unsplit := count_unsplit(frame):
        warn(
            f"{path}: {unsplit} polygons have edges longer than 180°; these edges are "
            "assumed to cross the antimeridian"
        )
    return unwrap(frame.to_crs(crs), bounds)


def _read_arrow(name: str, parquet: bool) -> Any:
    """A GeoDataFrame, or a DataFrame if the file declares no geometry."""
    import geopandas as gpd
    import pandas as pd

    if parquet:
        kind, with_geometry, without = "GeoParquet", gpd.read_parquet, pd.read_parquet
    else:
        kind, with_geometry, without = "Feather", gpd.read_feather, pd.read_feather
    with decoding(Path(name), f"a {kind} file", "export it again"):
        try:
            frame = with_geometry(name)
        except ValueError:
            frame = without(name)
        frame = _without_duplicate_columns(name, frame)
        decode_text(frame)
    return frame


def _read_layer(name: str, layer: str | None, encoding: str | None, column: str | None) -> Any:
    import pyogrio

    with _gdal_datasets(name) as datasets:
        layers = _layers(datasets)
        if not layers:
            raise OutcropError(name, _NO_VECTOR + _members_hint(name))
        chosen = _select_layer(name, layers, layer, column)
        try:
            # GDAL warns of open rings and invalid WKT. They are repaired, or become missing
            # geometries, which are counted.
            with warnings.catch_warnings(action="ignore"):
                info = pyogrio.read_info(chosen.dataset, layer=chosen.name, encoding=encoding)
                frame = pyogrio.read_dataframe(
                    chosen.dataset, layer=chosen.name, encoding=encoding, on_invalid="fix"
                )
        except UnicodeDecodeError as error:
            used = encoding or "its declared encoding"
            raise OutcropError(
                name,
                f"has text that {used} cannot decode (byte {error.object[error.start]:#x}); pass "
                "the right encoding, e.g. `encoding='cp1252'`",
            ) from None
        except Exception:
            # The libraries raise errors of any class for damaged files.
            raise OutcropError(name, _NO_VECTOR) from None
    frame = _without_duplicate_columns(name, frame)
    _note_encoding(name, frame, encoding, info["encoding"])
    return frame


def _without_duplicate_columns(name: str, frame: Any) -> Any:
    """Drop columns with equal names, because GDAL gives all of them the values of one.

    They occur in shapefiles, whose column names have at most ten letters.
    """
    duplicated = frame.columns.duplicated(keep=False)
    if not duplicated.any():
        return frame
    names = ", ".join(dict.fromkeys(f"'{column}'" for column in frame.columns[duplicated]))
    warn(
        f"{name}: several columns have the same name ({names}) and are ignored; rename them "
        "to use them"
    )
    return frame.loc[:, ~duplicated]


def _select_layer(
    name: str, layers: Sequence[_Layer], wanted: str | None, column: str | None
) -> _Layer:
    """The layer that the user selects, or the only possible one."""
    import pyogrio

    names = ", ".join(f"'{layer.name}'" for layer in layers)
    if wanted is not None:
        for layer in layers:
            if layer.name == wanted:
                return layer
        raise OutcropError(name, f"has no layer '{wanted}' (it has {names}); pass another layer")
    if len(layers) == 1:
        return layers[0]
    may = [layer for layer in layers if layer.has_geometry] or list(layers)
    if len(may) > 1:
        with warnings.catch_warnings(action="ignore"):
            infos = [
                pyogrio.read_info(one.dataset, layer=one.name, force_feature_count=True)
                for one in may
            ]
        filled = [(one, i) for one, i in zip(may, infos, strict=True) if i["features"] != 0]
        having = [one for one, i in filled if column is not None and column in i["fields"]]
        may = having if len(having) == 1 else [one for one, _ in filled] or may
    if len(may) > 1:
        datasets = " ".join(dict.fromkeys(one.dataset for one in layers))
        raise OutcropError(
            name,
            f"has the layers {names}; select one with `layer`, or join them with "
            "`ogrmerge.py -single -src_layer_field_name layer -src_layer_field_content "
            f"{{LAYER_NAME}} -o joined.gpkg {datasets}`",
        )
    warn(f"{name} has the layers {names}; '{may[0].name}' is read, `layer` reads another")
    return may[0]


def _layers(datasets: Sequence[str]) -> list[_Layer]:
    """The layers of the datasets that GDAL opens as vector data."""
    import pyogrio

    found = []
    for dataset in datasets:
        with warnings.catch_warnings(action="ignore"):
            try:
                listed = pyogrio.list_layers(dataset)
            except (RuntimeError, ValueError, OSError):
                continue
        found += [
            _Layer(dataset, str(name), kind is not None)
            for name, kind in listed
            if name not in _QGIS_TABLES
        ]
    return found


@contextmanager
def _gdal_datasets(name: str) -> Iterator[list[str]]:
    """The names under which GDAL opens a vector file, valid within the block.

    No file remains beside that of the user: neither the index that is restored for a shapefile
    without one, nor the sidecar file of the GML driver.
    """
    path = Path(name)
    if is_gdal_name(name) or not path.is_file():
        yield [name]
        return
    if path.suffix.lower() == ".shp" and not _sibling(path, ".shx"):
        with tempfile.TemporaryDirectory() as folder, _restored_index():
            for suffix in _SHAPEFILE:
                if beside := _sibling(path, suffix):
                    shutil.copy(beside, Path(folder) / f"{path.stem}{suffix}")
            yield [str(Path(folder) / f"{path.stem}.shp")]
        return
    notes = path.with_suffix(".gfs")
    had_notes = notes.exists()
    try:
        archive = f"/vsizip/{path.absolute()}"
        members = _members(path)
        pages = [page for page in members if page.lower().endswith(".kml")]
        if pages:
            # From a KMZ file, the KML driver reads no attributes.
            yield pages
        elif _layers([name]):
            yield [archive if path.suffix.lower() == ".zip" else name]
        elif _layers(members):
            yield members
        elif members:
            # An index can only be restored outside the archive.
            with tempfile.TemporaryDirectory() as folder, _restored_index():
                yield _unpack_shapefiles(path, folder)
        elif _first_bytes(name).startswith(_GZIP):
            yield [f"/vsigzip/{path.absolute()}"]
        elif _is_table(path):
            yield [f"CSV:{path.absolute()}"]
        else:
            yield [name]
    finally:
        if not had_notes:
            notes.unlink(missing_ok=True)


@contextmanager
def _silent_hooks() -> Iterator[None]:
    """Do not print errors that Python cannot raise.

    One occurs in the log of rasterio, if GDAL's message quotes bytes of a damaged file.
    """
    hooks = sys.excepthook, sys.unraisablehook
    sys.excepthook, sys.unraisablehook = (lambda *_: None), (lambda _: None)
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook = hooks


@contextmanager
def _restored_index() -> Iterator[None]:
    """Let GDAL restore the index of a shapefile without one."""
    import pyogrio

    option = "SHAPE_RESTORE_SHX"
    before = pyogrio.get_gdal_config_option(option)
    pyogrio.set_gdal_config_options({option: True})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({option: before})


def _members(archive: Path) -> list[str]:
    """The files in a zip archive that may be datasets, as GDAL names them."""
    if not _first_bytes(str(archive)).startswith(_ZIP):
        return []
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = [entry.filename for entry in opened.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError):
        return []
    return [
        f"/vsizip/{archive.absolute()}/{file}"
        for file in inside
        if Path(file).suffix.lower() not in _PARTS
        and not file.startswith("__MACOSX/")
        and not Path(file).name.startswith(".")
    ]


def _unpack_shapefiles(archive: Path, folder: str) -> list[str]:
    """The shapefiles of a zip archive, unpacked into a folder; none for a damaged archive."""
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = [name for name in opened.namelist() if name.lower().endswith(_SHAPEFILE)]
            opened.extractall(folder, inside)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError):
        return []
    return [str(file) for file in sorted(Path(folder).rglob("*.[sS][hH][pP]"))]


def _members_hint(name: str) -> str:
    """The end of an error message with the name of a file in an archive; empty without one."""
    members = [] if is_gdal_name(name) else _members(Path(name))
    return f", or name a file in it, e.g. {members[0]}" if members else ""


def _sibling(path: Path, suffix: str) -> Path | None:
    """The file with the same stem and another suffix, in lower or upper case."""
    both = (path.with_name(path.stem + ending) for ending in (suffix, suffix.upper()))
    return next((beside for beside in both if beside.exists()), None)


def _is_table(path: Path) -> bool:
    """Whether a file that no driver opens begins like a text table with a header."""
    try:
        with path.open(encoding="utf-8-sig", errors="strict") as file:
            header = file.readline(4096)
    except (OSError, UnicodeDecodeError):
        return False
    return header[:1] not in tuple("{[<") and any(mark in header for mark in ",;\t|")


def _first_bytes(name: str) -> bytes:
    """The first bytes of a file; empty for everything else."""
    path = Path(name)
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError:
        raise OutcropError(path, "cannot be read; check the permissions") from None


def _check_encoding(encoding: str | None) -> None:
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError:
        raise OutcropError(
            "`encoding`", f"'{encoding}' is not an encoding; pass e.g. utf-8, cp1252 or gbk"
        ) from None


def _note_encoding(name: str, frame: Any, encoding: str | None, declared: str) -> None:
    """Print a note if text may have been decoded with the wrong encoding.

    Args:
        declared: the encoding that pyogrio reports: UTF-8 for all text that GDAL decodes, else the
            encoding that is assumed for a shapefile that declares none.
    """
    texts = [str(column) for column in frame.columns]
    for column in frame.columns:
        if frame[column].dtype.kind in "OT" or str(frame[column].dtype) in ("str", "string"):
            texts += [value for value in frame[column].unique() if isinstance(value, str)]
    foreign = [text for text in texts if not text.isascii()]
    broken = next((text for text in foreign if _is_utf8_misread(text)), None)
    if broken is not None:
        warn(
            f"{name} has text that looks wrongly decoded ('{broken}'); if so, pass "
            "`encoding='utf-8'`, or declare the right encoding in the file"
        )
    elif foreign and encoding is None and declared.upper() not in ("UTF-8", "UTF8"):
        warn(
            f"{name} declares no encoding; its text is read as {declared} ('{foreign[0]}'); "
            "if that is wrong, pass `encoding`"
        )


def _is_utf8_misread(text: str) -> bool:
    """Whether text looks like UTF-8 that was decoded as a single-byte Western encoding.

    >>> _is_utf8_misread("WÃ¤lder"), _is_utf8_misread("Wälder")
    (True, False)
    """
    for encoding in ("latin-1", "cp1252"):
        try:
            return text.encode(encoding).decode("utf-8") != text
        except UnicodeError:
            continue
    return "\ufffd" in text
