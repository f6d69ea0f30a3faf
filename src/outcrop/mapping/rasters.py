"""Rasters of classes: what a map holds, and the truth on its grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.mapping.layers import NO_SHARE
from outcrop.sources.class_raster import windows
from outcrop.sources.geodesy import PixelAreas
from outcrop.sources.scene import CACHE_BYTES

_HECTARE = 10_000


def map_classes(path: str | Path) -> tuple[str, ...]:
    """The class names of a map that `map_scene` wrote, in the order of its values.

    Raises:
        OutcropError: the file is missing, or is no class map.
    """
    with open_raster(path) as dataset:
        tags, dtype = dataset.tags(1), dataset.dtypes[0]
    names: list[str] = []
    while f"CLASS_{len(names) + 1}" in tags:
        names.append(tags[f"CLASS_{len(names) + 1}"])
    if not names or dtype != "uint8":
        raise OutcropError(path, "is no class map; make one with `outcrop map`")
    return tuple(names)


def count_values(path: str | Path) -> np.ndarray:
    """Pixels of each value of a uint8 raster: int64, `256`.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    counts = np.zeros(256, np.int64)
    with open_raster(path) as dataset:
        for window in windows(dataset):
            counts += np.bincount(dataset.read(1, window=window).ravel(), minlength=256)
    return counts


def count_classes(path: str | Path) -> np.ndarray:
    """Pixels of each class of a map: int64, `K`; pixels without data are not counted.

    Raises:
        OutcropError: the map has values that are no class of it.
    """
    counts = count_values(path)
    known = len(map_classes(path)) + 1
    if counts[known:].any():
        beyond = ", ".join(map(str, known + np.flatnonzero(counts[known:])))
        raise OutcropError(path, f"has no name for the values {beyond}; give its band the tags")
    return counts[1:known]


def share_outside(path: str | Path) -> float:
    """The share of a map's pixels that lie outside the area of applicability; NaN if none has data.

    Args:
        path: the layer "dissimilarity" that `map_scene` wrote.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    counts = count_values(path)
    known = counts[:NO_SHARE].sum()
    return float(counts[101:NO_SHARE].sum() / known) if known else np.nan


def class_hectares(path: str | Path, counts: np.ndarray, areas: PixelAreas) -> np.ndarray:
    """True hectares of each class of a map: float64, `K`; NaN where areas are unknown.

    Args:
        counts: int, `K`, as `count_classes` gives them.
        areas: of the map's pixels.
    """
    if areas.are_equal:
        return counts * areas.constant / _HECTARE
    total = np.zeros(256)
    with open_raster(path) as dataset:
        for window in windows(dataset):
            area = areas.window(window.row_off, window.col_off, window.height, window.width)
            values = dataset.read(1, window=window)
            total += np.bincount(values.ravel(), area.ravel(), minlength=256)
    return total[1 : len(counts) + 1] / _HECTARE


@contextmanager
def open_raster(path: str | Path) -> Iterator[Any]:
    """A raster file as an open rasterio dataset.

    Raises:
        OutcropError: the file is missing, or is no raster, or is damaged.
    """
    import rasterio
    from rasterio.errors import RasterioError

    if not Path(path).exists():
        raise OutcropError(path, "no such file")
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(path) as dataset:
            yield dataset
    except RasterioError:
        raise OutcropError(
            path, "is not a raster that GDAL can read, or is damaged; export it anew"
        ) from None
