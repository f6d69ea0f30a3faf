"""`--json`: each command prints one JSON document and nothing else on standard output."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path

import pytest

from outcrop.cli import main
from outcrop.cli.commands import COMMANDS
from outcrop.cli.group import Group

COAST = "synthetic coast -o coast --images 1 --size 200 --seed 1"
SMALL = "--depth 8 --width 4 --epochs 1 --device cpu"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(COAST.split()) == 0
        yield folder


def functions(commands, prefix=""):
    """All commands by their full name."""
    for name, command in commands.items():
        if isinstance(command, Group):
            yield from functions(command.commands, f"{name} ")
        else:
            yield prefix + name, command


def test_every_command_can_print_json():
    found = dict(functions(COMMANDS))
    assert {"demo", "generative draw", "synthetic cube"} <= set(found)
    assert not [name for name, one in found.items() if "json" not in signature(one).parameters]


def told(words, capfd):
    capfd.readouterr()
    assert main(words.split()) == 0
    return json.loads(capfd.readouterr().out)


def test_every_command_prints_json_alone(here, capfd, monkeypatch, small_models):
    monkeypatch.chdir(here)
    cut = told(
        "patches coast/coast-1.tif --labels coast/labels.gpkg --column class --size 9 "
        "--per-class 20 -o p.zarr --json",
        capfd,
    )
    assert cut["patch_set"] == "p.zarr"
    assert sum(cut["classes"].values()) == cut["shape"][0]
    made = told("split p.zarr --block 300 --buffer 0 -o s.json --json", capfd)
    assert set(made["sides"]) >= {"train", "validation"}
    folds = told(
        "split p.zarr --block 300 --buffer 0 --folds 3 --all-folds -o f.json --json", capfd
    )
    assert len(folds["each"]) == 3
    run = told(f"train p.zarr --split s.json {SMALL} -o run --json", capfd)
    assert 0 <= run["validation"]["overall"]["value"] <= 1
    again = told("evaluate run p.zarr --device cpu --json", capfd)
    assert again["scores"]["classes"] == run["validation"]["classes"]
    costs = told("models --depth 8 --json", capfd)
    assert costs["ResNet-8"]["parameters"] > 1000
    compared = told(
        f"compare p.zarr --split s.json {SMALL} --trials 0 --gap-seeds 0 --workers 1 -o c --json",
        capfd,
    )
    assert len(compared["rows"]) > 5
    assert compared.items() <= json.loads(Path("c/comparison.json").read_text()).items()
    mapped = told(
        "map run coast/coast-1.tif -o map.tif --dissimilarity far.tif --step 8 --device cpu --json",
        capfd,
    )
    assert mapped["files"] == ["map.tif", "far.tif"]
    assert 0 <= mapped["outside_area_of_applicability"] <= 1
    assert told("export run -o model.pt2 --json", capfd) == {"model": "model.pt2"}
    assert told("report c --json", capfd) == {"report": "c/report.html"}
    recipes = told("reproduce --json", capfd)
    assert recipes[0]["paper"] > 50
    plan = told("sample map.tif --n 300 --floor 5 -o points.gpkg --json", capfd)
    assert sum(plan["points"]) == 300
    found = told("assess map.tif coast/coast-1-truth.tif --json", capfd)
    assert len(found["classes"]) == len(found["pixels"])


def test_commands_of_the_wings_print_json_alone(here, capfd, monkeypatch):
    monkeypatch.chdir(here)
    cube = told("synthetic cube --shape 32,48,64 -o cube --json", capfd)
    assert cube["volume"] == "cube/cube.npy"
    coast = told("synthetic coast --images 1 --size 64 -o small --json", capfd)
    assert coast["scenes"] == ["small/coast-1.tif"]
    cut = "patches coast/coast-1.tif --labels coast/labels.gpkg --column class --size 32"
    assert main(f"{cut} --per-class 10 -o wide.zarr".split()) == 0
    assert main(["split", "wide.zarr", "--block", "300", "--buffer", "0", "-o", "wide.json"]) == 0
    trained = told(
        "generative train wide.zarr --split wide.json --model vae --filters 4 --latent 2 "
        "--epochs 1 --device cpu -o vae --json",
        capfd,
    )
    assert trained["run"] == "vae"
    assert trained["last_epoch"]["pixel_error"] > 0
    drawn = told("generative draw vae wide.zarr --number 4 --device cpu -o drawn --json", capfd)
    assert "drawn/arrays.npz" in drawn["files"]
    assert set(drawn) == {"files", "measures", "notes"}
