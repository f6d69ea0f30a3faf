"""What a user sees of the package: names, types, and what they were called before."""

from __future__ import annotations

import builtins
import subprocess
import sys
from inspect import ismodule
from pathlib import Path

import pytest

import outcrop as oc

ROOT = Path(__file__).parent.parent
SCRIPT = """
import numpy as np
import outcrop as oc

scene = oc.scene_from_array(np.zeros((2, 9, 9)), (1, 0, 0, 0, -1, 0), "EPSG:32648")
patches = oc.cut(scene, "labels.gpkg", "crop", size=5)
split = oc.splits.BlockSplit(block=100).assign(patches)
run = oc.train(patches, split, "run", oc.ResidualNet(depth=8))
made = oc.map_scene(run, scene, "map.tif")
reveal_type(oc.cut)
reveal_type(patches[:3].to_frame())
reveal_type(made.files["classes"])
oc.cutt(scene, "labels.gpkg")
patches.subsett([1])
"""


def test_a_script_is_checked_by_mypy(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    # With the settings and the cache of the project's own check, which CI has run before.
    words = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context"]
    words += ["--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"]
    words += ["script.py"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True).stdout.splitlines()
    notes = [line for line in told if "note: Revealed" in line]
    assert "def (scenes: " in notes[0]
    assert "-> outcrop.patches.patchset.PatchSet" in notes[0]
    assert "pathlib.Path" in notes[2]
    errors = [line for line in told if "error:" in line]
    assert len(errors) == 2
    assert 'Module has no attribute "cutt"; maybe "cut"' in errors[0]
    assert 'has no attribute "subsett"; maybe "subset"' in errors[1]


def test_all_names_are_there_and_none_is_a_builtin():
    assert len(oc.__all__) > 80
    assert all(getattr(oc, name) is not None for name in oc.__all__)
    assert not [name for name in oc.__all__ if hasattr(builtins, name)]
    assert set(oc.__all__) <= set(dir(oc))


@pytest.mark.parametrize("name", ["generative", "models", "splits", "synthetic"])
def test_namespaces_have_their_names(name):
    space = getattr(oc, name)
    assert len(space.__all__) >= 2
    assert all(not ismodule(getattr(space, one)) for one in space.__all__)


@pytest.mark.parametrize(
    ("old", "new"),
    [("lay_together", "mosaic_scenes"), ("map", "map_scene"), ("report", "write_report")],
)
def test_old_names_say_the_new_ones(old, new):
    with pytest.warns(FutureWarning, match=f"outcrop.{old} is now outcrop.{new}"):
        assert getattr(oc, old) is getattr(oc, new)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        oc.nothing  # noqa: B018
