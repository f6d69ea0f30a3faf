"""Reference points drawn from a class map."""

from __future__ import annotations

import tracemalloc

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine

from outcrop.accuracy.sample import WHOLE, sample
from outcrop.errors import OutcropError
from tests.command_line import check_refused, largest_file, run, start
from tests.rasters import GRID, UTM, tagged, write_raster

NAMES = ("rice", "water", "rock")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr("outcrop.sources.class_raster._WINDOW", 16)


@pytest.fixture
def class_map(tmp_path):
    """60 × 50 pixels: rice and water, a few of rock, and some without data."""
    values = np.random.default_rng(0).choice([0, 1, 2], size=(60, 50), p=[0.1, 0.3, 0.6])
    values[20:24, 30:33] = 3
    tagged(tmp_path / "map.tif", values, NAMES)
    return values


def drawn(path):
    points = gpd.read_file(path)
    column = ((points.x - GRID.c) / GRID.a).to_numpy()
    row = ((points.y - GRID.f) / GRID.e).to_numpy()
    return points, row, column


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_points_are_in_the_middle_of_distinct_pixels_of_their_stratum(tmp_path, class_map, suffix):
    path = tmp_path / f"points{suffix}"
    plan = sample(tmp_path / "map.tif", path, n=200, floor=10)
    points, row, column = drawn(path)
    assert points.crs == UTM
    np.testing.assert_allclose(row % 1, 0.5)
    np.testing.assert_allclose(column % 1, 0.5)
    pixels = set(zip(row.astype(int).tolist(), column.astype(int).tolist(), strict=True))
    assert len(pixels) == len(points) == 200
    mapped = class_map[row.astype(int), column.astype(int)]
    assert [NAMES[value - 1] for value in mapped] == points.stratum.tolist()
    assert plan.points.tolist() == [points.stratum.tolist().count(name) for name in NAMES]
    assert plan.points[2] == 10
    sizes = dict(zip(NAMES, np.bincount(class_map.ravel())[1:].tolist(), strict=True))
    assert (points.stratum_pixels == points.stratum.map(sizes)).all()
    drawn_of = points.stratum.map(points.stratum.value_counts())
    np.testing.assert_allclose(points.probability, drawn_of / points.stratum_pixels)
    assert points["class"].isna().all()
    np.testing.assert_allclose(points[["x", "y"]], np.c_[points.geometry.x, points.geometry.y])
    assert points.id.tolist() == list(range(1, 201))
    # Numbers in order of strata would reveal the map's class.
    assert points.stratum[:100].nunique() > 1
    assert points.stratum.tolist() != sorted(points.stratum)


def test_the_seed_determines_the_points(tmp_path, class_map):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        sample(tmp_path / "map.tif", tmp_path / f"{name}.gpkg", n=100, floor=10, seed=seed)
    a, b, c = (gpd.read_file(tmp_path / f"{name}.gpkg") for name in "abc")
    assert a.equals(b)
    assert not a.equals(c)


def test_pixels_of_a_stratum_have_equal_probability(tmp_path, class_map):
    from outcrop.accuracy.sample import _draw
    from outcrop.mapping.openmap import open_map

    opened = open_map(tmp_path / "map.tif")
    wanted = np.array([180, 180, 6])
    stratum_of = np.r_[255, 0, 1, 2, np.full(252, 255)].astype(np.uint8)
    hits, runs = np.zeros(class_map.shape, int), 200
    for seed in range(runs):
        random = np.random.default_rng(seed)
        row, column, _ = _draw(opened, stratum_of, opened.pixels, wanted, 0, random)
        hits[row, column] += 1
    assert (hits[class_map == 0] == 0).all()
    for k, n in enumerate(wanted):
        mine = hits[class_map == k + 1]
        expected = runs * n / len(mine)
        spread = np.sqrt(expected * (1 - n / len(mine)))
        assert mine.mean() == expected
        # Chi-square over its degrees of freedom, within four of its own standard deviations.
        ratio = ((mine - expected) ** 2).sum() / spread**2 / (len(mine) - 1)
        assert ratio == pytest.approx(1, abs=4 * np.sqrt(2 / len(mine)))


def test_all_pixels_of_a_class_can_be_drawn(tmp_path, class_map):
    sample(tmp_path / "map.tif", tmp_path / "points.gpkg", n=112, floor=50)
    points, row, _ = drawn(tmp_path / "points.gpkg")
    rock = (points.stratum == "rock").to_numpy()
    assert rock.sum() == (class_map == 3).sum() == 12
    assert (points.probability[rock] == 1).all()
    assert set(row[rock].astype(int)) == set(range(20, 24))


def test_a_simple_sample_draws_all_pixels_with_equal_probability(tmp_path, class_map):
    plan = sample(tmp_path / "map.tif", tmp_path / "points.gpkg", "simple", n=900)
    points, row, column = drawn(tmp_path / "points.gpkg")
    known = (class_map > 0).sum()
    assert (points.stratum == WHOLE).all()
    assert (points.stratum_pixels == known).all()
    counts = np.bincount(class_map[row.astype(int), column.astype(int)], minlength=4)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], plan.points, atol=60)
    assert plan.points.sum() == pytest.approx(900)


@pytest.mark.parametrize(
    ("crs", "grid", "metric"),
    [
        (UTM, GRID, UTM),
        ("EPSG:2264", Affine(33, 0, 1_500_000, 0, -33, 600_000), "EPSG:32119"),
        ("EPSG:4326", Affine(1e-4, 0, 106.0, 0, -1e-4, 10.5), UTM),
    ],
)
def test_points_keep_their_distance_in_metres(tmp_path, class_map, crs, grid, metric):
    values = np.where(class_map == 3, 0, class_map)
    tagged(tmp_path / "other.tif", values, NAMES, crs=crs, transform=grid)
    sample(tmp_path / "other.tif", tmp_path / "p.gpkg", n=50, floor=2, minimum_distance=40)
    points = gpd.read_file(tmp_path / "p.gpkg").to_crs(metric)
    x, y = points.geometry.x.to_numpy(), points.geometry.y.to_numpy()
    apart = np.hypot(x[:, None] - x, y[:, None] - y)[~np.eye(50, dtype=bool)]
    assert 39.9 < apart.min() < 60


def test_memory_does_not_grow_with_the_map(tmp_path, monkeypatch):
    monkeypatch.setattr("outcrop.sources.class_raster._WINDOW", 1024)
    options = {"width": 20_000, "height": 6_000, "count": 1, "dtype": "uint8", "nodata": 0}
    options |= {"tiled": True, "sparse_ok": True, "crs": UTM, "transform": GRID}
    with rasterio.open(tmp_path / "large.tif", "w", driver="GTiff", **options) as dataset:
        dataset.update_tags(1, CLASS_1="a", CLASS_2="b")
        for column in (0, 9_000, 19_000):
            window = ((column // 4, column // 4 + 1000), (column, column + 1000))
            dataset.write(np.full((1, 1000, 1000), 1 + column % 2, np.uint8), window=window)
        dataset.write(np.full((1, 100, 100), 2, np.uint8), window=((5_900, 6_000), (0, 100)))
    tracemalloc.start()
    sample(tmp_path / "large.tif", tmp_path / "points.gpkg", n=1_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    points, row, _ = drawn(tmp_path / "points.gpkg")
    assert len(points) == 1_000
    assert row[points.stratum == "b"].min() > 5_900
    assert peak < 40e6


def test_the_command_prints_the_expected_errors(tmp_path, class_map, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hoped = "--expected rice=0.9,water=0.8,rock=0.7 --standard-error 0.03"
    assert run(f"sample map.tif -o points.gpkg {hoped} --floor 10") == 0
    out = capfd.readouterr().out
    rock = next(line for line in out.splitlines() if line.startswith("rock"))
    assert rock.split() == ["rock", "12", "0.45", "%", "10", "70.0", "15.3"]
    assert "points.gpkg: 163 points" in out
    assert "at most" not in out
    assert run("sample map.tif -o more.gpkg --n 100 --floor 10") == 0
    assert "at most" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("command", "pieces"),
    [
        ("sample map.tif -o points.shp --n 90", ["points.shp", ".gpkg", ".geojson"]),
        ("sample map.tif -o there.gpkg --n 90", ["there.gpkg", "exists already"]),
        ("sample map.tif -o nowhere/p.gpkg --n 90", ["folder nowhere", "make it first"]),
        ("sample plain.tif -o p.gpkg --n 90", ["plain.tif", "is not a class map"]),
        ("sample no-crs.tif -o p.gpkg --n 90", ["no-crs.tif", "no coordinate reference system"]),
        ("sample empty.tif -o p.gpkg --n 90", ["empty.tif", "no pixel with a class"]),
        ("sample beyond.tif -o p.gpkg --n 90", ["beyond.tif", "no class name for the values 7"]),
        ("sample gone.tif -o p.gpkg --n 90", ["gone.tif", "no such file"]),
        ("sample map.tif -o p.gpkg", ["--n", "--expected"]),
        ("sample map.tif -o p.gpkg --expected rice=0.9", ["--n", "is missing"]),
        ("sample map.tif -o p.gpkg --expected ice=0.9", ["--expected", "'ice'", "rice"]),
        ("sample map.tif -o p.gpkg --expected 80", ["--expected", "from 0 to 1"]),
        ("sample map.tif -o p.gpkg --expected good", ["--expected", "NAME=NUMBER"]),
        ("sample map.tif -o p.gpkg --expected 0.9,rice=0.8", ["--expected", "NAME=NUMBER"]),
        ("sample map.tif -o p.gpkg --n 90", ["--n", "too small", "use 112 or more", "--floor"]),
        ("sample map.tif -o p.gpkg --n 60 --allocation equal", ["'rock'", "12 pixels", "20"]),
        ("sample map.tif -o p.gpkg --n 60 --allocation proportional", ["'rock'", "0 points"]),
        ("sample map.tif -o p.gpkg --n 99999", ["--n", "more than the"]),
        ("sample map.tif -o p.gpkg --n 99999 --design simple", ["--n", "more than the"]),
        ("sample map.tif -o p.gpkg --n 1 --design simple", ["--n", "must be 2"]),
        ("sample map.tif -o p.gpkg --n -5", ["--n", "must be 1"]),
        ("sample map.tif -o p.gpkg --n 90 --floor 1", ["--floor", "must be 2"]),
        ("sample map.tif -o p.gpkg --n 90 --standard-error 0.1", ["--standard-error", "--n"]),
        ("sample map.tif -o p.gpkg --expected 0.9 --standard-error 0", ["--standard-error"]),
        ("sample map.tif -o p.gpkg --design simple --floor 9 --n 50", ["--floor", "simple"]),
        ("sample map.tif -o p.gpkg --n 200 --minimum-distance 90", ["--minimum-distance", "room"]),
        ("sample map.tif -o p.gpkg --n 200 --minimum-distance -1", ["--minimum-distance"]),
    ],
)
def test_bad_input(tmp_path, class_map, monkeypatch, capfd, command, pieces):
    write_raster(tmp_path / "plain.tif", class_map.astype("uint8"))
    tagged(tmp_path / "no-crs.tif", class_map, NAMES, crs=None)
    tagged(tmp_path / "empty.tif", 0 * class_map, NAMES)
    tagged(tmp_path / "beyond.tif", np.where(class_map == 3, 7, class_map), NAMES)
    (tmp_path / "there.gpkg").write_text("something")
    check_refused(tmp_path, monkeypatch, capfd, command, *pieces)


def test_a_full_disk_leaves_nothing(tmp_path, class_map):
    command = "sample map.tif -o points.gpkg --n 2000 --floor 10"
    end = start(command, cwd=tmp_path, preexec_fn=largest_file(30_000))
    assert (end.returncode, end.stdout) == (2, "")
    assert "points.gpkg" in end.stderr
    assert end.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["map.tif"]


def test_two_classes_of_one_name_are_refused(tmp_path):
    tagged(tmp_path / "map.tif", np.ones((9, 9)), ["rice", "rice"])
    with pytest.raises(OutcropError, match="several classes of one name"):
        sample(tmp_path / "map.tif", tmp_path / "p.gpkg", n=50)
