"""Class names of labels, from columns and from rasters of classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from outcrop.errors import OutcropError
from outcrop.patches.cut import cut
from outcrop.sources.features import MISSING
from outcrop.sources.labels import open_label_files, open_labels
from tests.command_line import check_refused
from tests.label_files import (
    BOTH,
    NORTH,
    SHAPE,
    WEST,
    field,
    frame,
    label_raster,
    labelled,
)
from tests.rasters import GRID, UTM, tagged, write_raster

pytestmark = pytest.mark.usefixtures("beside_a_scene")


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
