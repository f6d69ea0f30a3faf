"""Files damaged at random: what reads them gives what was written, or one line."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import segyio
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shapely.geometry import box

from benchmarks.damaged_files import damage
from outcrop.auditing.audit import audit
from outcrop.auditing.folder import read_audit, write_audit
from outcrop.cli import DEBUG, main
from outcrop.errors import OutcropError
from outcrop.files import read_json, sealed, unsealed, write_json
from outcrop.patches.patchset import read_patches
from outcrop.patches.table import read_table
from outcrop.sources.collections import read_collection
from outcrop.sources.vector import read_vector
from outcrop.sources.volumes import open_volume
from outcrop.splits import RandomSplit, read_folds, read_split
from outcrop.training.applicability import read_applicability
from outcrop.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from outcrop.training.classifier import read_classifier
from outcrop.training.run import Run, read_run
from outcrop.typed import typed
from outcrop.workflow.plan import Experiment
from tests.command_line import run as command
from tests.tiny import PATCHES, SPLIT

TRIES = 40
CUBE = np.random.default_rng(0).integers(0, 255, (12, 10, 9)).astype(np.uint8)


def plain(value: Any) -> Any:
    """What can be compared of what a reader gives."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if hasattr(value, "detach"):
        return value.detach().cpu().tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return plain(vars(value)) if hasattr(value, "__dict__") else value


def patch_set(path: Path) -> Any:
    patches = read_patches(path)
    kept = {name: value for name, value in vars(patches).items() if name != "images"}
    return plain([kept, patches.take(np.arange(len(patches)))])


def model(path: Path) -> Any:
    found = read_classifier(path, "cpu")
    return plain([found.description, dict(found.module.state_dict())])


def volume(path: Path) -> Any:
    found = open_volume(path)
    with found.reader() as reader:
        for start, stop in found.slabs(0):
            reader.slices(0, start, stop)


def plan(path: Path) -> Any:
    text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    return Experiment.from_yaml(text)


def checkpoint(path: Path) -> Any:
    """The newest, or the one before it."""
    found = read_checkpoint(path)
    assert found.epoch in (1, 2)
    return plain([dict(found.tensors), 0])


EXACT: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "patch set": ("p.zarr", patch_set),
    "split": ("split.json", lambda path: plain(read_split(path))),
    "folds": ("folds.json", lambda path: plain(read_folds(path).splits)),
    "model": ("model", model),
    "trust": ("trust", lambda path: plain(read_applicability(path))),
    "checkpoint": ("checkpoint", checkpoint),
}
"""Files with checksums: damage is seen, or changes nothing."""

READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "run": ("run", lambda path: read_run(path, "cpu")),
    "audit": ("audit", read_audit),
    "npy": ("cube.npy", volume),
    "Zarr 2": ("v2.zarr", volume),
    "Zarr 3": ("v3.zarr", volume),
    "sharded Zarr": ("sharded.zarr", volume),
    "Zarr group": ("group.zarr", volume),
    "slices": ("slices", volume),
    "SEG-Y": ("cube.sgy", volume),
    "npz": ("patches.npz", read_collection),
    "class folder": ("classes", read_collection),
    "zip": ("classes.zip", read_collection),
    "tar.gz": ("classes.tar.gz", read_collection),
    "GeoPackage": ("shapes.gpkg", read_vector),
    "GeoJSON": ("shapes.geojson", read_vector),
    "FlatGeobuf": ("shapes.fgb", read_vector),
    "GeoParquet": ("shapes.parquet", read_vector),
    "shapefile": ("shapes", lambda path: read_vector(path / "shapes.shp")),
    "CSV": ("table.csv", read_table),
    "Parquet": ("table.parquet", read_table),
    "plan": ("plan.yaml", plan),
}


@pytest.fixture(scope="module")
def whole(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each, small."""
    base = tmp_path_factory.mktemp("whole")
    PATCHES.save(base / "p.zarr")
    SPLIT.save(base / "split.json")
    RandomSplit(n_splits=3).assign_all(PATCHES).save(base / "folds.json")
    shutil.copytree(run.folder, base / "run", ignore=shutil.ignore_patterns("events"))
    for name, files in (("model", "model.*"), ("trust", "trust.*")):
        (base / name).mkdir()
        for path in run.folder.glob(files):
            shutil.copy(path, base / name)
    (base / "checkpoint").mkdir()
    for epoch in (1, 2):
        kept = Checkpoint(epoch, 0, dict(run.classifier.module.state_dict()))
        save_checkpoint(base / "checkpoint", kept)
    write_audit(audit(PATCHES, SPLIT), PATCHES, base / "audit")
    np.save(base / "cube.npy", CUBE)
    for name, options in (
        ("v2", {"zarr_format": 2}),
        ("v3", {}),
        ("sharded", {"shards": (8, 8, 8)}),
    ):
        path = base / f"{name}.zarr"
        zarr.create_array(path, data=CUBE, chunks=(4, 4, 4), **options)
    zarr.open_group(base / "group.zarr", mode="w").create_array("cube", data=CUBE)
    segyio.tools.from_array(str(base / "cube.sgy"), CUBE.astype(np.float32))
    (base / "slices").mkdir()
    for i, plane in enumerate(CUBE[:4]):
        Image.fromarray(plane).save(base / "slices" / f"{i}.{('png', 'tif')[i % 1]}")
    np.savez(base / "patches.npz", images=CUBE, labels=np.arange(len(CUBE)) % 2)
    for name in "ab":
        (base / "classes" / name).mkdir(parents=True)
        for i, plane in enumerate(CUBE[:3]):
            Image.fromarray(plane).save(base / "classes" / name / f"{i}.{('png', 'jpg')[i % 2]}")
    for kind in ("zip", "gztar"):
        shutil.make_archive(str(base / "classes"), kind, base / "classes")
    squares = [box(i, i, i + 1, i + 1) for i in range(5)]
    shapes = gpd.GeoDataFrame({"class": list("abcde")}, geometry=squares, crs="EPSG:32648")
    for name in ("shapes.gpkg", "shapes.geojson", "shapes.fgb"):
        shapes.to_file(base / name)
    (base / "shapes").mkdir()
    shapes.to_file(base / "shapes/shapes.shp")
    shapes.to_parquet(base / "shapes.parquet")
    table = pd.DataFrame({"row": [1, 2], "column": [3, 4], "label": ["a", "b"]})
    table.to_csv(base / "table.csv", index=False)
    table.to_parquet(base / "table.parquet")
    (base / "plan.yaml").write_text(Experiment(["a.tif"], ["b.gpkg"]).to_yaml())
    return base


def damaged(whole: Path, name: str, folder: Path, seed: int) -> tuple[Path, str]:
    """A copy of which one file is damaged, and how."""
    path = folder / f"{seed}-{name}"
    copy = shutil.copytree if (whole / name).is_dir() else shutil.copy
    copy(whole / name, path)
    rng = random.Random(seed)
    files = sorted(each for each in (path, *path.rglob("*")) if each.is_file())
    file = rng.choice(files)
    return path, f"{file.name} {damage(file, rng)}"


def outcome(read: Callable[[Path], Any], path: Path) -> Any:
    """What a reader gives, or the line that it raises."""
    try:
        return read(path)
    except OutcropError as error:
        return error


@pytest.mark.parametrize("kind", EXACT)
def test_what_has_a_checksum_is_what_was_written_or_one_line(kind, whole, tmp_path) -> None:
    name, read = EXACT[kind]
    wanted = read(whole / name)
    seen = 0
    for seed in range(TRIES):
        path, how = damaged(whole, name, tmp_path, seed)
        found = outcome(read, path)
        if isinstance(found, OutcropError):
            assert str(path) in str(found), how
            seen += 1
        else:
            assert found == wanted, f"{how} (seed {seed})"
        assert not list(tmp_path.rglob("*.partial*"))
    # Beside a checkpoint there is another.
    assert seen > TRIES / 2 or kind == "checkpoint"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", READERS)
def test_whatever_is_damaged_is_read_or_one_line(kind, whole, tmp_path) -> None:
    name, read = READERS[kind]
    read(whole / name)
    seen = 0
    for seed in range(TRIES):
        path, how = damaged(whole, name, tmp_path, seed)
        try:
            found = outcome(read, path)
        except Exception as error:
            raise AssertionError(f"{how} (seed {seed}): {error!r}") from error
        if isinstance(found, OutcropError):
            assert "; " in str(found) or kind == "plan", (how, found)
            seen += 1
    assert seen


@pytest.mark.parametrize("lost", ["labels/c/0", "images/c/0/0/0/0", "labels"])
def test_a_chunk_that_is_lost_is_no_zeros(lost, whole, tmp_path) -> None:
    path = tmp_path / "p.zarr"
    shutil.copytree(whole / "p.zarr", path)
    shutil.rmtree(path / lost) if (path / lost).is_dir() else (path / lost).unlink()
    with pytest.raises(OutcropError, match=r"is not a whole patch set .*; cut one"):
        read_patches(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"water"', '"later"'), ('"nir"', '"mir"'), ("[\n        96,\n        2,", "[\n  48,\n  2,")],
)
def test_metadata_that_was_changed_is_seen(old, new, whole, tmp_path) -> None:
    path = tmp_path / "p.zarr"
    shutil.copytree(whole / "p.zarr", path)
    changed = 0
    for file in (path / "zarr.json", path / "images/zarr.json"):
        text = file.read_text()
        changed += old in text or json.dumps([96, 2])[:-1] in text
        file.write_text(text.replace(old, new))
    with pytest.raises(OutcropError, match="is not a whole patch set"):
        read_patches(path)
    assert changed


def test_metrics_of_other_classes_are_not_those_of_the_run(whole, tmp_path) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole / "run", path)
    lines = (path / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(lines.replace('"water"', '"later"', 1))
    with pytest.raises(OutcropError, match=r"metrics\.jsonl: is damaged .*; train anew"):
        read_run(path, "cpu")


@pytest.mark.parametrize("read", [read_vector, read_table])
def test_text_that_is_none_is_seen_when_the_file_is_read(read, tmp_path) -> None:
    path = tmp_path / "a.parquet"
    frame = gpd.GeoDataFrame({"class": ["wetland"] * 3}, geometry=[box(0, 0, 1, 1)] * 3, crs=32648)
    frame.to_parquet(path, compression=None)
    path.write_bytes(path.read_bytes().replace(b"wetland", b"wet\xffand"))
    with pytest.raises(OutcropError, match=r"a\.parquet: is not a"):
        read(path)


def test_one_changed_byte_of_the_weights_is_seen(whole, tmp_path) -> None:
    path = tmp_path / "model"
    shutil.copytree(whole / "model", path)
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)
    with pytest.raises(OutcropError, match=r"not the weights of this model .*; train"):
        read_classifier(path)


def test_json_that_was_changed_on_purpose_is_read_without_its_checksum(tmp_path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"format": "any", "seed": 1})
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "seed": 2}))
    with pytest.raises(OutcropError, match='remove the entry "checksum"'):
        read_json(path, "split", "split")
    del content["checksum"]
    path.write_text(json.dumps({**content, "seed": 2}))
    assert read_json(path, "split", "split") == {"format": "any", "seed": 2}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), JSON)
@settings(max_examples=30, deadline=None)
def test_a_seal_outlives_the_way_through_json_and_no_change(content, other) -> None:
    content.pop("checksum", None)
    there = json.loads(json.dumps(sealed(content)))
    assert unsealed(there) == content
    if content and json.dumps(other) != json.dumps(next(iter(content.values()))):
        with pytest.raises(ValueError, match="checksum"):
            unsealed({**there, next(iter(content)): other})


def test_a_seal_does_not_mind_what_json_changes() -> None:
    content = {"by": {10: 1.5, 2: (np.int64(3), float("nan"))}}
    text = json.dumps(sealed(content), default=int)
    assert unsealed(json.loads(text))["by"]["10"] == 1.5


@given(JSON)
@settings(max_examples=50, deadline=None)
def test_plain_data_is_of_its_type_or_refused(value) -> None:
    for hint, kinds in (
        (int, int),
        (float, float),
        (str, str),
        (bool, bool),
        (tuple[int, ...], tuple),
        (dict[str, float], dict),
        (int | None, (int, type(None))),
        (Experiment, Experiment),
    ):
        try:
            found = typed(hint, value)
        except (TypeError, ValueError):
            continue
        assert isinstance(found, kinds)
        assert hint is not int or not isinstance(found, bool)


def test_an_unexpected_exception_is_one_line(monkeypatch, capsys) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("no\nsuch thing")

    monkeypatch.setattr("outcrop.cli.parser.parse", lambda *_: (broken, {}))
    monkeypatch.setenv(DEBUG, "0")
    assert main(["models"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "unexpected ZeroDivisionError (no such thing) at cli/__init__.py" in lines[0]
    assert "OUTCROP_DEBUG=1" in lines[0]
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(ZeroDivisionError):
        main(["models"])


@pytest.mark.parametrize(
    "content", [b"seed: \xff\xfe", b"seed: [1", b"[[[[" * 10_000, b"\0", b"- 1"]
)
def test_a_config_that_is_no_yaml_is_one_line(content, tmp_path, capsys) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    assert command(f"models --config {tmp_path / 'c.yaml'}") == 2
    assert "c.yaml" in capsys.readouterr().err
