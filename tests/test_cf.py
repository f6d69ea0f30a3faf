"""Packing, missing values and axes of Zarr, NetCDF and TIFF from their attributes."""

from __future__ import annotations

import base64
import struct
import subprocess
import sys
import warnings

import h5netcdf
import numpy as np
import pytest
import rasterio
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning
from scipy.io import netcdf_file

from outcrop.errors import OutcropError
from outcrop.patches.cut_volume import cut_volume
from outcrop.patches.reopen import reopen
from outcrop.sources.kinds import is_volume
from outcrop.sources.volumes import open_volume
from outcrop.sources.volumes.cf import Packing
from tests.cubes import write_picture, write_segy

SHAPE = (5, 6, 8)
DIMENSIONS = ("iline", "xline", "twt")
LINES = {
    "iline": np.arange(100, 110, 2, dtype="int32"),
    "xline": np.arange(206, 200, -1, dtype="int32"),
    "twt": np.arange(8) * 4.0,
}


def _stored(dtype: str = "int16") -> np.ndarray:
    stored = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 100).astype(dtype)
    stored[3, :2] = -9 if dtype[0] != "u" else 250
    return stored


def write_zarr_group(path, stored, attributes, dimensions=DIMENSIONS, lines=LINES, zarr_format=3):
    """Write a group like xarray: version 2 has dimension names in attributes and a fill value."""
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    arrays = {"amplitude": (dimensions, stored, dict(attributes))}
    arrays |= {name: ((name,), line, {}) for name, line in lines.items()}
    for name, (names, data, attributes) in arrays.items():
        options = {}
        if zarr_format == 2:
            attributes["_ARRAY_DIMENSIONS"] = list(names)
            options["fill_value"] = attributes.pop("_FillValue", None)
        else:
            options["dimension_names"] = names
        made = group.create_array(name, shape=data.shape, dtype=data.dtype, **options)
        made.attrs.update(attributes)
        made[...] = data
    return path


def write_netcdf4(path, stored, attributes, dimensions=DIMENSIONS, lines=LINES, chunks=None):
    with h5netcdf.File(path, "w") as file:
        file.dimensions = dict(zip(dimensions, stored.shape, strict=True))
        fill = attributes.get("_FillValue")
        made = file.create_variable(
            "amplitude",
            dimensions,
            stored.dtype,
            fillvalue=None if fill is None else stored.dtype.type(fill),
            chunks=chunks,
        )
        made[...] = stored
        for name, value in attributes.items():
            if name != "_FillValue":
                made.attrs[name] = value
        for name, line in lines.items():
            file.create_variable(name, (name,), data=line)
    return path


def write_netcdf3(path, stored, attributes, dimensions=DIMENSIONS, lines=LINES):
    with netcdf_file(path, "w") as file:
        for name, length in zip(dimensions, stored.shape, strict=True):
            file.createDimension(name, length)
        made = file.createVariable("amplitude", stored.dtype.newbyteorder(">"), dimensions)
        made[:] = stored
        for name, value in attributes.items():
            setattr(made, name, stored.dtype.type(value) if name == "_FillValue" else value)
        for name, line in lines.items():
            file.createVariable(name, line.dtype.newbyteorder(">"), (name,))[:] = line
    return path


WRITERS = {
    "zarr 2": lambda path, *attributes: write_zarr_group(
        path / "a.zarr", *attributes, zarr_format=2
    ),
    "zarr 3": lambda path, *attributes: write_zarr_group(path / "a.zarr", *attributes),
    "netcdf 4": lambda path, *attributes: write_netcdf4(path / "a.nc", *attributes),
    "netcdf 4 in chunks": lambda path, *attributes: write_netcdf4(
        path / "a.seisnc", *attributes, chunks=(2, 3, 2)
    ),
    "netcdf 3": lambda path, *attributes: write_netcdf3(path / "a.nc", *attributes),
}


def _whole(path) -> np.ndarray:
    volume = open_volume(path)
    with volume.reader() as reader:
        cube = reader.slices(0, 0, volume.shape[0])
        for axis in (1, 2):
            slices = reader.slices(axis, 1, volume.shape[axis])
            expected = np.moveaxis(cube, axis, 0)[1:]
            assert np.array_equal(slices, expected, equal_nan=True)
    assert cube.dtype == volume.dtype
    return cube


@pytest.mark.parametrize("kind", WRITERS)
def test_packed_samples_are_in_physical_units(tmp_path, kind, capsys):
    stored = _stored()
    attributes = {"scale_factor": 0.5, "add_offset": 2.0, "_FillValue": -9}
    path = WRITERS[kind](tmp_path, stored, attributes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cube = _whole(path)
    expected = np.where(stored == -9, np.nan, stored * 0.5 + 2).astype("float32")
    assert np.array_equal(cube, expected, equal_nan=True)
    assert np.isnan(cube[3, :2]).all()
    volume = open_volume(path)
    assert volume.axes == ("inline", "crossline", "sample")
    for line, found in zip(LINES.values(), volume.coordinates, strict=True):
        assert np.array_equal(line, found)
    assert is_volume(path)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", WRITERS)
def test_small_integers_without_packing_keep_their_dtype(tmp_path, kind):
    path = WRITERS[kind](tmp_path, _stored(), {})
    assert open_volume(path).dtype == np.int16
    assert np.array_equal(_whole(path), _stored())


@given(
    scale=st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3),
    offset=st.floats(-1e3, 1e3),
    missing=st.none() | st.integers(-128, 127),
    bounds=st.none() | st.tuples(st.integers(-128, 127), st.integers(-128, 127)).map(sorted),
)
@settings(max_examples=100, deadline=None)
def test_packing_is_linear_with_missing_values(scale, offset, missing, bounds):
    stored = np.arange(-128, 128).astype("int8")
    attributes = {"scale_factor": scale, "add_offset": offset}
    attributes |= {} if missing is None else {"_FillValue": np.int8(missing)}
    attributes |= {} if bounds is None else {"valid_range": np.array(bounds, "int8")}
    samples = Packing.of(attributes, stored.dtype).unpack(stored)
    none = np.isnan(samples)
    wanted = np.zeros(256, bool)
    if missing is not None:
        wanted |= stored == missing
    if bounds is not None:
        wanted |= (stored < bounds[0]) | (stored > bounds[1])
    assert np.array_equal(none, wanted)
    expected = (stored.astype(float) * scale + offset).astype("float32")
    assert np.array_equal(samples[~none], expected[~none])


@pytest.mark.parametrize(
    ("attributes", "dtype", "expected"),
    [
        ({"missing_value": [-9, 7]}, "int16", lambda s: np.isin(s, [-9, 7])),
        ({"valid_min": 5}, "int16", lambda s: s < 5),
        ({"valid_max": 50.0}, "float32", lambda s: s > 50),
        ({"scale_factor": 0.1, "valid_range": [0.0, 5.0]}, "int16", lambda s: (s < 0) | (s > 50)),
        ({"_FillValue": base64.b64encode(struct.pack("<d", -9.0)).decode()}, "float64",
            lambda s: s == -9),
        ({"_FillValue": "NaN"}, "float32", lambda s: np.zeros(SHAPE, bool)),
    ],
)  # fmt: skip
def test_missing_values_are_nan(tmp_path, attributes, dtype, expected):
    stored = _stored(dtype)
    cube = _whole(write_zarr_group(tmp_path / "a.zarr", stored, attributes))
    assert np.array_equal(np.isnan(cube), expected(stored))
    known = ~np.isnan(cube)
    scale = attributes.get("scale_factor", 1)
    assert np.allclose(cube[known], stored[known] * scale)


def test_unsigned_numbers_stored_as_signed_integers(tmp_path):
    stored = np.array([-1, -128, 5, 127] * 2, "int8").reshape(2, 2, 2)
    lines = {}
    attributes = {"_Unsigned": "true", "_FillValue": -1}
    path = write_netcdf4(tmp_path / "a.nc", stored, attributes, lines=lines)
    cube = _whole(path)
    assert np.array_equal(cube.ravel()[:4], [np.nan, 128, 5, 127], equal_nan=True)


def test_unwritten_floats_are_missing(tmp_path):
    with h5netcdf.File(tmp_path / "a.nc", "w") as file:
        file.dimensions = dict(zip("abc", (2, 3, 4), strict=True))
        made = file.create_variable("v", tuple("abc"), "f4", fillvalue=np.float32(9.96921e36))
        made[0] = np.ones((3, 4), "f4")
        del made.attrs["_FillValue"]
    cube = _whole(tmp_path / "a.nc")
    assert (cube[0] == 1).all()
    assert np.isnan(cube[1]).all()


@pytest.mark.parametrize("scale", [0, float("nan"), "wide"])
def test_an_invalid_packing_raises_a_one_line_error(tmp_path, scale):
    path = write_zarr_group(tmp_path / "a.zarr", _stored(), {"scale_factor": scale})
    with pytest.raises(OutcropError, match=r"a.zarr: .*(scale_factor|attribute)") as caught:
        open_volume(path)
    assert "\n" not in str(caught.value)


def test_slices_use_scale_and_nodata_of_tiff(tmp_path):
    stored = _stored()
    for k, pixels in enumerate(stored):
        path = write_picture(tmp_path / f"z_{k}.tif", pixels)
        with warnings.catch_warnings(), rasterio.open(path, "r+") as file:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            file.nodata, file.scales, file.offsets = -9, [0.5], [2.0]
    expected = np.where(stored == -9, np.nan, stored * 0.5 + 2)
    assert np.array_equal(_whole(tmp_path), expected, equal_nan=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_labels_in_xarray_formats_match_lines_of_segy(tmp_path, kind):
    labels = np.ones(SHAPE, "int16")
    labels[3:] = 2
    cube = np.random.default_rng(0).normal(size=SHAPE)[::-1]
    inlines, crosslines = LINES["iline"][::-1].tolist(), LINES["xline"].tolist()
    volume = write_segy(tmp_path / "a.sgy", cube, inlines=inlines, crosslines=crosslines)
    (tmp_path / "labels").mkdir()
    turned = labels.transpose(2, 1, 0), {}, DIMENSIONS[::-1]
    path = WRITERS[kind](tmp_path / "labels", *turned)
    patches = cut_volume(volume, path, 0, 3)
    inline = open_volume(volume).coordinates[0][patches.positions.index]
    assert set(inline[patches.labels == 0]) == {100, 102, 104}
    assert set(inline[patches.labels == 1]) == {106, 108}


def test_one_of_several_variables_is_selected_by_name(tmp_path):
    path = write_netcdf4(tmp_path / "a.nc", np.abs(_stored()), {})
    with h5netcdf.File(path, "a") as file:
        file.create_variable("far", DIMENSIONS, data=np.abs(_stored()) + 1)
    line = "has 2 arrays of 3 axes; pass one, e.g. .*a.nc/amplitude"
    with pytest.raises(OutcropError, match=line):
        open_volume(path)
    assert is_volume(path / "far")
    assert np.array_equal(_whole(path / "far"), np.abs(_stored()) + 1)
    patches = cut_volume(path / "far", path / "amplitude", 0, 3)
    assert reopen(patches)[0].shape == SHAPE
    with pytest.raises(
        OutcropError, match=r"a.nc/near: is not a variable of a.nc \(it has amplitude"
    ):
        open_volume(path / "near")


@pytest.mark.parametrize("content", [b"", b"CDF\1 not", b"\x89HDF\r\n\x1a\n then nothing", b"no"])
def test_files_that_are_not_netcdf_raise_a_one_line_error(tmp_path, content):
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(OutcropError, match="is not a NetCDF file") as caught:
        open_volume(tmp_path / "a.nc")
    assert "\n" not in str(caught.value)
    assert not is_volume(tmp_path / "a.nc")


def test_maps_in_netcdf_are_scenes(tmp_path):
    names = ("time", "lat", "lon")
    lines = {name: np.arange(length) for name, length in zip(names, SHAPE, strict=True)}
    path = write_netcdf4(tmp_path / "a.nc", _stored(), {}, names, lines)
    assert not is_volume(path)
    assert open_volume(path).axes == names


def test_damaged_netcdf_raises_at_most_a_one_line_error(tmp_path):
    random, refused = np.random.default_rng(0), []
    for path in (
        write_netcdf4(tmp_path / "a.nc", _stored(), {"_FillValue": -9}, chunks=(2, 3, 4)),
        write_netcdf3(tmp_path / "b.nc", _stored(), {"_FillValue": -9}),
    ):
        content = path.read_bytes()
        for _ in range(30):
            damaged = bytearray(content[: random.integers(len(content))])
            if random.random() < 0.5:
                damaged = bytearray(content)
                for at in random.integers(0, min(len(content), 2000), 6):
                    damaged[at] = random.integers(256)
            path.write_bytes(damaged)
            try:
                with open_volume(path).reader() as reader:
                    reader.box((0, 0, 0), (1, 1, 1))
            except OutcropError as error:
                refused.append(str(error))
    assert len(refused) > 10
    assert not [line for line in refused if "\n" in line]


def test_netcdf_through_the_command_line(tmp_path):
    write_netcdf4(tmp_path / "a.nc", _stored().astype("f4"), {})
    labels = np.ones(SHAPE, "int8")
    labels[3:] = 2
    write_netcdf4(
        tmp_path / "l.nc", labels[:, ::-1], {}, lines=LINES | {"xline": LINES["xline"][::-1]}
    )
    words = ["patches", "a.nc", "--labels", "l.nc", "--axis", "0", "--size", "3", "-o", "p.zarr"]
    command = [sys.executable, "-m", "outcrop", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
