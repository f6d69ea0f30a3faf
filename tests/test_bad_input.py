"""What a user can do wrong, through the real command line: one line, exit code 2, nothing left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import zarr
from shapely import Polygon, box

from outcrop.files import write_json
from outcrop.patches.patchset import read_patches
from tests.command_line import check, check_refused, content, largest_file, run, start, start_python
from tests.rasters import UTM, write_raster

SIDE = 60
MARS = "IAU_2015:49910"
NORTH_WEST = (600_000, 1_200_000)
FIELDS = [
    ("water", 0, 0, 9, 9),
    ("forest", 0, 30, 9, 39),
    ("rice", 25, 10, 34, 19),
    ("water", 25, 45, 34, 54),
    ("forest", 50, 0, 59, 9),
    ("rice", 50, 40, 59, 49),
]
NETWORK = "--depth 8 --width 4 --epochs 1 --device cpu"


def polygons(path, fields, crs=UTM, **columns):
    """Polygons given as (class, first row, first column, last row, last column), in pixels."""
    x, y = NORTH_WEST
    shapes = [
        box(x + 10 * c0, y - 10 * (r1 + 1), x + 10 * (c1 + 1), y - 10 * r0)
        for _, r0, c0, r1, c1 in fields
    ]
    frame = gpd.GeoDataFrame(
        {"class": [name for name, *_ in fields], **columns}, geometry=shapes, crs=crs
    )
    frame.to_file(path)
    return frame


def make_scenes() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 4_000, (4, SIDE, SIDE)).astype("uint16")
    for name, first, column, last, right in FIELDS:
        pixels[:, first : last + 1, column : right + 1] += 3_000 * (
            "water",
            "forest",
            "rice",
        ).index(name)
    pixels[:, 55:, 55:] = 0
    write_raster("scene.tif", pixels, nodata=0)
    write_raster("three.tif", pixels[:3], nodata=0)
    write_raster("no-crs.tif", pixels, crs=None)
    write_raster("tiny.tif", pixels[:, :5, :5])
    write_raster("one.tif", pixels[0])
    write_raster("other-crs.tif", pixels[1], crs="EPSG:32649")
    write_raster("local.tif", pixels, crs='LOCAL_CS["mine",UNIT["metre",1]]')
    write_raster("empty-band.tif", np.concatenate([pixels[:2], 0 * pixels[:1]]), nodata=0)
    write_raster("all-nan.tif", np.full((4, SIDE, SIDE), np.nan, "float32"))
    Path("truncated.tif").write_bytes(Path("scene.tif").read_bytes()[:12_000])
    Path("notes.txt").write_text("no raster\n")
    odd = pixels.astype("float32")
    odd[0, 0, 0], odd[1, 0, 1], odd[2, 0, 2] = np.nan, np.inf, -np.inf
    write_raster("odd.tif", odd)
    write_raster("fractions.tif", odd[3] / 7)
    classes = np.zeros((SIDE, SIDE), "uint8")
    classes[:5, :5], classes[30:40, 30:40] = 1, 2
    write_raster("classes.tif", classes)
    write_raster("mars.tif", classes, crs=MARS)
    write_raster("no-crs-classes.tif", classes, crs=None)
    Path("truncated-classes.tif").write_bytes(Path("classes.tif").read_bytes()[:2_000])
    Path("table.csv").write_text("class,x,y\nwater,600000,1200000\n")


def make_labels() -> None:
    polygons("labels.gpkg", FIELDS, region=list("aabbcc"))
    polygons("far.gpkg", [(name, r + 900, c, s + 900, d) for name, r, c, s, d in FIELDS])
    polygons("one-class.gpkg", [field for field in FIELDS if field[0] == "rice"])
    polygons("mars.gpkg", FIELDS, crs=MARS)
    far = [(name, r + 900, c, s + 900, d) for name, r, c, s, d in FIELDS]
    polygons("mostly-far.gpkg", [FIELDS[0], *far[1:]])
    polygons("few.gpkg", [*FIELDS[:3], ("rare", 45, 30, 45, 31)])
    polygons("no-names.gpkg", [(np.nan, *where) for _, *where in FIELDS])
    empty = gpd.GeoDataFrame({"class": ["a", "b"]}, geometry=[Polygon(), None], crs=UTM)
    empty.to_file("empty.gpkg")
    polygons("no-crs.geojson", FIELDS)
    text = json.loads(Path("no-crs.geojson").read_text())
    polygons("no-crs.shp", FIELDS, crs=None)
    polygons("lines.gpkg", FIELDS)
    lines = gpd.read_file("lines.gpkg")
    lines.set_geometry(lines.boundary).to_file("lines.gpkg")
    whole = Path("labels.gpkg").read_bytes()
    Path("short.gpkg").write_bytes(whole[: len(whole) * 2 // 3])
    Path("damaged.gpkg").write_bytes(whole[:3_000])
    del text["features"]
    Path("damaged.geojson").write_text(json.dumps(text)[:-1])


def make_runs() -> None:
    for command in (
        "patches scene.tif --labels labels.gpkg --column class --size 8 -o patches.zarr",
        "patches scene.tif --labels labels.gpkg --column class --size 8 --stride 2 -o other.zarr",
        "patches scene.tif --labels few.gpkg --column class --size 8 -o few.zarr",
        "split patches.zarr --by blocks --block 200 --buffer 0 --folds 3 -o split.json",
        "split other.zarr --by random -o other.json",
        f"train patches.zarr --split split.json {NETWORK} -o run",
        "patches scene.tif --labels labels.gpkg --column class --size 9 --stride 2 -o large.zarr",
        "patches three.tif --labels labels.gpkg --column class --size 8 --stride 2 -o three.zarr",
        "patches scene.tif --labels few.gpkg --column class --size 8 --stride 2 -o classes.zarr",
    ):
        assert run(command) == 0, command


def make_damage() -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree("run", name))

    (copy("unfinished") / "model.json").unlink()
    (copy("bad-weights") / "model.safetensors").write_bytes(b"not weights")
    (copy("bad-json") / "model.json").write_text("{")
    model = json.loads(Path("run/model.json").read_text())
    model["normalisation"]["mean"][0] = "high"
    write_json(copy("bad-numbers") / "model.json", model)
    model = json.loads(Path("run/model.json").read_text())
    model["size"] = ["eight", "eight"]
    write_json(copy("bad-size") / "model.json", model)
    model["size"], model["network"] = [8, 8], {"depth": 8, "width": "wide"}
    write_json(copy("bad-network") / "model.json", model)
    (copy("list") / "model.json").write_text("[1, 2]")
    damaged = copy("bad-checkpoint")
    (damaged / "model.json").unlink()
    (damaged / "checkpoint.safetensors").write_bytes(b"{}")
    (copy("bad-predictions") / "predictions.npz").write_bytes(b"PK")
    (copy("bad-trust") / "trust.safetensors").write_bytes(b"no area")
    model = json.loads(Path("run/model.json").read_text())
    model["temperature"] = 0
    write_json(copy("bad-temperature") / "model.json", model)
    Path("foreign").mkdir()
    Path("foreign/readme.md").write_text("something else\n")
    model = json.loads(Path("run/model.json").read_text())
    model["network"]["width"] = 8
    write_json(copy("other-network") / "model.json", model)
    shutil.copytree("patches.zarr", "bad-labels.zarr")
    labels = zarr.open_group("bad-labels.zarr")["labels"]
    labels[0] = 7
    shutil.copytree("patches.zarr", "bad-chunk.zarr")
    chunk = next(path for path in Path("bad-chunk.zarr/images/c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:50])
    shutil.copytree("patches.zarr", "bad-meta.zarr")
    Path("bad-meta.zarr/zarr.json").write_text("{")
    Path("bad-split.json").write_text('{"format": "outcrop split", "sides": 7}')
    split = json.loads(Path("split.json").read_text())
    write_json(Path("short-split.json"), split | {"sides": split["sides"][:-3]})
    Path("foreign.json").write_text('{"type": "FeatureCollection"}')
    Path("bad.npz").write_bytes(b"PK\3\4")
    np.savez("one-class.npz", images=np.zeros((4, 8, 8, 3), "uint8"), labels=np.zeros(4, int))
    pictures = {"images": np.zeros((8, 8, 8, 3), "uint8"), "labels": np.arange(8) % 2}
    np.savez("sides.npz", **pictures, sides=np.arange(8) // 6)
    np.savez("all-train.npz", **pictures, sides=np.zeros(8, int))
    Path("reproduced/fast-seed1").mkdir(parents=True)
    Path("damaged-results").mkdir()
    Path("damaged-results/results.jsonl").write_text('{"name": "fast", "accuracy"')
    Path("no-results").mkdir()
    Path("no-results/results.jsonl").touch()
    Path("archive.zip").write_bytes(b"nothing")
    Path("one-folder/cat").mkdir(parents=True)
    from PIL import Image

    for number in range(2):
        Image.new("RGB", (8, 8)).save(f"one-folder/cat/{number}.png")
    shutil.copytree("one-folder", "bad-image")
    Path("bad-image/dog").mkdir()
    Path("bad-image/dog/0.png").write_bytes(b"no image")


def make_configs() -> None:
    Path("misspelt.yaml").write_text("labels: [labels.gpkg]\noutput: x.zarr\nszie: 16\n")
    Path("wrong-type.yaml").write_text("labels: [labels.gpkg]\noutput: x.zarr\nsize: large\n")
    Path("broken.yaml").write_text("labels: [labels.gpkg\noutput: {\n")


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with a small scene, its labels, patches, split and run, and damaged copies."""
    folder, before = tmp_path_factory.mktemp("world"), Path.cwd()
    os.chdir(folder)
    try:
        make_scenes()
        make_labels()
        make_runs()
        make_damage()
        make_configs()
    finally:
        os.chdir(before)
    return folder


CUT = "patches {scene} --labels {labels} --column {column} --size {size} -o x.zarr"


def cut(scene="scene.tif", labels="labels.gpkg", column="class", size=8) -> str:
    return CUT.format(scene=scene, labels=labels, column=column, size=size)


TRAIN = f"train patches.zarr --split split.json -o x {NETWORK}"
SPLIT = "split patches.zarr -o x.json"
REPRODUCE = "reproduce fast --data sides.npz -o x"
EXPERIMENT = (
    "experiment scene.tif --labels labels.gpkg --column class --size 8 --block 200 --buffer 0 "
    f"--folds 3 -o x {NETWORK}"
)

ROWS = {
    # the command line itself
    "no command": ("", "command is missing", "--help"),
    "unknown command": ("cut scene.tif", "no command 'cut'", "--help"),
    "unknown option": (f"{cut()} --strid 2", "'strid'", "did you mean 'stride'?"),
    "missing argument": ("patches scene.tif --labels labels.gpkg", "missing: output", "--help"),
    "missing scene": ("patches --labels labels.gpkg -o x.zarr", "missing: sources"),
    "size no number": (cut(size="large"), "--size", "a whole number", "'large'"),
    "bands no numbers": (f"{cut()} --bands x", "scene.tif", "has no band 'x'", "band 1"),
    "choice that is none": (f"{SPLIT} --by chance", "--by", "blocks", "'chance'"),
    "config misspelt": ("patches scene.tif --config misspelt.yaml", "misspelt.yaml", "'szie'",
        "did you mean 'size'?"),
    "config wrong type": ("patches scene.tif --config wrong-type.yaml", "--size",
        "a whole number", "'large'"),
    "config missing": ("patches scene.tif --config none.yaml", "none.yaml", "no such file"),
    "config broken": ("patches scene.tif --config broken.yaml", "broken.yaml", "YAML"),
    # scenes
    "scene missing": (cut("none.tif"), "none.tif", "no such file"),
    "scene no raster": (cut("notes.txt"), "notes.txt", "not a raster"),
    "scene a folder": (cut("foreign"), "foreign", "not a raster"),
    "scene truncated": (cut("truncated.tif"), "truncated.tif", "truncated or damaged"),
    "scene without CRS": (cut("no-crs.tif"), "no-crs.tif", "pass --crs"),
    "CRS unknown": (f"{cut('no-crs.tif')} --crs EPSG:0", "--crs", "'EPSG:0'"),
    "bands of two CRS": (cut("one.tif + other-crs.tif"), "other-crs.tif", "does not overlap one",
        "zone 48N", "zone 49N"),
    "joined by commas": (cut("one.tif,three.tif"), "no such file", "one.tif + three.tif"),
    "scene on no earth": (cut("local.tif"), "labels.gpkg", "zone 48N to mine", "correct"),
    "scenes of several bands": (cut("scene.tif three.tif"), "three.tif", "3 bands", "--bands"),
    "band all nodata": (cut("empty-band.tif"), "empty-band.tif", "band 3", "--bands 1,2"),
    "scene all NaN": (cut("all-nan.tif"), "all-nan.tif", "no data"),
    "band not there": (f"{cut()} --bands 9", "scene.tif", "no band 9", "1 to 4"),
    "band 0": (f"{cut()} --bands 0", "scene.tif", "no band 0", "1 to 4"),
    "scene smaller than a patch": (cut("tiny.tif"), "tiny.tif", "5 × 5", "smaller --size"),
    "patch larger than the scene": (cut(size=61), "scene.tif", "60 × 60", "smaller --size"),
    "size 0": (cut(size=0), "--size", "at least 1"),
    "seed negative of patches": (f"{cut()} --seed -1", "--seed", "0 or more"),
    "stride 0": (f"{cut()} --stride 0", "--stride", "at least 1"),
    "per class 0": (f"{cut()} --per-class 0", "--per-class", "at least 1"),
    "patches exist": (f"{cut()} -o patches.zarr", "patches.zarr", "exists already", "--overwrite"),
    "patches over something else": (f"{cut()} -o foreign --overwrite", "foreign",
        "not a patch set", "another name"),
    "patches over a file": (f"{cut()} -o notes.txt --overwrite", "notes.txt", "not a patch set"),
    "no parent": (f"{cut()} -o none/x.zarr", "none/x.zarr", "does not exist", "make it"),
    # labels
    "labels missing": (cut(labels="none.gpkg"), "none.gpkg", "no such file"),
    "labels damaged": (cut(labels="damaged.gpkg"), "damaged.gpkg", "neither a vector file nor"),
    "labels broken JSON": (cut(labels="damaged.geojson"), "damaged.geojson", "neither a"),
    "labels cut short": (cut(labels="short.gpkg"), "short.gpkg", "neither a vector file nor"),
    "labels a table": (cut(labels="table.csv"), "table.csv", "columns x and y", "--labels-crs"),
    "labels of another planet": (cut(labels="mars.gpkg"), "mars.gpkg", "Mars", "correct"),
    "label raster of another planet": ("patches scene.tif --labels mars.tif -o x.zarr",
        "mars.tif", "Mars", "zone 48N", "correct"),
    "label raster truncated": ("patches scene.tif --labels truncated-classes.tif -o x.zarr",
        "truncated-classes.tif", "truncated or damaged"),
    "label raster without CRS": ("patches scene.tif --labels no-crs-classes.tif -o x.zarr",
        "no-crs-classes.tif", "--labels-crs"),
    "label raster of many values": ("patches scene.tif --labels one.tif -o x.zarr",
        "one.tif", "more than 255 values"),
    "labels inside of one class": (cut(labels="mostly-far.gpkg"), "mostly-far.gpkg",
        "'water' only", "two"),
    "labels outside": (cut(labels="far.gpkg"), "far.gpkg", "labels no pixel of scene.tif"),
    "labels without CRS": (cut(labels="no-crs.shp"), "no-crs.shp", "--labels-crs"),
    "labels CRS unknown": (f"{cut(labels='no-crs.shp')} --labels-crs moon", "--labels-crs",
        "'moon'"),
    "labels empty": (cut(labels="empty.gpkg"), "empty.gpkg", "empty"),
    "labels lines": (cut(labels="lines.gpkg"), "lines.gpkg", "no polygon or point"),
    "labels without names": (cut(labels="no-names.gpkg"), "no-names.gpkg", "class"),
    "one class": (cut(labels="one-class.gpkg"), "one-class.gpkg", "'rice'", "two"),
    "unknown column": (cut(column="klass"), "labels.gpkg", "'klass'", "class, region"),
    "no column": ("patches scene.tif --labels labels.gpkg -o x.zarr", "labels.gpkg", "--column"),
    "column to keep unknown": (f"{cut()} --keep zone", "labels.gpkg", "'zone'", "region"),
    "label raster of fractions": ("patches scene.tif --labels fractions.tif -o x.zarr",
        "fractions.tif", "not integers"),
    "names for the classes": ("patches scene.tif --labels classes.tif --classes a,b,c -o x.zarr",
        "classes.tif", "2 values (1, 2)", "has 3 names"),
    "labels for the scenes": (f"{cut('scene.tif scene.tif scene.tif')} --labels "
        "labels.gpkg,far.gpkg", "--labels", "2 files for 3 scenes"),
    # splits
    "patches missing": ("split none.zarr -o x.json", "none.zarr", "no such"),
    "patches damaged": ("split bad-meta.zarr -o x.json", "bad-meta.zarr", "not a whole patch set"),
    "fewer groups than folds": ("split few.zarr -o x.json", "--block", "4 spatial groups",
        "5 folds", "fewer folds"),
    "fewer patches than folds": ("split few.zarr --by random --folds 9999 -o x.json", "--folds",
        "9999", "use fewer"),
    "a test side of all folds": ("split few.zarr --all-folds --test -o x.json", "--test",
        "--all-folds"),
    "block 0": (f"{SPLIT} --block 0", "--block", "more than 0"),
    "block not a number": (f"{SPLIT} --block nan", "--block", "a number"),
    "block larger than the ground": (f"{SPLIT} --block 1e6 --folds 2", "--block", "smaller blocks"),
    "buffer negative": (f"{SPLIT} --buffer -1", "--buffer", "must be 0 or more"),
    "buffer over everything": (f"{SPLIT} --block 200 --buffer 5000", "buffer", "smaller"),
    "folds 1": (f"{SPLIT} --folds 1", "--folds", "at least 2"),
    "fold not there": (f"{SPLIT} --by random --fold 5", "--fold", "0 to 4"),
    "zones missing": (f"{SPLIT} --by zones --zones none.gpkg", "none.gpkg", "no such file"),
    "zones elsewhere": (f"{SPLIT} --by zones --zones far.gpkg", "--zones", "no patch"),
    "zones without CRS": (f"{SPLIT} --by zones --zones no-crs.shp", "no-crs.shp", "system"),
    "no zones": (f"{SPLIT} --by zones", "--by zones", "--zones"),
    "half a box": (f"{SPLIT} --by zones --boxes 1,2,3", "--boxes", "four numbers"),
    "one scene": (f"{SPLIT} --by scenes", "one scene", "blocks"),
    "column not kept": (f"{SPLIT} --by column --column region", "--column", "'region'", "--keep"),
    "split exists": (f"{SPLIT} -o split.json", "split.json", "exists already", "--overwrite"),
    "split's parent": (f"{SPLIT} -o none/x.json", "none/x.json", "does not exist"),
    "boxes no numbers": (f"{SPLIT} --by zones --boxes a,b,c,d", "--boxes", "numbers"),
    "seed too large": (f"{SPLIT} --seed 4294967296", "--seed", "below 2 ** 32"),
    "labels out of range": ("split bad-labels.zarr -o x.json", "bad-labels.zarr",
        "not a whole patch set"),
    "seed negative": (f"{SPLIT} --by random --seed -1", "--seed", "0 or more"),
    # collections
    "class folders of one class": ("train one-folder -o x", "one-folder", "'cat'", "two"),
    "image damaged": ("train bad-image -o x", "bad-image/dog/0.png", "not a readable image"),
    "npz of one class": ("train one-class.npz -o x", "one-class.npz", "two"),
    "npz damaged": ("train bad.npz -o x", "bad.npz", "not a complete npz"),
    "archive damaged": ("train archive.zip -o x", "archive.zip", "not a complete .zip"),
    "collection of no kind": ("train notes.txt -o x", "notes.txt", "not a collection"),
    # training
    "no split": ("train patches.zarr -o x", "--split", "outcrop split"),
    "split missing": ("train patches.zarr --split none.json -o x", "none.json", "no such split",
        "outcrop split"),
    "split foreign": ("train patches.zarr --split foreign.json -o x", "foreign.json",
        "not a split", "outcrop split"),
    "split damaged": ("train patches.zarr --split bad-split.json -o x", "bad-split.json",
        "not a split"),
    "split cut short": ("train patches.zarr --split short-split.json -o x", "short-split.json",
        "not a split"),
    "split of other patches": ("train patches.zarr --split other.json -o x", "other.json",
        "another patch set", "outcrop split"),
    "depth 21": (f"{TRAIN} --depth 21", "depth 21", "6n + 2", "20"),
    "width 0": (f"{TRAIN} --width 0", "width is 0", "1 or more"),
    "network unknown": (f"{TRAIN} --network resnet21", "resnet21", "did you mean resnet"),
    "levels 6": (f"{TRAIN} --levels 6", "levels is 6", "1 to 5"),
    "levels deeper than the stages": (f"{TRAIN} --levels 4", "4 levels need 2 blocks", "depth"),
    "survival 0": (f"{TRAIN} --survival 0", "survival is 0", "above 0"),
    "one-cycle misspelt": (f"{TRAIN} --schedule onecycle", "--schedule", "one-cycle"),
    "milestone beyond the end": (f"{TRAIN} --milestones 0.5,2", "milestones", "between 0 and 1"),
    "no such size": (f"{TRAIN} --gpu-memory lots", "gpu_memory is lots", "6GiB"),
    "cap on a CPU": (f"{TRAIN} --gpu-memory 6GiB", "--gpu-memory", "the device is cpu"),
    "an experiment in several processes": (f"{EXPERIMENT} --devices 2", "--devices", "one process"),
    "patches smaller than the footprint": (f"{TRAIN} --padding none", "ResNet-8 unpadded",
        "25 × 25", "--padding zeros"),
    "an experiment of too small patches": (f"{EXPERIMENT} --padding none", "25 × 25", "8 × 8"),
    "accumulate 0": (f"{TRAIN} --accumulate 0", "accumulate is 0", "1 or more"),
    "epochs 0": (f"{TRAIN} --epochs 0", "epochs is 0", "1 or more"),
    "batch 1": (f"{TRAIN} --batch 1", "batch is 1", "4 or more"),
    "crop negative": (f"{TRAIN} --crop -1", "crop is -1"),
    "schedule unknown": (f"{TRAIN} --schedule linear", "--schedule", "cosine", "'linear'"),
    "learning rate 0": (f"{TRAIN} --learning-rate 0", "learning_rate is 0", "above 0"),
    "device unknown": (f"{TRAIN} --device abacus", "device", "abacus", "cpu"),
    "run exists": (f"{TRAIN} -o run", "run", "exists already", "--resume"),
    "run's parent": (f"{TRAIN} -o none/x", "none/x", "does not exist"),
    "resumed with another recipe": (f"{TRAIN} -o run --resume --epochs 7", "run",
        "recipe.epochs was 1, is 7", "another folder"),
    "resumed from something else": (f"{TRAIN} -o foreign --resume", "foreign", "run"),
    "checkpoint damaged": (f"{TRAIN} -o bad-checkpoint --resume",
        "bad-checkpoint/checkpoint.safetensors", "damaged", "delete it"),
    "patches' pixels damaged": ("train bad-chunk.zarr --split split.json -o x --depth 8",
        "bad-chunk.zarr", "damaged", "outcrop patches"),
    # evaluating and mapping
    "run missing": ("evaluate none patches.zarr", "none", "no such run", "outcrop train"),
    "run foreign": ("evaluate foreign patches.zarr", "foreign", "outcrop"),
    "run unfinished": ("evaluate unfinished patches.zarr", "unfinished", "--resume"),
    "predictions damaged": ("evaluate bad-predictions patches.zarr",
        "bad-predictions/predictions.npz", "damaged"),
    "area of applicability damaged": ("evaluate bad-trust patches.zarr",
        "bad-trust/trust.safetensors", "damaged", "train the run anew"),
    "classes the model does not know": ("evaluate run classes.zarr", "'rare'", "water"),
    "patches of another size": ("evaluate run large.zarr", "8 × 8", "9 × 9", "cut them anew"),
    "patches of other bands": ("evaluate run three.zarr", "4 bands", "3"),
    "model missing": ("map none scene.tif -o x.tif", "none", "no such", "outcrop train"),
    "model foreign": ("map foreign scene.tif -o x.tif", "foreign", "no such model",
        "outcrop train"),
    "model's weights damaged": ("map bad-weights scene.tif -o x.tif",
        "bad-weights/model.safetensors", "damaged", "train"),
    "model no JSON": ("map bad-json scene.tif -o x.tif", "bad-json/model.json", "not a model"),
    "model a list": ("map list scene.tif -o x.tif", "list/model.json", "not a model"),
    "model's numbers": ("map bad-numbers scene.tif -o x.tif", "bad-numbers/model.json", "'high'"),
    "model's temperature": ("map bad-temperature scene.tif -o x.tif",
        "bad-temperature/model.json", "temperature", "train it anew"),
    "model's size": ("map bad-size scene.tif -o x.tif", "bad-size/model.json", "not a model"),
    "model's network": ("map bad-network scene.tif -o x.tif", "bad-network/model.json",
        "not a model"),
    "bands for the model": ("map run three.tif -o x.tif", "three.tif", "3 bands", "4", "--bands"),
    "scene smaller than the model's patch": ("map run tiny.tif -o x.tif", "tiny.tif", "5 × 5",
        "8 × 8"),
    "scene to map truncated": ("map run truncated.tif -o x.tif --confidence y.tif",
        "truncated.tif", "truncated or damaged"),
    "scene to map missing": ("map run none.tif -o x.tif", "none.tif", "no such file"),
    "map exists": ("map run scene.tif -o scene.tif", "scene.tif", "exists already", "--overwrite"),
    "map's parent": ("map run scene.tif -o none/x.tif", "none/x.tif", "does not exist"),
    "map over a folder": ("map run scene.tif -o foreign --overwrite", "foreign", "is a folder"),
    "weights of another network": ("map other-network scene.tif -o x.tif",
        "other-network/model.safetensors", "another model", "train"),
    "map over its scene": ("map run scene.tif -o scene.tif --overwrite", "scene.tif", "scene"),
    "map and confidence in one": ("map run scene.tif -o x.tif --confidence x.tif", "--confidence",
        "x.tif"),
    "step 0": ("map run scene.tif -o x.tif --step 0", "--step", "from 1"),
    # exporting
    "export of nothing": ("export none -o x.onnx", "none", "no such model", "outcrop train"),
    "export of no run": ("export foreign -o x.pt2", "foreign", "no such model", "outcrop train"),
    "export unfinished": ("export unfinished -o x.pt2", "unfinished", "no such model"),
    "export without an ending": ("export run -o x.h5", "x.h5", ".onnx or .pt2", "--format"),
    "export of another format": ("export run -o x.h5 --format keras", "--format", "onnx",
        "'keras'"),
    "export exists": ("export run -o notes.txt --format torch-export", "notes.txt",
        "exists already", "--overwrite"),
    "export's parent": ("export run -o none/x.onnx", "none/x.onnx", "does not exist"),
    # what networks cost
    "sizes of models": ("models --size 8,8,3", "--size", "150,100"),
    "no band of models": ("models --bands 0", "--bands", "at least 1"),
    "no network of models": ("models --network resnet19", "resnet19", "did you mean"),
    # reports and the rest
    "report on nothing": ("report none", "none", "no such folder", "outcrop experiment"),
    "report on something else": ("report foreign", "foreign", "nothing to report", "outcrop"),
    "report on a run unfinished": ("report unfinished", "unfinished", "not finished", "--resume"),
    "report exists": ("report run -o notes.txt", "notes.txt", "exists already", "--overwrite"),
    "report's parent": ("report run -o none/x.html", "none/x.html", "does not exist"),
    "report on damaged predictions": ("report bad-predictions", "bad-predictions/predictions.npz",
        "damaged", "train"),
    "comparison's split": (f"compare patches.zarr --split other.json -o x {NETWORK}",
        "other.json", "another patch set"),
    "comparison's device": ("compare patches.zarr --split split.json -o x --device abacus",
        "device", "abacus"),
    "truth for the scenes": (f"{EXPERIMENT} --truth classes.tif,classes.tif", "--truth",
        "2 files for 1 scene;"),
    "experiment's labels": (EXPERIMENT.replace("labels.gpkg", "far.gpkg"), "far.gpkg",
        "labels no pixel"),
    "experiment's blocks": (f"{EXPERIMENT} --block 1e6", "--block", "smaller blocks"),
    "experiment's device": (f"{EXPERIMENT} --device abacus", "device", "abacus"),
    "experiment's depth": (f"{EXPERIMENT} --depth 9", "depth 9", "6n + 2"),
    "recipe unknown": ("reproduce resnet21 -o x", "no recipe 'resnet21'", "did you mean resnet"),
    "recipe like no other": ("reproduce zzz -o x", "no recipe 'zzz'", "use one of fast, resnet110"),
    "two recipes": ("reproduce fast resnet20 -o x", "'resnet20'", "--help"),
    "recipe's data missing": (f"{REPRODUCE} --data none.npz", "none.npz", "no such file"),
    "recipe's data without a test side": (f"{REPRODUCE} --data patches.zarr", "patches.zarr",
        "no training and test side", "with both"),
    "recipe's data all train": (f"{REPRODUCE} --data all-train.npz", "all-train.npz",
        "no training and test side"),
    "recipe's epochs": (f"{REPRODUCE} --epochs 0", "epochs is 0", "1 or more"),
    "recipe's seeds": (f"{REPRODUCE} --seeds a,1", "--seeds", "whole numbers", "'a,1'"),
    "recipe's seed": (f"{REPRODUCE} --seeds 0,-1", "seed is -1", "0 or more"),
    "recipe's device": (f"{REPRODUCE} --device abacus", "device", "abacus"),
    "recipe's parent": (f"{REPRODUCE} -o none/x", "none/x", "does not exist"),
    "recipe's folder a file": (f"{REPRODUCE} -o notes.txt", "notes.txt", "write elsewhere"),
    "recipe run already": (f"{REPRODUCE} --seeds 0,1 -o reproduced", "reproduced/fast-seed1",
        "exists already", "--resume"),
    "recipe resumed from something else": (f"{REPRODUCE} --seeds 1 -o reproduced --resume",
        "reproduced/fast-seed1", "run"),
    "recipe's results damaged": (f"{REPRODUCE} -o damaged-results",
        "damaged-results/results.jsonl", "line 1: is not a result", "delete it"),
    "table of damaged results": ("reproduce --table -o damaged-results",
        "damaged-results/results.jsonl", "line 1: is not a result", "delete it"),
    "table of nothing": ("reproduce --table -o none", "none/results.jsonl", "no such file",
        "outcrop reproduce"),
    "table of no lines": ("reproduce --table -o no-results", "no-results/results.jsonl", "empty"),
    "table of one not run": ("reproduce fast --table -o no-results", "no result of fast",
        "outcrop reproduce fast"),
    "coast too small": ("coast --size 10 -o x", "10 pixels", "64 or more"),
    "coast of no image": ("synthetic coast --images 0 -o x", "number of images is 0", "1 or more"),
    "coast exists": ("coast -o foreign", "foreign", "exists already"),
    "coast's parent": ("synthetic coast -o none/x", "none/x", "does not exist"),
    "demo exists": ("demo -o foreign", "foreign", "exists already"),
    "demo's seed": ("demo --seed -1 -o x", "seed -1", "0 or more"),
    "demo's parent": ("demo -o none/x --resume", "none/x", "does not exist"),
    "demo of what": ("demo moon -o x", "what", "coast", "cube"),
    "cube demo exists": ("demo cube -o foreign", "foreign", "exists already"),
    "cube demo's seed": ("demo cube --seed -1 -o x", "seed is -1", "0 or more"),
    "cube demo's parent": ("demo cube -o none/x --resume", "none/x", "does not exist"),
    "no cube demo": ("demo cube -o foreign --resume", "foreign", "is not a demo"),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_one_line_says_what_is_wrong_and_nothing_is_left(world, monkeypatch, capfd, row):
    check_refused(world, monkeypatch, capfd, *ROWS[row])


IN_A_PROCESS = (
    "unknown option",
    "config misspelt",
    "scene truncated",
    "labels damaged",
    "patches' pixels damaged",
    "model's weights damaged",
)


@pytest.mark.parametrize("row", IN_A_PROCESS)
def test_the_same_in_a_process_of_its_own(world, row):
    command, *pieces = ROWS[row]
    before = content(world)
    # In a new Python what libraries print while they are loaded would be seen too.
    done = (start_python if row == "scene truncated" else start)(command, cwd=world)
    check(done.returncode, done.stdout, done.stderr, *pieces)
    assert content(world) == before


FULL = {
    "patches": (f"{cut()} --overwrite -o", "x.zarr", 20_000),
    "split": ("split patches.zarr --by random -o", "x.json", 1_000),
    "map": ("map run scene.tif -o", "x.tif", 1_000),
    "coast's scene": ("synthetic coast --images 1 --size 64 -o", "x", 3_000),
    "coast's labels": ("synthetic coast --images 1 --size 64 -o", "x", 40_000),
}


@pytest.mark.parametrize(("command", "name", "limit"), FULL.values(), ids=FULL)
def test_a_full_disk_leaves_nothing(world, tmp_path, command, name, limit):
    done = start(f"{command} {tmp_path / name}", cwd=world, preexec_fn=largest_file(limit))
    # libtiff may print a line of its own first.
    last = done.stderr.splitlines(keepends=True)[-1]
    check(done.returncode, done.stdout, last, str(tmp_path / name), "disk")
    assert content(tmp_path) == {}


FILES_OF_A_RUN = {"events": ("--width 4", 10_000), "checkpoint": ("--width 24", 300_000)}


@pytest.mark.parametrize(("width", "limit"), FILES_OF_A_RUN.values(), ids=FILES_OF_A_RUN)
def test_training_on_a_full_disk_can_go_on(world, tmp_path, monkeypatch, width, limit):
    monkeypatch.chdir(world)
    train = f"train other.zarr --split other.json {NETWORK} {width} -o {tmp_path / 'run'}"
    done = start(train, preexec_fn=largest_file(limit))
    check(done.returncode, done.stdout, done.stderr, str(tmp_path / "run"), "disk is full")
    assert not [name for name in content(tmp_path) if "partial" in name]
    assert run(f"{train} --resume") == 0


def test_pixels_without_numbers_are_dropped_and_counted(world, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(world)
    assert run(cut("odd.tif") + f" --stride 1 -o {tmp_path / 'x.zarr'}") == 0
    out, err = capfd.readouterr()
    assert "dropped 3 labelled pixels: no data" in out
    assert "597 patches" in out
    assert err == ""
    assert np.isfinite(read_patches(tmp_path / "x.zarr").images[:, :, 4, 4]).all()


def test_labels_in_another_ordinary_system_are_reprojected(world, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(world)
    gpd.read_file("labels.gpkg").to_crs(4326).to_file(tmp_path / "degrees.gpkg")
    assert run(cut(labels=tmp_path / "degrees.gpkg") + f" -o {tmp_path / 'x.zarr'}") == 0
    assert read_patches(tmp_path / "x.zarr").fingerprint == read_patches("patches.zarr").fingerprint


@pytest.mark.parametrize("command", [TRAIN, EXPERIMENT, "map run scene.tif -o x.tif"])
def test_a_device_that_is_not_here(world, monkeypatch, capfd, command):
    monkeypatch.chdir(world)
    before = content(world)
    check(run(f"{command} --device cuda:99"), *capfd.readouterr(), "device", "cuda:99", "cpu")
    assert content(world) == before


@pytest.mark.parametrize(("command", "name"), [(c, n) for c, n, _ in FULL.values()], ids=FULL)
def test_a_closed_folder(world, tmp_path, monkeypatch, capfd, command, name):
    monkeypatch.chdir(world)
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("nothing is closed to this user")
    check(run(f"{command} {tmp_path / name}"), *capfd.readouterr(), name, "permissions")
    assert content(tmp_path) == {}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB, where this user may make one."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True
    )
    if done.returncode:
        pytest.skip("no disk can be made here")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_disk_that_is_really_full(world, small_disk, monkeypatch, capfd):
    monkeypatch.chdir(world)
    check(
        run(cut() + f" -o {small_disk / 'x.zarr'}"), *capfd.readouterr(), "x.zarr", "disk is full"
    )
    assert content(small_disk) == {}
