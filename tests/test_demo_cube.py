"""`outcrop demo cube` from end to end on a small cube: interrupted, resumed, and its page."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from outcrop.auditing.folder import read_audit
from outcrop.metrics.scores import score
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import read_patches
from outcrop.splits import read_split
from outcrop.splits.geometry import near
from outcrop.synthetic import story as story_module
from outcrop.synthetic.page import exactness
from outcrop.synthetic.story import Story, make_lost_patches, run_story
from outcrop.training.recipe import Machine, Recipe
from outcrop.training.run import read_run
from tests.command_line import content, run
from tests.test_report import Page

SHAPE = (60, 64, 96)
SECTIONS = ["headline", "patches", "audit", "located", "split", "learning", "scores", "classes"]


def tiny(seed: int) -> Story:
    return Story(
        shape=SHAPE,
        size=20,
        per_class=40,
        share=0.6,
        new_per_class=20,
        slabs=4,
        folds=4,
        neighbourhood=2,
        slices=1,
        network=ResidualNet(depth=8, width=4),
        recipe=Recipe(epochs=2, seed=seed, machine=Machine(device="cpu", precision="32-true")),
    )


def stop(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A story that was interrupted at `locate` and at `predict`, and then finished."""
    folder = tmp_path_factory.mktemp("story") / "story"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("outcrop.synthetic.commands.demo_story", tiny)
        for what in ("locate", "predict"):
            with pytest.MonkeyPatch.context() as stopped:
                stopped.setattr(story_module, what, stop)
                assert run(f"demo cube -o {folder} --seed 3 --resume") == 130
            assert not (folder / "report.html").exists()
        assert run(f"demo cube -o {folder} --seed 3 --resume") == 0
    return folder


@pytest.fixture(scope="module")
def result(folder):
    return run_story(tiny(3), folder, resume=True)


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_patches_have_no_positions_and_the_truth_is_kept(result):
    patches = result.lost.patches
    assert patches.positions is None
    assert patches.images.dtype == np.uint8
    assert (np.diff(patches.labels) >= 0).all()
    assert patches.counts.tolist() == [40] * 4
    cube = np.load(result.lost.volume)
    for k, row in enumerate(result.lost.truth.head(5).itertuples()):
        window = cube[row.index, row.row : row.row + 20, row.column : row.column + 20]
        grey = patches.images[k, 0].astype(float)
        assert np.corrcoef(grey.ravel(), window.ravel())[0, 1] > 0.99
        middle = np.abs(grey - (row.gain * window + row.offset))
        assert np.median(middle) < 0.51


def test_positions_are_recovered_and_compared_with_the_truth(result):
    rows = exactness(result)
    assert [row.name for row in rows] == [*result.lost.patches.classes, "all"]
    everything = rows[-1]
    assert everything.exact == result.exact.sum() >= 0.95 * 160
    assert everything.exact + everything.elsewhere + everything.lost == everything.patches == 160
    moved = result.positions.copy()
    moved.loc[moved.index[result.exact][:7], "row"] += 1
    other = exactness(type(result)(**{**vars(result), "positions": moved}))[-1]
    assert (other.exact, other.elsewhere) == (everything.exact - 7, everything.elsewhere + 7)


def test_the_spatial_split_has_a_distance_and_the_random_split_has_none(result):
    at = result.located.positions
    random, ground = result.splits["random"], result.splits["spatial"]
    assert not near(at[ground.train], at[ground.validation], 10).any()
    assert near(at[random.train], at[random.validation], 0).any()
    assert len(random.train) == len(ground.train)
    assert len(random.validation) == len(ground.validation)
    checks = {
        name: {one.check for one in found.findings if one.severity == "critical"}
        for name, (found, _) in result.audits.items()
    }
    assert "overlaps" in checks["random"]
    assert not {"overlaps", "distance"} & checks["spatial"]
    assert any(one.check == "overlaps" for one in result.audits["handed over"][0].findings)


def test_outcomes_are_those_of_the_runs_and_of_the_new_cubes(result, folder):
    assert len(result.outcomes) == 8
    with np.load(folder / "new-cubes.npz") as predicted:
        for one in result.outcomes:
            trained = read_run(
                folder / "runs" / f"{one.split}-{one.variant.replace(' ', '-')}", "cpu"
            )
            assert one.validation.overall == trained.scores.overall
            said = predicted[f"{one.split}, {one.variant}"]
            scores = score(
                predicted["truth"], said, trained.classifier.classes, predicted["groups"]
            )
            assert one.new_cubes.balanced == scores.balanced
            gap = one.validation.balanced.value - one.new_cubes.balanced.value
            assert one.excess.value == pytest.approx(gap)
    new = read_patches(folder / "new-1" / "patches.zarr")
    first = trained.classifier.predict_proba(new.images[...]).argmax(axis=1)
    assert np.array_equal(first, said[: len(new)])
    assert not np.array_equal(np.load(folder / "new-1/cube/cube.npy"), np.load(result.lost.volume))


def test_variants_have_the_settings_of_their_names(folder):
    configs = {
        way: json.loads((folder / "runs" / f"spatial-{way}" / "config.json").read_text())
        for way in ("plain", "neighbourhood", "stochastic-depth", "both")
    }
    reach = {way: one["recipe"]["augmentation"]["neighbourhood"] for way, one in configs.items()}
    assert reach == {"plain": 0, "neighbourhood": 2, "stochastic-depth": 0, "both": 2}
    survival = {way: one["network"]["survival"] for way, one in configs.items()}
    assert survival == {"plain": 1, "neighbourhood": 1, "stochastic-depth": 0.8, "both": 0.8}
    assert {one["recipe"]["augmentation"]["gain"] for one in configs.values()} == {0.1}


def test_the_page_has_all_results_and_needs_no_other_file(folder, page, result):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert page.sections == [*SECTIONS, "run", "words"]
    assert len(text) < 15 << 20
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*["']""", text)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text)
    for one in result.outcomes:
        for found in (one.validation.balanced, one.new_cubes.balanced):
            assert f"{100 * found.value:.1f} %" in page.text
    for found, _ in result.audits.values():
        for finding in found.findings:
            assert " ".join(finding.title.split()) in page.text
    assert "outcrop demo cube --seed 3" in page.text
    scatter = next(one for one in page.words if one.startswith('{"lengths"'))
    assert len(json.loads(scatter)["points"]) == len(result.located)


def test_resuming_a_finished_story_repeats_nothing(folder, monkeypatch, capfd):
    monkeypatch.setattr("outcrop.synthetic.commands.demo_story", tiny)
    before = content(folder)
    assert run(f"demo cube -o {folder} --seed 3 --resume") == 0
    after = content(folder)
    assert {name for name in after if after[name] != before.get(name)} <= {"report.html"}
    assert "validation" in capfd.readouterr().out
    assert run(f"demo cube -o {folder} --seed 4 --resume") == 2
    assert "other settings" in capfd.readouterr().err
    assert run(f"demo cube -o {folder} --seed 3") == 2
    assert content(folder).keys() == after.keys()


def test_a_seed_gives_the_same_cube_patches_and_damage(folder, tmp_path):
    made = [
        make_lost_patches(tiny(seed), tmp_path / str(k), seed, per_class=40)
        for k, seed in ((0, 3), (1, 4))
    ]
    first = read_patches(folder / "patches.zarr")
    assert np.array_equal(made[0].patches.images[...], first.images[...])
    assert not np.array_equal(made[1].patches.images[...], first.images[...])
    pd.testing.assert_frame_equal(made[0].truth, pd.read_csv(folder / "truth.csv"))


def test_files_of_the_story_are_read_by_the_commands(folder):
    assert read_audit(folder / "audit-spatial")[0].about["positions"]
    located = read_patches(folder / "located.zarr")
    assert read_split(folder / "spatial.json", located).how["splitter"] == "SlabSplit"
