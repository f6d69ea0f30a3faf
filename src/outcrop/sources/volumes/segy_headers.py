"""SEG-Y headers: the layout of the file, header words, and the grid of inlines and crosslines.

Source: SEG-Y_r2.0, SEG Technical Standards Committee (2017), tables 2, 3 and 4; SEG-Y_r2.1 (2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.progress import track, warn
from outcrop.sources.reading import Endian, Format, SegyReading
from outcrop.sources.volumes.npy import AROUND_BYTES, Mapped

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
_ONE_PER_WIDTH: tuple[Format, ...] = ("ieee", "int16", "int8", "float64")
_HEADERS, _TRACE_HEADER, _TEXT = 3600, 240, 3200
_TRACES_AT_ONCE = 1 << 16
_ORDER_MARK = {b"\1\2\3\4": ">", b"\4\3\2\1": "<"}
_TIME_SCALARS = (1, 10, 100, 1000, 10000)
_TWO_BYTES = {
    *range(29, 37, 2), 69, 71, *range(89, 181, 2), 201, 203, *range(209, 219, 2), 223, 229, 231,
}  # fmt: skip
"""First bytes of the two-byte words of the standard trace header; all others have four bytes."""
_MAX_POSITIONS_PER_TRACE = 100


@dataclass(frozen=True)
class Layout:
    """The positions of headers and samples in a SEG-Y file.

    Attributes:
        path: the file.
        order: byte order of the headers, ">" or "<".
        format: sample format, from the header or as given.
        endian: byte order of the samples.
        samples: number of samples per trace.
        traces: number of traces.
        first: position of the header of the first trace in bytes.
        header: bytes of the headers of a trace.
        interval: sample interval in milliseconds, None if the file does not declare it.
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
        """The stored dtype of the samples."""
        return stored_dtype(self.format).newbyteorder(self.endian)

    @property
    def first_sample(self) -> int:
        """Position of the first sample of the first trace in bytes."""
        return self.first + self.header

    @property
    def stride(self) -> int:
        """Bytes from one trace to the next."""
        return self.header + self.samples * self.dtype.itemsize


def stored_dtype(form: Format) -> np.dtype:
    """The dtype of stored samples; for IBM floats that of their bits."""
    return np.dtype({"ibm": "uint32", "ieee": "float32"}.get(form, form))


def read_layout(path: Path, reading: SegyReading = SegyReading()) -> Layout:
    """Read the binary header of a SEG-Y file.

    Raises:
        OutcropError: the file is not SEG-Y or is truncated; its sample format is not supported; the
            position of the first trace is not declared.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        headers = file.read(_HEADERS + _TRACE_HEADER)
    if len(headers) < _HEADERS:
        raise OutcropError(
            path,
            f"is not SEG-Y: it has {len(headers)} bytes, but the headers need {_HEADERS}; fetch it "
            "again",
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
        raise OutcropError(path, "declares traces of 0 samples; correct the binary header")
    first, extra, trailer, declared = _HEADERS + _TEXT * word(3505, "i2"), 0, 0, 0
    if revision >= 2:
        extra = _extra_headers(word(3507, "i2"), word(3507, "i4"), headers[3501])
        trailer, declared = _TEXT * max(0, word(3529, "i4")), word(3513, "u8")
    if revision >= 2 and _HEADERS <= word(3521, "u8") < size:
        first = word(3521, "u8")
    elif first < _HEADERS:
        raise OutcropError(
            path, "does not declare the number of extended textual headers; write it again with one"
        )
    body = samples * stored_dtype(form).itemsize
    header = _TRACE_HEADER * (1 + extra)
    traces, rest = divmod(size - first - trailer, header + body)
    if 0 < declared <= traces:
        traces, rest = declared, 0
    plain = divmod(size - _HEADERS, _TRACE_HEADER + body)
    if (traces <= 0 or rest) and plain[0] > 0 and not plain[1] and (first, header) != (3600, 240):
        warn(
            f"{path}: the header declares further headers, but the file is too short for "
            "them; it is read without them"
        )
        first, header, (traces, rest) = _HEADERS, _TRACE_HEADER, plain
    if traces <= 0 or rest:
        more = f" and {extra} additional trace headers" if extra else ""
        room = size - first - trailer
        strides = {name: header + samples * stored_dtype(name).itemsize for name in _ONE_PER_WIDTH}
        one_of = " or ".join(name for name, by in strides.items() if room > 0 and not room % by)
        instead = f", or pass `format={one_of}`, which fits the file size" if one_of else ""
        raise OutcropError(
            path,
            f"is truncated or damaged: {max(size - first, 0)} bytes are not a multiple of traces "
            f"of {header + body} ({samples} samples of {form}{more}); fetch it again{instead}",
        )
    if traces < declared < 1 << 48:
        raise OutcropError(
            path, f"is truncated: it has {traces} of {declared} traces; fetch it again"
        )
    interval = _interval(path, headers, order, revision, first)
    return Layout(path, order, form, endian, samples, traces, first, header, interval)


def _order_and_code(path: Path, headers: bytes, reading: SegyReading) -> tuple[str, int]:
    """The byte order of the headers, ">" or "<", and the sample format code."""
    big, little = (int.from_bytes(headers[3224:3226], order) for order in ("big", "little"))
    marked = _ORDER_MARK.get(headers[3296:3300]) if 2 <= headers[3500] < 16 else None
    if headers[3500] >= 2 and headers[3296:3300] in (b"\2\1\4\3", b"\3\4\1\2"):
        raise OutcropError(
            path, "has pairwise swapped bytes; write it again in big or little endian"
        )
    order = marked or (">" if big in CODES or little not in CODES else "<")
    code = big if order == ">" else little
    if code not in CODES and reading.format is None:
        raise OutcropError(
            path,
            f"is not SEG-Y, or has an unsupported sample format (code {min(big, little)}); convert "
            "it to IEEE floats, or pass `format` if the code is wrong",
        )
    if code not in CODES:
        # Choose the order in which the number of samples and the interval are small.
        order = min("><", key=lambda one: int(np.frombuffer(headers, one + "u2", 3, 3216).max()))
    return order, code


def _extra_headers(short: int, long: int, minor: int) -> int:
    """The number of additional headers per trace.

    The field has four bytes in revision 2.0 and two bytes in 2.1. Some programs write two bytes in
    2.0 as well.
    """
    if minor >= 1 or not 0 <= long < 1 << 16:
        return max(0, short)
    return long


def _interval(path: Path, headers: bytes, order: str, revision: int, first: int) -> float | None:
    """The sample interval in milliseconds."""
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
        warn(
            f"{path}: the sample interval is {of_file} µs in the binary header, but "
            f"{of_trace} µs in the first trace; the binary header is used"
        )
    return (of_file or of_trace) / 1000 or None


def read_trace_word(layout: Layout, byte: int, what: str) -> np.ndarray:
    """Read a word of all trace headers, with a progress bar: int64, `traces`.

    Args:
        byte: first byte of the word, from 1. It has two bytes if the standard word there has two,
            else four.
        what: kind of number, for messages.

    Raises:
        OutcropError: the word is outside the trace header.
    """
    width = 2 if byte in _TWO_BYTES else 4
    if not 1 <= byte <= layout.header - width + 1:
        raise OutcropError(
            layout.path,
            f"has trace headers of {layout.header} bytes, so none has a word at byte {byte}; "
            f"pass the first byte of the {what} number, from 1",
        )
    shape, strides = (layout.traces, layout.header), (layout.stride, 1)
    mapped = Mapped(layout.path, np.dtype("u1"), shape, strides, layout.first)
    mapped.expect(layout.header)
    numbers = np.empty(layout.traces, np.int64)
    for start in track(range(0, layout.traces, _TRACES_AT_ONCE), f"reading {what} numbers"):
        part = slice(start, start + _TRACES_AT_ONCE)
        raw = np.ascontiguousarray(mapped.array[part, byte - 1 : byte - 1 + width])
        numbers[part] = raw.view(f"{layout.order}i{width}")[:, 0]
        mapped.touched(min(layout.stride, AROUND_BYTES) * _TRACES_AT_ONCE)
    return numbers


def sample_times(layout: Layout) -> np.ndarray | None:
    """Times of the samples in milliseconds (depths in a depth volume); None if they are unknown.

    The first time is the delay in the trace headers. If traces differ in it, a note is printed.
    """
    if layout.interval is None:
        return None
    delay = read_trace_word(layout, 109, "time")
    scalar = int(read_trace_word(replace(layout, traces=1), 215, "time")[0])
    by = abs(scalar) if abs(scalar) in _TIME_SCALARS else 1
    first = float(delay[0]) / by if scalar < 0 else float(delay[0]) * by
    if np.ptp(delay):
        warn(
            f"{layout.path}: traces start at {delay.min()} to {delay.max()} ms; they are "
            f"aligned by sample number, as if all started at {first:g} ms"
        )
    return first + layout.interval * np.arange(layout.samples)


@dataclass(frozen=True)
class TraceGrid:
    """The index of the trace at each inline and crossline.

    Attributes:
        inlines, crosslines: evenly spaced numbers along each axis.
        trace: int64, inlines × crosslines, index of the trace in the file, from 0; -1 where there
            is none.
    """

    inlines: np.ndarray
    crosslines: np.ndarray
    trace: np.ndarray


class NoGridError(ValueError):
    """The traces do not form a grid; the message has cause and remedy."""


def find_grid(
    inline: np.ndarray,
    crossline: np.ndarray,
    offsets: Callable[[], np.ndarray],
    gaps: bool = False,
) -> TraceGrid:
    """Find the grid of a file from its trace headers, for traces in any order.

    Line numbers have the direction of their first occurrence in the file, as in segyio. If they
    have no direction, they ascend.

    Args:
        inline, crossline: numbers of each trace.
        offsets: function that returns the offset of each trace; called only if a position occurs
            more than once.
        gaps: whether traces may be missing.

    Raises:
        NoGridError: all traces have the same position; a position has several traces or none; the
            traces hardly form a grid.

    >>> grid = find_grid(np.array([7, 7, 9, 9]), np.array([2, 1, 2, 1]), lambda: np.zeros(4))
    >>> grid.inlines, grid.crosslines
    (array([7, 9]), array([2, 1]))
    >>> grid.trace
    array([[0, 1],
           [2, 3]])
    >>> find_grid(np.array([7, 7, 9]), np.array([1, 2, 2]), lambda: np.zeros(3))
    Traceback (most recent call last):
        ...
    outcrop.sources.volumes.segy_headers.NoGridError: 1 of 4 traces of the inline × crossline grid \
is missing (first: inline 9, crossline 1); regularise the file, or pass `gaps=True`
    """
    count = len(inline)
    if count > 1 and np.ptp(inline) == 0 and np.ptp(crossline) == 0:
        raise NoGridError(
            f"has no geometry (all {count} traces have inline {inline[0]}, crossline "
            f"{crossline[0]}); pass the bytes of the numbers, or load the geometry first"
        )
    rows, columns = _Lines.of(inline), _Lines.of(crossline)
    cells = rows.count * columns.count
    if cells > _MAX_POSITIONS_PER_TRACE * count:
        raise NoGridError(
            f"has no inline × crossline grid ({count} traces for {rows.count} × {columns.count} "
            "positions); pass the bytes of the numbers, or regularise the file"
        )
    place = rows.index(inline) * columns.count + columns.index(crossline)
    held, traces_at = np.unique(place, return_counts=True)

    def name(cell: int) -> str:
        row, column = divmod(int(cell), columns.count)
        return f"inline {rows.numbers[row]}, crossline {columns.numbers[column]}"

    if len(held) < count:
        raise NoGridError(
            _duplicates_text(held[traces_at > 1], int(traces_at.max()), offsets(), name)
        )
    missing = cells - count
    if missing and not gaps:
        first = np.flatnonzero(held != np.arange(count))
        is_missing = "is missing" if missing == 1 else "are missing"
        raise NoGridError(
            f"{missing} of {cells} traces of the inline × crossline grid {is_missing} (first: "
            f"{name(first[0] if len(first) else count)}); "
            "regularise the file, or pass `gaps=True`"
        )
    trace = np.full(cells, -1, np.int64)
    trace[place] = np.arange(count)
    return TraceGrid(rows.numbers, columns.numbers, trace.reshape(rows.count, columns.count))


@dataclass(frozen=True)
class _Lines:
    """The evenly spaced line numbers along one axis."""

    first: int
    step: int
    count: int

    @classmethod
    def of(cls, number: np.ndarray) -> _Lines:
        """All line numbers from the lowest to the highest number of the traces."""
        held, first_seen = np.unique(np.asarray(number, np.int64), return_index=True)
        step = int(np.gcd.reduce(np.diff(held))) if len(held) > 1 else 1
        count = int(held[-1] - held[0]) // step + 1
        downwards = len(held) > 1 and bool(np.all(np.diff(first_seen) < 0))
        return cls(int(held[-1]), -step, count) if downwards else cls(int(held[0]), step, count)

    @property
    def numbers(self) -> np.ndarray:
        return self.first + self.step * np.arange(self.count)

    def index(self, number: np.ndarray) -> np.ndarray:
        return (np.asarray(number, np.int64) - self.first) // self.step


def _duplicates_text(
    places: np.ndarray, most: int, offset: np.ndarray, name: Callable[[int], str]
) -> str:
    lowest, highest = offset.min(), offset.max()
    if lowest < highest:
        return (
            f"is prestack: up to {most} traces per inline and crossline, offsets {lowest} to "
            f"{highest} (first: {name(places[0])}); stack it, or write a single offset"
        )
    return (
        f"has up to {most} traces at {len(places)} position{'s'[: len(places) != 1]} of the "
        f"inline × crossline grid (first: {name(places[0])}); remove the duplicates, or pass the "
        "bytes of the numbers"
    )
