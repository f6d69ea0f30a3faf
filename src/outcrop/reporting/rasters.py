"""Rasters as small pictures: read at reduced size, stretched, and encoded as data URIs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from outcrop.frames import data_uri, reduced_size
from outcrop.mapping.openmap import open_raster
from outcrop.sources.scene import Scene

_SHORTEST = 240


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

    resampling = Resampling.average if averages else Resampling.nearest
    with open_raster(path) as dataset:
        size = reduced_size(dataset.height, dataset.width, longest)
        pixels = dataset.read(1, out_shape=size, resampling=resampling, masked=True)
    return pixels.astype(np.float32).filled(np.nan)


def jpeg(picture: np.ndarray) -> str:
    """Encode colours or greys, uint8 `h × w (× 3)`, as JPEG in a data URI."""
    from PIL import Image

    return data_uri(Image.fromarray(picture), "jpeg", quality=85, optimize=True)


def png(picture: np.ndarray) -> str:
    """Encode colours or greys, uint8 `h × w (× 3)`, as PNG in a data URI."""
    from PIL import Image

    return data_uri(Image.fromarray(picture), "png", optimize=True)
