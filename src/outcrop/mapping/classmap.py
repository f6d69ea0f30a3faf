"""Class maps on disk: Cloud-Optimized GeoTIFF with nodata, colours and class names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from outcrop import __version__
from outcrop.files import new_file
from outcrop.frames import Colour
from outcrop.mapping.job import Window
from outcrop.mapping.layers import LAYERS, Layer
from outcrop.mapping.openmap import count_values
from outcrop.mapping.styles import attribute_table, class_style, ramp_style
from outcrop.sources.raster_io import copy_to_cog, write_geotiff
from outcrop.sources.scene import CACHE_BYTES, Scene

_REPEATS = 2
# Files that GDAL reads together with NAME: statistics and names, overviews, a mask, and the
# attribute table of ArcGIS.
_GDAL_SIDECARS = (".aux.xml", ".ovr", ".msk", ".vat.dbf")

Windows = Iterable[tuple[Window, np.ndarray]]


def write_maps(
    files: Mapping[str, Path],
    scene: Scene,
    classes: Mapping[str, Colour],
    windows: Windows,
    scratch: Path,
    sieve: int = 0,
) -> None:
    """Write layers as Cloud-Optimized GeoTIFFs, all or none.

    The tags `CLASS_1`, ... of the band hold the class names. Each file gets a style for QGIS,
    `NAME.qml`; layers of classes also get `NAME.tif.aux.xml`, in which GDAL finds names, colours
    and numbers of pixels. Other `sidecars` of replaced files are removed.

    Args:
        files: path of each layer by its name in `LAYERS`, in the order of `windows`.
        classes: colour of each class by name, in the order of the values from 1.
        windows: layers of every window, uint8, `layers × height × width`.
        scratch: folder on the same disk for unfinished files.
        sieve: connected areas of fewer pixels get the class of their largest neighbour; pixels that
            touch only at a corner are not connected.

    Raises:
        OutcropError: the disk is full.
    """
    import rasterio

    stale: list[Path] = []
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), ExitStack() as renames:
        plain = {name: scratch / f"{name}.tif" for name in files}
        _fill(plain, files, scene, classes, windows)
        if sieve > 1:
            _sieve(plain["classes"], sieve, scratch)
        for name, path in files.items():
            layer = LAYERS[name]
            beside = _texts_beside(path, layer, classes, plain[name])
            for further, text in beside.items():
                renames.enter_context(new_file(further)).write_text(text, encoding="utf-8")
            stale += [one for one in sidecars(path) if one not in beside]
            temporary = renames.enter_context(new_file(path))
            copy_to_cog(plain[name], temporary, path, "average" if layer.averages else "mode")
            plain[name].unlink()
    for one in stale:
        one.unlink(missing_ok=True)


def sidecars(path: Path) -> tuple[Path, ...]:
    """Paths of the files that QGIS and GDAL read together with a GeoTIFF.

    >>> [one.name for one in sidecars(Path("map.tif"))]
    ['map.qml', 'map.tif.aux.xml', 'map.tif.ovr', 'map.tif.msk', 'map.tif.vat.dbf']
    """
    named = (path.with_name(path.name + ending) for ending in _GDAL_SIDECARS)
    return path.with_suffix(".qml"), *named


def _texts_beside(
    path: Path, layer: Layer, classes: Mapping[str, Colour], plain: Path
) -> dict[Path, str]:
    """Path and contents of the text files beside a map.

    Args:
        plain: the unfinished map.
    """
    style, table, *_ = sidecars(path)
    if layer.ramp is not None:
        return {style: ramp_style(layer.ramp, layer.unit)}
    names, chosen = list(classes), list(classes.values())
    return {
        style: class_style(names, chosen),
        table: attribute_table(names, chosen, count_values(plain)[1 : len(classes) + 1]),
    }


def _fill(
    plain: Mapping[str, Path],
    files: Mapping[str, Path],
    scene: Scene,
    classes: Mapping[str, Colour],
    windows: Windows,
) -> None:
    from affine import Affine
    from rasterio.windows import Window as Part

    profile = {
        "dtype": "uint8",
        "count": 1,
        "height": scene.height,
        "width": scene.width,
        "crs": scene.crs,
        "transform": Affine(*scene.transform),
        "bigtiff": "if_safer",
    }
    with ExitStack() as opened:
        datasets = []
        for name, path in plain.items():
            layer = LAYERS[name]
            written = write_geotiff(path, files[name], **profile, nodata=layer.nodata)
            dataset = opened.enter_context(written)
            _describe(dataset, layer, classes)
            datasets.append(dataset)
        for window, layers in windows:
            part = Part(window.column, window.row, window.width, window.height)
            for dataset, values in zip(datasets, layers, strict=True):
                dataset.write(values, 1, window=part)


def _describe(dataset: Any, layer: Layer, classes: Mapping[str, Colour]) -> None:
    dataset.set_band_description(1, layer.title)
    dataset.update_tags(TIFFTAG_SOFTWARE=f"outcrop {__version__}")
    if layer.averages:
        dataset.set_band_unit(1, layer.unit)
        return
    table = {layer.nodata: (0, 0, 0, 0)}
    table |= {i: (*rgb, 255) for i, rgb in enumerate(classes.values(), start=1)}
    dataset.write_colormap(1, table)
    dataset.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(classes, start=1)})


def _sieve(path: Path, pixels: int, scratch: Path) -> None:
    """Remove small areas, the smallest first: GDAL merges none into a neighbour that is too small.

    GDAL needs the whole raster at once. It lies in memory-mapped files.
    """
    import rasterio
    from rasterio.features import sieve

    with rasterio.open(path, "r+") as dataset:
        shape = dataset.height, dataset.width
        now, then = (
            np.memmap(scratch / name, np.uint8, "w+", shape=shape) for name in ("now", "then")
        )
        for _, part in dataset.block_windows(1):
            now[part.toslices()] = dataset.read(1, window=part)
        valid = np.memmap(scratch / "valid", bool, "w+", shape=shape)
        np.greater(now, 0, out=valid)
        for smallest in _growing(pixels):
            sieve(now, smallest, out=then, mask=valid, connectivity=4)
            # GDAL may fill masked pixels.
            then *= valid
            now, then = then, now
        for _, part in dataset.block_windows(1):
            dataset.write(np.asarray(now[part.toslices()]), 1, window=part)
    for name in ("now", "then", "valid"):
        (scratch / name).unlink()


def _growing(pixels: int) -> list[int]:
    """Sizes up to `pixels`, each one and a half times the previous one.

    >>> _growing(12)
    [2, 3, 5, 8, 12, 12, 12]
    """
    sizes = [2]
    while sizes[-1] < pixels:
        sizes.append(min(pixels, -(-3 * sizes[-1] // 2)))
    return sizes + [pixels] * _REPEATS
