"""Scenes: georeferenced rasters, read window by window as `bands × height × width`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from outcrop.errors import OutcropError
from outcrop.frames import georeferenced
from outcrop.sources.dtypes import check_exact
from outcrop.sources.grids import Grid, grid_xy, overlap
from outcrop.sources.metric import metric_systems
from outcrop.sources.names import gdal_for
from outcrop.sources.raster_io import open_dataset, read_failure
from outcrop.sources.reading import Reading

if TYPE_CHECKING:
    import xarray

CACHE_BYTES = 64 << 20
NO_CRS = (
    "has no coordinate reference system; write one into the file, or pass `crs` for a scene, "
    "`labels_crs` for labels, e.g. EPSG:32648"
)
_SMALLER = "subtract or divide first, e.g. with gdal_calc"
_BLOCK_HEIGHT, _BLOCK_WIDTH = 256, 2048  # blocks in which resampled bands are read
_BLOCKS = 16

Window: TypeAlias = tuple[int, int, int, int]
"""Row, column, height and width in pixels."""


@dataclass(frozen=True)
class Band:
    """One band of a scene.

    Attributes:
        file: name of the raster file, as GDAL opens it.
        number: band number in the file, from 1.
        name: name of the band.
        scale, offset: physical value = stored value × scale + offset.
        nodata: stored value that means no data, if the file does not declare one.
        unit: unit of the physical values; empty if it is unknown.
        crs: coordinate reference system of the file as WKT.
        resampling: resampling method; empty if the band is on the grid of the scene.
    """

    file: str
    number: int
    name: str
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    unit: str = ""
    crs: str = ""
    resampling: str = ""

    @property
    def is_scaled(self) -> bool:
        """Whether physical and stored values differ."""
        return (self.scale, self.offset) != (1.0, 0.0)


@dataclass(frozen=True)
class Mask:
    """A raster that flags pixels of a scene as no data.

    Attributes:
        file: name of the raster file.
        values: values that mean no data.
        bits: bit numbers, from 0; a pixel with any of these bits is no data.
        crs: coordinate reference system of the file as WKT.
    """

    file: str
    values: tuple[int, ...]
    bits: tuple[int, ...]
    crs: str = ""

    def flags(self, quality: np.ndarray) -> np.ndarray:
        """Where integer values of the mask mean no data: bool, of the same shape.

        >>> Mask("qa.tif", values=(3,), bits=(4,)).flags(np.array([0, 3, 16, 17])).tolist()
        [False, True, True, True]
        """
        covered = np.isin(quality, self.values)
        if self.bits:
            covered |= (quality.astype(np.int64) & sum(1 << bit for bit in self.bits)) != 0
        return covered


@dataclass(frozen=True)
class Scene(Grid):
    """What is known of a scene without reading its pixels.

    Attributes:
        bands: the selected bands, from one file or several.
        dtype: dtype in which pixels are read. uint8, int16 and uint16 are kept. Other dtypes, and
            bands with a scale or an offset, are read as float32.
        opened: the argument of `open_scene`: names of files, or of a product.
        reading: how the files are read.
        mask: mask of no-data pixels in all bands.
        sensor: platform and instrument; empty if the files do not declare them.
    """

    bands: tuple[Band, ...]
    dtype: np.dtype
    opened: tuple[str, ...] = ()
    reading: Reading = Reading()
    mask: Mask | None = None
    sensor: str = ""

    def __repr__(self) -> str:
        return (
            f"Scene({self.title}: {len(self.bands)} × {self.height} × {self.width} {self.dtype}; "
            f"{', '.join(self.band_names)})"
        )

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The names of the raster files, without repetition."""
        return tuple(dict.fromkeys(band.file for band in self.bands))

    @property
    def name(self) -> str:
        """The opened files, joined by plus signs."""
        return " + ".join(self.opened)

    @property
    def title(self) -> str:
        """The first opened file and the number of the others, for messages."""
        return title(self.opened)

    @property
    def band_names(self) -> tuple[str, ...]:
        """The names of the bands."""
        return tuple(band.name for band in self.bands)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest x, smallest y, largest x and largest y, in `crs`."""
        row, column = [0, 0, self.height, self.height], [0, self.width, 0, self.width]
        x, y = grid_xy(self.transform, np.array(row), np.array(column))
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def row_column(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the pixels that contain points in `crs`, also outside the scene."""
        row, column = self.fractional_row_column(x, y)
        return np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)

    def take_bands(self, order: Sequence[int]) -> Scene:
        """The scene with the bands of these indices, from 0, in this order."""
        return replace(self, bands=tuple(self.bands[i] for i in order))

    @cached_property
    def metric_crs(self) -> str:
        """A CRS in metres, as WKT, whose scale error on the scene is at most 1 %.

        Raises:
            OutcropError: as for `outcrop.sources.metric.metric_systems`.
        """
        return metric_systems([self])[0]

    def read(self, window: Window | None = None) -> np.ndarray:
        """Read pixels.

        To read many windows, open the scene once with `reader`.

        Args:
            window: row and column of the upper-left pixel, from 0, and height and width, in pixels;
                inside the scene. None: the whole scene.

        Returns:
            `bands × height × width` in the dtype of the scene; if a pixel has no data (nodata
            value, mask, NaN, infinity), float32 with NaN there. Values are physical, unless the
            scene was opened `raw`.

        Raises:
            OutcropError: the window is not inside the scene; a file is damaged, or has integers
                that float32 cannot represent.
        """
        row, column, height, width = window or (0, 0, self.height, self.width)
        inside = 0 <= row < row + height <= self.height and 0 <= column < column + width
        if not inside or column + width > self.width:
            raise OutcropError(
                "`window`",
                f"({row}, {column}, {height}, {width}) is not inside {self.title} of {self.height} "
                f"× {self.width} pixels; pass row, column, height and width within it",
            )
        with self.reader() as reader:
            return reader.read_inside(row, column, height, width)

    def to_xarray(self, window: Window | None = None) -> xarray.DataArray:
        """Pixels as DataArray (band, y, x) with band names, georeferenced as rioxarray does it.

        The variable `spatial_ref` holds the coordinate reference system and the transform. Rotated
        scenes have no coordinates x and y, because these would need two dimensions.

        Args:
            window: as in `read`; the values are those of `read`.

        Raises:
            OutcropError: as `read`.
        """
        pixels = self.read(window)
        a, b, _, d, e, _ = self.transform
        x, y = grid_xy(self.transform, *(window or (0, 0))[:2])
        corner = (a, b, x, d, e, y)
        return georeferenced(pixels, corner, self.crs, name=self.title, bands=self.band_names)

    @contextmanager
    def reader(self) -> Iterator[SceneReader]:
        """Open the files for reading windows."""
        # By default GDAL fills 5 % of the memory with blocks, most of which are not read again.
        with gdal_for(*self.files, GDAL_CACHEMAX=CACHE_BYTES), ExitStack() as stack:
            yield SceneReader(self, stack)


class _Layer:
    """Bands of one file on the grid of the scene.

    Resampled bands are read in fixed blocks. GDAL rounds a value half-way between two integers up
    or down depending on the window, and a pixel must have one value in all windows.

    Attributes:
        file: name of the file.
        dataset: open dataset on the grid of the scene.
        at: indices of the bands in the scene.
        numbers: band numbers in the file, from 1.
    """

    def __init__(self, file: str, dataset: Any, at: list[int], bands: list[Band]) -> None:
        self.file, self.dataset, self.at = file, dataset, at
        self.numbers = [band.number for band in bands]
        self._resampled = any(band.resampling for band in bands)
        self._block = lru_cache(_BLOCKS)(self._read)

    def window(self, row: int, column: int, height: int, width: int) -> tuple[np.ndarray, ...]:
        """Stored values, `bands × height × width`, and where the file declares them valid."""
        if not self._resampled:
            return self._read((row, column, height, width))
        down = range(row // _BLOCK_HEIGHT, -(-(row + height) // _BLOCK_HEIGHT))
        right = range(column // _BLOCK_WIDTH, -(-(column + width) // _BLOCK_WIDTH))
        blocks = [[self._block(self._bounds(r, c)) for c in right] for r in down]
        top, left = row - down[0] * _BLOCK_HEIGHT, column - right[0] * _BLOCK_WIDTH
        here = np.s_[:, top : top + height, left : left + width]
        stored, valid = (np.block([[both[i] for both in line] for line in blocks]) for i in (0, 1))
        return stored[here], valid[here]

    def _bounds(self, down: int, right: int) -> Window:
        row, column = down * _BLOCK_HEIGHT, right * _BLOCK_WIDTH
        height = min(_BLOCK_HEIGHT, self.dataset.height - row)
        return row, column, height, min(_BLOCK_WIDTH, self.dataset.width - column)

    def _read(self, window: Window) -> tuple[np.ndarray, ...]:
        stored = _read(self.file, self.dataset.read, self.numbers, window)
        return stored, _read(self.file, self.dataset.read_masks, self.numbers, window) > 0


class SceneReader:
    """Reader of windows of an open scene."""

    def __init__(self, scene: Scene, stack: ExitStack) -> None:
        self.scene = scene
        self._mask = None if scene.mask is None else _open_mask(scene.mask, scene, stack)
        keys = [(band.file, band.resampling) for band in scene.bands]
        self._layers = []
        for key in dict.fromkeys(keys):
            for at in _by_nodata(scene, [i for i, one in enumerate(keys) if one == key]):
                bands = [scene.bands[i] for i in at]
                dataset = _on_grid(bands[0], scene, stack)
                self._layers.append(_Layer(key[0], dataset, at, bands))

    def read(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Read a window, which may extend beyond the edges of the scene.

        Beyond an edge the scene is mirrored about its outermost pixels, which are not repeated
        (mode "reflect" of NumPy and PyTorch).

        Args:
            row, column: upper-left pixel of the window, from 0; may be negative.
            height, width: size of the window, at most that of the scene.

        Returns:
            the values of `Scene.read`.

        Raises:
            OutcropError: a file is damaged; it has integers that float32 cannot represent.
        """
        shape = self.scene.height, self.scene.width
        return read_mirrored(self.read_inside, shape, (row, column, height, width))

    def read_inside(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Read a window inside the scene; see `read`."""
        pixels = np.empty((len(self.scene.bands), height, width), self.scene.dtype)
        valid = np.empty(pixels.shape, bool)
        for layer in self._layers:
            stored, valid[layer.at] = layer.window(row, column, height, width)
            for i, values in zip(layer.at, stored, strict=True):
                band = self.scene.bands[i]
                if band.nodata is not None:
                    valid[i] &= values != band.nodata
                check_exact(band.file, f"band {band.number} ", values, valid[i], _SMALLER)
                pixels[i] = self._physical(band, values)
        if self._mask is not None and self.scene.mask is not None:
            quality = _read(self.scene.mask.file, self._mask.read, 1, (row, column, height, width))
            valid &= ~self.scene.mask.flags(quality)
        if pixels.dtype.kind == "f":
            valid &= np.isfinite(pixels)
        if valid.all():
            return pixels
        return np.where(valid, pixels, np.float32(np.nan)).astype(np.float32, copy=False)

    def read_overview(self, height: int, width: int) -> np.ndarray:
        """Read the whole scene at reduced size: float32, `bands × height × width`, NaN for no data.

        GDAL averages block by block while it reads, so the memory is that of the result. Where a
        mask or an undeclared nodata value applies, the nearest pixels are used instead.

        Raises:
            OutcropError: a file is damaged.
        """
        from rasterio.enums import Resampling as Method

        size = (height, width)
        pixels = np.empty((len(self.scene.bands), *size), np.float32)
        for layer in self._layers:
            for i, number in zip(layer.at, layer.numbers, strict=True):
                band = self.scene.bands[i]
                plain = self._mask is None and band.nodata is None
                stored = _read(
                    layer.file,
                    layer.dataset.read,
                    number,
                    out_shape=size,
                    resampling=Method.average if plain else Method.nearest,
                    masked=True,
                )
                if band.nodata is not None:
                    stored = np.ma.masked_equal(stored, band.nodata)
                pixels[i] = self._physical(band, stored.astype(np.float32).filled(np.nan))
        if self._mask is not None and self.scene.mask is not None:
            quality = _read(self.scene.mask.file, self._mask.read, 1, out_shape=size)
            pixels[:, self.scene.mask.flags(quality)] = np.nan
        return pixels

    def _physical(self, band: Band, stored: np.ndarray) -> np.ndarray:
        if not band.is_scaled or self.scene.reading.raw:
            return stored
        return stored * band.scale + band.offset


def title(names: Sequence[str]) -> str:
    """The first name and the number of the others, for messages."""
    return str(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _by_nodata(scene: Scene, at: list[int]) -> list[list[int]]:
    """Group bands of one file by nodata value, because GDAL resamples with one value at a time."""
    first = scene.bands[at[0]]
    if not first.resampling or len(at) == 1:
        return [at]
    with open_dataset(first.file) as dataset:
        # As text, because NaN is not equal to itself.
        values = [str(dataset.nodatavals[scene.bands[i].number - 1]) for i in at]
    return [
        [i for i, own in zip(at, values, strict=True) if own == value]
        for value in dict.fromkeys(values)
    ]


def _on_grid(band: Band, scene: Scene, stack: ExitStack) -> Any:
    """The file of a band on the grid of the scene, open as long as the stack."""
    from rasterio.enums import ColorInterp

    dataset = stack.enter_context(open_dataset(band.file))
    if not band.resampling:
        return dataset
    nodata = dataset.nodatavals[band.number - 1] if band.nodata is None else band.nodata
    gaps: dict[str, Any] = {}
    if nodata is not None:
        gaps = {"src_nodata": nodata, "nodata": nodata}
    elif ColorInterp.alpha not in dataset.colorinterp:
        own = Grid(band.crs, tuple(dataset.transform)[:6], dataset.height, dataset.width)
        gaps = {"add_alpha": True} if overlap(scene, own) < 1 - 1e-9 else {}
    return stack.enter_context(_warped(dataset, band.crs, scene, band.resampling, **gaps))


def _open_mask(mask: Mask, scene: Scene, stack: ExitStack) -> Any:
    """A mask on the grid of the scene; outside its extent it masks nothing."""
    dataset = stack.enter_context(open_dataset(mask.file))
    # By default GDAL fills with 0 or the nodata value, and both may be flagged values.
    clear = np.flatnonzero(~mask.flags(np.arange(128)))[:1].tolist()
    gaps = {"src_nodata": clear[0], "nodata": clear[0]} if clear else {}
    return stack.enter_context(_warped(dataset, mask.crs, scene, "nearest", **gaps))


def _warped(dataset: Any, crs: str, scene: Scene, resampling: str, **gaps: Any) -> Any:
    from affine import Affine
    from rasterio.enums import Resampling as Method
    from rasterio.vrt import WarpedVRT

    return WarpedVRT(
        dataset,
        src_crs=crs,
        crs=scene.crs,
        transform=Affine(*scene.transform),
        height=scene.height,
        width=scene.width,
        resampling=Method[resampling],
        **gaps,
    )


def _read(
    file: str,
    read: Callable[..., Any],
    numbers: list[int] | int,
    window: Window | None = None,
    **options: Any,
) -> Any:
    """Read values or masks of bands, completely or in a window of row, column, height and width."""
    from rasterio import windows
    from rasterio.errors import RasterioError

    where = ""
    if window is not None:
        row, column, height, width = window
        options["window"] = windows.Window(column, row, width, height)
        where = f" at rows {row} to {row + height - 1}"
    try:
        return read(numbers, **options)
    except RasterioError as error:
        raise OutcropError(file, f"cannot be read{where}; {read_failure(error)}") from None


def read_mirrored(
    inside: Callable[[int, int, int, int], np.ndarray],
    shape: tuple[int, int],
    window: Window,
) -> np.ndarray:
    """Read a window that may extend beyond the edges, where pixels are mirrored.

    Args:
        inside: function of row, column, height and width that reads a window within the edges: `...
            × height × width`.
        shape: height and width of the whole.
        window: row, column, height and width of the window.
    """
    row, column, height, width = window
    rows = mirror_index(np.arange(row, row + height), shape[0])
    columns = mirror_index(np.arange(column, column + width), shape[1])
    top, left = int(rows.min()), int(columns.min())
    pixels = inside(top, left, int(rows.max()) + 1 - top, int(columns.max()) + 1 - left)
    if (top, left) == (row, column) and pixels.shape[-2:] == (height, width):
        return pixels
    return pixels[..., (rows - top)[:, None], columns - left]


def mirror_index(index: np.ndarray, length: int) -> np.ndarray:
    """Mirror indices beyond the ends of an axis about its outermost pixels.

    >>> mirror_index(np.array([-2, 0, 3, 4]), 4).tolist()
    [2, 0, 3, 2]
    """
    period = max(2 * (length - 1), 1)
    folded = np.abs(index) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(index)
