"""Small rasters for the tests."""

from __future__ import annotations

import numpy as np
import rasterio
from affine import Affine

UTM = "EPSG:32648"
GRID = Affine(10, 0, 600_000, 0, -10, 1_200_000)


def write_raster(
    path,
    pixels,
    crs=UTM,
    transform=GRID,
    nodata=None,
    **options,
):
    """Write `bands × rows × columns` (or rows × columns) as a GeoTIFF and return its path."""
    pixels = np.asarray(pixels)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=pixels.dtype,
        count=pixels.shape[0],
        height=pixels.shape[1],
        width=pixels.shape[2],
        crs=crs,
        transform=transform,
        nodata=nodata,
        **options,
    ) as dataset:
        dataset.write(pixels)
    return path


def tagged(path, values, names, **options):
    """Write a class map: rows × columns, 0 is no data, the classes follow from 1."""
    write_raster(path, np.asarray(values, np.uint8), **{"nodata": 0} | options)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(names, start=1)})
    return path


def ramp(bands=2, height=40, width=50, dtype="uint16"):
    """Pixels that all differ: value = 1 + their number in the raster."""
    return (1 + np.arange(bands * height * width)).reshape(bands, height, width).astype(dtype)
