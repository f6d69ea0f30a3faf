"""Open rasters, explain why one cannot be read, and write GeoTIFFs completely or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from outcrop.errors import OutcropError
from outcrop.sources.names import exists, gdal_for, is_gdal_name

_MOST_LISTED = 6
_TILE = 256
_COG_BLOCK = 512


@contextmanager
def open_dataset(name: str | Path) -> Iterator[Any]:
    """Open any raster that GDAL reads: a file, a subdataset, a member of an archive, a URL.

    Yields:
        a rasterio dataset with at least one band.

    Raises:
        OutcropError: there is no such file; it is not a raster; it contains only subdatasets; it is
            a virtual raster and one of its source files is missing.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    if not exists(name):
        raise OutcropError(name, f"there is no such file; {_hint(str(name))}")
    quiet = warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning)
    with gdal_for(name), quiet:
        try:
            dataset = rasterio.open(name)
        except RasterioIOError as error:
            if is_gdal_name(name):
                reason = f"cannot be opened ({_cause(error)}); check the name"
            else:
                reason = "is damaged or not a raster that GDAL reads; pass e.g. a GeoTIFF"
            raise OutcropError(name, reason) from None
        with dataset:
            if dataset.count == 0:
                raise OutcropError(name, _without_bands(dataset))
            _check_sources(name, dataset)
            yield dataset


def check_place(name: str | Path, dataset: Any) -> None:
    """Check that a raster has a geotransform.

    Raises:
        OutcropError: the raster has ground control points, rational polynomial coefficients or
            nothing instead of a geotransform.
    """
    if not dataset.transform.is_identity:
        return
    if dataset.gcps[0]:
        raise OutcropError(
            name,
            f"has {len(dataset.gcps[0])} ground control points and no geotransform; warp it: "
            f"gdalwarp -tps '{name}' warped.tif",
        )
    if dataset.rpcs:
        raise OutcropError(
            name,
            "has rational polynomial coefficients and no geotransform; warp it: "
            f"gdalwarp -rpc '{name}' warped.tif",
        )
    raise OutcropError(
        name,
        "has no geotransform, so its location is unknown; write one into the file: "
        f"gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM '{name}'",
    )


def check_numbers(name: str | Path, dataset: Any, numbers: list[int]) -> None:
    """Check that the values of some bands are quantities.

    Args:
        numbers: band numbers from 1.

    Raises:
        OutcropError: a band has complex values, or its values are indices into a colour table.
    """
    from rasterio.enums import ColorInterp

    for number in numbers:
        if "complex" in dataset.dtypes[number - 1]:
            raise OutcropError(
                name,
                f"band {number} has complex values; pass the amplitude: "
                f"DERIVED_SUBDATASET:AMPLITUDE:{name}",
            )
        if dataset.colorinterp[number - 1] == ColorInterp.palette:
            raise OutcropError(
                name,
                f"the values of band {number} are indices into a colour table; pass the raster "
                "from which it was made, or the colours: "
                f"gdal_translate -expand rgb '{name}' colours.tif",
            )


def read_failure(error: Exception) -> str:
    """Cause and remedy of an error that was raised while pixels were read."""
    cause = _cause(error)
    if "No such file" in cause or "does not exist" in cause:
        return f"a file that it refers to is missing ({cause}); restore that file"
    if "HTTP" in cause or "CURL" in cause:
        return f"the server did not answer ({cause}); try again"
    return "the file is truncated or damaged; fetch it again"


def _without_bands(dataset: Any) -> str:
    inner = dataset.subdatasets
    if not inner:
        return "has no bands; pass another raster"
    more = f" and {len(inner) - _MOST_LISTED} more" if len(inner) > _MOST_LISTED else ""
    return f"contains {len(inner)} rasters; pass one: {'  '.join(inner[:_MOST_LISTED])}{more}"


def _hint(name: str) -> str:
    joined, part = [], ""
    for piece in name.split(","):
        part += piece
        if exists(part):
            joined.append(part)
            part = ""
        else:
            part += ","
    if len(joined) > 1 and not part:
        return f"join files that are bands of one scene with plus signs: {' + '.join(joined)}"
    return "check the name"


def _check_sources(name: str | Path, dataset: Any) -> None:
    """Check that the source files of a virtual raster exist, before pixels are read."""
    if dataset.driver != "VRT" or is_gdal_name(name):
        return
    try:
        sources = ElementTree.parse(name).iter("SourceFilename")
    except ElementTree.ParseError:
        return
    for source in sources:
        text = (source.text or "").strip()
        relative = source.get("relativeToVRT") == "1"
        path = Path(name).parent / text if relative else Path(text)
        if text and not is_gdal_name(text) and not path.exists():
            raise OutcropError(
                name, f"refers to {text}, which is missing; restore it, or run gdalbuildvrt again"
            )


def _cause(error: BaseException) -> str:
    text = str(error.__cause__ or error).strip()
    return text.splitlines()[-1] if text else type(error).__name__


@contextmanager
def write_geotiff(path: Path, name: Path, **profile: Any) -> Iterator[Any]:
    """Open a tiled, compressed GeoTIFF for writing. It is read back after it is closed.

    Args:
        name: the final name of the file, for the error message.
        profile: dtype, count, height, width, crs, transform, nodata and so on, as for
            `rasterio.open`.

    Yields:
        a rasterio dataset in writing mode.

    Raises:
        OutcropError: the file could not be written completely.
    """
    import rasterio

    layout = {"compress": "deflate", "tiled": True, "blockxsize": _TILE, "blockysize": _TILE}
    with (
        _read_back(path, name),
        rasterio.open(path, "w", driver="GTiff", **layout, **profile) as dataset,
    ):
        yield dataset


def copy_to_cog(path: Path, to: Path, name: Path, resampling: str) -> None:
    """Copy a GeoTIFF to a Cloud-Optimized GeoTIFF: tiled, with overviews.

    Args:
        name: the final name of the file, for the error message.
        resampling: method that makes the overviews: "mode" for classes, "average" for quantities.

    Raises:
        OutcropError: the file could not be written completely.
    """
    import rasterio.shutil

    layout = {
        "BLOCKSIZE": _COG_BLOCK,
        "COMPRESS": "DEFLATE",
        "OVERVIEWS": "IGNORE_EXISTING",
        "RESAMPLING": resampling,
        "BIGTIFF": "IF_SAFER",
        "SPARSE_OK": "YES",
    }
    with _read_back(to, name):
        rasterio.shutil.copy(path, to, driver="COG", **layout)


@contextmanager
def _read_back(path: Path, name: Path) -> Iterator[None]:
    """Read all blocks of the file that the block wrote, with an error if it is incomplete.

    GDAL raises no error when the last blocks do not reach the disk.
    """
    import rasterio
    from rasterio.errors import RasterioError

    try:
        yield
        with rasterio.open(path) as dataset:
            for _, window in dataset.block_windows(1):
                dataset.read(window=window)
    except RasterioError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise OutcropError(
            name, f"could not be written completely ({cause}); check the free space"
        ) from error
