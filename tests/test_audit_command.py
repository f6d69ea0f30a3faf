"""The command `outcrop audit`: table, JSON, exit codes and output folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.worlds import layered
from outcrop.auditing.folder import read_audit
from outcrop.splits import SlabSplit
from tests.command_line import check_refused, content, largest_file, run, start
from tests.cubes import write_picture
from tests.patches import noise, patch_set
from tests.synthetic import cut_volume, smooth


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clean set with its split, one with copies across sides, and the latter in other formats."""
    folder = tmp_path_factory.mktemp("audit")
    world = layered(0, 120)
    world.patches.save(folder / "clean.zarr")
    world.split.save(folder / "clean.json")
    images, labels = world.patches.images.copy(), world.patches.labels
    for at in world.split.validation[:2]:
        images[at] = images[world.split.train[labels[world.split.train] == labels[at]][0], :, ::-1]
    leaky = replace(world.patches, images=images)
    leaky.save(folder / "leaky.zarr")
    replace(world.split, fingerprint=leaky.fingerprint).save(folder / "leaky.json")
    labels = np.array(leaky.classes)[leaky.labels]
    np.savez(folder / "leaky.npz", images=images, labels=labels, sides=world.split.sides)
    np.savez(folder / "loose.npz", images=images, labels=labels)
    np.savez(folder / "one-hot.npz", images=images, labels=np.eye(4)[leaky.labels])
    for name in "cab":
        (folder / "classes" / name).mkdir(parents=True)
        for i in np.flatnonzero(labels == name)[:20]:
            write_picture(folder / "classes" / name / f"{i:03}.png", images[i])
    (folder / "precious").mkdir()
    (folder / "precious" / "work.txt").write_text("years")
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def checks(findings):
    return {one["check"]: one["severity"] for one in findings}


def test_a_clean_set_passes_with_exit_code_0(here, capfd):
    before = content(here)
    assert run("audit clean.zarr --split clean.json") == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0].split() == ["severity", "check", "found", "remedy"]
    assert "is correct for 30 %" in " ".join(out.split())
    assert "critical" not in out
    assert err == ""
    assert content(here) == before


def test_a_leaky_split_fails_with_exit_code_1(here, capfd):
    assert run("audit leaky.zarr --split leaky.json") == 1
    out, err = capfd.readouterr()
    assert "keep one patch of each cluster" in " ".join(out.split())
    assert out.splitlines()[-1].startswith("1 critical")
    assert err == ""


def test_json_goes_to_standard_output_alone(here, capfd):
    assert run("audit leaky.zarr --split leaky.json --json") == 1
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert found["failed"] is True
    assert checks(found["findings"])["duplicates"] == "critical"
    assert found["about"]["patches"] == 120
    assert err == ""


def test_in_a_process_of_its_own_standard_output_is_json_too(here):
    done = start("audit leaky.npz --json", cwd=here)
    assert done.returncode == 1
    assert json.loads(done.stdout)["about"]["split"] == {"splitter": "as delivered"}
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["loose.npz", "leaky.npz", "classes"])
def test_collections_are_audited_too(here, capfd, name):
    assert run(f"audit {name} --json") == int(name == "leaky.npz")
    found = json.loads(capfd.readouterr().out)
    assert (found["about"]["split"] is None) is (name != "leaky.npz")
    if name == "classes":
        assert found["about"]["classes"] == ["a", "b", "c"]
        assert checks(found["findings"])["order"] == "warning"
    else:
        expected = "critical" if name == "leaky.npz" else "warning"
        assert any(
            one["check"] == "duplicates" and one["severity"] == expected
            for one in found["findings"]
        )


def test_patches_of_a_volume_are_audited(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    rng, cube = np.random.default_rng(0), smooth(1, 0, (40, 40, 40))
    at = rng.integers(4, 36, (3, 160))
    patches = cut_volume(cube, 0, *at, np.arange(160) % 2)
    patches.save("cube.zarr")
    SlabSplit(axis=1, thickness=8, buffer=2, n_splits=2).assign(patches).save("slabs.json")
    assert run("audit cube.zarr --split slabs.json --json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["about"]["positions"] is True
    assert found["about"]["split"]["splitter"] == "SlabSplit"


def test_findings_and_evidence_are_kept(here, tmp_path, capfd):
    command = f"audit leaky.zarr --split leaky.json --json -o {tmp_path}/kept"
    assert run(command) == 1
    written = json.loads(capfd.readouterr().out)
    found, evidence = read_audit(tmp_path / "kept")
    assert found.to_json() == type(found).from_json(written).to_json()
    assert len(evidence.index) >= 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    assert run(command) == 2
    assert "exists already" in capfd.readouterr().err
    assert run(f"{command} --overwrite") == 1


def test_a_seed_gives_the_same_lines(here, capfd):
    one, other = ((run("audit leaky.zarr --seed 5"), capfd.readouterr().out) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("command", "pieces"),
    [
        ("nowhere.zarr", ["nowhere.zarr"]),
        ("one-hot.npz", ["one-hot.npz", "labels of the shape (120, 4)", "one label per image"]),
        ("precious", ["precious"]),
        ("clean.json", ["clean.json"]),
        ("leaky.zarr --split nowhere.json", ["nowhere.json", "no such split"]),
        ("leaky.zarr --split classes", ["classes", "is not a split"]),
        ("loose.npz --split leaky.zarr/zarr.json", ["zarr.json", "is not a split"]),
        ("other.zarr --split clean.json", ["split", "another patch set"]),
        ("clean.zarr --seed -1", ["--seed", "must be 0 or more"]),
        ("clean.zarr -o precious", ["precious", "exists already"]),
        ("clean.zarr -o precious --overwrite", ["precious", "is not an audit"]),
        ("clean.zarr -o nowhere/audit", ["nowhere", "does not exist"]),
        ("empty.zarr", ["patch set", "contains no patches"]),
        ("damaged.zarr", ["damaged.zarr", "outcrop patches"]),
    ],
)
def test_bad_input_is_a_one_line_error_without_output(here, monkeypatch, capfd, command, pieces):
    if not (here / "other.zarr").exists():
        layered(1, 60).patches.save(here / "other.zarr")
        patch_set(noise(0), np.zeros(0, np.int64), 2).save(here / "empty.zarr")
        shutil.copytree("leaky.zarr", "damaged.zarr")
        (here / "damaged.zarr" / "images" / "zarr.json").unlink()
    check_refused(here, monkeypatch, capfd, f"audit {command}", *pieces)


def test_a_full_disk_leaves_no_partial_output(here, tmp_path):
    done = start(
        f"audit leaky.zarr --split leaky.json -o {tmp_path}/kept",
        cwd=here,
        preexec_fn=largest_file(1_000),
    )
    assert done.returncode == 2
    assert done.stderr.startswith("outcrop: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
