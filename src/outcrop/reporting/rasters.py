"""Rasters as small pictures: read at reduced size, stretched, and encoded as data URIs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.frames import data_uri, reduced_size
from outcrop.sources.scene import CACHE_BYTES, Scene

_WHITE = 255
_SHORTEST = 240


@dataclass(frozen=True)
class Stretch:
    """A linear contrast stretch of three bands that are shown as red, green and blue.

    Attributes:
        bands: indices of the three bands.
        low, high: float, `3`, values shown as 0 and 255: the 2nd and 98th percentile of the band.
        words: title of the picture.
    """

    bands: tuple[int, int, int]
    low: np.ndarray
    high: np.ndarray
    words: str

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Colours of `bands × height × width`: uint8, `height × width × 3`; no data is white."""
        chosen = pixels[list(self.bands)].astype(np.float32)
        span = np.maximum(self.high - self.low, np.finfo(np.float32).tiny)
        spread = (chosen - self.low[:, None, None]) / span[:, None, None]
        known = np.isfinite(chosen).all(axis=0)
        shown = 255 * np.clip(np.nan_to_num(spread), 0, 1)
        return np.where(known, np.rint(shown), _WHITE).astype(np.uint8).transpose(1, 2, 0)


def stretches(pixels: np.ndarray, names: Sequence[str]) -> tuple[Stretch, ...]:
    """Stretches for the combinations of bands of `ways_to_show`.

    Args:
        pixels: `bands × ...`.
        names: names of the bands.
    """
    return tuple(_stretch(pixels, bands, words) for bands, words in ways_to_show(names))


def ways_to_show(names: Sequence[str]) -> list[tuple[tuple[int, int, int], str]]:
    """Combinations of bands to show as red, green and blue, with titles, the best first.

    >>> ways_to_show(["blue", "green", "red", "near infrared"])
    [((2, 1, 0), 'true colour'), ((3, 2, 1), 'false colour: near infrared, red, green')]
    >>> ways_to_show(["amplitude"])
    [((0, 0, 0), 'amplitude')]
    """
    lower = [name.lower() for name in names]
    red, green, blue, infrared = (
        next((i for i, name in enumerate(lower) if name in words), None)
        for words in (
            ("red", "r"),
            ("green", "g"),
            ("blue", "b"),
            ("near infrared", "near-infrared", "nir"),
        )
    )
    ways: list[tuple[tuple[int, int, int], str]] = []
    if red is not None and green is not None and blue is not None:
        ways.append(((red, green, blue), "true colour"))
    if infrared is not None and red is not None and green is not None:
        ways.append(((infrared, red, green), "false colour: near infrared, red, green"))
    if not ways and len(names) < 3:
        ways.append(((0, 0, 0), names[0]))
    elif not ways:
        ways.append(((0, 1, 2), f"false colour: {', '.join(names[:3])}"))
    return ways


def _stretch(pixels: np.ndarray, bands: tuple[int, int, int], words: str) -> Stretch:
    values = pixels[list(bands)].reshape(3, -1).astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all(axis=1).any():
        values = np.zeros_like(values)
    low, high = np.nanpercentile(values, (2, 98), axis=1)
    return Stretch(bands, low, high, words)


def longest_of(pictures: int, most: int) -> int:
    """Longer side in pixels of each of several pictures; `most` for a single one.

    Together they have as many pixels as a single one, so that the page stays small enough for
    e-mail. A lower limit keeps them legible.

    >>> longest_of(1, 1200), longest_of(4, 1200), longest_of(1000, 1200)
    (1200, 600, 240)
    """
    return max(_SHORTEST, round(most / max(1, pictures) ** 0.5))


def read_scene(scene: Scene, longest: int) -> np.ndarray:
    """A scene at reduced size: float32, `bands × h × w`, NaN without data.

    Args:
        longest: longer side in pixels at most.

    Raises:
        OutcropError: a file is missing or damaged.
    """
    with scene.reader() as reader:
        return reader.read_overview(*reduced_size(scene.height, scene.width, longest))


def read_values(path: str | Path, longest: int, averages: bool = False) -> np.ndarray:
    """The first band of a raster at reduced size: float32, `h × w`, NaN without data.

    Args:
        longest: longer side in pixels at most.
        averages: whether pixels are averaged; otherwise the nearest pixel is taken.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    from rasterio.enums import Resampling

    with _open(path) as dataset:
        size = reduced_size(dataset.height, dataset.width, longest)
    return _read(path, 1, size, Resampling.average if averages else Resampling.nearest)


def jpeg(picture: np.ndarray) -> str:
    """Encode colours or greys, uint8 `h × w (× 3)`, as JPEG in a data URI."""
    from PIL import Image

    return data_uri(Image.fromarray(picture), "jpeg", quality=85, optimize=True)


def png(picture: np.ndarray) -> str:
    """Encode colours or greys, uint8 `h × w (× 3)`, as PNG in a data URI."""
    from PIL import Image

    return data_uri(Image.fromarray(picture), "png", optimize=True)


def _open(path: str | Path) -> Any:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        return rasterio.open(path)
    except RasterioError:
        raise OutcropError(
            path, "is missing, or is not a raster that GDAL can read; restore it"
        ) from None


def _read(path: str | Path, band: int, size: tuple[int, int], resampling: Any) -> np.ndarray:
    import rasterio
    from rasterio.errors import RasterioError

    with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), _open(path) as dataset:
        try:
            pixels = dataset.read(band, out_shape=size, resampling=resampling, masked=True)
        except RasterioError:
            raise OutcropError(path, "cannot be read; the file is damaged, restore it") from None
    return pixels.astype(np.float32).filled(np.nan)
