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
from outcrop.sources.scene import Scene

_CACHE_BYTES = 128 << 20

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
        sieve: patches of a class of fewer pixels take the class of their largest neighbour.

    Raises:
        OutcropError: the disk is full.
    """
    import rasterio

    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES), ExitStack() as renames:
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
    """GDAL wants the whole raster at once: it lies in mapped files, which the system pages."""
    import rasterio
    from rasterio.features import sieve

    with rasterio.open(path, "r+") as dataset:
        shape = dataset.height, dataset.width
        before, after = (
            np.memmap(scratch / name, np.uint8, "w+", shape=shape) for name in ("before", "after")
        )
        for _, part in dataset.block_windows(1):
            before[part.toslices()] = dataset.read(1, window=part)
        sieve(before, pixels, out=after, mask=before > 0, connectivity=8)
        for _, part in dataset.block_windows(1):
            # What GDAL leaves out of the sieve it may fill from beside.
            kept = before[part.toslices()] > 0
            dataset.write(np.where(kept, after[part.toslices()], 0), 1, window=part)
    for name in ("before", "after"):
        (scratch / name).unlink()


def _category_names(names: Sequence[str]) -> str:
    categories = "".join(f"      <Category>{escape(name)}</Category>\n" for name in names)
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{categories}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )
