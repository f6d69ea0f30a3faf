"""How files of scenes and volumes are read: the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from outcrop.errors import OutcropError

Resampling = Literal["auto", "nearest", "bilinear", "cubic", "average"]
Format = Literal[
    "ibm",
    "ieee",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
Endian = Literal["big", "little"]


@dataclass(frozen=True)
class Reading:
    """How raster files are read as scenes.

    Attributes:
        resolution: pixel grid of a scene whose files have several pixel sizes: finest, coarsest,
            the name of a file, or a pixel size in metres.
        resampling: resampling method for bands on another grid: nearest, bilinear, cubic or
            average; auto: bilinear for coarser bands, average for finer ones. Labels and masks are
            always resampled by nearest neighbour.
        raw: use the stored values, without the declared scale and offset.
        nodata: stored value that means no data, if the file does not declare it.
        mask: quality rasters whose flagged pixels are no data in all bands, one for all scenes or
            one per scene; "none" ignores the quality mask of a product.
        mask_values: values of the mask that mean no data, for example 3,8,9,10 for the Sentinel-2
            SCL.
        mask_bits: bit numbers of the mask, from 0, for example 3,4 for the Landsat QA_PIXEL; a
            pixel with any of these bits is no data.
        band_names: band names, in file order, that replace the names in the files.

    >>> Reading(nodata=0, band_names=["red", "nir"]).resampling
    'auto'
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
class SegyReading:
    """How SEG-Y files are read.

    Attributes:
        inline_byte: first byte of the inline number in the trace header, from 1.
        crossline_byte: first byte of the crossline number in the trace header, from 1.
        gaps: accept files that lack traces; missing traces are no data.
        format: sample format, if the header is wrong: ibm, ieee, float64, int16 and so on.
        endian: byte order of the samples, if it is not that of the headers: big or little.

    Raises:
        OutcropError: there is no such format or byte order.
    """

    inline_byte: int = 189
    crossline_byte: int = 193
    gaps: bool = False
    format: Format | None = None
    endian: Endian | None = None

    def __post_init__(self) -> None:
        for name, kinds in (("format", get_args(Format)), ("endian", get_args(Endian))):
            value = getattr(self, name)
            if value is not None and value not in kinds:
                raise OutcropError(f"`{name}`", f"is {value}; pass one of {', '.join(kinds)}")
