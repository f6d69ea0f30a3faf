import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from outcrop.errors import OutcropError
from outcrop.models.architectures import MultiScaleNet, ResidualNet
from outcrop.models.block_graph import block_graph, keep_only, run_blocks
from outcrop.models.factory import build
from outcrop.models.residual import draw_kept
from outcrop.training.engine import train
from outcrop.training.parallel.pipeline import Stage, boundary
from outcrop.training.parallel.process_group import launch
from outcrop.training.recipe import Augmentation, Machine, Recipe
from outcrop.training.run import Run, read_run
from tests.command_line import ALONE, argv
from tests.tiny import PATCHES, SPLIT, assert_same, weights

# Everything that is difficult with several processes: dropped blocks, shortcuts over the cut of a
# pipeline, an average of weights, and parts of 7 and 8 patches.
NETWORK = ResidualNet(depth=8, width=4, levels=3, survival=0.5, shortcut="projection")
RECIPE = Recipe(
    epochs=8,
    batch=15,
    average=0.9,
    augmentation=Augmentation(noise=0.1),
    machine=Machine(device="cpu", precision="32-true", accumulate=2),
)
# A learning rate so small that AdamW, which amplifies rounding, keeps the weights alike.
ADAMW = replace(RECIPE, solver="adamw", learning_rate=1e-5, epochs=2, class_balance="full")
TRAIN = (
    "train {0}/patches.zarr --split {0}/split.json --output {0}/{1} --depth 8 --width 4 --levels 3 "
    "--survival 0.5 --shortcut projection --epochs 8 --batch 15 --average 0.9 --noise 0.1 "
    "--device cpu --precision 32-true "
)
WITH_ADAMW = "--solver adamw --learning-rate 1e-5 --epochs 2 --class-balance full --seen 7 "


@dataclass(frozen=True)
class Together:
    """What two processes did.

    Attributes:
        runs: finished trainings, by the name of their folder.
        stopped: exit code and standard error of a training that got SIGTERM.
        output: standard output and standard error of all other commands.
    """

    runs: dict[str, Run]
    stopped: tuple[int, str]
    output: tuple[str, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    PATCHES.save(folder / "patches.zarr")
    SPLIT.save(folder / "split.json")
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Run]:
    """One process, through which each batch goes in two parts."""
    plain = train(PATCHES, SPLIT, folder / "alone", NETWORK, RECIPE)
    adamw = train(PATCHES, SPLIT, folder / "alone-adamw", replace(NETWORK, seen=7), ADAMW)
    return {"ddp": plain, "pipeline": plain, "adamw": adamw}


@pytest.fixture(scope="module")
def together(folder: Path) -> Together:
    """Two processes, which start one another or are started by torchrun."""
    stopped = stopped_training(folder)
    with pytest.raises(OutcropError, match="is not finished"):
        read_run(folder / "stopped")
    commands = [
        TRAIN.format(folder, "ddp"),
        TRAIN.format(folder, "pipeline") + "--strategy pipeline",
        TRAIN.format(folder, "adamw") + WITH_ADAMW,
        TRAIN.format(folder, "stopped") + "--strategy pipeline --devices 2 --resume",
        TRAIN.format(folder, "ddp"),
    ]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "tests.parallel_child", *commands],
        capture_output=True,
        text=True,
        timeout=120,
        env=ALONE,
    )
    assert done.returncode == 0, done.stderr
    names = ("ddp", "pipeline", "adamw", "stopped")
    runs = {name: read_run(folder / name, "cpu") for name in names}
    return Together(runs, stopped, (done.stdout, done.stderr))


def stopped_training(folder: Path) -> tuple[int, str]:
    """SIGTERM to the first of two processes, after a checkpoint: exit code and standard error."""
    command = TRAIN.format(folder, "stopped") + "--strategy pipeline --devices 2"
    # torch then checks the shapes of the tensors between stages; 2.11 always does.
    strict = ALONE | {"TORCH_DISTRIBUTED_DEBUG": "DETAIL"}
    with subprocess.Popen(
        argv(command), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=strict
    ) as process:
        while process.poll() is None and not (folder / "stopped/checkpoint.safetensors").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    return process.returncode, error


@pytest.mark.parametrize("strategy", ["ddp", "pipeline"])
def test_two_processes_learn_what_one_learns(
    alone: dict[str, Run], together: Together, strategy: str
) -> None:
    one, run = alone[strategy], together.runs[strategy]
    assert len(run.metrics) == len(one.metrics) == 8
    for wanted, found in zip(one.metrics, run.metrics, strict=True):
        assert found.train.loss == pytest.approx(wanted.train.loss, rel=1e-5)
        assert found.validation.loss == pytest.approx(wanted.validation.loss, rel=1e-4)
        assert found.blocks_kept == wanted.blocks_kept < 1
    assert run.metrics[-1].train.loss < run.metrics[0].train.loss
    for name, weight in weights(one).items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(weights(run)[name], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ddp", "pipeline", "adamw"])
def test_all_processes_evaluate_the_model_that_is_saved(together: Together, name: str) -> None:
    run = together.runs[name]
    said = run.predictions
    found = replace(run.classifier, temperature=1).predict_proba(PATCHES.images[said.index])
    np.testing.assert_allclose(said.probabilities, found, atol=1e-5)
    likelihood = found[np.arange(len(found)), said.truth]
    assert run.metrics[-1].validation.loss == pytest.approx(-np.log(likelihood).mean(), rel=1e-4)


def test_state_is_that_of_one_process(alone: dict[str, Run], together: Together) -> None:
    for name, run in alone.items():
        wanted, found = (
            load_file(each.folder / "checkpoint.safetensors") for each in (run, together.runs[name])
        )
        assert {name: t.shape for name, t in found.items()} == {
            name: t.shape for name, t in wanted.items()
        }


def test_adamw_is_shared_out(alone: dict[str, Run], together: Together) -> None:
    one, other = (
        load_file(runs["adamw"].folder / "checkpoint.safetensors")
        for runs in (alone, together.runs)
    )
    assert one.keys() >= {"step.linear.bias", "exp_avg.linear.bias", "exp_avg_sq.linear.bias"}
    for name, tensor in one.items():
        if name.startswith(("model.", "step.")) and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=2e-4)


def test_sigterm_to_one_stops_all_and_nothing_is_lost(together: Together) -> None:
    code, error = together.stopped
    assert code == 143
    assert error.count("outcrop: ") == 1
    assert "stopped after epoch" in error
    assert "--resume goes on" in error
    assert_same(together.runs["pipeline"], together.runs["stopped"])


def test_an_error_is_printed_once(folder: Path, together: Together) -> None:
    output, error = together.output
    codes = [line for line in output.splitlines() if line.startswith("exit code")]
    assert codes == [*["exit code 0"] * 4, "exit code 2"]
    assert output.count("overall accuracy") == 4
    refused = [line for line in error.splitlines() if line.startswith("outcrop: ")]
    assert refused == [
        f"outcrop: {folder / 'ddp'}: exists already; choose another name or pass --resume"
    ]


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (Machine(device="cpu", devices=2), "this is one process; use `outcrop.train`"),
        (Machine(device="cpu", accumulate=15), "14 patches cannot go through in 15 parts"),
        (Machine(device="cpu", accumulate=8), "14 patches cannot go through in 8 parts"),
    ],
)
def test_impossible_settings_write_nothing(tmp_path: Path, machine: Machine, message: str) -> None:
    with pytest.raises(OutcropError, match=message):
        train(PATCHES, SPLIT, tmp_path / "run", MultiScaleNet(), replace(RECIPE, machine=machine))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["cuda", "mps", "cuda:1"])
def test_no_process_starts_for_missing_devices(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(OutcropError, match=f"device: {device} is not on this machine"):
        launch(Machine(device=device, devices=2))


NETWORKS = (
    ResidualNet(depth=8, width=4),
    ResidualNet(depth=26, width=4, levels=5, shortcut="projection"),
    ResidualNet(depth=20, width=4, levels=4, order="pre-activation", survival=0.5),
    ResidualNet(depth=20, width=4, levels=2, bottleneck=True, stem="large"),
)


@pytest.mark.parametrize("network", NETWORKS)
def test_stages_make_up_the_network_wherever_it_is_cut(network: ResidualNet) -> None:
    torch.manual_seed(0)
    whole = build(network, 2, 3)
    number = 3 * network.blocks
    images = torch.randn(4, 2, 16, 16)
    kept = draw_kept(network, torch.rand(number).tolist())
    whole.eval()
    expected, skipped = whole(images), whole(images, kept)
    for cut in range(1, number):
        names: list[str] = []
        found, found_skipped = images, images
        for blocks in (slice(0, cut), slice(cut, number)):
            part = build(network, 2, 3)
            part.load_state_dict(whole.state_dict())
            given = boundary(part, blocks.start, (2, 16, 16))
            keep_only(part, blocks)
            names += part.state_dict()
            stage = Stage(part.eval(), blocks, given)
            found, found_skipped = stage(found), stage(found_skipped, kept)
        assert torch.equal(found, expected)
        assert torch.equal(found_skipped, skipped)
        assert sorted(names) == sorted(whole.state_dict())


def test_a_chain_can_be_recomputed() -> None:
    torch.manual_seed(0)
    network = build(NETWORKS[1], 2, 3).double()
    images = torch.randn(4, 2, 8, 8, dtype=torch.double)
    gradients = []
    for segment in (0, 1):
        network.zero_grad()
        network.recompute(segment)
        assert bool(network.segments) == bool(segment)
        x, *rest = run_blocks(
            block_graph(network), (network.stem(images),), segments=network.segments
        )
        assert not rest
        network.linear(network.pooled(x)).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
