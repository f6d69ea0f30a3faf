"""Open raster files as scenes: which files are one scene, its grid, its bands and its mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import warn
from outcrop.sources import bands as band_lists
from outcrop.sources.dtypes import read_dtype
from outcrop.sources.grids import (
    Grid,
    common_grid,
    grid_text,
    overlap,
    pixel_size_text,
    same_grid,
)
from outcrop.sources.grouping import AnyName, file_names, group_files, join_names, to_file
from outcrop.sources.memory import write_array
from outcrop.sources.names import file_name, normalized_name
from outcrop.sources.products import Product, is_product, open_product
from outcrop.sources.raster_file import ZEROS_SHARE, RasterFile, describe_raster, undeclared_zeros
from outcrop.sources.reading import Reading
from outcrop.sources.scene import Band, Mask, Scene, title

_COMPLETE = 0.999
_QUALITY = ("fmask", "scl", "qa pixel", "qa radsat", "cloud mask", "cloudmask", "cfmask")
_CHOOSE = "choose common ones with `bands`, or name them with `band_names`"


def open_scene(
    files: AnyName | Sequence[AnyName],
    bands: Sequence[int | str] | None = None,
    crs: str | None = None,
    reading: Reading = Reading(),
) -> Scene:
    """Open one scene: a raster, several rasters with the bands of one scene, or a product.

    Files on other grids are resampled to one grid while they are read. What is assumed or resampled
    is printed on standard error.

    Args:
        files: anything that GDAL reads, by path or by GDAL's name; an xarray DataArray with the
            dimensions band, y and x or y and x; a Sentinel-2 or Landsat product, by its folder or
            archive; or a sequence of files. Alpha bands are masks, not bands of the scene.
        bands: the selected bands, in this order, by number from 1, counted through all files, or by
            name.
        crs: coordinate reference system for files without one, such as "EPSG:32648".
        reading: how the files are read.

    Returns:
        a scene, whose pixels are read by `scene.reader()`.

    Raises:
        OutcropError: a file is missing or not a raster; it has no geotransform or no coordinate
            reference system; the files do not overlap; a band does not exist; `reading` has several
            masks.
    """
    if len(reading.mask) > 1:
        raise OutcropError("`mask`", f"has {len(reading.mask)} files for one scene; pass one")
    scene, notes = _open(file_names(files), bands, crs, reading)
    _print_notes([*notes, *_zeros_note(scene)])
    return scene


def scene_from_array(
    pixels: np.ndarray,
    transform: Sequence[float],
    crs: Any,
    band_names: Sequence[str] = (),
    nodata: float | None = None,
) -> Scene:
    """Open a NumPy array as a scene.

    Args:
        pixels: `bands × height × width` or `height × width`, integers or floats.
        transform: a, b, c, d, e, f of the affine map from (column, row) to (x, y), in the order of
            `affine.Affine`; integers are corners of pixels.
        crs: coordinate reference system, in any notation that pyproj reads.
        band_names: the names of the bands.
        nodata: value that means no data.

    Raises:
        OutcropError: as for `outcrop.sources.memory.write_array` and `open_scene`.

    >>> from rasterio import Affine
    >>> pixels = np.arange(24, dtype="uint8").reshape(2, 3, 4)
    >>> scene = scene_from_array(pixels, Affine(10, 0, 500000, 0, -10, 20), 32648, ["red", "nir"])
    >>> scene.band_names, scene.height, scene.width, scene.bounds
    (('red', 'nir'), 3, 4, (500000.0, -10.0, 500040.0, 20.0))
    >>> with scene.reader() as reader:
    ...     reader.read(row=1, column=0, height=2, width=2)[0]
    array([[4, 5],
           [8, 9]], dtype=uint8)
    """
    return open_scene(write_array(pixels, transform, crs, band_names, nodata))


def reopen_scene(
    files: Sequence[str],
    bands: Sequence[str] | None = None,
    crs: str | None = None,
    reading: Reading = Reading(),
) -> Scene:
    """Open a scene again, as `open_scene` does, without printing notes.

    Args:
        bands: the names of the bands when the scene was opened first. All bands are selected if one
            of them no longer exists.
    """
    try:
        return _open(list(files), bands, crs, reading)[0]
    except OutcropError:
        if bands is None:
            raise
        return _open(list(files), None, crs, reading)[0]


def open_scenes(
    files: Sequence[AnyName | Sequence[AnyName]],
    bands: Sequence[int | str] | None = None,
    crs: str | None = None,
    reading: Reading = Reading(),
) -> list[Scene]:
    """Open several scenes and find out which files belong to the same scene.

    A sequence of names, or names with a plus sign between them, are one scene. Of the other files,
    those with a single band and the same extent are the bands of one scene, in the given order,
    unless their names have band codes and differ in date, tile or product. Every other file is a
    scene of its own. The bands of all scenes have the order of the first scene.

    Args:
        files: as for `open_scene`; "+" as an element joins its neighbours.
        bands, crs, reading: as for `open_scene`; `reading.mask` has one mask for all scenes or one
            per scene.

    Raises:
        OutcropError: as for `open_scene`; the number of masks is wrong; the scenes have different
            bands.
    """
    groups = group_files(join_names(files), crs)
    masks = reading.mask if len(reading.mask) > 1 else [*reading.mask] * len(groups)
    if masks and len(masks) != len(groups):
        raise OutcropError(
            "`mask`",
            f"has {len(masks)} files for {len(groups)} scenes; pass one for all or one per scene",
        )
    scenes, notes = [], []
    for number, group in enumerate(groups):
        one = replace(reading, mask=masks[number : number + 1])
        scene, further = _open(group, bands, crs, one)
        scenes.append(scene)
        notes += further
        notes += _zeros_note(scene)
    found = align_bands(scenes)
    _print_notes([*notes, *(note for _, note in found if note)])
    return [scene for scene, _ in found]


def open_grid(path: AnyName, crs: str | None = None) -> Scene:
    """Open a raster of classes, or any other raster, for its grid.

    Raises:
        OutcropError: as for `open_scene`.
    """
    name = normalized_name(to_file(path))
    part = describe_raster(name, crs, numbers=False)
    return _stack_bands([part], part.bands, (name,), Reading())


def align_bands(scenes: Sequence[Scene]) -> list[tuple[Scene, str]]:
    """The scenes with the bands of the first scene in its order, and a note on each.

    The note is empty, unless the bands are matched by their order.

    Raises:
        OutcropError: a scene has other bands.
    """
    first = scenes[0]
    return [(first, "")] + [
        with_bands(scene, first.band_names, first.title, _CHOOSE) for scene in scenes[1:]
    ]


def with_bands(scene: Scene, bands: Sequence[str], other: str, remedy: str) -> tuple[Scene, str]:
    """The scene with the bands of another source in their order, and a note.

    The note is empty, unless the bands are matched by their order.

    Args:
        bands: the names of the bands.
        other: the source with these bands, for messages.
        remedy: what the user should do if the scene has other bands.

    Raises:
        OutcropError: the scene has other bands.
    """
    names = scene.band_names
    found = band_lists.match_or_raise(names, bands, scene.title, other, remedy)
    note = ""
    if found.assumed:
        used = [names[i] for i in found.order]
        note = (
            f"{scene.title}: the names do not identify the bands; {band_lists.listed(used)} are "
            f"used in this order as {band_lists.listed(bands)} of {other}"
        )
    return scene.take_bands(found.order), note


def _open(
    names: list[str],
    bands: Sequence[int | str] | None,
    crs: str | None,
    reading: Reading,
) -> tuple[Scene, list[str]]:
    product = None
    if len(names) == 1 and is_product(names[0]):
        named = [] if bands is None else [str(band).strip() for band in bands]
        # Some bands of a product are only used if they are selected by name.
        by_name = named and not any(name.isdecimal() for name in named)
        product = open_product(names[0], named if by_name else None)
        bands = None if by_name else bands
        parts = [_describe_band(band, product.sensor, crs) for band in product.bands]
    else:
        parts = [describe_raster(name, crs) for name in names]
    every = _rename_bands([band for part in parts for band in part.bands], parts, names[0], reading)
    wanted: Sequence[int] = range(len(every))
    if bands is not None:
        wanted = band_lists.select_bands([band.name for band in every], bands, title(names))
    scene = _stack_bands(parts, [every[i] for i in wanted], tuple(names), reading)
    mask = _mask(reading, product, crs)
    notes = _notes(scene, parts, product)
    if mask is not None:
        scene = replace(scene, mask=mask[0])
        notes += _mask_notes(scene, mask[1], product)
    return scene, notes


def _describe_band(known: Band, sensor: str, crs: str | None) -> RasterFile:
    """The file of a band of a product, with the properties that the metadata declare."""
    part = describe_raster(known.file, crs)
    band = replace(known, crs=part.bands[0].crs)
    return replace(part, bands=(band,), named=True, sensor=sensor)


def _rename_bands(
    every: list[Band], parts: list[RasterFile], where: str, reading: Reading
) -> list[Band]:
    """The bands with the names that the user gives, or with the band codes in the file names."""
    if reading.band_names:
        if len(reading.band_names) != len(every):
            raise OutcropError(
                "`band_names`",
                f"has {len(reading.band_names)} names, but {where} has {len(every)} bands "
                f"({band_lists.listed([band.name for band in every])}); name each band",
            )
        if len(set(reading.band_names)) < len(every):
            raise OutcropError("`band_names`", "has a name twice; use different names")
        return _renamed(every, reading.band_names)
    codes = [band_lists.band_code(band.name) or "" for band in every]
    if not any(part.named for part in parts) and all(codes) and len(set(codes)) == len(codes):
        return _renamed(every, codes)
    if len(every) == 1 and not parts[0].named and not band_lists.identifies_band(every[0].name):
        return _renamed(every, ["band 1"])
    return every


def _renamed(bands: Sequence[Band], names: Sequence[str]) -> list[Band]:
    return [replace(band, name=name) for band, name in zip(bands, names, strict=True)]


def _stack_bands(
    parts: Sequence[RasterFile], bands: Sequence[Band], opened: tuple[str, ...], reading: Reading
) -> Scene:
    """A scene with bands of several files on one grid."""
    files = dict.fromkeys(band.file for band in bands)
    used = [part for part in parts if part.name in files]
    by_name = {part.name: part for part in used}
    grids = [part.grid for part in by_name.values()]
    grid = common_grid(grids, list(by_name), reading.resolution)
    placed = [_resampled(band, by_name[band.file], grid, used[0], reading) for band in bands]
    types = [by_name[band.file].dtypes[band.number] for band in bands]
    scaled = any(band.is_scaled for band in bands) and not reading.raw
    return Scene(
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        bands=tuple(placed),
        dtype=np.dtype("float32") if scaled else read_dtype(np.result_type(*map(np.dtype, types))),
        opened=opened,
        reading=reading,
        sensor=" ".join(dict.fromkeys(part.sensor for part in used if part.sensor)),
    )


def _resampled(
    band: Band, part: RasterFile, grid: Grid, first: RasterFile, reading: Reading
) -> Band:
    """A band with the method that resamples it to the grid of the scene.

    Raises:
        OutcropError: the file does not overlap the grid, or has a mask that cannot be resampled.
    """
    nodata = reading.nodata if reading.nodata is not None else band.nodata
    band = replace(band, nodata=nodata)
    if same_grid(part.grid, grid):
        return band
    if overlap(grid, part.grid) == 0:
        raise OutcropError(
            part.name,
            f"does not overlap {file_name(first.name)} ({grid_text(part.grid)} against "
            f"{grid_text(first.grid)}); join files of the same area",
        )
    if part.masked:
        raise OutcropError(
            part.name,
            f"has a mask and another grid than {file_name(first.name)}; resample it to that grid "
            f"first: gdalwarp -tr {grid.pixel[0]:g} {grid.pixel[1]:g} -tap",
        )
    own = part.nodata[band.number]
    if own is not None and nodata is not None and own != nodata:
        raise OutcropError(
            part.name,
            f"declares the nodata value {own:g}, but `nodata` is {nodata:g}; resample it to the "
            f"grid of {file_name(first.name)} first, with one nodata value",
        )
    finer = part.grid.pixel_area < grid.pixel_area * (1 - 1e-3)
    auto = "average" if finer else "bilinear"
    return replace(band, resampling=auto if reading.resampling == "auto" else reading.resampling)


def _mask(reading: Reading, product: Product | None, crs: str | None) -> tuple[Mask, Grid] | None:
    """The mask that the user passes, else that of the product, with its grid."""
    if reading.mask == ["none"]:
        if reading.mask_values or reading.mask_bits:
            raise OutcropError("`mask`", "is none; leave out `mask_values` and `mask_bits`")
        return None
    values, bits = tuple(reading.mask_values), tuple(reading.mask_bits)
    if any(not 0 <= bit < 63 for bit in bits):
        raise OutcropError("`mask_bits`", "has a bit number outside 0 to 62; correct it")
    if reading.mask:
        file = normalized_name(reading.mask[0])
        if not values and not bits:
            raise OutcropError(
                "`mask`", "needs `mask_values` or `mask_bits`; pass the values that mean no data"
            )
    elif product is not None and product.mask is not None:
        file = product.mask.file
        if not values and not bits:
            values, bits = product.mask.values, product.mask.bits
    elif values or bits:
        raise OutcropError("`mask_values`", "and `mask_bits` need `mask`; pass the raster too")
    else:
        return None
    part = describe_raster(file, crs, numbers=False)
    if len(part.bands) > 1:
        raise OutcropError(
            file, f"has {len(part.bands)} bands; pass a mask with one band (gdal_translate -b 1)"
        )
    dtype = part.dtypes[part.bands[0].number]
    if np.dtype(dtype).kind not in "iu":
        raise OutcropError(
            file, f"has the dtype {dtype}; pass a mask of integers, with values or bits"
        )
    return Mask(file, values, bits, part.grid.crs), part.grid


def _notes(scene: Scene, parts: Sequence[RasterFile], product: Product | None) -> list[str]:
    """Notes on what is assumed and what is resampled."""
    notes = [f"{scene.title}: {one}" for one in (product.assumed if product else ())]
    grids = {part.name: part.grid for part in parts}
    methods: dict[tuple[str, str], list[str]] = {}
    for band in scene.bands:
        if band.resampling:
            key = pixel_size_text(grids[band.file]), band.resampling
            methods.setdefault(key, []).append(band.name)
    if methods:
        brought = "; ".join(
            f"{band_lists.listed(names, 6)} of {size} ({method})"
            for (size, method), names in methods.items()
        )
        notes.append(f"{scene.title}: resampled to pixels of {pixel_size_text(scene)}: {brought}")
    for part in parts:
        if part.name in scene.files and (share := overlap(scene, part.grid)) < _COMPLETE:
            notes.append(
                f"{part.name}: covers {100 * share:.0f} % of {scene.title}; the rest has no data"
            )
    for band in scene.bands:
        if any(word in " ".join(band_lists.name_words(band.name)) for word in _QUALITY):
            notes.append(
                f"{scene.title}: {band.name} is used as a band, but looks like a quality mask; "
                "pass a quality mask with `mask`"
            )
    return notes


def _mask_notes(scene: Scene, grid: Grid, product: Product | None) -> list[str]:
    """Notes on what the mask does without having been requested.

    Raises:
        OutcropError: the mask does not overlap the scene.
    """
    assert scene.mask is not None
    share = overlap(scene, grid)
    if share == 0:
        raise OutcropError(
            scene.mask.file,
            f"does not overlap {scene.title} ({grid_text(grid)} against {grid_text(scene)}); "
            "pass the mask of this scene",
        )
    notes = []
    if share < _COMPLETE:
        notes.append(
            f"{scene.mask.file}: covers {100 * share:.0f} % of {scene.title}; the rest is not "
            "masked"
        )
    if product is not None and not scene.reading.mask:
        flagged = [
            f"{what} {', '.join(map(str, which))}"
            for what, which in (("values", scene.mask.values), ("bits", scene.mask.bits))
            if which
        ]
        notes.append(
            f"{scene.title}: pixels are no data where {file_name(scene.mask.file)} has "
            f"{' or '.join(flagged)}; `mask=['none']` ignores the mask"
        )
    return notes


def _zeros_note(scene: Scene) -> list[str]:
    """A note if zeros at the edge of the scene look like undeclared nodata."""
    share = undeclared_zeros(scene)
    if share < ZEROS_SHARE:
        return []
    return [
        f"{scene.title}: {100 * share:.0f} % of the scene, at its edges, is 0 in all bands, and "
        "0 is not declared as nodata; pass `nodata=0` if nothing was measured there"
    ]


def _print_notes(notes: Iterable[str]) -> None:
    for note in dict.fromkeys(notes):
        warn(note)
