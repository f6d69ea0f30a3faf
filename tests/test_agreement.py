import tracemalloc

import numpy as np
import pytest
import rasterio
from affine import Affine

from outcrop.errors import OutcropError
from outcrop.mapping.agreement import agreement, count_classes, map_classes, pixel_hectares
from tests.rasters import GRID, tagged, write_raster


def test_classes_are_matched_by_name_and_not_by_value(tmp_path):
    mapped = tagged(tmp_path / "map.tif", [[1, 1, 2], [2, 2, 0]], ["rice", "water"])
    truth = tagged(tmp_path / "truth.tif", [[2, 1, 1], [1, 0, 1]], ["water", "rice"])
    found = agreement(mapped, truth)
    assert found.classes == ("rice", "water")
    assert found.confusion.tolist() == [[1, 0], [1, 2]]
    assert (found.pixels, found.unmapped, found.overall) == (4, 1, 0.75)
    np.testing.assert_allclose(found.producers, [1, 2 / 3])
    np.testing.assert_allclose(found.users, [0.5, 1])
    assert found.values == {1: 1, 2: 0}


def test_a_class_of_the_truth_that_the_map_does_not_know_is_always_wrong(tmp_path):
    mapped = tagged(tmp_path / "map.tif", [[1, 2]], ["rice", "water"])
    truth = tagged(tmp_path / "truth.tif", [[1, 3]], ["rice", "water", "cloud"])
    found = agreement(mapped, truth)
    assert found.classes == ("rice", "water", "cloud")
    assert found.overall == 0.5
    assert np.isnan(found.producers[1])
    assert np.isnan(found.users[2])


def test_truth_on_another_grid_and_partly_beside_the_map(tmp_path):
    mapped = tagged(tmp_path / "map.tif", np.ones((4, 4)), ["rice", "water"])
    finer = GRID @ Affine.translation(2, 0) @ Affine.scale(0.5)
    truth = tagged(tmp_path / "truth.tif", np.full((8, 8), 2), ["water", "rice"], transform=finer)
    assert agreement(mapped, truth).confusion.tolist() == [[8, 0], [0, 0]]


def test_windows_give_what_the_whole_gives(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    a, b = random.integers(0, 4, (2, 70, 50))
    names = ["a", "b", "c"]
    mapped, truth = tagged(tmp_path / "map.tif", a, names), tagged(tmp_path / "t.tif", b, names)
    monkeypatch.setattr("outcrop.mapping.agreement._WINDOW", 16)
    both = (a > 0) & (b > 0)
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (b[both] - 1, a[both] - 1), 1)
    np.testing.assert_array_equal(agreement(mapped, truth).confusion, expected)
    assert count_classes(mapped).tolist() == [(a == k).sum() for k in (1, 2, 3)]


def test_memory_does_not_grow_with_the_map(tmp_path):
    for name in ("map.tif", "truth.tif"):
        options = {"width": 6000, "height": 6000, "count": 1, "dtype": "uint8", "nodata": 0}
        options |= {"tiled": True, "sparse_ok": True, "crs": "EPSG:32648", "transform": GRID}
        with rasterio.open(tmp_path / name, "w", driver="GTiff", **options) as dataset:
            dataset.update_tags(1, CLASS_1="a", CLASS_2="b")
            dataset.write(np.ones((1, 8, 8), np.uint8), window=((0, 8), (0, 8)))
    tracemalloc.start()
    found = agreement(tmp_path / "map.tif", tmp_path / "truth.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.pixels == 64
    assert peak < 16e6


def test_area_of_a_pixel(tmp_path):
    metres = write_raster(tmp_path / "m.tif", np.ones((2, 2), np.uint8))
    feet = write_raster(tmp_path / "f.tif", np.ones((2, 2), np.uint8), crs="EPSG:2264")
    degrees = write_raster(tmp_path / "d.tif", np.ones((2, 2), np.uint8), crs="EPSG:4326")
    assert pixel_hectares(metres) == pytest.approx(0.01)
    assert pixel_hectares(feet) == pytest.approx(0.01 * 0.3048006096**2)
    assert np.isnan(pixel_hectares(degrees))


def test_errors(tmp_path):
    mapped = tagged(tmp_path / "map.tif", [[1, 2]], ["rice", "water"])
    plain = write_raster(tmp_path / "plain.tif", np.array([[1, 2]], np.uint8))
    with pytest.raises(OutcropError, match=r"names no class of the map.*CLASS_1"):
        agreement(mapped, plain)
    with pytest.raises(OutcropError, match="no class map"):
        map_classes(plain)
    with pytest.raises(OutcropError, match="no such file"):
        agreement(mapped, tmp_path / "nothing.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(OutcropError, match="not a raster"):
        agreement(mapped, tmp_path / "text.tif")
    fractions = write_raster(tmp_path / "fractions.tif", np.array([[0.5, 1.5]], np.float32))
    with pytest.raises(OutcropError, match="whole numbers"):
        agreement(mapped, fractions)
