"""Packages of extras that are missing: what works without them, and what is said elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import outcrop as oc
from outcrop.executors import executor
from outcrop.extras import EXTRAS, need
from tests.cubes import write_segy


def _without(monkeypatch, *packages):
    for name in list(sys.modules):
        if name.partition(".")[0] in packages:
            monkeypatch.delitem(sys.modules, name)
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


BARE = """
import sys
from importlib.machinery import PathFinder

class Without:
    missing = {"matplotlib", "jinja2", "distributed", "dask", "segyio", "h5py", "onnx"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.missing:
            return None
        return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without()

import numpy as np
import outcrop as oc
from outcrop.cli import main
from tests.patches import noise, patch_set

images = noise(60, bands=2, size=9)
images[::2] += 2
patches = patch_set(images, np.arange(60) % 2)
split = oc.RandomSplit().assign(patches)
network = oc.MultiScaleNet(hidden=4, views=("pixel",))
run = oc.train(patches, split, "run", network, oc.Recipe(epochs=2))
assert len(run.metrics) == 2
found = oc.compare(patches, split, "compared", network, oc.Recipe(epochs=1), workers=1,
                   tuning=oc.Tuning(0))
assert len(found.rows) > 5
assert main(["report", "run"]) == 2
pixels = np.concatenate([*images[:4]], axis=2)
scene = oc.scene_from_array(pixels, (1, 0, 0, 0, -1, 0), "EPSG:32648")
oc.map_scene(run, scene, "map.tif")
"""


def test_extras_are_those_of_the_package():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    declared = tomllib.loads(text)["project"]["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        names = " ".join(declared[extra])
        assert all(package in names for package in packages)
        for package in packages:
            need(package, "x")


def test_ibm_floats_need_the_extra_seismic(tmp_path, monkeypatch):
    write_segy(tmp_path / "cube.sgy", np.ones((5, 4, 6), np.float32), code=1)
    volume = oc.open_volume(tmp_path / "cube.sgy")
    _without(monkeypatch, "segyio")
    wanted = r"needs segyio; run pip install 'outcrop\[seismic\]'"
    with pytest.raises(oc.OutcropError, match=wanted), volume.reader() as reader:
        reader.box((0, 0, 0), (5, 4, 6))


def test_a_cluster_needs_the_extra_cluster(monkeypatch):
    _without(monkeypatch, "distributed")
    wanted = "`scheduler`: needs distributed; run pip install"
    with pytest.raises(oc.OutcropError, match=wanted), executor("local[2]"):
        pass


def test_training_and_comparing_do_without_any_extra(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "report: needs matplotlib; run pip install 'outcrop[report]'" in (done.stderr)
