"""Cut patches of volumes by label volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.patches.cut_volume import cut_volume
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import upper_left
from outcrop.sources.kinds import are_volumes, is_volume
from outcrop.sources.volumes import open_volume
from tests.rasters import ramp, write_raster
from tests.shared import DATA, needs_shared

SHAPE = (12, 20, 26)


def samples(dtype="float32") -> np.ndarray:
    """A cube in which all samples are different."""
    return (1 + np.arange(np.prod(SHAPE)).reshape(SHAPE)).astype(dtype)


def classes(dtype="uint8") -> np.ndarray:
    """Two bodies of class 2 and 5 in a cube that is unlabelled elsewhere."""
    cube = np.zeros(SHAPE, dtype)
    cube[2:8, 5:15, 3:12] = 2
    cube[6:12, 0:20, 15:26] = 5
    return cube


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("cube.npy", samples())
    np.save("classes.npy", classes())
    return tmp_path


def check_pixels(patches: PatchSet, cubes, size: int) -> None:
    """Every image is the part of the slice at its position."""
    at, images = patches.positions, patches.take(np.arange(len(patches)))
    for i, image in enumerate(images):
        plane = np.take(cubes[at.source[i]], at.index[i], axis=at.axis[i])
        top, left = upper_left(int(at.row[i]), size), upper_left(int(at.column[i]), size)
        assert min(top, left) >= 0
        assert np.array_equal(image[0], plane[top : top + size, left : left + size])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_every_labelled_voxel_inside_gives_its_patch(world, axis, size):
    patches = cut_volume("cube.npy", "classes.npy", axis, size)
    check_pixels(patches, [samples()], size)
    at = patches.positions
    planes = np.moveaxis(classes(), axis, 0)
    height, width = planes.shape[1:]
    expected = [
        (k, r, c, planes[k, r, c])
        for k, r, c in np.argwhere(planes)
        if r - size // 2 >= 0
        and c - size // 2 >= 0
        and r - size // 2 + size <= height
        and c - size // 2 + size <= width
    ]
    values = np.array([2, 5])[patches.labels]
    assert list(zip(at.index, at.row, at.column, values, strict=True)) == expected
    assert set(at.axis) == {axis}
    assert patches.classes == ("class 2", "class 5")
    assert patches.dropped.get("edge", 0) == np.count_nonzero(planes) - len(expected)


@given(
    stride=st.integers(1, 7),
    between=st.integers(1, 5),
    axis=st.integers(0, 2),
    size=st.sampled_from([1, 4]),
)
@settings(max_examples=25, deadline=None)
def test_strides_count_from_the_corner(tmp_path_factory, stride, between, axis, size):
    folder = tmp_path_factory.mktemp("strides")
    np.save(folder / "cube.npy", samples())
    np.save(folder / "classes.npy", classes())
    files = folder / "cube.npy", folder / "classes.npy"
    every = cut_volume(*files, axis, size)
    at = every.positions
    on_grid = (at.index % between == 0) & (at.row % stride == 0) & (at.column % stride == 0)
    if len(np.unique(every.labels[on_grid])) < 2:
        with pytest.raises(OutcropError, match=r" only; |gives no patch"):
            cut_volume(*files, axis, size, stride=stride, slice_stride=between)
        return
    some = cut_volume(*files, axis, size, stride=stride, slice_stride=between)
    assert some.fingerprint == every.subset(on_grid).fingerprint


def test_on_disk_and_in_memory_are_the_same(world):
    memory = cut_volume("cube.npy", "classes.npy", 1, 4, classes=["shale", "salt"])
    disk = cut_volume(
        "cube.npy", "classes.npy", 1, 4, classes=["shale", "salt"], output="patches.zarr"
    )
    assert disk.fingerprint == memory.fingerprint
    assert disk.classes == ("shale", "salt")
    assert disk.bands == ("grey",)
    assert (disk.sources[0].name, disk.sources[0].shape) == ("cube.npy", SHAPE)
    assert np.array_equal(disk.take(np.arange(len(disk))), memory.images)
    assert {path.name for path in world.iterdir()} == {"cube.npy", "classes.npy", "patches.zarr"}


def test_a_sample_depends_on_its_seed_and_not_on_the_slabs(world, monkeypatch):
    def some(seed: int) -> PatchSet:
        return cut_volume("cube.npy", "classes.npy", 0, 4, per_class=9, seed=seed)

    one = some(1)
    assert one.counts.tolist() == [9, 9]
    assert one.fingerprint == some(1).fingerprint != some(2).fingerprint
    monkeypatch.setattr("outcrop.patches.cut_volume._SLAB_BYTES", 1)
    assert one.fingerprint == some(1).fingerprint
    order = np.lexsort((one.positions.column, one.positions.row, one.positions.index))
    assert np.array_equal(order, np.arange(len(one)))


def test_every_voxel_has_the_same_probability(world):
    drawn = np.zeros(SHAPE[0])
    for seed in range(60):
        patches = cut_volume("cube.npy", "classes.npy", 0, 4, per_class=20, seed=seed)
        index = patches.positions.index[patches.labels == 0]
        drawn += np.bincount(index, minlength=SHAPE[0])
    share = drawn[2:8] / drawn.sum()
    assert drawn[:2].sum() == drawn[8:].sum() == 0
    # 1200 draws without much replacement: the share of a slice is 1/6 within 4 standard deviations.
    assert np.abs(share - 1 / 6).max() < 4 * np.sqrt(1 / 6 * 5 / 6 / 1200)


def test_several_volumes_and_their_labels(world):
    np.save("other.npy", -samples())
    only = np.where(classes() == 2, 0, classes())
    np.save("other-classes.npy", only)
    patches = cut_volume(["cube.npy", "other.npy"], ["classes.npy", "other-classes.npy"], 2, 4)
    check_pixels(patches, [samples(), -samples()], 4)
    assert set(patches.labels[patches.positions.source == 1]) == {1}
    with pytest.raises(OutcropError, match="`labels`: 1 files for 2 volumes; give one for each"):
        cut_volume(["cube.npy", "other.npy"], "classes.npy", 2, 4)


def test_missing_samples_are_dropped_at_the_centre_and_nan_elsewhere(world):
    cube = samples()
    cube[4, 10, 8] = np.nan
    cube[4, 11, 8] = np.inf
    np.save("cube.npy", cube)
    patches = cut_volume("cube.npy", "classes.npy", 0, 3)
    assert patches.dropped["no data"] == 2
    assert np.isfinite(patches.images[:, 0, 1, 1]).all()
    at = patches.positions
    near = (at.index == 4) & (np.abs(at.row - 10.5) <= 1.5) & (np.abs(at.column - 8) <= 1)
    assert np.array_equal(np.isnan(patches.images).any(axis=(1, 2, 3)), near)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float64", "int32"])
def test_small_integers_are_kept(world, dtype):
    np.save("cube.npy", (samples() % 200).astype(dtype))
    patches = cut_volume("cube.npy", "classes.npy", 0, 4, per_class=5)
    kept = dtype in ("uint8", "int16", "uint16")
    assert patches.images.dtype == (dtype if kept else np.float32)
    check_pixels(patches, [samples() % 200], 4)


def test_labels_may_be_floats_and_have_gaps(world):
    cube = classes("float32")
    cube[cube == 0] = np.nan
    np.save("gaps.npy", cube)
    expected = cut_volume("cube.npy", "classes.npy", 0, 4)
    assert cut_volume("cube.npy", "gaps.npy", 0, 4).fingerprint == expected.fingerprint


def test_names_are_read_from_the_file_beside_the_labels(world):
    def names() -> tuple[str, ...]:
        return cut_volume("cube.npy", "classes.npy", 0, 4).classes

    assert names() == ("class 2", "class 5")
    Path("classes.json").write_text('["sand", "chalk", "shale", "coal", "salt"]')
    assert names() == ("chalk", "salt")
    given = cut_volume("cube.npy", "classes.npy", 0, 4, classes=["a", "b"])
    assert given.classes == ("a", "b")
    for text, message in (
        ('["chalk"]', "classes.json: names labels 1 to 1, and there are 2 to 5; correct it"),
        ('{"1": "chalk"}', "classes.json: is no list of class names; correct it"),
        ("chalk", "classes.json: is not a list of class names"),
    ):
        Path("classes.json").write_text(text)
        with pytest.raises(OutcropError, match=message):
            names()


def test_volumes_of_two_dtypes_have_a_common_dtype(world):
    for dtype in ("uint8", "int16", "uint16"):
        np.save(f"{dtype}.npy", (samples() % 200).astype(dtype))
    for names, dtype in (
        (["uint8.npy", "int16.npy"], "int16"),
        (["int16.npy", "uint16.npy"], "float32"),
        (["uint8.npy", "cube.npy"], "float32"),
    ):
        patches = cut_volume(names, ["classes.npy"] * 2, 0, 4, per_class=9)
        assert patches.images.dtype == dtype


@needs_shared
def test_a_real_survey_is_cut(world):
    import segyio

    file = DATA / "segy" / "f3.sgy"
    cube = segyio.tools.cube(file).astype("float32")
    labels = np.ones(cube.shape, "uint8")
    labels[:, :, cube.shape[2] // 2 :] = 2
    np.save("classes.npy", labels)
    for axis in range(3):
        patches = cut_volume(file, "classes.npy", axis, 8, per_class=20)
        assert patches.sources[0].shape == cube.shape
        check_pixels(patches, [cube], 8)


def test_memory_is_bounded_by_the_slab_not_the_volume(tmp_path):
    import tracemalloc

    shape = (1200, 500, 500)
    for name, dtype in (("cube.npy", "float32"), ("classes.npy", "uint8")):
        made = np.lib.format.open_memmap(tmp_path / name, "w+", dtype, shape)
        del made
    labels = np.load(tmp_path / "classes.npy", mmap_mode="r+")
    labels[50, 100:103, 100:103], labels[1100, 200:203, 200:203] = 1, 2
    del labels
    tracemalloc.start()
    patches = cut_volume(
        tmp_path / "cube.npy", tmp_path / "classes.npy", 0, 32, output=tmp_path / "p.zarr"
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert patches.counts.tolist() == [9, 9]
    assert peak < 400e6  # of 1.5 GB


def test_files_that_are_volumes(world):
    zarr.create_array(world / "cube.zarr", data=samples())
    Path("slices").mkdir()
    for i in range(2):
        write_raster(f"slices/{i}.tif", ramp(1))
    write_raster("scene.tif", ramp())
    Path("foreign").mkdir()
    Path("foreign/readme.md").touch()
    Path("survey.SGY").touch()
    volumes = ["cube.npy", "cube.zarr", "slices", "survey.SGY", "none.npy"]
    assert all(map(is_volume, volumes))
    assert not any(map(is_volume, ["scene.tif", "foreign", "none.tif", "a.tif,b.tif"]))
    assert are_volumes(["cube.npy", open_volume("cube.zarr")])
    assert not are_volumes(["scene.tif"])
    with pytest.raises(
        OutcropError, match=r"scene.tif: is a scene while other sources are volumes"
    ):
        are_volumes(["cube.npy", "scene.tif"])


@pytest.mark.parametrize(
    ("cube", "message"),
    [
        (np.zeros((12, 20, 25), "uint8"), r"12 × 20 × 25, but cube.npy has 12 × 20 × 26"),
        (np.zeros(SHAPE, "uint8"), "labels no voxel; number the classes from 1"),
        (np.where(classes() > 0, 1, 0).astype("uint8"), "patches of 'class 1' only"),
        (classes("int16") - 1, "holds -1; number the classes from 1"),
        (classes("float32") / 4, "holds 0.5; number the classes from 1"),
        (np.arange(np.prod(SHAPE), dtype="int16").reshape(SHAPE), "6239 different values; group"),
    ],
)
def test_unusable_labels_raise_an_error(world, cube, message):
    np.save("bad.npy", cube)
    with pytest.raises(OutcropError, match=message):
        cut_volume("cube.npy", "bad.npy", 0, 4, output="patches.zarr")
    assert not [path for path in world.iterdir() if "patches" in path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"size": 21},
            r"cube.npy: has slices of 20 × 26 across axis 0, smaller than a patch of 21",
        ),
        ({"axis": 3}, r"cube.npy: has no axis 3"),
        ({"classes": ["salt"]}, r"classes.npy: has 2 values but `classes` names 1"),
        ({"stride": 0}, "`stride`: must be at least 1"),
        ({"slice_stride": 0}, "`slice_stride`: must be at least 1"),
        ({"slice_stride": 100, "stride": 19, "size": 19}, "gives no patch: .* use a smaller"),
    ],
)
def test_bad_input_raises_an_error(world, change, message):
    with pytest.raises(OutcropError, match=message):
        cut_volume("cube.npy", "classes.npy", **{"axis": 0, "size": 4} | change)
