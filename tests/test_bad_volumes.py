"""What can go wrong with volumes, through the real command line, as in `test_bad_input`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.command_line import check, check_refused, content, largest_file, run, start
from tests.cubes import write_segy
from tests.rasters import ramp, write_raster
from tests.test_cut_at_positions import rows
from tests.test_cut_volume import SHAPE, classes, samples


def make_tables() -> None:
    table = rows(20, axes=(0,)).astype(object)
    table.to_csv("t.csv", index=False)
    table.to_parquet("t.parquet")
    table.drop(columns="label").to_csv("no-label.csv", index=False)
    table.drop(columns="axis").to_csv("no-axis.csv", index=False)
    table.drop(columns="source").to_csv("no-source.csv", index=False)
    table.iloc[:0].to_csv("empty.csv", index=False)
    twin = table.iloc[4:5].assign(label="other")
    pd.concat([table, twin]).to_csv("twins.csv", index=False)
    for name, column, value in (
        ("outside", "row", 400),
        ("slice", "index", 12),
        ("axis", "axis", 3),
        ("fraction", "column", 2.5),
        ("gap", "row", None),
        ("stranger", "source", "other.npy"),
    ):
        changed = table.copy()
        changed.loc[7, column] = value
        changed.to_csv(f"{name}.csv", index=False)
    place = np.arange(12) * 3
    pd.DataFrame({"row": place, "column": place, "label": list("ab" * 6)}).to_csv(
        "scene.csv", index=False
    )
    Path("binary.csv").write_bytes(bytes(range(256)))
    Path("cut-off.parquet").write_bytes(Path("t.parquet").read_bytes()[:900])


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with a cube, its labels, tables of positions and a patch set."""
    folder, before = tmp_path_factory.mktemp("volumes"), Path.cwd()
    os.chdir(folder)
    try:
        np.save("cube.npy", samples())
        np.save("classes.npy", classes())
        np.save("small.npy", classes()[:-1])
        np.save("nothing.npy", np.zeros(SHAPE, "uint8"))
        np.save("fractions.npy", classes("float32") / 3)
        np.save("flat.npy", samples()[0])
        np.save("nan.npy", np.full(SHAPE, np.nan, "float32"))
        Path("truncated.npy").write_bytes(Path("cube.npy").read_bytes()[:5_000])
        write_raster("scene.tif", ramp())
        Path("notes.txt").write_text("no table\nat all\n")
        make_tables()
        assert run(LABELS.replace("x.zarr", "p.zarr")) == 0
        assert run("patches scene.tif --positions scene.csv --size 4 -o scene.zarr") == 0
    finally:
        os.chdir(before)
    return folder


LABELS = "patches cube.npy --labels classes.npy --axis 0 --size 4 -o x.zarr"
TABLE = "patches cube.npy --positions {} --size 5 -o x.zarr"
SPLIT = "split p.zarr -o x.json"

ROWS = {
    # by a volume of labels
    "neither labels nor positions": ("patches cube.npy -o x.zarr", "--labels", "--positions"),
    "no axis": ("patches cube.npy --labels classes.npy -o x.zarr", "--axis", "perpendicular"),
    "axis 3": (f"{LABELS} --axis 3", "cube.npy", "no axis 3", "0, 1, 2"),
    "axis -1": (f"{LABELS} --axis -1", "cube.npy", "no axis -1"),
    "axis no number": (f"{LABELS} --axis z", "--axis", "a whole number", "'z'"),
    "volume missing": (LABELS.replace("cube.npy", "none.npy"), "none.npy", "no such file"),
    "volume truncated": (LABELS.replace("cube.npy", "truncated.npy"), "truncated.npy",
        "is truncated"),
    "volume of two axes": (LABELS.replace("cube.npy", "flat.npy"), "flat.npy", "2 axes"),
    "volume all NaN": (LABELS.replace("cube.npy", "nan.npy"), "classes.npy", "for no data"),
    "scene and volume": (LABELS.replace("cube.npy", "cube.npy scene.tif"), "scene.tif",
        "other sources are volumes"),
    "labels missing": (LABELS.replace("classes.npy", "none.npy"), "none.npy", "no such file"),
    "labels no volume": (LABELS.replace("classes.npy", "notes.txt"), "notes.txt", "not a volume"),
    "labels of another shape": (LABELS.replace("classes", "small"), "small.npy", "11 × 20 × 26",
        "12 × 20 × 26"),
    "labels empty": (LABELS.replace("classes", "nothing"), "nothing.npy", "labels no voxel"),
    "labels of fractions": (LABELS.replace("classes", "fractions"), "fractions.npy", "0.66"),
    "two volumes, one of labels": (LABELS.replace("cube.npy", "cube.npy nan.npy"), "--labels",
        "1 files for 2 volumes"),
    "patch larger than a slice": (f"{LABELS} --size 21", "cube.npy", "20 × 26", "--size"),
    "names for the labels": (f"{LABELS} --classes a,b,c", "classes.npy", "names 3"),
    "slice stride 0": (f"{LABELS} --slice-stride 0", "--slice-stride", "at least 1"),
    "edge of a volume": (f"{LABELS} --edge reflect", "--edge", "leave it out"),
    "column of a volume": (f"{LABELS} --column c", "--column", "leave it out"),
    "patches exist": (f"{LABELS} -o p.zarr", "p.zarr", "exists already", "--overwrite"),
    # by a table
    "table missing": (TABLE.format("none.csv"), "none.csv", "no such file"),
    "table no CSV": (TABLE.format("binary.csv"), "binary.csv", "not a CSV table"),
    "table of words": (TABLE.format("notes.txt"), "notes.txt", "no column 'label'"),
    "table empty": (TABLE.format("empty.csv"), "empty.csv", "no rows"),
    "Parquet cut off": (TABLE.format("cut-off.parquet"), "cut-off.parquet", "not a Parquet file"),
    "no label column": (TABLE.format("no-label.csv"), "no-label.csv", "'label'", "it has patch"),
    "column unknown": (f"{TABLE.format('t.csv')} --column c", "t.csv", "no column 'c'"),
    "column to keep unknown": (f"{TABLE.format('t.csv')} --keep c", "t.csv", "no column 'c'"),
    "no axis column": (TABLE.format("no-axis.csv"), "no-axis.csv", "no column 'axis'"),
    "axis option beyond": (f"{TABLE.format('no-axis.csv')} --axis 5", "line 2", "across axis 5"),
    "no source column": ("patches cube.npy nan.npy --positions no-source.csv --size 5 -o x.zarr",
        "no-source.csv", "no column 'source'"),
    "source unknown": (TABLE.format("stranger.csv"), "stranger.csv: line 9", "'other.npy'",
        "cube.npy"),
    "row outside": (TABLE.format("outside.csv"), "outside.csv: line 9", "row 400", "20 × 26"),
    "slice outside": (TABLE.format("slice.csv"), "slice.csv: line 9", "slice 12", "0 to 11"),
    "axis outside": (TABLE.format("axis.csv"), "axis.csv: line 9", "axis 3"),
    "fraction": (TABLE.format("fraction.csv"), "fraction.csv: line 9", "'2.5'", "whole numbers"),
    "gap": (TABLE.format("gap.csv"), "gap.csv: line 9", "'' as row", "whole numbers"),
    "twins": (TABLE.format("twins.csv"), "twins.csv: line 22", "line 6", "another class"),
    "patches larger than a slice": (f"{TABLE.format('t.csv')} --size 25", "cube.npy", "20 × 26"),
    "centres all NaN": ("patches nan.npy --positions no-source.csv --size 5 -o x.zarr",
        "no-source.csv", "none of 20 has data"),
    "labels and positions": (f"{TABLE.format('t.csv')} --labels classes.npy", "--labels",
        "beside --positions", "leave it out"),
    "stride and positions": (f"{TABLE.format('t.csv')} --stride 2", "--stride", "leave it out"),
    "table for a scene": ("patches scene.tif --positions outside.csv --size 5 -o x.zarr",
        "outside.csv: line 2", "'cube.npy'", "scene.tif"),
    "axis of a scene": ("patches scene.tif --labels classes.npy --axis 0 -o x.zarr", "--axis",
        "leave it out"),
    # splits
    "slabs without an axis": (f"{SPLIT} --by slabs --thickness 3", "--by slabs", "--axis"),
    "slabs without a thickness": (f"{SPLIT} --by slabs --axis 0", "--by slabs", "--thickness"),
    "slabs across axis 3": (f"{SPLIT} --by slabs --axis 3 --thickness 3", "--axis", "no axis 3"),
    "slabs of nothing": (f"{SPLIT} --by slabs --axis 0 --thickness 0", "--thickness", "at least 1"),
    "slabs too thick": (f"{SPLIT} --by slabs --axis 0 --thickness 6", "--thickness", "thinner"),
    "slabs of a scene": (f"{SPLIT.replace('p.zarr', 'scene.zarr')} --by slabs --axis 0 "
        "--thickness 3", "SlabSplit", "from scenes"),
    "slices of a scene": (f"{SPLIT.replace('p.zarr', 'scene.zarr')} --by zones --slices 0:0:3",
        "--slices", "for volumes"),
    "no zones of a volume": (f"{SPLIT} --by zones", "--by zones", "--slices or --boxes"),
    "slices misspelt": (f"{SPLIT} --by zones --slices 0-9", "--slices", "axis:first:last", "'0-9'"),
    "slices outside": (f"{SPLIT} --by zones --slices 0:9:13", "--slices", "9:13", "0:12"),
    "slices across axis 3": (f"{SPLIT} --by zones --slices 3:0:9", "--slices", "no axis 3"),
    "slices without patches": (f"{SPLIT} --by zones --slices 0:0:2", "0:0:2", "no patch"),
    "one range of two without patches": (f"{SPLIT} --by zones --slices 0:5:9,0:0:2", "0:0:2",
        "no patch"),
    "box of five numbers": (f"{SPLIT} --by zones --boxes 0,0,0,9,9", "--boxes", "six numbers"),
    "box of four numbers": (f"{SPLIT} --by zones --boxes 0,0,9,9", "--boxes", "six numbers"),
    "box elsewhere": (f"{SPLIT} --by zones --boxes 0,0,0,1,1,1", "--boxes", "no patch"),
    "polygons for a volume": (f"{SPLIT} --by zones --zones z.gpkg", "--zones", "--slices"),
    "buffer over everything": (f"{SPLIT} --by zones --slices 0:4:8 --buffer 99", "no training",
        "smaller buffer"),
    "zone over everything": (f"{SPLIT} --by zones --slices 0:0:12", "no training", "other blocks"),
    "one volume": (f"{SPLIT} --by scenes", "one volume", "blocks"),
    "zones among blocks": (f"{SPLIT} --slices 0:0:3", "--slices", "--by blocks", "leave it out"),
    "blocks among slabs": (f"{SPLIT} --by slabs --axis 0 --thickness 3 --block 4", "--block",
        "--by slabs"),
    "slabs among zones": (f"{SPLIT} --by zones --slices 0:0:3 --thickness 3", "--thickness",
        "--by zones"),
    "a buffer at random": (f"{SPLIT} --by random --buffer 3", "--buffer", "--by random"),
    "bands of a volume in a table": (f"{TABLE.format('t.csv')} --bands 1", "--bands", "volumes"),
    "a system for a volume in a table": (f"{TABLE.format('t.csv')} --crs EPSG:32648", "--crs",
        "volumes"),
    "axis of a scene in a table": ("patches scene.tif --positions scene.csv --axis 0 -o x.zarr",
        "--axis", "scenes"),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_one_line_says_what_is_wrong_and_nothing_is_left(world, monkeypatch, capfd, row):
    check_refused(world, monkeypatch, capfd, *ROWS[row])


@pytest.mark.parametrize("command", [LABELS, TABLE.format("t.csv")])
def test_a_full_disk_leaves_nothing(world, tmp_path, command):
    command = command.replace("x.zarr", str(tmp_path / "x.zarr"))
    done = start(command, cwd=world, preexec_fn=largest_file(1_500))
    check(done.returncode, done.stdout, done.stderr, "x.zarr", "disk is full")
    assert content(tmp_path) == {}


def test_cutting_and_splitting_say_what_they_did(world, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(world)
    cut = f"{LABELS} --classes shale,salt --stride 2".replace("x.zarr", str(tmp_path / "p.zarr"))
    assert run(cut) == 0
    out, err = capfd.readouterr()
    assert "shale" in out
    assert "labelled voxels: edge" in out
    assert "patches of 1 × 4 × 4" in out
    split = f"split {tmp_path}/p.zarr -o {tmp_path}/s.json --by slabs --axis 0 --thickness 2"
    assert run(f"{split} --folds 3 --buffer 1") == 0
    out, err = capfd.readouterr()
    assert "thickness: 2" in out
    assert "unit: voxels" in out
    assert err == ""


def test_labels_at_other_bytes_than_their_volume(world, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    lines = {"inlines": range(SHAPE[0]), "crosslines": range(SHAPE[1])}
    write_segy(tmp_path / "a.sgy", samples(), at=(9, 21), **lines)
    write_segy(tmp_path / "l.sgy", classes(), code=8, **lines)
    cut = "patches a.sgy --labels l.sgy --axis 0 --size 4 -o p.zarr"
    assert run(f"{cut} --inline-byte 9 --crossline-byte 21 --format ieee") == 0
    told = capfd.readouterr().err
    assert "l.sgy: its inline and crossline numbers are read at bytes 189 and 193" in told
    assert run(f"{cut} --inline-byte 17 --overwrite") == 2
    told = capfd.readouterr().err
    assert "a.sgy: with inline at byte 17" in told
