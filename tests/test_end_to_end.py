"""Whole runs through the real command line: from scenes to scores and maps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from safetensors.numpy import load_file

from outcrop.accuracy.assessment import read_assessment
from outcrop.cli.commands import COMMANDS
from outcrop.cli.parser import parse
from outcrop.models.baselines import BASELINES
from outcrop.patches.palette import colours
from outcrop.patches.patchset import read_patches
from outcrop.splits import read_folds, read_split
from outcrop.synthetic.coast import CLASSES
from outcrop.workflow import compare as comparing
from tests.command_line import Command, run, start_python
from tests.shared import DATA, needs_shared
from tests.test_scene import LANDSAT

SMALL = "--depth 8 --width 4 --epochs 2 --device cpu"
CUT = (
    "patches coast/coast-1.tif coast/coast-2.tif --labels coast/labels.gpkg --column class "
    "--size 12 --stride 4"
)
SPLIT = "split patches.zarr --by blocks --block 300 --buffer 60 --folds 3"
TRAIN = f"train patches.zarr --split split.json {SMALL}"


def do(*commands: str) -> None:
    for command in commands:
        assert run(command) == 0, command


@pytest.fixture(scope="module")
def coast(tmp_path_factory):
    """A folder with a coast and all that comes of it, one command after the other."""
    folder, before = tmp_path_factory.mktemp("coast"), Path.cwd()
    os.chdir(folder)
    try:
        do(
            "coast --images 2 --size 200 -o coast",
            f"{CUT} -o patches.zarr",
            f"{SPLIT} -o split.json",
            f"{TRAIN} -o run",
            "map run coast/coast-1.tif -o map.tif --confidence confidence.tif --step 2",
        )
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(coast, monkeypatch):
    monkeypatch.chdir(coast)
    return coast


def test_patches_of_several_scenes_know_their_ground(here):
    patches = read_patches("patches.zarr")
    assert patches.classes == tuple(sorted(CLASSES))
    assert (patches.counts > 0).all()
    assert patches.size == (12, 12)
    assert [source.name for source in patches.sources] == ["coast/coast-1.tif", "coast/coast-2.tif"]
    assert set(patches.positions.source) == {0, 1}
    with rasterio.open("coast/coast-2.tif") as scene:
        at = np.flatnonzero(patches.positions.source == 1)[:20]
        x, y = patches.positions.x[at], patches.positions.y[at]
        seen = np.array(list(scene.sample(zip(x, y, strict=True))))
        scale = np.array(scene.scales)
    assert np.allclose(patches.take(at)[:, :, 6, 6], seen * scale, rtol=0, atol=1e-6)


def test_sides_are_apart_on_the_ground(here):
    patches, split = read_patches("patches.zarr"), read_split("split.json")
    one, other = patches.positions[split.train], patches.positions[split.validation]
    gaps = np.maximum(
        np.abs(one.x[:, None] - other.x) - one.width[0],
        np.abs(one.y[:, None] - other.y) - one.height[0],
    )
    assert gaps.min() >= 60
    assert not set(one.polygon) & set(other.polygon)


def test_a_run_tells_every_epoch(here):
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert set(lines[0]["validation"]["recall"]) == set(CLASSES)
    assert list(Path("run/events").glob("events.out.tfevents.*"))


def test_the_map_opens_anywhere(here):
    names = read_patches("patches.zarr").classes
    with rasterio.open("coast/coast-1.tif") as scene, rasterio.open("map.tif") as made:
        assert (made.shape, made.transform, made.crs) == (scene.shape, scene.transform, scene.crs)
        assert (made.count, made.dtypes, made.nodata) == (1, ("uint8",), 0)
        tags = made.tags(1)
        assert [tags[f"CLASS_{k}"] for k in range(1, 7)] == list(names)
        table = made.colormap(1)
        assert [table[k][:3] for k in range(1, 7)] == colours(names)
        classes, missing = made.read(1), scene.read_masks().min(axis=0) == 0
    assert np.array_equal(classes == 0, missing)
    assert classes.max() <= 6
    categories = Path("map.tif.aux.xml").read_text()
    assert categories.count("<Category>") == 7
    assert all(f"<Category>{name}</Category>" in categories for name in names)
    with rasterio.open("confidence.tif") as made:
        confidence = made.read(1)
    assert np.array_equal(confidence == 255, missing)
    assert confidence[~missing].min() >= 16  # the surest of six classes
    assert confidence[~missing].max() <= 100


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo is not here")
def test_gdalinfo_shows_names_and_colours(here):
    told = subprocess.run(
        ["gdalinfo", "map.tif"], capture_output=True, text=True, check=True
    ).stdout
    assert "NoData Value=0" in told
    assert "Color Table" in told
    for value, name in enumerate(read_patches("patches.zarr").classes, start=1):
        assert f"{value}: {name}" in told
        assert f"CLASS_{value}={name}" in told


def test_a_finished_network_judges_other_ground(here, capsys):
    do("evaluate run patches.zarr --device cpu")
    out = capsys.readouterr().out
    assert "overall accuracy" in out
    assert "score: of the very patch set that the run was trained on: too high" in out


def test_the_whole_job_with_one_command(here, capsys, monkeypatch, small_models):
    # All models are compared on a real scene below.
    few = [one for one in BASELINES if one.name in ("maximum likelihood", "SVM")]
    monkeypatch.setattr(comparing, "BASELINES", few)
    do(
        "experiment coast/coast-1.tif coast/coast-2.tif --labels coast/labels.gpkg --column class "
        "--truth coast/coast-1-truth.tif,coast/coast-2-truth.tif --size 12 --per-class 20 "
        f"--block 300 --buffer 60 --folds 3 --maps 1 --step 4 {SMALL} "
        "--trials 2 --tuning-folds 2 -o results"
    )
    out = capsys.readouterr().out
    models = ("ResNet-8", "maximum likelihood", "SVM")
    assert all(name in out for name in (*models, "leak gap", *CLASSES))
    assert Path("results/maps/0-coast-1-classes.tif").is_file()
    patches, folds = read_patches("results/patches.zarr"), read_folds("results/folds.json")
    assert f"score: cross-validated (3 folds), {len(patches)} held-out patches" in out
    assert np.array_equal(np.sort(read_split("results/final/split.json").train), folds.index)
    page = Path("results/report.html").read_text()
    assert "cross-validated (3 folds)" in page
    assert "held out in fold 2" in page
    assert "Recommended model: " in page
    found = read_assessment("results/maps/0-coast-1-assessment.json")
    assert found.block == 300
    assert (
        f"Overall accuracy {found.accuracy.overall} %." in Path("results/report.html").read_text()
    )
    assert Path("results/report.html").read_text().startswith("<!doctype html>")
    assert '<section id="audit">' in Path("results/report.html").read_text()
    words = ["experiment", "--config", "results/experiment.yaml", "-o", "results", "--resume"]
    _, settings = parse(COMMANDS, words, "", "")
    assert settings["plan"].to_yaml() == Path("results/experiment.yaml").read_text()


def test_the_same_seed_gives_the_same_bytes(here, tmp_path):
    do(f"{CUT} --per-class 30 --seed 3 -o {tmp_path / 'one.zarr'}")
    do(f"{CUT} --per-class 30 --seed 3 -o {tmp_path / 'two.zarr'}")
    do(f"{SPLIT} -o {tmp_path / 'split.json'}")
    do(f"{TRAIN} -o {tmp_path / 'run'}")
    assert files(tmp_path / "one.zarr") == files(tmp_path / "two.zarr")
    for name in ("split.json", "run/model.safetensors", "run/model.json", "run/predictions.npz"):
        assert (tmp_path / name).read_bytes() == Path(name).read_bytes(), name


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_ctrl_c_stops_cleanly_and_resume_goes_on(here, tmp_path):
    do(f"{CUT} --per-class 15 -o {tmp_path / 'few.zarr'}")
    do(f"split {tmp_path / 'few.zarr'} --by random -o {tmp_path / 'few.json'}")
    train = f"train {tmp_path / 'few.zarr'} --split {tmp_path / 'few.json'} {SMALL} --epochs 30 -o"
    stopped = Command(f"{train} {tmp_path / 'stopped'}")
    lines = tmp_path / "stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (lines.exists() and lines.read_text()) and time.monotonic() < deadline:
        time.sleep(0.005)
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate(timeout=60)
    assert (stopped.returncode, out) == (130, "")
    announced, *epochs, stop = err.splitlines()
    assert announced.startswith("training ResNet-8: ")
    assert all(line.startswith(f"epoch {n:>2}/30: loss ") for n, line in enumerate(epochs, 1))
    assert stop == "outcrop: stopped; the same command with --resume goes on"
    assert 1 <= len(lines.read_text().splitlines()) < 30
    assert not list(tmp_path.rglob("*partial*"))
    do(f"{train} {tmp_path / 'stopped'} --resume", f"{train} {tmp_path / 'whole'}")
    resumed, whole = (
        load_file(tmp_path / name / "model.safetensors") for name in ("stopped", "whole")
    )
    assert resumed.keys() == whole.keys()
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)


LABELS = {
    "polygons": ("landsat96_polygons.shp --column label", 6),
    "points": ("landsat96_points.shp --column label", 7),
    "raster": ("landsat96_labelled_pixels.tif", 6),
}


def landsat(labels: str) -> str:
    return f"patches {' '.join(map(str, LANDSAT))} --labels {DATA / 'nc_landsat' / labels} --size 9"


@needs_shared
@pytest.mark.parametrize(("labels", "classes"), LABELS.values(), ids=LABELS)
def test_a_real_scene_and_labels_of_every_kind(tmp_path, monkeypatch, capsys, labels, classes):
    monkeypatch.chdir(tmp_path)
    do(f"{landsat(labels)} -o patches.zarr")
    patches = read_patches("patches.zarr")
    assert (patches.counts > 0).sum() == classes
    assert patches.bands == tuple(path.stem for path in LANDSAT)
    if "pixels" in labels:
        assert "dropped 436 labelled pixels: no data" in capsys.readouterr().out
        assert (len(patches), patches.dropped) == (2436, {"no data": 436})
    do("split patches.zarr --by random --folds 3 -o random.json")
    do("split patches.zarr --block 1 --buffer 0 --folds 3 -o ground.json")
    random, ground = read_split("random.json"), read_split("ground.json")
    polygon = patches.positions.polygon
    assert not set(polygon[ground.train]) & set(polygon[ground.validation])
    if labels != LABELS["points"][0]:
        assert set(polygon[random.train]) & set(polygon[random.validation])


@needs_shared
def test_all_models_and_a_map_of_a_real_scene(tmp_path, monkeypatch, capsys, small_models):
    monkeypatch.chdir(tmp_path)
    do(
        f"{landsat('landsat96_polygons.shp')} --column label --per-class 30 -o patches.zarr",
        "split patches.zarr --block 1 --buffer 0 --folds 3 -o split.json",
        f"compare patches.zarr --split split.json {SMALL} --trials 0 -o compared",
        f"map compared/network {' '.join(map(str, LANDSAT))} -o map.tif --step 3 --device cpu",
    )
    rows = json.loads(Path("compared/comparison.json").read_text())["rows"]
    assert len(rows) == 1 + len(BASELINES)
    assert all(row["gap"] is not None for row in rows)
    best = max(row["scores"]["overall"]["value"] for row in rows)
    assert best > 0.4  # a guess among five classes is right once in five
    out = capsys.readouterr().out
    assert all(row["model"] in out for row in rows)
    with rasterio.open("map.tif") as made, rasterio.open(LANDSAT[0]) as scene:
        assert (made.shape, made.transform, made.nodata) == (scene.shape, scene.transform, 0)
        assert 0 < (made.read(1) > 0).mean() <= (scene.read_masks(1) > 0).mean()


@pytest.mark.parametrize("command", ["--help", "patches --help", "train --help"])
def test_help(command, capsys):
    assert run(command) == 0
    out = capsys.readouterr().out
    assert "Usage: outcrop" in out
    assert ("--per-class" in out) == (command == "patches --help")


def test_help_in_a_process_of_its_own():
    done = start_python("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "COMMAND" in done.stdout


@pytest.mark.parametrize("module", ["outcrop", "outcrop.cli.parser", "outcrop.cli.commands"])
def test_what_is_asked_first_loads_nothing_heavy(module):
    heavy = "numpy", "torch", "rasterio", "sklearn", "geopandas", "zarr", "matplotlib", "yaml"
    code = f"import sys, {module}; print(*sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
