import json
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from outcrop.errors import OutcropError, Stopped
from outcrop.files import write_json
from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import Column
from outcrop.patches.positions import Source, scene_positions
from outcrop.splits import SIDES, delivered_split
from outcrop.training import batches, engine, loop
from outcrop.training.augment import move
from outcrop.training.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Machine, Recipe
from outcrop.training.run import Run, read_run
from tests.tiny import NETWORK, PATCHES, RECIPE, SPLIT, assert_same, read_events, some_split

# Stopping and resuming


PLACES = {"move": batches, "save_checkpoint": loop, "Predictions": engine}


def stop(
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    times: int,
    folder: Path,
    before: bool = True,
    recipe: Recipe = RECIPE,
    network: ResidualNet = NETWORK,
) -> None:
    """Train, and stop at a given call of a function."""
    original, calls = getattr(PLACES[function], function), []

    def interrupted(*arguments: object) -> object:
        calls.append(None)
        if len(calls) == times and before:
            raise KeyboardInterrupt
        result = original(*arguments)
        if len(calls) == times:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(PLACES[function], function, interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(PATCHES, SPLIT, folder, network, recipe)


@pytest.mark.parametrize(
    ("function", "times", "before", "epochs_done"),
    [
        ("move", 2, True, 0),
        ("move", 12, True, 2),
        ("save_checkpoint", 2, True, 1),
        ("save_checkpoint", 3, False, 3),
        ("Predictions", 1, True, 3),
    ],
)
def test_a_stopped_run_is_resumed_to_the_same_end(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    times: int,
    before: bool,
    epochs_done: int,
) -> None:
    folder = tmp_path / "run"
    stop(monkeypatch, function, times, folder, before)
    # TensorBoard reads files of one second in the order of a number, and 10 comes before 9 there.
    time.sleep(1 - time.time() % 1)
    assert not list(folder.glob(".*partial*"))
    assert not (folder / "model.json").exists()
    with pytest.raises(OutcropError, match="is not finished"):
        read_run(folder)
    assert (folder / "checkpoint.safetensors").exists() == (epochs_done > 0)

    assert_same(run, train(PATCHES, SPLIT, folder, NETWORK, RECIPE, resume=True))
    steps = [event.step for event in read_events(folder).Scalars("loss/train")]
    assert steps == [1, 2, 3]


@pytest.mark.parametrize(
    ("network", "recipe"),
    [
        (NETWORK, replace(RECIPE, solver="adamw")),
        (NETWORK, replace(RECIPE, class_balance="full", augmentation=Augmentation(jitter=0.2))),
        (replace(NETWORK, seen=6, halvings=1), RECIPE),
    ],
    ids=["AdamW", "balance and jitter", "part of a patch"],
)
def test_a_stopped_run_of_any_kind_is_resumed_to_the_same_weights(
    network: ResidualNet, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(PATCHES, SPLIT, tmp_path / "whole", network, recipe)
    monkeypatch.setattr(loop, "_SAVE_EVERY", 0.0)
    stop(monkeypatch, "move", 9, tmp_path / "run", recipe=recipe, network=network)
    reached = read_checkpoint(tmp_path / "run")
    assert (reached.epoch, reached.step) == (1, 3)
    assert_same(whole, train(PATCHES, SPLIT, tmp_path / "run", network, recipe, resume=True))


def test_a_checkpoint_of_another_solver_is_refused(tmp_path: Path) -> None:
    """The configuration is refused before the checkpoint is read."""
    once = replace(RECIPE, epochs=1)
    train(PATCHES, SPLIT, tmp_path / "run", NETWORK, once)
    other = replace(once, solver="adamw")
    with pytest.raises(OutcropError, match=r"solver was sgd, is adamw; .*weight_decay was 0.0005"):
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, other, resume=True)


def test_resuming_a_finished_run_returns_it_and_a_missing_one_starts(
    run: Run, tmp_path: Path
) -> None:
    changed = (run.folder / "model.safetensors").stat().st_mtime_ns
    elsewhere = replace(RECIPE, machine=Machine(device="auto"))
    assert_same(run, train(PATCHES, SPLIT, run.folder, NETWORK, elsewhere, resume=True))
    assert (run.folder / "model.safetensors").stat().st_mtime_ns == changed
    assert_same(run, train(PATCHES, SPLIT, tmp_path / "new", NETWORK, RECIPE, resume=True))


def test_a_run_with_delivered_sides_is_resumed(tmp_path: Path) -> None:
    patches = replace(PATCHES, columns={"side": Column(SPLIT.sides, SIDES)})
    split, once = delivered_split(patches), replace(RECIPE, epochs=1)
    done = train(patches, split, tmp_path / "run", NETWORK, once)
    assert_same(done, train(patches, split, tmp_path / "run", NETWORK, once, resume=True))


def test_only_the_same_run_is_resumed(run: Run, tmp_path: Path) -> None:
    with pytest.raises(OutcropError, match=r"exists already; .* `resume=True`"):
        train(PATCHES, SPLIT, run.folder, NETWORK, RECIPE)
    with pytest.raises(OutcropError, match=r"recipe\.epochs was 3, is 4"):
        train(PATCHES, SPLIT, run.folder, NETWORK, replace(RECIPE, epochs=4), resume=True)
    with pytest.raises(OutcropError, match=r"network\.depth was 8, is 14"):
        train(PATCHES, SPLIT, run.folder, replace(NETWORK, depth=14), RECIPE, resume=True)
    other = replace(SPLIT, sides=np.roll(SPLIT.sides, 1))
    with pytest.raises(OutcropError, match="the split is another"):
        train(PATCHES, other, run.folder, NETWORK, RECIPE, resume=True)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OutcropError, match="is not a run"):
        train(PATCHES, SPLIT, tmp_path, NETWORK, RECIPE, resume=True)
    with pytest.raises(OutcropError, match="does not exist"):
        train(PATCHES, SPLIT, tmp_path / "no" / "run", NETWORK, RECIPE)


def test_a_run_of_an_older_version_is_resumed(run: Run, tmp_path: Path) -> None:
    """Fields that its configuration lacks had their present defaults."""
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    del config["network"]["padding"]
    write_json(folder / "config.json", config)
    assert_same(train(PATCHES, SPLIT, folder, NETWORK, RECIPE, resume=True), run)


def test_a_run_with_flips_about_the_middle_is_not_resumed_by_default(
    tmp_path: Path,
) -> None:
    """Without `label_of` in the configuration, labels belonged to whole images."""
    place = np.arange(len(PATCHES))
    at = scene_positions(0, *4 * (place,), 80, 80, place)
    patches = replace(PATCHES, positions=at, sources=(Source("scene.tif", (99, 99)),))
    split = some_split(patches)
    image = replace(RECIPE, epochs=1, augmentation=Augmentation(label_of="image"))
    run = train(patches, split, tmp_path / "run", NETWORK, image)
    assert run.classifier.label_of == "image"
    path = run.folder / "config.json"
    config = json.loads(path.read_text())
    del config["recipe"]["augmentation"]["label_of"], config["checksum"]
    path.write_text(json.dumps(config))
    now = replace(RECIPE, epochs=1)
    with pytest.raises(OutcropError, match=r"label_of was image, is auto; take the old"):
        train(patches, split, run.folder, NETWORK, now, resume=True)
    assert_same(train(patches, split, run.folder, NETWORK, image, resume=True), run)
    assert train(patches, split, tmp_path / "new", NETWORK, now).classifier.label_of == "pixel"


def test_a_run_with_another_default_gain_is_not_resumed_by_default(
    tmp_path: Path,
) -> None:
    """For None in the configuration, patches of scenes had random gains of 20 %."""
    place = np.arange(len(PATCHES))
    at = scene_positions(0, *4 * (place,), 80, 80, place)
    patches = replace(PATCHES, positions=at, sources=(Source("scene.tif", (99, 99)),))
    split, once = some_split(patches), replace(RECIPE, epochs=1)
    old = replace(once, augmentation=Augmentation(gain=0.2, jitter=0.0))
    run = train(patches, split, tmp_path / "run", NETWORK, old)
    path = run.folder / "config.json"
    config = json.loads(path.read_text())
    augmentation = config["recipe"]["augmentation"]
    assert (augmentation["gain"], augmentation["rotate"], augmentation["crop"]) == (0.2, True, 0)
    del augmentation["jitter"], config["checksum"]
    augmentation |= {"gain": None, "rotate": None, "crop": None}
    path.write_text(json.dumps(config))
    with pytest.raises(OutcropError, match=r"augmentation\.gain was 0\.2, is 0\.0; take the old"):
        train(patches, split, run.folder, NETWORK, once, resume=True)
    assert_same(train(patches, split, run.folder, NETWORK, old, resume=True), run)


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("steps", [7, 10])
def test_a_signal_stops_after_the_step_and_nothing_is_lost(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: signal.Signals, steps: int
) -> None:
    folder, calls = tmp_path / "run", []

    def ask(*arguments: object) -> object:
        calls.append(None)
        if len(calls) == steps:
            signal.raise_signal(asked)
        return move(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "move", ask)
        with pytest.raises(Stopped if asked == signal.SIGTERM else KeyboardInterrupt) as caught:
            train(PATCHES, SPLIT, folder, NETWORK, RECIPE)
    assert len(calls) == steps
    reached = read_checkpoint(folder)
    assert (reached.epoch, reached.step) == divmod(steps, 5)
    if asked == signal.SIGTERM:
        assert "stopped after epoch" in str(caught.value)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert_same(run, train(PATCHES, SPLIT, folder, NETWORK, RECIPE, resume=True))


def test_long_epochs_are_saved_between_steps(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SAVE_EVERY", 0.0)
    stop(monkeypatch, "move", 9, tmp_path / "run")
    reached = read_checkpoint(tmp_path / "run")
    assert (reached.epoch, reached.step) == (1, 3)
    assert_same(run, train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, resume=True))


# Checkpoints


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[:-100]
    elif how == "empty":
        content = bytearray()
    elif how == "foreign":
        content = bytearray(b"x" * 50)
    else:  # one bit of one weight
        content[-1000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "empty", "foreign", "flipped"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    folder = tmp_path / "run"
    stop(monkeypatch, "save_checkpoint", 2, folder, before=False)
    half = folder / ".checkpoint.1.partial.safetensors"  # as kill -9 leaves it
    half.write_bytes(b"half")
    damage(folder / "checkpoint.safetensors", how)
    again = train(PATCHES, SPLIT, folder, NETWORK, RECIPE, resume=True)
    assert "is damaged; going on from the one before it" in " ".join(
        capsys.readouterr().err.split()
    )
    assert_same(run, again)
    assert not half.exists()


def test_without_an_undamaged_checkpoint_the_error_names_the_remedy(tmp_path: Path) -> None:
    tensors = {"model.weight": torch.arange(500.0)}
    for epoch in (1, 2):
        save_checkpoint(tmp_path, Checkpoint(epoch, 3, tensors))
    found = read_checkpoint(tmp_path)
    assert (found.epoch, found.step) == (2, 3)
    assert torch.equal(found.below("model")["weight"], tensors["model.weight"])
    for path in tmp_path.glob("*.safetensors"):
        damage(path, "cut")
    with pytest.raises(OutcropError, match="is damaged; delete it"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / "model.json").unlink()
    save_checkpoint(tmp_path / "run", Checkpoint(1, 0, {"model.weight": torch.ones(3)}))
    with pytest.raises(OutcropError, match="belongs to another network"):
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, resume=True)
