"""Headers of SEG-Y files: where samples and header words lie, and how they are stored.

Source: SEG-Y_r2.0, SEG Technical Standards Committee (2017), tables 2, 3 and 4; SEG-Y_r2.1 (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import tell, track
from outcrop.sources.volumes.mapped import AROUND_BYTES, Mapped
from outcrop.sources.volumes.segy_reading import Endian, Format, SegyReading

CODES: dict[int, Format] = {
    1: "ibm",
    2: "int32",
    3: "int16",
    5: "ieee",
    6: "float64",
    8: "int8",
    9: "int64",
    10: "uint32",
    11: "uint16",
    12: "uint64",
    16: "uint8",
}
STORED: dict[Format, str] = {
    "ibm": "u4",  # their bits
    "ieee": "f4",
    "float64": "f8",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
}
_OF_WIDTHS: tuple[Format, ...] = ("ieee", "int16", "int8", "float64")
_ORDERS: dict[Endian, str] = {"big": ">", "little": "<"}
_HEADERS, _TRACE_HEADER, _TEXT = 3600, 240, 3200
_SCANNED = 1 << 16
_ORDER_MARK = {b"\1\2\3\4": ">", b"\4\3\2\1": "<"}
_TIME_SCALARS = (1, 10, 100, 1000, 10000)
_SHORT = {
    *range(29, 37, 2), 69, 71, *range(89, 181, 2), 201, 203, *range(209, 219, 2), 223, 229, 231,
}  # fmt: skip
"""The words of the standard trace header that have two bytes; all others have four."""


@dataclass(frozen=True)
class Layout:
    """Where everything lies in a SEG-Y file.

    Attributes:
        order: the byte order of the headers, ">" or "<".
        format: of the samples, as the header has it, or as it was given.
        endian: the byte order of the samples.
        samples: in a trace.
        traces: in the file.
        first: byte of the first trace's header.
        header: bytes of a trace's headers.
        interval: from sample to sample in milliseconds, None if the file does not say.
    """

    path: Path
    order: str
    format: Format
    endian: Endian
    samples: int
    traces: int
    first: int
    header: int
    interval: float | None

    @property
    def dtype(self) -> np.dtype:
        """Of the samples as they are stored."""
        return np.dtype(_ORDERS[self.endian] + STORED[self.format])

    @property
    def stride(self) -> int:
        """Bytes from one trace to the next."""
        return self.header + self.samples * self.dtype.itemsize


def read_layout(path: Path, reading: SegyReading = SegyReading()) -> Layout:
    """Read the binary header of a SEG-Y file.

    Raises:
        OutcropError: not SEG-Y; a sample format that is not read; cut off; a header that does not
            say where traces begin.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        headers = file.read(_HEADERS + _TRACE_HEADER)
    if len(headers) < _HEADERS:
        raise OutcropError(
            path,
            f"is not SEG-Y: {len(headers)} bytes where headers alone take {_HEADERS}"
            "; fetch it again",
        )
    order, code = _order_and_code(path, headers, reading)
    form: Format = reading.format or CODES[code]
    endian: Endian = reading.endian or ("big" if order == ">" else "little")

    def word(byte: int, kind: str) -> int:
        return int(np.frombuffer(headers, order + kind, 1, byte - 1)[0])

    major = headers[3500] or (headers[3501] if order == "<" else 0)
    revision = major if major < 16 else 0
    samples = word(3221, "u2")
    if revision >= 2 and word(3269, "i4") > 0:
        samples = word(3269, "i4")
    if samples <= 0:
        raise OutcropError(path, "gives traces of no samples; correct the binary header")
    first, extra, trailer, said = _HEADERS + _TEXT * word(3505, "i2"), 0, 0, 0
    if revision >= 2:
        extra = _extra_headers(word(3507, "i2"), word(3507, "i4"), headers[3501])
        trailer, said = _TEXT * max(0, word(3529, "i4")), word(3513, "u8")
    if revision >= 2 and _HEADERS <= word(3521, "u8") < size:
        first = word(3521, "u8")
    elif first < _HEADERS:
        raise OutcropError(
            path,
            "does not say how many extended textual headers it has; write it again with a number",
        )
    body = samples * np.dtype(STORED[form]).itemsize
    header = _TRACE_HEADER * (1 + extra)
    traces, rest = divmod(size - first - trailer, header + body)
    if 0 < said <= traces:
        traces, rest = said, 0
    plain = divmod(size - _HEADERS, _TRACE_HEADER + body)
    if (traces <= 0 or rest) and plain[0] > 0 and not plain[1] and (first, header) != (3600, 240):
        tell(
            f"{path}: its header speaks of further headers, for which it has no room; it is read "
            "without"
        )
        first, header, (traces, rest) = _HEADERS, _TRACE_HEADER, plain
    if traces <= 0 or rest:
        more = f" and {extra} additional trace headers" if extra else ""
        room = size - first - trailer
        fitting = [
            name
            for name in _OF_WIDTHS
            if room > 0 and not room % (header + samples * np.dtype(STORED[name]).itemsize)
        ]
        one_of = " or ".join(fitting)
        instead = f", or pass --format {one_of}, with which it is whole" if fitting else ""
        raise OutcropError(
            path,
            f"is not a SEG-Y file of a whole number of traces ({max(size - first, 0)} bytes for "
            f"traces of {header + body}: {samples} samples of {form}{more}), or is damaged; fetch "
            f"it again{instead}",
        )
    if traces < said < 1 << 48:
        raise OutcropError(path, f"is cut off: {traces} of {said} traces are there; fetch it again")
    interval = _interval(path, headers, order, revision, first)
    return Layout(path, order, form, endian, samples, traces, first, header, interval)


def _order_and_code(path: Path, headers: bytes, reading: SegyReading) -> tuple[str, int]:
    """The byte order of the headers, ">" or "<", and the sample format code."""
    big, little = (int.from_bytes(headers[3224:3226], order) for order in ("big", "little"))
    marked = _ORDER_MARK.get(headers[3296:3300]) if 2 <= headers[3500] < 16 else None
    if headers[3500] >= 2 and headers[3296:3300] in (b"\2\1\4\3", b"\3\4\1\2"):
        raise OutcropError(path, "has its bytes swapped in pairs; write it again with all in order")
    order = marked or (">" if big in CODES or little not in CODES else "<")
    code = big if order == ">" else little
    if code not in CODES and reading.format is None:
        raise OutcropError(
            path,
            "is not SEG-Y, or of a sample format that outcrop does not read (code "
            f"{min(big, little)}); convert it to IEEE floats, or pass --format if that is wrong",
        )
    if code not in CODES:
        # The order in which the number of samples and the interval are small.
        order = min("><", key=lambda one: int(np.frombuffer(headers, one + "u2", 3, 3216).max()))
    return order, code


def _extra_headers(short: int, long: int, minor: int) -> int:
    """How many additional trace headers each trace has.

    Revision 2.0 has four bytes for it and 2.1 two, and so have programs that write 2.0.
    """
    if minor >= 1 or not 0 <= long < 1 << 16:
        return max(0, short)
    return long


def _interval(path: Path, headers: bytes, order: str, revision: int, first: int) -> float | None:
    """From sample to sample in milliseconds."""
    if revision >= 2:
        exact = float(np.frombuffer(headers, order + "f8", 1, 3272)[0])
        if np.isfinite(exact) and 0 < exact < 1e9:
            return exact / 1000
    of_file = int(np.frombuffer(headers, order + "u2", 1, 3216)[0])
    with path.open("rb") as file:
        file.seek(first)
        trace = file.read(_TRACE_HEADER)
    of_trace = int(np.frombuffer(trace, order + "u2", 1, 116)[0]) if len(trace) > 118 else 0
    if of_file and of_trace and of_file != of_trace:
        tell(
            f"{path}: its binary header gives a sample interval of {of_file} µs and its first "
            f"trace one of {of_trace}; the binary header's is taken"
        )
    return (of_file or of_trace) / 1000 or None


def words_of(layout: Layout, fields: Sequence[int], what: str) -> list[np.ndarray]:
    """Words of all trace headers, with a progress bar: int64, `traces`, for each field.

    Args:
        fields: where they begin, from 1. A word has two bytes where the standard's has, else four.

    Raises:
        OutcropError: a word lies outside the trace header.
    """
    widths = [2 if byte in _SHORT else 4 for byte in fields]
    for byte, width in zip(fields, widths, strict=True):
        if not 1 <= byte <= layout.header - width + 1:
            raise OutcropError(
                layout.path,
                f"no header word starts at byte {byte} of {layout.header}; give that of the "
                f"{what} number, from 1",
            )
    mapped = Mapped(
        layout.path,
        np.dtype("u1"),
        (layout.traces, layout.header),
        (layout.stride, 1),
        layout.first,
    )
    mapped.expect(layout.header)
    found = [np.empty(layout.traces, np.int64) for _ in fields]
    for start in track(range(0, layout.traces, _SCANNED), f"reading {what} numbers"):
        part = slice(start, start + _SCANNED)
        for byte, width, numbers in zip(fields, widths, found, strict=True):
            raw = np.ascontiguousarray(mapped.array[part, byte - 1 : byte - 1 + width])
            numbers[part] = raw.view(f"{layout.order}i{width}")[:, 0]
        mapped.touched(min(layout.stride, AROUND_BYTES) * _SCANNED)
    return found


def times_of(layout: Layout) -> np.ndarray | None:
    """The samples' times in milliseconds (in a depth volume: depths); None if the file has none.

    The first is the delay in the trace headers; where traces differ in it, that is printed.
    """
    if layout.interval is None:
        return None
    delay, scalar = words_of(layout, [109, 215], "time")
    by = abs(int(scalar[0])) if abs(int(scalar[0])) in _TIME_SCALARS else 1
    first = float(delay[0]) / by if scalar[0] < 0 else float(delay[0]) * by
    if np.ptp(delay):
        tell(
            f"{layout.path}: its traces begin at {delay.min()} to {delay.max()} ms; they are put "
            f"beside each other sample by sample, as if all began at {first:g} ms"
        )
    return first + layout.interval * np.arange(layout.samples)
