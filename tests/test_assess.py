"""Assessment of class maps with points, polygons and rasters of true classes."""

from __future__ import annotations

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from shapely import Point, box

import outcrop as oc
from outcrop.accuracy.areas import by_map_class, by_stratum
from outcrop.accuracy.assess import assess
from outcrop.accuracy.assessment import read_assessment, write_assessment
from outcrop.accuracy.sample import sample
from outcrop.errors import OutcropError
from tests.command_line import check_refused, largest_file, run, start
from tests.rasters import GRID, UTM, tagged, write_raster

NAMES = ("rice", "water", "rock")
SHAPE = (120, 100)


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A folder with a map, and the true classes: fields of 10 × 10 pixels, and errors in both."""
    folder = tmp_path_factory.mktemp("ground")
    random = np.random.default_rng(0)
    fields = random.choice([1, 2, 3], size=(12, 10), p=[0.5, 0.4, 0.1])
    truth = np.kron(fields, np.ones((10, 10), int))
    wrong = np.kron(random.random((24, 20)) < 0.15, np.ones((5, 5), bool))
    mapped = np.where(wrong, random.choice([1, 2, 3], size=SHAPE, p=[0.6, 0.3, 0.1]), truth)
    mapped[:5] = 0
    tagged(folder / "map.tif", mapped, NAMES)
    tagged(folder / "truth.tif", truth, NAMES)
    return folder, mapped, truth


def points(path, rows, columns, names, **columns_too):
    """Points at the centres of pixels."""
    x, y = GRID @ (np.asarray(columns) + 0.5, np.asarray(rows) + 0.5)
    frame = gpd.GeoDataFrame(
        {"class": names, **columns_too}, geometry=gpd.points_from_xy(x, y, crs=UTM)
    )
    frame.to_file(path)
    return path


def filled(path, truth, mapped=None):
    """The points of `sample` with their true classes; their rows and columns."""
    frame = gpd.read_file(path)
    column, row = (z.astype(int) for z in ~GRID @ (frame.x.to_numpy(), frame.y.to_numpy()))
    frame["class"] = np.array(NAMES, object)[truth[row, column] - 1]
    frame.to_file(path)
    return row, column


def some(ground, count=300, seed=0):
    """Rows and columns of pixels with a class, and the names of their true classes."""
    _, mapped, truth = ground
    row, column = np.nonzero(mapped)
    chosen = np.random.default_rng(seed).choice(len(row), count, replace=False)
    row, column = row[chosen], column[chosen]
    return row, column, np.array(NAMES, object)[truth[row, column] - 1]


def table_of(mapped, truth):
    counts = np.zeros((3, 3), int)
    np.add.at(counts, (mapped - 1, truth - 1), 1)
    return counts


@pytest.mark.parametrize("design", ["stratified", "simple"])
def test_from_sample_to_assessment(ground, tmp_path, design):
    folder, mapped, truth = ground
    sample(folder / "map.tif", tmp_path / "points.gpkg", design, n=400)
    row, column = filled(tmp_path / "points.gpkg", truth)
    found = assess(folder / "map.tif", tmp_path / "points.gpkg")
    counts = table_of(mapped[row, column], truth[row, column])
    np.testing.assert_array_equal(found.counts, counts)
    pixels = np.bincount(mapped.ravel())[1:]
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.accuracy.to_json() == by_map_class(counts, pixels).to_json()
    assert (found.basis, found.pieces, found.design_known) == (design, 400, True)
    assert found.whole == pytest.approx(pixels.sum() * 0.01)
    right = (mapped == truth)[mapped > 0].mean()
    assert abs(found.accuracy.overall.value - right) < 3 * found.accuracy.overall.error


def test_intervals_contain_the_truth_through_all_steps(ground, tmp_path):
    folder, mapped, truth = ground
    known = mapped > 0
    right, areas = (mapped == truth)[known].mean(), np.bincount(truth[known])[1:] / known.sum()
    held = []
    for seed in range(16):
        path = tmp_path / f"{seed}.gpkg"
        sample(folder / "map.tif", path, n=300, seed=seed)
        filled(path, truth)
        accuracy = assess(folder / "map.tif", path).accuracy
        for one, true in zip((accuracy.overall, *accuracy.area), (right, *areas), strict=True):
            held.append(one.low <= true <= one.high)
    assert len(held) == 64
    # `test_coverage` measures the coverage; here no step may bias it.
    assert np.mean(held) > 0.86


def test_points_without_design_are_treated_as_stratified_with_a_note(ground, tmp_path):
    folder, _, _ = ground
    row, column, names = some(ground)
    path = points(tmp_path / "points.geojson", row, column, names)
    found, simple = (assess(folder / "map.tif", path, design=d) for d in (None, "simple"))
    assert (found.basis, simple.basis) == ("stratified", "simple")
    assert found.accuracy.to_json() == simple.accuracy.to_json()
    assert any("the file has no sampling design of its points" in note for note in found.notes)
    assert not any("no sampling design" in note for note in simple.notes)
    assert "post-stratified" in simple.estimator
    assert "Olofsson" in found.estimator


def test_a_map_changed_since_the_points_were_drawn_keeps_their_strata(ground, tmp_path):
    folder, mapped, truth = ground
    sample(folder / "map.tif", tmp_path / "points.gpkg", n=400)
    row, column = filled(tmp_path / "points.gpkg", truth)
    better = np.where((np.arange(SHAPE[1]) < 50) & (mapped > 0), truth, mapped)
    tagged(tmp_path / "better.tif", better, NAMES)
    found = assess(tmp_path / "better.tif", tmp_path / "points.gpkg")
    table = np.zeros((3, 3, 3), int)
    at = mapped[row, column] - 1, better[row, column] - 1, truth[row, column] - 1
    np.add.at(table, at, 1)
    expected = by_stratum(table, np.bincount(mapped.ravel())[1:])
    assert found.accuracy.overall.value == pytest.approx(expected.overall.value)
    assert found.accuracy.users[2].error == pytest.approx(expected.users[2].error)
    assert "Stehman" in found.estimator
    right = (better == truth)[better > 0].mean()
    assert abs(found.accuracy.overall.value - right) < 3 * found.accuracy.overall.error


def test_a_stratum_without_labelled_points_makes_all_values_unknown(ground, tmp_path):
    folder, mapped, truth = ground
    sample(folder / "map.tif", tmp_path / "points.gpkg", n=400)
    filled(tmp_path / "points.gpkg", truth)
    frame = gpd.read_file(tmp_path / "points.gpkg")
    frame.loc[frame.stratum == "rock", "class"] = None
    frame.to_file(tmp_path / "points.gpkg")
    tagged(tmp_path / "better.tif", np.where(mapped > 0, truth, 0), NAMES)
    for name in (folder / "map.tif", tmp_path / "better.tif"):
        found = assess(name, tmp_path / "points.gpkg")
        assert np.isnan(found.accuracy.overall.value)
        assert found.left_out["without a class"] == (frame.stratum == "rock").sum()


def test_strata_removed_from_the_file_raise_an_error(ground, tmp_path):
    folder, mapped, truth = ground
    sample(folder / "map.tif", tmp_path / "points.gpkg", n=400)
    filled(tmp_path / "points.gpkg", truth)
    frame = gpd.read_file(tmp_path / "points.gpkg")
    frame[frame.stratum != "rock"].to_file(tmp_path / "fewer.gpkg")
    tagged(tmp_path / "better.tif", np.where(mapped > 0, truth, 0), NAMES)
    with pytest.raises(OutcropError, match="restore the points"):
        assess(tmp_path / "better.tif", tmp_path / "fewer.gpkg")
    found = assess(folder / "map.tif", tmp_path / "fewer.gpkg")
    assert np.isnan(found.accuracy.overall.value)
    assert any("no point is in 'rock'" in note for note in found.notes)


def test_points_left_out_are_counted_by_reason(ground, tmp_path):
    folder, _, _ = ground
    row, column, names = some(ground, 50)
    names[:3] = "ice"
    path = points(
        tmp_path / "points.gpkg",
        [*row, 2, 300, 300, row[5], row[6], row[7], row[8]],
        [*column, 2, 10, 11, column[5], column[6], column[7], column[8]],
        [*names, "rice", "rice", "rock", names[5], "other thing", None, ""],
    )
    found = assess(folder / "map.tif", path)
    assert found.left_out == {
        "without a class": 2,
        "outside the map": 2,
        "where the map has no data": 1,
        "in a pixel that has another point": 1,
        "in one pixel but of different classes": 2,
    }
    assert found.counts.sum() == 49
    assert found.classes == (*NAMES, "ice")
    assert "the map has no 'ice': its 3 points count as wrong" in found.notes
    assert found.counts[:, 3].sum() == 3
    assert found.accuracy.producers[3].value == 0


def test_points_in_another_system_and_with_numbers_for_names(ground, tmp_path):
    _, mapped, truth = ground
    tagged(tmp_path / "map.tif", mapped, ("1", "2", "3"))
    row, column, _ = some(ground)
    numbers = pd.array(truth[row, column], "Int64")
    path = points(tmp_path / "points.gpkg", row, column, numbers)
    degrees = gpd.read_file(path).to_crs(4326).rename(columns={"class": "seen"})
    degrees.to_file(tmp_path / "degrees.geojson")
    one = assess(tmp_path / "map.tif", path)
    other = assess(tmp_path / "map.tif", tmp_path / "degrees.geojson", column="seen")
    assert one.accuracy.to_json() == other.accuracy.to_json()
    assert one.counts.sum() == 300


def polygons(path, squares, **columns):
    """Squares of pixels: (name, first row, first column, side)."""
    shapes = []
    for _, row, column, side in squares:
        (x0, y1), (x1, y0) = GRID @ (column, row), GRID @ (column + side, row + side)
        shapes.append(box(x0, y0, x1, y1))
    frame = gpd.GeoDataFrame(
        {"class": [name for name, *_ in squares], **columns}, geometry=shapes, crs=UTM
    )
    frame.to_file(path)
    return path


def fields(ground, keep=0.6):
    """A square of 6 pixels in the middle of some of the fields."""
    _, _, truth = ground
    random = np.random.default_rng(1)
    return [
        (NAMES[truth[row, column] - 1], row + 2, column + 2, 6)
        for row in range(10, SHAPE[0], 10)
        for column in range(0, SHAPE[1], 10)
        if random.random() < keep
    ]


def test_polygons_are_pieces_and_their_pixels_are_not_independent(ground, tmp_path):
    folder, mapped, truth = ground
    squares = fields(ground)
    path = polygons(tmp_path / "fields.gpkg", squares)
    found = assess(folder / "map.tif", path)
    inside = np.zeros(SHAPE, bool)
    for _, row, column, side in squares:
        inside[row : row + side, column : column + side] = True
    counts = table_of(mapped[inside], truth[inside])
    np.testing.assert_array_equal(found.counts, counts)
    points_would = by_map_class(counts, found.pixels)
    assert found.accuracy.overall.value == pytest.approx(points_would.overall.value)
    np.testing.assert_allclose(found.accuracy.proportions, points_would.proportions)
    assert found.accuracy.overall.error > 2 * points_would.overall.error
    assert (found.basis, found.pieces) == ("polygons", len(squares))
    assert "no probability sample" in found.design
    assert found.to_json() == assess(folder / "map.tif", path).to_json()


def test_blocks_hold_whole_polygons(ground, tmp_path):
    folder, _, _ = ground
    path = polygons(tmp_path / "fields.gpkg", fields(ground))
    found = assess(folder / "map.tif", path, block=300)
    assert found.pieces <= 4 * 4
    assert "blocks of 300 m" in found.estimator
    few = assess(folder / "map.tif", path, block=700)
    assert few.pieces < 5
    assert any("there are only" in note for note in few.notes)
    one = assess(folder / "map.tif", path, block=5_000)
    assert (one.pieces, str(one.accuracy.overall)[-7:]) == (1, "unknown")


def test_a_raster_of_all_pixels_is_counted(ground, tmp_path):
    folder, mapped, truth = ground
    found = assess(folder / "map.tif", folder / "truth.tif", block=100)
    known = mapped > 0
    np.testing.assert_array_equal(found.counts, table_of(mapped[known], truth[known]))
    assert found.left_out == {"where the map has no data": 500}
    assert found.accuracy.overall.value == pytest.approx((mapped == truth)[known].mean())
    areas = np.bincount(truth[known])[1:] / known.sum()
    for one, true in zip(found.accuracy.area, areas, strict=True):
        assert (one.value, one.error) == (pytest.approx(true), 0)
    assert (found.pieces, found.block) == (12 * 10, 100)
    # Errors come in squares of 5 pixels, so blocks give wider intervals than pixels.
    alone = np.sqrt(found.accuracy.overall.value * (1 - found.accuracy.overall.value) / known.sum())
    assert found.accuracy.overall.error > 2 * alone
    assert assess(folder / "map.tif", folder / "truth.tif").block == pytest.approx(120)


def test_a_raster_with_gaps_represents_the_rest(ground, tmp_path, monkeypatch):
    folder, mapped, truth = ground
    monkeypatch.setattr("outcrop.sources.class_raster._WINDOW", 32)
    half = np.where(np.arange(SHAPE[1]) < 50, truth, 0)
    grid = GRID @ Affine.scale(0.5)
    fine = np.kron(half, np.ones((2, 2), int))
    tagged(tmp_path / "half.tif", fine, NAMES, transform=grid)
    found = assess(folder / "map.tif", tmp_path / "half.tif", block=100)
    known = (mapped > 0) & (half > 0)
    counts = table_of(mapped[known], truth[known])
    np.testing.assert_array_equal(found.counts, counts)
    expected = by_map_class(counts, found.pixels)
    assert found.accuracy.overall.value == pytest.approx(expected.overall.value)
    assert any("covers 50.0 % of the map" in note for note in found.notes)


def test_a_map_in_degrees_has_areas_and_blocks_in_metres(ground, tmp_path):
    _, mapped, truth = ground
    grid = Affine(1e-3, 0, 106, 0, -1e-3, 60)
    tagged(tmp_path / "map.tif", mapped, NAMES, crs="EPSG:4326", transform=grid)
    tagged(tmp_path / "truth.tif", truth, NAMES, crs="EPSG:4326", transform=grid)
    # At 60° north a thousandth of a degree is 111 m high and 56 m wide.
    found = assess(tmp_path / "map.tif", tmp_path / "truth.tif", block=1_114)
    sphere = 6_371_000**2 * np.radians(1e-3) ** 2 * np.cos(np.radians(59.94))
    assert found.unit == "ha"
    assert found.whole == pytest.approx((mapped > 0).sum() * sphere / 10_000, rel=0.01)
    assert 12 * 5 <= found.pieces <= 13 * 6


def test_points_inside_training_patches_are_counted(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 200, (2, 120, 100)).astype("uint16")
    write_raster(tmp_path / "scene.tif", pixels)
    tagged(tmp_path / "map.tif", np.ones((120, 100)), ["rice", "water"])
    labels = np.zeros((120, 100), "uint8")
    labels[20, 20], labels[70, 55] = 1, 2
    tagged(tmp_path / "labels.tif", labels, ["rice", "water"])
    patches = oc.cut(tmp_path / "scene.tif", labels=tmp_path / "labels.tif", size=8)
    assert len(patches) == 2
    # A patch of 8 begins 4 pixels before its centre and ends 3 after it.
    rows, columns = [16, 15, 23, 24, 20, 66, 5], [16, 16, 23, 23, 24, 58, 5]
    path = points(tmp_path / "p.gpkg", rows, columns, ["rice", "water"] * 3 + ["rice"])
    found = assess(tmp_path / "map.tif", path, patches=patches)
    assert found.trained_on == 3
    assert any(note.startswith("3 of 7 points are inside patches") for note in found.notes)
    degrees = gpd.read_file(path).to_crs(4326)
    degrees.to_file(tmp_path / "degrees.gpkg")
    tagged(tmp_path / "other.tif", np.ones((120, 100)), ["rice", "water"])
    assert assess(tmp_path / "map.tif", tmp_path / "degrees.gpkg", patches=patches).trained_on == 3


def test_an_assessment_is_read_as_it_was_written(ground, tmp_path):
    folder, _, _ = ground
    row, column, names = some(ground, 40)
    path = points(tmp_path / "points.gpkg", row, column, names)
    found = assess(folder / "map.tif", path)
    write_assessment(tmp_path / "a.json", found)
    back = read_assessment(tmp_path / "a.json")
    assert back.to_json() == found.to_json()
    assert (back.notes, back.design, back.estimator) == (found.notes, found.design, found.estimator)
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(OutcropError, match="is not an assessment"):
        read_assessment(tmp_path / "b.json")


def test_a_sample_without_errors_has_an_interval(ground, tmp_path):
    folder, mapped, truth = ground
    row, column = np.nonzero((mapped == truth) & (mapped > 0))
    chosen = np.flatnonzero(mapped[row, column] == 1)[:59]
    rest = np.random.default_rng(0).choice(len(row), 200, replace=False)
    chosen = np.unique(np.r_[chosen, rest[mapped[row[rest], column[rest]] != 1]])
    names = np.array(NAMES, object)[truth[row[chosen], column[chosen]] - 1]
    found = assess(
        folder / "map.tif", points(tmp_path / "p.gpkg", row[chosen], column[chosen], names)
    )
    assert any("all 59 points in 'rice' are right" in note for note in found.notes)
    assert found.accuracy.users[0].low == pytest.approx(0.025 ** (1 / 59))
    assert str(found.accuracy.users[0]) == "100.0 [93.9, 100.0]"


def test_the_command(ground, tmp_path, capfd, monkeypatch):
    folder, _, truth = ground
    monkeypatch.chdir(tmp_path)
    assert run(f"sample {folder}/map.tif -o points.gpkg --n 300") == 0
    filled(tmp_path / "points.gpkg", truth)
    capfd.readouterr()
    assert run(f"assess {folder}/map.tif points.gpkg -o a.json --csv a.csv") == 0
    out = capfd.readouterr().out
    found = read_assessment("a.json")
    assert f"overall accuracy {found.accuracy.overall}; accuracies in %" in out
    assert "± is 1.96 standard errors" in out
    assert found.accuracy.area[1].scaled(found.whole) in out
    assert json.loads((tmp_path / "a.json").read_text())["design"].startswith("stratified random")
    table = pd.read_csv("a.csv")
    assert table["class"].tolist() == list(NAMES)
    np.testing.assert_allclose(table["users"], [one.value for one in found.accuracy.users])
    np.testing.assert_array_equal(table["reference water"], found.counts[:, 1])


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        ("map.tif gone.gpkg", ["gone.gpkg", "no such file"]),
        ("gone.tif points.gpkg", ["gone.tif", "no such file"]),
        ("plain.tif points.gpkg", ["plain.tif", "is not a class map"]),
        ("map.tif notes.gpkg", ["notes.gpkg", "neither a vector file nor a raster"]),
        ("map.tif notes.tif", ["notes.tif", "neither a vector file nor a raster"]),
        ("map.tif points.gpkg --column kind", ["'kind'", "--column", "class"]),
        ("map.tif no-column.gpkg", ["no-column.gpkg", "'class'", "--column", "kind"]),
        ("map.tif unfilled.gpkg", ["unfilled.gpkg", "no class in column 'class' yet"]),
        ("map.tif strange.gpkg", ["strange.gpkg", "has no class of the map", "Rice", "rice"]),
        ("map.tif far.gpkg", ["far.gpkg", "no point on a pixel with a class"]),
        ("map.tif mixed.gpkg", ["mixed.gpkg", "only points or only polygons"]),
        ("map.tif lines.gpkg", ["lines.gpkg", "lines only"]),
        ("map.tif strata.gpkg", ["strata.gpkg", "stratum_pixels"]),
        ("map.tif half-strata.gpkg", ["half-strata.gpkg", "1 points without stratum"]),
        ("map.tif points.gpkg --block 100", ["--block", "points"]),
        ("map.tif fields.gpkg --design simple", ["--design", "polygons"]),
        ("map.tif fields.gpkg --block 0", ["--block", "above 0"]),
        ("map.tif truth.tif --design simple", ["--design", "a raster"]),
        ("map.tif truth.tif --column class", ["--column", "a raster"]),
        ("map.tif plain.tif", ["plain.tif", "has no class of the map"]),
        ("map.tif fractions.tif", ["fractions.tif", "not integers"]),
        ("map.tif sampled.gpkg --design simple", ["--design", "stratified sample"]),
        ("map.tif points.gpkg -o points.gpkg", ["points.gpkg", "exists already"]),
        ("map.tif points.gpkg -o no/a.json", ["folder no", "make it first"]),
        ("map.tif points.gpkg --csv map.tif", ["map.tif", "exists already"]),
        ("map.tif points.gpkg --patches gone.zarr", ["gone.zarr", "no such"]),
    ],
)
def test_bad_input(ground, tmp_path, monkeypatch, capfd, arguments, pieces):
    _, mapped, truth = ground
    monkeypatch.chdir(tmp_path)
    tagged("map.tif", mapped, NAMES)
    tagged("truth.tif", truth, NAMES)
    write_raster("plain.tif", mapped.astype("uint8"), nodata=0)
    write_raster("fractions.tif", truth.astype("float32") / 7)
    for name in ("notes.gpkg", "notes.tif"):
        (tmp_path / name).write_text("no such thing")
    row, column, names = some(ground, 60)
    points("points.gpkg", row, column, names)
    points("unfilled.gpkg", row, column, [None] * 60)
    points("strange.gpkg", row, column, ["Rice"] * 60)
    points("far.gpkg", row + 5_000, column, names)
    points("strata.gpkg", row, column, names, stratum=names)
    points("half-strata.gpkg", row, column, names, stratum=[None, *names[1:]])
    gpd.read_file("points.gpkg").rename(columns={"class": "kind"}).to_file("no-column.gpkg")
    polygons("fields.gpkg", fields(ground))
    both = pd.concat([gpd.read_file("points.gpkg"), gpd.read_file("fields.gpkg")])
    both.to_file("mixed.gpkg")
    lines = gpd.read_file("fields.gpkg")
    lines.set_geometry(lines.boundary).to_file("lines.gpkg")
    sample("map.tif", "sampled.gpkg", n=200)
    filled("sampled.gpkg", truth)
    check_refused(tmp_path, monkeypatch, capfd, f"assess {arguments}", *pieces)


def test_a_full_disk_leaves_nothing(ground, tmp_path):
    folder, _, _ = ground
    row, column, names = some(ground, 60)
    points(tmp_path / "p.gpkg", row, column, names)
    command = f"assess {folder}/map.tif p.gpkg -o a.json"
    end = start(command, cwd=tmp_path, preexec_fn=largest_file(500))
    assert (end.returncode, end.stdout) == (2, "")
    assert "a.json" in end.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["p.gpkg"]


def test_a_point_on_an_edge_belongs_to_one_pixel(tmp_path):
    tagged(tmp_path / "map.tif", [[1, 2], [1, 2]], ["rice", "water"])
    x, y = GRID @ (1, 1)
    frame = gpd.GeoDataFrame({"class": ["water"]}, geometry=[Point(x, y)], crs=UTM)
    frame.to_file(tmp_path / "p.gpkg")
    found = assess(tmp_path / "map.tif", tmp_path / "p.gpkg")
    assert found.counts.tolist() == [[0, 0], [0, 1]]


def unnamed(path, truth, **options):
    """The truth with the values 10, 20 and 30, without names."""
    return write_raster(path, (10 * truth).astype(np.uint8), nodata=0, **options)


def test_the_values_of_a_raster_are_named_as_for_patches(ground, tmp_path, capfd):
    folder, _, truth = ground
    unnamed(tmp_path / "truth.tif", truth)
    wanted = assess(folder / "map.tif", folder / "truth.tif", block=100)
    for classes in (list(NAMES), [f"{10 * k}={name}" for k, name in enumerate(NAMES, 1)]):
        found = assess(folder / "map.tif", tmp_path / "truth.tif", block=100, classes=classes)
        np.testing.assert_array_equal(found.counts, wanted.counts)
        assert found.classes == wanted.classes
    names = ",".join(NAMES)
    assert run(f"assess {folder}/map.tif {tmp_path}/truth.tif --classes {names} --block 100") == 0
    assert "note" not in capfd.readouterr().err
    page = tmp_path / "page.html"
    command = f"report {folder}/map.tif --truth {tmp_path}/truth.tif -o {page}"
    assert run(command) == 2
    assert "has no class of the map" in capfd.readouterr().err
    assert run(f"{command} --classes {names}") == 0
    assert page.exists()


def test_a_raster_without_crs_gets_the_given_one(ground, tmp_path):
    folder, _, truth = ground
    unnamed(tmp_path / "truth.tif", truth, crs=None)
    options = {"block": 100, "classes": list(NAMES)}
    with pytest.raises(OutcropError, match="`labels_crs`"):
        assess(folder / "map.tif", tmp_path / "truth.tif", **options)
    found = assess(folder / "map.tif", tmp_path / "truth.tif", labels_crs=UTM, **options)
    wanted = assess(folder / "map.tif", folder / "truth.tif", block=100)
    np.testing.assert_array_equal(found.counts, wanted.counts)


def test_unusable_features_are_counted_and_a_layer_is_selected(ground, tmp_path):
    folder = ground[0]
    path = tmp_path / "reference.gpkg"
    polygons(path, fields(ground))
    frame = gpd.read_file(path)
    wanted = assess(folder / "map.tif", path)
    spoilt = pd.concat([frame, frame.iloc[:3].assign(**{"class": [None, " ", None]})])
    line = frame.iloc[:1].set_geometry(frame.iloc[:1].boundary)
    spoilt = pd.concat([spoilt, line, frame.iloc[:1].set_geometry([None])])
    spoilt["class"] = spoilt["class"].map(lambda name: f" {name} ", na_action="ignore")
    spoilt.to_file(path, layer="spoilt", mode="a")
    with pytest.raises(OutcropError, match="has the layers 'reference', 'spoilt'"):
        assess(folder / "map.tif", path)
    found = assess(folder / "map.tif", path, layer="spoilt")
    np.testing.assert_array_equal(found.counts, wanted.counts)
    reasons = {"without a class": 3, "of lines only": 1, "without a geometry": 1}
    assert found.left_out == wanted.left_out | reasons


def test_a_map_smaller_than_the_strata_is_assessed_as_a_domain(ground, tmp_path):
    folder, mapped, truth = ground
    sample(folder / "map.tif", tmp_path / "points.gpkg", n=600)
    row, column = filled(tmp_path / "points.gpkg", truth)
    smaller = np.where((np.arange(SHAPE[1]) < 60) | (mapped == 2), mapped, 0)
    tagged(tmp_path / "smaller.tif", smaller, NAMES)
    found = assess(tmp_path / "smaller.tif", tmp_path / "points.gpkg")
    # The ratio of two totals and its variance (Cochran 1977, section 6.11).
    stratum, on = mapped[row, column] - 1, smaller[row, column] > 0
    N = np.bincount(mapped[mapped > 0] - 1)
    right = on & (smaller[row, column] == truth[row, column])

    def means(y):
        return np.array([y[stratum == h].mean() for h in range(3)])

    ratio = N @ means(right) / (N @ means(on))
    residual = right - ratio * on
    per = [N[h] ** 2 * residual[stratum == h].var(ddof=1) / (stratum == h).sum() for h in range(3)]
    error = np.sqrt(sum(per)) / (N @ means(on))
    assert found.accuracy.overall.value == pytest.approx(ratio)
    assert found.accuracy.overall.error == pytest.approx(error)
    assert np.nansum(found.accuracy.proportions) == pytest.approx(1)
    assert sum(one.value for one in found.accuracy.area) == pytest.approx(1)
    assert found.left_out["where the map has no data"] == (~on).sum()


def test_intervals_of_a_domain_contain_the_truth(ground, tmp_path):
    folder, mapped, truth = ground
    smaller = np.where(np.arange(SHAPE[0])[:, None] < 70, mapped, 0)
    tagged(tmp_path / "smaller.tif", smaller, NAMES)
    there, held = smaller > 0, 0
    for seed in range(25):
        sample(folder / "map.tif", tmp_path / f"{seed}.gpkg", n=250, seed=seed)
        filled(tmp_path / f"{seed}.gpkg", truth)
        rice = assess(tmp_path / "smaller.tif", tmp_path / f"{seed}.gpkg").accuracy.area[0]
        held += rice.low <= (truth[there] == 1).mean() <= rice.high
    assert held >= 21


def test_points_removed_with_a_part_of_the_map_raise_an_error(ground, tmp_path):
    folder, mapped, truth = ground
    sample(folder / "map.tif", tmp_path / "points.gpkg", n=400)
    row, column = filled(tmp_path / "points.gpkg", truth)
    smaller = np.where(np.arange(SHAPE[1]) < 60, mapped, 0)
    tagged(tmp_path / "smaller.tif", smaller, NAMES)
    frame = gpd.read_file(tmp_path / "points.gpkg")
    frame[smaller[row, column] > 0].to_file(tmp_path / "left.gpkg")
    with pytest.raises(OutcropError, match=r"all of its .* points have a class in the map"):
        assess(tmp_path / "smaller.tif", tmp_path / "left.gpkg")
