"""Lengths and areas are geodesic, whatever the CRS of a scene."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import Phase, assume, example, given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod, Transformer

from outcrop.errors import OutcropError
from outcrop.patches.positions import Source
from outcrop.patches.samples import positions_of
from outcrop.sources.geodesy import pixel_areas
from outcrop.sources.labels import LabelledPixels
from outcrop.sources.metric import metric_system_near, metric_systems
from outcrop.sources.scene import Band, Scene

EARTH = Geod(ellps="WGS84")
SIDE = 40
SIZE = 8


def wkt(crs):
    return CRS.from_user_input(crs).to_wkt()


def scene_at(crs, lon, lat, pixel=10.0, side=SIDE, rotation=0.0, name="scene.tif"):
    """A scene at a place, with pixels of some metres or degrees."""
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    cos, sin = pixel * math.cos(rotation), pixel * math.sin(rotation)
    half = side / 2
    corner = (x - cos * half - sin * half, y - sin * half + cos * half)
    transform = (cos, sin, corner[0], sin, -cos, corner[1])
    band = (Band(name, 1, "one"),)
    return Scene(wkt(crs), transform, side, side, bands=band, dtype=np.dtype("uint8"))


def lonlat(scene, row, column):
    way = Transformer.from_crs(CRS.from_wkt(scene.crs), 4326, always_xy=True)
    return way.transform(*scene.xy(row, column))


def positions(scenes, row, column):
    """Positions of the same pixels of each scene."""
    zero = np.zeros(len(row), np.int64)
    pixels = LabelledPixels(row, column, zero, zero)
    systems = metric_systems(scenes)
    return [
        positions_of(scene, pixels, i, SIZE, crs, 0)
        for i, (scene, crs) in enumerate(zip(scenes, systems, strict=True))
    ]


def sides_on_earth(scene):
    """Geodesic width and height of a patch at the centre, along its rows and columns."""
    row = np.array([0.0, 0, SIZE, SIZE]) + SIDE / 2 - 0.5
    column = np.array([0.0, SIZE, 0, SIZE]) + SIDE / 2 - 0.5
    lon, lat = lonlat(scene, row, column)
    first = np.zeros(4, int)
    azimuth, _, far = EARTH.inv(lon[first], lat[first], lon, lat)
    angle = np.radians(np.array(azimuth) - azimuth[1])
    return np.ptp(far * np.cos(angle)), np.ptp(far * np.sin(angle))


@st.composite
def scenes(draw):
    """A scene of at most 4 km at a random place in a random system."""
    lon = draw(st.floats(-180, 180))
    kind = draw(
        st.sampled_from(
            ["degrees", "mercator", "ellipsoidal", "utm", "laea", "polar", "sinusoidal", "eqc",
             "feet", "ease", "south", "conic"]
        )
    )  # fmt: skip
    lat = draw(st.floats(-70, 70)) if kind != "polar" else draw(st.floats(50, 89))
    away = draw(st.floats(-12, 12))
    centre = (lon + away + 180) % 360 - 180
    zone = int((centre + 180) % 360 // 6) + 1
    crs = {
        "degrees": "EPSG:4326",
        "mercator": "EPSG:3857",
        "ellipsoidal": "EPSG:3395",
        "utm": f"EPSG:{(32600 if lat >= 0 else 32700) + zone}",
        "laea": f"+proj=laea +lat_0={max(-90, min(90, lat + 2 * away))} +lon_0={centre}",
        "polar": draw(st.sampled_from(["EPSG:3413", "EPSG:32661", "EPSG:3571"])),
        "sinusoidal": f"+proj=sinu +R=6371007.181 +lon_0={centre}",
        "eqc": f"+proj=eqc +lat_ts={abs(lat) / 2}",
        "feet": f"+proj=tmerc +lon_0={centre} +units=us-ft",
        "ease": "EPSG:6933",
        "south": f"+proj=stere +lat_0=-90 +lat_ts=-71 +lon_0={centre}"
        if lat < -30
        else "EPSG:4326",
        "conic": f"+proj=aea +lat_1=20 +lat_2=60 +lon_0={centre}" if lat > 0 else "EPSG:4326",
    }[kind]
    pixel = draw(st.floats(1, 100))
    system = CRS.from_user_input(crs)
    if system.is_geographic:
        pixel /= 111_000
    return scene_at(crs, lon, lat, pixel)


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(0, 2**32 - 1))
@example(scene_at(3857, 11.8, 63), 0)
@example(scene_at(3395, 71.5, 34.0), 0)
@example(scene_at(4326, 180, -16.5, 1e-4), 0)
@example(scene_at(3031, 100, -85), 0)
@example(scene_at(2263, -74, 40.7), 0)
@example(scene_at(3035, -9, 38), 0)
@example(scene_at("+proj=aea +lat_1=20 +lat_2=60 +lon_0=3", 0, 0, 1.0), 0)
def test_lengths_and_areas_are_geodesic(scene, seed):
    random = np.random.default_rng(seed)
    row, column = random.integers(0, SIDE, (2, 12))
    (at,) = positions([scene], row, column)
    lon, lat = lonlat(scene, row, column)
    true = np.array(EARTH.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])[2])
    planar = np.hypot(np.diff(at.x), np.diff(at.y))
    np.testing.assert_allclose(planar, true, rtol=0.0101)
    expected = sides_on_earth(scene)
    # On a rotated grid, adjacent patches are a little less than their width apart in x.
    np.testing.assert_allclose((at.width[0], at.height[0]), expected, rtol=0.04)
    corners = [
        lonlat(scene, row + dr, column + dc)
        for dr, dc in ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))
    ]
    there = pixel_areas(scene).at(row, column)
    for i in range(len(row)):
        area, _ = EARTH.polygon_area_perimeter(
            *zip(*[(x[i], y[i]) for x, y in corners], strict=True)
        )
        assert there[i] == pytest.approx(abs(area), rel=0.0101)


DATE_LINE = st.builds(
    scene_at,
    st.sampled_from([3395, 3857, 6933, 32601, 32660, "+proj=eqc +lat_ts=2"]),
    st.floats(179.2, 180.0) | st.floats(-180.0, -179.2) | st.floats(179.98, 180.0),
    st.floats(-4, 4),
    st.floats(10, 90),
) | st.builds(scene_at, st.just(4326), st.floats(179.98, 180.0), st.floats(-4, 4), st.just(1e-3))


@given(st.lists(DATE_LINE, min_size=1, max_size=3))
@example([scene_at(3395, 179.5, 1, 90.0), scene_at(4326, 179.999, 1.2, 1e-3)])
def test_no_scene_is_torn_at_the_meridian_of_180_degrees(scenes):
    rows, columns = np.array([0, 0, SIDE - 1, SIDE - 1]), np.array([0, SIDE - 1, 0, SIDE - 1])
    for scene, at in zip(scenes, positions(scenes, rows, columns), strict=True):
        lon, lat = lonlat(scene, rows, columns)
        true = np.array(EARTH.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])[2])
        np.testing.assert_allclose(np.hypot(np.diff(at.x), np.diff(at.y)), true, rtol=0.0101)


@settings(max_examples=20, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.lists(scenes(), min_size=2, max_size=4), st.integers(0, 2**32 - 1))
# The meridian of 180° crosses the second scene, whose projection is moved.
@example([scene_at(32638, 43, -60, 64.0), scene_at(3395, 179.999, -2.75, 90.0)], 0)
def test_distant_scenes_keep_extents_and_distances(distant, seed):
    random = np.random.default_rng(seed)
    row, column = random.integers(0, SIDE, (2, 6))
    middle = np.array([SIDE // 2])
    places = [lonlat(scene, middle, middle) for scene in distant]
    pairs = itertools.combinations(places, 2)
    assume(min(EARTH.inv(*one, *other)[2][0] for one, other in pairs) > 300_000)
    found = positions(distant, np.r_[middle, row], np.r_[middle, column])
    for scene, at in zip(distant, found, strict=True):
        lon, lat = lonlat(scene, np.r_[middle, row], np.r_[middle, column])
        true = np.array(EARTH.inv(lon[:-1], lat[:-1], lon[1:], lat[1:])[2])
        np.testing.assert_allclose(np.hypot(np.diff(at.x), np.diff(at.y)), true, rtol=0.0101)
        np.testing.assert_allclose((at.width[0], at.height[0]), sides_on_earth(scene), rtol=0.04)
    for i, one in enumerate(found):
        for j, other in enumerate(found[:i]):
            planar = math.hypot(one.x[0] - other.x[0], one.y[0] - other.y[0])
            true = EARTH.inv(*places[i], *places[j])[2][0]
            assert planar >= 0.985 * true
            if j == 0:
                assert planar == pytest.approx(true, rel=0.015)


def test_a_scene_three_zones_away_has_its_true_width():
    one, other = scene_at(32633, 15, 45), scene_at(32636, 33, 45, name="other.tif")
    at = positions([one, other], np.array([20]), np.array([20]))
    assert [p.width[0] for p in at] == pytest.approx([80, 80])
    assert [p.height[0] for p in at] == pytest.approx([80, 80])


def test_a_scene_keeps_its_crs_if_the_scale_error_is_below_one_per_cent():
    for crs, lon, lat in ((32633, 15, 50), (3035, 10, 52), (27700, -2, 52), (32661, 10, 86),
                          (3857, 9, 0.1), (28992, 5, 52), (3031, 30, -72)):  # fmt: skip
        scene = scene_at(crs, lon, lat)
        assert scene.metric_crs == scene.crs
    assert CRS.from_wkt(scene_at(4326, 9, 0.1, 1e-4).metric_crs).to_epsg() == 32632


def test_scenes_in_one_crs_and_neighbouring_scenes_share_a_system():
    one, other = scene_at(32633, 15, 50), scene_at(32633, 16.5, 51)
    assert metric_systems([one, other]) == [one.crs] * 2
    beside = scene_at(32634, 18.01, 50)
    assert len(set(metric_systems([scene_at(32633, 17.99, 50), beside]))) == 1


def test_a_map_near_the_patches_has_its_true_distance():
    one, other = scene_at(32633, 15, 45), scene_at(32640, 57, 45, name="other.tif")
    systems = metric_systems([one])
    crs = metric_system_near(other, [one], systems)
    at = [Source.of(scene).xy(np.array([20]), np.array([20]), system)
          for scene, system in ((one, systems[0]), (other, crs))]  # fmt: skip
    planar = math.hypot(at[0][0][0] - at[1][0][0], at[0][1][0] - at[1][1][0])
    true = EARTH.inv(*lonlat(one, 20, 20), *lonlat(other, 20, 20))[2]
    assert planar == pytest.approx(true, rel=0.001)


def test_a_map_across_the_meridian_of_180_degrees_is_not_torn():
    one, other = scene_at(3395, 179.5, 1, 90.0), scene_at(4326, 179.999, 1.2, 1e-3)
    crs = metric_system_near(other, [one], metric_systems([one]))
    x, _ = Source.of(other).xy(np.array([0, 0]), np.array([0, SIDE]), crs)
    true = EARTH.inv(*lonlat(other, 0, 0), *lonlat(other, 0, SIDE))[2]
    assert abs(x[1] - x[0]) == pytest.approx(true, rel=0.0101)


def test_scenes_without_an_accurate_system_print_a_note(capsys):
    assert metric_systems([scene_at(4326, 60, 40, 2.0)])
    assert "distances have errors of up to" in capsys.readouterr().err
    metric_systems([scene_at(4326, 60, 40, 0.1)])
    assert capsys.readouterr().err == ""


def test_pixel_areas_of_the_whole_earth_add_up_to_its_surface():
    degrees = (1.0, 0, -180, 0, -1.0, 90)
    scene = Scene(wkt(4326), degrees, 180, 360, bands=(), dtype=np.dtype("uint8"))
    assert pixel_areas(scene).window(0, 0, 180, 360).sum() == pytest.approx(5.100656e14, rel=1e-4)


def test_local_systems_are_used_unchanged_if_in_metres():
    local = 'LOCAL_CS["grid of the mine",UNIT["{}",{}]]'
    metres = Source("a.tif", (9, 9), local.format("metre", 1), (2.0, 0, 0, 0, -2.0, 0))
    feet = Source("b.tif", (9, 9), local.format("foot", 0.3048), (2.0, 0, 0, 0, -2.0, 0))
    assert metric_systems([metres]) == [metres.crs]
    assert pixel_areas(feet).constant == pytest.approx(4 * 0.3048**2)
    with pytest.raises(OutcropError, match="is not in metres"):
        metric_systems([feet])
    with pytest.raises(OutcropError, match="local system cannot be transformed"):
        metric_systems([metres, scene_at(32633, 15, 50)])


def test_coordinates_outside_the_earth_raise_an_error():
    nowhere = Source("a.tif", (9, 9), wkt(4326), (1.0, 0, 0, 0, -1.0, 5_000_000))
    with pytest.raises(OutcropError, match="not on the earth"):
        metric_systems([nowhere])
    assert np.isnan(pixel_areas(nowhere).constant)
