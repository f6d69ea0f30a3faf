"""Scenes on one grid become one map; scenes on other grids raise an error."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.mapping.polygons import write_polygons
from outcrop.mapping.scene import map_scene
from outcrop.sources.grids import same_grid
from outcrop.sources.mosaic import Mosaic, mosaic_scenes
from outcrop.sources.opening import open_scene
from tests.rasters import GRID, write_raster
from tests.test_mapping import CLASSES, dense, noise, read


def piece(path, pixels, row, column, **options):
    return write_raster(
        path, pixels, nodata=0, transform=GRID @ Affine.translation(column, row), **options
    )


@pytest.fixture
def parts(tmp_path):
    """A scene of 37 × 53 pixels in four overlapping files."""
    whole, made = noise(), []
    for k, (rows, columns) in enumerate(
        (((0, 20), (0, 30)), ((0, 20), (25, 53)), ((18, 37), (0, 30)), ((18, 37), (25, 53)))
    ):
        part = whole[:, slice(*rows), slice(*columns)]
        made.append(piece(tmp_path / f"{k}.tif", part, rows[0], columns[0]))
    return made


def test_a_mosaic_has_the_map_of_the_undivided_scene(tmp_path, parts):
    whole = write_raster(tmp_path / "whole.tif", noise(), nodata=0)
    mosaic = mosaic_scenes([open_scene(path) for path in reversed(parts)])
    assert isinstance(mosaic, Mosaic)
    assert same_grid(mosaic, open_scene(whole))
    assert mosaic.files == tuple(map(str, reversed(parts)))
    map_scene(dense(), whole, tmp_path / "a.tif", tmp_path / "a-sure.tif")
    map_scene(dense(), mosaic, tmp_path / "b.tif", tmp_path / "b-sure.tif")
    assert np.array_equal(read(tmp_path / "a.tif"), read(tmp_path / "b.tif"))
    assert np.array_equal(read(tmp_path / "a-sure.tif"), read(tmp_path / "b-sure.tif"))


@settings(max_examples=30, deadline=None)
@given(
    corners=st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=1, max_size=4),
    window=st.tuples(
        st.integers(-9, 30), st.integers(-9, 30), st.integers(1, 9), st.integers(1, 9)
    ),
)
def test_the_first_scene_with_data_is_on_top(tmp_path_factory, corners, window):
    folder = tmp_path_factory.mktemp("mosaic")
    rng = np.random.default_rng(0)
    scenes, top = [], (min(r for r, _ in corners), min(c for _, c in corners))
    expected = np.full((2, 60, 60), np.nan, np.float32)
    free_of_all = np.ones((60, 60), bool)
    for k, (row, column) in enumerate(corners):
        pixels = rng.integers(0, 4, (2, 12, 10)).astype("uint8")
        scenes.append(open_scene(piece(folder / f"{k}.tif", pixels, row, column)))
        values = np.where(pixels > 0, pixels, np.nan).astype("float32")
        for place in np.ndindex(12, 10):
            at = row - top[0] + place[0], column - top[1] + place[1]
            mine = values[:, *place]
            whole = free_of_all[at] and np.isfinite(mine).all()
            if whole or (np.isnan(expected[:, *at]).all() and np.isfinite(mine).any()):
                expected[:, *at] = mine
            free_of_all[at] &= not whole
    laid = mosaic_scenes(scenes)
    expected = expected[:, : laid.height, : laid.width]
    row, column, height, width = window
    if len(corners) == 1:
        return
    around = np.pad(expected, ((0, 0), (60, 60), (60, 60)), mode="reflect")
    with laid.reader() as reader:
        found = reader.read(row, column, height, width)
    assert np.array_equal(
        found,
        around[:, row + 60 : row + 60 + height, column + 60 : column + 60 + width],
        equal_nan=True,
    )
    x, y = laid.xy(np.array([0]), np.array([0]))
    assert scenes[0].row_column(x, y)[0][0] + corners[0][0] == top[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"crs": "EPSG:32649"},
            r"b.tif: is in .* zone 49N, .*a.tif is in .* 48N; reproject",
        ),
        (
            {"transform": GRID @ Affine.scale(2)},
            r"b.tif: has pixels of 20 × 20, .*a.tif has pixels of 10 × 10",
        ),
        (
            {"transform": GRID @ Affine.translation(0.5, 0.25)},
            r"b.tif: is shifted by 0.25 rows and 0.50 columns against the pixels of .*a.tif",
        ),
    ],
)
def test_other_grids_raise_an_error(tmp_path, change, message):
    a = write_raster(tmp_path / "a.tif", noise())
    b = write_raster(tmp_path / "b.tif", noise(), **change)
    with pytest.raises(OutcropError, match=message):
        mosaic_scenes([open_scene(a), open_scene(b)])


def test_polygons_cover_every_pixel_of_their_class(tmp_path):
    path = write_raster(tmp_path / "scene.tif", noise(), nodata=0)
    map_scene(dense(), path, tmp_path / "map.tif", sieve=5)
    count = write_polygons(tmp_path / "map.tif", tmp_path / "map.gpkg")
    found = gpd.read_file(tmp_path / "map.gpkg", layer="classes")
    values = read(tmp_path / "map.tif")
    assert len(found) == count > 3
    assert found.crs == rasterio.open(path).crs
    for value, name in enumerate(CLASSES, start=1):
        mine = found[found["class"] == name]
        assert (mine["value"] == value).all()
        assert mine["pixels"].sum() == (values == value).sum()
        assert mine.area.sum() == pytest.approx(100 * (values == value).sum())
    assert found.is_valid.all()


def test_a_map_without_data_has_no_polygons(tmp_path):
    path = write_raster(tmp_path / "scene.tif", np.zeros((2, 30, 30), "uint8"), nodata=0)
    map_scene(dense(), path, tmp_path / "map.tif")
    assert write_polygons(tmp_path / "map.tif", tmp_path / "map.gpkg") == 0
    assert len(gpd.read_file(tmp_path / "map.gpkg", layer="classes")) == 0


def test_polygons_of_other_rasters_raise_an_error(tmp_path):
    path = write_raster(tmp_path / "scene.tif", noise())
    with pytest.raises(OutcropError, match="is not a class map"):
        write_polygons(path, tmp_path / "map.gpkg")
    assert not (tmp_path / "map.gpkg").exists()
