"""`outcrop locate` from end to end: patches without positions, and all outputs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from outcrop.patches.flips import flip
from outcrop.patches.patchset import read_patches
from outcrop.splits import VALIDATION, read_split
from outcrop.synthetic.damage import damage
from tests.command_line import content, run
from tests.cubes import write_picture
from tests.rocks import CLASSES, COLUMNS, SIZE, cut, locate, places, rock, save


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a cube and damaged patches of it, and the truth."""
    folder = tmp_path_factory.mktemp("locate")
    np.save(folder / "cube.npy", rock(0))
    images, at = cut(rock(0), 0, 60, seed=1)
    labels = np.arange(60) % 2
    damaged, labels, truth = damage(images, labels, seed=2, flips=True)
    save(folder / "p.npz", damaged, labels)
    return folder, damaged, labels, at[truth.order], truth


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_damaged_patches_are_found_exactly_with_their_flips_and_contrast(world, capfd):
    folder, _, labels, at, truth = world
    table = locate(f"{folder}/p.npz {folder}/cube.npy --axis 0 --flips")
    assert list(table.columns) == [*COLUMNS, "label"]
    assert table["found"].all()
    assert table["patch"].tolist() == list(range(60))
    assert places(table) == at.tolist()
    assert table["flip"].tolist() == truth.flip.tolist()
    assert set(table["source"]) == {f"{folder}/cube.npy"}
    assert table["label"].tolist() == [CLASSES[label] for label in labels]
    assert table["gain"].to_numpy() == pytest.approx(truth.gain, rel=5e-3)
    assert table["offset"].to_numpy() == pytest.approx(truth.offset, abs=0.2)
    assert table["residual"].to_numpy() == pytest.approx(12**-0.5, rel=0.1)
    out, err = capfd.readouterr()
    assert err == ""
    assert re.search(r"all +60 +60 +0 +0\n", out)
    assert "contrast: differs from patch to patch; gain" in out


def test_patches_are_cut_again_from_the_table_without_those_not_found(world, capfd):
    folder, damaged, labels, *_ = world
    others = damage(cut(rock(5), 0, 6, seed=3)[0], np.arange(6) % 2, seed=4)[0]
    images = np.concatenate([damaged, others])
    images[11] = 80
    save("q.npz", images, np.concatenate([labels, np.arange(6) % 2]))
    table = locate(f"q.npz {folder}/cube.npy --axis 0 --flips")
    found = table["found"].to_numpy()
    assert np.flatnonzero(~found).tolist() == [11, *range(60, 66)]
    assert table.loc[~found, COLUMNS[2:8] + COLUMNS[9:14]].isna().all(axis=None)
    assert (table.loc[~found, "confidence"] < 0.9999).all()
    assert "note: 1 patch flat or without most pixels cannot be located" in capfd.readouterr().out
    command = f"patches {folder}/cube.npy --positions t.csv --size {SIZE} -o back.zarr"
    assert run(command) == 0
    assert "not found" in capfd.readouterr().out
    back = read_patches("back.zarr")
    assert len(back) == 59
    for patch, image in zip(table[found].itertuples(), back.images[...], strict=True):
        expected = patch.gain * flip(image[0], patch.flip) + patch.offset
        assert np.abs(images[patch.patch] - expected).max() < 0.6


def test_the_patches_are_written_with_their_positions(world):
    folder, damaged, labels, at, truth = world
    images = damaged.copy()
    images[3] = 0
    save("q.npz", images, labels)
    locate(f"q.npz {folder}/cube.npy --axis 0 --flips --patches-output u.zarr")
    locate(f"q.npz {folder}/cube.npy --axis 0 --flips --as-given --patches-output l.zarr")
    here, made, upright = np.arange(60) != 3, read_patches("l.zarr"), read_patches("u.zarr")
    cube = np.load(folder / "cube.npy")
    source = np.stack([cube[i, r : r + SIZE, c : c + SIZE] for _, i, r, c in at[here]])
    assert np.array_equal(upright.images[...][:, 0], source)
    assert "flip" not in upright.columns
    assert upright.labels.tolist() == labels[here].tolist()
    assert upright.dropped == {"not found": 1}
    assert upright.positions.middle.tolist() == made.positions.middle.tolist()
    assert np.array_equal(made.images[...][:, 0], images[here])
    assert made.labels.tolist() == labels[here].tolist()
    assert made.dropped == {"not found": 1}
    position = made.positions
    assert np.array_equal(position.index, at[here, 1])
    assert np.array_equal(position.row - SIZE // 2, at[here, 2])
    assert np.array_equal(position.column - SIZE // 2, at[here, 3])
    flips = made.columns["flip"]
    assert [flips.names[code] for code in flips.codes] == truth.flip[here].tolist()
    split = "split l.zarr --by zones --slices 0:0:12 --buffer 0 -o s.json"
    assert run(split) == 0
    validation = read_split("s.json", made).sides == VALIDATION
    assert np.array_equal(validation, at[here, 1] < 12)


def test_patches_that_are_not_square_are_cut_from_their_source(tmp_path):
    cube = rock(0)
    np.save("cube.npy", cube)
    images = np.stack([1 + 2e-3 * cube[k, 30:14:-1, 5 + k : 29 + k] for k in range(8)])
    save("q.npz", images, np.arange(8) % 2)
    locate("q.npz cube.npy --axis 0 --flips --patches-output u.zarr")
    made = read_patches("u.zarr")
    source = np.stack([cube[k, 15:31, 5 + k : 29 + k] for k in range(8)])
    assert np.array_equal(made.images[...][:, 0], source)


def test_two_workers_of_a_cluster_write_the_same_table(world, forked_workers):
    from distributed import LocalCluster

    folder = world[0]
    words = f"locate {folder}/p.npz {folder}/cube.npy --axis 0"
    assert run(f"{words} -o alone.csv") == 0
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert run(f"{words} -o many.csv --scheduler {cluster.scheduler_address}") == 0
    assert Path("alone.csv").read_bytes() == Path("many.csv").read_bytes()


@pytest.mark.parametrize(
    "harm",
    [
        {"noise_db": 10},
        {"blur": 1.0, "clip": (5, 95)},
        {"jpeg_quality": 50},
        {"bits": 4},
        {"bits": 16, "blur": 0.7, "noise_db": 15},
    ],
    ids=str,
)
def test_patches_with_noise_blur_compression_and_clipping_are_found(world, harm):
    folder = world[0]
    images, at = cut(rock(0), 0, 40, seed=7)
    damaged = damage(images, np.zeros(40), 3, order="kept", **harm)[0]
    save("p.npz", damaged)
    table = locate(f"p.npz {folder}/cube.npy --axis 0")
    assert table["found"].all()
    assert places(table) == at.tolist()


def test_csv_and_parquet_tables_give_the_same_patches(world):
    folder = world[0]
    for end in ("csv", "parquet"):
        assert run(f"locate {folder}/p.npz {folder}/cube.npy --axis 0 -o t.{end}") == 0
        cutting = f"patches {folder}/cube.npy --positions t.{end} --size {SIZE} -o {end}.zarr"
        assert run(cutting) == 0
    csv, parquet = pd.read_csv("t.csv"), pd.read_parquet("t.parquet")
    assert list(csv.columns) == list(parquet.columns)
    assert csv["found"].tolist() == parquet["found"].tolist()
    assert read_patches("csv.zarr").fingerprint == read_patches("parquet.zarr").fingerprint


def test_class_folders_name_the_file_of_each_patch(world):
    folder, damaged, _, at, truth = world
    for k in np.flatnonzero(truth.flip == "none"):
        place = Path("set") / "rock"
        place.mkdir(parents=True, exist_ok=True)
        write_picture(place / f"{k}.png", damaged[k])
    table = locate(f"set {folder}/cube.npy --axis 0")
    assert set(table["label"]) == {"rock"}
    numbers = [int(Path(name).stem) for name in table["file"]]
    assert sorted(numbers) == np.flatnonzero(truth.flip == "none").tolist()
    assert places(table) == at[numbers].tolist()


def test_a_note_names_patches_of_one_place(world, capfd):
    folder, damaged, _, _, truth = world
    plain = damaged[truth.flip == "none"]
    save("p.npz", np.concatenate([plain, plain[1:2]]))
    locate(f"p.npz {folder}/cube.npy --axis 0")
    note = f"1 patch at the place of an earlier patch; the first is patch {len(plain)}"
    assert note in capfd.readouterr().out


def test_an_interrupted_search_leaves_no_files(world, monkeypatch, capfd):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    folder = world[0]
    Path("t.csv").write_text("before")
    for what in ("outcrop.locating.locate.find", "outcrop.locating.page.render_page"):
        with monkeypatch.context() as patch:
            patch.setattr(what, lambda *_, **__: stop())
            before = set(content(Path()))
            written = "-o t.csv --overwrite --report r.html"
            assert run(f"locate {folder}/p.npz {folder}/cube.npy --axis 0 {written}") == 130
            assert capfd.readouterr().err.startswith("outcrop: stopped")
            assert set(content(Path())) == before
        # Each file is complete or absent; the table is written before the page.
        assert Path("t.csv").read_text().startswith("before" if "find" in what else "patch,found")
