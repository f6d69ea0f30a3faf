"""Files become scenes: which belong together, on which grid they meet, and what their bands are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import tell
from outcrop.sources import bands as band_lists
from outcrop.sources.dataset import check_numbers, check_place, open_dataset
from outcrop.sources.dtypes import kept
from outcrop.sources.grids import (
    Grid,
    described,
    overlap,
    pixel_words,
    same_grid,
    same_ground,
    target,
)
from outcrop.sources.memory import file_of_array, file_of_dataarray, is_dataarray, several
from outcrop.sources.names import file_name, is_remote, normal, stem
from outcrop.sources.products import Product, is_product, open_product
from outcrop.sources.scene import NO_CRS, Band, Mask, Reading, Scene, title
from outcrop.sources.systems import parse_crs

if TYPE_CHECKING:
    import xarray

AnyName: TypeAlias = "str | Path | xarray.DataArray"
JOIN = "+"
_ZEROS = 0.03
_WHOLE = 0.999
_ZEROS_SIDE = 512
_QUALITY = ("fmask", "scl", "qa pixel", "qa radsat", "cloud mask", "cloudmask", "cfmask")
_CHOOSE = "choose common ones with --bands, or name them with --band-names"


@dataclass(frozen=True)
class _Part:
    """What is known of one raster file."""

    name: str
    grid: Grid
    bands: tuple[Band, ...]
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    named: bool
    masked: bool
    sensor: str


def open_scene(
    files: AnyName | Sequence[AnyName],
    bands: Sequence[int | str] | None = None,
    crs: str | None = None,
    reading: Reading = Reading(),
) -> Scene:
    """Open one scene: a raster, several whose bands are put together, or a product.

    Files on other grids are brought to one while they are read. What is assumed or resampled is
    printed on standard error.

    Args:
        files: anything GDAL reads, by its path or GDAL's own name; a DataArray; or a Sentinel-2 or
            Landsat product by its folder or archive. Alpha bands are masks, not bands of the scene.
        bands: the bands to use, in this order, by number from 1, counted through all files, or by
            name.
        crs: the coordinate reference system, for files that do not carry one.
        reading: how they are read.

    Raises:
        OutcropError: a file is missing or not a raster; it has no place on the ground; the files
            show other ground; no coordinate reference system; a band that is not there.
    """
    scene, notes = _open(_names(files), bands, crs, reading)
    _tell([*notes, *_undeclared(scene)])
    return scene


def scene_from_array(
    pixels: np.ndarray,
    transform: Sequence[float],
    crs: Any,
    band_names: Sequence[str] = (),
    nodata: float | None = None,
) -> Scene:
    """Open an array as a scene.

    The arguments and errors are those of `outcrop.sources.memory.file_of_array`.
    """
    return open_scene(file_of_array(pixels, transform, crs, band_names, nodata))


def reopen_scene(
    files: Sequence[str],
    bands: Sequence[str] | None = None,
    crs: str | None = None,
    reading: Reading = Reading(),
) -> Scene:
    """As `open_scene`, of a scene that was opened before: nothing is printed.

    Args:
        bands: their names when it was opened; all bands are taken if one is no longer there.
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
    """Open several scenes, finding out which files belong together.

    A sequence of names, or names with a plus sign between, are one scene. Of the other files,
    those of a single band that cover the same extent are the bands of one scene, in the order
    given, except where their names have band codes and tell of several dates, tiles or products.
    Every other file is a scene of its own. The bands of all scenes are put in the order of the
    first.

    Raises:
        OutcropError: as `open_scene`; or the scenes have different bands.
    """
    groups = _groups(_joined(files), crs)
    masks = reading.mask if len(reading.mask) > 1 else [*reading.mask] * len(groups)
    if masks and len(masks) != len(groups):
        raise OutcropError(
            "--mask",
            f"{len(masks)} files for {len(groups)} scenes; give one for all or one for each",
        )
    scenes, notes = [], []
    for number, group in enumerate(groups):
        one = replace(reading, mask=masks[number : number + 1])
        scene, said = _open(group, bands, crs, one)
        scenes.append(scene)
        notes += said
        notes += _undeclared(scene)
    found = aligned(scenes)
    _tell([*notes, *(note for _, note in found if note)])
    return [scene for scene, _ in found]


def open_grid(path: AnyName, crs: str | None = None) -> Scene:
    """Open a raster of classes or of anything else, for its grid.

    Raises:
        OutcropError: as `open_scene`.
    """
    name = normal(_file(path))
    part = _describe(name, crs, numbers=False)
    return _stacked([part], part.bands, (name,), Reading())


def aligned(scenes: Sequence[Scene]) -> list[tuple[Scene, str]]:
    """Scenes with the bands of the first, in its order, and what was assumed of each.

    Raises:
        OutcropError: one has other bands.
    """
    first = scenes[0]
    return [(first, "")] + [
        with_bands(scene, first.band_names, first.title, _CHOOSE) for scene in scenes[1:]
    ]


def with_bands(scene: Scene, bands: Sequence[str], other: str, remedy: str) -> tuple[Scene, str]:
    """A scene with the bands of something else alone, in its order, and what was assumed.

    Args:
        bands: the names of the bands.
        other: what has them, for the lines.
        remedy: what to do if the scene has other bands.

    Raises:
        OutcropError: the scene has other bands.
    """
    names = scene.band_names
    found = band_lists.order_of(names, bands, scene.title, other, remedy)
    note = ""
    if found.assumed:
        taken = [names[i] for i in found.order]
        note = (
            f"{scene.title}: nothing in the names identifies the bands; "
            f"{band_lists.listed(taken)} are taken in this order for {band_lists.listed(bands)} "
            f"of {other}"
        )
    return scene.with_order(found.order), note


def _open(
    names: list[str],
    bands: Sequence[int | str] | None,
    crs: str | None,
    reading: Reading,
) -> tuple[Scene, list[str]]:
    product = None
    if len(names) == 1 and is_product(names[0]):
        named = [] if bands is None else [str(band).strip() for band in bands]
        # A product has further bands, which it gives to those who name them.
        by_name = named and not any(name.isdecimal() for name in named)
        product = open_product(names[0], named if by_name else None)
        bands = None if by_name else bands
        parts = [_of_product(part, product) for part in _describe_all(product, crs)]
    else:
        parts = [_describe(name, crs) for name in names]
    every = _named([band for part in parts for band in part.bands], parts, names[0], reading)
    wanted: Sequence[int] = range(len(every))
    if bands is not None:
        wanted = band_lists.chosen([band.name for band in every], bands, title(names))
    scene = _stacked(parts, [every[i] for i in wanted], tuple(names), reading)
    mask = _mask(reading, product, crs)
    notes = _notes(scene, parts, product)
    if mask is not None:
        scene = replace(scene, mask=mask[0])
        notes += _mask_notes(scene, mask[1], product)
    return scene, notes


def _names(files: AnyName | Sequence[AnyName]) -> list[str]:
    return [normal(_file(one)) for one in several(files)]


def _file(name: AnyName) -> str | Path:
    """The name of a file; what lies in memory is written to one."""
    return file_of_dataarray(name) if is_dataarray(name) else name


def _joined(files: Iterable[AnyName | Sequence[AnyName]]) -> list[list[str]]:
    """The names of each scene: alone, in a sequence, or with plus signs between."""
    groups: list[list[str]] = []
    joining = False
    for one in files:
        if isinstance(one, str) and one == JOIN:
            if joining or not groups:
                raise OutcropError("+", "joins two files and stands between them; name both")
            joining = True
            continue
        names = _names(one)
        if joining:
            groups[-1] += names
        else:
            groups.append(names)
        joining = False
    if joining:
        raise OutcropError("+", "joins two files and stands between them; name both")
    return groups


def _groups(given: list[list[str]], crs: str | None) -> list[list[str]]:
    """The names of each scene, with files of a single band on the same ground put together."""
    groups: list[list[str]] = []
    grounds: list[tuple[Grid, list[str]]] = []
    for names in given:
        part = None if len(names) > 1 or is_product(names[0]) else _describe(names[0], crs)
        if part is None or len(part.bands) > 1:
            groups.append(names)
            continue
        mates = next((mates for grid, mates in grounds if same_ground(grid, part.grid)), None)
        if mates is None:
            mates = []
            grounds.append((part.grid, mates))
            groups.append(mates)
        mates.append(names[0])
    found = [mates for _, mates in grounds]
    # What was joined by hand stays together.
    return [
        part
        for group in groups
        for part in (_dates(group) if any(group is one for one in found) else [group])
    ]


def _dates(names: list[str]) -> list[list[str]]:
    """Files on the same ground, taken apart by what their names say besides the band.

    Raises:
        OutcropError: two files show the same band of the same date.
    """
    stems = [stem(name) for name in names]
    if len(names) == 1:
        return [names]
    if all(map(band_lists.code_in, stems)):
        keys = [band_lists.group_of(one) for one in stems]
    else:
        keys = [""] * len(names)
    if len(set(zip(keys, stems, strict=True))) < len(names):
        keys = [f"{key} {Path(name).parent}" for key, name in zip(keys, names, strict=True)]
    found = [
        [name for name, its in zip(names, keys, strict=True) if its == key]
        for key in dict.fromkeys(keys)
    ]
    for group in found:
        _refuse_twice(group)
    return found


def _refuse_twice(names: list[str]) -> None:
    stems = [stem(name) for name in names]
    if not all(map(band_lists.code_in, stems)):
        return
    codes = [band_lists.identities([one])[0] for one in stems]
    for i, code in enumerate(codes):
        first = codes.index(code)
        if first < i:
            raise OutcropError(
                names[i],
                f"shows band {code}, as {file_name(names[first])} does; name one of them, or the "
                "product's folder, which has each band once",
            )


def _describe(name: str, crs: str | None, numbers: bool = True) -> _Part:
    """What is known of one raster.

    Args:
        numbers: refuse values that are no amounts.
    """
    from rasterio.enums import ColorInterp, MaskFlags

    with open_dataset(name) as dataset:
        alpha = [interpretation == ColorInterp.alpha for interpretation in dataset.colorinterp]
        found = [i for i in dataset.indexes if not alpha[i - 1]]
        if not found:
            raise OutcropError(name, "has an alpha band and no other; pass a raster with data")
        if numbers:
            check_numbers(name, dataset, found)
        check_place(name, dataset)
        if not dataset.crs and crs is None:
            raise OutcropError(name, NO_CRS)
        own = dataset.crs.to_wkt() if dataset.crs else parse_crs(crs, "--crs")
        grid = Grid(own, tuple(dataset.transform)[:6], dataset.height, dataset.width)
        named = [dataset.descriptions[i - 1] for i in found]
        return _Part(
            name=name,
            grid=grid,
            bands=tuple(_band(dataset, i, name, own) for i in found),
            dtypes=tuple(dataset.dtypes[i - 1] for i in found),
            nodata=tuple(dataset.nodatavals[i - 1] for i in found),
            named=all(named),
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
    """The platform and instrument that tags tell of."""
    tags = {key.upper(): value for key, value in dataset.tags().items()}
    tags |= {key.upper(): value for key, value in dataset.tags(ns="IMAGERY").items()}
    keys = ("SPACECRAFT_NAME", "SATELLITEID", "PLATFORM", "SENSOR_ID", "SENSOR", "INSTRUMENT")
    return " ".join(dict.fromkeys(tags[key].strip() for key in keys if tags.get(key)))


def _describe_all(product: Product, crs: str | None) -> list[_Part]:
    return [_describe(band.file, crs) for band in product.bands]


def _of_product(part: _Part, product: Product) -> _Part:
    """A file of a product, with what the product's metadata say of it."""
    known = next(band for band in product.bands if band.file == part.name)
    band = replace(
        part.bands[0],
        name=known.name,
        scale=known.scale,
        offset=known.offset,
        nodata=known.nodata,
        unit=known.unit,
    )
    return replace(part, bands=(band,), named=True, sensor=product.sensor)


def _named(every: list[Band], parts: list[_Part], where: str, reading: Reading) -> list[Band]:
    """Bands with the names that the user gives, or with what of file names identifies them."""
    if reading.band_names:
        if len(reading.band_names) != len(every):
            raise OutcropError(
                "--band-names",
                f"gives {len(reading.band_names)} names, and {where} has {len(every)} bands "
                f"({band_lists.listed([band.name for band in every])}); name each",
            )
        if len(set(reading.band_names)) < len(every):
            raise OutcropError("--band-names", "gives a name twice; name each band differently")
        return [
            replace(band, name=name) for band, name in zip(every, reading.band_names, strict=True)
        ]
    codes = [band_lists.code_in(band.name) for band in every]
    if not any(part.named for part in parts) and all(codes) and len(set(codes)) == len(codes):
        return [replace(band, name=str(code)) for band, code in zip(every, codes, strict=True)]
    if len(every) == 1 and not parts[0].named and not band_lists.is_known(every[0].name):
        return [replace(every[0], name="band 1")]
    return every


def _stacked(
    parts: Sequence[_Part], bands: Sequence[Band], opened: tuple[str, ...], reading: Reading
) -> Scene:
    """A scene of bands of several files on one grid."""
    files = dict.fromkeys(band.file for band in bands)
    used = [part for part in parts if part.name in files]
    grid = target([part.grid for part in used], [part.name for part in used], reading.resolution)
    by_name = {part.name: part for part in used}
    placed = [_placed(band, by_name[band.file], grid, used[0], reading) for band in bands]
    types = [by_name[band.file].dtypes[_position(by_name[band.file], band)] for band in bands]
    scaled = any(band.is_scaled for band in bands) and not reading.raw
    return Scene(
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        bands=tuple(placed),
        dtype=np.dtype("float32") if scaled else kept(np.result_type(*map(np.dtype, types))),
        opened=opened,
        reading=reading,
        sensor=" ".join(dict.fromkeys(part.sensor for part in used if part.sensor)),
    )


def _position(part: _Part, band: Band) -> int:
    return [one.number for one in part.bands].index(band.number)


def _placed(band: Band, part: _Part, grid: Grid, first: _Part, reading: Reading) -> Band:
    """A band with how it is brought to the scene's grid.

    Raises:
        OutcropError: its file shows other ground, or has a mask that cannot be resampled.
    """
    nodata = reading.nodata if reading.nodata is not None else band.nodata
    band = replace(band, nodata=nodata)
    if same_grid(part.grid, grid):
        return band
    if overlap(grid, part.grid) == 0:
        raise OutcropError(
            part.name,
            f"shows other ground than {file_name(first.name)} ({described(part.grid)} against "
            f"{described(first.grid)}); join files that show the same",
        )
    if part.masked:
        raise OutcropError(
            part.name,
            f"has a mask of its own and another grid than {file_name(first.name)}; bring it to "
            f"that grid first: gdalwarp -tr {grid.pixel[0]:g} {grid.pixel[1]:g} -tap",
        )
    own = part.nodata[_position(part, band)]
    if own is not None and nodata is not None and own != nodata:
        raise OutcropError(
            part.name,
            f"declares {own:g} as no data, and --nodata is {nodata:g}; bring it to the grid of "
            f"{file_name(first.name)} first, with one value for both",
        )
    finer = part.grid.pixel_area < grid.pixel_area * (1 - 1e-3)
    auto = "average" if finer else "bilinear"
    return replace(band, resampling=auto if reading.resampling == "auto" else reading.resampling)


def _mask(reading: Reading, product: Product | None, crs: str | None) -> tuple[Mask, Grid] | None:
    """The mask that the user names, else that of the product, and its grid."""
    if reading.mask == ["none"]:
        if reading.mask_values or reading.mask_bits:
            raise OutcropError("--mask", "is none; leave --mask-values and --mask-bits out")
        return None
    values, bits = tuple(reading.mask_values), tuple(reading.mask_bits)
    if any(not 0 <= bit < 63 for bit in bits):
        raise OutcropError("--mask-bits", "are numbers of bits from 0 to 62; correct them")
    if reading.mask:
        file = normal(reading.mask[0])
        if not values and not bits:
            raise OutcropError(
                "--mask", "needs --mask-values or --mask-bits: what of it is no data"
            )
    elif product is not None and product.mask is not None:
        file = product.mask.file
        if not values and not bits:
            values, bits = product.mask.values, product.mask.bits
    elif values or bits:
        raise OutcropError("--mask-values", "and --mask-bits need --mask; give the raster too")
    else:
        return None
    part = _describe(file, crs, numbers=False)
    if len(part.bands) > 1:
        raise OutcropError(
            file, f"has {len(part.bands)} bands; a mask has one: gdal_translate -b 1"
        )
    if np.dtype(part.dtypes[0]).kind not in "iu":
        raise OutcropError(
            file, f"holds {part.dtypes[0]}; a mask holds whole numbers, with values or bits"
        )
    return Mask(file, values, bits, part.grid.crs), part.grid


def _notes(scene: Scene, parts: Sequence[_Part], product: Product | None) -> list[str]:
    """What is assumed and what is resampled."""
    notes = [f"{scene.title}: {one}" for one in (product.assumed if product else ())]
    grids = {part.name: part.grid for part in parts}
    methods: dict[tuple[str, str], list[str]] = {}
    for band in scene.bands:
        if band.resampling:
            key = pixel_words(grids[band.file]), band.resampling
            methods.setdefault(key, []).append(band.name)
    if methods:
        brought = "; ".join(
            f"{band_lists.listed(names, 6)} of {size} ({method})"
            for (size, method), names in methods.items()
        )
        notes.append(f"{scene.title}: resampled to pixels of {pixel_words(scene)}: {brought}")
    for part in parts:
        if part.name in scene.files and (share := overlap(scene, part.grid)) < _WHOLE:
            notes.append(f"{part.name}: covers {share:.0%} of {scene.title}; the rest is no data")
    for band in scene.bands:
        if any(word in " ".join(band_lists.words_of(band.name)) for word in _QUALITY):
            notes.append(
                f"{scene.title}: {band.name} looks like a mask of quality and is taken as a band; "
                "pass it with --mask instead"
            )
    return notes


def _mask_notes(scene: Scene, grid: Grid, product: Product | None) -> list[str]:
    """What the mask does that the user did not say.

    Raises:
        OutcropError: it shows other ground.
    """
    assert scene.mask is not None
    share = overlap(scene, grid)
    if share == 0:
        raise OutcropError(
            scene.mask.file,
            f"shows other ground than {scene.title} ({described(grid)} against "
            f"{described(scene)}); pass the mask of this scene",
        )
    notes = []
    if share < _WHOLE:
        notes.append(
            f"{scene.mask.file}: covers {share:.0%} of {scene.title}; the rest is not masked"
        )
    if product is not None and not scene.reading.mask:
        said = [
            f"{what} {', '.join(map(str, which))}"
            for what, which in (("values", scene.mask.values), ("bits", scene.mask.bits))
            if which
        ]
        notes.append(
            f"{scene.title}: no data where {file_name(scene.mask.file)} has "
            f"{' or '.join(said)}; --mask none leaves it out"
        )
    return notes


def _undeclared(scene: Scene) -> list[str]:
    """A line if zeros at the scene's edge look like no data that the file does not declare."""
    share = undeclared_zeros(scene)
    if share < _ZEROS:
        return []
    return [
        f"{scene.title}: {share:.0%} of the scene, at its edges, is 0 in all bands and not "
        "declared as no data; pass --nodata 0 if nothing was measured there"
    ]


def undeclared_zeros(scene: Scene) -> float:
    """Share of a scene that is 0 in all bands and connected to its edge, from a coarse look.

    0 where no data is declared, and for scenes that are fetched over a network.
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
        if empty.mean() < _ZEROS:
            return 0.0
    pieces, _ = label(empty)
    rim = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    return float(np.isin(pieces, np.unique(rim[rim > 0])).mean())


def _coarse(dataset: Any, number: int, shape: tuple[int, int]) -> np.ndarray | None:
    """Where a band is 0, seen coarsely; None if it cannot be read, which reading it will say."""
    from rasterio.errors import RasterioError

    try:
        valid = dataset.read_masks(number, out_shape=shape) > 0
        return (dataset.read(number, out_shape=shape) == 0) & valid
    except RasterioError:
        return None


def _tell(notes: Iterable[str]) -> None:
    for note in dict.fromkeys(notes):
        tell(f"note: {note}")
