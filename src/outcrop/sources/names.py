"""Names of rasters and vectors as GDAL takes them: paths, subdatasets, archives and addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from outcrop.errors import OutcropError

# One letter before a colon is a drive of Windows.
_DRIVER = re.compile(r"[A-Za-z][A-Za-z0-9_]+:.")
_ARCHIVED = re.compile(r"(zip|tar)(?:\+file)?://(?!.*://)(.+?)(?:!/?(.*))?")
_REMOTE = re.compile(r"/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)\b|(https?|ftp|s3|gs|az)://")
# Of a remote file the header and the wanted blocks are fetched, and no list of its neighbours.
_REMOTE_OPTIONS = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "VSI_CACHE": True}


def is_gdal_name(name: str | Path) -> bool:
    """Whether a name is for GDAL to resolve, and not the path of a file or folder.

    >>> [is_gdal_name(n) for n in ("a.tif", "NETCDF:a.nc:x", "/vsizip/a.zip/a.tif", "s3://b/a.tif")]
    [False, True, True, True]
    """
    text = str(name)
    if text.startswith("/vsi") or "://" in text:
        return True
    return bool(_DRIVER.match(text)) and not Path(text).exists()


def is_remote(name: str | Path) -> bool:
    """Whether what a name names is fetched over a network.

    >>> is_remote("NETCDF:/vsicurl/https://host/a.nc:x"), is_remote("/vsizip/a.zip/a.tif")
    (True, False)
    """
    return _REMOTE.search(str(name)) is not None


def normal(name: str | Path) -> str:
    """A name as it is kept: a path in its shortest form, a member of an archive as GDAL names it.

    >>> normal("a//b.tif"), normal("zip://a.zip!b/c.tif"), normal("s3://bucket/a.tif")
    ('a/b.tif', '/vsizip/a.zip/b/c.tif', 's3://bucket/a.tif')
    """
    if archived := _ARCHIVED.fullmatch(str(name)):
        return f"/vsi{archived[1]}/{archived[2]}" + (f"/{archived[3]}" if archived[3] else "")
    return str(name) if is_gdal_name(name) else str(Path(name))


def exists(name: str | Path) -> bool:
    """Whether there is something of this name; what GDAL resolves counts as there."""
    return is_gdal_name(name) or Path(name).exists()


def present(name: str | Path) -> str:
    """A name as it is kept, if there may be something of this name.

    Raises:
        OutcropError: it is the path of no file.
    """
    if not exists(name := normal(name)):
        raise OutcropError(name, "no such file; check the name")
    return name


def file_name(name: str | Path) -> str:
    """The last part of a name: the file, with a subdataset's own name behind it.

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
    """`file_name` without its ending.

    >>> stem("https://host/scene.tif"), stem("2018-10-13, B01.tiff")
    ('scene', '2018-10-13, B01')
    """
    return Path(file_name(name)).stem


def stamp(name: str) -> list[Any]:
    """Name, size and time of change of a file, to see whether it is still the same."""
    if is_gdal_name(name):
        return [name]
    stat = Path(name).stat()
    return [name, stat.st_size, stat.st_mtime_ns]


@contextmanager
def gdal_for(*names: str | Path, **options: Any) -> Iterator[None]:
    """GDAL's settings for reading files of these names."""
    import rasterio

    remote = _REMOTE_OPTIONS if any(map(is_remote, names)) else {}
    with rasterio.Env(**remote, **options):
        yield
