"""Volumes: three-dimensional arrays of samples in npy, Zarr, NetCDF, SEG-Y or stacks of slices.

One convention holds everywhere: slice `index` across axis `K` of a volume is `np.take(cube, index,
axis=K)`. Its rows and columns are the two other axes, in their order; nothing is flipped or
rotated. Axes, slices, rows and columns count from 0. In SEG-Y the axes are inline, crossline and
sample, so that a row of an inline section is a trace. In Zarr and NetCDF they have the order of the
stored array. In a stack of slices, axis 0 is the axis of the stack.

Samples are in physical units, and missing samples are NaN: the scale, offset and missing values
that a file declares are applied.
"""

from __future__ import annotations

from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.reading import Endian, Format, SegyReading
from outcrop.sources.volumes.netcdf import ENDINGS as NETCDF
from outcrop.sources.volumes.netcdf import describe_netcdf, split_name
from outcrop.sources.volumes.npy import describe_npy
from outcrop.sources.volumes.segy import describe_segy
from outcrop.sources.volumes.stack import describe_stack
from outcrop.sources.volumes.volume import Kind, Volume, VolumeReader
from outcrop.sources.volumes.zarr_array import describe_zarr

__all__ = ["Volume", "VolumeReader", "open_volume", "volume_kind"]


_SEGY = {".sgy", ".segy", ".seg"}
_TIFF = {".tif", ".tiff"}


def volume_kind(path: str | Path) -> Kind | None:
    """The format in which `open_volume` opens a file or folder.

    Returns:
        None if the path does not exist or its name is not that of a volume. A TIFF file is a stack,
        though it may have only one page.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        metadata = ("zarr.json", ".zarray", ".zgroup")
        zarr = suffix == ".zarr" or any((path / name).is_file() for name in metadata)
        return "zarr" if zarr else "stack"
    if split_name(path)[0].suffix.lower() in NETCDF and split_name(path)[0].is_file():
        return "netcdf"
    if not path.is_file():
        return None
    if suffix in _SEGY:
        return "segy"
    if suffix in _TIFF:
        return "stack"
    return "npy" if suffix == ".npy" else None


def open_volume(
    path: str | Path,
    inline_byte: int = 189,
    crossline_byte: int = 193,
    gaps: bool = False,
    format: Format | None = None,
    endian: Endian | None = None,
) -> Volume:
    """Open a volume. Its samples are read on request.

    Args:
        path: a .npy file; a Zarr array (version 2 or 3) or a group with one array of three axes; a
            NetCDF file with one variable of three axes, or one of several as cube.nc/amplitude; a
            SEG-Y file (.sgy, .segy); a folder of grey TIFF or PNG slices in the order of the
            numbers in their names, which may have signs; a TIFF file with several pages.
        inline_byte, crossline_byte: SEG-Y only: first byte of the inline and of the crossline
            number in the trace header, from 1.
        gaps: SEG-Y only: whether traces of the inline × crossline grid may be missing. They are
            read as NaN, in float32.
        format: SEG-Y only: sample format, if the header is wrong: "ibm", "ieee", "float64", "int16"
            and so on. Without it, samples that contradict the header raise an error.
        endian: SEG-Y only: byte order of the samples, "big" or "little", if it is not that of the
            headers.

    Returns:
        a volume, whose samples are read by `volume.reader()`: uint8, int16, uint16 or float32, in
        physical units.

    Raises:
        OutcropError: the path does not exist, is not a volume or is damaged; the geometry of a
            SEG-Y file is not regular; the slices of a stack do not match.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/cube.npy", np.arange(24).reshape(2, 3, 4))
    ...     volume = open_volume(f"{folder}/cube.npy")
    ...     with volume.reader() as reader:
    ...         row = reader.slices(axis=1, start=2, stop=3)[0, 1]
    >>> volume.shape, volume.dtype, row
    ((2, 3, 4), dtype('float32'), array([20., 21., 22., 23.], dtype=float32))
    """
    path = Path(path)
    try:
        match volume_kind(path):
            case "npy":
                return describe_npy(path)
            case "zarr":
                return describe_zarr(path)
            case "netcdf":
                return describe_netcdf(path)
            case "segy":
                reading = SegyReading(inline_byte, crossline_byte, gaps, format, endian)
                return describe_segy(path, reading)
            case "stack":
                return describe_stack(path)
    except OSError as error:
        raise OutcropError(
            path, f"cannot be read ({error.strerror or error}); check the permissions"
        ) from error
    if not path.exists():
        raise OutcropError(path, "there is no such file; check the name")
    raise OutcropError(
        path,
        "is not a volume; pass .npy, .zarr, NetCDF, SEG-Y (.sgy, .segy), or a folder of TIFF or "
        "PNG slices",
    )
