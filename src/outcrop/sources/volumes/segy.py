"""Volumes in SEG-Y, post-stack: one trace for each inline and crossline.

IBM floats are converted by segyio. All else is read from the mapped file, any box in the order in
which it lies there, because a time slice by segyio reads a trace at a time, and segyio knows
neither the additional trace headers of revision 2 nor header words at every byte.

What is to be known of SEG-Y files:

* The byte order is written nowhere before revision 2. The sample format code is a small number,
  which only one byte order can make of its two bytes. A file with a code that is not known is
  refused.
* The number of samples is that of the binary header. Trace headers carry one too, which is wrong
  in many files that read well (in a piece of a survey it is still that of the whole), so it is
  not looked at.
* That a float is IBM's or IEEE's is a matter of the format code alone. A wrong code gives wrong
  values and no error, so that `segy_samples` looks at some.
* Inline and crossline are at bytes 189 and 193 since revision 1 (2002). Older files have them
  elsewhere, often 9 and 21, or 17 and 13, or 181 and 185, or 221 and 225.
* Before revision 2 nothing says how many traces there are but the size of the file: one that is
  cut off between two traces is seen by the places that are missing from the grid, unless it ends
  with a line.

Source: SEG-Y_r2.0, SEG Technical Standards Committee (2017), tables 2 and 3.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.extras import need
from outcrop.sources.volumes.mapped import AROUND_BYTES, Mapped
from outcrop.sources.volumes.segy_grid import NoGridError, find_grid
from outcrop.sources.volumes.segy_header import read_layout, times_of, words_of
from outcrop.sources.volumes.segy_reading import SegyReading
from outcrop.sources.volumes.segy_samples import check_samples
from outcrop.sources.volumes.volume import Fill, Triple, Volume, check_cube

_AXES = ("inline", "crossline", "sample")
_OFFSET_BYTE = 37
_BATCH_BYTES = 16 << 20


def describe_segy(path: Path, reading: SegyReading = SegyReading()) -> Volume:
    """Read the headers of a SEG-Y file, those of all traces with a progress bar, and a few traces.

    Raises:
        OutcropError: not SEG-Y; a sample format that is not read, or that the samples do not have;
            cut off; no regular geometry.
    """
    layout = read_layout(path, reading)
    inline, crossline = (
        words_of(layout, [byte], what)[0]
        for byte, what in ((reading.inline_byte, "inline"), (reading.crossline_byte, "crossline"))
    )
    try:
        grid = find_grid(
            inline, crossline, lambda: words_of(layout, [_OFFSET_BYTE], "offset")[0], reading.gaps
        )
    except NoGridError as error:
        at = f"with inline at byte {reading.inline_byte}, crossline at {reading.crossline_byte}"
        raise OutcropError(path, f"{at}: {error}") from None
    check_samples(layout, reading)
    shape, read_as = check_cube(path, (*grid.trace.shape, layout.samples), layout.dtype)
    if layout.format == "ibm" or (grid.trace < 0).any():
        read_as = np.dtype("float32")
    store = SegyStore(
        path=path,
        dtype=layout.dtype,
        ibm=layout.format == "ibm",
        samples=layout.samples,
        first=layout.first + layout.header,
        stride=layout.stride,
        trace=grid.trace,
    )
    coordinates = (grid.inlines, grid.crosslines, times_of(layout))
    return Volume(path, "segy", shape, read_as, _AXES, store, coordinates, reading)


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
        need("segyio", str(self.path))
        import segyio._segyio  # which segyio.tools uses, and only segyio.open imports

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
