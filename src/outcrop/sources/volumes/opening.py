"""`open_volume`: finds out what a file or folder is and opens it as a volume."""

from __future__ import annotations

from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.sources.volumes.netcdf import ENDINGS as NETCDF
from outcrop.sources.volumes.netcdf import split_name
from outcrop.sources.volumes.segy_reading import Endian, Format, SegyReading
from outcrop.sources.volumes.volume import Kind, Volume

_SEGY = {".sgy", ".segy", ".seg"}
_TIFF = {".tif", ".tiff"}


def volume_kind(path: str | Path) -> Kind | None:
    """The format in which `open_volume` would try to open a file or folder.

    Returns:
        None for what is not there or is no volume by its name: a scene, say. A TIFF file counts as
        a stack, though it may hold a single picture.
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
    """Open a volume; its samples are read as they are asked for.

    Args:
        path: a .npy file; a Zarr array (version 2 or 3), or a group with one array of three axes;
            a NetCDF file with one variable of three axes, or one of several as cube.nc/amplitude;
            a SEG-Y file (.sgy, .segy); a folder of grey TIFF or PNG pictures in the order of the
            numbers in their names, which may have signs; a TIFF file of several pages.
        inline_byte, crossline_byte: SEG-Y only: where the trace headers hold the inline and the
            crossline number, from 1.
        gaps: SEG-Y only: take a file that lacks traces of the inline × crossline grid, and read
            these as NaN. The volume is float32 then.
        format: SEG-Y only: how samples are stored, where the header is wrong: "ibm", "ieee",
            "float64", "int16" and so on. A file whose samples cannot be what its header says is
            refused without it.
        endian: SEG-Y only: the byte order of the samples, "big" or "little", where it is not that
            of the headers.

    Raises:
        OutcropError: nothing there, or it is no volume; it is damaged; the geometry of a SEG-Y
            file is not regular; the pictures of a stack do not match.
    """
    path = Path(path)
    try:
        match volume_kind(path):
            case "npy":
                from outcrop.sources.volumes.npy import describe_npy

                return describe_npy(path)
            case "zarr":
                from outcrop.sources.volumes.zarr_array import describe_zarr

                return describe_zarr(path)
            case "netcdf":
                from outcrop.sources.volumes.netcdf import describe_netcdf

                return describe_netcdf(path)
            case "segy":
                from outcrop.sources.volumes.segy import describe_segy

                reading = SegyReading(inline_byte, crossline_byte, gaps, format, endian)
                return describe_segy(path, reading)
            case "stack":
                from outcrop.sources.volumes.stack import describe_stack

                return describe_stack(path)
    except OSError as error:
        raise OutcropError(
            path, f"cannot be read ({error.strerror or error}); check the permissions"
        ) from error
    if not path.exists():
        raise OutcropError(path, "no such file; check the name")
    raise OutcropError(
        path,
        "is no volume that outcrop reads; pass .npy, .zarr, NetCDF, SEG-Y (.sgy, .segy), "
        "or a folder of TIFF or PNG slices",
    )
