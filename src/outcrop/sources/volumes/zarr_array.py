"""Volumes in Zarr, version 2 or 3."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.progress import warn
from outcrop.sources.volumes.cf import CoordinateArray, PackedStore, Packing, axes_of
from outcrop.sources.volumes.volume import Volume, check_cube

_ARRAY = ("a Zarr array or group", "copy it again")


def describe_zarr(path: Path) -> Volume:
    """Read the metadata of a Zarr array, or of a group with one array of three axes.

    According to Zarr's specification, a chunk that is not stored has the fill value, and writers
    omit such chunks. A lost chunk therefore looks like one of zeros. If chunks are missing, a note
    is printed; if all are missing, an error is raised.

    Raises:
        OutcropError: there is no such array, or several; it is not a cube of numbers; no chunk is
            stored; a codec needs pickle.
    """
    import zarr

    node = _open(path)
    name, beside = "", None
    if isinstance(node, zarr.Group):
        arrays = _arrays(path, node)
        cubes = [name for name, item in arrays.items() if item.ndim == 3]
        if len(cubes) != 1:
            raise OutcropError(path, _selection_text(path, arrays, cubes))
        name = cubes[0]
        beside, node = node[name.rpartition("/")[0]] if "/" in name else node, arrays[name]
    with decoding(path, *_ARRAY):
        stored = np.dtype(node.dtype)
        shape, _ = check_cube(path, node.shape, stored)
        _check_codecs(path, node)
        _check_stored(path, node)
        packing = Packing.of(_attributes(node), stored)
        lines = _lines(_parent(path) if beside is None else beside)
        axes, coordinates = axes_of(_dimensions(node), shape, lines)
        store = PackedStore(path, name, node.chunks, packing, _opened)
        return Volume(path, "zarr", shape, packing.dtype(stored), axes, store, coordinates)


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Any]:
    node = _open(path)
    yield node[name] if name else node


def _open(path: Path) -> Any:
    import zarr

    # Zarr warns of metadata without a specification.
    with decoding(path, *_ARRAY), warnings.catch_warnings(action="ignore"):
        return zarr.open(path, mode="r")


def _parent(path: Path) -> Any:
    """The group of an array, None if there is none."""
    import zarr

    try:
        node = _open(path.parent)
    except OutcropError:
        return None
    return node if isinstance(node, zarr.Group) else None


def _dimensions(array: Any) -> Sequence[str | None]:
    """The dimension names of an array; in version 2, xarray stores them as an attribute."""
    names = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.asdict().get("_ARRAY_DIMENSIONS")
    return names if names and len(names) == array.ndim else (None,) * array.ndim


def _attributes(array: Any) -> dict[str, Any]:
    """The attributes of an array; in version 2 with the fill value, except for Zarr's default 0."""
    found = array.attrs.asdict()
    fill = array.fill_value if array.metadata.zarr_format == 2 else None
    if fill is not None and (fill != 0 or "_ARRAY_DIMENSIONS" in found):
        found.setdefault("_FillValue", fill)
    return found


def _lines(group: Any) -> list[CoordinateArray]:
    """The one-dimensional arrays of a group."""
    import zarr

    if group is None:
        return []
    with warnings.catch_warnings(action="ignore"):  # other files in the group
        members = group.members()
    found = []
    for name, item in members:
        if isinstance(item, zarr.Array) and item.ndim == 1:
            (dimension,) = _dimensions(item)
            read = partial(_line, item)
            found.append(CoordinateArray(name, dimension or name, read))
    return found


def _line(array: Any) -> tuple[dict[str, Any], np.ndarray]:
    return _attributes(array), array[:]


def _arrays(path: Path, group: Any) -> dict[str, Any]:
    """All arrays in a group and its subgroups, by name."""
    import zarr

    # Zarr warns of other files in the group.
    with decoding(path, *_ARRAY), warnings.catch_warnings(action="ignore"):
        members = group.members(max_depth=None)
    return {name: item for name, item in members if isinstance(item, zarr.Array)}


def _selection_text(path: Path, arrays: dict[str, Any], cubes: list[str]) -> str:
    if cubes:
        return f"has {len(cubes)} arrays of 3 axes; pass one, e.g. {path / cubes[0]}"
    if not arrays:
        return "has no array; pass the array itself"
    held = ", ".join(f"{name} ({' × '.join(map(str, a.shape))})" for name, a in arrays.items())
    return f"has no array of 3 axes, only {held}; save one cube of three axes"


def _check_codecs(path: Path, array: Any) -> None:
    """Check that no codec needs pickle; version 2 has one for any dtype."""
    codecs = (*array.filters, *array.compressors)
    if any(getattr(codec, "codec_id", None) == "pickle" for codec in codecs):
        raise OutcropError(path, "is encoded with pickle, which is not read; save it as numbers")


def _check_stored(path: Path, array: Any) -> None:
    outer = array.shards or array.chunks
    files = prod(ceil(length / side) for length, side in zip(array.shape, outer, strict=True))
    lost = files - array.nchunks_initialized * prod(array.chunks) // prod(outer)
    if lost == files:
        raise OutcropError(path, "has none of its chunks; copy it again with all its files")
    if lost > 0:
        warn(
            f"{path}: {lost} of {files} chunks are not stored, so they have the fill value "
            f"{array.fill_value}; if they were lost, copy the array again"
        )
