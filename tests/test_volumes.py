from __future__ import annotations

import pickle
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import h5netcdf
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import netcdf_file

import outcrop
from outcrop.errors import OutcropError
from outcrop.sources.volumes import open_volume, volume_kind
from outcrop.sources.volumes.volume import VolumeReader
from tests.command_line import run
from tests.cubes import ramp, write_picture, write_segy, write_stack, write_zarr


def _pages(path: Path, cube: np.ndarray) -> Path:
    first, *rest = (Image.fromarray(pixels) for pixels in cube)
    first.save(path, save_all=True, append_images=rest)
    return path


def _npy(path: Path, cube: np.ndarray) -> Path:
    np.save(path, cube)
    return path


def _netcdf4(path: Path, cube: np.ndarray, name: str = "amplitude") -> Path:
    with h5netcdf.File(path, "w") as file:
        file.dimensions = dict(zip(("il", "xl", "twt"), cube.shape, strict=True))
        file.create_variable(name, ("il", "xl", "twt"), data=cube, chunks=(2, 3, 4))
    return path


def _netcdf3(path: Path, cube: np.ndarray) -> Path:
    with netcdf_file(path, "w") as file:
        for name, length in zip("abc", cube.shape, strict=True):
            file.createDimension(name, length)
        file.createVariable("amplitude", cube.dtype.newbyteorder(">"), tuple("abc"))[:] = cube
    return path


_WRITERS = {
    "npy": lambda path: _npy(path / "a.npy", ramp("int16")),
    "npy in Fortran's order": lambda path: _npy(path / "a.npy", np.asfortranarray(ramp())),
    "npy big endian": lambda path: _npy(path / "a.npy", ramp(">u2")),
    "npy float64": lambda path: _npy(path / "a.npy", ramp("float64")),
    "zarr 3": lambda path: write_zarr(path / "a.zarr", ramp("uint16")),
    "zarr 2": lambda path: write_zarr(path / "a", ramp(">f4"), zarr_format=2),
    "zarr in shards": lambda path: write_zarr(path / "a.zarr", ramp(), shards=(4, 6, 4)),
    "zarr group": lambda path: write_zarr(path / "a.zarr", ramp("int64"), "seismic/amplitude"),
    "segy by inline": lambda path: write_segy(path / "a.sgy", ramp()),
    "segy by crossline": lambda path: write_segy(
        path / "a.segy", ramp("int16"), [(i, j) for j in range(4) for i in range(5)], code=3
    ),
    "segy IBM, little endian": lambda path: write_segy(
        path / "a.SGY", ramp(), code=1, endian="little"
    ),
    "png": lambda path: write_stack(path / "a", ramp("uint8"), ".png"),
    "png of 16 bits": lambda path: write_stack(path / "a", ramp("uint16"), ".png"),
    "tiff of floats": lambda path: write_stack(path / "a", ramp(), ".tif"),
    "netcdf 4": lambda path: _netcdf4(path / "a.nc", ramp("int64")),
    "netcdf 4 in a group": lambda path: _netcdf4(path / "a.seisnc", ramp(), "survey/amplitude"),
    "netcdf 3": lambda path: _netcdf3(path / "a.nc", ramp("int16")),
    "tiff of pages": lambda path: _pages(path / "a.tif", ramp("uint16")),
}


@pytest.fixture(scope="module", params=_WRITERS)
def opened(request, tmp_path_factory):
    path = _WRITERS[request.param](tmp_path_factory.mktemp("volume"))
    with ExitStack() as stack:
        yield stack.enter_context(open_volume(path).reader())


_RANGE = {n: st.tuples(st.integers(0, n), st.integers(0, n)).map(sorted) for n in (4, 5, 6)}


@given(axis=st.integers(0, 2), data=st.data())
@settings(max_examples=25, deadline=None)
def test_slices_equal_those_of_numpy(opened: VolumeReader, axis, data):
    cube = ramp()
    start, stop = data.draw(_RANGE[cube.shape[axis]])
    slices = opened.slices(axis, start, stop)
    assert np.array_equal(slices, np.moveaxis(cube, axis, 0)[start:stop])
    assert slices.shape[1:] == opened.volume.slice_shape(axis)
    assert slices.dtype == opened.volume.dtype
    assert slices.flags.c_contiguous


@given(ranges=st.tuples(_RANGE[5], _RANGE[4], _RANGE[6]))
@settings(max_examples=25, deadline=None)
def test_boxes_equal_those_of_numpy(opened: VolumeReader, ranges):
    start, stop = zip(*ranges, strict=True)
    expected = ramp()[tuple(slice(*pair) for pair in ranges)]
    assert np.array_equal(opened.box(start, stop), expected)


def test_a_volume_has_its_properties_and_can_be_pickled(opened: VolumeReader):
    volume = pickle.loads(pickle.dumps(opened.volume))
    assert volume == opened.volume
    assert volume.shape == (5, 4, 6)
    assert [volume.slice_shape(axis) for axis in range(3)] == [(4, 6), (5, 6), (5, 4)]
    assert volume.kind == volume_kind(volume.name)
    with volume.reader() as reader:
        assert np.array_equal(reader.box((0, 0, 0), (5, 4, 6)), ramp())


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("uint8", "uint8"),
        ("int16", "int16"),
        (">i2", "int16"),
        ("uint16", "uint16"),
        ("int8", "float32"),
        ("int32", "float32"),
        ("uint64", "float32"),
        ("float16", "float32"),
        (">f8", "float32"),
    ],
)
def test_three_dtypes_are_kept_and_others_are_read_as_float32(tmp_path, stored, read):
    cube = (ramp() % 100).astype(stored)
    volume = outcrop.open_volume(_npy(tmp_path / "a.npy", cube))
    assert volume.dtype == np.dtype(read)
    with volume.reader() as reader:
        assert np.array_equal(reader.slices(2, 0, 6), np.moveaxis(cube, 2, 0))


def _zarr_with_nodata(path: Path, cube: np.ndarray) -> Path:
    write_zarr(path, cube)
    zarr.open(path).attrs["_FillValue"] = -(1 << 30)
    return path


_WIDE = {
    "npy": lambda path, cube: _npy(path / "a.npy", cube),
    "npy of 64 bits": lambda path, cube: _npy(path / "a.npy", cube.astype("int64")),
    "npy in Fortran's order": lambda path, cube: _npy(path / "a.npy", np.asfortranarray(cube)),
    "zarr": lambda path, cube: write_zarr(path / "a.zarr", cube.astype("int64")),
    "zarr with nodata": lambda path, cube: _zarr_with_nodata(path / "a.zarr", cube),
    "segy": lambda path, cube: write_segy(path / "a.sgy", cube, code=2),
    "netcdf 3": lambda path, cube: _netcdf3(path / "a.nc", cube),
    "netcdf 4": lambda path, cube: _netcdf4(path / "a.nc", cube),
    "tiff": lambda path, cube: write_stack(path / "a", cube, ".tif"),
}


@pytest.mark.parametrize("write", _WIDE.values(), ids=_WIDE.keys())
def test_wide_integers_are_exact_or_raise_an_error(tmp_path, write):
    cube = ramp("int32")
    cube[0, 0, 0], cube[4, 3, 5] = 1 << 24, -(1 << 24)
    (tmp_path / "exact").mkdir()
    with open_volume(write(tmp_path / "exact", cube)).reader() as reader:
        assert np.array_equal(reader.slices(0, 0, 5).astype("int64"), cube)
    cube[4, 3, 5] = -(1 << 24) - 1  # as float32 it is -(1 << 24)
    (tmp_path / "rounded").mkdir()
    with open_volume(write(tmp_path / "rounded", cube)).reader() as reader:
        assert np.array_equal(reader.slices(0, 0, 4).astype("int64"), cube[:4])
        with pytest.raises(OutcropError, match=r"integers up to 16777217, .* would be rounded; "):
            reader.slices(0, 4, 5)
        with pytest.raises(OutcropError, match="or save it as floats"):
            reader.box((4, 3, 5), (5, 4, 6))


def test_nodata_and_packed_integers_may_be_large(tmp_path):
    cube = ramp("int32")
    cube[0, 0, 0] = -(1 << 30)
    with open_volume(_zarr_with_nodata(tmp_path / "a.zarr", cube)).reader() as reader:
        assert np.isnan(reader.slices(0, 0, 5)).sum() == 1
    write_zarr(tmp_path / "b.zarr", cube)
    zarr.open(tmp_path / "b.zarr").attrs["scale_factor"] = 0.5
    with open_volume(tmp_path / "b.zarr").reader() as reader:
        assert np.array_equal(reader.slices(0, 0, 5), cube * np.float32(0.5))


def test_the_remedy_for_wide_integers_works_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cube = ramp("int32", (6, 20, 20))
    cube[:, 9:, 9:] += 1 << 25
    np.save("cube.npy", cube)
    np.save("labels.npy", 1 + (cube > 1 << 25))
    cut = "patches cube.npy --labels labels.npy --axis 0 --size 5 -o p.zarr"
    assert run(cut) == 2
    assert "outcrop: cube.npy: has integers up to " in capsys.readouterr().err
    assert not Path("p.zarr").exists()
    np.save("cube.npy", cube.astype("float32"))
    assert run(cut) == 0
    np.save("labels.npy", (1 << 24) * 3 + (cube > 1 << 25))
    assert run(cut.replace("p.zarr", "q.zarr")) == 2
    assert "outcrop: labels.npy: has integers up to 50331649" in capsys.readouterr().err


def test_infinite_floats_are_nan_and_integers_are_unchanged(tmp_path):
    cube = ramp("float64")
    cube[0, 0, :4] = np.nan, np.inf, -np.inf, 1e300  # the last is infinite as float32
    with open_volume(_npy(tmp_path / "a.npy", cube)).reader() as reader:
        row = reader.slices(1, 0, 1)[0, 0]
    assert np.array_equal(row, [np.nan] * 4 + [9, 11], equal_nan=True)
    extreme = np.full((2, 2, 2), -32768, "int16")
    with open_volume(_npy(tmp_path / "b.npy", extreme)).reader() as reader:
        assert (reader.box((0, 0, 0), (2, 2, 2)) == -32768).all()


@pytest.mark.parametrize("axis", range(3))
def test_slabs_cover_an_axis_within_budget_and_respect_chunks(tmp_path, axis):
    volume = open_volume(write_zarr(tmp_path / "a.zarr", ramp(shape=(10, 11, 23))))
    chunk = (2, 3, 4)[axis]
    per_slice = int(np.prod(volume.slice_shape(axis))) * 4
    for budget in (1, per_slice, per_slice * (2 * chunk + 1), 1 << 30):
        slabs = volume.slabs(axis, budget)
        assert [i for slab in slabs for i in range(*slab)] == list(range(volume.shape[axis]))
        thickness = slabs[0][1]
        assert thickness == 1 or thickness * per_slice <= budget
        assert thickness <= chunk or thickness % chunk == 0 or len(slabs) == 1
    assert volume.slabs(axis, per_slice * (2 * chunk + 1))[0] == (0, 2 * chunk)


_GROWTH = """
import sys
from outcrop.sources.volumes import open_volume

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

volume = open_volume(sys.argv[1])
before = peak()
with volume.reader() as reader:
    for axis, start, stop in eval(sys.argv[2]):
        slices = reader.slices(axis, start, stop)
        assert slices.shape == (stop - start, *volume.slice_shape(axis)) and not slices.any()
        del slices
print(peak() - before)
"""


def _growth(path: Path, reads: list[tuple[int, int, int]]) -> int:
    command = [sys.executable, "-c", _GROWTH, str(path), str(reads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)


@needs_proc
def test_a_volume_larger_than_memory_is_read_by_slices(tmp_path):
    path = tmp_path / "a.npy"
    cube = np.lib.format.open_memmap(path, "w+", np.float32, (10240, 1024, 1024))
    del cube
    assert path.stat().st_size > 40 << 30
    assert path.stat().st_blocks * 512 < 1 << 20
    assert _growth(path, [(0, 0, 3), (0, 10239, 10240), (1, 500, 501)]) < 150 << 20


@needs_proc
def test_read_pages_are_unmapped(tmp_path):
    path = tmp_path / "a.npy"
    cube = np.lib.format.open_memmap(path, "w+", np.float32, (128, 1024, 1024))
    del cube
    assert path.stat().st_size > 512 << 20
    assert _growth(path, [(2, 0, 1), (2, 1023, 1024)]) < 200 << 20


@pytest.mark.parametrize("order", ["C", "F"])
def test_unmapped_pages_are_read_again(tmp_path, monkeypatch, order):
    monkeypatch.setattr("outcrop.sources.volumes.npy._HELD_BYTES", 0)
    cube = np.asarray(ramp("int16", (20, 30, 40)), order=order)
    with open_volume(_npy(tmp_path / "a.npy", cube)).reader() as reader:
        for axis in (0, 1, 2, 0):
            slices = reader.slices(axis, 1, 19)
            assert np.array_equal(slices, np.moveaxis(cube, axis, 0)[1:19])


def test_slices_of_a_stack_are_in_the_order_of_their_numbers(tmp_path):
    folder = write_stack(tmp_path / "a", ramp("uint8"), ".png")
    names = sorted(file.name for file in folder.iterdir())
    assert names[0] == "slice_10.png"
    (folder / "notes.txt").write_text("not a slice")
    (folder / "._slice_8.png").write_bytes(b"left by a Macintosh")
    with open_volume(folder).reader() as reader:
        assert np.array_equal(reader.slices(0, 0, 2), ramp("uint8")[:2])


def test_missing_zarr_chunks_print_a_note_and_have_the_fill_value(tmp_path, capsys):
    cube = ramp()
    cube[:2, :3, :4] = 0
    path = write_zarr(tmp_path / "a.zarr", cube)
    volume = open_volume(path)
    assert (
        "1 of 12 chunks are not stored, so they have the fill value 0.0" in capsys.readouterr().err
    )
    with volume.reader() as reader:
        assert np.array_equal(reader.slices(0, 0, 5), cube)
    sharded = write_zarr(tmp_path / "b.zarr", ramp(), shards=(4, 3, 4))
    open_volume(sharded)
    assert not capsys.readouterr().err
    (sharded / "c" / "0" / "0" / "0").unlink()
    open_volume(sharded)
    assert "1 of 8 chunks are not stored" in capsys.readouterr().err


def _damaged_chunk(path: Path) -> Path:
    write_zarr(path / "a.zarr", ramp())
    chunk = next(file for file in (path / "a.zarr" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(b"damaged")
    return path / "a.zarr"


def _damaged_slice(suffix: str):
    def write(path: Path) -> Path:
        noise = np.random.default_rng(0).integers(0, 65536, (5, 40, 60), np.uint16)
        folder = write_stack(path / "a", noise, suffix)
        file = folder / f"slice_9{suffix}"
        file.write_bytes(file.read_bytes()[:2000])
        return folder

    return write


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (_damaged_chunk, "is not a complete chunk"),
        (_damaged_slice(".png"), "slice_9.png: is not a complete PNG file"),
        (_damaged_slice(".tif"), "slice_9.tif: is not a complete TIFF file"),
    ],
)
def test_damaged_samples_raise_a_one_line_error(tmp_path, write, line):
    volume = open_volume(write(tmp_path))
    with volume.reader() as reader, pytest.raises(OutcropError, match=line) as caught:
        reader.slices(0, 0, volume.shape[0])
    assert "\n" not in str(caught.value)


def test_a_file_that_shrinks_after_opening_raises_a_one_line_error(tmp_path):
    path = _npy(tmp_path / "a.npy", ramp())
    volume = open_volume(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OutcropError, match="has changed since it was opened"), volume.reader():
        pass


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_slice_that_changes_after_opening_raises_a_one_line_error(tmp_path, suffix):
    folder = write_stack(tmp_path / "a", ramp("uint8"), suffix)
    with open_volume(folder).reader() as reader:
        write_picture(folder / f"slice_9{suffix}", np.zeros((7, 9), np.uint8))
        with pytest.raises(OutcropError, match=f"slice_9{suffix}: has changed"):
            reader.slices(1, 0, 1)


@pytest.mark.parametrize(
    ("read", "line"),
    [
        (lambda reader: reader.slices(3, 0, 1), "has no axis 3; pass one of 0, 1, 2"),
        (lambda reader: reader.slices(-1, 0, 1), "has no axis -1"),
        (
            lambda reader: reader.slices(1, 2, 5),
            "has no range 2:5 along axis 1; pass a range from 0",
        ),
        (lambda reader: reader.slices(0, -1, 1), "has no range -1:1 along axis 0"),
        (lambda reader: reader.slices(0, 3, 2), "has no range 3:2 along axis 0"),
        (lambda reader: reader.box((0, 0, 0), (5, 4, 7)), "has no range 0:7 along axis 2"),
    ],
)
def test_indices_outside_raise_an_error(tmp_path, read, line):
    volume = open_volume(_npy(tmp_path / "a.npy", ramp()))
    with volume.reader() as reader, pytest.raises(OutcropError, match=line):
        read(reader)


@pytest.mark.parametrize("kind", _WRITERS)
def test_damaged_bytes_raise_at_most_a_one_line_error(tmp_path, kind):
    random = np.random.default_rng(0)
    path = _WRITERS[kind](tmp_path)
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    lines = []
    for _ in range(20):
        file = files[random.integers(len(files))]
        content = file.read_bytes()
        damaged = bytearray(content[: random.integers(len(content))])
        if random.random() < 0.5:
            damaged = bytearray(content)
            for at in random.integers(0, min(len(content), 300), 4):
                damaged[at] = random.integers(256)
        file.write_bytes(damaged)
        try:
            volume = open_volume(path)
            with volume.reader() as reader:
                reader.slices(2, 0, 1)
        except OutcropError as error:
            lines.append(str(error))
        file.write_bytes(content)
    assert lines
    assert "\n" not in "".join(lines)


class Bomb:
    def __reduce__(self):
        return (sys.exit, ("unpickled",))


def _objects(path: Path) -> Path:
    np.save(path / "a.npy", np.full((2, 2, 2), Bomb(), object), allow_pickle=True)
    return path / "a.npy"


def _bytes(name: str, content: bytes):
    def write(path: Path) -> Path:
        (path / name).write_bytes(content)
        return path / name

    return write


def _cut_off(path: Path) -> Path:
    _npy(path / "a.npy", ramp())
    return _bytes("b.npy", (path / "a.npy").read_bytes()[:-1])(path)


def _array(cube: np.ndarray):
    return lambda path: _npy(path / "a.npy", cube)


def _two_arrays(path: Path) -> Path:
    group = zarr.open_group(path / "a.zarr", mode="w")
    for name in ("near", "far"):
        group.create_array(name, data=ramp())
    return path / "a.zarr"


def _flat_arrays(path: Path) -> Path:
    zarr.open_group(path / "a.zarr", mode="w").create_array("map", data=np.zeros((3, 4)))
    return path / "a.zarr"


def _group(path: Path) -> Path:
    zarr.open_group(path / "a.zarr", mode="w")
    return path / "a.zarr"


def _no_chunks(path: Path) -> Path:
    zarr.create_array(path / "a.zarr", shape=(5, 4, 6), chunks=(2, 2, 2), dtype="f4")
    return path / "a.zarr"


def _no_metadata(path: Path) -> Path:
    write_zarr(path / "a.zarr", ramp())
    (path / "a.zarr" / "zarr.json").write_text("{")
    return path / "a.zarr"


def _pickle_codec(path: Path) -> Path:
    write_zarr(path / "a", ramp(), zarr_format=2, compressors=None)
    metadata = path / "a" / ".zarray"
    text = metadata.read_text().replace('"filters": null', '"filters": [{"id": "pickle"}]')
    assert "pickle" in text
    metadata.write_text(text)
    return path / "a"


def _stack(**extra: np.ndarray):
    def write(path: Path) -> Path:
        folder = write_stack(path / "a", ramp("uint8"), ".tif")
        for name, pixels in extra.items():
            write_picture(folder / name.replace("__", "."), pixels)
        return folder

    return write


def _gap(path: Path) -> Path:
    folder = write_stack(path / "a", ramp("uint8"), ".tif")
    (folder / "slice_10.tif").unlink()
    return folder


def _palette(path: Path) -> Path:
    (path / "a").mkdir()
    Image.fromarray(np.zeros((4, 6), np.uint8)).convert("P").save(path / "a" / "1.png")
    return path / "a"


def _not_a_picture(path: Path) -> Path:
    folder = write_stack(path / "a", ramp("uint8"), ".png")
    (folder / "slice_13.png").write_bytes(b"not a picture")
    return folder


def _single(path: Path) -> Path:
    return write_picture(path / "a.tif", np.zeros((4, 6), np.uint8))


def _empty_folder(path: Path) -> Path:
    (path / "a").mkdir()
    return path / "a"


_GREY = np.zeros((4, 6), np.uint8)


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (lambda path: path / "a.npy", "no such file"),
        (_bytes("a.xyz", b"cube"), "is not a volume"),
        (_bytes("a.npz", b"PK"), "is not a volume"),
        (_bytes("a.npy", b""), "is not a complete .npy file"),
        (_bytes("a.npy", b"PK\3\4 not an array"), "is not a complete .npy file"),
        (_objects, "has Python objects"),
        (_cut_off, "is truncated: it has 607 bytes instead of 608"),
        (_array(np.zeros((3, 4))), "has 2 axes"),
        (_array(np.zeros((3, 4, 5, 6))), r"has 4 axes \(3 × 4 × 5 × 6\) instead of 3"),
        (_array(np.zeros((3, 0, 5))), "has an axis of length 0"),
        (_array(np.zeros((3, 4, 5), complex)), "has complex samples"),
        (_array(np.zeros((3, 4, 5), "U3")), "has samples of <U3"),
        (_array(np.zeros((3, 4, 5), bool)), "has samples of bool"),
        (_array(np.zeros((3, 4, 5), "datetime64[s]")), "has samples of"),
        (_two_arrays, "has 2 arrays of 3 axes; pass one, e.g. .*a.zarr/(near|far)"),
        (_flat_arrays, r"has no array of 3 axes, only map \(3 × 4\)"),
        (_group, "has no array"),
        (_no_chunks, "has none of its chunks"),
        (_no_metadata, "is not a Zarr array or group"),
        (_pickle_codec, "pickle"),
        (_empty_folder, "has neither TIFF or PNG slices nor a Zarr array"),
        (_stack(slice_13__tif=_GREY[:3]), "slice_13.tif: is 3 × 6 uint8, but slice_8.tif is 4"),
        (_stack(slice_13__tif=_GREY.astype("f4")), "slice_13.tif: is 4 × 6 float32, but"),
        (_stack(slice_13__tif=np.stack([_GREY] * 3)), "slice_13.tif: is not grey"),
        (_stack(slice_13__tif=_GREY.astype("c8")), "slice_13.tif: is not grey"),
        (_stack(slice_13__png=_GREY), "has TIFF and PNG slices"),
        (_gap, "in steps of 1, but slice_11.tif follows slice_9.tif"),
        (_palette, "1.png: is not grey"),
        (_not_a_picture, "slice_13.png: is not a complete PNG file"),
        (_single, "is a single slice"),
    ],
)
def test_files_that_are_not_volumes_raise_a_one_line_error(tmp_path, write, line):
    with pytest.raises(OutcropError, match=line) as caught:
        open_volume(write(tmp_path))
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)
