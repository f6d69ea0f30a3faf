"""GeoTIFFs that are whole, or an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from outcrop.errors import OutcropError

_TILE = 256
_COG_BLOCK = 512


@contextmanager
def write_geotiff(path: Path, name: Path, **profile: Any) -> Iterator[Any]:
    """A tiled, compressed GeoTIFF, open for writing; read back when it is closed.

    Args:
        path: where it is written.
        name: what it will be called, for the error line.
        profile: dtype, count, height, width, crs, transform, nodata and more, as rasterio takes
            them.

    Raises:
        OutcropError: it could not be written whole.
    """
    import rasterio
    from rasterio.errors import RasterioError

    layout = {"compress": "deflate", "tiled": True, "blockxsize": _TILE, "blockysize": _TILE}
    try:
        with rasterio.open(path, "w", driver="GTiff", **layout, **profile) as dataset:
            yield dataset
        _read_back(path)
    except RasterioError as error:
        raise OutcropError(
            name, f"could not be written whole; is the disk full? ({_cause(error)})"
        ) from error


def copy_to_cog(path: Path, to: Path, name: Path, resampling: str) -> None:
    """Copy a GeoTIFF into a Cloud-Optimized one: tiles, with smaller and smaller overviews.

    Args:
        path: what is copied.
        to: where it is written.
        name: what it will be called, for the error line.
        resampling: how overviews are made: "mode" for classes, "average" for amounts.

    Raises:
        OutcropError: it could not be written whole.
    """
    import rasterio
    import rasterio.shutil
    from rasterio.errors import RasterioError

    layout = {
        "BLOCKSIZE": _COG_BLOCK,
        "COMPRESS": "DEFLATE",
        "OVERVIEWS": "IGNORE_EXISTING",
        "RESAMPLING": resampling,
        "BIGTIFF": "IF_SAFER",
        "SPARSE_OK": "YES",
    }
    try:
        rasterio.shutil.copy(path, to, driver="COG", **layout)
        _read_back(to)
    except RasterioError as error:
        raise OutcropError(
            name, f"could not be written whole; is the disk full? ({_cause(error)})"
        ) from error


def _read_back(path: Path) -> None:
    """GDAL does not raise when the last blocks fail to reach the disk."""
    import rasterio

    with rasterio.open(path) as dataset:
        for _, window in dataset.block_windows(1):
            dataset.read(window=window)


def _cause(error: Exception) -> str:
    return str(error.__cause__ or error).splitlines()[0]
