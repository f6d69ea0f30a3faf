"""Volumes in NetCDF, as xarray and SEGY-SAK write them.

Version 4 is HDF5, whose dimension scales are NetCDF dimensions, and is read by h5py. Versions 1 and
2 ("classic") are read by SciPy. GDAL flips the rows of some NetCDF files and is not used.

Source: NetCDF-4 file format specification, Unidata.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.extras import need
from outcrop.files import decoding
from outcrop.sources.volumes.cf import CoordinateArray, PackedStore, Packing, axes_of
from outcrop.sources.volumes.volume import Volume, check_cube

_FILE = ("a NetCDF file", "copy it again")
ENDINGS = {".nc", ".nc4", ".cdf", ".netcdf", ".seisnc"}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_CLASSIC = (b"CDF\x01", b"CDF\x02")
_UNWRITTEN = 9.969209968386869e36
"""The value of floats that were never written (NC_FILL_FLOAT, NC_FILL_DOUBLE)."""
_MAP_DIMENSIONS = {
    "lat", "lon", "latitude", "longitude", "x", "y", "easting", "northing", "rlat", "rlon",
}  # fmt: skip


@dataclass(frozen=True)
class _Variable:
    """The properties of a variable, and its array in either library."""

    array: Any
    dimensions: Sequence[str | None]
    shape: tuple[int, ...]
    dtype: np.dtype
    declared: Mapping[str, Any]
    chunks: Sequence[int] | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes; floats without a declared fill value have NetCDF's default."""
        default = {"_FillValue": _UNWRITTEN} if self.dtype.kind == "f" else {}
        return {**default, **self.declared}

    def line(self) -> tuple[Mapping[str, Any], np.ndarray]:
        """Attributes and stored numbers of a one-dimensional variable."""
        return self.attributes, np.array(self.array[:])


def split_name(path: Path) -> tuple[Path, str]:
    """The file and the variable of a name such as cube.nc/amplitude; the variable may be empty."""
    for parent in path.parents:
        if parent.suffix.lower() in ENDINGS and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return path, ""


def is_netcdf_volume(path: Path) -> bool:
    """Whether a NetCDF file or variable is a volume: no dimension has a name of map coordinates."""
    _, name = split_name(path)
    try:
        with _opened(path) as variables:
            found = [one for key, one in variables.items() if name in ("", key)]
    except OutcropError:
        return False
    cubes = [one.dimensions for one in found if len(one.shape) == 3]
    return any(not {str(each).casefold() for each in names} & _MAP_DIMENSIONS for names in cubes)


def describe_netcdf(path: Path) -> Volume:
    """Read the metadata of a NetCDF file with one variable of three axes, or of a given variable.

    Args:
        path: the file, or the file and the name of a variable: cube.nc/amplitude.

    Raises:
        OutcropError: the file is not NetCDF; there is no such variable, or several; it is not a
            cube of numbers.
    """
    file, name = split_name(path)
    with _opened(path) as variables, decoding(path, *_FILE):
        found = {key: one for key, one in variables.items() if len(one.shape) == 3}
        if not name and len(found) != 1:
            raise OutcropError(path, _selection_text(path, variables, found))
        name = name or next(iter(found))
        if name not in variables:
            raise OutcropError(
                path, f"is not a variable of {file.name}{_listed(variables)}; pass another variable"
            )
        variable = variables[name]
        shape, _ = check_cube(path, variable.shape, variable.dtype)
        packing = Packing.of(variable.attributes, variable.dtype)
        lines = [
            CoordinateArray(key.rpartition("/")[2], one.dimensions[0] or "", one.line)
            for key, one in variables.items()
            if len(one.shape) == 1
        ]
        axes, coordinates = axes_of(variable.dimensions, shape, lines)
        dtype = packing.dtype(variable.dtype)
        first, second, third = variable.chunks or (1, *shape[1:])
        store = PackedStore(path, name, (first, second, third), packing, _array)
        return Volume(path, "netcdf", shape, dtype, axes, store, coordinates)


@contextmanager
def _array(path: Path, name: str) -> Iterator[Any]:
    with _opened(path) as variables:
        yield variables[name].array


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, _Variable]]:
    """The variables of a file by name; those in groups by path."""
    file, _ = split_name(path)
    with file.open("rb") as content:
        start = content.read(8)
    if start[:4] not in _CLASSIC and start != _HDF5:
        raise OutcropError(path, "is not a NetCDF file; copy it again, or write it as NetCDF 4")
    if start == _HDF5:
        need("h5py", str(path))
        import h5py

        with decoding(path, *_FILE):
            opened = h5py.File(file, "r")
        with opened:
            with decoding(path, *_FILE):
                variables = dict(_of_hdf5(opened))
            yield variables
        return
    from scipy.io import netcdf_file

    with decoding(path, *_FILE):
        opened = netcdf_file(file, mmap=True)
        variables = {name: _of_scipy(one) for name, one in opened.variables.items()}
    try:
        yield variables
    finally:
        with warnings.catch_warnings(action="ignore"):  # arrays that still use the mapped file
            opened.close()


def _of_hdf5(group: Any, prefix: str = "") -> Iterator[tuple[str, _Variable]]:
    import h5py

    for name, item in group.items():
        if isinstance(item, h5py.Group):
            yield from _of_hdf5(item, f"{prefix}{name}/")
        elif isinstance(item, h5py.Dataset) and not _is_bare_dimension(item):
            dimensions = [_dimension_name(dimension) for dimension in item.dims]
            if item.ndim == 1 and item.attrs.get("CLASS") == b"DIMENSION_SCALE":
                dimensions = [name]
            attributes = {
                key: item.attrs[key]
                for key in item.attrs
                if key not in ("DIMENSION_LIST", "REFERENCE_LIST")
            }
            variable = _Variable(
                item, dimensions, tuple(item.shape), item.dtype, attributes, item.chunks
            )
            yield prefix + name, variable


def _dimension_name(dimension: Any) -> str | None:
    """The name of a dimension in HDF5, which is that of its first dimension scale."""
    scale = next(iter(dict(dimension.items()).values()), None)
    return None if scale is None else scale.name.rpartition("/")[2]


def _is_bare_dimension(array: Any) -> bool:
    """Whether an array only represents a dimension without coordinates."""
    return bytes(array.attrs.get("NAME", b"")).startswith(b"This is a netCDF dimension but not a")


def _of_scipy(item: Any) -> _Variable:
    return _Variable(item, item.dimensions, tuple(item.shape), item.data.dtype, item._attributes)


def _selection_text(
    path: Path, variables: Mapping[str, _Variable], cubes: Mapping[str, _Variable]
) -> str:
    if cubes:
        first = path / next(iter(cubes))
        return f"has {len(cubes)} arrays of 3 axes; pass one, e.g. {first}"
    return f"has no variable of 3 axes{_listed(variables)}; save one cube of three axes"


def _listed(variables: Mapping[str, _Variable]) -> str:
    sizes = ", ".join(f"{k} ({' × '.join(map(str, v.shape))})" for k, v in variables.items())
    return f" (it has {sizes or 'no variables'})"
