"""Results as tables and small pictures: `to_frame`, and the HTML that a notebook shows."""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import xarray

Colour = tuple[int, int, int]


class Tabular(ABC):
    """A result that is a table: `to_frame` returns it, and a notebook shows it."""

    @abstractmethod
    def to_frame(self) -> pandas.DataFrame:
        """The result as a table."""

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(float_format="{:.3g}".format, max_rows=60))


def ends(name: str, estimates: Iterable[Any]) -> dict[str, list[float]]:
    """Columns of interval values and of both ends.

    >>> from types import SimpleNamespace
    >>> ends("recall", [SimpleNamespace(value=0.5, low=0.4, high=0.6)])
    {'recall': [0.5], 'recall_low': [0.4], 'recall_high': [0.6]}
    """
    some = list(estimates)
    return {
        f"{name}{suffix}": [getattr(one, end) for one in some]
        for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


def frame(columns: Mapping[str, Any], index: str | None = None) -> pandas.DataFrame:
    """A DataFrame of columns, indexed by one of them if `index` is set."""
    import pandas as pd

    made = pd.DataFrame(dict(columns))
    return made if index is None else made.set_index(index)


def georeferenced(
    values: np.ndarray,
    transform: Sequence[float],
    crs: str,
    attributes: Mapping[str, Any] | None = None,
    name: str | None = None,
    bands: Sequence[str] | None = None,
) -> xarray.DataArray:
    """Pixels as DataArray (y, x), or (band, y, x), georeferenced as rioxarray does it.

    The variable `spatial_ref` holds the coordinate reference system and the transform. On rotated
    grids there are no coordinates x and y, because these would need two dimensions.

    Args:
        values: `h × w`, or `bands × h × w`.
        transform: a, b, c, d, e, f of the affine map from (column, row) to (x, y).
        crs: coordinate reference system as WKT.
        attributes, name: those of the DataArray.
        bands: names of the bands.
    """
    import xarray as xr

    a, b, c, d, e, f = transform
    reference = {
        "crs_wkt": crs,
        "spatial_ref": crs,
        "GeoTransform": " ".join(map(repr, (c, a, b, f, d, e))),
    }
    coordinates: dict[str, Any] = {"spatial_ref": ((), 0, reference)}
    if bands is not None:
        coordinates["band"] = list(bands)
    height, width = values.shape[-2:]
    if b == d == 0:
        coordinates["y"] = [f + e * (row + 0.5) for row in range(height)]
        coordinates["x"] = [c + a * (column + 0.5) for column in range(width)]
    return xr.DataArray(
        values,
        dims=("y", "x") if bands is None else ("band", "y", "x"),
        coords=coordinates,
        attrs=dict(attributes or {}),
        name=name,
    )


def reduced_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width of a picture whose longer side is at most `longest` pixels.

    >>> reduced_size(20_000, 10_000, 800), reduced_size(300, 200, 800)
    ((800, 400), (300, 200))
    """
    factor = max(height, width, longest) / longest
    return max(1, round(height / factor)), max(1, round(width / factor))


def indexed_png(codes: np.ndarray, colours: Sequence[Colour], opacity: float = 1) -> str:
    """Encode codes, uint8 `h × w`, as PNG in a data URI: 0 is transparent, k has colour `k - 1`.

    Args:
        colours: red, green and blue from 0 to 255 of each code.
        opacity: opacity of all colours, 0 to 1.
    """
    from PIL import Image

    image = Image.fromarray(codes)
    image.putpalette([0, 0, 0, *(channel for colour in colours for channel in colour)])
    alpha = bytes([0, *[round(255 * opacity)] * len(colours)])
    return data_uri(image, "png", optimize=True, transparency=0 if opacity == 1 else alpha)


def data_uri(image: Any, form: str, **options: Any) -> str:
    """Encode a Pillow image as "png" or "jpeg" in a data URI."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def figure(picture: str, title: str, names: Sequence[str], colours: Sequence[Colour]) -> str:
    """A picture of classes as HTML, with its title and a legend.

    Args:
        picture: data URI.
    """
    legend = " ".join(
        f'<span style="color: rgb{colour}">&#9632;</span>&nbsp;{escape(name)}'
        for name, colour in zip(names, colours, strict=True)
    )
    return (
        f'<figure style="margin: 0 1em 1em 0"><figcaption>{escape(title)}</figcaption>'
        f'<img src="{picture}" alt="{escape(title)}" style="max-width: 320px"/><br>'
        f"{legend}</figure>"
    )
