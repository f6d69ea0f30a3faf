"""Scenes: georeferenced rasters read window by window, as bands × rows × columns."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.sources.dtypes import kept
from outcrop.sources.metric import metric_systems

Transform = tuple[float, float, float, float, float, float]
CACHE_BYTES = 64 << 20
NO_CRS = (
    "has no coordinate reference system; write one into it, or pass --crs for a scene, "
    "--labels-crs for labels, e.g. EPSG:32648"
)


@dataclass(frozen=True)
class Band:
    """One band of a scene: the file it lies in, its number there (from 1), and its name."""

    file: Path
    number: int
    name: str


@dataclass(frozen=True)
class Scene:
    """What is known of a scene without reading its pixels.

    Attributes:
        bands: the bands in use, from one file or several on the same grid.
        crs: coordinate reference system as WKT.
        transform: a, b, c, d, e, f of the affine map from (column, row) to (x, y).
        height, width: in pixels.
        dtype: uint8, int16 and uint16 are kept; every other type is read as float32.
    """

    bands: tuple[Band, ...]
    crs: str
    transform: Transform
    height: int
    width: int
    dtype: np.dtype

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files of the scene, each once."""
        return tuple(dict.fromkeys(band.file for band in self.bands))

    @property
    def name(self) -> str:
        """The file, or the files joined by commas: what `open_scene` takes."""
        return ",".join(str(file) for file in self.files)

    @property
    def title(self) -> str:
        """The first file and how many more, for messages."""
        return _title(self.files)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest x, smallest y, largest x and largest y, in `crs`."""
        x, y = self.xy(
            np.array([0, 0, self.height, self.height]) - 0.5,
            np.array([0, self.width, 0, self.width]) - 0.5,
        )
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def xy(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates in `crs` of the middles of pixels."""
        a, b, c, d, e, f = self.transform
        column, row = np.asarray(column) + 0.5, np.asarray(row) + 0.5
        return a * column + b * row + c, d * column + e * row + f

    def row_column(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pixels that points in `crs` fall into; they may lie outside the scene."""
        a, b, c, d, e, f = self.transform
        inverse = np.linalg.inv(np.array([[a, b], [d, e]]))
        column, row = inverse @ np.stack([np.asarray(x) - c, np.asarray(y) - f])
        return np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)

    @cached_property
    def metric_crs(self) -> str:
        """A system in metres, as WKT, whose scale is true to 1 % on the scene.

        Raises:
            OutcropError: as `outcrop.sources.metric.metric_systems`.
        """
        return metric_systems([self])[0]

    def same_grid(self, other: Scene) -> bool:
        """Whether both have the same pixels on the ground."""
        return (
            (self.height, self.width) == (other.height, other.width)
            and np.allclose(self.transform, other.transform, rtol=0, atol=1e-6)
            and self.crs == other.crs
        )

    @contextmanager
    def reader(self) -> Iterator[SceneReader]:
        """Open the files for reading windows."""
        import rasterio

        # GDAL would keep a twentieth of the machine's memory full of blocks that are not needed.
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), ExitStack() as stack:
            datasets = {file: stack.enter_context(_open(file)) for file in self.files}
            yield SceneReader(self, datasets)


class SceneReader:
    """Reads windows of an open scene."""

    def __init__(self, scene: Scene, datasets: dict[Path, Any]) -> None:
        self.scene = scene
        self._datasets = datasets

    def read(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Read a window, which may reach over the scene's edge.

        Beyond the edge the scene is mirrored about its outermost pixels (which are not repeated:
        NumPy's and PyTorch's "reflect").

        Args:
            row, column: the window's upper-left pixel, from 0; may be negative.
            height, width: at most the scene's own.

        Returns:
            `bands × height × width` in the scene's dtype; if any pixel has no data (nodata value,
            mask, NaN, infinity), float32 with NaN there.

        Raises:
            OutcropError: a file is damaged.
        """
        shape = self.scene.height, self.scene.width
        return read_mirrored(self.inside, shape, (row, column, height, width))

    def inside(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """Read a window that lies inside the scene; see `read`."""
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        window = Window(column, row, width, height)
        pixels = np.empty((len(self.scene.bands), height, width), self.scene.dtype)
        valid = np.empty(pixels.shape, bool)
        for file, dataset in self._datasets.items():
            at = [i for i, band in enumerate(self.scene.bands) if band.file == file]
            numbers = [self.scene.bands[i].number for i in at]
            try:
                pixels[at] = dataset.read(numbers, window=window)
                valid[at] = dataset.read_masks(numbers, window=window) > 0
            except RasterioError:
                raise OutcropError(
                    file,
                    f"cannot be read at rows {row} to {row + height - 1}; "
                    "the file is truncated or damaged, fetch it again",
                ) from None
        if pixels.dtype.kind == "f":
            valid &= np.isfinite(pixels)
        if valid.all():
            return pixels
        return np.where(valid, pixels, np.float32(np.nan)).astype(np.float32, copy=False)


def open_scene(
    files: str | Path | Sequence[str | Path],
    bands: Sequence[int] | None = None,
    crs: str | None = None,
) -> Scene:
    """Open one scene: a raster file, or several on the same grid stacked by band.

    Args:
        files: anything GDAL reads. Alpha bands are masks, not bands of the scene.
        bands: numbers of the bands to use, from 1, in this order, counted through all files.
        crs: the coordinate reference system, for files that do not carry one.

    Raises:
        OutcropError: a file is missing or not a raster; the files differ in grid; no coordinate
            reference system; a band that is not there.
    """
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    parts = [_describe(path, crs) for path in paths]
    for part in parts[1:]:
        if not part.same_grid(parts[0]):
            raise OutcropError(
                part.title,
                f"is not on the grid of {parts[0].title} ({_grid(part)} against "
                f"{_grid(parts[0])}); bands of one scene must share size, transform and CRS",
            )
    every = tuple(band for part in parts for band in part.bands)
    chosen = every if bands is None else tuple(_choose(every, number, paths) for number in bands)
    dtype = np.result_type(*(part.dtype for part in parts))
    return Scene(
        bands=chosen,
        crs=parts[0].crs,
        transform=parts[0].transform,
        height=parts[0].height,
        width=parts[0].width,
        dtype=kept(dtype),
    )


def open_scenes(
    files: Sequence[str | Path], bands: Sequence[int] | None = None, crs: str | None = None
) -> list[Scene]:
    """Open several scenes, finding out which files belong together.

    Names joined by commas are one scene. Of the other files, single-band files on the same grid
    are the bands of one scene, in the order given; every other file is a scene of its own.

    Raises:
        OutcropError: as `open_scene`; or the scenes differ in number of bands.
    """
    groups: list[list[str]] = []
    single: list[tuple[Scene, list[str]]] = []
    for name in map(str, files):
        group = name.split(",")
        if len(group) == 1:
            part = _describe(Path(name), crs)
            if len(part.bands) == 1:
                mates = next((mates for first, mates in single if first.same_grid(part)), None)
                if mates is not None:
                    mates.append(name)
                    continue
                single.append((part, group))
        groups.append(group)
    scenes = [open_scene(group, bands, crs) for group in groups]
    for scene in scenes[1:]:
        if len(scene.bands) != len(scenes[0].bands):
            raise OutcropError(
                scene.title,
                f"has {len(scene.bands)} bands where {scenes[0].title} has "
                f"{len(scenes[0].bands)}; choose common ones with --bands",
            )
    return scenes


def _describe(path: Path, crs: str | None) -> Scene:
    from rasterio.enums import ColorInterp

    with _open(path) as dataset:
        own = dataset.crs
        if not own and crs is None:
            raise OutcropError(path, NO_CRS)
        alpha = [interpretation == ColorInterp.alpha for interpretation in dataset.colorinterp]
        numbers = [i for i in dataset.indexes if not alpha[i - 1]]
        return Scene(
            bands=tuple(Band(path, i, _band_name(dataset, i, path)) for i in numbers),
            crs=own.to_wkt() if own else parse_crs(crs, "--crs"),
            transform=tuple(dataset.transform)[:6],
            height=dataset.height,
            width=dataset.width,
            dtype=np.result_type(*(dataset.dtypes[i - 1] for i in numbers)),
        )


def _band_name(dataset: Any, number: int, path: Path) -> str:
    described = dataset.descriptions[number - 1]
    if described:
        return described
    return path.stem if dataset.count == 1 else f"band {number}"


def parse_crs(crs: str | None, option: str) -> str:
    """The coordinate reference system that a user names, as WKT.

    Raises:
        OutcropError: there is none of this name; the line names `option`.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(crs).to_wkt()
    except CRSError:
        raise OutcropError(
            option, f"'{crs}' is not a coordinate reference system; pass e.g. EPSG:32648"
        ) from None


def check_way(path: Path, crs: str, other: str) -> None:
    """Refuse what lies at `path` if there is no way from its system to another.

    Args:
        crs, other: coordinate reference systems as WKT.

    Raises:
        OutcropError: one of them is local, or they are of two planets.
    """
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    try:
        Transformer.from_crs(crs, other)
    except ProjError as error:
        raise OutcropError(
            path,
            f"cannot be brought from {CRS(crs).name} to {CRS(other).name}; "
            "correct the coordinate reference system of one of them",
        ) from error


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

    if not path.exists():
        raise OutcropError(path, "no such file; check the name")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(path)
        except RasterioIOError:
            raise OutcropError(
                path, "is not a raster that GDAL can read, or is damaged; pass e.g. a GeoTIFF"
            ) from None
    with dataset:
        if dataset.count == 0:
            raise OutcropError(path, "holds no bands of its own; name one of its subdatasets")
        yield dataset


def _choose(bands: tuple[Band, ...], number: int, paths: Sequence[Path]) -> Band:
    if not 1 <= number <= len(bands):
        raise OutcropError(_title(paths), f"has no band {number}; it has bands 1 to {len(bands)}")
    return bands[number - 1]


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


def _title(files: Sequence[Path]) -> str:
    return str(files[0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")


def _grid(scene: Scene) -> str:
    from pyproj import CRS

    a, _, c, _, _, f = scene.transform
    return f"{scene.height} × {scene.width} pixels of {a:g} from {c:.9g}, {f:.9g} in " + (
        CRS.from_wkt(scene.crs).name
    )
