from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from outcrop.errors import OutcropError
from outcrop.sources.opening import open_scene, open_scenes
from tests.rasters import UTM, ramp, write_raster
from tests.shared import DATA, needs_shared

LANDSAT = [DATA / "nc_landsat" / f"lsat7_2000_{band}.tif" for band in (10, 20, 30, 40, 50, 70)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return open_scene(write_raster(tmp_path_factory.mktemp("scene") / "a.tif", ramp()))


@given(
    row=st.integers(-20, 39),
    column=st.integers(-20, 49),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_windows_beyond_the_edge_are_mirrored_as_in_numpy(scene, row, column, height, width):
    padded = np.pad(ramp(), ((0, 0), (20, 20), (20, 20)), mode="reflect")
    with scene.reader() as reader:
        window = reader.read(row, column, height, width)
    expected = padded[:, row + 20 : row + 20 + height, column + 20 : column + 20 + width]
    assert window.dtype == np.uint16
    assert np.array_equal(window, expected)


def test_nodata_nan_and_infinity_become_nan(tmp_path):
    pixels = ramp(dtype="float32")
    pixels[0, 1, 2], pixels[1, 3, 4], pixels[0, 5, 6] = -9, np.nan, np.inf
    scene = open_scene(write_raster(tmp_path / "a.tif", pixels, nodata=-9))
    with scene.reader() as reader:
        window = reader.read(0, 0, 40, 50)
    gaps = np.zeros(pixels.shape, bool)
    gaps[0, 1, 2] = gaps[1, 3, 4] = gaps[0, 5, 6] = True
    assert np.array_equal(np.isnan(window), gaps)
    assert np.array_equal(window[~gaps], pixels[~gaps])


def test_integers_with_nodata_are_read_as_float_and_others_unchanged(tmp_path):
    scene = open_scene(write_raster(tmp_path / "a.tif", ramp(), nodata=1))
    with scene.reader() as reader:
        assert reader.read(1, 0, 5, 5).dtype == np.uint16
        assert np.isnan(reader.read(0, 0, 5, 5)[0, 0, 0])


def test_an_alpha_band_is_a_mask(tmp_path):
    pixels = ramp(bands=4, dtype="uint8")
    pixels[3] = 255
    pixels[3, 0, 0] = 0
    path = write_raster(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES")
    import rasterio

    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha
    scene = open_scene(path)
    assert len(scene.bands) == 3
    with scene.reader() as reader:
        assert np.isnan(reader.read(0, 0, 2, 2)[:, 0, 0]).all()


def test_xy_and_row_column_are_inverse_on_a_rotated_grid(tmp_path):
    transform = Affine(8, 3, 600_000, 2, -9, 1_200_000)
    scene = open_scene(write_raster(tmp_path / "a.tif", ramp(), transform=transform))
    row, column = np.array([0, 7, 39]), np.array([0, 30, 49])
    x, y = scene.xy(row, column)
    assert (x[1], y[1]) == transform @ (30.5, 7.5)
    assert [i.tolist() for i in scene.row_column(x, y)] == [row.tolist(), column.tolist()]


def test_a_scene_in_degrees_has_a_metric_crs(tmp_path):
    transform = Affine(1e-4, 0, 105.5, 0, -1e-4, 10.2)
    path = write_raster(tmp_path / "a.tif", ramp(), crs="EPSG:4326", transform=transform)
    from pyproj import CRS

    assert CRS.from_wkt(open_scene(path).metric_crs).to_epsg() == 32648


def test_files_are_grouped_into_scenes(tmp_path):
    one = [write_raster(tmp_path / f"b{i}.tif", ramp(1)) for i in range(2)]
    far = Affine(10, 0, 700_000, 0, -10, 1_200_000)
    two = [write_raster(tmp_path / f"far_B{i}.tif", ramp(1), transform=far) for i in range(2)]
    whole = write_raster(tmp_path / "d.tif", ramp(2))
    scenes = open_scenes([one[0], two[0], whole, one[1], two[1]])
    assert [len(scene.files) for scene in scenes] == [2, 2, 1]
    for joined in ([one], [one[0], "+", one[1]]):
        (scene,) = open_scenes(joined)
        assert scene.band_names == ("B0", "B1")


@needs_shared
def test_landsat_bands_of_two_dtypes_are_one_scene():
    (scene,) = open_scenes(LANDSAT)
    assert (scene.height, scene.width, len(scene.bands)) == (443, 489, 6)
    with scene.reader() as reader:
        pixels = reader.read(0, 0, scene.height, scene.width)
    assert pixels.dtype == np.float32
    assert np.isnan(pixels).any(axis=0).sum() == 81_535
    assert np.nanmin(pixels) >= 1


def test_bands_are_selected_in_any_order(tmp_path):
    path = write_raster(tmp_path / "a.tif", ramp(3))
    with open_scene(path, bands=[3, 1]).reader() as reader:
        assert np.array_equal(reader.read(0, 0, 40, 50), ramp(3)[[2, 0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crs": None}, "no coordinate reference system; write one"),
        ({"bands": [5]}, "has no band 5; pass a number from 1 to 2"),
        ({"name": "none.tif"}, "no such file"),
        ({"content": b"hello"}, "not a raster"),
        ({"crs": None, "given": "EPSG:nonsense"}, "is not a coordinate reference system"),
    ],
)
def test_bad_files_raise_an_error(tmp_path, change, message):
    path = write_raster(tmp_path / "a.tif", ramp(), crs=change.get("crs", UTM))
    if "content" in change:
        path.write_bytes(change["content"])
    with pytest.raises(OutcropError, match=message):
        open_scene(tmp_path / change.get("name", "a.tif"), change.get("bands"), change.get("given"))


def test_a_truncated_file_raises_an_error_with_its_rows(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 9999, (2, 400, 400)).astype("uint16")
    path = write_raster(tmp_path / "a.tif", pixels)
    path.write_bytes(path.read_bytes()[:200_000])
    with (
        pytest.raises(OutcropError, match="rows 390 to 399; the file is truncated"),
        open_scene(path).reader() as reader,
    ):
        reader.read(390, 0, 10, 10)


def test_different_extents_are_not_one_scene(tmp_path):
    a = write_raster(tmp_path / "a.tif", ramp(1))
    far = Affine(10, 0, 700_000, 0, -10, 1_200_000)
    b = write_raster(tmp_path / "b.tif", ramp(1, height=41), transform=far)
    with pytest.raises(OutcropError, match=r"does not overlap a.tif .41 × 50 .*against 40 × 50"):
        open_scene([a, b])
    c = write_raster(tmp_path / "c.tif", ramp(3))
    with pytest.raises(OutcropError, match=r"has 3 bands .* where .* has 1 band .*; choose common"):
        open_scenes([a, c])
