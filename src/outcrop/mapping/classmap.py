"""Class maps on disk: Cloud-Optimized GeoTIFF with nodata, colours and class names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from outcrop import __version__
from outcrop.files import new_file
from outcrop.mapping.layers import LAYERS, Layer
from outcrop.mapping.tiling import Window
from outcrop.patches.palette import colours
from outcrop.sources.geotiff import copy_to_cog, write_geotiff
from outcrop.sources.scene import CACHE_BYTES, Scene

_REPEATS = 2

Windows = Iterable[tuple[Window, np.ndarray]]


def write_maps(
    files: Mapping[str, Path],
    scene: Scene,
    classes: Sequence[str],
    windows: Windows,
    scratch: Path,
    sieve: int = 0,
) -> None:
    """Write layers as Cloud-Optimized GeoTIFFs; they appear under their names together.

    The names of the classes stand in the tags `CLASS_1`, ... of the band, and, because GDAL keeps
    category names nowhere else, in `PATH.aux.xml` beside the file.

    Args:
        files: for each layer, by its name in `LAYERS` and in the order of `windows`, its file.
        windows: the layers of every window, uint8, `layers × height × width`.
        scratch: a folder on the same disk, for files that are not whole yet.
        sieve: patches of a class of fewer pixels take the class of their largest neighbour; pixels
            that touch at a corner alone are not connected.

    Raises:
        OutcropError: the disk is full.
    """
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), ExitStack() as renames:
        plain = {name: scratch / f"{name}.tif" for name in files}
        _fill(plain, files, scene, classes, windows)
        if sieve > 1:
            _sieve(plain["classes"], sieve, scratch)
        for name, path in files.items():
            layer = LAYERS[name]
            if not layer.averages:
                beside = renames.enter_context(new_file(path.with_name(path.name + ".aux.xml")))
                beside.write_text(_category_names(["nodata", *classes]), encoding="utf-8")
            temporary = renames.enter_context(new_file(path))
            copy_to_cog(plain[name], temporary, path, "average" if layer.averages else "mode")
            plain[name].unlink()


def _fill(
    plain: Mapping[str, Path],
    files: Mapping[str, Path],
    scene: Scene,
    classes: Sequence[str],
    windows: Windows,
) -> None:
    from rasterio.windows import Window as Part

    with ExitStack() as opened:
        datasets = []
        for name, path in plain.items():
            layer = LAYERS[name]
            dataset = opened.enter_context(
                write_geotiff(path, files[name], **_profile(scene, layer))
            )
            _describe(dataset, layer, classes)
            datasets.append(dataset)
        for window, layers in windows:
            part = Part(window.column, window.row, window.width, window.height)
            for dataset, values in zip(datasets, layers, strict=True):
                dataset.write(values, 1, window=part)


def _profile(scene: Scene, layer: Layer) -> dict[str, Any]:
    from affine import Affine

    return {
        "dtype": "uint8",
        "count": 1,
        "height": scene.height,
        "width": scene.width,
        "crs": scene.crs,
        "transform": Affine(*scene.transform),
        "nodata": layer.nodata,
        "bigtiff": "if_safer",
    }


def _describe(dataset: Any, layer: Layer, classes: Sequence[str]) -> None:
    dataset.set_band_description(1, layer.title)
    dataset.update_tags(TIFFTAG_SOFTWARE=f"outcrop {__version__}")
    if layer.averages:
        dataset.set_band_unit(1, layer.unit)
        return
    table = {layer.nodata: (0, 0, 0, 0)}
    table |= {i: (*rgb, 255) for i, rgb in enumerate(colours(classes), start=1)}
    dataset.write_colormap(1, table)
    dataset.update_tags(1, **{f"CLASS_{i}": name for i, name in enumerate(classes, start=1)})


def _sieve(path: Path, pixels: int, scratch: Path) -> None:
    """Smallest patches first, for GDAL gives none to a neighbour that is too small itself.

    It wants the whole raster at once: that lies in mapped files, which the system pages.
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
            # Around what is masked GDAL may fill it.
            then *= valid
            now, then = then, now
        for _, part in dataset.block_windows(1):
            dataset.write(np.asarray(now[part.toslices()]), 1, window=part)
    for name in ("now", "then", "valid"):
        (scratch / name).unlink()


def _growing(pixels: int) -> list[int]:
    """Sizes up to `pixels`, each half as large again as the one before.

    >>> _growing(12)
    [2, 3, 5, 8, 12, 12, 12]
    """
    sizes = [2]
    while sizes[-1] < pixels:
        sizes.append(min(pixels, -(-3 * sizes[-1] // 2)))
    return sizes + [pixels] * _REPEATS


def _category_names(names: Sequence[str]) -> str:
    categories = "".join(f"      <Category>{escape(name)}</Category>\n" for name in names)
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{categories}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )
