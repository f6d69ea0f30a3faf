"""What the user may say of SEG-Y files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from outcrop.errors import OutcropError

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
class SegyReading:
    """How SEG-Y files are read.

    Attributes:
        inline_byte: byte of the trace header with the inline number, from 1.
        crossline_byte: byte of the trace header with the crossline number, from 1.
        gaps: accept files that lack traces; missing traces are no data.
        format: sample format, if the header is wrong: ibm, ieee, float64, int16 and so on.
        endian: byte order of the samples, if it is not that of the headers: big or little.

    Raises:
        OutcropError: no such format or byte order.
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
                raise OutcropError(f"--{name}", f"is {value}; take one of {', '.join(kinds)}")
