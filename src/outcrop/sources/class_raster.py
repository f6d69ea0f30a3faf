"""Rasters of classes: which pixels have a class, and the names of the values."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from outcrop.errors import OutcropError
from outcrop.frames import Colour
from outcrop.progress import warn
from outcrop.sources.antimeridian import x_shifts
from outcrop.sources.grids import Transform, check_transformable, parse_crs
from outcrop.sources.label_colours import raster_colours
from outcrop.sources.names import existing_name
from outcrop.sources.scene import CACHE_BYTES, NO_CRS, title

_DAMAGED = "is truncated or damaged; export it again"
_WINDOW = 1024
_TABLE = "GDALRasterAttributeTable"
_MOST_CLASSES = 255
# Usages of columns in attribute tables (GDAL's GFU_...), and names of columns without a usage.
_NAME_USAGE, _VALUE_USAGES = "2", ("5", "3")
_NAME_COLUMNS = ("class_name", "class_names", "classname", "class", "label", "name", "category")
_VALUE_COLUMNS = ("value", "val", "code", "class_value", "dn")


@dataclass(frozen=True)
class ClassRaster:
    """A raster of integers that are classes.

    A pixel is unlabelled if it has the declared nodata value or if the mask or the alpha band of
    the file marks it as invalid. If the file has none of these, 0 is unlabelled.

    Attributes:
        path: the file, or the name that GDAL opens.
        crs: coordinate reference system as WKT.
        values: int64, the values that occur, ascending.
        names: the name of each value; values with the same name are one class.
        own: whether the file has names for its values.
        values_colours: the colours that the file gives to its values.
        zero_is_unlabelled: whether zeros occur and are unlabelled for lack of a declaration.
    """

    path: str
    crs: str
    values: np.ndarray
    names: tuple[str, ...]
    own: bool
    zero_is_unlabelled: bool
    values_colours: Mapping[int, Colour] = field(default_factory=dict)

    @cached_property
    def colours(self) -> dict[str, Colour]:
        """The colours that the file gives to classes: those of their first values."""
        found: dict[str, Colour] = {}
        for value, name in zip(self.values.tolist(), self.names, strict=True):
            if value in self.values_colours:
                found.setdefault(name, self.values_colours[value])
        return found

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of their first values."""
        return tuple(dict.fromkeys(self.names))

    def named(self, names: Mapping[int, str]) -> ClassRaster:
        """The raster with other names for its values."""
        return replace(self, names=tuple(names[int(value)] for value in self.values))

    def note_zero(self) -> None:
        """Print a note if zeros are treated as unlabelled, and how to make them a class."""
        if self.zero_is_unlabelled:
            warn(
                f"{self.path} declares no nodata value and has no mask, so 0 means "
                "unlabelled; if 0 is a class, declare another nodata value, e.g. "
                f"`gdal_translate -a_nodata 255 {self.path} OUTPUT`"
            )

    @contextmanager
    def reader(
        self, crs: str, transform: Transform, height: int, width: int
    ) -> Iterator[ClassReader]:
        """Open the raster on a grid, resampled by nearest neighbour.

        Args:
            crs: CRS of the grid as WKT.
            transform: a, b, c, d, e, f of its affine map from (column, row) to (x, y).
            height, width: number of rows and columns.

        Raises:
            OutcropError: there is no transformation from one CRS to the other.
        """
        from affine import Affine

        with (
            _open(self.path) as dataset,
            _with_mask(dataset, self.crs) as source,
            ExitStack() as stack,
        ):
            own = (self.crs, source.transform, source.height, source.width)
            datasets = [source]
            if own != (crs, Affine(*transform), height, width):
                check_transformable(self.path, self.crs, crs)
                grid = crs, transform, height, width
                datasets = [stack.enter_context(one) for one in _warped(source, self.crs, *grid)]
            yield ClassReader(self, datasets, dataset.nodata, _is_masked(dataset))


class ClassReader:
    """Reader of windows of an open class raster."""

    def __init__(
        self, raster: ClassRaster, datasets: Sequence[Any], nodata: float | None, masked: bool
    ):
        self._raster, self._datasets = raster, datasets
        self._nodata, self._masked = nodata, masked
        classes = raster.classes
        self._codes = np.array([classes.index(name) for name in raster.names], np.int16)

    def read(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """The classes of a window: int16, `height × width`, -1 for unlabelled pixels.

        Raises:
            OutcropError: the file is damaged.
        """
        from rasterio.windows import Window

        return self._classes(window=Window(column, row, width, height))

    def sample(self, shape: tuple[int, int]) -> np.ndarray:
        """The classes of the whole raster at a smaller size, by nearest neighbour; see `read`."""
        return self._classes(out_shape=shape)

    def _classes(self, **where: Any) -> np.ndarray:
        raster, found = self._raster, []
        for dataset in self._datasets:
            values, labelled = _values(raster.path, dataset, self._nodata, self._masked, where)
            codes = np.full(labelled.shape, -1, np.int16)
            codes[labelled] = self._codes[np.searchsorted(raster.values, values)]
            found.append(codes)
        # The first dataset in which a pixel is labelled counts.
        return reduce(lambda above, below: np.where(above < 0, below, above), found)


def open_class_raster(
    path: str | Path, crs: str | None = None, classes: Sequence[str] | None = None
) -> ClassRaster:
    """Open a raster of classes. It is read completely once to find its values.

    The names of the values come from the band tags `CLASS_1`, ... (as in a class map), from GDAL's
    category names, or from an attribute table in the file, in its `.aux.xml` or in a `.vat.dbf`
    beside it, in this order. A value v without a name is "class v". Colours come from a style of
    QGIS beside the file, its attribute table or its colour table.

    Args:
        path: a file, or a name that GDAL opens.
        crs: coordinate reference system for a file without one.
        classes: other names, in ascending order of the values or each as `VALUE=NAME`.

    Raises:
        OutcropError: the file is not a raster; it has no CRS or several bands; its values are
            colours, complex or fractional; it has more than 255 values.
    """
    path = existing_name(path)
    with _open(path) as dataset:
        _check_class_raster(path, dataset)
        if not dataset.crs and crs is None:
            raise OutcropError(path, NO_CRS)
        own_crs = dataset.crs.to_wkt() if dataset.crs else parse_crs(crs, "`labels_crs`")
        masked = _is_masked(dataset)
        undeclared = dataset.nodata is None and not masked
        values: set[int] = set()
        unlabelled = False
        with _with_mask(dataset, own_crs) as source:
            for window in windows(source):
                tile, labelled = _values(path, source, dataset.nodata, masked, {"window": window})
                unlabelled |= bool((~labelled).any())
                values.update(np.unique(tile).tolist())
                if len(values) > _MOST_CLASSES:
                    raise OutcropError(
                        path,
                        f"is not a label raster: it has more than {_MOST_CLASSES} values; group "
                        "them into classes",
                    )
        band = _band_xml(dataset)
        names = _names_in(path, dataset, band)
        colours = raster_colours(path, dataset, band.find(_TABLE))
    ordered = sorted(values)
    found = ClassRaster(
        path=path,
        crs=own_crs,
        values=np.array(ordered, np.int64),
        names=tuple(names.get(value) or f"class {value}" for value in ordered),
        own=bool(names),
        zero_is_unlabelled=unlabelled and undeclared,
        values_colours={value: colours[value] for value in ordered if value in colours},
    )
    return found if classes is None else found.named(names_by_value([found], classes))


def names_by_value(rasters: Sequence[ClassRaster], classes: Sequence[str]) -> dict[int, str]:
    """The name of each value of some label rasters, which share their classes.

    Raises:
        OutcropError: as `names_of_values`.
    """
    values = {int(value) for raster in rasters for value in raster.values}
    return names_of_values(values, classes, title([raster.path for raster in rasters]))


def names_of_values(
    present: Collection[int], classes: Sequence[str], where: object
) -> dict[int, str]:
    """The name of each value.

    Args:
        present: the values.
        classes: names in ascending order of the values, or each as `VALUE=NAME`; then values that
            do not occur may have names too.
        where: the files with the values, for errors.

    Raises:
        OutcropError: a value has no name; there are more names than values; a value is named twice;
            a name is empty; only some names are `VALUE=NAME`.
    """
    values = sorted(present)
    pairs = [name.partition("=") for name in classes]
    is_pair = [bool(sign) and value.strip().lstrip("-").isdecimal() for value, sign, _ in pairs]
    if any(is_pair) and not all(is_pair):
        raise OutcropError(
            "`classes`", "mixes names and VALUE=NAME; use one of them for all classes"
        )
    if all(is_pair):
        named = {int(value): name.strip() for value, _, name in pairs}
        if len(named) < len(pairs):
            keys = [int(value) for value, _, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise OutcropError("`classes`", f"names the value {twice} twice; name each value once")
        unnamed = [value for value in values if not named.get(value)]
        if unnamed:
            listed = ", ".join(map(str, unnamed[:10]))
            raise OutcropError(
                where, f"has values without a name in `classes` ({listed}); name them too"
            )
        return named
    if not all(name.strip() for name in classes):
        raise OutcropError("`classes`", "has an empty name; name each class")
    if len(classes) != len(values):
        some = ", ".join(map(str, values[:20])) + (", ..." if len(values) > 20 else "")
        raise OutcropError(
            where,
            f"has {len(values)} values ({some}), but `classes` has {len(classes)} names; name each "
            "value, or pass pairs such as 1=water,5=forest",
        )
    return dict(zip(values, (name.strip() for name in classes), strict=True))


@contextmanager
def _open(path: str) -> Iterator[Any]:
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    quiet = warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), quiet:
        try:
            dataset = rasterio.open(path)
        except (RasterioError, CPLE_BaseError):
            raise OutcropError(
                path, "is damaged or not a raster that GDAL reads; export it again"
            ) from None
        with dataset:
            try:
                yield dataset
            except CPLE_BaseError:
                # rasterio does not convert GDAL's errors while it reads tags of a damaged file.
                raise OutcropError(path, _DAMAGED) from None


def _check_class_raster(path: str, dataset: Any) -> None:
    """Check that a raster can be one of classes, with an error for each reason why not."""
    from rasterio.enums import ColorInterp

    if dataset.count == 0:
        inside = ", ".join(dataset.subdatasets[:5]) or "none"
        raise OutcropError(path, f"has only subdatasets; pass one of them: {inside}")
    if any("complex" in dtype for dtype in dataset.dtypes):
        raise OutcropError(path, "has complex values; pass a raster with one integer per class")
    kinds = dataset.colorinterp
    if {ColorInterp.red, ColorInterp.green, ColorInterp.blue} <= set(kinds):
        raise OutcropError(
            path,
            "has the bands red, green and blue, so its values are colours; export it as one band "
            "with one integer per class",
        )
    bands = [i for i in dataset.indexes if kinds[i - 1] != ColorInterp.alpha]
    if len(bands) != 1 or bands[0] != 1:
        named = ", ".join(f"{i} {dataset.descriptions[i - 1] or ''}".strip() for i in bands)
        raise OutcropError(
            path,
            f"has {len(bands)} bands ({named}), but a label raster has one; extract it, e.g. "
            f"`gdal_translate -b {bands[0] if bands else 1} {path} OUTPUT`",
        )
    if not dataset.crs and dataset.gcps[0]:
        raise OutcropError(
            path,
            "has ground control points and no geotransform; warp it first: "
            f"`gdalwarp -r near {path} OUTPUT`",
        )


def _is_masked(dataset: Any) -> bool:
    """Whether a mask or an alpha band of the file marks valid pixels."""
    from rasterio.enums import MaskFlags

    return _alpha_band(dataset) is not None or MaskFlags.per_dataset in dataset.mask_flag_enums[0]


def _alpha_band(dataset: Any) -> int | None:
    """The number of the alpha band. GDAL makes masks of uint8 and uint16 alpha bands only."""
    from rasterio.enums import ColorInterp

    kinds = list(dataset.colorinterp)
    return kinds.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in kinds else None


@contextmanager
def _with_mask(dataset: Any, crs: str) -> Iterator[Any]:
    """The first band of a dataset and its mask as the two bands of a virtual dataset.

    In this form every kind of mask survives warping; GDAL's warper handles only some kinds.
    """
    import rasterio
    from rasterio.dtypes import dtype_rev, typename_fwd

    name = dataset.files[0] if "://" in dataset.name and dataset.files else dataset.name
    name = str(Path(name).absolute()) if Path(name).exists() else name
    a, b, c, d, e, f = tuple(dataset.transform)[:6]
    size = f'rasterXSize="{dataset.width}" rasterYSize="{dataset.height}"'
    types = [typename_fwd[dtype_rev[dtype]] for dtype in dataset.dtypes]
    alpha = _alpha_band(dataset)
    mask = ("Byte", "mask,1") if alpha is None else (types[alpha - 1], alpha)
    bands = "".join(
        f'<VRTRasterBand dataType="{dtype}" band="{number}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{escape(name)}</SourceFilename>'
        f"<SourceBand>{source}</SourceBand></SimpleSource></VRTRasterBand>"
        for number, (dtype, source) in enumerate(((types[0], "1"), mask), start=1)
    )
    text = (
        f"<VRTDataset {size}><SRS>{escape(crs)}</SRS>"
        f"<GeoTransform>{c!r},{a!r},{b!r},{f!r},{d!r},{e!r}</GeoTransform>{bands}</VRTDataset>"
    )
    with rasterio.open(text) as source:
        yield source


def _warped(
    source: Any, own_crs: str, crs: str, transform: Transform, height: int, width: int
) -> list[Any]:
    """The datasets of `_with_mask` on another grid by nearest neighbour; several across 180°."""
    from affine import Affine
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    turns = x_shifts(source.bounds, own_crs, crs, transform, height, width)
    # GDAL selects the part of the raster to read from a few points of the grid. If the antimeridian
    # crosses the grid, pixels beside it are lost unless all points are used.
    every = {"SAMPLE_GRID": "YES", "SAMPLE_STEPS": "ALL"} if len(turns) > 1 else {}
    return [
        WarpedVRT(
            source,
            src_crs=own_crs,
            src_transform=Affine.translation(turn, 0) @ source.transform,
            crs=crs,
            transform=Affine(*transform),
            width=width,
            height=height,
            resampling=Resampling.nearest,
            add_alpha=True,
            **every,
        )
        for turn in turns
    ]


def _values(
    path: str, dataset: Any, nodata: float | None, masked: bool, where: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The labelled values, int64, `N`, and the mask of labelled pixels of the window.

    Args:
        dataset: a dataset of `_with_mask`, or one that was warped from it and has its coverage in
            band 3.
        nodata, masked: the nodata value of the file, and whether it has a mask.
    """
    from rasterio.errors import RasterioError

    try:
        values = dataset.read(1, **where)
        labelled = dataset.read(2, **where) > 0
        if dataset.count > 2:
            labelled &= dataset.read(3, **where) > 0
    except RasterioError:
        raise OutcropError(path, _DAMAGED) from None
    if nodata is not None:
        labelled &= values != nodata
    elif not masked:
        labelled &= values != 0
    if values.dtype.kind == "f":
        labelled &= np.isfinite(values)
    found = values[labelled]
    if found.dtype.kind == "f" and (found != np.floor(found)).any():
        raise OutcropError(
            path, "is not a label raster: its values are not integers; number the classes"
        )
    return found.astype(np.int64), labelled


def windows(dataset: Any) -> Iterator[Any]:
    """Windows of bounded size, row by row, that cover a raster."""
    from rasterio.windows import Window

    for row in range(0, dataset.height, _WINDOW):
        for column in range(0, dataset.width, _WINDOW):
            width, height = min(_WINDOW, dataset.width - column), min(_WINDOW, dataset.height - row)
            yield Window(column, row, width, height)


def _names_in(path: str, dataset: Any, band: ElementTree.Element) -> dict[int, str]:
    """The names of values in the file."""
    tags = {
        int(key[6:]): name
        for key, name in dataset.tags(1).items()
        if key.startswith("CLASS_") and key[6:].isdecimal()
    }
    named = tags or _gdal_names(band) or _arcgis_names(path)
    return {value: name.strip() for value, name in named.items() if name.strip()}


def _band_xml(dataset: Any) -> ElementTree.Element:
    """Category names and attribute table of the first band, independent of the format."""
    import rasterio.shutil
    from rasterio.io import MemoryFile

    # rasterio has no functions for them, but GDAL writes them into the XML of a virtual copy.
    with MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(dataset, memory.name, driver="VRT")
        band = ElementTree.fromstring(memory.read()).find("VRTRasterBand")
    assert band is not None
    return band


def _gdal_names(band: ElementTree.Element) -> dict[int, str]:
    """The category names of a band, or the names in its attribute table."""
    categories = [one.text or "" for one in band.findall("CategoryNames/Category")]
    if any(categories):
        return dict(enumerate(categories))
    table = band.find(_TABLE)
    return {} if table is None else _from_table(table)


def _from_table(table: ElementTree.Element) -> dict[int, str]:
    """Names by value from GDAL's attribute table in XML; empty without a column of names."""
    fields = table.findall("FieldDefn")
    names = [(one.findtext("Name") or "").casefold() for one in fields]
    usages = [one.findtext("Usage") or "" for one in fields]
    is_text = [one.findtext("Type") == "2" for one in fields]
    rows = [[cell.text or "" for cell in row.findall("F")] for row in table.findall("Row")]
    texts = [text and name in _NAME_COLUMNS for text, name in zip(is_text, names, strict=True)]
    called = _first([usage == _NAME_USAGE for usage in usages], texts, is_text)
    if called is None:
        return {}
    is_value = [usage in _VALUE_USAGES for usage in usages]
    valued = _first(is_value, [name in _VALUE_COLUMNS for name in names])
    found = {}
    for number, row in enumerate(rows):
        try:
            found[number if valued is None else int(float(row[valued]))] = row[called]
        except (ValueError, IndexError):
            continue
    return found


def _arcgis_names(path: str) -> dict[int, str]:
    """Names by value from the table of ArcGIS beside a raster, `NAME.tif.vat.dbf`."""
    import pyogrio

    table = Path(f"{path}.vat.dbf")
    if not table.is_file():
        return {}
    frame = pyogrio.read_dataframe(table, read_geometry=False)
    columns = {str(column).casefold(): column for column in frame.columns}
    valued = next((columns[one] for one in _VALUE_COLUMNS if one in columns), None)
    called = next((columns[one] for one in _NAME_COLUMNS if one in columns), None)
    if valued is None or called is None:
        return {}
    return {
        int(value): str(name)
        for value, name in zip(frame[valued], frame[called], strict=True)
        if name is not None and name == name
    }


def _first(*choices: Sequence[bool]) -> int | None:
    """The place of the first flag of the first list that has one."""
    return next((flags.index(True) for flags in choices if True in flags), None)
