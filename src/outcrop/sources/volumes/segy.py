"""Volumes in SEG-Y, post-stack: one trace for each inline and crossline.

Headers, geometry and IBM floats are segyio's; samples are read from the mapped file, any box in
the order in which it lies there, because a time slice by segyio reads a trace at a time.

What is to be known of SEG-Y files:

* The byte order is written nowhere before revision 2. The sample format code is a small number,
  which only one byte order can make of its two bytes. For a code that it does not know segyio
  takes the samples for IBM floats; here the file is refused.
* The number of samples is that of the binary header. Trace headers carry one too, which is wrong
  in many files that read well (in a piece of a survey it is still that of the whole), so it is
  not looked at.
* That a float is IBM's or IEEE's is a matter of the format code alone. A wrong code gives values
  of absurd range and no error.
* Inline and crossline are at bytes 189 and 193 since revision 1 (2002). Older files have them
  elsewhere, often 9 and 21, or 17 and 13, or 181 and 185.
* Nothing says how many traces there are but the size of the file: one that is cut off between two
  traces is seen by the places that are missing from the grid, unless it ends with a line.

Source: SEG-Y_r2.0, SEG Technical Standards Committee (2017), tables 2 and 3.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.progress import track
from outcrop.sources.volumes.mapped import AROUND_BYTES, Mapped
from outcrop.sources.volumes.segy_grid import NoGridError, find_grid
from outcrop.sources.volumes.volume import Fill, Triple, Volume, check_cube

_AXES = ("inline", "crossline", "sample")
_IBM = 1
_FORMATS = {
    _IBM: "u4",  # their bits
    2: "i4",
    3: "i2",
    5: "f4",
    6: "f8",
    8: "i1",
    9: "i8",
    10: "u4",
    11: "u2",
    12: "u8",
    16: "u1",
}
_HEADERS, _TRACE_HEADER = 3600, 240
_FORMAT_AT, _EXTENDED_AT = 3224, 3504
_OFFSET_BYTE = 37
_BATCH_BYTES = 16 << 20
_SCANNED = 1 << 16


def describe_segy(
    path: Path, inline_byte: int = 189, crossline_byte: int = 193, gaps: bool = False
) -> Volume:
    """Read the headers of a SEG-Y file: those of all traces, with a progress bar.

    Raises:
        OutcropError: not SEG-Y; a sample format that is not read; cut off; no regular geometry.
    """
    order, code = _byte_order_and_format(path)
    with _segyio(path, order) as file:
        metrics = file.xfd.metrics()
        samples = metrics["samplecount"]
        if samples <= 0:
            raise OutcropError(path, "gives traces of no samples; correct the binary header")
        inline = _header_words(path, file, inline_byte, "inline")
        crossline = _header_words(path, file, crossline_byte, "crossline")
        try:
            grid = find_grid(
                inline, crossline, lambda: _header_words(path, file, _OFFSET_BYTE, "offset"), gaps
            )
        except NoGridError as error:
            at = f"with inline at byte {inline_byte}, crossline at {crossline_byte}"
            raise OutcropError(path, f"{at}: {error}") from None
        times = _times(file)
    dtype = np.dtype(order + _FORMATS[code])
    shape, read_as = check_cube(path, (*grid.trace.shape, samples), dtype)
    if code == _IBM or (grid.trace < 0).any():
        read_as = np.dtype("float32")
    store = SegyStore(
        path=path,
        dtype=dtype,
        ibm=code == _IBM,
        samples=samples,
        first=metrics["trace0"] + _TRACE_HEADER,
        stride=_TRACE_HEADER + metrics["trace_bsize"],
        trace=grid.trace,
    )
    coordinates = (grid.inlines, grid.crosslines, times)
    return Volume(path, "segy", shape, read_as, _AXES, store, coordinates)


@dataclass(frozen=True, eq=False)
class SegyStore:
    """Where the samples of a SEG-Y file lie.

    Attributes:
        dtype: as stored; of IBM floats, the bits.
        samples: in a trace.
        first: byte of the first sample of the first trace.
        stride: bytes from one trace to the next.
        trace: inlines × crosslines: the number of the trace there, -1 if there is none.
    """

    path: Path
    dtype: np.dtype
    ibm: bool
    samples: int
    first: int
    stride: int
    trace: np.ndarray

    @property
    def most(self) -> int:
        """The largest whole number that a sample can be, as far as classes need it."""
        small = self.dtype.kind != "f" and self.dtype.itemsize == 1
        return int(np.iinfo(self.dtype).max) if small else 255

    @property
    def chunks(self) -> Triple:
        """Any range is as good as another."""
        return 1, 1, 1

    @contextmanager
    def open(self) -> Iterator[Fill]:
        """Map the file."""
        count = int(self.trace.max()) + 1
        strides = (self.stride, self.dtype.itemsize)
        mapped = Mapped(self.path, self.dtype, (count, self.samples), strides, self.first)

        def fill(out: np.ndarray, corner: Triple) -> None:
            row, column, sample = corner
            trace = self.trace[row : row + out.shape[0], column : column + out.shape[1]]
            if (trace < 0).any():
                out[trace < 0] = np.nan
            rows, columns = np.nonzero(trace >= 0)
            trace = trace[rows, columns]
            in_file = np.argsort(trace, kind="stable")
            runs = 1 + int(np.count_nonzero(np.diff(trace[in_file]) > 1))
            mapped.expect(len(trace) * self.stride // runs)
            step = max(1, _BATCH_BYTES // self.stride)
            for start in range(0, len(in_file), step):
                batch = in_file[start : start + step]
                read = mapped.array[trace[batch], sample : sample + out.shape[2]]
                out[rows[batch], columns[batch]] = self._numbers(read)
                span = int(trace[batch[-1]] - trace[batch[0]] + 1) * self.stride
                mapped.touched(min(span, len(batch) * (self.stride + AROUND_BYTES)))

        yield fill

    def _numbers(self, stored: np.ndarray) -> np.ndarray:
        if not self.ibm:
            return stored.astype(self.dtype.newbyteorder("="), copy=False)
        import segyio

        # segyio takes these for big endian.
        bits = np.ascontiguousarray(stored, ">u4")
        return segyio.tools.native(bits, segyio.SegySampleFormat.IBM_FLOAT_4_BYTE, copy=False)


def replace_samples(store: SegyStore, path: Path, cube: np.ndarray) -> None:
    """Write a copy of a SEG-Y file with other samples: all headers, and the format, stay.

    Args:
        path: the copy.
        cube: uint8, inlines × crosslines × samples; what has no trace is left out.
    """
    shutil.copyfile(store.path, path)
    with path.open("r+b") as file:
        for inline, traces in zip(cube, store.trace, strict=True):
            for column in np.flatnonzero(traces >= 0):
                file.seek(store.first + int(traces[column]) * store.stride)
                file.write(_stored(inline[column], store).tobytes())


def _stored(values: np.ndarray, store: SegyStore) -> np.ndarray:
    """Bytes as a SEG-Y file holds them."""
    if not store.ibm:
        return values.astype(store.dtype)
    # 0.f × 16^e: one hexadecimal digit below 16, two from there on (SEG-Y_r2.0, appendix E).
    wide = values.astype(np.uint32)
    bits = np.where(wide < 16, 0x41000000 | wide << 20, 0x42000000 | wide << 16)
    return np.where(values == 0, 0, bits).astype(store.dtype)


def _byte_order_and_format(path: Path) -> tuple[str, int]:
    """The byte order, ">" or "<", and the sample format code."""
    with path.open("rb") as file:
        headers = file.read(_HEADERS)
    if len(headers) < _HEADERS:
        raise OutcropError(
            path,
            f"is not SEG-Y: {len(headers)} bytes where headers alone take {_HEADERS}"
            "; fetch it again",
        )
    big, little = (
        int.from_bytes(headers[_FORMAT_AT : _FORMAT_AT + 2], order) for order in ("big", "little")
    )
    if big not in _FORMATS and little not in _FORMATS:
        raise OutcropError(
            path,
            "is not SEG-Y, or of a sample format that outcrop does not read (code "
            f"{min(big, little)}); convert it to IEEE floats",
        )
    extended = int.from_bytes(
        headers[_EXTENDED_AT : _EXTENDED_AT + 2],
        "big" if big in _FORMATS else "little",
        signed=True,
    )
    if extended < 0:
        raise OutcropError(
            path,
            "does not say how many extended textual headers it has; write it again with a number",
        )
    return (">", big) if big in _FORMATS else ("<", little)


@contextmanager
def _segyio(path: Path, order: str) -> Iterator[Any]:
    import segyio

    endian = "big" if order == ">" else "little"
    with decoding(path, "a SEG-Y file of a whole number of traces", "fetch it again"):
        file = segyio.open(path, ignore_geometry=True, endian=endian)
    with file:
        yield file


def _header_words(path: Path, file: Any, byte: int, what: str) -> np.ndarray:
    words = file.attributes(byte)
    count = file.tracecount
    parts = range(0, count, _SCANNED)
    try:
        return np.concatenate(
            [words[at : at + _SCANNED] for at in track(parts, f"reading {what} numbers")]
        )
    except RuntimeError:
        raise OutcropError(
            path, f"no header word starts at byte {byte}; give that of the {what} number, from 1"
        ) from None


def _times(file: Any) -> np.ndarray | None:
    """The samples' times in milliseconds; None where the file gives no interval."""
    import segyio

    known = segyio.tools.dt(file, fallback_dt=0) > 0
    return np.asarray(file.samples) if known else None
