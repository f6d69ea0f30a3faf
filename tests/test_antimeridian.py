"""Scenes and labels across the antimeridian, in any convention for longitudes."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS
from shapely import MultiPolygon, Polygon, box
from shapely.affinity import translate

import outcrop as oc
from outcrop.accuracy.assess import assess
from outcrop.sources.antimeridian import wrap_x, x_period
from outcrop.sources.labels import open_labels
from outcrop.sources.opening import open_scene
from tests.rasters import tagged, write_raster

STEP = 0.01
EAST = Affine(STEP, 0, 179.3, 0, -STEP, -16)
WEST = Affine(STEP, 0, -180.7, 0, -STEP, -16)
# Mercator coordinates continue beyond the antimeridian.
MERCATOR = Affine(1_200, 0, 19_950_000, 0, -1_200, -1_800_000)
WATER, LAND = box(179.9, -16.6, 180.1, -16.5), box(179.4, -16.3, 179.5, -16.2)


def frame(water, land=LAND, crs=4326):
    return gpd.GeoDataFrame({"class": ["water", "land"]}, geometry=[water, land], crs=crs)


WRITTEN = {
    "past 180": frame(WATER),
    "below -180": frame(translate(WATER, -360), translate(LAND, -360)),
    "split at 180": frame(
        MultiPolygon([box(179.9, -16.6, 180, -16.5), box(-180, -16.6, -179.9, -16.5)])
    ),
    "not split": frame(Polygon([(179.9, -16.6), (-179.9, -16.6), (-179.9, -16.5), (179.9, -16.5)])),
    "UTM zone 60": frame(WATER).to_crs(32760),
    "UTM zone 1": frame(WATER).to_crs(32701),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seam")
    pixels = np.random.default_rng(0).integers(1, 200, (1, 120, 140)).astype("uint16")
    write_raster(folder / "east.tif", pixels, crs=4326, transform=EAST)
    write_raster(folder / "west.tif", pixels, crs=4326, transform=WEST)
    write_raster(folder / "mercator.tif", pixels, crs=3857, transform=MERCATOR)
    return folder


def labelled(scene, labels):
    found = open_labels(labels, "class").on(open_scene(scene))
    return {
        (int(r), int(c), int(k))
        for r, c, k in zip(found.row, found.column, found.label, strict=True)
    }


@pytest.mark.parametrize("scene", ["east.tif", "west.tif", "mercator.tif"])
@pytest.mark.parametrize("way", WRITTEN)
def test_polygons_in_any_longitude_convention_label_the_scene(folder, tmp_path, scene, way):
    WRITTEN[way].to_file(tmp_path / "labels.gpkg")
    found = labelled(folder / scene, tmp_path / "labels.gpkg")
    if scene == "mercator.tif":
        frame(WATER).to_file(tmp_path / "whole.gpkg")
        assert found == labelled(folder / scene, tmp_path / "whole.gpkg")
        assert 150 < len(found) < 400
        return
    # Class 0 is land, 1 is water.
    assert found == {
        *((r, c, 0) for r in range(20, 30) for c in range(10, 20)),
        *((r, c, 1) for r in range(50, 60) for c in range(60, 80)),
    }


def test_an_unsplit_polygon_prints_a_note(folder, tmp_path, capsys):
    for way, said in (("not split", True), ("UTM zone 60", False), ("split at 180", False)):
        WRITTEN[way].to_file(tmp_path / "labels.gpkg")
        labelled(folder / "east.tif", tmp_path / "labels.gpkg")
        assert ("edges longer than 180°" in capsys.readouterr().err) == said


def test_a_polygon_around_the_earth_covers_the_scene(folder, tmp_path):
    world = box(-180, -90, 180, 90)
    frame(world, LAND).to_file(tmp_path / "labels.gpkg")
    found = labelled(folder / "east.tif", tmp_path / "labels.gpkg")
    assert len(found) == 120 * 140 - 100


@pytest.mark.parametrize("crs", [4326, 32760])
def test_class_rasters_in_any_longitude_convention_label_the_scene(tmp_path, crs):
    classes = np.zeros((120, 140), "uint8")
    classes[20:30, 10:20], classes[50:60, 60:80] = 1, 2
    world = np.zeros((300, 36_000), "uint8")
    world[120:130, 35_940:35_950], world[150:160, -10:], world[150:160, :10] = 1, 2, 2
    around = np.roll(world, 18_000, axis=1)
    grid = {4326: EAST, 32760: Affine(1_000, 0, 740_000, 0, -1_000, 8_230_000)}[crs]
    write_raster(tmp_path / "s.tif", np.ones((130, 150), "uint8"), crs=crs, transform=grid)
    rasters = {
        "east": (classes, EAST),
        "west": (classes, WEST),
        "world": (world, Affine(STEP, 0, -180, 0, -STEP, -15)),
        "around": (around, Affine(STEP, 0, 0, 0, -STEP, -15)),
    }
    scene = open_scene(tmp_path / "s.tif")
    row, column = np.mgrid[: scene.height, : scene.width].reshape(2, -1)
    place = gpd.GeoSeries.from_xy(*scene.xy(row, column), crs=crs).to_crs(4326)
    lon = place.x.to_numpy() % 360
    r = np.floor((-16 - place.y.to_numpy()) / STEP + 1e-9).astype(int)
    c = np.floor((lon - 179.3) / STEP + 1e-9).astype(int)
    inside = (r >= 0) & (r < 120) & (c >= 0) & (c < 140)
    expected = np.zeros(len(row), int)
    expected[inside] = classes[r[inside], c[inside]]
    for name, (values, transform) in rasters.items():
        path = tmp_path / f"{name}.tif"
        write_raster(path, values, crs=4326, transform=transform, compress="deflate")
        found = open_labels(path).on(scene)
        got = np.zeros(len(row), int)
        got[found.row * scene.width + found.column] = found.label + 1
        assert (got != expected).sum() <= 1, name  # at most one at the edge, from rounding


@pytest.mark.parametrize("way", ["past 180", "below -180", "plain", "UTM zone 60"])
def test_reference_points_and_truth_match_a_map_across_the_antimeridian(tmp_path, way):
    mapped = np.ones((120, 140), "uint8")
    mapped[:, 70:] = 2
    tagged(tmp_path / "map.tif", mapped, ["a", "b"], crs=4326, transform=EAST)
    lon = 179.3 + STEP * (np.arange(5, 140, 10) + 0.5)
    points = gpd.GeoDataFrame(
        {"class": np.where(lon > 180, "b", "a")},
        geometry=gpd.points_from_xy(lon, np.full(len(lon), -16.555)),
        crs=4326,
    )
    if way == "below -180":
        points = points.set_geometry(points.translate(-360))
    elif way == "plain":
        points = points.set_geometry(
            gpd.points_from_xy((lon + 180) % 360 - 180, points.geometry.y), crs=4326
        )
    elif way == "UTM zone 60":
        points = points.to_crs(32760)
    points.to_file(tmp_path / "points.gpkg")
    found = assess(tmp_path / "map.tif", tmp_path / "points.gpkg")
    np.testing.assert_array_equal(found.counts, [[7, 0], [0, 7]])
    tagged(tmp_path / "truth.tif", mapped, ["a", "b"], crs=4326, transform=WEST)
    found = assess(tmp_path / "map.tif", tmp_path / "truth.tif", block=20_000)
    np.testing.assert_array_equal(found.counts, [[8400, 0], [0, 8400]])


def test_patches_across_the_antimeridian_are_adjacent(folder, tmp_path):
    frame(WATER).to_file(tmp_path / "labels.gpkg")
    patches = oc.cut(folder / "east.tif", tmp_path / "labels.gpkg", "class", size=8)
    water = patches.positions.x[patches.labels == 1]
    assert np.ptp(water) == pytest.approx(19 * STEP * 106_900, rel=0.01)


@given(st.floats(-1000, 1000), st.floats(-1000, 1000))
@settings(max_examples=50)
def test_wrapped_x_is_the_same_place_near_the_centre(x, middle):
    found = float(wrap_x(np.array([x]), middle, CRS.from_epsg(4326).to_wkt())[0])
    assert abs(found - middle) <= 180 + 1e-6
    assert abs((found - x) / 360 - round((found - x) / 360)) < 1e-9


@pytest.mark.parametrize(
    ("crs", "turn"),
    [(4326, 360), (4807, 400), (3857, 40_075_016.7), (3395, 40_075_016.7), (6933, 34_735_060.9),
     (3832, 40_075_016.7), (32633, None), (3035, None), (3031, None), ("+proj=sinu", None),
     ("+proj=robin", None), ("+proj=tmerc", None)],
)  # fmt: skip
def test_period_of_coordinate_reference_systems(crs, turn):
    assert x_period(CRS.from_user_input(crs).to_wkt()) == (turn and pytest.approx(turn))
