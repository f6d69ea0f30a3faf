"""Whether the samples of a SEG-Y file are stored as its header says.

Any four bytes are a number in either kind of float and in either byte order, so that a wrong
header gives wrong amplitudes and no error. Three signs tell:

* In the other byte order the exponents of floats are their lowest bits, and so random.
* Normalised IBM floats never begin with the hexadecimal digit 0 (SEG-Y_r2.0, appendix E). As bits
  that digit is the last of an IEEE float's exponent and the first three of its fraction, and is 0
  for values from 2^k to 1.125·2^k with odd k. IEEE floats that lie on both sides of such a range
  lie in it too.
* Integers that are read in the other byte order jump from sample to sample, or have nothing but
  their sign in the last byte.

Files with few different values, as of classes, tell nothing, and are believed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from outcrop.errors import OutcropError
from outcrop.sources.volumes.mapped import Mapped
from outcrop.sources.volumes.segy_header import STORED, Layout
from outcrop.sources.volumes.segy_reading import Endian, Format, SegyReading

_TRACES, _SAMPLES = 16, 4096
_MOST = 1 << 16
_FEWEST = 64
_LARGEST_EXPONENT = 100
_FLOATS = ("ibm", "ieee")
_TITLES = {"ibm": "IBM floats", "ieee": "IEEE floats", "float64": "IEEE floats of 64 bits"}


def check_samples(layout: Layout, reading: SegyReading) -> None:
    """Refuse a file whose samples cannot be what its header says, and can be something else.

    What is given in `reading` is believed.

    Raises:
        OutcropError: the format or the byte order is another; says which.
    """
    if reading.format is not None and reading.endian is not None:
        return
    found = likely(_some(layout), layout.format, layout.endian)
    form = layout.format if reading.format is not None else found[0]
    endian = layout.endian if reading.endian is not None else found[1]
    if (form, endian) == (layout.format, layout.endian):
        return
    options = []
    if endian != layout.endian:
        options.append(f"--endian {endian}")
    if form != layout.format:
        options.append(f"--format {form}")
    if form == "ieee" and layout.format not in _FLOATS:
        options.append("(or ibm)")
    keep = f"--format {layout.format} --endian {layout.endian}"
    raise OutcropError(
        layout.path,
        f"holds samples that are no {_title(layout.format, layout.endian)}, as its header says, "
        f"but read well as {_title(form, endian)}; pass {' '.join(options)}, or {keep} to read "
        "them as the header says",
    )


def likely(raw: np.ndarray, form: Format, endian: Endian) -> tuple[Format, Endian]:
    """What samples are stored as; what is given, unless that is impossible.

    Args:
        raw: uint8, traces × bytes.

    >>> raw = np.arange(-500, 500).astype(">f4").reshape(1, -1).view(np.uint8)
    >>> likely(raw, "ibm", "big"), likely(raw, "ieee", "little")
    (('ieee', 'big'), ('ieee', 'big'))
    """
    other: Endian = "little" if endian == "big" else "big"
    if form == "float64":
        good = _wild(_bits(raw, endian, 8), 52, 11) < 0.05
        return (form, endian if good or _wild(_bits(raw, other, 8), 52, 11) > 0.005 else other)
    if form in _FLOATS:
        here = _bits(raw, endian, 4)
        if len(here) < _FEWEST or _wild(here, 23, 8) < 0.05:
            return _kind_of_float(here, form), endian
        there = _bits(raw, other, 4)
        if _wild(there, 23, 8) < 0.005:
            return _kind_of_float(there, form), other
        for order in (endian, other):
            if _are_small(raw, order, "i4"):
                return "int32", order
        return form, endian
    width = np.dtype(STORED[form]).itemsize
    if width == 1 or width == 8:
        return form, endian
    if form == "int32":
        for order in (endian, other):
            bits = _bits(raw, order, 4)
            if len(bits) >= _FEWEST and _are_floats(bits):
                return _kind_of_float(bits, "ieee"), order
    swapped = _are_swapped(raw, STORED[form], endian, other)
    return form, other if swapped else endian


def _some(layout: Layout) -> np.ndarray:
    """The bytes of a few traces from all over the file: uint8, traces × bytes."""
    width = layout.dtype.itemsize
    samples = min(layout.samples, _SAMPLES)
    mapped = Mapped(
        layout.path,
        np.dtype("u1"),
        (layout.traces, layout.samples * width),
        (layout.stride, 1),
        layout.first + layout.header,
    )
    count = min(layout.traces, max(_TRACES, _MOST // samples))
    at = np.unique(np.linspace(0, layout.traces - 1, count).astype(int))
    return np.ascontiguousarray(mapped.array[at, : samples * width])


def _numbers(raw: np.ndarray, endian: Endian, kind: str) -> np.ndarray:
    order = ">" if endian == "big" else "<"
    return raw.view(np.dtype(order + kind)).astype(kind)


def _bits(raw: np.ndarray, endian: Endian, width: int) -> np.ndarray:
    """The different patterns of bits that are not 0, as unsigned integers."""
    bits = np.unique(_numbers(raw, endian, f"u{width}"))
    return bits[bits << np.array(1, bits.dtype) != 0]


def _wild(bits: np.ndarray, fraction: int, width: int) -> float:
    """The share of IEEE floats beyond 2^±100, or of none that are numbers.

    IBM floats in that range are in it as IEEE floats too, as an exponent of 16 takes a bit less.
    """
    if not len(bits):
        return 0.0
    exponent = (bits >> np.array(fraction, bits.dtype)).astype(np.int64) & ((1 << width) - 1)
    return float((np.abs(exponent - (1 << (width - 1)) + 1) > _LARGEST_EXPONENT).mean())


def _kind_of_float(bits: np.ndarray, form: Format) -> Format:
    """IBM or IEEE, from how many values have the first digit 0 that IBM floats never have."""
    digit, exponent = (bits >> 20) & 15, (bits >> 24) & 127
    in_range, beside = 0, 0
    for each in _among(exponent):
        there = exponent == each
        below = int(((exponent == each - 1) & (digit >= 12)).sum())
        above = int((there & (digit >= 1) & (digit <= 2)).sum())
        if min(below, above):
            beside += min(below, above)
            in_range += int((there & (digit == 0)).sum())
    if beside >= _FEWEST // 2 and in_range == 0:
        return "ibm"
    if in_range >= 8 and beside / 8 <= in_range <= 4 * beside:
        return "ieee"
    return form


def _among(exponent: np.ndarray) -> Iterable[int]:
    return [int(each) for each in np.unique(exponent)]


def _are_floats(bits: np.ndarray) -> bool:
    """Whether 32-bit integers are floats: of both signs, and yet none of them is small."""
    signed = bits.view(np.int32).astype(np.int64)
    if signed.min() > 0 or signed.max() < 0:
        return False
    return bool(np.abs(signed).min() >= 1 << 27) and _wild(bits, 23, 8) < 0.005


def _are_small(raw: np.ndarray, endian: Endian, kind: str) -> bool:
    numbers = np.abs(_numbers(raw, endian, kind).astype(np.int64))
    return bool(numbers.max() < 1 << 24)


def _are_swapped(raw: np.ndarray, kind: str, endian: Endian, other: Endian) -> bool:
    """Whether integers are of the other byte order."""
    here, there = _numbers(raw, endian, kind), _numbers(raw, other, kind)
    if len(np.unique(here)) < _FEWEST:
        return False
    bits = 8 * here.dtype.itemsize
    if (
        kind[0] == "i"
        and (there < 0).any()
        and np.abs(there.astype(np.int64)).max() < 1 << (bits - 8)
    ):
        last = here & 0xFF
        if (last[there < 0] == 0xFF).all() and (last[there >= 0] == 0).all():
            return True
    return _roughness(here) > 0.7 and _roughness(there) < 0.35


def _roughness(numbers: np.ndarray) -> float:
    """Von Neumann's ratio along traces over 2: 1 for noise, near 0 where neighbours are alike."""
    numbers = numbers.astype(np.float64)
    spread = float(numbers.var())
    return float((np.diff(numbers, axis=1) ** 2).mean()) / (2 * spread) if spread else 0.0


def _title(form: Format, endian: Endian) -> str:
    return f"{_TITLES.get(form, form)} ({endian} endian)"
