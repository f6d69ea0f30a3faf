"""`outcrop map` on the real command line: scenes, mosaics, ensembles, cubes, interrupts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from outcrop.sources.volumes import open_volume
from tests.command_line import Command, check_refused, content, run

TRAIN = "--depth 8 --width 4 --padding none --epochs 1 --device cpu"


@pytest.fixture(scope="module")
def coast(tmp_path_factory):
    """A folder with a coast, a cube, and networks without padding trained on patches of them."""
    folder, before = tmp_path_factory.mktemp("maps"), Path.cwd()
    os.chdir(folder)
    try:
        for command in (
            "coast --images 1 --size 200 -o coast",
            "patches coast/coast-1.tif --labels coast/labels.gpkg --column class --size 26 "
            "--stride 2 -o patches.zarr",
            "split patches.zarr --by random -o split.json",
            f"train patches.zarr --split split.json {TRAIN} -o run",
            f"train patches.zarr --split split.json {TRAIN} --seed 1 -o run-1",
            "cube --shape 40,48,64 -o cube",
            "patches cube/cube.npy --labels cube/classes.npy --axis 0 --size 26 --per-class 40 "
            "-o slices.zarr",
            "split slices.zarr --by random -o slices.json",
            f"train slices.zarr --split slices.json {TRAIN} -o cube-run",
        ):
            assert run(command) == 0, command
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(coast, monkeypatch):
    monkeypatch.chdir(coast)
    return coast


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_all_layers_at_once(here, capsys):
    assert (
        run(
            "map run coast/coast-1.tif -o all.tif --confidence sure.tif --entropy entropy.tif "
            "--second second.tif --dissimilarity far.tif --polygons all.gpkg --tta --sieve 9 "
            "--ensemble run-1"
        )
        == 0
    )
    *files, told = capsys.readouterr().out.splitlines()
    assert files == [*("all.tif", "sure.tif", "entropy.tif", "second.tif", "far.tif", "all.gpkg")]
    assert re.fullmatch(r"outside the area of applicability: [\d.]+ % of the map", told)
    assert gpd.read_file("all.gpkg", layer="classes")["pixels"].min() >= 9
    sure, entropy = read("sure.tif"), read("entropy.tif")
    assert np.corrcoef(sure[sure < 255], entropy[sure < 255])[0, 1] < -0.5
    assert (read("second.tif") != read("all.tif"))[sure < 255].mean() > 0.9


def test_a_mosaic_of_two_files(here):
    with rasterio.open("coast/coast-1.tif") as dataset:
        pixels, profile = dataset.read(), dataset.profile
    for name, start in (("left", 0), ("right", 90)):
        part = pixels[:, :, start : start + 110]
        transform = profile["transform"] @ rasterio.Affine.translation(start, 0)
        with rasterio.open(
            f"{name}.tif", "w", **profile | {"width": 110, "transform": transform}
        ) as dataset:
            dataset.write(part)
            dataset.scales = (1e-4,) * len(part)
    assert run("map run left.tif right.tif -o mosaic.tif") == 0
    assert run("map run coast/coast-1.tif -o whole.tif") == 0
    assert np.array_equal(read("mosaic.tif"), read("whole.tif"))


def test_a_cube(here):
    assert run("map cube-run cube/cube.npy --axis 0 -o cube.zarr --confidence cube-sure.zarr") == 0
    with open_volume("cube.zarr").reader() as reader:
        classes = reader.slices(0, 0, 40)
    assert classes.shape == (40, 48, 64)
    assert set(np.unique(classes)) <= {1, 2, 3, 4}


def test_an_interrupted_map_is_resumed(here):
    """Ctrl-C in a separate process: one line names kept windows, --resume completes the map."""
    assert run("coast --images 1 --size 400 -o big") == 0
    # With a step, the windows take long enough to be interrupted and the map is done soon.
    command = "map run big/coast-1.tif -o {}.tif --method patches --step 2 --window 1 --device cpu"
    process = Command(command.format("big"))
    kept = Path(".big.tif.windows")
    deadline = time.monotonic() + 90
    while not list(kept.glob("[0-9]*.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finished windows are kept; continue with --resume" in told
    assert "Traceback" not in told
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.npz")}
    assert not Path("big.tif").exists()
    assert 0 < len(before) < 4
    assert run(f"{command.format('big')} --resume") == 0
    assert not kept.exists()
    assert run(command.format("big-at-once")) == 0
    np.testing.assert_array_equal(read("big.tif"), read("big-at-once.tif"))


@pytest.mark.parametrize(
    ("words", "pieces"),
    [
        ("no-run coast/coast-1.tif -o x.tif", ("no-run", "no such model folder")),
        ("run coast/coast-1.tif -o x.tif --step 2", ("--step", "dense map", "leave it out")),
        ("run coast/coast-1.tif -o x.tif --window 0", ("--window", "must be 1 or more")),
        ("run coast/coast-1.tif -o x.tif --sieve -3", ("--sieve", "must be 0 or more")),
        ("run coast/coast-1.tif -o x.tif --axis 0", ("--axis", "scenes")),
        ("run coast/coast-1.tif -o x.tif --confidence x.tif", ("--confidence", "another one")),
        ("run coast/coast-1.tif -o x.tif --ensemble cube-run", ("--ensemble", "classes")),
        (
            "run coast/coast-1.tif -o x.tif --scheduler local[0]",
            ("--scheduler", "local[1] or more"),
        ),
        ("run coast/coast-1.tif -o x.tif --polygons coast/labels.gpkg", ("exists already",)),
        ("run cube/cube.npy -o x.zarr", ("--axis", "is missing")),
        ("cube-run cube/cube.npy --axis 0 -o x.zarr --sieve 4", ("--sieve", "a volume")),
        ("cube-run cube/cube.npy --axis 0 -o x.sgy", ("x.sgy", "SEG-Y", "use .zarr")),
        ("cube-run cube/cube.npy --axis 7 -o x.zarr", ("no axis 7",)),
        ("cube-run cube/cube.npy cube/classes.npy --axis 0 -o x.zarr", ("one at a time",)),
        ("cube-run coast/coast-1.tif -o x.tif", ("has 4 bands", "--bands", "--band-names")),
        ("run coast/coast-1.tif truncated.tif -o x.tif", ("truncated.tif",)),
    ],
)
def test_wrong_arguments_give_one_error_line(here, monkeypatch, capfd, words, pieces):
    if "truncated" in words:
        source = Path("coast/coast-1.tif").read_bytes()
        Path("truncated.tif").write_bytes(source[: len(source) // 2])
    check_refused(here, monkeypatch, capfd, f"map {words}", *pieces)


def test_a_damaged_scene_keeps_finished_windows(here, capfd):
    """The file is truncated: the error names it, and no map is written."""
    shutil.copy("coast/coast-1.tif", "cut.tif")
    with rasterio.open("cut.tif") as dataset:
        size = dataset.height
    data = Path("cut.tif").read_bytes()
    Path("cut.tif").write_bytes(data[: int(len(data) * 0.7)])
    before = content(here)
    code = run("map run cut.tif -o x.tif")
    err = capfd.readouterr().err
    assert code == 2
    assert "cut.tif" in err
    assert "Traceback" not in err
    assert size == 200
    assert content(here) == before
