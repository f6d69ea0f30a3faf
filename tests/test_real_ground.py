"""The benchmark on real ground: cut, folds, one comparison, and the tables."""

import json

import numpy as np
import pytest

from benchmarks import real_ground
from benchmarks.scenes import SCENES
from outcrop.errors import OutcropError
from outcrop.models.baselines import Baseline
from outcrop.splits.geometry import near
from outcrop.training.recipe import Machine, Recipe
from outcrop.workflow import compare as comparing
from tests.shared import DATA, needs_shared

CENTRE = tuple(Baseline(name, "centre pixel") for name in ("maximum likelihood", "decision tree"))


@needs_shared
@pytest.mark.parametrize("name", ["lulc_py", "fieldrs", "agnet"])
def test_groups_are_held_out_as_a_whole(name):
    scene = SCENES[name]
    patches = scene.cut(DATA, size=9, per_class=20)
    folds = scene.splitter(3).assign_all(patches)
    assert len(folds.index) == len(patches)
    for split in folds.splits:
        assert len(split.train) + len(split.validation) == len(patches)
        assert not np.intersect1d(split.groups[split.train], split.groups[split.validation]).size
    if scene.tile is not None:
        tiles = patches.columns[scene.tile].codes
        assert len(np.unique(folds.groups)) == len(np.unique(tiles))


@needs_shared
def test_apart_leaves_out_overlapping_patches():
    scene = SCENES["fieldrs"]
    patches = scene.cut(DATA, size=9, per_class=40)
    at = patches.positions
    for split in scene.splitter(2, apart=True).assign_all(patches).splits:
        assert len(split.train) + len(split.validation) < len(patches)
        assert not near(at[split.train], at[split.validation], 0).any()


@needs_shared
def test_a_scene_is_run_once_and_becomes_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr(comparing, "BASELINES", CENTRE)
    monkeypatch.setattr(real_ground, "RARE", ("lulc_py",))
    recipe = Recipe(epochs=2, machine=Machine(device="cpu"))

    def again():
        real_ground.run_scene(
            "lulc_py", SCENES["lulc_py"], DATA, tmp_path, [0, 1], 2, False, recipe, workers=1
        )
        return {
            path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix == ".npz"
        }

    first = again()
    assert again() == first
    (line,) = real_ground.write_lines(tmp_path, SCENES)
    assert real_ground.read_lines(tmp_path) == [line]
    assert len(line["rows"]) == 3
    assert all(len(row["each"]) == 2 and row["gap"] is not None for row in line["rows"])
    assert len(list(tmp_path.rglob("network-random*"))) == 2  # of two folds, with one seed
    best = max(line["rows"], key=lambda row: row["balanced"][0])
    assert best["rank"] == 1
    assert len(line["forest"]) == 4
    assert "| lulc_py | 1 |" in real_ground.table([line])
    with pytest.raises(OutcropError, match="other patches or folds"):
        real_ground.run_scene(
            "lulc_py", SCENES["lulc_py"], DATA, tmp_path, [0, 1], 3, False, recipe, workers=1
        )


def made_up(scene, scores, recommended, verdict="no difference shown"):
    """A line with models of these scores, the first of which is the network."""
    names = ["net, patch", *(f"model {k}, centre pixel" for k in range(1, len(scores)))]
    order = sorted(names, key=lambda name: -scores[names.index(name)])
    classical = next(name for name in order if name != names[0])
    gain = scores[0] - scores[names.index(classical)]
    return {
        "scene": scene, "patches": 9, "pieces": 5, "network": names[0],
        "classes": ["a", "b", "c"], "judged": [6, 3, 0], "judged_pieces": [5, 2, 0],
        "forest": [0.25, 0.5, 0.0],
        "rows": [
            {
                "model": name, "rank": rank, "gap": None, "seconds": 1.0,
                "balanced": [scores[names.index(name)], None, None], "recall": [0.75, 0.5, None],
            }
            for rank, name in enumerate(order, 1)
        ],
        "recommended": {str(k): names[one] for k, one in enumerate(recommended)},
        "against": {"model": classical, "points": [gain, -0.5, 0.5], "verdict": verdict},
    }  # fmt: skip


def test_the_acceptance_rows_are_counted():
    lines = [
        made_up("agnet", [0.75, 0.5], [0, 0]),
        made_up("other", [0.5, 0.75, 0.7], [1, 2], "worse"),
    ]
    said = "\n".join(real_ground.acceptance(json.loads(json.dumps(lines))))
    assert "within 1 point on 1 of 2 with every seed" in said
    assert "at most 5.0 (other)" in said
    assert "shown to be worse on 1, better on 0, unknown on 0 of 2; ahead on 1" in said
    assert "75.0 against 50.0" in said
    assert "b (3 patches): 50.0 / 50.0; a (6 patches): 75.0 / 25.0" in said
    assert "| the network, tuned | 2.0 | 1 of 2 | 62.5 |" in said
