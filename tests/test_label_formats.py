"""Labels in many formats: archives, tables, layers, encodings."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
from shapely import Point, box

from outcrop.errors import OutcropError
from outcrop.patches.patchset import read_patches
from outcrop.sources.features import parts_of
from outcrop.sources.labels import open_labels
from outcrop.sources.vector import is_vector, read_vector
from tests.command_line import check_refused, content, run
from tests.label_files import (
    BOTH,
    POINTS,
    SHAPE,
    frame,
    label_raster,
    labelled,
    pixel,
    points,
    shapefile,
)
from tests.rasters import UTM, write_raster

pytestmark = pytest.mark.usefixtures("beside_a_scene")


def write_as(driver, name):
    frame().to_file(name, driver=driver)


def zipped(name, *files, inside=""):
    with zipfile.ZipFile(name, "w") as archive:
        for file in files:
            archive.write(file, f"{inside}{Path(file).name}")
            Path(file).unlink()


def kml(name):
    frame().to_crs(4326).to_file("doc.kml", driver="LIBKML")
    zipped(name, "doc.kml")


def sub_zip(name, inside="a/b/"):
    shapefile()
    Path("readme.txt").write_text("no data\n")
    zipped(name, *Path().glob("labels.*"), "readme.txt", inside=inside)


FORMATS = {
    "labels.tab": partial(write_as, "MapInfo File"),
    "labels.sqlite": partial(write_as, "SQLite"),
    "labels.gml": partial(write_as, "GML"),
    "labels.fgb": partial(write_as, "FlatGeobuf"),
    "labels.gpkg": partial(write_as, "GPKG"),
    "labels.geojson": partial(write_as, "GeoJSON"),
    "labels.kml": lambda name: frame().to_crs(4326).to_file(name, driver="LIBKML"),
    "labels.kmz": kml,
    "labels.parquet": lambda name: frame().to_parquet(name),
    "LABELS.PARQUET": lambda name: frame().to_parquet(name),
    "labels.geoparquet": lambda name: frame().to_parquet(name),
    "labels.feather": lambda name: frame().to_feather(name),
    "labels.shp": lambda name: shapefile(),
    "labels.zip": partial(sub_zip, inside=""),
    "deep.zip": sub_zip,
    "no-index.zip": lambda name: (
        shapefile(without=[".shx"]),
        zipped(name, *Path().glob("labels.*"), inside="a/"),
    ),
    "labels.geojson.gz": lambda name: (
        write_as("GeoJSON", "plain.geojson"),
        Path(name).write_bytes(gzip.compress(Path("plain.geojson").read_bytes())),
    ),
    # A name without a suffix, and one with the suffix of another format.
    "labels": lambda name: (write_as("GPKG", "x.gpkg"), Path("x.gpkg").rename(name)),
    "labels.dat": lambda name: (write_as("GeoJSON", "x.json"), Path("x.json").rename(name)),
    "without-index.shp": lambda name: shapefile(stem="without-index", without=[".shx"]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_pixels_and_no_new_file(name, tmp_path):
    FORMATS[name](name)
    for xsd in tmp_path.glob("*.xsd"):
        xsd.unlink()  # without it the GML driver of GDAL writes a sidecar file
    before = content(tmp_path)
    assert is_vector(name)
    assert labelled(name) == BOTH
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["/vsizip/deep.zip/a/b/labels.shp", "zip://deep.zip!a/b/labels.shp"]
)
def test_gdal_names_are_opened(name):
    sub_zip("deep.zip")
    assert labelled(name) == BOTH
    label_raster("l.tif", nodata=0)
    zipped("raster.zip", "l.tif", inside="a/b/")
    raster = name.replace("deep", "raster").replace("labels.shp", "l.tif")
    assert labelled(raster, None, classes=["water", "land"]) == BOTH
    with pytest.raises(OutcropError, match="neither a vector file nor a raster"):
        open_labels("/vsizip/deep.zip/a/b/none.shp", "class")


def test_labels_are_read_over_http():
    write_as("GeoJSON", "labels.geojson")
    raster = np.zeros(SHAPE, np.uint8)
    raster[2:4, 3:5], raster[20, 30] = 1, 2
    write_raster("labels.tif", raster, nodata=0)
    with served() as address:
        assert labelled(f"{address}/labels.geojson") == BOTH
        assert len(labelled(f"{address}/labels.tif", None)) == 5
        with pytest.raises(OutcropError):
            open_labels(f"{address}/none.geojson", "class")


SERVER = """
import http.server, pathlib, re

class Ranges(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        file = pathlib.Path("." + self.path)
        if not file.is_file():
            self.send_error(404)
            return
        content, wanted = file.read_bytes(), re.findall(r"\\d+", self.headers.get("Range", ""))
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            first, last = int(wanted[0]), min(int(wanted[1]), len(content) - 1)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def served():
    """The address of a server of the working folder, which runs in another process.

    While GDAL waits for an answer, other threads of this process do not run.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def table(header, xs, ys, separator=",", quote=""):
    rows = [
        separator.join([quote + x + quote, quote + y + quote, name])
        for x, y, name in zip(xs, ys, ("water", "land"), strict=True)
    ]
    return "\n".join([separator.join(header), *rows]) + "\n"


def commas(values):
    return [value.replace(".", ",") for value in values]


TABLES = {
    "lon and lat": lambda: (table(("Lon", "LAT", "class"), *points()), None),
    "longitude": lambda: (table(("longitude", "latitude", "class"), *points()), None),
    "another datum": lambda: (table(("lon", "lat", "class"), *points(4258)), "EPSG:4258"),
    "x and y": lambda: (table(("x", "y", "class"), *points(UTM)), UTM),
    "easting": lambda: (table(("Easting", "Northing", "class"), *points(UTM)), UTM),
    "semicolons": lambda: (table(("x", "y", "class"), *points(UTM), ";"), UTM),
    "tabs": lambda: (table(("x", "y", "class"), *points(UTM), "\t"), UTM),
    "decimal commas": lambda: (
        table(("x", "y", "class"), *map(commas, points(UTM)), ";"),
        UTM,
    ),
    "quoted decimal commas": lambda: (
        table(("lon", "lat", "class"), *map(commas, points()), ",", '"'),
        None,
    ),
    "byte order mark": lambda: ("\ufeff" + table(("lon", "lat", "class"), *points()), None),
    "degrees beside metres": lambda: (
        "lon,lat,x,y,class\n"
        + "".join(
            f"0,0,{x},{y},{name}\n"
            for x, y, name in zip(*points(UTM), ("water", "land"), strict=True)
        ),
        UTM,
    ),
    "WKT": lambda: (
        f"WKT,class\n{pixel(3, 4).wkt},water\n{pixel(21, 31).wkt},land\n",
        UTM,
    ),
    "WKT of another name": lambda: (
        f"class,geom\nwater,{pixel(3, 4).wkt}\nland,{pixel(21, 31).wkt}\n",
        UTM,
    ),
    "EWKT": lambda: (
        f"class,geom\nwater,SRID=32648;{pixel(3, 4).wkt}\nland,SRID=32648;{pixel(21, 31).wkt}\n",
        None,
    ),
    "WKB": lambda: (
        "class,geom\n"
        + "".join(
            f"{name},{shapely.to_wkb(shapely.set_srid(at, 32648), hex=True, include_srid=True)}\n"
            for name, at in (("water", pixel(3, 4)), ("land", pixel(21, 31)))
        ),
        None,
    ),
    "GeoJSON as Earth Engine writes it": lambda: (
        "class,.geo\n"
        + "".join(
            f'{name},"{{""type"":""Point"",""coordinates"":[{x},{y}]}}"\n'
            for name, x, y in zip(("water", "land"), *points(), strict=True)
        ),
        None,
    ),
}


@pytest.mark.parametrize("ending", ["csv", "txt"])
@pytest.mark.parametrize("kind", TABLES)
def test_tables_with_coordinate_columns_are_points(kind, ending):
    text, crs = TABLES[kind]()
    Path(f"labels.{ending}").write_text(text, encoding="utf-8")
    assert labelled(f"labels.{ending}", crs=crs) == POINTS


def test_tables_in_other_formats_are_points(capfd):
    lon, lat = points()
    rows = pd.DataFrame(
        {"lon": np.float64(lon), "lat": np.float64(lat), "class": ["water", "land"]}
    )
    pyogrio.write_dataframe(rows, "labels.xlsx", driver="XLSX")
    pyogrio.write_dataframe(rows, "table.gpkg")
    rows.to_parquet("table.parquet")
    for name in ("labels.xlsx", "table.gpkg", "table.parquet"):
        assert labelled(name) == POINTS
        assert f"{name}: points from the columns lon and lat, assumed in EPSG:4326" in (
            capfd.readouterr().err
        )


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("lon,lat,class\n600000,1200000,a\n", ["600000 in column lon", "--labels-crs"]),
        ("lon,lat,class\n15°3'E,45,a\n", ["row 1 has '15°3'E' in column lon", "decimal numbers"]),
        ("x,y,class\n600000,1200000,a\n", ["columns x and y", "--labels-crs"]),
        ("a,b,class\n1,2,a\n", ["no coordinate columns", "it has a, b, class"]),
        ("geom,class\nPOINT(1 x),a\n", ["row 1 has no valid geometry in column 'geom'"]),
        ("WKT,class\nPOINT(1 2),a\n", ["no coordinate reference system", "--labels-crs"]),
    ],
)
def test_tables_without_valid_coordinates_raise_an_error(
    tmp_path, monkeypatch, capfd, text, pieces
):
    Path("l.csv").write_text(text, encoding="utf-8")
    command = "patches scene.tif --labels l.csv --column class -o p.zarr"
    check_refused(tmp_path, monkeypatch, capfd, command, "l.csv", *pieces)


def test_degree_columns_with_a_projected_crs_raise_an_error(tmp_path, monkeypatch, capfd):
    Path("l.csv").write_text("lon,lat,class\n105,10,a\n")
    command = f"patches scene.tif --labels l.csv --column class --labels-crs {UTM} -o p.zarr"
    check_refused(tmp_path, monkeypatch, capfd, command, "not in degrees", "lon and lat")


def two_layers(name="layers.gpkg"):
    frame().to_file(name, layer="fields")
    frame(("road", "rail")).to_file(name, layer="roads", mode="a")
    pyogrio.write_dataframe(pd.DataFrame({"class": ["x"]}), name, layer="notes", append=True)


def test_several_layers_are_listed_and_one_is_selected(tmp_path, monkeypatch, capfd):
    two_layers()
    command = "patches scene.tif --labels layers.gpkg --column class --size 4"
    pieces = ["'fields', 'roads', 'notes'", "--layer"]
    check_refused(tmp_path, monkeypatch, capfd, f"{command} -o p.zarr", *pieces)
    pieces = ["no layer 'field'", "'fields', 'roads', 'notes'"]
    check_refused(tmp_path, monkeypatch, capfd, f"{command} --layer field -o p.zarr", *pieces)
    assert run(f"{command} --layer roads -o p.zarr") == 0
    assert read_patches("p.zarr").classes == ("rail", "road")
    assert labelled("layers.gpkg", layer="fields") == BOTH


def test_the_only_possible_layer_is_read_with_a_note(capfd):
    frame().to_file("layers.gpkg", layer="fields")
    frame().rename(columns={"class": "kind"}).to_file("layers.gpkg", layer="roads", mode="a")
    frame(("a", "b")).iloc[:0].to_file("layers.gpkg", layer="empty", mode="a")
    assert labelled("layers.gpkg") == BOTH
    assert "the layers 'fields', 'roads', 'empty'; 'fields' is read, `layer`" in (
        capfd.readouterr().err
    )


PLACEMARK = "<Placemark><name>{}</name><Point><coordinates>{},{}</coordinates></Point></Placemark>"


def test_empty_gpx_layers_are_ignored_and_kml_folders_are_layers():
    (west, east), (south, north) = points()
    gpx = "http://www.topografix.com/GPX/1/1"
    Path("walk.gpx").write_text(
        f'<gpx version="1.1" creator="x" xmlns="{gpx}">'
        f'<wpt lon="{west}" lat="{south}"><name>water</name></wpt>'
        f'<wpt lon="{east}" lat="{north}"><name>land</name></wpt></gpx>'
    )
    assert labelled("walk.gpx", "name") == POINTS
    folders = "".join(
        f"<Folder><name>{name}</name>{PLACEMARK.format(name, *at)}</Folder>"
        for name, at in (("water", (west, south)), ("land", (east, north)))
    )
    Path("folders.kml").write_text(
        f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{folders}</Document></kml>'
    )
    with pytest.raises(OutcropError, match="has the layers 'water', 'land'; select one"):
        open_labels("folders.kml", "Name")


def test_several_files_in_an_archive_are_layers():
    shapefile(stem="one")
    shapefile(stem="two")
    zipped("both.zip", *Path().glob("one.*"), inside="one/")
    with zipfile.ZipFile("both.zip", "a") as archive:
        for file in Path().glob("two.*"):
            archive.write(file, f"two/{file.name}")
    with pytest.raises(OutcropError, match="has the layers 'one', 'two'; select one with"):
        open_labels("both.zip", "class")
    assert labelled("both.zip", layer="two") == BOTH


def test_a_geopackage_of_tiles_is_a_raster_unless_it_has_geometries():
    raster = np.zeros(SHAPE, np.uint8)
    raster[2:6, 3:7], raster[20:24, 30:34] = 1, 2
    write_raster("r.tif", raster)
    rasterio.shutil.copy("r.tif", "tiles.gpkg", driver="GPKG", TILE_FORMAT="PNG")
    assert not is_vector("tiles.gpkg")
    shutil.copy("tiles.gpkg", "both.gpkg")
    frame().to_file("both.gpkg", layer="fields", mode="a")
    assert is_vector("both.gpkg")
    assert labelled("both.gpkg") == BOTH


def test_a_shapefile_without_crs_uses_the_given_one():
    shapefile(without=[".prj"])
    with pytest.raises(OutcropError, match="`labels_crs`"):
        open_labels("labels.shp", "class")
    assert labelled("labels.shp", crs=UTM) == BOTH


@pytest.mark.parametrize(
    "name",
    [
        "empty.gpkg",
        "noise.gpkg",
        "cut.gpkg",
        "noise.parquet",
        "no.zip",
        "flipped.zip",
        "bytes.gpkg",
    ],
)
def test_damaged_files_raise_an_error(name, tmp_path, monkeypatch, capfd):
    write_as("GPKG", "whole.gpkg")
    whole = Path("whole.gpkg").read_bytes()
    noise = np.random.default_rng(0).bytes(5_000)
    starts = {"empty.gpkg": b"", "noise.gpkg": noise, "cut.gpkg": whole[:2_000]}
    starts |= {"noise.parquet": b"PAR1" + noise, "no.zip": b"PK\x03\x04" + noise}
    shapefile(without=[".shx"])
    with zipfile.ZipFile("whole.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write("labels.shp")
    packed = bytearray(Path("whole.zip").read_bytes())
    packed[45:60] = bytes(15)
    starts["flipped.zip"] = bytes(packed)
    # GDAL's messages on this file contain bytes that are not text.
    table = whole.find(b"CREATE TABLE")
    starts["bytes.gpkg"] = whole[:table] + bytes(range(128, 256)) + whole[table + 128 :]
    Path(name).write_bytes(starts[name])
    command = f"patches scene.tif --labels {name} --column class -o p.zarr"
    check_refused(tmp_path, monkeypatch, capfd, command, name, "damaged")


ENCODINGS = {"cp1251": "Лес", "gbk": "水田", "cp1252": "Wälder"}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("declared", [None, "UTF-8"])
def test_text_in_an_undeclared_encoding_prints_a_note_and_can_be_read(
    encoding, declared, tmp_path, monkeypatch, capfd
):
    name = ENCODINGS[encoding]
    frame((name, "land")).to_file("l.shp", encoding=encoding)
    Path("l.cpg").unlink()
    command = "patches scene.tif --labels l.shp --column class --size 4"
    if declared:
        Path("l.cpg").write_text(declared)
        pieces = ["text that", "--encoding"]
        check_refused(tmp_path, monkeypatch, capfd, f"{command} -o p.zarr", *pieces)
    else:
        assert run(f"{command} -o wrong.zarr") == 0
        assert "l.shp declares no encoding; its text is read as ISO-8859-1" in (
            capfd.readouterr().err
        )
    assert run(f"{command} --encoding {encoding} -o p.zarr") == 0
    assert "note" not in capfd.readouterr().err
    assert read_patches("p.zarr").classes == tuple(sorted(["land", name]))


def test_utf8_declared_as_another_encoding_prints_a_note(capfd):
    frame(("Wälder", "land")).to_file("l.shp", encoding="UTF-8")
    Path("l.cpg").write_text("ISO-8859-1")
    assert "WÃ¤lder" in open_labels("l.shp", "class").classes
    assert "looks wrongly decoded ('WÃ¤lder')" in capfd.readouterr().err
    assert "Wälder" in open_labels("l.shp", "class", encoding="utf-8").classes
    with pytest.raises(OutcropError, match="'utf-99' is not an encoding"):
        open_labels("l.shp", "class", encoding="utf-99")


def test_a_csv_table_keeps_its_rows():
    Path("l.csv").write_text("lon,lat,class\n105,10,a\n,,b\n105,10,c\n")
    read = read_vector("l.csv")
    assert read.geometry.isna().tolist() == [False, True, False]
    assert parts_of(read, "class").dropped == {"features without a geometry": 1}


def test_qgis_styles_in_a_geopackage_are_not_a_layer(tmp_path, capfd):
    import pandas as pd
    import pyogrio

    path = tmp_path / "styled.gpkg"
    squares = [
        box(600_000, 1_199_900, 600_100, 1_200_000),
        box(600_200, 1_199_900, 600_300, 1_200_000),
    ]
    gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=squares, crs=UTM).to_file(path, layer="fields")
    pyogrio.write_dataframe(pd.DataFrame({"styleName": ["x"]}), path, layer="layer_styles")
    assert len(read_vector(path)) == 2
    assert capfd.readouterr().err == ""


def test_columns_with_equal_names_are_ignored(tmp_path, capfd):
    squares = [Point(600_050, 1_199_950), Point(600_250, 1_199_950)]
    frame = gpd.GeoDataFrame({"class": ["a", "b"], "other": ["c", "d"]}, geometry=squares, crs=UTM)
    path = tmp_path / "a.shp"
    frame.to_file(path)
    table = path.with_suffix(".dbf")
    table.write_bytes(table.read_bytes().replace(b"other", b"class", 1))
    read = read_vector(path)
    assert list(read.columns) == ["geometry"]
    assert "several columns have the same name ('class') and are ignored" in capfd.readouterr().err
