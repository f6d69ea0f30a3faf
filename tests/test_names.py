from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from outcrop.errors import OutcropError
from outcrop.patches.at_positions import cut_at_positions
from outcrop.patches.cut import cut
from outcrop.patches.positions import fitting
from outcrop.sources.kinds import open_all_scenes
from outcrop.sources.opening import open_scene
from outcrop.splits import ColumnSplit, SceneSplit
from tests.patches import ground
from tests.rasters import GRID, write_raster


def of_scenes(*names):
    """Twenty patches of each scene."""
    n = 20 * len(names)
    patches = ground(
        np.arange(n) * 500.0, np.zeros(n), np.arange(n), np.arange(n) % 2, np.arange(n) // 20
    )
    for source, name in zip(patches.sources, names, strict=True):
        object.__setattr__(source, "name", name)
    return patches


def held_out(names, *hold_out):
    split = SceneSplit(hold_out=hold_out).assign(of_scenes(*names))
    return set((split.validation // 20).tolist())


NAMES = ("2019/scene.tif", "/data/2020/scene.tif", "other.tif", "a.tif + b.tif")


@pytest.mark.parametrize(
    ("word", "scene"),
    [
        ("2019/scene.tif", 0),
        ("2019/scene", 0),
        ("./2019/scene.tif", 0),
        ("2020/scene", 1),
        ("data/2020/scene.tif", 1),
        ("/data/2020/scene.tif", 1),
        ("other", 2),
        ("a.tif + b.tif", 3),
        ("b", 3),
    ],
)
def test_a_scene_is_held_out_by_its_path_or_the_end_of_it(word, scene):
    assert held_out(NAMES, word) == {scene}


@pytest.mark.parametrize("word", ["scene", "scene.tif"])
def test_a_name_that_matches_several_raises_an_error_without_its_folder(word):
    with pytest.raises(
        OutcropError, match=r"`hold_out`: .*matches several: 2019/scene.tif, /data/2020/scene.tif; "
    ):
        held_out(NAMES, word)
    with pytest.raises(OutcropError, match="no scene '2021/scene'; there are 2019"):
        held_out(NAMES, "2021/scene")
    with pytest.raises(OutcropError, match="the name of several; cut patches of each scene once"):
        held_out(("one.tif", "one.tif"), "one")


@given(
    st.lists(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
def test_a_whole_name_matches_one_scene_and_every_scene_can_be_named(names):
    files = [f"{name}.tif" for name in names]
    for i, file in enumerate(files):
        assert fitting(file, files) == [i]
        for count in range(1, len(Path(file).parts) + 1):
            for end in (file, file.removesuffix(".tif")):
                word = "/".join(end.split("/")[-count:])
                if word in files:
                    continue
                alike = [k for k, f in enumerate(files) if f"/{f}".endswith(f"/{word}")
                         or f"/{f}".endswith(f"/{word}.tif")]  # fmt: skip
                assert fitting(word, files) == alike


def test_all_values_of_a_column_with_that_name_are_held_out():
    from outcrop.patches.patchset import Column

    patches = of_scenes("a.tif", "b.tif", "c.tif")
    column = Column(np.arange(60) // 20, ("north", "south", "north"))
    patches = type(patches)(**{**vars(patches), "columns": {"region": column}})
    split = ColumnSplit(column="region", hold_out=("north",)).assign(patches)
    assert set(split.validation // 20) == {0, 2}


def labels_of(name):
    return Path(name).with_name(f"{Path(name).stem}-labels.tif")


@pytest.fixture
def rasters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number, name in enumerate(("a/scene.tif", "b/scene.tif", "c.tif")):
        Path(name).parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 200, (2, 20, 20)).astype("uint8")
        there = GRID @ Affine.translation(100 * number, 0)
        write_raster(name, pixels, transform=there)
        labels = np.repeat([1, 2], 200).reshape(20, 20).astype("uint8")
        write_raster(labels_of(name), labels, transform=there)
    return ["a/scene.tif", "b/scene.tif", "c.tif"]


def test_a_table_that_matches_several_scenes_raises_an_error(rasters):
    table = pd.DataFrame({"source": "scene", "row": [0, 5], "column": [0, 5], "label": ["x", "y"]})
    table.to_csv("t.csv", index=False)
    with pytest.raises(OutcropError, match=r"'scene', which matches several: a/scene.tif, b/scene"):
        cut_at_positions(rasters, "t.csv", size=4)
    for words, number in ((["a/scene.tif", "a/scene"], 0), (["b/scene", "b/scene.tif"], 1),
                          (["c", "elsewhere/c.tif"], 2)):  # fmt: skip
        table["source"] = words
        table.to_csv("t.csv", index=False)
        patches = cut_at_positions(rasters, "t.csv", size=4)
        assert set(patches.positions.source) == {number}


def test_names_and_open_scenes_keep_their_order(rasters):
    for order in itertools.permutations(range(3)):
        for opened in itertools.product([False, True], repeat=3):
            given = [
                open_scene(rasters[i]) if now else rasters[i]
                for i, now in zip(order, opened, strict=True)
            ]
            assert [scene.name for scene in open_all_scenes(given)] == [rasters[i] for i in order]


def test_patches_of_names_and_open_scenes_have_the_labels_of_their_scene(rasters):
    labels = [labels_of(name) for name in rasters]
    wanted = cut(rasters, labels, size=4, edge="drop")
    mixed = cut([rasters[0], open_scene(rasters[1]), rasters[2]], labels, size=4, edge="drop")
    assert mixed.fingerprint == wanted.fingerprint
