"""CF conventions for Zarr and NetCDF arrays: packing, missing values, axes and coordinates.

Source: CF-1.11, sections 2.5.1 (missing data), 5 (coordinates) and 8.1 (packed data); for
`valid_range` of packed data, NetCDF User Guide, appendix A.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.files import decoding
from outcrop.sources.dtypes import read_dtype
from outcrop.sources.volumes.volume import (
    PLAIN_AXES,
    Coordinates,
    Fill,
    Triple,
    check_samples_exact,
)

_INLINE = {"inline", "inlines", "iline", "ilines", "il"}
_CROSSLINE = {"crossline", "crosslines", "xline", "xlines", "xl"}
_SAMPLE = {"sample", "samples", "twt", "time", "t", "depth", "tvdss", "z"}
_MILLISECONDS = {"s": 1e3, "sec": 1e3, "second": 1e3, "seconds": 1e3, "us": 1e-3, "µs": 1e-3}
_NAMELESS = ("dim_", "phony_dim_")


@dataclass(frozen=True)
class Packing:
    """Conversion of stored numbers to samples.

    Attributes:
        scale, offset: sample = stored × scale + offset.
        missing: stored numbers that mean no data.
        lowest, highest: range of valid stored numbers.
        unsigned: whether signed integers represent unsigned ones.
    """

    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()
    lowest: float = -np.inf
    highest: float = np.inf
    unsigned: bool = False

    @classmethod
    def of(cls, attributes: Mapping[str, Any], dtype: np.dtype) -> Packing:
        """Read the packing from the attributes of an array and its stored dtype.

        Raises:
            ValueError: an attribute is not a finite number, or the scale is 0.

        >>> Packing.of({"scale_factor": 0.5, "_FillValue": -9}, np.dtype("int16"))
        Packing(scale=0.5, offset=0.0, missing=(-9.0,), lowest=-inf, highest=inf, unsigned=False)
        """
        scale = _number(attributes, "scale_factor", 1.0)
        offset = _number(attributes, "add_offset", 0.0)
        if scale == 0 or not np.isfinite([scale, offset]).all():
            raise ValueError(f"scale_factor {scale:g} and add_offset {offset:g}")
        missing = [
            float(value)
            for name in ("_FillValue", "missing_value")
            for value in _numbers(attributes.get(name))
        ]
        bounds = _numbers(attributes.get("valid_range"))
        lowest = _number(attributes, "valid_min", -np.inf)
        highest = _number(attributes, "valid_max", np.inf)
        if len(bounds) == 2:
            lowest, highest = float(bounds[0]), float(bounds[1])
        packed = (scale, offset) != (1.0, 0.0)
        names = {"valid_range", "valid_min", "valid_max"} & set(attributes)
        wide = any(_numbers(attributes[name]).dtype.kind == "f" for name in names)
        if packed and dtype.kind in "iu" and wide:
            ends = (lowest - offset) / scale, (highest - offset) / scale  # of samples
            lowest, highest = min(ends), max(ends)
        unsigned = str(_plain(attributes.get("_Unsigned"))).lower() == "true"
        return cls(
            scale,
            offset,
            tuple(dict.fromkeys(missing)),
            lowest,
            highest,
            unsigned and dtype.kind == "i",
        )

    @property
    def keeps(self) -> bool:
        """Whether all samples are the stored numbers."""
        return replace(self, missing=()) == Packing() and bool(np.isnan(self.missing).all())

    def dtype(self, stored: np.dtype) -> np.dtype:
        """The dtype of the samples: the stored one, or float32 if numbers are converted."""
        return read_dtype(stored) if self.keeps else np.dtype("float32")

    def unpack(self, stored: np.ndarray, where: object = None) -> np.ndarray:
        """Convert stored numbers to samples, NaN for no data; unchanged if `keeps`.

        Args:
            where: the file, for the error; None for numbers that may be rounded.

        Raises:
            OutcropError: an integer without scale and offset is beyond 2 ** 24, so that float32 may
                round it.
        """
        if self.keeps:
            if where is not None:
                check_samples_exact(where, stored)
            return stored
        if self.unsigned:
            stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
            stored = stored.view(f"u{stored.dtype.itemsize}")
        none = np.zeros(stored.shape, bool)
        for value in self.missing:
            none |= stored == _as_stored(value, stored.dtype)
        with np.errstate(invalid="ignore"):
            if np.isfinite(self.lowest):
                none |= stored < self.lowest
            if np.isfinite(self.highest):
                none |= stored > self.highest
            if where is not None and (self.scale, self.offset) == (1.0, 0.0):
                check_samples_exact(where, stored, ~none)
            samples = (stored * np.float64(self.scale) + self.offset).astype(np.float32)
        samples[none] = np.nan
        return samples


@dataclass(frozen=True)
class PackedStore:
    """The array of a Zarr store or the variable of a NetCDF file that is the volume.

    Attributes:
        path: the path that was opened, with or without the name of the array.
        name: name of the array in its group or file; empty if the path is that of the array.
        chunks: the box that is decompressed at once.
        packing: conversion of stored numbers to samples.
        opened: function at module level that opens the array of a path and a name.
    """

    path: Path
    name: str
    chunks: Triple
    packing: Packing
    opened: Callable[[Path, str], AbstractContextManager[Any]]

    @contextmanager
    def open(self) -> Iterator[Fill]:
        """Open the array."""
        with self.opened(self.path, self.name) as array:
            yield partial(self._fill, array)

    def _fill(self, array: Any, out: np.ndarray, corner: Triple) -> None:
        top, *rest = corner
        rows, columns = (slice(i, i + n) for i, n in zip(rest, out.shape[1:], strict=True))
        # As many slices are read at a time as are decompressed at once, because the libraries
        # allocate memory of their own.
        layer, bottom = self.chunks[0], top + len(out)
        for start in range(top - top % layer, bottom, layer):
            first, last = max(start, top), min(start + layer, bottom)
            place = f"{self.path} at {first} to {last - 1} along axis 0"
            with decoding(place, "a complete chunk", "copy it again"):
                stored = np.asarray(array[first:last, rows, columns])
            samples = self.packing.unpack(stored, self.path)
            np.copyto(out[first - top : last - top], samples, casting="unsafe")


def _as_stored(value: float, dtype: np.dtype) -> Any:
    """A missing value in the dtype of the array, because 1e20 is another number in float32."""
    if dtype.kind == "f":
        return dtype.type(value)
    if np.isfinite(value) and dtype.kind == "u" and value < 0:
        return value + 2.0 ** (8 * dtype.itemsize)  # -1 means 255
    return value


def _numbers(value: Any) -> np.ndarray:
    """An attribute as numbers; Zarr stores floats as base64 of their bytes or as text."""
    if value is None:
        return np.empty(0)
    value = _plain(value)
    if isinstance(value, str):
        try:
            return np.array([float(value)])
        except ValueError:
            pass
        try:
            return np.array(struct.unpack("<d", base64.standard_b64decode(value)))
        except (ValueError, struct.error):
            raise ValueError(f"an attribute of its packing is {value!r}") from None
    return np.atleast_1d(np.asarray(value))


def _number(attributes: Mapping[str, Any], name: str, default: float) -> float:
    numbers = _numbers(attributes.get(name))
    return float(numbers[0]) if len(numbers) else default


def _plain(value: Any) -> Any:
    """A value without the array of length 1 or the bytes in which NetCDF stores text."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode() if isinstance(value, bytes) else value


@dataclass(frozen=True)
class CoordinateArray:
    """A one-dimensional array that may have the coordinates along an axis.

    Attributes:
        name: name of the array.
        dimension: name of its dimension.
        read: function that returns its attributes and its stored numbers.
    """

    name: str
    dimension: str
    read: Callable[[], tuple[Mapping[str, Any], np.ndarray]]


def axes_of(
    dimensions: Sequence[str | None], shape: Sequence[int], lines: Sequence[CoordinateArray]
) -> tuple[tuple[str, str, str], Coordinates]:
    """Names and coordinates of the axes of a three-dimensional array.

    If there is an inline or a crossline axis, other names of inline, crossline and sample (iline,
    xl, twt) are replaced by these. Other axes have the name of their dimension, or "axis K". Times
    are in milliseconds if the file declares their unit.

    Args:
        dimensions: dimension names of the array, None where there is none.
        shape: number of samples along each axis.
        lines: one-dimensional arrays beside the array. The coordinates of a dimension are the array
            of its name, else an array whose name is that of a line or sample axis.
    """
    names: list[str] = []
    coordinates: list[np.ndarray | None] = []
    for axis, (dimension, length) in enumerate(zip(dimensions, shape, strict=True)):
        nameless = not dimension or dimension.startswith(_NAMELESS)
        along = [line for line in lines if line.dimension == dimension]
        found = next((line for line in along if line.name == dimension), None)
        found = found or next((line for line in along if axis_role(line.name)), None)
        names.append(PLAIN_AXES[axis] if nameless else str(dimension))
        if found is not None and not axis_role(names[axis]) and axis_role(found.name):
            names[axis] = found.name
        coordinates.append(None if found is None else _coordinates(found, length))
    roles = [axis_role(name) for name in names]
    if {"inline", "crossline"} & set(roles):
        names = [role or name for role, name in zip(roles, names, strict=True)]
    if len(set(names)) < 3:
        names = list(PLAIN_AXES)
    first, second, third = coordinates
    return (names[0], names[1], names[2]), (first, second, third)


def axis_role(name: str) -> str:
    """ "inline", "crossline" or "sample" if a name means one of them, else "".

    >>> axis_role("ILine"), axis_role("twt"), axis_role("latitude")
    ('inline', 'sample', '')
    """
    word = name.casefold().replace("_", "").replace(" ", "")
    known = {"inline": _INLINE, "crossline": _CROSSLINE, "sample": _SAMPLE}
    return next((role for role, words in known.items() if word in words), "")


def _coordinates(line: CoordinateArray, length: int) -> np.ndarray | None:
    """The coordinates along an axis; None if they are not numbers or are incomplete."""
    attributes, stored = line.read()
    if stored.dtype.kind not in "iuf" or stored.shape != (length,):
        return None
    packing = Packing.of(attributes, stored.dtype)
    numbers = stored if packing.keeps else packing.unpack(stored)
    if not np.isfinite(numbers).all():
        return None
    unit = str(_plain(attributes.get("units", ""))).strip().lower()
    if axis_role(line.name) == "sample" and unit in _MILLISECONDS:
        numbers = numbers * _MILLISECONDS[unit]
    return numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
