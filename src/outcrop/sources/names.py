"""Names of rasters and vector files: paths, and GDAL's names of subdatasets, archives and URLs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from outcrop.errors import OutcropError

# A single letter before a colon is a Windows drive.
_DRIVER = re.compile(r"[A-Za-z][A-Za-z0-9_]+:.")
_ARCHIVED = re.compile(r"(zip|tar)(?:\+file)?://(?!.*://)(.+?)(?:!/?(.*))?")
_REMOTE = re.compile(r"/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)\b|(https?|ftp|s3|gs|az)://")
# Fetch only the header and the blocks that are read, without a listing of the folder.
_REMOTE_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "VSI_CACHE": True}


def is_gdal_name(name: str | Path) -> bool:
    """Whether GDAL has to resolve a name, because it is not the path of a file or folder.

    >>> [is_gdal_name(n) for n in ("a.tif", "NETCDF:a.nc:x", "/vsizip/a.zip/a.tif", "s3://b/a.tif")]
    [False, True, True, True]
    """
    text = str(name)
    if text.startswith("/vsi") or "://" in text:
        return True
    return bool(_DRIVER.match(text)) and not Path(text).exists()


def is_remote(name: str | Path) -> bool:
    """Whether a name refers to data that is fetched over a network.

    >>> is_remote("NETCDF:/vsicurl/https://host/a.nc:x"), is_remote("/vsizip/a.zip/a.tif")
    (True, False)
    """
    return _REMOTE.search(str(name)) is not None


def normalized_name(name: str | Path) -> str:
    """The stored form of a name: the shortest form of a path, GDAL's name of an archive member.

    >>> normalized_name("a//b.tif"), normalized_name("zip://a.zip!b/c.tif")
    ('a/b.tif', '/vsizip/a.zip/b/c.tif')
    >>> normalized_name("s3://bucket/a.tif")
    's3://bucket/a.tif'
    """
    if archived := _ARCHIVED.fullmatch(str(name)):
        return f"/vsi{archived[1]}/{archived[2]}" + (f"/{archived[3]}" if archived[3] else "")
    return str(name) if is_gdal_name(name) else str(Path(name))


def exists(name: str | Path) -> bool:
    """Whether a file of this name exists. Names that GDAL resolves are assumed to exist."""
    return is_gdal_name(name) or Path(name).exists()


def existing_name(name: str | Path) -> str:
    """The normalised name of a file that exists; see `exists`.

    Raises:
        OutcropError: a path at which there is no file.
    """
    if not exists(name := normalized_name(name)):
        raise OutcropError(name, "there is no such file; check the name")
    return name


def file_name(name: str | Path) -> str:
    """The last part of a name; for a subdataset the file name and the name of the subdataset.

    >>> file_name("/vsizip/a.zip/b/c.tif"), file_name('NETCDF:"d/a.nc":x'), file_name("d/e, f.tif")
    ('c.tif', 'a.nc x', 'e, f.tif')
    """
    text = str(name)
    if not is_gdal_name(text):
        return Path(text).name
    if "://" in text or text.startswith("/vsi"):
        return PurePosixPath(text.partition("?")[0].replace("!", "/")).name
    parts = [part.strip('"') for part in text.split(":")[1:]]
    return " ".join(part.replace("\\", "/").rpartition("/")[2] for part in parts if part)


def stem(name: str | Path) -> str:
    """`file_name` without its suffix.

    >>> stem("https://host/scene.tif"), stem("2018-10-13, B01.tiff")
    ('scene', '2018-10-13, B01')
    """
    return Path(file_name(name)).stem


def file_stamp(name: str) -> list[Any]:
    """Name, size and modification time of a file: they change when the file changes.

    For a name that GDAL resolves, only the name is returned.
    """
    if is_gdal_name(name):
        return [name]
    stat = Path(name).stat()
    return [name, stat.st_size, stat.st_mtime_ns]


@contextmanager
def gdal_for(*names: str | Path, **options: Any) -> Iterator[None]:
    """Set GDAL's options for reading the named files within the block."""
    import rasterio

    remote = _REMOTE_OPTIONS if any(map(is_remote, names)) else {}
    with rasterio.Env(**remote, **options):
        yield
