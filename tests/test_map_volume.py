"""Class cubes: slice by slice, in the geometry of the volume."""

from __future__ import annotations

import json

import numpy as np
import pytest
import segyio
import zarr

from outcrop.errors import OutcropError
from outcrop.mapping import engine
from outcrop.mapping.job import Job
from outcrop.mapping.volume import map_volume
from outcrop.sources.volumes import open_volume
from tests.shared import DATA, needs_shared
from tests.test_mapping import CLASSES, classifier, dense, patch_by_patch

SHAPE = (30, 34, 41)


@pytest.fixture
def volume(tmp_path):
    samples = np.random.default_rng(0).normal(100, 60, SHAPE).astype("float32")
    samples[3:5, 10, 20:] = np.nan
    np.save(tmp_path / "cube.npy", samples)
    return tmp_path / "cube.npy"


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", ["dense", "patches"])
def test_every_sample_gets_the_class_of_the_patch_around_it(tmp_path, volume, axis, kind):
    model = dense(bands=1) if kind == "dense" else classifier(bands=1)
    map_volume(model, volume, axis, tmp_path / "classes.npy", tmp_path / "sure.npy")
    slices = np.moveaxis(np.load(volume), axis, 0)
    made, sure = (
        np.moveaxis(np.load(tmp_path / name), axis, 0) for name in ("classes.npy", "sure.npy")
    )
    for k in (0, 4, len(slices) - 1):
        rows, columns = np.indices(slices[k].shape).reshape(2, -1)
        likely = patch_by_patch(model, slices[k][None], rows, columns)
        valid = np.isfinite(slices[k]).ravel()
        assert np.array_equal(made[k].ravel(), np.where(valid, likely.argmax(axis=1) + 1, 0))
        certain = np.where(valid, 100 * likely.max(axis=1), 255)
        assert np.abs(sure[k].ravel() - certain).max() <= 1
    assert (made > 0).all(axis=0).any()


def test_a_zarr_cube_names_its_classes(tmp_path, volume):
    model = dense(bands=1)
    map_volume(model, volume, 0, tmp_path / "a.npy")
    map_volume(model, volume, 0, tmp_path / "a.zarr", tmp_path / "sure.zarr")
    cube = zarr.open_array(tmp_path / "a.zarr", mode="r")
    assert np.array_equal(cube[:], np.load(tmp_path / "a.npy"))
    assert cube.attrs["classes"] == list(CLASSES)
    assert cube.attrs["nodata"] == 0
    assert json.loads((tmp_path / "a.npy.json").read_text()) == list(CLASSES)
    assert open_volume(tmp_path / "a.zarr").shape == SHAPE
    assert zarr.open_array(tmp_path / "sure.zarr", mode="r")[3, 10, 25] == 255


@pytest.mark.parametrize("form", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("endian", ["big", "little"])
def test_a_segy_cube_has_the_headers_of_the_input(tmp_path, form, endian):
    spec = segyio.spec()
    spec.sorting, spec.format, spec.endian = 2, form, endian
    spec.samples = np.arange(40) * 4.0
    spec.ilines, spec.xlines = np.arange(100, 130), np.arange(300, 332, 1)
    samples = np.random.default_rng(0).integers(-100, 100, (30, 32, 40))
    with segyio.create(tmp_path / "in.sgy", spec) as file:
        for k, (i, x) in enumerate(np.ndindex(30, 32)):
            file.header[k] = {189: 100 + i, 193: 300 + x, 181: 7 * k, 117: 4000}
            file.trace[k] = samples[i, x].astype(file.dtype)
        file.bin.update(hdt=4000)
        file.text[0] = segyio.tools.create_text_header({1: "A SURVEY"})
    model = dense(bands=1)
    map_volume(model, tmp_path / "in.sgy", 1, tmp_path / "out.sgy")
    map_volume(model, tmp_path / "in.sgy", 1, tmp_path / "out.npy")
    expected = np.load(tmp_path / "out.npy")
    made = open_volume(tmp_path / "out.sgy")
    with made.reader() as reader:
        assert np.array_equal(reader.slices(0, 0, 30), expected)
    assert len(np.unique(expected)) > 2
    with (
        segyio.open(tmp_path / "in.sgy", endian=endian) as before,
        segyio.open(tmp_path / "out.sgy", endian=endian) as after,
    ):
        assert bytes(after.text[0]) == bytes(before.text[0])
        assert dict(after.bin) == dict(before.bin)
        assert all(dict(after.header[k]) == dict(before.header[k]) for k in range(0, 960, 97))
        assert np.array_equal(after.iline[105], expected[5])


@needs_shared
def test_a_real_survey(tmp_path):
    model = classifier(bands=1, size=12)
    map_volume(model, DATA / "segy" / "f3.sgy", 0, tmp_path / "f3.sgy")
    map_volume(model, DATA / "segy" / "f3.sgy", 0, tmp_path / "f3.npy")
    made = open_volume(tmp_path / "f3.sgy")
    with made.reader() as reader:
        assert np.array_equal(reader.slices(0, 0, 23), np.load(tmp_path / "f3.npy"))


def test_an_interrupted_cube_resumes_at_the_next_slice(tmp_path, volume, monkeypatch):
    model, seen, classify = dense(bands=1), [], Job.classify

    def stop(job, window, pixels):
        if len(seen) == 7:
            raise KeyboardInterrupt
        seen.append(window.index)
        return classify(job, window, pixels)

    monkeypatch.setattr(engine, "threads_for", lambda _: 1)
    with monkeypatch.context() as patch:
        patch.setattr(Job, "classify", stop)
        with pytest.raises(KeyboardInterrupt):
            map_volume(model, volume, 1, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()
    map_volume(model, volume, 1, tmp_path / "a.zarr", resume=True)
    map_volume(model, volume, 1, tmp_path / "b.npy")
    assert np.array_equal(
        zarr.open_array(tmp_path / "a.zarr", mode="r")[:], np.load(tmp_path / "b.npy")
    )
    assert not list(tmp_path.glob(".*"))


def test_a_cluster_writes_the_same_cube(forked_workers, tmp_path, volume):
    model = dense(bands=1)
    map_volume(model, volume, 2, tmp_path / "a.npy")
    map_volume(model, volume, 2, tmp_path / "b.npy", scheduler="local[2]")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_turned_slices_keep_the_order_of_samples(tmp_path, volume):
    model = dense(bands=1)
    map_volume(model, volume, 0, tmp_path / "a.npy", tta=True)
    slice_ = np.load(volume)[9][None]
    rows, columns = np.indices(slice_.shape[1:]).reshape(2, -1)
    likely = patch_by_patch(model, slice_, rows, columns, ("up-down",))
    assert np.array_equal(np.load(tmp_path / "a.npy")[9].ravel(), likely.argmax(axis=1) + 1)


@pytest.mark.parametrize(
    ("axis", "output", "message"),
    [
        (3, "a.zarr", "has no axis 3"),
        (0, "a.tif", r"a.tif: its ending sets no format; use \.zarr, \.sgy, \.segy, \.npy"),
        (0, "a.sgy", "needs the geometry of a SEG-Y file"),
        (0, "cube.npy", "cube.npy: exists already"),
        (0, "no/a.zarr", "does not exist; make it first"),
    ],
)
def test_wrong_arguments_raise_an_error(tmp_path, volume, axis, output, message):
    before = set(tmp_path.iterdir())
    with pytest.raises(OutcropError, match=message):
        map_volume(dense(bands=1), volume, axis, tmp_path / output)
    assert set(tmp_path.iterdir()) == before


def test_a_model_of_scenes_is_refused(tmp_path, volume):
    with pytest.raises(OutcropError, match=r"has 1 bands, but the model was trained on 2"):
        map_volume(dense(), volume, 0, tmp_path / "a.zarr")
