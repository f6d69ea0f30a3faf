"""What a user sees of the package: names, types, and what they were called before."""

from __future__ import annotations

import builtins
import subprocess
import sys
from inspect import isfunction, ismodule, signature
from pathlib import Path

import numpy as np
import pytest

import outcrop as oc
from outcrop.locating.located import Located
from outcrop.splits import BlockSplit, MatchingSplit, RandomSplit, random_folds
from tests.tiny import NETWORK, PATCHES, RECIPE, SPLIT, assert_same

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


NAMES_OR_OBJECTS = {"patches", "split", "folds", "run", "model", "trained", "judge", "similarity",
                    "scene", "scenes", "volume", "sources", "start_from"}  # fmt: skip


def functions():
    for name in oc.__all__:
        one = getattr(oc, name)
        inside = [getattr(one, inner) for inner in dir(one)] if ismodule(one) else [one]
        yield from filter(isfunction, inside)
    yield from (BlockSplit.assign, BlockSplit.assign_all, MatchingSplit.assign, Located.to_frame)


def test_every_function_takes_a_path_or_the_object():
    taken = {
        f"{function.__qualname__}: {one.name}": str(one.annotation)
        for function in functions()
        for one in signature(function).parameters.values()
        if one.name in NAMES_OR_OBJECTS
    }
    words = ("Path", "Trained", "Any")
    others = [name for name, kind in taken.items() if not any(word in kind for word in words)]
    # Numbers of folds, and a model that was compared, by its title.
    assert set(others) <= {
        "default_folds: folds",
        "make_splitter: folds",
        "block_split: folds",
        "suggest_block: folds",
        "calibrate: folds",
        "fit_to_all: model",
    }
    assert len(taken) > 40


def test_names_of_files_give_what_the_objects_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PATCHES.save("patches.zarr")
    SPLIT.save("split.json")
    patches, split = "patches.zarr", Path("split.json")
    folds = oc.default_folds(patches, folds=3)
    folds.save("folds.json")
    splitter = RandomSplit(n_splits=3)
    for by_name, by_object in (
        (folds, oc.default_folds(PATCHES, folds=3)),
        (splitter.assign_all(patches), splitter.assign_all(PATCHES)),
        (random_folds(patches, "folds.json"), random_folds(PATCHES, folds)),
        (oc.read_folds(splitter.assign(patches)), oc.read_folds(splitter.assign(PATCHES))),
        (oc.read_folds(split, patches), oc.read_folds(SPLIT)),
    ):
        for one, other in zip(by_name.splits, by_object.splits, strict=True):
            assert one.sides.tolist() == other.sides.tolist()
    assert oc.audit(patches, split).findings == oc.audit(PATCHES, SPLIT).findings

    one = oc.train(patches, split, "network", NETWORK, RECIPE)
    assert_same(one, oc.train(PATCHES, SPLIT, "same", NETWORK, RECIPE))
    assert str(oc.evaluate("network", patches).scores) == str(oc.evaluate(one, PATCHES).scores)
    oc.export("network", "network.pt2")
    comparison = oc.compare(
        patches, "folds.json", "compared", only_classical=True, baselines=oc.BASELINES[:2]
    )
    assert len(comparison.rows) == 2
    final = oc.fit_to_all(patches, "compared", "final", comparison.rows[0].title)

    scene = oc.scene_from_array(
        np.random.default_rng(0).normal(100, 20, (2, 20, 24)),
        (10, 0, 500_000, 0, -10, 1_500_000), "EPSG:32648",
        band_names=["red", "nir"],
    )  # fmt: skip
    for model, name in ((final, "object.tif"), ("final", "name.tif"), (["final"], "several.tif")):
        oc.map_scene(model, scene, name, step=4)
    assert Path("object.tif").read_bytes() == Path("name.tif").read_bytes()

    np.save("cube.npy", np.random.default_rng(1).normal(size=(8, 30, 40)).astype(np.float32))
    np.savez("lost.npz", images=np.load("cube.npy")[2:5, 4:20, 7:23])
    found = oc.locate("lost.npz", "cube.npy", axis=0)
    assert found.index.tolist() == [2, 3, 4]
    oc.write_positions("positions.csv", found, "lost.npz")
    assert len(oc.with_positions("lost.npz", found)) == 3


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


def test_the_old_name_of_a_method_gives_the_method():
    with pytest.warns(FutureWarning, match=r"now outcrop.locating.Located.to_frame"):
        assert oc.positions_table is oc.locating.Located.to_frame


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        oc.nothing  # noqa: B018
