"""Scenes: georeferenced rasters read window by window, as bands × rows × columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from outcrop.errors import OutcropError
from outcrop.sources.dataset import open_dataset, why_unreadable
from outcrop.sources.grids import Grid, overlap
from outcrop.sources.metric import metric_systems
from outcrop.sources.names import gdal_for

CACHE_BYTES = 64 << 20
NO_CRS = (
    "has no coordinate reference system; write one into it, or pass --crs for a scene, "
    "--labels-crs for labels, e.g. EPSG:32648"
)
_EXACT_IN_FLOAT = 1 << 24
_TALL, _WIDE = 256, 2048  # of the blocks that resampled bands are read in
_BLOCKS = 16

Resampling = Literal["auto", "nearest", "bilinear", "cubic", "average"]


@dataclass(frozen=True)
class Reading:
    """How rasters are read as scenes.

    Attributes:
        resolution: grid of scenes whose files have pixels of several sizes: finest, coarsest, the
            name of a file, or a pixel size in metres.
        resampling: method that brings bands to that grid: nearest, bilinear, cubic or average;
            auto: bilinear for coarser bands, average for finer ones. Labels and masks are always
            resampled by nearest neighbour.
        raw: use the stored values, without the scale and offset that the file declares.
        nodata: stored value that means no data and that the file does not declare.
        mask: quality rasters whose flagged pixels are no data in all bands, one for all scenes or
            one per scene; "none" ignores the quality mask of a product.
        mask_values: values of the mask that mean no data, for example 3,8,9,10 of the Sentinel-2
            SCL.
        mask_bits: bit numbers of the mask, from 0, for example 3,4 of the Landsat QA_PIXEL; a pixel
            with one of these bits set is no data.
        band_names: band names, in file order, for files that have none or others.
    """

    resolution: str = "finest"
    resampling: Resampling = "auto"
    raw: bool = False
    nodata: float | None = None
    mask: list[str] = field(default_factory=list)
    mask_values: list[int] = field(default_factory=list)
    mask_bits: list[int] = field(default_factory=list)
    band_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Band:
    """One band of a scene.

    Attributes:
        file: the name of the raster that it lies in, as GDAL takes it.
        number: there, from 1.
        name: what it is called.
        scale, offset: from stored to physical values: `stored * scale + offset`.
        nodata: the stored value that means no data, if the file does not declare it itself.
        unit: of the physical values, if it is known.
        crs: of the file, as WKT.
        resampling: how it is brought to the scene's grid; empty where it lies on it.
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
        """Whether physical values are others than stored ones."""
        return (self.scale, self.offset) != (1.0, 0.0)


@dataclass(frozen=True)
class Mask:
    """A raster that says which pixels of a scene are no data.

    Attributes:
        file: its name.
        values: values that are no data.
        bits: numbers of bits, from 0, of which any set one means no data.
        crs: of the file, as WKT.
    """

    file: str
    values: tuple[int, ...]
    bits: tuple[int, ...]
    crs: str = ""

    def covers(self, quality: np.ndarray) -> np.ndarray:
        """Where values of the mask, whole numbers of any type, mean no data."""
        covered = np.isin(quality, self.values)
        if self.bits:
            covered |= (quality.astype(np.int64) & sum(1 << bit for bit in self.bits)) != 0
        return covered


@dataclass(frozen=True)
class Scene(Grid):
    """What is known of a scene without reading its pixels.

    Attributes:
        bands: the bands in use, from one file or several.
        dtype: of the pixels as they are read. uint8, int16 and uint16 are kept; every other type,
            and bands with a scale or an offset, are read as float32.
        opened: what `open_scene` was given: files, or the name of a product.
        reading: how it was opened.
        mask: what makes pixels no data in all bands.
        sensor: the platform and instrument, if the files tell.
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
        """The names of the rasters of the scene, each once."""
        return tuple(dict.fromkeys(band.file for band in self.bands))

    @property
    def name(self) -> str:
        """What was opened, with plus signs between files that are joined."""
        return " + ".join(self.opened)

    @property
    def title(self) -> str:
        """The first file that was opened and how many more, for messages."""
        return title(self.opened)

    @property
    def band_names(self) -> tuple[str, ...]:
        """The names of the bands."""
        return tuple(band.name for band in self.bands)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest x, smallest y, largest x and largest y, in `crs`."""
        x, y = self.xy(
            np.array([0, 0, self.height, self.height]) - 0.5,
            np.array([0, self.width, 0, self.width]) - 0.5,
        )
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def row_column(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pixels that points in `crs` fall into; they may lie outside the scene."""
        row, column = self.place(x, y)
        return np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)

    def with_order(self, order: Sequence[int]) -> Scene:
        """The scene with some of its bands, by index from 0, in this order."""
        return replace(self, bands=tuple(self.bands[i] for i in order))

    @cached_property
    def metric_crs(self) -> str:
        """A system in metres, as WKT, whose scale is true to 1 % on the scene.

        Raises:
            OutcropError: as `outcrop.sources.metric.metric_systems`.
        """
        return metric_systems([self])[0]

    @contextmanager
    def reader(self) -> Iterator[SceneReader]:
        """Open the files for reading windows."""
        # GDAL would keep a twentieth of the machine's memory full of blocks that are not needed.
        with gdal_for(*self.files, GDAL_CACHEMAX=CACHE_BYTES), ExitStack() as stack:
            yield SceneReader(self, stack)


class _Layer:
    """Bands of one file as they lie on the scene's grid.

    Resampled ones are read in blocks of one lattice: GDAL rounds a value that lies half-way between
    two whole numbers up or down by the window that it is read in, and a pixel has one value.

    Attributes:
        file: the name of the file.
        dataset: open, on the scene's grid.
        at: indices of the bands in the scene.
        numbers: of the bands in the file, from 1.
    """

    def __init__(self, file: str, dataset: Any, at: list[int], bands: list[Band]) -> None:
        self.file, self.dataset, self.at = file, dataset, at
        self.numbers = [band.number for band in bands]
        self._resampled = any(band.resampling for band in bands)
        self._block = lru_cache(_BLOCKS)(self._read)

    def window(self, row: int, column: int, height: int, width: int) -> tuple[np.ndarray, ...]:
        """Stored values `bands × height × width`, and where they are valid by the file."""
        if not self._resampled:
            return self._read((row, column, height, width))
        down = range(row // _TALL, -(-(row + height) // _TALL))
        right = range(column // _WIDE, -(-(column + width) // _WIDE))
        blocks = [[self._block(self._bounds(r, c)) for c in right] for r in down]
        top, left = row - down[0] * _TALL, column - right[0] * _WIDE
        here = np.s_[:, top : top + height, left : left + width]
        stored, valid = (np.block([[both[i] for both in line] for line in blocks]) for i in (0, 1))
        return stored[here], valid[here]

    def _bounds(self, down: int, right: int) -> tuple[int, int, int, int]:
        row, column = down * _TALL, right * _WIDE
        height = min(_TALL, self.dataset.height - row)
        return row, column, height, min(_WIDE, self.dataset.width - column)

    def _read(self, window: tuple[int, int, int, int]) -> tuple[np.ndarray, ...]:
        stored = _read(self.file, self.dataset.read, self.numbers, window)
        return stored, _read(self.file, self.dataset.read_masks, self.numbers, window) > 0


class SceneReader:
    """Reads windows of an open scene."""

    def __init__(self, scene: Scene, stack: ExitStack) -> None:
        self.scene = scene
        self._mask = None if scene.mask is None else _open_mask(scene.mask, scene, stack)
        keys = [(band.file, band.resampling) for band in scene.bands]
        self._layers = []
        for key in dict.fromkeys(keys):
            at = [i for i, one in enumerate(keys) if one == key]
            bands = [scene.bands[i] for i in at]
            dataset = _on_grid(bands[0], scene, stack)
            self._layers.append(_Layer(key[0], dataset, at, bands))

    def read(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Read a window, which may reach over the scene's edge.

        Beyond the edge the scene is mirrored about its outermost pixels (which are not repeated:
        NumPy's and PyTorch's "reflect").

        Args:
            row, column: the window's upper-left pixel, from 0; may be negative.
            height, width: at most the scene's own.

        Returns:
            `bands × height × width` in the scene's dtype; if any pixel has no data (nodata value,
            mask, NaN, infinity), float32 with NaN there. Values are physical unless the scene was
            opened `raw`.

        Raises:
            OutcropError: a file is damaged, or holds whole numbers that float32 does not.
        """
        shape = self.scene.height, self.scene.width
        return read_mirrored(self.inside, shape, (row, column, height, width))

    def inside(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Read a window that lies inside the scene; see `read`."""
        pixels = np.empty((len(self.scene.bands), height, width), self.scene.dtype)
        valid = np.empty(pixels.shape, bool)
        for layer in self._layers:
            self._read(layer, (row, column, height, width), pixels, valid)
        if self._mask is not None and self.scene.mask is not None:
            quality = _read(self.scene.mask.file, self._mask.read, 1, (row, column, height, width))
            valid &= ~self.scene.mask.covers(quality)
        if pixels.dtype.kind == "f":
            valid &= np.isfinite(pixels)
        if valid.all():
            return pixels
        return np.where(valid, pixels, np.float32(np.nan)).astype(np.float32, copy=False)

    def reduced(self, height: int, width: int) -> np.ndarray:
        """The whole scene with fewer pixels: float32, `bands × height × width`, NaN for no data.

        GDAL averages while it reads, block by block, so that memory is that of the result. Where
        pixels are no data by a mask or a value that no file declares, the nearest are taken.

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
                values = stored.astype(np.float32).filled(np.nan)
                scaled = band.is_scaled and not self.scene.reading.raw
                pixels[i] = values * band.scale + band.offset if scaled else values
        if self._mask is not None and self.scene.mask is not None:
            quality = _read(self.scene.mask.file, self._mask.read, 1, out_shape=size)
            pixels[:, self.scene.mask.covers(quality)] = np.nan
        return pixels

    def _read(
        self,
        layer: _Layer,
        window: tuple[int, int, int, int],
        pixels: np.ndarray,
        valid: np.ndarray,
    ) -> None:
        """Put the bands of one file into `pixels`, and where they have data into `valid`."""
        stored, valid[layer.at] = layer.window(*window)
        for i, values in zip(layer.at, stored, strict=True):
            band = self.scene.bands[i]
            if band.nodata is not None:
                valid[i] &= values != band.nodata
            _refuse_rounding(band, values, valid[i])
            scaled = band.is_scaled and not self.scene.reading.raw
            pixels[i] = values * band.scale + band.offset if scaled else values


def title(names: Sequence[str]) -> str:
    """The first name and how many more, for messages."""
    return str(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _on_grid(band: Band, scene: Scene, stack: ExitStack) -> Any:
    """The file of a band as it lies on the scene's grid, open as long as the stack."""
    from rasterio.enums import ColorInterp

    dataset = stack.enter_context(open_dataset(band.file))
    if not band.resampling:
        return dataset
    nodata = dataset.nodatavals[band.number - 1] if band.nodata is None else band.nodata
    gaps: dict[str, Any] = {}
    if nodata is not None:
        gaps = {"src_nodata": nodata, "nodata": nodata}
    elif ColorInterp.alpha not in dataset.colorinterp and not _covers(dataset, band, scene):
        gaps = {"add_alpha": True}
    return stack.enter_context(_warped(dataset, band.crs, scene, band.resampling, **gaps))


def _covers(dataset: Any, band: Band, scene: Scene) -> bool:
    """Whether a file has a pixel wherever the scene has one."""
    own = Grid(band.crs, tuple(dataset.transform)[:6], dataset.height, dataset.width)
    return overlap(scene, own) > 1 - 1e-9


def _open_mask(mask: Mask, scene: Scene, stack: ExitStack) -> Any:
    """A mask as it lies on the scene's grid; where it does not reach it masks nothing."""
    dataset = stack.enter_context(open_dataset(mask.file))
    gaps: dict[str, Any] = {}
    clear = np.flatnonzero(~mask.covers(np.arange(128)))
    if len(clear):
        # GDAL fills with 0 else, or with the file's nodata value, and both may be covered values.
        gaps = {"src_nodata": int(clear[0]), "nodata": int(clear[0])}
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
    window: tuple[int, int, int, int] | None = None,
    **options: Any,
) -> Any:
    """Values or masks of bands, of all rows or in a window of row, column, height and width."""
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    where = ""
    if window is not None:
        row, column, height, width = window
        options["window"] = Window(column, row, width, height)
        where = f" at rows {row} to {row + height - 1}"
    try:
        return read(numbers, **options)
    except RasterioError as error:
        raise OutcropError(file, f"cannot be read{where}; {why_unreadable(error)}") from None


def _refuse_rounding(band: Band, values: np.ndarray, valid: np.ndarray) -> None:
    """Refuse whole numbers of which float32, as they are read, would make others."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 4:
        return
    largest = np.abs(values.astype(np.float64), where=valid, out=np.zeros(values.shape)).max()
    if largest > _EXACT_IN_FLOAT:
        raise OutcropError(
            band.file,
            f"band {band.number} holds whole numbers up to {largest:.0f}, and those above "
            f"{_EXACT_IN_FLOAT} would be rounded; subtract or divide first, e.g. with gdal_calc",
        )


def read_mirrored(
    inside: Callable[[int, int, int, int], np.ndarray],
    shape: tuple[int, int],
    window: tuple[int, int, int, int],
) -> np.ndarray:
    """Read a window that may reach over the edges, beyond which pixels are mirrored.

    Args:
        inside: reads row, column, height and width within them: `... × height × width`.
        shape: height and width of the whole.
        window: row, column, height and width.
    """
    row, column, height, width = window
    rows = mirrored(np.arange(row, row + height), shape[0])
    columns = mirrored(np.arange(column, column + width), shape[1])
    top, left = int(rows.min()), int(columns.min())
    pixels = inside(top, left, int(rows.max()) + 1 - top, int(columns.max()) + 1 - left)
    if (top, left) == (row, column) and pixels.shape[-2:] == (height, width):
        return pixels
    return pixels[..., (rows - top)[:, None], columns - left]


def mirrored(index: np.ndarray, length: int) -> np.ndarray:
    """Indices beyond the ends of an axis, mirrored about its outermost pixels.

    >>> mirrored(np.array([-2, 0, 3, 4]), 4).tolist()
    [2, 0, 3, 2]
    """
    period = max(2 * (length - 1), 1)
    folded = np.abs(index) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(index)
