"""Colours of classes: those of users are kept, and all others can be distinguished."""

from __future__ import annotations

import itertools
import sqlite3

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import box

from outcrop.errors import OutcropError
from outcrop.mapping.openmap import map_colours
from outcrop.mapping.polygons import write_polygons
from outcrop.mapping.scene import map_scene
from outcrop.mapping.styles import class_style, polygon_style
from outcrop.models.baselines import BASELINES
from outcrop.patches import palette
from outcrop.patches.cut import cut
from outcrop.patches.palette import colours, difference, parse_colour
from outcrop.patches.patchset import read_patches
from outcrop.sources import label_colours
from outcrop.sources.class_raster import open_class_raster
from outcrop.sources.labels import open_labels
from outcrop.splits import RandomSplit
from outcrop.training.fit import fit_classical
from outcrop.training.run import read_run
from tests.command_line import check_refused, run
from tests.rasters import ramp, tagged, write_raster

NAMES = (
    *("water", "farm", "Open Water", "Developed, Low Intensity", "Developed, High Intensity"),
    *("forest", "Evergreen Forest", "Mixed Forest", "grass", "pasture", "crops", "rice", "bare"),
    *("urban", "wetland", "snow", "cloud", "road", "mangrove", "sand", "sediment", "mudflat"),
    *("class 1", "class 2", "gneiss", "granite", "schist", "a", "b", "c", "d", "e"),
)
BLUE, GREEN = (1, 2, 250), (3, 240, 5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(NAMES), min_size=2, max_size=16, unique=True), st.data())
def test_chosen_colours_can_be_told_apart_by_everyone(names, data):
    kept = data.draw(st.sampled_from([{}, {names[-1]: BLUE}]))
    chosen = colours(names, kept)
    assert [chosen[names.index(name)] for name in kept] == list(kept.values())
    for one, other in itertools.combinations(chosen, 2):
        assert difference(one, other) > 0.05, (names, one, other)


def test_many_classes_have_different_colours():
    assert len(set(colours([f"class {i}" for i in range(255)]))) == 255


def test_farm_and_water_look_different():
    farm, water = colours(["farm", "water"])
    assert farm[2] < farm[0]  # yellow
    assert water[2] > water[0]  # blue


def test_colours_are_seen_as_in_published_models():
    """Red in OKLab (Ottosson 2020), and linear sRGB as in colorspacious 1.1.2 (Machado 2009)."""
    seen = palette._seen(np.array([[255, 0, 0]]))[0]
    np.testing.assert_allclose(seen[0], [0.62796, 0.22486, 0.12585], atol=1e-5)
    linear = [[0.1523, 0.1145, -0.0039], [0.3673, 0.2801, -0.0118], [1.2555, -0.0784, 0.0047]]
    np.testing.assert_allclose(palette._VISIONS[1:, :, 0], linear, atol=1e-4)
    orange = [0.4854, 0.3632, -0.0198], [0.5891, 0.4548, 0.0055], [0.9669, 0.2607, 0.2434]
    expected = np.cbrt(np.clip(orange, 0, 1) @ palette._TO_CONES.T) @ palette._TO_LAB.T
    np.testing.assert_allclose(palette._seen(np.array([[230, 159, 0]]))[0, 1:], expected, atol=2e-3)


def scene_and_raster(folder, **options):
    """A scene, and labels with the values 1 and 2 named water and land."""
    scene = write_raster(folder / "scene.tif", ramp())
    values = np.zeros((40, 50), np.uint8)
    values[:20:4, ::5], values[20::4, ::5] = 1, 2
    labels = tagged(folder / "labels.tif", values, ("water", "land"), **options)
    return scene, labels


def with_table(path, table):
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, table)


def test_the_colours_of_a_label_raster_reach_the_map(tmp_path):
    scene, labels = scene_and_raster(tmp_path)
    with_table(labels, {1: (*BLUE, 255), 2: (*GREEN, 255)})
    patches = cut(scene, labels, size=5, output=tmp_path / "p.zarr")
    assert patches.palette == {"water": BLUE, "land": GREEN}
    assert read_patches(tmp_path / "p.zarr").colours == patches.colours
    fit_classical(patches, RandomSplit().assign(patches), tmp_path / "run", BASELINES[0])
    mapped = tmp_path / "map.tif"
    map_scene(read_run(tmp_path / "run"), scene, mapped)
    by_name = map_colours(mapped)
    assert by_name == {"water": BLUE, "land": GREEN}
    write_polygons(mapped, tmp_path / "map.gpkg")
    assert open_labels(tmp_path / "map.gpkg", "class").colours == by_name
    # A map is a label raster, too.
    assert open_class_raster(mapped).colours == by_name


def test_a_style_beside_a_raster_comes_before_its_table(tmp_path):
    _, labels = scene_and_raster(tmp_path)
    with_table(labels, {1: (9, 9, 9, 255), 2: (8, 8, 8, 255)})
    style = class_style(("water", "land"), [BLUE, GREEN])
    labels.with_suffix(".qml").write_text(style)
    assert open_labels(labels).colours == {"water": BLUE, "land": GREEN}
    labels.with_suffix(".qml").write_text("<qgis")
    assert open_labels(labels).colours["water"] == (9, 9, 9)


def test_colours_that_classes_share_are_not_kept(tmp_path):
    scene, labels = scene_and_raster(tmp_path)
    with_table(labels, {1: (0, 0, 0, 255), 2: (0, 0, 0, 255)})
    assert cut(scene, labels, size=5).colours == {}


def fields(path):
    shapes = [box(600_000 + 100 * i, 1_199_700, 600_080 + 100 * i, 1_199_950) for i in range(2)]
    frame = gpd.GeoDataFrame({"crop": ["rice", "maize"]}, geometry=shapes, crs=32648)
    frame.to_file(path, layer="fields")
    return path


# As QGIS 3.40 writes a categorized style.
NEW_STYLE = """<qgis version="3.40"><renderer-v2 type="categorizedSymbol" attr="crop"><categories>
<category value="rice" symbol="0"/><category value="maize" symbol="1"/><category symbol="2"/>
</categories><symbols><symbol type="fill" name="0"><layer class="SimpleFill"><Option type="Map">
<Option value="1,2,250,255,rgb:0.003,0.007,0.98,1" type="QString" name="color"/></Option></layer>
</symbol><symbol type="fill" name="1"><layer class="SimpleLine"><Option type="Map">
<Option value="3,240,5,255" type="QString" name="line_color"/></Option></layer></symbol></symbols>
</renderer-v2></qgis>"""
OLD_STYLE = """<qgis version="2.18"><renderer-v2 type="categorizedSymbol" attr="crop"><categories>
<category value="rice" symbol="0"/><category value="maize" symbol="1"/></categories><symbols>
<symbol name="0"><layer class="SimpleFill"><prop k="color" v="1,2,250,255"/></layer></symbol>
<symbol name="1"><layer class="SimpleFill"><prop k="color" v="3,240,5,255"/></layer></symbol>
</symbols></renderer-v2></qgis>"""


@pytest.mark.parametrize("style", [NEW_STYLE, OLD_STYLE], ids=["3.40", "2.18"])
def test_the_style_of_a_vector_file_is_kept(tmp_path, style):
    path = fields(tmp_path / "fields.geojson")
    path.with_suffix(".qml").write_text(style)
    assert open_labels(path, "crop").colours == {"rice": BLUE, "maize": GREEN}
    path.with_suffix(".qml").write_text(style.replace('attr="crop"', 'attr="owner"'))
    assert open_labels(path, "crop").colours == {}


def test_the_default_style_in_a_geopackage_is_kept(tmp_path):
    path = fields(tmp_path / "fields.gpkg")
    other = polygon_style("crop", ("rice", "maize"), [(7, 7, 7), (8, 8, 8)])
    with sqlite3.connect(path) as database:
        database.execute(
            "create table layer_styles (id integer primary key, f_table_name text, "
            "styleQML text, useAsDefault boolean)"
        )
        rows = [("fields", other, 0), ("fields", NEW_STYLE, 1), ("others", other, 1)]
        database.executemany(
            "insert into layer_styles (f_table_name, styleQML, useAsDefault) values (?, ?, ?)", rows
        )
    assert open_labels(path, "crop", layer="fields").colours == {"rice": BLUE, "maize": GREEN}


def test_colours_are_given_by_name(tmp_path, monkeypatch, capfd):
    scene, labels = scene_and_raster(tmp_path)
    with_table(labels, {1: (*BLUE, 255), 2: (*GREEN, 255)})
    assert cut(scene, labels, size=5, colours={"water": "#010203"}).colours == {
        "water": (1, 2, 3),
        "land": GREEN,
    }
    monkeypatch.chdir(tmp_path)
    cutting = "patches scene.tif --labels labels.tif --size 5"
    assert run(f"{cutting} --colours water=navy,land=#f00 -o p.zarr") == 0
    assert read_patches("p.zarr").colours == {"water": (0, 0, 128), "land": (255, 0, 0)}
    capfd.readouterr()
    for wrong, *pieces in (
        ("watr=#fff", "--colours", "'watr'", "water, land"),
        ("water=blurple", "'blurple'", "#rrggbb"),
        ("water", "--colours", "NAME=COLOUR"),
        ("water=red,land=#f00", "--colours", "one colour"),
    ):
        check_refused(
            tmp_path, monkeypatch, capfd, f"{cutting} --colours {wrong} -o q.zarr", *pieces
        )


def test_text_of_a_colour():
    assert parse_colour(" #0a0B0c ") == (10, 11, 12)
    with pytest.raises(OutcropError, match="#rrggbb"):
        parse_colour("12")


@pytest.mark.parametrize("columns", ["f_table_name text", "styleQML text", "owner text"])
def test_a_foreign_table_of_styles_is_no_error(tmp_path, columns):
    path = fields(tmp_path / "fields.gpkg")
    with sqlite3.connect(path) as database:
        database.execute(f"create table layer_styles (id integer primary key, {columns})")
        database.execute("insert into layer_styles (id) values (1)")
    assert open_labels(path, "crop", layer="fields").colours == {}


@pytest.mark.parametrize("path", [".", "..", "/", "x" * 5000, "<VRTDataset/>", "\0"])
def test_names_that_are_no_files_have_no_style_beside_them(path):
    assert label_colours._style_beside(path) is None


def test_colours_of_volumes_and_of_positions_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("cube.npy", rng.normal(size=(4, 12, 14)).astype(np.float32))
    np.save("facies.npy", rng.integers(1, 3, (4, 12, 14)).astype(np.uint8))
    given = "--classes sand,shale --colours sand=#e6d29c"
    cutting = "patches cube.npy --labels facies.npy --axis 0 --size 5 --stride 3"
    assert run(f"{cutting} {given} -o volume.zarr") == 0
    (tmp_path / "places.csv").write_text(
        "row,column,axis,index,label\n1,1,0,0,sand\n5,5,0,1,shale\n"
    )
    table = "patches cube.npy --positions places.csv --size 5 --colours sand=#e6d29c"
    assert run(f"{table} -o table.zarr") == 0
    for path in ("volume.zarr", "table.zarr"):
        assert read_patches(path).colours == {"sand": (230, 210, 156)}, path
