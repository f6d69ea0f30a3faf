"""The properties of a product, and messages that the readers share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.scene import Band, Mask


@dataclass(frozen=True)
class Product:
    """What is known of a product without reading its pixels.

    Attributes:
        title: name of the product, given by the agency.
        sensor: for example `Sentinel-2A MSI`, `Landsat 8 OLI_TIRS`.
        level: `L1C`, `L2A`, `L2SP`, `L1TP`, ...
        acquired: day of acquisition, such as `2022-04-14`.
        bands: the selected bands, or all in the order of the sensor; each is the first one of its
            file, and its CRS is not read.
        mask: the quality mask with the values and bits that mean no data by default; None if the
            product has none that is known.
        assumed: notes for the user on what was assumed and what was left out.
    """

    title: str
    sensor: str
    level: str
    acquired: str
    bands: tuple[Band, ...]
    mask: Mask | None
    assumed: tuple[str, ...] = ()


def spelled_bands(path: Path, bands: Sequence[str], every: Iterable[str]) -> tuple[str, ...]:
    """The selected bands, in the spelling of the product.

    Raises:
        OutcropError: the product has no band of this name.
    """
    names = {name.upper(): name for name in every}
    for band in bands:
        if band.upper() not in names:
            raise OutcropError(
                path, f"has no band {band} (it has {', '.join(names.values())}); pass another band"
            )
    return tuple(names[band.upper()] for band in bands)


def missing_bands_text(missing: Sequence[str], there: Sequence[str]) -> str:
    """The error message for bands without a file."""
    return f"has no file of {', '.join(missing)}; fetch " + (
        f"it, or select from the bands that exist: `bands={list(there)}`"
        if there
        else "the product again"
    )


def listed(names: Sequence[str]) -> str:
    """Names for a message; of a long list the first three."""
    shown = [name if name.isprintable() else repr(name) for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
