"""Rasters that are opened, or refused for what is wrong with them."""

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


@contextmanager
def open_dataset(name: str | Path) -> Iterator[Any]:
    """Open anything that GDAL reads: a file, a subdataset, an archive's member, an address.

    Yields:
        a rasterio dataset with at least one band.

    Raises:
        OutcropError: there is nothing of this name; it is no raster; it only holds others; it is
            a virtual raster of which a source is missing.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    if not exists(name):
        raise OutcropError(name, f"no such file; {_hint(str(name))}")
    with gdal_for(name), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(name)
        except RasterioIOError as error:
            if is_gdal_name(name):
                reason = f"cannot be opened ({_cause(error)}); check the name"
            else:
                reason = "is not a raster that GDAL can read, or is damaged; pass e.g. a GeoTIFF"
            raise OutcropError(name, reason) from None
        with dataset:
            if dataset.count == 0:
                raise OutcropError(name, _without_bands(dataset))
            _check_sources(name, dataset)
            yield dataset


def check_place(name: str | Path, dataset: Any) -> None:
    """Refuse a raster that has no grid on the ground.

    Raises:
        OutcropError: it has control points or polynomials instead of a grid, or nothing.
    """
    if not dataset.transform.is_identity:
        return
    if dataset.gcps[0]:
        raise OutcropError(
            name,
            f"has {len(dataset.gcps[0])} ground control points and no grid; make one with: "
            f"gdalwarp -tps '{name}' warped.tif",
        )
    if dataset.rpcs:
        raise OutcropError(
            name,
            "has rational polynomial coefficients and no grid; make one with: "
            f"gdalwarp -rpc '{name}' warped.tif",
        )
    raise OutcropError(
        name,
        "has no geotransform, so that its place is unknown; write one into it, e.g. with: "
        f"gdal_edit.py -a_ullr LEFT TOP RIGHT BOTTOM '{name}'",
    )


def check_numbers(name: str | Path, dataset: Any, numbers: list[int]) -> None:
    """Refuse bands whose values are no amounts.

    Raises:
        OutcropError: they are complex, or numbers of colours in a palette.
    """
    from rasterio.enums import ColorInterp

    for number in numbers:
        if "complex" in dataset.dtypes[number - 1]:
            raise OutcropError(
                name,
                f"band {number} holds complex numbers; take the amplitude: "
                f"DERIVED_SUBDATASET:AMPLITUDE:{name}",
            )
        if dataset.colorinterp[number - 1] == ColorInterp.palette:
            raise OutcropError(
                name,
                f"band {number} holds numbers of colours and no amounts; take the raster that it "
                f"was drawn from, or its colours: gdal_translate -expand rgb '{name}' colours.tif",
            )


def why_unreadable(error: Exception) -> str:
    """The cause and the remedy, of a failure to read pixels."""
    cause = _cause(error)
    if "No such file" in cause or "does not exist" in cause:
        return f"a file that it refers to is missing ({cause}); put it there"
    if "HTTP" in cause or "CURL" in cause:
        return f"the server did not answer ({cause}); try again"
    return "the file is truncated or damaged, fetch it again"


def _without_bands(dataset: Any) -> str:
    inner = dataset.subdatasets
    if not inner:
        return "holds no bands"
    more = f" and {len(inner) - _MOST_LISTED} more" if len(inner) > _MOST_LISTED else ""
    return f"holds {len(inner)} rasters; name one: {'  '.join(inner[:_MOST_LISTED])}{more}"


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
        return f"files that are bands of one scene are joined by plus signs: {' + '.join(joined)}"
    return "check the name"


def _check_sources(name: str | Path, dataset: Any) -> None:
    """Refuse a virtual raster of which a source is missing, before it is read."""
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
                name, f"refers to {text}, which is missing; put it there, or run gdalbuildvrt again"
            )


def _cause(error: BaseException) -> str:
    text = str(error.__cause__ or error).strip()
    return text.splitlines()[-1] if text else type(error).__name__
