"""What can go wrong with `outcrop locate`, through the command line, as in `test_bad_input`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import check, check_refused, content, largest_file, run, start
from tests.cubes import write_picture, write_segy
from tests.rasters import ramp, write_raster
from tests.rocks import cut, rock, save

SHAPE = (12, 40, 44)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with a cube and a scene, and with patches of every faulty kind."""
    folder, before = tmp_path_factory.mktemp("bad-locate"), Path.cwd()
    os.chdir(folder)
    try:
        samples = rock(0, shape=SHAPE)
        images, labels = cut(samples, 0, 8, seed=1)[0], np.arange(8) % 2
        np.save("cube.npy", samples)
        np.save("constant.npy", np.full(SHAPE, 0.1, np.float32))
        np.save("nan.npy", np.full(SHAPE, np.nan, np.float32))
        np.save("plane.npy", samples[0])
        np.save("text.npy", np.full(SHAPE, "a"))
        Path("cut-off.npy").write_bytes(Path("cube.npy").read_bytes()[:9_000])
        save("p.npz", images, labels)
        save("flat.npz", np.repeat(images.mean(axis=(1, 2), keepdims=True), 24, axis=2)[:, :, :1]
             .repeat(24, axis=2))  # fmt: skip
        save("nan.npz", np.full((8, 24, 24), np.nan, np.float32))
        save("empty.npz", np.empty((0, 24, 24), np.float32))
        save("large.npz", np.tile(images, (1, 2, 2)))
        save("bands.npz", np.stack([images, images + 1, images[::-1]], axis=1))
        save("lines.npz", images[:, 0])
        save("complex.npz", images.astype(complex))
        np.savez("pictures.npz", pictures=images)
        np.savez("objects.npz", images=np.array([{}, {}], dtype=object))
        np.savez("labels.npz", images=images, labels=labels[:5])
        Path("cut-off.npz").write_bytes(Path("p.npz").read_bytes()[:5_000])
        Path("notes.txt").write_text("no patches\n")
        Path("nothing").mkdir()
        Path("sizes/rock").mkdir(parents=True)
        write_picture(Path("sizes/rock/1.png"), (40 + images[0]).astype(np.uint8))
        write_picture(Path("sizes/rock/2.png"), (40 + images[0, 2:]).astype(np.uint8))
        write_raster("scene.tif", ramp())
        write_raster("nowhere.tif", ramp(), crs=None)
        zeros = dict.fromkeys(("inlines", "crosslines"), [0] * 40)
        write_segy(Path("no-geometry.sgy"), samples, **zeros)
        where = [place for place in np.ndindex(12, 40) if place != (3, 3)]
        write_segy(Path("gaps.sgy"), samples, where, inlines=range(12), crosslines=range(40))
        write_segy(Path("whole.sgy"), samples, inlines=range(12), crosslines=range(40))
        for name in ("old.csv", "old.png", "old.html"):
            Path(name).write_text("before")
        assert run("locate p.npz cube.npy --axis 0 -o t.csv --patches-output old.zarr") == 0
    finally:
        os.chdir(before)
    return folder


LOCATE = "locate p.npz cube.npy --axis 0 -o x.csv"
SCENE = "locate bands.npz scene.tif -o x.csv"

ROWS = {
    # sources
    "axis 3": (f"{LOCATE} --axis 3", "cube.npy", "no axis 3", "0, 1, 2"),
    "axis -1": (f"{LOCATE} --axis -1", "cube.npy", "no axis -1"),
    "axis no number": (f"{LOCATE} --axis z", "--axis", "a whole number"),
    "axis of a scene": (f"{SCENE} --axis 0", "--axis", "scenes"),
    "bands of a volume": (f"{LOCATE} --bands 1", "--bands", "volumes"),
    "system of a volume": (f"{LOCATE} --crs EPSG:32648", "--crs", "volumes"),
    "source missing": (LOCATE.replace("cube", "none"), "none.npy", "no such file"),
    "no source": ("locate p.npz -o x.csv", "sources"),
    "source cut off": (LOCATE.replace("cube", "cut-off"), "cut-off.npy", "cut off"),
    "source of two axes": (LOCATE.replace("cube", "plane"), "plane.npy", "2 axes"),
    "source of text": (LOCATE.replace("cube", "text"), "text.npy", "no numbers"),
    "source neither": (LOCATE.replace("cube.npy", "notes.txt").replace("--axis 0 ", ""),
        "notes.txt", "not a raster"),
    "source constant": (LOCATE.replace("cube", "constant"), "constant.npy", "no contrast"),
    "source without data": (LOCATE.replace("cube", "nan"), "nan.npy", "no contrast"),
    "scene and volume": (LOCATE.replace("cube.npy", "cube.npy scene.tif"), "scene.tif", "one kind"),
    "scene without a system": (SCENE.replace("scene", "nowhere"), "nowhere.tif", "--crs"),
    "no band 9": (f"{SCENE} --bands 9", "scene.tif", "no band 9"),
    "SEG-Y without geometry": (LOCATE.replace("cube.npy", "no-geometry.sgy"), "no-geometry.sgy"),
    "SEG-Y with gaps": (LOCATE.replace("cube.npy", "gaps.sgy"), "gaps.sgy", "gaps"),
    "SEG-Y numbers nowhere": (LOCATE.replace("cube.npy", "whole.sgy --inline-byte 5"),
        "whole.sgy"),
    "SEG-Y byte 0": (LOCATE.replace("cube.npy", "whole.sgy --inline-byte 0"), "inline"),
    "headers of npy": (f"{LOCATE} --inline-byte 9", "--inline-byte", "other than SEG-Y"),
    "gaps of npy": (f"{LOCATE} --gaps", "--gaps", "other than SEG-Y"),
    "headers of npy to cut": ("patches cube.npy --positions t.csv -o x.zarr --crossline-byte 9",
        "--crossline-byte", "other than SEG-Y"),
    # patches
    "patches missing": (LOCATE.replace("p.npz", "none.npz"), "none.npz", "no such file"),
    "patches no collection": (LOCATE.replace("p.npz", "notes.txt"), "notes.txt", "collection"),
    "patches cut off": (LOCATE.replace("p.npz", "cut-off.npz"), "cut-off.npz", "a complete npz"),
    "patches flat": (LOCATE.replace("p.npz", "flat.npz"), "all 8", "flat"),
    "patches all NaN": (LOCATE.replace("p.npz", "nan.npz"), "all 8", "miss most pixels"),
    "patches none": (LOCATE.replace("p.npz", "empty.npz"), "empty.npz", "nothing in them"),
    "npz without images": (LOCATE.replace("p.npz", "pictures.npz"), "pictures.npz", "'images'",
        "save images under this name"),
    "npz of objects": (LOCATE.replace("p.npz", "objects.npz"), "objects.npz", "not read"),
    "npz of too few labels": (LOCATE.replace("p.npz", "labels.npz"), "labels.npz", "5 labels"),
    "npz of lines": (LOCATE.replace("p.npz", "lines.npz"), "lines.npz", "N × height × width"),
    "npz of complex numbers": (LOCATE.replace("p.npz", "complex.npz"), "complex.npz", "complex"),
    "folder of nothing": (LOCATE.replace("p.npz", "nothing"), "nothing", "no PNG"),
    "pictures of two sizes": (LOCATE.replace("p.npz", "sizes"), "2.png", "one size"),
    "patches larger than a slice": (LOCATE.replace("p.npz", "large.npz"), "cube.npy", "40 × 44",
        "48 × 48"),
    "patches larger than any slice": ("locate large.npz cube.npy -o x.csv", "cube.npy", "40 × 44"),
    "patches larger than a scene": ("locate large.npz scene.tif -o x.csv", "scene.tif", "40 × 50"),
    "patches of three bands": (LOCATE.replace("p.npz", "bands.npz"), "3 bands", "cube.npy has 1"),
    "patches of too many bands": (SCENE, "3 bands", "scene.tif has 2", "--bands"),
    # results
    "table exists": (LOCATE.replace("x.csv", "old.csv"), "old.csv", "exists already"),
    "table of another kind": (LOCATE.replace("x.csv", "x.txt"), "x.txt", ".csv", ".parquet"),
    "table in no folder": (LOCATE.replace("x.csv", "no/x.csv"), "the folder no"),
    "patch set exists": (f"{LOCATE} --patches-output old.zarr", "old.zarr", "exists already"),
    "patch set is something else": (f"{LOCATE} --patches-output nothing --overwrite", "nothing",
        "not a patch set"),
    "picture exists": (f"{LOCATE} --picture old.png", "old.png", "exists already"),
    "picture of another kind": (f"{LOCATE} --picture x.gif", "x.gif", ".png, .svg, .pdf"),
    "page exists": (f"{LOCATE} --report old.html", "old.html", "exists already"),
    "page in no folder": (f"{LOCATE} --report no/x.html", "the folder no"),
    "surer than sure": (f"{LOCATE} --sure 1.5", "--sure", "from 0 to 1"),
    "no cluster": (f"{LOCATE} --scheduler tcp://127.0.0.1:1", "--scheduler", "dask scheduler"),
    "option misspelt": (f"{LOCATE} --flip", "did you mean 'flips'"),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_one_line_says_what_is_wrong_and_nothing_is_left(world, monkeypatch, capfd, row):
    monkeypatch.setattr("outcrop.executors._TIMEOUT", 0.5)
    check_refused(world, monkeypatch, capfd, *ROWS[row])


def test_a_full_disk_leaves_nothing(world, tmp_path):
    command = LOCATE.replace("x.csv", str(tmp_path / "x.csv"))
    done = start(command, cwd=world, preexec_fn=largest_file(500))
    check(done.returncode, done.stdout, done.stderr, "x.csv", "disk is full")
    assert content(tmp_path) == {}


def test_patches_none_of_which_is_found_are_told_and_a_set_of_them_is_refused(
    world, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    np.save("cube.npy", rock(3, shape=SHAPE))
    words = f"locate {world}/p.npz cube.npy --axis 0 -o x.csv --picture x.png --report x.html"
    assert run(words) == 0
    out, err = capfd.readouterr()
    assert "score: highest 0." in out
    assert err == ""
    before = content(Path())
    assert run(f"{words} --overwrite --patches-output x.zarr") == 2
    assert "none was found" in capfd.readouterr().err
    assert content(Path()) == before
