"""Volumes in Zarr, version 2 or 3."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.progress import tell
from outcrop.sources.volumes.cf import Line, Packing, axes_of, filling
from outcrop.sources.volumes.volume import Fill, Triple, Volume, check_cube

_ARRAY = ("a Zarr array or group", "copy it again")


def describe_zarr(path: Path) -> Volume:
    """Read the metadata of a Zarr array, or of a group that holds one array of three axes.

    By Zarr's specification a chunk that is not stored consists of the fill value, and writers
    leave such chunks out, so one that was lost cannot be told from one of zeros. That some are
    not stored is said on standard error; an array without any is refused.

    Raises:
        OutcropError: neither, or several; no cube of numbers; nothing stored; it asks for pickle.
    """
    import zarr

    node = _open(path)
    name, beside = "", None
    if isinstance(node, zarr.Group):
        arrays = _arrays(path, node)
        cubes = [name for name, item in arrays.items() if item.ndim == 3]
        if len(cubes) != 1:
            raise OutcropError(path, _which(path, arrays, cubes))
        name = cubes[0]
        beside, node = node[name.rpartition("/")[0]] if "/" in name else node, arrays[name]
    with decoding(path, *_ARRAY):
        shape, dtype = check_cube(path, node.shape, np.dtype(node.dtype))
        _check_codecs(path, node)
        _check_stored(path, node)
        packing = Packing.of(_attributes(node), np.dtype(node.dtype))
        if not packing.keeps:
            dtype = packing.dtype(np.dtype(node.dtype))
        lines = _lines(_parent(path) if beside is None else beside)
        axes, coordinates = axes_of(_dimensions(node), shape, lines)
        store = ZarrStore(path, name, node.chunks, packing)
        return Volume(path, "zarr", shape, dtype, axes, store, coordinates)


@dataclass(frozen=True)
class ZarrStore:
    """Which array of a Zarr store is the volume.

    Attributes:
        name: of the array in its group; empty if the store is the array.
        chunks: the box that is decompressed at once.
        packing: how what is stored becomes samples.
    """

    path: Path
    name: str
    chunks: Triple
    packing: Packing

    @contextmanager
    def open(self) -> Iterator[Fill]:
        """Open the array."""
        node = _open(self.path)
        array = node[self.name] if self.name else node
        yield filling(self.path, array, self.chunks[0], self.packing)


def _open(path: Path) -> Any:
    import zarr

    with decoding(path, *_ARRAY), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that Zarr has no specification for
        return zarr.open(path, mode="r")


def _parent(path: Path) -> Any:
    """The group that an array lies in, None if there is none."""
    import zarr

    try:
        node = _open(path.parent)
    except OutcropError:
        return None
    return node if isinstance(node, zarr.Group) else None


def _dimensions(array: Any) -> Sequence[str | None]:
    """The names of an array's dimensions; version 2 has none, and xarray makes them attributes."""
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.asdict().get("_ARRAY_DIMENSIONS")
    return names if names and len(names) == array.ndim else (None,) * array.ndim


def _attributes(array: Any) -> dict[str, Any]:
    """An array's attributes; in version 2 the fill value is that of CF, but for Zarr's own 0."""
    found = array.attrs.asdict()
    fill = array.fill_value if array.metadata.zarr_format == 2 else None
    if fill is not None and (fill != 0 or "_ARRAY_DIMENSIONS" in found):
        found.setdefault("_FillValue", fill)
    return found


def _lines(group: Any) -> list[Line]:
    """The arrays of one axis in a group."""
    import zarr

    if group is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files between the arrays
        members = group.members()
    found = []
    for name, item in members:
        if isinstance(item, zarr.Array) and item.ndim == 1:
            (dimension,) = _dimensions(item)
            read = partial(_line, item)
            found.append(Line(name, dimension or name, read))
    return found


def _line(array: Any) -> tuple[dict[str, Any], np.ndarray]:
    return _attributes(array), array[:]


def _arrays(path: Path, group: Any) -> dict[str, Any]:
    """All arrays below a group, by their names in it."""
    import zarr

    with decoding(path, *_ARRAY), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files between the arrays
        members = group.members(max_depth=None)
    return {name: item for name, item in members if isinstance(item, zarr.Array)}


def _which(path: Path, arrays: dict[str, Any], cubes: list[str]) -> str:
    if cubes:
        return f"holds {len(cubes)} arrays of 3 axes; name one, e.g. {path / cubes[0]}"
    if not arrays:
        return "holds no array; name the array itself"
    held = ", ".join(f"{name} ({' × '.join(map(str, a.shape))})" for name, a in arrays.items())
    return f"holds no array of 3 axes, only {held}; take the cube out of it"


def _check_codecs(path: Path, array: Any) -> None:
    """Version 2 has a codec that unpickles, whatever the dtype."""
    codecs = (*array.filters, *array.compressors)
    if any(getattr(codec, "codec_id", None) == "pickle" for codec in codecs):
        raise OutcropError(
            path, "is encoded with pickle, which outcrop does not load; save it as numbers"
        )


def _check_stored(path: Path, array: Any) -> None:
    outer = array.shards or array.chunks
    files = prod(ceil(length / side) for length, side in zip(array.shape, outer, strict=True))
    lost = files - array.nchunks_initialized * prod(array.chunks) // prod(outer)
    if lost == files:
        raise OutcropError(path, "holds none of its chunks; copy it again, with all its files")
    if lost > 0:
        tell(
            f"{path}: {lost} of {files} chunks are not stored and read as {array.fill_value}, "
            "as Zarr has it; if they were lost, copy it again"
        )
