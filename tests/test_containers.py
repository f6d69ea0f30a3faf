"""Patch sets as xarray, GeoDataFrame and DataFrame, and on disk for xarray."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch.utils.data import DataLoader

import outcrop as oc
from outcrop.patches.patchset import Column, PatchSet, read_patches
from outcrop.patches.positions import Source, volume_positions
from outcrop.sources.collections import Collection
from tests.patches import noise, patch_set
from tests.rasters import write_raster


@pytest.fixture
def patches(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 99, (2, 40, 50), np.uint8)
    write_raster(tmp_path / "scene.tif", pixels)
    labels = np.zeros((1, 40, 50), np.uint8)
    labels[0, 10:14, 10:16], labels[0, 30:34, 30:36] = 1, 2
    write_raster(tmp_path / "labels.tif", labels)
    cut = oc.cut(tmp_path / "scene.tif", tmp_path / "labels.tif", size=5, classes=["wet", "dry"])
    regions = Column(np.arange(len(cut)) % 2, ("north", "south"))
    return replace(cut, columns={"region": regions})


def test_a_frame_has_class_columns_and_position(patches):
    frame = patches.to_frame()
    assert frame["class"].tolist() == [patches.classes[label] for label in patches.labels]
    assert frame["region"].tolist()[:3] == ["north", "south", "north"]
    assert (frame["row"] == patches.positions.row).all()
    assert {Path(name).name for name in frame["source"]} == {"scene.tif"}
    assert list(patch_set(noise(4), [0, 1, 0, 1]).to_frame()) == ["class"]


def test_a_geodataframe_has_the_extent_of_each_patch(patches):
    frame = patches.to_geodataframe()
    assert frame.crs.to_epsg() == 32648
    first = int(np.flatnonzero((patches.positions.row == 10) & (patches.positions.column == 10))[0])
    # The pixel at row 10 and column 10 begins 100 m from the corner; the patch two pixels before.
    left, bottom, right, top = frame.geometry[first].bounds
    assert (left, right) == (600_080, 600_130)
    assert (bottom, top) == (1_200_000 - 130, 1_200_000 - 80)
    assert (frame.area == 50 * 50).all()


def test_patches_without_a_map_have_no_geodataframe():
    with pytest.raises(ValueError, match="have no positions; use to_frame"):
        patch_set(noise(4), [0, 1, 0, 1]).to_geodataframe()
    at = volume_positions(0, 0, 3, np.array([5, 6]), np.array([7, 8]), 4)
    cube = replace(
        patch_set(noise(2, size=4), [0, 1]),
        positions=at,
        sources=(Source("c.npy", (9, 9, 9)),),
    )
    with pytest.raises(ValueError, match="come from volumes"):
        cube.to_geodataframe()
    assert cube.to_frame()["index"].tolist() == [3, 3]


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_dataset_has_images_bands_and_positions(patches, tmp_path, on_disk):
    if on_disk:
        patches.save(tmp_path / "p.zarr")
        patches = oc.open_patches(tmp_path / "p.zarr")
    found = patches.to_xarray()
    assert dict(found.sizes) == {"patch": len(patches), "band": 2, "y": 5, "x": 5}
    assert np.array_equal(found["images"], np.asarray(patches))
    wet = found.where(found["class"] == "wet", drop=True)
    assert wet.sizes["patch"] == patches.counts[0]
    assert (found["centre_x"] == patches.positions.x).all()
    assert found.sel(band=patches.bands[1])["images"].shape == (len(patches), 5, 5)


def test_xarray_opens_a_patch_set(patches, tmp_path):
    patches.save(tmp_path / "p.zarr")
    opened = xr.open_zarr(tmp_path / "p.zarr", consolidated=False, chunks=None)
    assert opened["images"].dims == ("patch", "band", "y", "x")
    assert opened["labels"].dims == ("patch",)
    assert np.array_equal(opened["images"][3:5], np.asarray(patches)[3:5])
    places = xr.open_zarr(tmp_path / "p.zarr", group="positions", consolidated=False, chunks=None)
    assert (places["row"] == patches.positions.row).all()


def test_patches_are_indexed_sliced_and_batched():
    images = noise(10)
    patches: PatchSet = patch_set(images, np.arange(10) % 2)
    assert len(patches[2:5]) == 3
    assert np.array_equal(np.asarray(patches[[4, 1]]), images[[4, 1]])
    for chosen in (None, np.array([7, 2, 9])):
        index = np.arange(10) if chosen is None else chosen
        loader = DataLoader(patches.to_dataset(chosen), 4)
        found, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
        assert found.dtype == torch.float32
        assert np.array_equal(found, images[index])
        assert np.array_equal(labels, patches.labels[index])


def test_a_dataset_on_disk_can_be_sent_to_worker_processes(tmp_path):
    patch_set(noise(10), np.arange(10) % 2).save(tmp_path / "p.zarr")
    dataset = pickle.loads(pickle.dumps(read_patches(tmp_path / "p.zarr").to_dataset()))
    images = torch.cat([images for images, _ in DataLoader(dataset, 4)])
    assert np.array_equal(images, noise(10))


def test_a_collection_is_a_dataset():
    images = np.arange(5 * 3 * 4 * 4, dtype=np.uint16).reshape(5, 3, 4, 4)
    collection = Collection(images, np.arange(5) % 2, ("a", "b"), ("red", "green", "blue"))
    found, labels = (torch.cat(parts) for parts in zip(*DataLoader(collection, 2), strict=True))
    assert np.array_equal(found, images.astype(np.float32))
    assert labels.tolist() == [0, 1, 0, 1, 0]
