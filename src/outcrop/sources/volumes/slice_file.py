"""One slice of a stack: a grey PNG file, or a page of a TIFF file.

TIFF is read by GDAL, which knows every dtype and reads a part of a slice; PNG by Pillow, because
GDAL takes a PNG file that is cut off for a whole one and makes up the rows that are missing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.sources.collections.picture import strict
from outcrop.sources.dtypes import kept
from outcrop.sources.volumes.cf import Packing

FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
_GREY = {"1": "uint8", "L": "uint8", "I;16": "uint16", "I": "uint16"}
_CACHE_BYTES = 128 << 20


@dataclass(frozen=True)
class Slice:
    """Where one slice lies, and what it is.

    Attributes:
        page: of a TIFF file, in GDAL's words.
        shape: rows and columns.
        dtype: NumPy's name of it, as stored.
        packing: how what is stored becomes samples: by the scale, offset and nodata value of TIFF.
        masked: whether it has a mask of its own.
    """

    file: Path
    page: str
    shape: tuple[int, int]
    dtype: str
    packing: Packing
    masked: bool = False

    @property
    def read_as(self) -> np.dtype:
        """The type of its samples."""
        changed = self.masked or not self.packing.keeps
        return np.dtype("float32") if changed else kept(np.dtype(self.dtype))

    def __str__(self) -> str:
        return f"{self.shape[0]} × {self.shape[1]} {self.dtype}"


def slices_of(file: Path) -> list[Slice]:
    """Look at a file: one slice, or as many as a TIFF file has pages.

    Raises:
        OutcropError: it cannot be read, or is not grey.
    """
    if FORMATS[file.suffix.lower()] == "PNG":
        with _png(file) as image:
            if image.mode not in _GREY:
                raise _not_grey(file)
            size = image.height, image.width
            return [Slice(file, str(file), size, _GREY[image.mode], Packing())]
    with _tiff(file, str(file)) as dataset:
        pages = sorted(dataset.subdatasets, key=_page_number)
        _check_stack(file, dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION", ""))
        if not pages:
            return [_slice(file, str(file), dataset)]
    found = []
    for page in pages:
        with _tiff(file, page) as dataset:
            found.append(_slice(file, page, dataset))
    return found


def is_pages(file: Path) -> bool:
    """Whether this is a TIFF file of several pages that have no place on the ground."""
    try:
        with _tiff(file, str(file)) as dataset:
            return len(dataset.subdatasets) > 1 and dataset.crs is None and not dataset.gcps[0]
    except OutcropError:
        return False


def read_slice(part: Slice, rows: slice, columns: slice) -> np.ndarray:
    """Read a part of a slice, `rows × columns`, in its type `read_as` or the stored one.

    Raises:
        OutcropError: the file is cut off or damaged, or has changed since it was looked at.
    """
    if FORMATS[part.file.suffix.lower()] == "PNG":
        with _png(part.file) as image:
            _check_same(part, (image.height, image.width))
            return np.asarray(image)[rows, columns]
    from rasterio.windows import Window

    with _tiff(part.file, part.page) as dataset:
        _check_same(part, dataset.shape)
        window = Window.from_slices(rows, columns)
        samples = part.packing.unpack(dataset.read(1, window=window))
        if part.masked:
            samples = np.where(dataset.read_masks(1, window=window) > 0, samples, np.nan)
        return samples


def _check_stack(file: Path, description: str) -> None:
    """Refuse pages that ImageJ says are of several channels or times, one after the other."""
    several = re.findall(r"^(channels|frames)=(\d+)", description, re.MULTILINE)
    for what, count in several:
        if description.startswith("ImageJ=") and int(count) > 1:
            raise OutcropError(
                file, f"holds {count} {what} page by page; save one of them as a stack of slices"
            )


def _page_number(page: str) -> int:
    """The number in GDAL's name of a page, GTIFF_DIR:12:name; they come sorted as text."""
    return int(page.split(":")[1])


def _slice(file: Path, page: str, dataset: Any) -> Slice:
    from rasterio.enums import ColorInterp, MaskFlags

    dtype = dataset.dtypes[0]
    coloured = dataset.count != 1 or dataset.colorinterp[0] == ColorInterp.palette
    if coloured or dtype.startswith("complex"):
        raise _not_grey(file)
    nodata = dataset.nodata
    return Slice(
        file,
        page,
        dataset.shape,
        dtype,
        Packing(
            scale=dataset.scales[0] or 1.0,
            offset=dataset.offsets[0],
            missing=() if nodata is None else (float(nodata),),
        ),
        masked=MaskFlags.per_dataset in dataset.mask_flag_enums[0],
    )


@contextmanager
def _png(file: Path) -> Iterator[Any]:
    from PIL import Image

    with _readable(file), strict(), Image.open(file, formats=("PNG",)) as image:
        yield image


@contextmanager
def _tiff(file: Path, page: str) -> Iterator[Any]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    # GDAL would look for side files in a listing of the folder, again for every slice.
    quick = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_CACHEMAX": _CACHE_BYTES}
    with (
        _readable(file),
        rasterio.Env(**quick),
        strict(),
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(page, driver="GTiff") as dataset,
    ):
        yield dataset


def _check_same(part: Slice, shape: tuple[int, int]) -> None:
    if shape != part.shape:
        raise OutcropError(part.file, "has changed since it was opened; open the volume again")


def _not_grey(file: Path) -> OutcropError:
    return OutcropError(file, "is not grey; convert the slices to one band of numbers")


def _readable(file: Path) -> AbstractContextManager[None]:
    return decoding(file, f"a whole {FORMATS[file.suffix.lower()]} file", "fetch it again")
