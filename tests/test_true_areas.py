"""Areas of maps and sides of blocks are true, also in degrees and in Mercator."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod, Transformer

import outcrop as oc
from outcrop.accuracy.areas import by_map_class
from outcrop.accuracy.assess import assess
from outcrop.accuracy.sample import sample
from outcrop.mapping.openmap import open_map
from outcrop.patches.positions import scene_positions
from outcrop.splits import BlockSplit, block_split, suggest_block
from outcrop.splits.geometry import blocks
from tests.rasters import tagged, write_raster

EARTH = Geod(ellps="WGS84")
NAMES = ["land", "water"]


def halves(path, crs, transform, shape=(60, 70)):
    """A map whose left half is land."""
    values = np.ones(shape, np.uint8)
    values[:, shape[1] // 2 :] = 2
    return tagged(path, values, NAMES, crs=crs, transform=transform)


def rows_apart(path, crs, transform, shape=(400, 40)):
    """A map whose upper half is land."""
    values = np.ones(shape, np.uint8)
    values[shape[0] // 2 :] = 2
    return tagged(path, values, NAMES, crs=crs, transform=transform)


def true_hectares(crs, transform, rows, columns):
    """True area of a rectangle of pixels: the geodesic area of its densified outline."""
    t = np.linspace(0, 1, 200)
    r = np.r_[0 * t, t, 0 * t + 1, 1 - t] * (rows[1] - rows[0]) + rows[0]
    c = np.r_[t, 0 * t + 1, 1 - t, 0 * t] * (columns[1] - columns[0]) + columns[0]
    x, y = transform @ (c, r)
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    return abs(EARTH.polygon_area_perimeter(lon, lat)[0]) / 10_000


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:3857", Affine(10, 0, 1e6, 0, -10, 9e6)),
        ("EPSG:3857", Affine(2_000, 0, 1e6, 0, -2_000, 9.5e6)),
        ("EPSG:4326", Affine(1e-3, 0, 8, 0, -1e-3, 63)),
        ("EPSG:4326", Affine(0.05, 0, 8, 0, -0.05, 89.9)),
        ("EPSG:3395", Affine(30, 0, 1e6, 0, -30, 7e6)),
        ("EPSG:2263", Affine(30, 0, 1e6, 0, -30, 2e5)),
        ("EPSG:3413", Affine(300, 0, 1e5, 0, -300, 2e5)),
        ("EPSG:32633", Affine(10, 0, 5e5, 0, -10, 5e6)),
        ("EPSG:6933", Affine(1_000, 0, 5e5, 0, -1_000, 6e6)),
    ],
)
def test_hectares_of_a_map_are_true(tmp_path, crs, transform):
    opened = open_map(rows_apart(tmp_path / "map.tif", crs, transform))
    expected = [true_hectares(crs, transform, rows, (0, 40)) for rows in ((0, 200), (200, 400))]
    np.testing.assert_allclose(opened.hectares, expected, rtol=0.01)


def test_a_hectare_in_web_mercator_is_a_hectare(tmp_path):
    grid = Affine(10, 0, 1e6, 0, -10, 9e6)
    path = halves(tmp_path / "map.tif", "EPSG:3857", grid)
    rows, columns = np.arange(0, 60, 2).repeat(2), np.tile([10, 50], 30)
    x, y = grid @ (columns + 0.5, rows + 0.5)
    frame = gpd.GeoDataFrame(
        {"class": np.where(columns < 35, *NAMES)}, geometry=gpd.points_from_xy(x, y), crs=3857
    )
    frame.to_file(tmp_path / "points.gpkg")
    found = assess(path, tmp_path / "points.gpkg")
    land = true_hectares("EPSG:3857", grid, (0, 60), (0, 35))
    assert 4.4 < land < 4.5  # 21 in the coordinates
    assert found.hectares[0] == pytest.approx(land, rel=0.001)
    assert found.whole * found.accuracy.area[0].value == pytest.approx(land, rel=0.001)
    assert any("are weighted by the area of their pixel" in note for note in found.notes)


def test_classes_at_different_latitudes_have_their_true_shares(tmp_path):
    # From 80° to 40° north: the lower half has more than half of the area.
    grid = Affine(0.1, 0, 0, 0, -0.1, 80)
    path = rows_apart(tmp_path / "map.tif", "EPSG:4326", grid)
    opened = open_map(path)
    # The area between two parallels of a sphere goes with the sines.
    upper, lower = -np.diff(np.sin(np.radians([80, 60, 40])))
    np.testing.assert_allclose(opened.hectares[0] / opened.hectares[1], upper / lower, rtol=0.01)
    tagged(tmp_path / "truth.tif", np.ones((400, 40)), NAMES, crs=4326, transform=grid)
    found = assess(path, tmp_path / "truth.tif")
    assert found.accuracy.overall.value == pytest.approx(opened.hectares[0] / found.whole)


def test_points_count_by_the_area_of_their_pixel(tmp_path):
    """A census of the pixels gives the true area, although the truth depends on latitude."""
    grid = Affine(1, 0, 0, 0, -1, 80)
    values = np.ones((60, 10), np.uint8)
    values[:, 5:] = 2
    tagged(tmp_path / "map.tif", values, NAMES, crs=4326, transform=grid)
    row, column = np.mgrid[:60, :10].reshape(2, -1)
    x, y = grid @ (column + 0.5, row + 0.5)
    frame = gpd.GeoDataFrame(
        {"class": np.where(row < 30, *NAMES)}, geometry=gpd.points_from_xy(x, y), crs=4326
    )
    frame.to_file(tmp_path / "points.gpkg")
    found = assess(tmp_path / "map.tif", tmp_path / "points.gpkg")
    above = true_hectares("EPSG:4326", grid, (0, 30), (0, 10))
    assert found.accuracy.area[0].value * found.whole == pytest.approx(above, rel=1e-3)
    # Polygons and a raster give the same result for the same pixels.
    truth = np.where(np.arange(60)[:, None] < 30, 1, 2) * np.ones((60, 10), int)
    tagged(tmp_path / "truth.tif", truth, NAMES, crs=4326, transform=grid)
    other = assess(tmp_path / "map.tif", tmp_path / "truth.tif", block=500_000)
    assert other.accuracy.area[0].value == pytest.approx(found.accuracy.area[0].value)


def test_standard_errors_are_right_for_pixels_of_different_area():
    random = np.random.default_rng(0)
    area = np.repeat(np.linspace(0.2, 1.8, 3_000)[None], 2, axis=0)  # two classes of the map
    truth = random.random((2, 3_000)) < np.stack([area[0] / 2.2, 0.3 + 0 * area[1]])
    sizes = area.sum(axis=1)
    wanted = (area * truth).sum() / area.sum()
    values, errors = [], []
    for _ in range(400):
        first, second, counts = np.zeros((3, 2, 2))
        for k in range(2):
            drawn = random.choice(3_000, 80, replace=False)
            weight = area[k, drawn] / area[k, drawn].mean()
            for j in range(2):
                here = truth[k, drawn] == (j == 0)
                counts[k, j] = here.sum()
                first[k, j], second[k, j] = weight[here].sum(), (weight[here] ** 2).sum()
        found = by_map_class(counts, sizes, (first, second)).area[0]
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(values) == pytest.approx(wanted, abs=0.006)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_equal_weights_give_the_result_without_weights(K, seed):
    random = np.random.default_rng(seed)
    counts, pixels = random.integers(0, 9, (K, K)), random.integers(1, 99, K)
    one, other = by_map_class(counts, pixels), by_map_class(counts, pixels, (counts, counts))
    assert one.to_json() == other.to_json()


def test_a_sample_is_allocated_by_area(tmp_path):
    path = rows_apart(tmp_path / "map.tif", "EPSG:4326", Affine(0.1, 0, 0, 0, -0.1, 80))
    plan = sample(path, tmp_path / "points.gpkg", n=200, allocation="proportional")
    share = open_map(path).hectares / open_map(path).hectares.sum()
    np.testing.assert_allclose(plan.points / 200, share, atol=0.005)
    assert len(gpd.read_file(tmp_path / "points.gpkg")) == 200


def test_the_minimum_distance_holds_in_the_far_north(tmp_path):
    path = halves(tmp_path / "map.tif", "EPSG:4326", Affine(1e-4, 0, 178.999, 0, -1e-4, 80))
    sample(path, tmp_path / "points.gpkg", n=12, floor=2, minimum_distance=50)
    at = gpd.read_file(tmp_path / "points.gpkg").geometry
    i, j = np.triu_indices(len(at), 1)
    apart = EARTH.inv(at.x.values[i], at.y.values[i], at.x.values[j], at.y.values[j])[2]
    assert 49.9 < min(apart) < 90


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:3857", Affine(20, 0, 1e6, 0, -20, 9e6)),
        ("EPSG:4326", Affine(2e-4, 0, 9, 0, -1e-4, 63)),
    ],
)
def test_blocks_have_their_side_in_true_metres(tmp_path, crs, transform):
    shape = (300, 300)
    labels = np.zeros(shape, np.uint8)
    labels[2::6, 2::6], labels[2::6, 5::6] = 1, 2
    write_raster(tmp_path / "scene.tif", np.ones(shape, np.uint8), crs=crs, transform=transform)
    tagged(tmp_path / "labels.tif", labels, NAMES, crs=crs, transform=transform)
    patches = oc.cut(tmp_path / "scene.tif", tmp_path / "labels.tif", size=4)
    at = patches.positions
    x, y = transform @ (at.column + 0.5, at.row + 0.5)
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    block = blocks(at, 600)
    assert len(np.unique(block)) > 9
    longest = 0.0
    for number in np.unique(block):
        here = block == number
        corners = [
            EARTH.inv(lon[here].min(), lat[here].mean(), lon[here].max(), lat[here].mean())[2],
            EARTH.inv(lon[here][0], lat[here].min(), lon[here][0], lat[here].max())[2],
        ]
        assert max(corners) < 606 * 1.03  # the squares may be turned a little
        longest = max(longest, *corners)
    assert longest > 500
    split = BlockSplit(block=600, buffer=100, n_splits=3).assign(patches)
    pairs = EARTH.inv(
        *(np.repeat(z[split.train], 50) for z in (lon, lat)),
        *(np.tile(z[split.validation[:50]], len(split.train)) for z in (lon, lat)),
    )[2]
    assert min(pairs) > 100


def scattered(random, corners, side, count, patch=8.0):
    """Labelled places scattered over squares."""
    corner = np.repeat(np.asarray(corners, float), count, axis=0)
    x, y = (corner + random.uniform(0, side, corner.shape)).T
    n = np.arange(len(x))
    return scene_positions(0, n, n, x, y, patch, patch, n)


@given(
    st.lists(st.tuples(st.floats(-3e5, 3e5), st.floats(-3e5, 3e5)), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_the_default_block_is_where_labels_are(corners, seed):
    at = scattered(np.random.default_rng(seed), corners, 2_000.0, 60)
    block = suggest_block(at)
    assert block >= 4 * 8
    assert blocks(at, block).max() + 1 >= 25


def test_the_default_block_of_one_labelled_square_is_a_tenth_of_it():
    at = scattered(np.random.default_rng(0), [(0, 0)], 2_000.0, 400)
    assert suggest_block(at) == max(np.ptp(at.x), np.ptp(at.y)) / 10


def test_two_scenes_60_km_apart_are_split_by_default(tmp_path):
    random = np.random.default_rng(0)
    for name, left in (("one", 500_000), ("two", 560_000)):
        grid = Affine(10, 0, left, 0, -10, 5_000_000)
        labels = np.kron(random.integers(0, 3, (10, 10)), np.ones((15, 15), int))
        pixels = random.integers(1, 99, (150, 150))
        write_raster(tmp_path / f"{name}.tif", pixels.astype("uint8"), "EPSG:32633", grid)
        tagged(tmp_path / f"{name}-l.tif", labels, NAMES, crs="EPSG:32633", transform=grid)
    patches = oc.cut(
        [tmp_path / "one.tif", tmp_path / "two.tif"],
        [tmp_path / "one-l.tif", tmp_path / "two-l.tif"],
        size=6,
        stride=3,
    )
    split = block_split(patches, None, None, 5, 0).assign(patches)
    assert split.how["block"] < 1_500 / 2
    for side in (split.train, split.validation):
        assert set(patches.labels[side]) == {0, 1}
    assert CRS.from_wkt(patches.crs).to_epsg() == 32633
