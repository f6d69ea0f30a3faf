"""Files beside a map: styles, attribute tables, and their owners."""

from __future__ import annotations

import re
import xml.etree.ElementTree as Xml

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.mapping.classmap import sidecars, write_maps
from outcrop.mapping.job import Window
from outcrop.mapping.layers import LAYERS
from outcrop.mapping.openmap import map_classes
from outcrop.mapping.polygons import check_polygons, write_polygons
from outcrop.mapping.scene import map_scene
from outcrop.mapping.styles import ramp_style
from outcrop.patches.palette import colours, palette
from outcrop.sources.opening import open_scene
from tests.gis import opened
from tests.rasters import write_raster
from tests.test_mapping import dense, noise

ODD = ("water & <mud>", "\"rice\" 'x'", "红树林", "2019", "a\x01b", "é\u2028; |")


def write(folder, values, classes, **further):
    """Write a class map of `values`, rows × columns, and further layers; return their paths."""
    values = np.asarray(values, np.uint8)
    scene = open_scene(write_raster(folder / "scene.tif", np.ones(values.shape, np.uint8)))
    layers = {"classes": values} | {
        name: np.asarray(one, np.uint8) for name, one in further.items()
    }
    files = {name: folder / f"{name}.tif" for name in layers}
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    windows = [(Window(0, 0, *values.shape), np.stack(list(layers.values())))]
    write_maps(files, scene, palette(classes), windows, scratch)
    return files


def entries(path):
    """Value, colour and name of each class in the style of a class map."""
    found = Xml.fromstring(path.with_suffix(".qml").read_text("utf-8")).iter("paletteEntry")
    return [(int(one.get("value")), one.get("color"), one.get("label")) for one in found]


def hexadecimal(classes):
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours(classes)]


# Possible class names: labels are stripped and not empty.
names = st.lists(
    st.text(max_size=12).map(str.strip).filter(lambda name: name.isprintable() and name),
    min_size=1, max_size=254, unique=True,
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(classes=names, data=st.data())
def test_style_and_table_have_exactly_the_classes(tmp_path_factory, classes, data):
    folder = tmp_path_factory.mktemp("map")
    numbers = st.integers(0, len(classes))
    values = np.array(data.draw(st.lists(numbers, min_size=12, max_size=12))).reshape(3, 4)
    path = write(folder, values, classes)["classes"]
    wanted = list(zip(range(1, 255), hexadecimal(classes), classes, strict=False))
    assert entries(path) == wanted
    assert map_classes(path) == tuple(classes)
    band = Xml.parse(path.with_name("classes.tif.aux.xml")).getroot().find("PAMRasterBand")
    assert [one.text for one in band.find("CategoryNames")] == ["nodata", *classes]
    rows = [[cell.text for cell in row] for row in band.iter("Row")]
    assert [(int(row[0]), row[2]) for row in rows] == [(k, name) for k, _, name in wanted]
    assert [int(row[1]) for row in rows] == [(values == k).sum() for k, *_ in wanted]
    with rasterio.open(path) as dataset:
        table = dataset.colormap(1)
    expected = [(0, 0, 0, 0), *((*colour, 255) for colour in colours(classes))]
    assert [table[value] for value in sorted(table)] == expected


def test_the_file_alone_has_names_and_colours(tmp_path):
    path = write(tmp_path, [[0, 1], [2, 1]], ["a", "b"])["classes"]
    for one in sidecars(path):
        one.unlink(missing_ok=True)
    assert map_classes(path) == ("a", "b")
    with rasterio.open(path) as dataset:
        assert [dataset.colormap(1)[k][:3] for k in (1, 2)] == colours(["a", "b"])


def test_the_table_counts_what_the_sieve_has_left(tmp_path):
    scene = write_raster(tmp_path / "scene.tif", noise(), nodata=0)
    map_scene(dense(), scene, tmp_path / "map.tif", sieve=12)
    with rasterio.open(tmp_path / "map.tif") as dataset:
        values = dataset.read(1)
    rows = Xml.parse(tmp_path / "map.tif.aux.xml").iter("Row")
    found = [int(row[1].text) for row in rows]
    assert found == np.bincount(values.ravel(), minlength=5)[1:].tolist()


@pytest.mark.parametrize("name", [name for name, layer in LAYERS.items() if layer.ramp])
def test_ramps_are_monotonic_in_value_and_lightness(name):
    """Their order is visible for everybody and in grey; values beyond the ramp differ in hue."""
    layer = LAYERS[name]
    items = list(Xml.fromstring(ramp_style(layer.ramp, layer.unit)).iter("item"))
    values = [int(item.get("value")) for item in items]
    assert values[:5] == [0, 25, 50, 75, 100]
    assert all(value < layer.nodata for value in values)
    rgb = np.array([[int(item.get("color")[k : k + 2], 16) for k in (1, 3, 5)] for item in items])
    steps = np.diff(rgb[:5] @ (0.2126, 0.7152, 0.0722))
    assert (np.abs(steps) > 15).all()
    assert len(set(np.sign(steps))) == 1
    assert items[0].get("label") == "0 %"
    if name == "dissimilarity":
        assert (values[5], len(items)) == (101, 6)
        assert "outside the area of applicability" in items[5].get("label")


def test_every_layer_has_its_style(tmp_path):
    scene = write_raster(tmp_path / "scene.tif", noise(), nodata=0)
    files = {name: tmp_path / f"{name}.tif" for name in ("confidence", "entropy", "second")}
    map_scene(dense(), scene, tmp_path / "map.tif", **files)
    assert {path.name for path in tmp_path.iterdir()} == {
        "scene.tif",
        *("map.tif", "map.qml", "map.tif.aux.xml"),
        *("confidence.tif", "confidence.qml"),
        *("entropy.tif", "entropy.qml"),
        *("second.tif", "second.qml", "second.tif.aux.xml"),
    }
    assert (tmp_path / "second.qml").read_text() == (tmp_path / "map.qml").read_text()


@pytest.mark.parametrize("ending", [".qml", ".tif.aux.xml", ".tif.ovr", ".tif.msk", ".tif.vat.dbf"])
@pytest.mark.parametrize("layer", ["map", "sure"])
def test_sidecars_of_another_file_are_refused_or_replaced(tmp_path, layer, ending):
    scene = write_raster(tmp_path / "scene.tif", noise(), nodata=0)
    old = tmp_path / f"{layer}{ending}"
    old.write_text("<old/>")
    files = tmp_path / "map.tif", tmp_path / "sure.tif"
    before = set(tmp_path.iterdir())
    with pytest.raises(
        OutcropError, match=f"{re.escape(old.name)}: exists already; .* `overwrite=True`"
    ):
        map_scene(dense(), scene, *files)
    assert set(tmp_path.iterdir()) == before
    map_scene(dense(), scene, *files, overwrite=True)
    assert not old.exists() or "<old/>" not in old.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("scene.tif", "map.tif", "map.qml", "map.tif.aux.xml", "sure.tif", "sure.qml")
    }


def test_a_failed_map_keeps_the_old_map_and_its_sidecars(tmp_path, monkeypatch):
    scene = write_raster(tmp_path / "scene.tif", noise(), nodata=0)
    files = tmp_path / "map.tif", tmp_path / "sure.tif"
    map_scene(dense(), scene, *files)
    (tmp_path / "sure.tif.ovr").write_bytes(b"old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("outcrop.mapping.classmap.ramp_style", fails)
    with pytest.raises(OutcropError, match="the disk is full"):
        map_scene(dense(seed=3), scene, *files, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("map_name", "sure", "message"),
    [
        ("map.tif", "map.tiff", "map.tiff: would share map.qml with .*map.tif"),
        ("map.tif", "map.qml", "map.qml: would share map.qml with .*map.tif"),
        ("map.tif", "map.tif.ovr", "map.tif.ovr: would share map.tif.ovr with .*map.tif"),
        ("scene.tiff", "sure.tif", "scene.tiff: would share scene.qml with .*scene.tif"),
    ],
)
def test_no_sidecar_belongs_to_two_files(tmp_path, map_name, sure, message, overwrite):
    scene = write_raster(tmp_path / "scene.tif", noise(), nodata=0)
    with pytest.raises(OutcropError, match=message):
        map_scene(dense(), scene, tmp_path / map_name, tmp_path / sure, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_a_folder_as_map_is_refused(tmp_path, monkeypatch):
    scene = write_raster(tmp_path / "scene.tif", noise(), nodata=0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutcropError, match="is a folder; name a file"):
        map_scene(dense(), scene, ".", overwrite=True)


def test_the_style_of_polygons_is_in_the_file(tmp_path):
    path = write(tmp_path, [[0, 1], [3, 1]], ["a", "b", "c & d"])["classes"]
    write_polygons(path, tmp_path / "map.gpkg")
    write_polygons(path, tmp_path / "map.gpkg")
    assert pyogrio.list_layers(tmp_path / "map.gpkg")[:, 0].tolist() == ["classes", "layer_styles"]
    assert gpd.read_file(tmp_path / "map.gpkg", layer="classes")["class"].tolist() == ["a", "c & d"]
    (row,) = pyogrio.read_dataframe(tmp_path / "map.gpkg", layer="layer_styles").itertuples()
    assert (row.f_table_name, row.f_geometry_column, row.useAsDefault) == ("classes", "geom", True)
    categories = Xml.fromstring(row.styleQML).iter("category")
    assert [one.get("value") for one in categories] == ["a", "b", "c & d"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("map.tif", "not the name of a GeoPackage"), ("map.gpkg", "is the name of a map")],
)
def test_polygons_need_a_geopackage_of_their_own(tmp_path, name, message):
    with pytest.raises(OutcropError, match=message):
        check_polygons(tmp_path / name, [tmp_path / "sub" / ".." / name], overwrite=True)


def test_polygons_never_replace_their_map(tmp_path):
    path = write(tmp_path, [[1, 1]], ["a"])["classes"]
    path = path.rename(tmp_path / "map.gpkg")
    before = path.read_bytes()
    with pytest.raises(OutcropError, match="is the name of a map"):
        write_polygons(path, path)
    assert path.read_bytes() == before


def test_sqlite_files_of_old_polygons_are_removed(tmp_path):
    path = write(tmp_path, [[1, 1]], ["a"])["classes"]
    old = tmp_path / "map.gpkg-wal"
    old.write_bytes(b"changes of another file")
    with pytest.raises(OutcropError, match="gpkg-wal: exists already"):
        check_polygons(tmp_path / "map.gpkg", [], overwrite=False)
    write_polygons(path, tmp_path / "map.gpkg")
    assert not old.exists()


def expected_colours(values, classes):
    """RGBA of every pixel of a class map, no data transparent."""
    table = np.zeros((256, 4), np.uint8)
    table[1 : len(classes) + 1] = [(*colour, 255) for colour in colours(classes)]
    return table[values]


def legend(classes):
    return [
        [name.replace("\x01", ""), f"#ff{colour[1:]}"]
        for name, colour in zip(classes, hexadecimal(classes), strict=True)
    ]


@pytest.mark.parametrize(
    ("classes", "present"),
    [(ODD, 6), (ODD, 1), (tuple(f"class {k}" for k in range(1, 255)), 254)],
    ids=["names to be escaped", "one class present", "254 classes"],
)
def test_qgis_shows_exactly_the_classes(tmp_path, classes, present):
    values = np.resize(np.arange(present + 1), (30, 40))
    files = write(tmp_path, values, classes, second=values[::-1])
    both = opened(*files.values())
    for found, shown in zip(both, (values, values[::-1]), strict=True):
        assert (found["renderer"], found["legend"]) == ("paletted", legend(classes))
        assert np.array_equal(found["drawn"], expected_colours(shown, classes))
    table = both[0]["table"]
    usages = {"Value": 5, "Count": 1, "Class_Name": 2, "Red": 6, "Green": 7, "Blue": 8, "Alpha": 9}
    assert {column: usage for column, (usage, _) in table.items()} == usages
    assert table["Class_Name"][1] == [name for name, _ in legend(classes)]
    assert [float(n) for n in table["Count"][1]] == [
        (values == k + 1).sum() for k in range(len(classes))
    ]


def test_qgis_needs_no_style_to_show_the_classes(tmp_path):
    """QGIS before 3.30 also lists no data, because a colour table begins at 0."""
    values = np.resize(np.arange(4), (6, 8))
    path = write(tmp_path, values, ODD[:3])["classes"]
    path.with_suffix(".qml").unlink()
    (found,) = opened(path)
    assert [row for row in found["legend"] if row != ["nodata", "#00000000"]] == legend(ODD[:3])
    assert np.array_equal(found["drawn"], expected_colours(values, ODD[:3]))


def test_qgis_shows_ramps(tmp_path):
    values = np.array([[0, 25, 50, 75, 100, 255], [255, 101, 180, 254, 100, 99]], np.uint8)
    shares = np.minimum(values, np.where(values == 255, 255, 100))
    files = write(
        tmp_path,
        np.ones_like(values),
        ["a"],
        confidence=shares,
        entropy=shares,
        dissimilarity=values,
    )
    drawn = {"confidence": shares, "entropy": shares, "dissimilarity": values}
    several = opened(*(files[name] for name in drawn))
    for (name, shown), found in zip(drawn.items(), several, strict=True):
        layer = LAYERS[name]
        assert found["renderer"] == "singlebandpseudocolor"
        assert found["legend"] == [[s.label, f"#ff{s.colour[1:]}"] for s in layer.ramp.stops]
        assert found["bar"] == (" %" if layer.ramp.bar else None)
        assert np.array_equal(found["drawn"][..., 3], np.where(shown == 255, 0, 255))
        for stop in layer.ramp.stops:
            wanted = [int(stop.colour[k : k + 2], 16) for k in (1, 3, 5)]
            assert (found["drawn"][shown == stop.value, :3] == wanted).all()
    beyond = found["drawn"][(values > 100) & (values < 255), :3]
    assert len(beyond) == 3
    assert (beyond == (0xD5, 0x5E, 0x00)).all()


def test_qgis_shows_polygons_in_the_colours_of_the_map(tmp_path):
    """Also beside a map of the same name, whose style is for rasters."""
    path = write(tmp_path, [[0, 1, 2], [3, 4, 5]], ODD)["classes"]
    write_polygons(path, tmp_path / "classes.gpkg")
    (found,) = opened(tmp_path / "classes.gpkg")
    assert (found["renderer"], found["legend"]) == ("categorizedSymbol", legend(ODD))
    # All pixels except the outlines, which are smoothed.
    seen, count = np.unique(found["drawn"].reshape(-1, 4), axis=0, return_counts=True)
    areas = {tuple(colour) for colour in seen[count > 1000].tolist()}
    assert areas - {(0, 0, 0, 0)} == {(*colour, 255) for colour in colours(ODD)[:5]}
