"""Decode one PNG, JPEG or TIFF image in memory to an array."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from outcrop.sources.dtypes import DTYPES

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"


def decode_image(name: str, content: bytes) -> np.ndarray:
    """Decode an image: `bands × height × width`, uint8, uint16, int16 or float32.

    Grey images have one band; palettes and other colour models become RGB. The alpha band of a PNG
    is dropped. A TIFF keeps all bands: GDAL marks the fourth band of uint8 images as alpha by
    default, but it is often near infrared. Float64 becomes float32. The nodata value of a float
    TIFF becomes NaN; that of an integer TIFF is kept.

    Args:
        name: the file name, whose suffix is the format.

    Raises:
        Exception: the image has another format or dtype, is truncated, or has more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS`. The class depends on the decoder; see
            `outcrop.files.decoding`.
    """
    if PurePosixPath(name).suffix.lower() in (".tif", ".tiff"):
        return _through_gdal(content, "GTiff")
    if content.startswith(_PNG) and content[24:25] == b"\x10":
        bands = _through_gdal(content, "PNG")  # Pillow reduces 16-bit colour to 8 bits
        return bands[: len(bands) - 1 if len(bands) in (2, 4) else None]
    with Image.open(BytesIO(content), formats=("PNG", "JPEG")) as image:
        grey = image.mode in ("1", "L", "LA")
        return np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB"))).transpose(2, 0, 1)


@contextmanager
def limit_image_size() -> Iterator[None]:
    """Within the block, Pillow raises an error for images that could be decompression bombs."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _through_gdal(content: bytes, driver: str) -> np.ndarray:
    from rasterio.enums import ColorInterp
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        MemoryFile(content) as memory,
        memory.open(driver=driver) as source,
    ):
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and source.width * source.height * source.count > limit:
            raise Image.DecompressionBombError(f"more than {limit} pixels in all bands")
        bands = source.read()
        if source.colorinterp[0] == ColorInterp.palette:
            table = np.zeros((256, 4), np.uint8)
            for index, colour in source.colormap(1).items():
                table[index] = colour
            return table[bands[0]][..., :3].transpose(2, 0, 1)
        if bands.dtype == np.float64:
            bands = bands.astype(np.float32)
        if bands.dtype.name not in DTYPES:
            raise ValueError(f"pixels are {bands.dtype}, not one of {', '.join(DTYPES)}")
        if bands.dtype == np.float32 and source.nodata is not None:
            bands[bands == np.float32(source.nodata)] = np.nan
        return bands
