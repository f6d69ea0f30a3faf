"""Vector files: geometries and their attributes, in a known coordinate reference system."""

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
from outcrop.progress import tell
from outcrop.sources.coordinates import place_rows
from outcrop.sources.names import is_gdal_name, present
from outcrop.sources.scene import NO_CRS
from outcrop.sources.seam import unsplit, unwrapped
from outcrop.sources.systems import check_way, parse_crs

_PARQUET, _FEATHER, _GZIP, _ZIP = b"PAR1", b"ARROW1", b"\x1f\x8b", b"PK\x03\x04"
# Files that belong to another file of a vector format and are no data sets by themselves.
_BESIDE = {".dbf", ".shx", ".prj", ".cpg", ".sbn", ".sbx", ".qix", ".qpj", ".qml", ".xml", ".xsd"}
# Tables that QGIS keeps in a GeoPackage beside the layers.
_OF_PROGRAMS = {"layer_styles", "qgis_projects"}
_SHAPEFILE = (".shp", ".dbf", ".prj", ".cpg")
_BESIDE |= {".gfs", ".txt", ".md", ".pdf", ".tfw", ".ovr", ".map", ".dat", ".id", ".mid", ".csvt"}


@dataclass(frozen=True)
class _Layer:
    """A layer: the name that GDAL opens, the layer's own, and whether it holds geometries."""

    dataset: str
    name: str
    drawn: bool


def is_vector(path: str | Path) -> bool:
    """Whether GDAL, geopandas or pandas reads geometries or a table there, not a raster.

    The drivers decide, not the name. What holds a raster beside tables without geometry, such as
    a GeoPackage of tiles, is a raster.

    Raises:
        OutcropError: there is no such file, or it is neither.
    """
    name = present(path)
    if _start(name).startswith((_PARQUET, _FEATHER)):
        return True
    with _openable(name) as datasets:
        layers = _layers(datasets)
    if any(layer.drawn for layer in layers):
        return True
    if is_raster(name):
        return False
    if layers:
        return True
    raise OutcropError(
        name,
        "is neither a vector file nor a raster that GDAL can read, or is damaged; export it anew"
        + _within(name),
    )


def is_raster(name: str) -> bool:
    """Whether a raster driver of GDAL opens what has this name."""
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    with warnings.catch_warnings(), _unheard():
        warnings.simplefilter("ignore")
        try:
            with rasterio.open(name) as dataset:
                # XYZ reads any table of numbers, which is meant as points here.
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

    Curves are approximated by straight lines; Z and M are left out. A table without geometries
    gives points from columns such as lon and lat, x and y, or easting and northing, or geometries
    from a column of WKT, WKB or GeoJSON.

    Args:
        path: a file or folder, or a name that GDAL understands (`/vsizip/...`, `https://...`).
        crs: the coordinate reference system, for files that do not carry one.
        layer: of a file with several, the one to read.
        encoding: of the text, where the file declares none or a wrong one.
        column: that will be used; it decides between several layers if only one has it.

    Returns:
        A GeoDataFrame with a CRS and a new index from 0.

    Raises:
        OutcropError: missing or unreadable file; no geometry; no CRS; several layers and none
            chosen; no such layer; text that the encoding does not decode.
    """
    import geopandas as gpd

    name = present(path)
    _check_encoding(encoding)
    start = _start(name)
    if start.startswith((_PARQUET, _FEATHER)):
        if layer is not None:
            raise OutcropError(name, "has no layers; leave out --layer")
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
    return frame.set_crs(parse_crs(crs, "--labels-crs"))


def decode_text(frame: Any) -> None:
    """Decode all text of a table now: Arrow leaves it until somebody asks for a value.

    Raises:
        UnicodeDecodeError: a value is no text.
    """
    for name in frame.columns:
        if frame[name].dtype.kind == "O" and name != getattr(frame, "_geometry_column_name", None):
            frame[name].tolist()


def reproject(
    frame: Any, crs: str, path: str | Path, bounds: tuple[float, float, float, float]
) -> Any:
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


def _read_arrow(name: str, parquet: bool) -> Any:
    """A GeoDataFrame, or a DataFrame if the file declares no geometry."""
    import geopandas as gpd
    import pandas as pd

    kinds = ((gpd.read_parquet, pd.read_parquet), (gpd.read_feather, pd.read_feather))
    with_geometry, without = kinds[0 if parquet else 1]
    kind = "GeoParquet" if parquet else "Feather"
    with decoding(Path(name), f"a {kind} file", "export it anew"):
        try:
            frame = with_geometry(name)
        except ValueError:
            frame = without(name)
        frame = _without_twins(name, frame)
        decode_text(frame)
    return frame


def _read_layer(name: str, layer: str | None, encoding: str | None, column: str | None) -> Any:
    import pyogrio

    with _openable(name) as datasets:
        layers = _layers(datasets)
        if not layers:
            raise OutcropError(
                name,
                "is not a vector file that GDAL can read, or is damaged; export it anew"
                + _within(name),
            )
        chosen = _choose(name, layers, layer, column)
        try:
            with warnings.catch_warnings():
                # What GDAL warns of (rings that are not closed, WKT that is none) is repaired or
                # becomes a missing geometry, which is counted.
                warnings.simplefilter("ignore")
                info = pyogrio.read_info(chosen.dataset, layer=chosen.name, encoding=encoding)
                frame = pyogrio.read_dataframe(
                    chosen.dataset, layer=chosen.name, encoding=encoding, on_invalid="fix"
                )
        except UnicodeDecodeError as error:
            said = encoding or "the encoding that it declares"
            raise OutcropError(
                name,
                f"has text that is not in {said} (byte {error.object[error.start]:#x}); pass the "
                "right one, e.g. --encoding cp1252",
            ) from None
        except Exception:
            # There is no limit to what the libraries raise over damaged files.
            raise OutcropError(
                name, "is not a vector file that GDAL can read, or is damaged; export it anew"
            ) from None
    frame = _without_twins(name, frame)
    _judge_text(name, frame, encoding, info["encoding"])
    return frame


def _without_twins(name: str, frame: Any) -> Any:
    """A table without columns of which several have one name: GDAL gives the values of one for all.

    A shapefile, whose names have ten letters, may have such.
    """
    twins = frame.columns.duplicated(keep=False)
    if not twins.any():
        return frame
    names = ", ".join(dict.fromkeys(f"'{column}'" for column in frame.columns[twins]))
    tell(
        f"note: {name} has several columns of one name ({names}), left out; rename them to use them"
    )
    return frame.loc[:, ~twins]


def _choose(name: str, layers: Sequence[_Layer], wanted: str | None, column: str | None) -> _Layer:
    """The layer that is asked for, or the only one that can be meant."""
    import pyogrio

    names = ", ".join(f"'{layer.name}'" for layer in layers)
    if wanted is not None:
        for layer in layers:
            if layer.name == wanted:
                return layer
        raise OutcropError(name, f"has no layer '{wanted}'; it has {names}")
    if len(layers) == 1:
        return layers[0]
    may = [layer for layer in layers if layer.drawn] or list(layers)
    if len(may) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            infos = [
                pyogrio.read_info(one.dataset, layer=one.name, force_feature_count=True)
                for one in may
            ]
        filled = [(one, i) for one, i in zip(may, infos, strict=True) if i["features"] != 0]
        having = [one for one, i in filled if column is not None and column in i["fields"]]
        may = having if len(having) == 1 else [one for one, _ in filled] or may
    if len(may) > 1:
        raise OutcropError(
            name,
            f"holds the layers {names}; choose one with --layer, or join them by "
            "`ogrmerge.py -single -src_layer_field_name layer -src_layer_field_content "
            "{LAYER_NAME} -o joined.gpkg "
            + " ".join(dict.fromkeys(one.dataset for one in layers))
            + "`",
        )
    tell(f"note: {name} holds the layers {names}; '{may[0].name}' is read, --layer takes another")
    return may[0]


def _layers(datasets: Sequence[str]) -> list[_Layer]:
    """The layers of what GDAL opens as vector data; none of what it does not."""
    import pyogrio

    found = []
    for dataset in datasets:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                listed = pyogrio.list_layers(dataset)
            except (RuntimeError, ValueError, OSError):
                continue
        found += [
            _Layer(dataset, str(name), kind is not None)
            for name, kind in listed
            if name not in _OF_PROGRAMS
        ]
    return found


@contextmanager
def _openable(name: str) -> Iterator[list[str]]:
    """The names under which GDAL opens a vector file, as long as the block runs.

    Nothing stays beside the user's file: neither the index that is restored for a shapefile
    without one, nor the notes that the GML driver makes.
    """
    path = Path(name)
    if is_gdal_name(name) or not path.is_file():
        yield [name]
        return
    start = _start(name)
    if path.suffix.lower() == ".shp" and not _sibling(path, ".shx"):
        with tempfile.TemporaryDirectory() as folder, _restored_index():
            for suffix in _SHAPEFILE:
                beside = _sibling(path, suffix)
                if beside:
                    shutil.copy(beside, Path(folder) / f"{path.stem}{suffix}")
            yield [str(Path(folder) / f"{path.stem}.shp")]
        return
    notes = path.with_suffix(".gfs")
    had_notes = notes.exists()
    try:
        archive = f"/vsizip/{path.absolute()}"
        pages = [page for page in _members(path) if page.lower().endswith(".kml")]
        if pages:
            # As KMZ, the KML driver reads no attributes.
            yield pages
        elif _layers([name]):
            yield [archive if path.suffix.lower() == ".zip" else name]
        elif _layers(_members(path)):
            yield _members(path)
        elif _members(path):
            # An index can be restored outside of the archive alone.
            with tempfile.TemporaryDirectory() as folder, _restored_index():
                yield _unpacked(path, folder)
        elif start.startswith(_GZIP):
            yield [f"/vsigzip/{path.absolute()}"]
        elif _is_table(path):
            yield [f"CSV:{path.absolute()}"]
        else:
            yield [name]
    finally:
        if not had_notes:
            notes.unlink(missing_ok=True)


@contextmanager
def _unheard() -> Iterator[None]:
    """Print no errors that Python cannot raise.

    There is one in rasterio's log where GDAL's message quotes bytes of a damaged file.
    """
    hooks = sys.excepthook, sys.unraisablehook
    sys.excepthook, sys.unraisablehook = (lambda *_: None), (lambda _: None)
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook = hooks


@contextmanager
def _restored_index() -> Iterator[None]:
    """Let GDAL write the index of a shapefile that has none."""
    import pyogrio

    option = "SHAPE_RESTORE_SHX"
    before = pyogrio.get_gdal_config_option(option)
    pyogrio.set_gdal_config_options({option: True})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({option: before})


def _members(archive: Path) -> list[str]:
    """The files in a zip archive that may be data sets by themselves, as GDAL names them."""
    if not _start(str(archive)).startswith(_ZIP):
        return []
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = [entry.filename for entry in opened.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError):
        return []
    return [
        f"/vsizip/{archive.absolute()}/{file}"
        for file in inside
        if Path(file).suffix.lower() not in _BESIDE
        and not file.startswith("__MACOSX/")
        and not Path(file).name.startswith(".")
    ]


def _unpacked(archive: Path, folder: str) -> list[str]:
    """The shapefiles of a zip archive, unpacked into a folder; none of a damaged archive."""
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = [name for name in opened.namelist() if name.lower().endswith(_SHAPEFILE)]
            opened.extractall(folder, inside)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError):
        return []
    return [str(file) for file in sorted(Path(folder).rglob("*.[sS][hH][pP]"))]


def _within(name: str) -> str:
    """How a file in an archive is named, for error lines; "" where there is none."""
    members = [] if is_gdal_name(name) else _members(Path(name))
    return f", or name a file in it, e.g. {members[0]}" if members else ""


def _sibling(path: Path, suffix: str) -> Path | None:
    """The file of the same stem, whichever case its ending is written in."""
    for ending in (suffix, suffix.upper()):
        beside = path.with_name(path.stem + ending)
        if beside.exists():
            return beside
    return None


def _is_table(path: Path) -> bool:
    """Whether a file that no driver knows begins as a table of text with a header."""
    try:
        with path.open(encoding="utf-8-sig", errors="strict") as file:
            header = file.readline(4096)
    except (OSError, UnicodeDecodeError):
        return False
    return header[:1] not in tuple("{[<") and any(mark in header for mark in ",;\t|")


def _start(name: str) -> bytes:
    """The first bytes of a plain file; none of anything else."""
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
            "--encoding", f"'{encoding}' is no encoding; pass e.g. utf-8, cp1252 or gbk"
        ) from None


def _judge_text(name: str, frame: Any, encoding: str | None, declared: str) -> None:
    """Say where text may have been decoded by the wrong encoding.

    Args:
        declared: what pyogrio names: UTF-8 for all that GDAL decodes by itself, else what is
            assumed where a shapefile declares nothing.
    """
    texts = [str(column) for column in frame.columns]
    for column in frame.columns:
        if frame[column].dtype.kind in "OT" or str(frame[column].dtype) in ("str", "string"):
            texts += [value for value in frame[column].unique() if isinstance(value, str)]
    foreign = [text for text in texts if not text.isascii()]
    broken = next((text for text in foreign if _is_utf8_misread(text)), None)
    if broken is not None:
        tell(
            f"note: {name} has text that looks wrongly decoded ('{broken}'); if it is, pass "
            "--encoding utf-8, or write the right encoding into the file"
        )
    elif foreign and encoding is None and declared.upper() not in ("UTF-8", "UTF8"):
        tell(
            f"note: {name} declares no encoding; its text is read as {declared} ('{foreign[0]}'); "
            "if that is wrong, pass --encoding"
        )


def _is_utf8_misread(text: str) -> bool:
    """Whether text is UTF-8 that was decoded as a Western encoding of one byte.

    >>> _is_utf8_misread("WÃ¤lder"), _is_utf8_misread("Wälder")
    (True, False)
    """
    for encoding in ("latin-1", "cp1252"):
        try:
            return text.encode(encoding).decode("utf-8") != text
        except UnicodeError:
            continue
    return "\ufffd" in text
