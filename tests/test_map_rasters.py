import tracemalloc

import numpy as np
import pytest
import rasterio
from affine import Affine

from outcrop.accuracy.assess import assess
from outcrop.errors import OutcropError
from outcrop.mapping.openmap import map_classes, open_map, open_raster
from outcrop.mapping.scene import MappedScene
from tests.rasters import GRID, tagged, write_raster


def test_classes_are_matched_by_name_and_not_by_value(tmp_path):
    mapped = tagged(tmp_path / "map.tif", [[1, 1, 2], [2, 2, 0]], ["rice", "water"])
    truth = tagged(tmp_path / "truth.tif", [[2, 1, 1], [1, 0, 1]], ["water", "rice"])
    found = assess(mapped, truth)
    assert found.classes == ("rice", "water")
    assert found.counts.tolist() == [[1, 1], [0, 2]]
    assert found.left_out == {"where the map has no data": 1}


def test_a_class_only_in_the_truth_is_always_wrong(tmp_path):
    mapped = tagged(tmp_path / "map.tif", [[1, 2]], ["rice", "water"])
    truth = tagged(tmp_path / "truth.tif", [[1, 3]], ["rice", "water", "cloud"])
    found = assess(mapped, truth)
    assert found.classes == ("rice", "water", "cloud")
    assert found.counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert found.accuracy.overall.value == 0.5


def test_pixels_of_each_class_are_counted_window_by_window(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 4, (70, 50))
    monkeypatch.setattr("outcrop.sources.class_raster._WINDOW", 16)
    mapped = tagged(tmp_path / "map.tif", values, ["a", "b", "c"])
    assert open_map(mapped).counts.tolist() == [(values == k).sum() for k in (1, 2, 3)]


def test_memory_does_not_grow_with_the_map(tmp_path):
    for name in ("map.tif", "truth.tif"):
        options = {"width": 6000, "height": 6000, "count": 1, "dtype": "uint8", "nodata": 0}
        options |= {"tiled": True, "sparse_ok": True, "crs": "EPSG:32648", "transform": GRID}
        with rasterio.open(tmp_path / name, "w", driver="GTiff", **options) as dataset:
            dataset.update_tags(1, CLASS_1="a", CLASS_2="b")
            dataset.write(np.ones((1, 8, 8), np.uint8), window=((0, 8), (0, 8)))
    tracemalloc.start()
    found = assess(tmp_path / "map.tif", tmp_path / "truth.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.counts.sum() == 64
    assert peak < 20e6


def test_errors(tmp_path):
    plain = write_raster(tmp_path / "plain.tif", np.array([[1, 2]], np.uint8))
    with pytest.raises(OutcropError, match="is not a class map"):
        map_classes(plain)
    (tmp_path / "text.tif").write_text("no raster")
    for name, words in (("nothing.tif", "no such file"), ("text.tif", "not a raster")):
        with pytest.raises(OutcropError, match=words), open_raster(tmp_path / name):
            pass


def test_a_rotated_map_as_dataarray_keeps_its_transform(tmp_path):
    turned = Affine(8, 6, 600_000, 6, -8, 1_200_000)
    path = tagged(tmp_path / "map.tif", [[1, 2], [2, 1]], ["a", "b"], transform=turned)
    array = MappedScene({"classes": path}, ("a", "b")).to_xarray()
    assert "x" not in array.coords  # One coordinate per column cannot describe a rotated grid.
    stored = array["spatial_ref"].attrs["GeoTransform"]
    assert Affine.from_gdal(*map(float, stored.split())) == turned
    straight = tagged(tmp_path / "straight.tif", [[1, 2], [2, 1]], ["a", "b"])
    array = MappedScene({"classes": straight}, ("a", "b")).to_xarray()
    assert array["x"].values.tolist() == [600_005, 600_015]
    stored = array["spatial_ref"].attrs["GeoTransform"]
    assert Affine.from_gdal(*map(float, stored.split())) == GRID
