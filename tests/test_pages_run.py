"""Every shell and Python block of the documentation runs, page by page, in the order of the page.

Trainings take one epoch, and coasts and cubes are small. What a page reads and does not make lies
in its folder before. `NOT_RUN` lists the commands that are left out. `make docs` runs this file; it
takes minutes, and `make test` leaves it out.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from itertools import takewhile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from shapely.geometry import box

from outcrop.generative.settings import VaeGanRecipe
from outcrop.models.baselines import Baseline
from outcrop.training.recipe import Recipe
from outcrop.workflow import compare
from tests.command_line import run
from tests.cubes import write_segy
from tests.rasters import write_raster
from tests.test_pages import DOCS, ENDS, PAGES, VARIABLE
from tests.test_products import L2A, make_safe

BLOCK = re.compile(r"((?:(?!```).)*)```(\w+)\n(.*?)```", re.DOTALL)
OF_PYTHON = ("classes.tif", "confidence.tif", "run")
NOT_RUN = {
    "make": "run in a clone",
    "pip": "installs",
    "python": "a benchmark, or a new environment",
    "qgis_process": "run by test_qgis_plugin.py",
    "source": "enters an environment",
    "tensorboard": "serves until it is stopped",
    "torchrun": "needs several machines",
    "outcrop --completion": "prints a script for the shell",
    "outcrop reproduce": "needs CIFAR-10",
}
SMALLER = {
    "block=2_000": "block=400",
    "--block 150": "--block 20",  # of the cubes
    "--block 60": "--block 20",
    "--devices 4": "--devices 1",
    "--folds 5": "--folds 2",
    "--images 7": "--images 2",
    "--per-class 300": "--per-class 10",
    "--per-class 400": "--per-class 25",
    "--seeds 0,1,2": "--seeds 0",
    "--size 65": "--size 17",
    "331000,5815000,332000,5816000": "600200,1049200,601000,1050000",
    "local[4]": "local[1]",
}
ADDED = {
    "synthetic coast": "--size 160",
    "patches": "--per-class 40",
    "compare": "--trials 0 --gap-seeds 0",
    "experiment": "--trials 0 --folds 2",
}
pytestmark = pytest.mark.skipif("OUTCROP_PAGES" not in os.environ, reason="run by `make docs`")
RUN = [page for page in PAGES if page.parent.name in ("docs", "howto", "explanation")]
RUN.append(DOCS.parent / "README.md")


@pytest.fixture(scope="module")
def short(small_models):
    """One epoch, and two classical models."""

    def one_epoch(kind):
        prepare = kind.__post_init__

        def shortened(self):
            object.__setattr__(self, "epochs", 1)
            prepare(self)

        patch.setattr(kind, "__post_init__", shortened)

    few = [Baseline(name, "centre pixel") for name in ("SVM", "decision tree")]
    with pytest.MonkeyPatch.context() as patch:
        one_epoch(Recipe)
        one_epoch(VaeGanRecipe)
        patch.setattr(compare, "BASELINES", few)
        yield


@pytest.fixture(scope="module")
def given(tmp_path_factory, short):
    """What pages read and do not make: the first commands of the how-to pages, and more files."""
    folder = tmp_path_factory.mktemp("given")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shell("""
            outcrop synthetic coast -o coast --seed 1
            outcrop synthetic coast -o new --seed 101 --images 1
            outcrop synthetic coast -o large --seed 1 --images 1 --size 400
            outcrop patches coast/coast-?.tif --labels coast/labels.gpkg --column class \\
                --size 17 --stride 3 -o coast.zarr
            outcrop patches coast/coast-?.tif --labels coast/labels.gpkg --column class \\
                --size 32 --stride 3 -o coast32.zarr
            outcrop patches new/coast-1.tif --labels new/labels.gpkg --column class \\
                --size 17 --stride 6 -o new.zarr
            outcrop split coast.zarr -o split.json
            outcrop split coast.zarr --all-folds --folds 2 -o folds.json
            outcrop split coast32.zarr --block 500 --buffer 160 -o split32.json
            outcrop train coast.zarr --split split.json -o run
            outcrop train coast.zarr --split split.json --classical decision-tree -o first
            outcrop train coast.zarr --split split.json --classical maximum-likelihood -o second
            outcrop map run coast/coast-1.tif -o classes.tif
            outcrop sample classes.tif --expected 0.6 --standard-error 0.05 -o points.gpkg
            outcrop synthetic cube --shape 60,80,100 -o cube
            outcrop patches cube/cube.npy --labels cube/classes.npy --axis 0 \\
                --size 17 --stride 5 --slice-stride 5 -o cube.zarr
            outcrop split cube.zarr --by slabs --axis 0 --thickness 12 --buffer 4 -o cube-split.json
        """)
        scenes()
        labels()
        volumes()
    return folder


def scenes():
    """Copies of the coast with other names or bands, masks, and a product."""
    for name in ("scene", "autumn"):
        shutil.copy("large/coast-1.tif", f"{name}.tif")
    for name, number in {"north": 1, "south": 2, "tile-1": 1, "tile-2": 2, "other": 2}.items():
        shutil.copy(f"coast/coast-{number}.tif", f"{name}.tif")
    with rasterio.open("scene.tif") as scene:
        pixels, profile, bands = scene.read(), scene.profile, scene.descriptions
    for season in ("spring", "summer"):
        with rasterio.open(f"{season}.tif", "w", **profile) as file:
            file.write(pixels)
            file.descriptions = [f"{season} {band}" for band in bands]
    for name, scene in {"scl": "scene", "qa": "scene", "other-scl": "other"}.items():
        band(f"{name}.tif", scene, np.uint8(0))
    for name in ("north", "south"):
        band(f"{name}-height.tif", name, np.float32(1.5))
    make_safe(Path(), L2A, [-1000] * 13).rename("S2A_MSIL2A.SAFE")


def band(name, scene, value):
    """A file of one band, on the grid of a scene."""
    with rasterio.open(f"{scene}.tif") as file:
        grid = {"crs": file.crs, "transform": file.transform}
    pixels = np.full(file.shape, value)
    pixels[:4, :4] += 1
    write_raster(Path(name), pixels, **grid)


def labels():
    """Labels of the coast and of the product, and points whose class is known."""
    fields = gpd.read_file("large/labels.gpkg").rename(columns={"class": "crop"})
    west, north = 300_000, 5_000_040
    strips = [box(west + x, north - 120, west + x + 40, north) for x in (0, 80)]
    product = gpd.GeoDataFrame({"crop": fields["crop"].unique()[:2]}, geometry=strips, crs=32633)
    pd.concat([fields, product.to_crs(fields.crs)]).to_file("fields.gpkg")
    fields.to_file("fields-autumn.gpkg")
    points = gpd.read_file("points.gpkg")
    points["class"] = points["stratum"]
    points.to_file("points-filled.gpkg")


def volumes():
    """The cube as SEG-Y with facies and picks, and patches that do not say where they are from."""
    cube, classes = np.load("cube/cube.npy"), np.load("cube/classes.npy")
    lines = {"inlines": range(100, 160), "crosslines": range(300, 380)}
    write_segy(Path("survey.sgy"), cube, **lines)
    write_segy(Path("facies.sgy"), classes, code=8, **lines)
    shutil.copy("cube/cube.npy", "cube.npy")
    Path("new/cube.npy").symlink_to(Path("cube.npy").resolve())
    rng = np.random.default_rng(0)
    places = [(i, j, k) for i, j, k in rng.integers((0, 10, 10), (60, 70, 90), (60, 3))]
    table = pd.DataFrame(places, columns=["inline", "crossline", "time"])
    picks = table * (1, 1, 4) + (100, 300, 0)
    picks["axis"], picks["facies"] = 0, [f"facies {classes[place]}" for place in places]
    picks.to_csv("picks.csv", index=False)
    images = [cube[i, j - 8 : j + 9, k - 8 : k + 9] for i, j, k in places]
    np.savez("patches.npz", images=np.array(images), labels=[classes[place] for place in places])


def smaller(text):
    """A block for small coasts and cubes."""
    for before, after in SMALLER.items():
        text = text.replace(before, after)
    return text


def shell(text):
    """Run the commands of a shell block, as a shell in this folder would."""
    for line in smaller(text).replace("\\\n", " ").splitlines():
        words = [word for word in shlex.split(line, comments=True) if not VARIABLE.match(word)]
        if words[:1] == ["mkdir"]:
            Path(words[1]).mkdir()
            os.chdir(words[1])
            continue
        if not words or "tcp://" in line or " ".join(words).startswith(tuple(NOT_RUN)):
            continue
        words = list(takewhile(lambda word: word not in ENDS, words))
        assert words.pop(0) == "outcrop", line
        for command, options in ADDED.items():
            given = {options.split()[0], "--runs"} & set(words)
            if " ".join(words).startswith(command) and not given:
                words += options.split()
        matching = [sorted(Path().glob(word)) if "?" in word else [word] for word in words]
        command = shlex.join(str(word) for words in matching for word in words)
        # An audit with findings ends with 1.
        assert run(command) in ((0, 1) if words[0] == "audit" else (0,)), command


def belongs(file, made):
    """Whether a file is an output of that name, or was written beside it."""
    beside = f"{Path(made).stem}.qml" if made.endswith(".tif") else made
    return file in (made, beside) or (Path(made).suffix != "" and file.startswith(f"{made}."))


def copy(given, folder, made):
    """Put what was given into a new folder, except what is made there."""
    folder.mkdir()
    for item in given.iterdir():
        if not any(belongs(item.name, name) for name in made):
            (folder / item.name).symlink_to(item)
    os.chdir(folder)


@pytest.mark.parametrize("page", RUN, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_blocks_of_the_pages_run(page, given, tmp_path, monkeypatch):
    text = page.read_text()
    monkeypatch.chdir(tmp_path)
    copy(given, tmp_path / "page", re.findall(r"-o (\S+)", text.partition("mkdir")[0]))
    monkeypatch.syspath_prepend(tmp_path / "page")
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    names = {"__name__": "__main__"}
    for before, language, block in BLOCK.findall(text):
        if "The same in Python" in before:
            copy(given, tmp_path / "python", OF_PYTHON)
        if language == "bash":
            shell(block)
        elif name := re.match(r"# (\w+\.py)\n", block):
            Path(name[1]).write_text(block)
        elif language == "python":
            exec(compile(smaller(block), page.name, "exec"), names)
