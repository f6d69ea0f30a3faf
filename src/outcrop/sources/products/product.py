"""What is known of a product, and the words that its readers share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.errors import OutcropError


@dataclass(frozen=True)
class ProductBand:
    """One band of a product.

    Attributes:
        file: a name that GDAL opens; the band is the first one of the file.
        name: `B02`, `B8A`, `SR_B4`, `ST_B10`, `B4`.
        scale, offset: physical value = stored × scale + offset.
        nodata: the stored value that means no data.
        unit: `reflectance` or `kelvin`.
    """

    file: str
    name: str
    scale: float
    offset: float
    nodata: float | None
    unit: str


@dataclass(frozen=True)
class QualityMask:
    """The quality file of a product, and what in it means no data.

    Attributes:
        file: a name that GDAL opens.
        name: `SCL` or `QA_PIXEL`.
        values: pixel values that are no data by default.
        bits: numbers of bits, from 0, each of which makes a pixel no data by default.
    """

    file: str
    name: str
    values: tuple[int, ...]
    bits: tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """What is known of a product without reading its pixels.

    Attributes:
        path: the name it was opened by.
        title: the agency's name of the product.
        sensor: e.g. `Sentinel-2A MSI`, `Landsat 8 OLI_TIRS`.
        level: `L1C`, `L2A`, `L2SP`, `L1TP`, ...
        acquired: day of acquisition, as `2022-04-14`.
        bands: in the order of the sensor, or as they were asked for.
        mask: None if the product has none that is understood.
        assumed: sentences for the user: what was assumed, what was left out.
    """

    path: Path
    title: str
    sensor: str
    level: str
    acquired: str
    bands: tuple[ProductBand, ...]
    mask: QualityMask | None
    assumed: tuple[str, ...]


def named(path: Path, bands: Sequence[str], every: Iterable[str]) -> tuple[str, ...]:
    """The bands that were asked for, as the product spells them.

    Raises:
        OutcropError: the product has no band of this name.
    """
    names = {name.upper(): name for name in every}
    for band in bands:
        if band.upper() not in names:
            raise OutcropError(path, f"has no band {band}; it has {', '.join(names.values())}")
    return tuple(names[band.upper()] for band in bands)


def missing_bands(missing: Sequence[str], there: Sequence[str]) -> str:
    """What to say of bands whose files are not there."""
    return f"has no file of {', '.join(missing)}; fetch it, or " + (
        f"choose from those that are there: --bands {','.join(there)}"
        if there
        else "the product again"
    )


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first three of many."""
    shown = [name if name.isprintable() else repr(name) for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
