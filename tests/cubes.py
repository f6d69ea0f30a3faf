"""Small volumes for tests, in every format."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import rasterio
import segyio
import zarr
from rasterio.errors import NotGeoreferencedWarning

INLINES, CROSSLINES = range(100, 110, 2), range(31, 27, -1)


def ramp(dtype: str = "float32", shape: tuple[int, int, int] = (5, 4, 6)) -> np.ndarray:
    """A cube in which no two samples are alike; exact in every format but 8-bit ones of others."""
    return (np.arange(np.prod(shape)).reshape(shape) * 2 + 1).astype(dtype)


def write_segy(
    path: Path,
    cube: np.ndarray,
    places: Iterable[tuple[int, int]] | None = None,
    code: int = 5,
    endian: str = "big",
    inlines: Sequence[int] = INLINES,
    crosslines: Sequence[int] = CROSSLINES,
    at: tuple[int, int] = (189, 193),
    offsets: Sequence[int] | None = None,
    interval: int = 4000,
) -> Path:
    """Write the traces of a cube at `places`, in that order; the default is inline by inline."""
    places = list(np.ndindex(cube.shape[:2]) if places is None else places)
    spec = segyio.spec()
    spec.tracecount, spec.format, spec.endian = len(places), code, endian
    spec.samples = np.arange(cube.shape[2]) * 4.0
    with segyio.create(path, spec) as file:
        for number, (i, j) in enumerate(places):
            offset = 1 if offsets is None else offsets[number]
            file.header[number] = {at[0]: inlines[i], at[1]: crosslines[j], 37: offset}
            file.trace[number] = cube[i, j].astype(file.dtype)
        file.bin[segyio.BinField.Interval] = interval
    return path


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    """Write `rows × columns`, or `bands × rows × columns`."""
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, **shape) as dataset:
            dataset.write(pixels)
    return path


def write_stack(folder: Path, cube: np.ndarray, suffix: str) -> Path:
    """Write slices whose order by letters is not that by numbers."""
    folder.mkdir()
    for number, pixels in enumerate(cube, start=8):
        write_picture(folder / f"slice_{number}{suffix}", pixels)
    return folder


def write_zarr(path: Path, cube: np.ndarray, name: str | None = None, **options: object) -> Path:
    """Write an array, or a group with the array under `name`."""
    options.setdefault("chunks", (2, 3, 4))
    target = path if name is None else zarr.open_group(path, mode="w").store_path / name
    zarr.create_array(target, data=cube, **options)
    return path
