"""A model that was trained with a quality mask maps scenes with and without one."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from tests.command_line import run
from tests.rasters import write_raster

SIZE = 48


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mask")
    rng = np.random.default_rng(0)
    classes = np.repeat([[1, 2]], SIZE, 0).repeat(SIZE // 2, 1).astype("uint8")
    pixels = rng.normal(100.0 * classes, 10, (2, SIZE, SIZE)).astype("float32")
    mask = np.zeros((SIZE, SIZE), "uint8")
    mask[:10] = 3
    write_raster(folder / "scene.tif", pixels)
    write_raster(folder / "labels.tif", classes[None])
    write_raster(folder / "mask.tif", mask[None])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cut = "patches scene.tif --labels labels.tif --size 5 --per-class 60 --mask mask.tif"
        assert run(f"{cut} --mask-values 3 -o p.zarr") == 0
        assert run("split p.zarr --by random -o s.json") == 0
        assert run("train p.zarr --split s.json --classical random-forest -o run") == 0
        yield folder


@pytest.mark.parametrize(
    ("words", "masked", "note"),
    [
        ("", False, True),
        ("--mask none", False, False),
        ("--mask mask.tif", True, False),
        ("--mask mask.tif --mask-bits 0", True, False),
    ],
)
def test_the_mask_of_the_map_is_the_one_that_is_passed(
    here, monkeypatch, capfd, words, masked, note
):
    monkeypatch.chdir(here)
    assert run(f"map run scene.tif -o map.tif --overwrite {words}") == 0
    assert ("has no quality mask, but the training" in capfd.readouterr().err) == note
    with rasterio.open("map.tif") as dataset:
        classes = dataset.read(1)
    assert (classes[:10] == 0).all() == masked
    assert (classes[10:] > 0).all()
