"""A training starts from other weights, and logs which of them fit."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from outcrop.errors import OutcropError
from outcrop.models.architectures import MultiScaleNet, ResidualNet, UserNet
from outcrop.models.factory import build
from outcrop.patches.patchset import PatchSet
from outcrop.training import loop
from outcrop.training.checkpoint import Checkpoint, write_tensors
from outcrop.training.engine import train
from outcrop.training.loop import Saver
from outcrop.training.run import Run
from outcrop.training.start import first_weights, our_name
from tests.command_line import run as command
from tests.shared import DATA, needs_shared
from tests.tiny import CLASSES, NETWORK, PATCHES, RECIPE, SPLIT, assert_same, some_split, weights

ONCE = replace(RECIPE, epochs=1)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_all_weights_of_a_run_of_the_same_kind_are_used(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    found = first_weights(run.folder, NETWORK, PATCHES).tensors
    theirs = weights(run)
    assert found.keys() == theirs.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in theirs.items())
    number = sum(not name.endswith("num_batches_tracked") for name in theirs)
    assert f"{number} of {number} weights are taken" in said(capsys)


def test_bands_and_classes_are_matched_by_name(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = PatchSet(
        PATCHES.images[:, ::-1].copy(),
        (PATCHES.labels + 1) % 3,
        (CLASSES[2], CLASSES[0], CLASSES[1]),
        PATCHES.bands[::-1],
    )
    module = build(NETWORK, 2, 3)
    module.load_state_dict(first_weights(run.folder, NETWORK, turned).tensors)
    theirs = run.classifier.normalisation(torch.from_numpy(PATCHES.images))
    with torch.inference_mode():
        logits = module.eval()(theirs.flip(1))
        expected = run.classifier.module.cpu()(theirs)
    torch.testing.assert_close(logits, expected[:, [2, 0, 1]])

    other = PatchSet(
        np.repeat(PATCHES.images, 2, axis=1), PATCHES.labels, ("a", "b", "c"), ("r", "g", "b", "n")
    )
    found = first_weights(run.folder, NETWORK, other).tensors
    assert not {"stem.conv.weight", "linear.weight", "linear.bias"} & found.keys()
    message = said(capsys)
    assert "stem.conv.weight (other bands), linear.weight (other classes), linear.bias" in message
    assert message.count("starting from") == 2


def test_a_deeper_network_takes_the_blocks_that_it_has_in_common(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = replace(NETWORK, depth=14)
    found = first_weights(run.folder, deeper, PATCHES).tensors
    assert found.keys() == weights(run).keys()
    shallow = train(PATCHES, SPLIT, run.folder.parent / "deeper", deeper, ONCE)
    capsys.readouterr()
    first_weights(shallow.folder, NETWORK, PATCHES)
    assert "of its weights have no place here: stages.stage1.block2" in said(capsys)


def test_weights_that_do_not_fit_give_one_error_line(run: Run, tmp_path: Path) -> None:
    narrow = ResidualNet(depth=8, width=5)
    others = replace(PATCHES, classes=("a", "b", "c"))
    with pytest.raises(OutcropError, match=r"none of its \d+ weights fits ResNet-8; take the"):
        train(others, some_split(others), tmp_path / "run", narrow, ONCE, start_from=run.folder)
    path = tmp_path / "weights.safetensors"
    with pytest.raises(OutcropError, match="no such safetensors file"):
        first_weights(path, NETWORK, PATCHES)
    path.write_bytes(b"PK\x03\x04 a checkpoint of another program")
    with pytest.raises(OutcropError, match="is not a safetensors file"):
        first_weights(path, NETWORK, PATCHES)
    tensors = weights(run)
    tensors["linear.bias"] = torch.full_like(tensors["linear.bias"], torch.nan)
    write_tensors(path, tensors)
    with pytest.raises(OutcropError, match=r"its linear\.bias holds NaN"):
        first_weights(path, NETWORK, PATCHES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(OutcropError, match="empty"):
        first_weights(tmp_path / "empty", NETWORK, PATCHES)
    assert not (tmp_path / "run").exists()


@needs_shared
def test_published_weights_start_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    path = DATA / "resnet20-published.safetensors"
    patches = PatchSet(np.zeros((3, 3, 8, 8)), np.arange(3), CLASSES, ("r", "g", "b"))
    found = first_weights(path, ResidualNet(20, padding="none"), patches).tensors
    published = load_file(path)
    assert len(found) == len(published) - 2
    assert torch.equal(found["stem.conv.weight"], published["conv1.weight"])
    assert "95 of 97 weights are taken; new: linear.weight, linear.bias" in said(capsys)


def test_names_of_other_implementations_are_matched() -> None:
    names = {
        "module.conv1.weight": "stem.conv.weight",
        "bn1.running_mean": "stem.norm.running_mean",
        "layer3.1.conv2.weight": "stages.stage3.block2.residual.conv2.weight",
        "layer2.0.shortcut.1.bias": "stages.stage2.block1.shortcut.norm.bias",
        "fc.bias": "linear.bias",
    }
    assert {name: our_name(name) for name in names} == names
    module = build(ResidualNet(14, shortcut="projection", order="pre-activation"), 2, 3)
    assert all(our_name(name) == name for name in module.state_dict())


def test_a_training_starts_with_them_and_is_resumed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    shutil.copytree(run.folder, source)
    still = replace(RECIPE, learning_rate=1e-30, weight_decay=0.0, average=0.0)
    begun = train(PATCHES, SPLIT, tmp_path / "still", NETWORK, still, start_from=source)
    for name, tensor in weights(run).items():
        if "running" not in name and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(weights(begun)[name], tensor)

    whole = train(PATCHES, SPLIT, tmp_path / "whole", NETWORK, RECIPE, start_from=source)
    assert not torch.equal(weights(whole)["linear.weight"], weights(run)["linear.weight"])
    stopped = tmp_path / "stopped"

    def stop(saver: Saver, epoch: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.Saver, "after", stop)  # before there is any checkpoint
        with pytest.raises(KeyboardInterrupt):
            train(PATCHES, SPLIT, stopped, NETWORK, RECIPE, start_from=source)
    config = json.loads((stopped / "config.json").read_text())
    assert config["start"]["from"] == str(source)
    with pytest.raises(OutcropError, match=r"start\.from was .*source, is .*still"):
        train(PATCHES, SPLIT, stopped, NETWORK, RECIPE, resume=True, start_from=tmp_path / "still")
    elsewhere = source.rename(tmp_path / "elsewhere")
    with pytest.raises(OutcropError, match="source"):
        train(PATCHES, SPLIT, stopped, NETWORK, RECIPE, resume=True)
    shutil.copytree(tmp_path / "still", source)
    with pytest.raises(OutcropError, match="holds other weights than when the run was started"):
        train(PATCHES, SPLIT, stopped, NETWORK, RECIPE, resume=True)
    shutil.rmtree(source)
    elsewhere.rename(source)
    assert_same(whole, train(PATCHES, SPLIT, stopped, NETWORK, RECIPE, resume=True))


def test_a_run_with_a_checkpoint_does_not_need_its_source(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source.safetensors"
    shutil.copy(run.folder / "model.safetensors", source)
    whole = train(PATCHES, SPLIT, tmp_path / "whole", NETWORK, RECIPE, start_from=source)
    save, folder = loop.save_checkpoint, tmp_path / "run"

    def once(where: Path, checkpoint: Checkpoint) -> None:
        save(where, checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", once)
        with pytest.raises(KeyboardInterrupt):
            train(PATCHES, SPLIT, folder, NETWORK, RECIPE, start_from=source)
    source.unlink()
    again = train(PATCHES, SPLIT, folder, NETWORK, RECIPE, resume=True, start_from=source)
    assert_same(whole, again)


def test_on_the_command_line(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    PATCHES.save(tmp_path / "patches.zarr")
    SPLIT.save(tmp_path / "split.json")
    base = (
        f"train {tmp_path / 'patches.zarr'} --split {tmp_path / 'split.json'} --depth 8 --width 4 "
        f"--epochs 1 --batch 16 --device cpu --start-from {run.folder} -o {tmp_path / 'run'}"
    )
    assert command(base) == 0
    assert "weights are taken" in " ".join(capfd.readouterr().err.split())
    beside = f"train {tmp_path / 'patches.zarr'} --classical SVM --start-from {run.folder} -o x"
    assert command(f"{beside} --split {tmp_path / 'split.json'}") == 2
    assert "--start-from: has no meaning beside --classical" in capfd.readouterr().err


def small(bands: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(bands, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LazyLinear(classes),
    )


def test_a_network_of_the_user_starts_from_a_run_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(PATCHES, SPLIT, tmp_path / "run", small, ONCE)
    others = replace(PATCHES, classes=("a", "b", "c"), bands=("nir", "red"))
    capsys.readouterr()
    found = first_weights(run.folder, UserNet.of(small), others).tensors
    assert [name.split(".", 1)[1] for name in found] == ["0.weight", "0.bias"]
    assert "4.weight (other classes)" in said(capsys)
    train(others, some_split(others), tmp_path / "again", small, ONCE, start_from=run.folder)


def test_other_kinds_of_networks_start_from_runs_of_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = MultiScaleNet(hidden=4, members=1)
    run = train(PATCHES, SPLIT, tmp_path / "run", network, ONCE)
    capsys.readouterr()
    found = first_weights(run.folder, network, PATCHES).tensors
    assert found.keys() == run.classifier.module.state_dict().keys()
    others = replace(PATCHES, classes=("water", "b", "c"))
    fewer = first_weights(run.folder, network, others).tensors
    assert 0 < len(fewer) < len(found)
    assert "(other classes)" in said(capsys)
    with pytest.raises(OutcropError, match="none of its"):
        first_weights(run.folder, NETWORK, PATCHES)
    again = train(PATCHES, SPLIT, tmp_path / "again", network, ONCE, start_from=run.folder)
    assert again.metrics[0].train.loss < run.metrics[0].train.loss
