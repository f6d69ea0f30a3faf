"""Scenes and labels in memory, from a DataArray and polygons to a map as DataArray."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import xarray as xr
from pyproj import CRS
from shapely import box

import outcrop as oc
from outcrop.errors import OutcropError
from tests.rasters import GRID, UTM, write_raster

HEIGHT, WIDTH = 40, 60


def pixels(seed: int = 0) -> np.ndarray:
    """Two bands whose level differs between the west and the east half."""
    values = np.random.default_rng(seed).normal(100, 5, (2, HEIGHT, WIDTH))
    values[:, :, WIDTH // 2 :] += np.array([60, -60])[:, None, None]
    return values.astype(np.float32)


def dataarray(values, **attributes) -> xr.DataArray:
    a, _, left, _, e, top = list(GRID)[:6]
    import pyproj

    return xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={
            "band": ["red", "nir"][: len(values)],
            "y": top + e * (np.arange(values.shape[1]) + 0.5),
            "x": left + a * (np.arange(values.shape[2]) + 0.5),
            "spatial_ref": ((), 0, {"crs_wkt": pyproj.CRS(UTM).to_wkt()}),
        },
        attrs=attributes,
    )


def polygons() -> gpd.GeoDataFrame:
    left, top = GRID.c, GRID.f
    west = [box(left + 20 + 90 * k, top - 380, left + 80 + 90 * k, top - 20) for k in range(3)]
    east = [box(left + 320 + 90 * k, top - 380, left + 380 + 90 * k, top - 20) for k in range(3)]
    return gpd.GeoDataFrame({"crop": ["rice"] * 3 + ["maize"] * 3}, geometry=west + east, crs=UTM)


@pytest.mark.parametrize("flipped", [False, True])
def test_a_dataarray_equals_the_scene_of_a_file_with_the_same_pixels(tmp_path, flipped):
    file = oc.open_scene(write_raster(tmp_path / "scene.tif", pixels(), nodata=-1))
    array = dataarray(pixels(), _FillValue=-1)
    scene = oc.open_scene(array.isel(y=slice(None, None, -1)) if flipped else array)
    assert scene.band_names == ("red", "nir")
    assert (scene.height, scene.width) == (file.height, file.width)
    cut = [oc.cut(one, polygons(), "crop", size=5, stride=3) for one in (scene, file)]
    assert len(cut[0]) > 20
    order = [np.lexsort((one.positions.x, one.positions.y)) for one in cut]
    for name in ("x", "y"):
        one, other = (getattr(s.positions, name)[k] for s, k in zip(cut, order, strict=True))
        assert np.allclose(one, other)
    images = [np.asarray(one)[k] for one, k in zip(cut, order, strict=True)]
    assert np.array_equal(images[0][..., ::-1, :] if flipped else images[0], images[1])


def test_a_dataarray_of_stored_values_has_the_scale_and_offset_of_its_attributes(capfd):
    """As `rioxarray.open_rasterio` returns it by default, without `mask_and_scale`."""
    stored = np.arange(2 * HEIGHT * WIDTH, dtype="u2").reshape(2, HEIGHT, WIDTH)
    scene = oc.open_scene(dataarray(stored, scale_factor=0.5, add_offset=-3.0, _FillValue=7))
    with scene.reader() as reader:
        found = reader.read(0, 0, HEIGHT, WIDTH)
    expected = np.where(stored == 7, np.nan, stored * 0.5 - 3)
    assert "the scale and offset in its attributes" in capfd.readouterr().err
    assert found.dtype == np.float32
    assert np.array_equal(found, expected.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("name", ["elevation", ["elevation"]])
def test_a_dataarray_of_one_band_has_its_long_name(name):
    """As `rioxarray.open_rasterio` stores the description of the band."""
    assert oc.open_scene(dataarray(pixels()[:1], long_name=name).drop_vars("band")).band_names == (
        "elevation",
    )
    two = oc.open_scene(dataarray(pixels(), long_name="reflectance").drop_vars("band"))
    assert two.band_names == ("band 1", "band 2")


def test_from_a_dataarray_and_a_geodataframe_to_a_map_as_dataarray(tmp_path):
    array = dataarray(pixels())
    patches = oc.cut(array, polygons(), "crop", size=5, stride=2)
    assert patches.bands == ("red", "nir")
    split = oc.BlockSplit(block=100).assign(patches)
    run = oc.train(patches, split, tmp_path / "run", oc.MultiScaleNet(hidden=8, views=("pixel",)),
                   oc.Recipe(epochs=8))  # fmt: skip
    made = oc.map_scene(run, array, tmp_path / "map.tif", tmp_path / "confidence.tif")
    assert set(made.files) == {"classes", "confidence"}
    classes = made.to_xarray()
    assert classes.sizes == {"y": HEIGHT, "x": WIDTH}
    assert np.allclose(classes["x"], array["x"])
    assert np.allclose(classes["y"], array["y"])
    names = np.array(["", *classes.attrs["classes"]])[classes.values]
    west = names[:, : WIDTH // 2]
    assert (west == "rice").mean() > 0.95
    assert (names[:, WIDTH // 2 :] == "maize").mean() > 0.95
    # The map is a scene with a georeference again.
    again = oc.open_scene(made.to_xarray("confidence"))
    assert again.height == HEIGHT
    with pytest.raises(ValueError, match="there is no 'gone'; this map has classes, confidence"):
        made.to_xarray("gone")


def test_an_array_with_a_transform_is_a_scene():
    scene = oc.scene_from_array(pixels(), GRID, UTM, ["red", "nir"])
    patches = oc.cut(scene, polygons(), "crop", size=3, stride=4)
    assert patches.bands == ("red", "nir")
    grey = oc.scene_from_array(pixels()[0] > 100, GRID, UTM)
    assert np.dtype(grey.dtype) == np.uint8


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (dataarray(pixels()).drop_vars("spatial_ref"), "no coordinate reference system"),
        (dataarray(pixels()).drop_vars("x"), "no coordinates along x"),
        (dataarray(pixels()).isel(x=[0, 1, 2, 5, 9]), "unevenly spaced coordinates along x"),
        (dataarray(pixels()).isel(x=[3]), "a single pixel along x"),
        (dataarray(pixels()).isel(band=0, y=0), "pass band, y and x"),
        (dataarray(pixels().astype(complex)), "the dtype complex128"),
        (dataarray(pixels().astype("u1"), _FillValue=-9999), "cannot hold the nodata value"),
        (dataarray(pixels().astype("u1"), _FillValue=np.nan), "cannot hold the nodata value"),
        (
            dataarray(pixels(), scale_factor=(1, 2, 3)),
            "the attribute scale_factor = .* for 2 bands",
        ),
        (dataarray(pixels()).to_dataset(name="a"), "is an xarray Dataset; pass a DataArray"),
    ],
)
def test_invalid_scenes_in_memory_raise_a_one_line_error(array, message):
    with pytest.raises(oc.OutcropError, match=message):
        oc.cut(array, polygons(), "crop", size=5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (polygons().set_crs(None, allow_override=True), "no coordinate reference system"),
        (polygons()[:0], "are empty"),
        (polygons().assign(id=[1, "a", 2, 3, 4, 5]), "have a column that cannot be stored"),
        (polygons().geometry, "are a GeoSeries; pass a GeoDataFrame"),
        (polygons().drop(columns="geometry"), "are a DataFrame; pass a GeoDataFrame"),
    ],
)
def test_invalid_labels_in_memory_raise_a_one_line_error(labels, message):
    with pytest.raises(oc.OutcropError, match=message):
        oc.cut(dataarray(pixels()), labels, "crop", size=5)


def test_categories_are_class_names():
    frame = polygons()
    frame["crop"] = frame["crop"].astype("category")
    patches = oc.cut(dataarray(pixels()), frame, "crop", size=5, stride=4)
    assert set(patches.classes) == {"rice", "maize"}


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "i8", ">f4", "f8", "f2", "?"])
def test_arrays_of_any_real_dtype_are_scenes(kind):
    values = (pixels() / 100).astype(kind)
    patches = oc.cut(dataarray(values), polygons(), "crop", size=3, stride=5)
    at = patches.positions
    assert np.array_equal(patches.images[:, 0, 1, 1], values[0, at.row, at.column])


def test_a_dataarray_and_a_list_with_it_are_the_same_scene():
    array = dataarray(pixels())
    patches = oc.cut(array, polygons(), "crop", size=9, stride=6)
    images = np.asarray(patches)[:4]
    for sources in (array, [array], oc.open_scene(array), oc.open_scenes([array])):
        found = oc.locate(images, sources)
        assert found.row.tolist() == (patches.positions.row[:4] - 4).tolist()


def test_the_pixels_of_a_scene_are_read_as_an_array_or_a_dataarray(tmp_path):
    pixels = np.arange(2 * 6 * 9, dtype="float32").reshape(2, 6, 9)
    pixels[1, 2, 3] = -9
    transform = (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_000_000.0)
    scene = oc.scene_from_array(pixels, transform, "EPSG:32648", ["red", "nir"], nodata=-9)
    expected = np.where(pixels == -9, np.nan, pixels)
    assert np.array_equal(scene.read(), expected, equal_nan=True)
    window = (1, 3, 4, 6)
    assert np.array_equal(scene.read(window), expected[:, 1:5, 3:9], equal_nan=True)
    array = scene.to_xarray(window)
    assert array.dims == ("band", "y", "x")
    assert array.band.values.tolist() == ["red", "nir"]
    assert (float(array.x[0]), float(array.y[0])) == (500_035.0, 3_999_985.0)
    again = oc.open_scene(array)
    assert again.band_names == scene.band_names
    assert again.transform == (10.0, 0.0, 500_030.0, 0.0, -10.0, 3_999_990.0)
    assert CRS.from_wkt(again.crs) == CRS.from_wkt(scene.crs)
    assert np.array_equal(again.read(), scene.read(window), equal_nan=True)
    for outside in ((-1, 0, 2, 2), (0, 0, 7, 2), (0, 8, 1, 2), (0, 0, 0, 1)):
        with pytest.raises(OutcropError, match=r"^`window`: .* is not inside .*; pass row, column"):
            scene.read(outside)


def test_a_rotated_scene_keeps_its_transform_in_spatial_ref():
    transform = (8.0, 6.0, 0.0, 6.0, -8.0, 0.0)
    scene = oc.scene_from_array(np.ones((1, 4, 4), "uint8"), transform, "EPSG:32648")
    array = scene.to_xarray((1, 2, 2, 2))
    assert "x" not in array.coords
    reference = [float(one) for one in array.spatial_ref.attrs["GeoTransform"].split()]
    assert reference == [22.0, 8.0, 6.0, 4.0, 6.0, -8.0]
