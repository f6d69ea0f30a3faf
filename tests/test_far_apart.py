"""Patch sets of scenes that have no common metric CRS, from cutting to splitting."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from pyproj import CRS, Geod
from shapely import box

import outcrop as oc
from outcrop.accuracy.reference import count_within
from outcrop.errors import OutcropError
from outcrop.patches.patchset import read_patches
from outcrop.splits import BlockSplit, ZoneSplit
from outcrop.splits.geometry import coordinates, nearest, prediction_points
from outcrop.training.cutter import neighbourhood_of
from tests.command_line import run
from tests.rasters import tagged, write_raster

EARTH = Geod(ellps="WGS84")
# Germany, Ukraine and Kenya.
PLACES = {"one": (32633, 500_000, 5_600_000), "two": (32636, 500_000, 5_600_000),
          "three": (32737, 300_000, 9_800_000)}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("far")
    random = np.random.default_rng(0)
    for name, (crs, left, top) in PLACES.items():
        grid = Affine(10, 0, left, 0, -10, top)
        pixels = random.integers(1, 200, (2, 90, 90)).astype("uint8")
        write_raster(folder / f"{name}.tif", pixels, crs, grid)
        labels = np.kron(random.integers(0, 3, (9, 9)), np.ones((10, 10), int))
        tagged(folder / f"{name}-l.tif", labels, ["a", "b"], crs=crs, transform=grid)
    return folder


@pytest.fixture(scope="module")
def patches(folder):
    made = oc.cut(
        [folder / f"{name}.tif" for name in PLACES],
        [folder / f"{name}-l.tif" for name in PLACES],
        size=4,
        stride=3,
    )
    made.save(folder / "patches.zarr")
    return read_patches(folder / "patches.zarr")


def test_each_scene_has_a_crs_of_its_own(patches):
    assert patches.crs is None
    for number, (crs, left, top) in enumerate(PLACES.values()):
        here = patches.positions[patches.positions.source == number]
        system = CRS.from_wkt(patches.crs_of(number))
        assert system.to_epsg() == (crs if number == 0 else None)
        np.testing.assert_allclose(here.width, 40, rtol=1e-3)
        np.testing.assert_allclose(here.height, 40, rtol=1e-3)
        place = gpd.GeoSeries.from_xy(here.x, here.y, crs=system).to_crs(crs)
        np.testing.assert_allclose(place.x, left + 10 * (here.column + 0.5), atol=0.01)
        np.testing.assert_allclose(place.y, top - 10 * (here.row + 0.5), atol=0.01)


def test_distances_between_scenes_are_exact_from_the_first_and_never_too_short(patches):
    at, first = (
        patches.positions,
        [np.flatnonzero(patches.positions.source == k)[0] for k in range(3)],
    )
    places = [
        gpd.GeoSeries.from_xy(at.x[[i]], at.y[[i]], crs=patches.crs_of(k)).to_crs(4326)[0]
        for k, i in enumerate(first)
    ]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        planar = np.hypot(*(z[first[i]] - z[first[j]] for z in (at.x, at.y)))
        true = EARTH.inv(places[i].x, places[i].y, places[j].x, places[j].y)[2]
        assert planar > 0.999 * true
        if i == 0:
            assert planar == pytest.approx(true, rel=0.001)


def test_blocks_zones_and_neighbourhoods_work(folder, patches, tmp_path):
    split = BlockSplit(block=200, buffer=50, n_splits=3).assign(patches)
    assert len(split.train)
    assert len(split.validation)
    around = neighbourhood_of(patches, split, pixels=2)
    same = around.moved(np.arange(5), np.zeros((5, 3), int))
    np.testing.assert_allclose(same.x, around.positions.x[:5], atol=1e-6)
    # A file of zones in degrees selects the same patches in every scene.
    zones = [
        gpd.GeoSeries([box(left, top - 400, left + 400, top)], crs=crs).to_crs(4326)[0]
        for crs, left, top in PLACES.values()
    ]
    gpd.GeoDataFrame(geometry=zones, crs=4326).to_file(tmp_path / "zones.gpkg")
    split = ZoneSplit(zones=(tmp_path / "zones.gpkg",), buffer=0).assign(patches)
    at = patches.positions[split.validation]
    assert set(at.source) == {0, 1, 2}
    assert at.row.max() < 41
    assert at.column.max() < 41
    with pytest.raises(OutcropError, match="too far apart"):
        ZoneSplit(zones=((0, 0, 1, 1),), buffer=0).assign(patches)


def test_prediction_points_are_close_to_the_patches(patches):
    places = prediction_points(patches, 300)
    at = coordinates(patches.positions)
    assert nearest(places.at, at).max() < 900
    first = patches.positions.source == 0
    only = patches.subset(first)
    elsewhere = prediction_points(only, 10, [patches.sources[2]])
    assert nearest(elsewhere.at, coordinates(only.positions)).min() == pytest.approx(
        EARTH.inv(15, 50.55, 37.2, -1.81)[2], rel=0.01
    )


def test_the_command_prints_the_system(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    labels = "--labels one-l.tif --labels two-l.tif --labels three-l.tif"
    assert run(f"patches one.tif two.tif three.tif {labels} --size 4 -o x.zarr") == 0
    assert "one system per group" in capsys.readouterr().out


def test_pixels_within_patches_are_counted_in_every_scene(folder, patches):
    from outcrop.sources.opening import open_scene

    for name in PLACES:
        row, column = np.mgrid[:90, :90].reshape(2, -1)
        assert count_within(patches, open_scene(folder / f"{name}.tif"), row, column) > 1000
