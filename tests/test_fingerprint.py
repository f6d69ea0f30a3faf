from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.patches import patchset
from outcrop.patches.patchset import Column, PatchSet, read_patches
from outcrop.patches.positions import Positions, Source, scene_positions, volume_positions
from outcrop.splits import BlockSplit, RandomSplit, read_split
from tests.patches import IDENTITY, UTM

DTYPES = ("uint8", "int16", "uint16", "float32")


@st.composite
def sets(draw):
    """Patch sets of scenes, of volumes and of neither, in any dtype."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, bands = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    images = rng.integers(0, 200, (n, bands, *size)).astype(draw(st.sampled_from(DTYPES)))
    where = draw(st.sampled_from(["scenes", "volume", "nowhere"]))
    at, sources, row, column = None, (), rng.integers(0, 9, n), rng.integers(0, 9, n)
    if where == "scenes":
        sources = tuple(Source(f"{name}.tif", (10, 10), UTM, IDENTITY) for name in "st")
        x, y = rng.normal(size=(2, n))
        at = scene_positions(rng.integers(0, 2, n), row, column, x, y, 4.0, 4.0, row)
    elif where == "volume":
        sources = (Source("cube.npy", (10, 10, 10)),)
        at = volume_positions(0, rng.integers(0, 3, n), rng.integers(0, 9, n), row, column, size)
    return PatchSet(
        images=images,
        labels=rng.integers(0, 2, n),
        classes=("sand", "clay"),
        bands=tuple(f"B{number}" for number in range(bands)),
        positions=at,
        sources=sources,
        crs=UTM if where == "scenes" else None,
        columns={"year": Column(rng.integers(0, 2, n), ("2019", "2020"))},
        dropped={"edge": 3},
    )


def changed(values, number):
    values = np.array(values)
    values.reshape(-1)[number % values.size] += 1
    return values


def others(patches, number):
    """The set with one thing changed, by the name of what has changed."""
    yield "pixel", replace(patches, images=changed(patches.images, number))
    yield "dtype", replace(patches, images=patches.images.astype("int32"))
    if patches.size[0] != patches.size[1]:
        yield "shape", replace(patches, images=patches.images.swapaxes(2, 3))
    yield "label", replace(patches, labels=np.where(patches.labels == 0, 1, 0))
    yield "class", replace(patches, classes=("sand", "silt"))
    yield "band", replace(patches, bands=(*patches.bands[:-1], "B9"))
    yield "crs", replace(patches, crs="EPSG:32633")
    codes, names = patches.columns["year"].codes, patches.columns["year"].names
    yield "column", replace(patches, columns={"year": Column(1 - codes, names)})
    yield "column's value", replace(patches, columns={"year": Column(codes, ("2019", "2021"))})
    yield "column's name", replace(patches, columns={"jahr": Column(codes, names)})
    yield "no column", replace(patches, columns={})
    if patches.sources:
        first, *rest = patches.sources
        shape = (*first.shape[:-1], 11)
        yield "grid", replace(patches, sources=(replace(first, shape=shape), *rest))
    if patches.positions is not None:
        yield "no place", replace(patches, positions=None)
        for item in fields(Positions):
            values = changed(getattr(patches.positions, item.name), number)
            if item.name != "polygon":
                at = replace(patches.positions, **{item.name: values})
                yield item.name, replace(patches, positions=at)
        if len(np.unique(patches.positions.polygon)) > 1:
            at = replace(patches.positions, polygon=np.zeros(len(patches), int))
            yield "polygon", replace(patches, positions=at)


@given(patches=sets(), number=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_it_changes_with_any_content(patches, number):
    for what, other in others(patches, number):
        assert other.fingerprint != patches.fingerprint, what


@given(patches=sets(), chunk=st.sampled_from([1, 40, 1 << 20]), data=st.data())
@settings(max_examples=30, deadline=None)
def test_it_is_the_same_in_memory_on_disk_and_in_another_folder(
    tmp_path_factory, patches, chunk, data
):
    folder = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patchset, "_CHUNK_BYTES", chunk)
        patches.save(folder / "one.zarr")
    once = read_patches(folder / "one.zarr")
    once.save(folder / "two.zarr")
    (folder / "moved").mkdir()
    shutil.move(folder / "two.zarr", folder / "moved" / "two.zarr")
    shutil.copytree(folder / "one.zarr", folder / "copy.zarr", copy_function=shutil.copyfile)
    moved = tuple(replace(s, name=f"elsewhere/{s.name}") for s in patches.sources)
    same = [
        once,
        read_patches(folder / "moved" / "two.zarr"),
        read_patches(folder / "copy.zarr"),
        once.subset(np.arange(len(once))),
        replace(
            patches, sources=moved, dropped={}, columns=dict(reversed(patches.columns.items()))
        ),
        replace(patches, images=np.asfortranarray(patches.images)),
        replace(patches, images=patches.images.astype(patches.images.dtype.newbyteorder(">"))),
        replace(patches, labels=patches.labels.astype(np.int16)),
    ]
    if patches.positions is not None:
        at = patches.positions
        renumbered = replace(at, polygon=1000 - at.polygon, row=at.row.astype(np.int64))
        same.append(replace(patches, positions=renumbered))
    assert {one.fingerprint for one in same} == {patches.fingerprint}
    some = data.draw(st.lists(st.integers(0, len(patches) - 1), unique=True, min_size=1))
    assert once.subset(some).fingerprint == patches.subset(some).fingerprint


def spread(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 4_000, (2, n))
    at = scene_positions(0, np.arange(n), np.arange(n), x, y, 40.0, 40.0, np.arange(n))
    return PatchSet(
        images=rng.integers(0, 99, (n, 1, 3, 3)).astype(np.uint8),
        labels=np.arange(n) % 2,
        classes=("a", "b"),
        bands=("grey",),
        positions=at,
        sources=(Source("scene.tif", (99, 99), UTM, IDENTITY),),
        crs=UTM,
    )


@pytest.mark.parametrize("splitter", [BlockSplit(block=900), RandomSplit()])
def test_a_split_does_not_fit_another_set_of_the_same_shape(splitter):
    patches, other = spread(), replace(spread(), images=spread(seed=1).images)
    split = splitter.assign(patches)
    split.check(patches)
    with pytest.raises(OutcropError, match=r"another patch set.*`outcrop.splits`"):
        split.check(other)


def test_it_changes_with_pixels_on_disk_and_in_memory(tmp_path):
    patches = spread()
    patches.save(tmp_path / "set.zarr")
    opened = read_patches(tmp_path / "set.zarr")
    split = RandomSplit().assign(opened)
    pixels = zarr.open_group(tmp_path / "set.zarr", mode="r+")["images"]
    pixels[7] = 100
    assert opened.fingerprint == read_patches(tmp_path / "set.zarr").fingerprint
    with pytest.raises(OutcropError, match="another patch set"):
        split.check(opened)
    split.check(patches)
    patches.images[7] = 100
    assert patches.fingerprint == opened.fingerprint


def test_an_unchanged_set_on_disk_is_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(patchset, "_CHUNK_BYTES", 30)
    spread().save(tmp_path / "set.zarr")
    opened = read_patches(tmp_path / "set.zarr")
    wanted = spread().fingerprint
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda *_: pytest.fail("read"))
    assert opened.fingerprint == wanted


def test_a_damaged_chunk_raises_a_one_line_error(tmp_path):
    spread().save(tmp_path / "set.zarr")
    chunk = tmp_path / "set.zarr" / "images" / "c" / "0" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(OutcropError, match=r"set\.zarr: has images that cannot be read"):
        read_patches(tmp_path / "set.zarr").fingerprint  # noqa: B018


def test_the_error_about_an_older_split_has_a_remedy(tmp_path):
    patches = spread()
    RandomSplit().assign(patches).save(tmp_path / "split.json")
    assert read_split(tmp_path / "split.json", patches).fingerprint == patches.fingerprint
    content = json.loads((tmp_path / "split.json").read_text())
    del content["version"], content["checksum"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    with pytest.raises(OutcropError, match=r"old\.json: .*another version.*`outcrop.splits`"):
        read_split(tmp_path / "old.json", patches)
    assert len(read_split(tmp_path / "old.json").sides) == len(patches)
