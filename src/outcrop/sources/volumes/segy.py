"""Post-stack SEG-Y volumes: one trace per inline and crossline.

IBM floats are converted by segyio. Everything else is read from the memory-mapped file, in the
order of the file: segyio reads a time slice trace by trace, and supports neither the additional
trace headers of revision 2 nor header words at arbitrary bytes.

Properties of SEG-Y files that matter here:

- Before revision 2 the byte order is not declared. The sample format code is a small number, which
  only one byte order gives. A file with an unknown code raises an error.
- The number of samples is that of the binary header. Trace headers have one too, but it is wrong in
  many readable files (in a subset of a survey it is often that of the whole survey), so it is
  ignored.
- Whether floats are IBM or IEEE follows from the format code alone. A wrong code gives wrong values
  without an error, so `check_samples` tests some of them.
- Inline and crossline numbers are at bytes 189 and 193 since revision 1 (2002). Older files have
  them elsewhere, often at 9 and 21, 17 and 13, 181 and 185, or 221 and 225.
- Before revision 2 the number of traces follows from the file size. A file that was truncated
  between two traces has incomplete lines, unless it ends with a complete line.

Any four bytes are a valid number in both kinds of float and both byte orders. `check_samples` uses
three properties:

- In the wrong byte order, the exponents of floats are the lowest bits of the fraction, and so
  random.
- Normalised IBM floats never begin with the hexadecimal digit 0 (SEG-Y_r2.0, appendix E). In an
  IEEE float, this digit is the last bit of the exponent and the first three of the fraction. It is
  0 for values from 2^k to 1.125·2^k with odd k. IEEE floats on both sides of such a range occur
  within it too.
- Integers in the wrong byte order jump from sample to sample, or have only their sign in the last
  byte.

Files with few distinct values, such as classes, cannot be tested and are read as declared.

Source: SEG-Y_r2.0, SEG Technical Standards Committee (2017), tables 2 and 3.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from outcrop.errors import OutcropError
from outcrop.extras import need
from outcrop.sources.reading import Endian, Format, SegyReading
from outcrop.sources.volumes.npy import AROUND_BYTES, Mapped
from outcrop.sources.volumes.segy_headers import (
    Layout,
    NoGridError,
    find_grid,
    read_layout,
    read_trace_word,
    sample_times,
    stored_dtype,
)
from outcrop.sources.volumes.volume import Fill, Triple, Volume, check_cube, check_samples_exact

_AXES = ("inline", "crossline", "sample")
_OFFSET_BYTE = 37
_BATCH_BYTES = 16 << 20
_TRACES, _SAMPLES = 16, 4096
_MAX_SAMPLES = 1 << 16
_MIN_DISTINCT = 64
_LARGEST_EXPONENT = 100
_FLOATS = ("ibm", "ieee")
_TITLES = {"ibm": "IBM floats", "ieee": "IEEE floats", "float64": "IEEE floats of 64 bits"}


def describe_segy(path: Path, reading: SegyReading = SegyReading()) -> Volume:
    """Read the headers of a SEG-Y file, and the samples of some traces.

    Raises:
        OutcropError: the file is not SEG-Y, or truncated; its sample format is not supported, or
            contradicts the samples; its geometry is not regular.
    """
    layout = read_layout(path, reading)
    inline = read_trace_word(layout, reading.inline_byte, "inline")
    crossline = read_trace_word(layout, reading.crossline_byte, "crossline")
    offsets = partial(read_trace_word, layout, _OFFSET_BYTE, "offset")
    try:
        grid = find_grid(inline, crossline, offsets, reading.gaps)
    except NoGridError as error:
        at = f"with inline at byte {reading.inline_byte} and crossline at {reading.crossline_byte}"
        raise OutcropError(path, f"{at}: {error}") from None
    check_samples(layout, reading)
    shape, read_as = check_cube(path, (*grid.trace.shape, layout.samples), layout.dtype)
    if layout.format == "ibm" or (grid.trace < 0).any():
        read_as = np.dtype("float32")
    store = SegyStore(layout, grid.trace)
    coordinates = (grid.inlines, grid.crosslines, sample_times(layout))
    return Volume(path, "segy", shape, read_as, _AXES, store, coordinates, reading)


@dataclass(frozen=True, eq=False)
class SegyStore:
    """The samples of a SEG-Y file.

    Attributes:
        layout: positions of the samples in the file.
        trace: index of the trace at each inline and crossline, -1 where there is none.
        chunks: 1 along every axis, because ranges of any length cost the same.
    """

    layout: Layout
    trace: np.ndarray
    chunks: ClassVar[Triple] = (1, 1, 1)

    @property
    def max_class(self) -> int:
        """The largest class number that a sample can represent, at most 255."""
        dtype = self.layout.dtype
        return int(np.iinfo(dtype).max) if dtype.itemsize == 1 else 255

    @contextmanager
    def open(self) -> Iterator[Fill]:
        """Map the file."""
        layout = self.layout
        shape = (int(self.trace.max()) + 1, layout.samples)
        strides = (layout.stride, layout.dtype.itemsize)
        mapped = Mapped(layout.path, layout.dtype, shape, strides, layout.first_sample)

        def fill(out: np.ndarray, corner: Triple) -> None:
            row, column, sample = corner
            trace = self.trace[row : row + out.shape[0], column : column + out.shape[1]]
            if (trace < 0).any():
                out[trace < 0] = np.nan
            rows, columns = np.nonzero(trace >= 0)
            trace = trace[rows, columns]
            in_file = np.argsort(trace, kind="stable")
            runs = 1 + int(np.count_nonzero(np.diff(trace[in_file]) > 1))
            mapped.expect(len(trace) * layout.stride // runs)
            step = max(1, _BATCH_BYTES // layout.stride)
            for start in range(0, len(in_file), step):
                batch = in_file[start : start + step]
                read = mapped.array[trace[batch], sample : sample + out.shape[2]]
                if layout.format != "ibm":
                    check_samples_exact(layout.path, read)
                out[rows[batch], columns[batch]] = self._numbers(read)
                span = int(trace[batch[-1]] - trace[batch[0]] + 1) * layout.stride
                mapped.touched(min(span, len(batch) * (layout.stride + AROUND_BYTES)))

        yield fill

    def _numbers(self, stored: np.ndarray) -> np.ndarray:
        if self.layout.format != "ibm":
            return stored.astype(self.layout.dtype.newbyteorder("="), copy=False)
        need("segyio", str(self.layout.path))
        import segyio._segyio  # segyio.tools needs it, but does not import it

        # segyio expects big-endian bits.
        bits = np.ascontiguousarray(stored, ">u4")
        return segyio.tools.native(bits, segyio.SegySampleFormat.IBM_FLOAT_4_BYTE, copy=False)


def replace_samples(store: SegyStore, path: Path, cube: np.ndarray) -> None:
    """Copy a SEG-Y file with other samples; all headers and the sample format stay.

    Args:
        store: samples of the original file.
        path: file that is written.
        cube: uint8, inlines × crosslines × samples; positions without a trace are ignored.
    """
    layout = store.layout
    shutil.copyfile(layout.path, path)
    with path.open("r+b") as file:
        for inline, traces in zip(cube, store.trace, strict=True):
            for column in np.flatnonzero(traces >= 0):
                file.seek(layout.first_sample + int(traces[column]) * layout.stride)
                file.write(_to_stored(inline[column], layout).tobytes())


def _to_stored(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Values as bytes of a SEG-Y file."""
    if layout.format != "ibm":
        return values.astype(layout.dtype)
    # 0.f × 16^e: one hexadecimal digit below 16, two from there on (SEG-Y_r2.0, appendix E).
    wide = values.astype(np.uint32)
    bits = np.where(wide < 16, 0x41000000 | wide << 20, 0x42000000 | wide << 16)
    return np.where(values == 0, 0, bits).astype(layout.dtype)


def check_samples(layout: Layout, reading: SegyReading) -> None:
    """Check that the samples are compatible with the header.

    A format or byte order in `reading` is not checked.

    Raises:
        OutcropError: the samples cannot have the declared format and byte order, but have another
            one, which the error names.
    """
    if reading.format is not None and reading.endian is not None:
        return
    found = likely_format(_sample_traces(layout), layout.format, layout.endian)
    form = layout.format if reading.format is not None else found[0]
    endian = layout.endian if reading.endian is not None else found[1]
    if (form, endian) == (layout.format, layout.endian):
        return
    options = []
    if endian != layout.endian:
        options.append(f"`endian={endian!r}`")
    if form != layout.format:
        options.append(f"`format={form!r}`")
    if form == "ieee" and layout.format not in _FLOATS:
        options.append("(or ibm)")
    keep = f"`format={layout.format!r}` `endian={layout.endian!r}`"
    raise OutcropError(
        layout.path,
        f"declares {_title(layout.format, layout.endian)}, but its samples look like "
        f"{_title(form, endian)}; pass {' '.join(options)}, or {keep} to trust the header",
    )


def likely_format(raw: np.ndarray, form: Format, endian: Endian) -> tuple[Format, Endian]:
    """The format and byte order of samples: the declared ones, unless they are impossible.

    Args:
        raw: uint8, traces × bytes.
        form, endian: the declared format and byte order.

    >>> raw = np.arange(-500, 500).astype(">f4").reshape(1, -1).view(np.uint8)
    >>> likely_format(raw, "ibm", "big"), likely_format(raw, "ieee", "little")
    (('ieee', 'big'), ('ieee', 'big'))
    """
    other: Endian = "little" if endian == "big" else "big"
    if form == "float64":
        good = _share_implausible(_bits(raw, endian, 8), 52, 11) < 0.05
        swapped = not good and _share_implausible(_bits(raw, other, 8), 52, 11) <= 0.005
        return form, other if swapped else endian
    if form in _FLOATS:
        here = _bits(raw, endian, 4)
        if len(here) < _MIN_DISTINCT or _share_implausible(here, 23, 8) < 0.05:
            return _kind_of_float(here, form), endian
        there = _bits(raw, other, 4)
        if _share_implausible(there, 23, 8) < 0.005:
            return _kind_of_float(there, form), other
        for order in (endian, other):
            if np.abs(_numbers(raw, order, "i4").astype(np.int64)).max() < 1 << 24:
                return "int32", order
        return form, endian
    stored = stored_dtype(form)
    if stored.itemsize in (1, 8):
        return form, endian
    if form == "int32":
        for order in (endian, other):
            bits = _bits(raw, order, 4)
            if len(bits) >= _MIN_DISTINCT and _are_floats(bits):
                return _kind_of_float(bits, "ieee"), order
    swapped = _are_swapped(_numbers(raw, endian, stored), _numbers(raw, other, stored))
    return form, other if swapped else endian


def _sample_traces(layout: Layout) -> np.ndarray:
    """The bytes of some traces, evenly distributed over the file: uint8, traces × bytes."""
    width = layout.dtype.itemsize
    samples = min(layout.samples, _SAMPLES)
    shape, strides = (layout.traces, layout.samples * width), (layout.stride, 1)
    mapped = Mapped(layout.path, np.dtype("u1"), shape, strides, layout.first_sample)
    count = min(layout.traces, max(_TRACES, _MAX_SAMPLES // samples))
    at = np.unique(np.linspace(0, layout.traces - 1, count).astype(int))
    return np.ascontiguousarray(mapped.array[at, : samples * width])


def _numbers(raw: np.ndarray, endian: Endian, kind: str | np.dtype) -> np.ndarray:
    return raw.view(np.dtype(kind).newbyteorder(endian)).astype(kind)


def _bits(raw: np.ndarray, endian: Endian, width: int) -> np.ndarray:
    """The distinct nonzero bit patterns as unsigned integers."""
    bits = np.unique(_numbers(raw, endian, f"u{width}"))
    return bits[bits << np.array(1, bits.dtype) != 0]


def _share_implausible(bits: np.ndarray, fraction: int, width: int) -> float:
    """Share of IEEE floats that are outside 2^±100 or not finite.

    The bits of IBM floats within that range are IEEE floats within it too.
    """
    if not len(bits):
        return 0.0
    exponent = (bits >> np.array(fraction, bits.dtype)).astype(np.int64) & ((1 << width) - 1)
    return float((np.abs(exponent - (1 << (width - 1)) + 1) > _LARGEST_EXPONENT).mean())


def _kind_of_float(bits: np.ndarray, form: Format) -> Format:
    """IBM or IEEE, from the share of values with the first digit 0, which IBM floats never have."""
    digit, exponent = (bits >> 20) & 15, (bits >> 24) & 127
    in_range, beside = 0, 0
    for each in np.unique(exponent).astype(int):
        there = exponent == each
        below = int(((exponent == each - 1) & (digit >= 12)).sum())
        above = int((there & (digit >= 1) & (digit <= 2)).sum())
        if min(below, above):
            beside += min(below, above)
            in_range += int((there & (digit == 0)).sum())
    if beside >= _MIN_DISTINCT // 2 and in_range == 0:
        return "ibm"
    if in_range >= 8 and beside / 8 <= in_range <= 4 * beside:
        return "ieee"
    return form


def _are_floats(bits: np.ndarray) -> bool:
    """Whether 32-bit integers are floats: they have both signs, but none is small."""
    signed = bits.view(np.int32).astype(np.int64)
    if signed.min() > 0 or signed.max() < 0:
        return False
    return bool(np.abs(signed).min() >= 1 << 27) and _share_implausible(bits, 23, 8) < 0.005


def _are_swapped(here: np.ndarray, there: np.ndarray) -> bool:
    """Whether integers have the other byte order, from their values in both orders."""
    if len(np.unique(here)) < _MIN_DISTINCT:
        return False
    largest = np.abs(there.astype(np.int64)).max()
    if (there < 0).any() and largest < 1 << (8 * here.itemsize - 8):
        last = here & 0xFF
        if (last[there < 0] == 0xFF).all() and (last[there >= 0] == 0).all():
            return True
    return _roughness(here) > 0.7 and _roughness(there) < 0.35


def _roughness(numbers: np.ndarray) -> float:
    """Half of von Neumann's ratio along traces: 1 for noise, near 0 for smooth traces."""
    numbers = numbers.astype(np.float64)
    spread = float(numbers.var())
    return float((np.diff(numbers, axis=1) ** 2).mean()) / (2 * spread) if spread else 0.0


def _title(form: Format, endian: Endian) -> str:
    return f"{_TITLES.get(form, form)} ({endian} endian)"
