"""What a raster file declares about itself, and zeros that may be undeclared nodata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.sources.grids import Grid, parse_crs
from outcrop.sources.names import is_remote, stem
from outcrop.sources.raster_io import check_numbers, check_place, open_dataset
from outcrop.sources.scene import NO_CRS, Band, Scene

ZEROS_SHARE = 0.03
_ZEROS_SIDE = 512


@dataclass(frozen=True)
class RasterFile:
    """What is known of one raster file without reading its pixels.

    Attributes:
        name: the name that GDAL opens.
        grid: the grid of the file.
        bands: the bands, without alpha bands.
        dtypes: the stored dtype of each band, by its number.
        nodata: the declared nodata value of each band, by its number.
        named: whether all bands have descriptions.
        masked: whether a mask band, which is not an alpha band, marks valid pixels.
        sensor: platform and instrument from the tags, "" where there are none.
    """

    name: str
    grid: Grid
    bands: tuple[Band, ...]
    dtypes: dict[int, str]
    nodata: dict[int, float | None]
    named: bool
    masked: bool
    sensor: str


def describe_raster(name: str, crs: str | None, numbers: bool = True) -> RasterFile:
    """Read what a raster file declares about itself.

    Args:
        name: a name that GDAL opens.
        crs: coordinate reference system for a file without one.
        numbers: whether bands with complex or paletted values raise an error.

    Raises:
        OutcropError: the file cannot be opened; it has only an alpha band, no geotransform or no
            coordinate reference system; its values are not quantities.
    """
    from rasterio.enums import ColorInterp, MaskFlags

    with open_dataset(name) as dataset:
        alpha = [interpretation == ColorInterp.alpha for interpretation in dataset.colorinterp]
        found = [i for i in dataset.indexes if not alpha[i - 1]]
        if not found:
            raise OutcropError(name, "has only an alpha band; pass a raster with data")
        if numbers:
            check_numbers(name, dataset, found)
        check_place(name, dataset)
        if not dataset.crs and crs is None:
            raise OutcropError(name, NO_CRS)
        own = dataset.crs.to_wkt() if dataset.crs else parse_crs(crs, "`crs`")
        grid = Grid(own, tuple(dataset.transform)[:6], dataset.height, dataset.width)
        return RasterFile(
            name=name,
            grid=grid,
            bands=tuple(_band(dataset, i, name, own) for i in found),
            dtypes={i: dataset.dtypes[i - 1] for i in found},
            nodata={i: dataset.nodatavals[i - 1] for i in found},
            named=all(dataset.descriptions[i - 1] for i in found),
            masked=not any(alpha)
            and any(MaskFlags.per_dataset in dataset.mask_flag_enums[i - 1] for i in found),
            sensor=_sensor(dataset),
        )


def _band(dataset: Any, number: int, name: str, crs: str) -> Band:
    described = (dataset.descriptions[number - 1] or "").strip()
    default = stem(name) if dataset.count == 1 else f"band {number}"
    return Band(
        file=name,
        number=number,
        name=described or default,
        scale=float(dataset.scales[number - 1]),
        offset=float(dataset.offsets[number - 1]),
        unit=dataset.units[number - 1] or "",
        crs=crs,
    )


def _sensor(dataset: Any) -> str:
    """Platform and instrument from the tags of a file."""
    tags = {key.upper(): value for key, value in dataset.tags().items()}
    tags |= {key.upper(): value for key, value in dataset.tags(ns="IMAGERY").items()}
    keys = ("SPACECRAFT_NAME", "SATELLITEID", "PLATFORM", "SENSOR_ID", "SENSOR", "INSTRUMENT")
    return " ".join(dict.fromkeys(tags[key].strip() for key in keys if tags.get(key)))


def undeclared_zeros(scene: Scene) -> float:
    """Share of a scene, from 0 to 1, that is 0 in all bands and connected to the edge of the scene.

    The share is estimated at no more than 512 × 512 pixels. It is 0 where a nodata value is
    declared and for scenes that are read over a network.
    """
    from scipy.ndimage import label

    if any(map(is_remote, scene.files)) or scene.reading.nodata is not None:
        return 0.0
    shape = min(scene.height, _ZEROS_SIDE), min(scene.width, _ZEROS_SIDE)
    empty = np.ones(shape, bool)
    for band in scene.bands:
        with open_dataset(band.file) as dataset:
            if band.nodata is not None or dataset.nodatavals[band.number - 1] is not None:
                return 0.0
            zero = _coarse(dataset, band.number, shape)
        if zero is None:
            return 0.0
        empty &= zero
        if empty.mean() < ZEROS_SHARE:
            return 0.0
    pieces, _ = label(empty)
    rim = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    return float(np.isin(pieces, np.unique(rim[rim > 0])).mean())


def _coarse(dataset: Any, number: int, shape: tuple[int, int]) -> np.ndarray | None:
    """Where a band is 0, at reduced resolution; None if the band cannot be read."""
    from rasterio.errors import RasterioError

    try:
        valid = dataset.read_masks(number, out_shape=shape) > 0
        return (dataset.read(number, out_shape=shape) == 0) & valid
    except RasterioError:
        return None
