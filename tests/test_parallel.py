import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from outcrop.errors import OutcropError
from outcrop.models.architectures import MultiScaleNet, ResidualNet
from outcrop.models.factory import build
from outcrop.models.links import follow, keep_only, links
from outcrop.models.residual import keep
from outcrop.training.engine import train
from outcrop.training.parallel import launch
from outcrop.training.parallel.pipeline import Stage, boundary
from outcrop.training.recipe import Augmentation, Machine, Recipe
from outcrop.training.run import Run, read_run
from tests.command_line import ALONE, argv, start
from tests.tiny import PATCHES, SPLIT, assert_same, weights

# All that makes several processes difficult: dropped blocks, shortcuts over the cut of a pipeline,
# an average of weights, and parts of 7 and 8 patches.
NETWORK = ResidualNet(depth=8, width=4, levels=3, survival=0.5, shortcut="projection")
RECIPE = Recipe(
    epochs=8,
    batch=15,
    average=0.9,
    augmentation=Augmentation(noise=0.1),
    machine=Machine(device="cpu", precision="32-true"),
)
TRAIN = (
    "train {0}/patches.zarr --split {0}/split.json --output {1} --depth 8 --width 4 --levels 3 "
    "--survival 0.5 --shortcut projection --epochs 8 --batch 15 --average 0.9 --noise 0.1 "
    "--device cpu --precision 32-true "
)
STRATEGIES = ("ddp", "fsdp", "pipeline")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parallel")
    PATCHES.save(folder / "patches.zarr")
    SPLIT.save(folder / "split.json")
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> Run:
    """One process, through which each batch goes in two parts."""
    recipe = replace(RECIPE, machine=replace(RECIPE.machine, accumulate=2))
    return train(PATCHES, SPLIT, folder / "alone", NETWORK, recipe)


@pytest.fixture(scope="module")
def together(folder: Path) -> dict[str, Run]:
    """Two processes for each strategy, that start one another or are started by torchrun."""
    runs = {}
    for strategy in STRATEGIES:
        command = argv(TRAIN.format(folder, folder / strategy) + f"--strategy {strategy}")
        if strategy == "ddp":
            torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
            command = [sys.executable, *torchrun, *command[1:]]
        else:
            command += ["--devices", "2"]
        # torch then compares what passes between stages with what was promised; 2.11 always does.
        strict = {"TORCH_DISTRIBUTED_DEBUG": "DETAIL"} if strategy == "pipeline" else {}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=ALONE | strict
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("overall accuracy") == 1
        runs[strategy] = read_run(folder / strategy, "cpu")
    return runs


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_do_what_one_does(
    alone: Run, together: dict[str, Run], strategy: str
) -> None:
    run = together[strategy]
    assert len(run.metrics) == len(alone.metrics) == 8
    for one, other in zip(alone.metrics, run.metrics, strict=True):
        assert other.train.loss == pytest.approx(one.train.loss, rel=1e-5)
        assert other.validation.loss == pytest.approx(one.validation.loss, rel=1e-4)
        assert other.blocks_kept == one.blocks_kept < 1
    assert run.metrics[-1].train.loss < run.metrics[0].train.loss
    for name, weight in weights(alone).items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(weights(run)[name], weight, rtol=1e-4, atol=1e-5)


def test_state_is_that_of_one_process(alone: Run, together: dict[str, Run]) -> None:
    expected = load_file(alone.folder / "checkpoint.safetensors")
    for run in together.values():
        found = load_file(run.folder / "checkpoint.safetensors")
        assert {name: t.shape for name, t in found.items()} == {
            name: t.shape for name, t in expected.items()
        }


def test_adamw_is_shared_out(folder: Path) -> None:
    # Rates so small that rounding, which AdamW makes much of, leaves the weights alike.
    recipe = replace(RECIPE, solver="adamw", learning_rate=1e-5, epochs=2, class_balance="full")
    alone = replace(recipe, machine=replace(RECIPE.machine, accumulate=2))
    train(PATCHES, SPLIT, folder / "adamw", replace(NETWORK, seen=7), alone)
    one = load_file(folder / "adamw" / "checkpoint.safetensors")
    assert one.keys() >= {"step.linear.bias", "exp_avg.linear.bias", "exp_avg_sq.linear.bias"}
    options = (
        "--solver adamw --learning-rate 1e-5 --epochs 2 --class-balance full --devices 2 "
        "--seen 7 --strategy "
    )
    done = start(TRAIN.format(folder, folder / "adamw-fsdp") + options + "fsdp")
    assert done.returncode == 0, done.stderr
    other = load_file(folder / "adamw-fsdp" / "checkpoint.safetensors")
    assert {name: t.shape for name, t in one.items()} == {n: t.shape for n, t in other.items()}
    for name, tensor in one.items():
        if name.startswith(("model.", "step.")) and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=2e-4)


def test_sigterm_to_one_stops_all_and_nothing_is_lost(
    folder: Path, together: dict[str, Run]
) -> None:
    command = TRAIN.format(folder, folder / "stopped") + "--strategy fsdp --devices 2"
    with subprocess.Popen(
        argv(command), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ALONE
    ) as process:
        while process.poll() is None and not (folder / "stopped/checkpoint.safetensors").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said.count("outcrop: ") == 1
    assert "stopped after epoch" in said
    assert "--resume goes on" in said
    with pytest.raises(OutcropError, match="is not finished"):
        read_run(folder / "stopped")

    again = start(command + " --resume")
    assert again.returncode == 0, again.stderr
    assert_same(together["fsdp"], read_run(folder / "stopped", "cpu"))


def test_an_error_is_said_once(folder: Path, together: dict[str, Run]) -> None:
    done = start(TRAIN.format(folder, folder / "ddp") + "--devices 2")
    assert done.returncode == 2
    assert done.stderr == (
        f"outcrop: {folder / 'ddp'}: exists already; choose another name or pass --resume\n"
    )


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (Machine(device="cpu", devices=2), "this is one process; use `outcrop train`"),
        (Machine(device="cpu", accumulate=15), "14 patches cannot go through in 15 parts"),
        (Machine(device="cpu", accumulate=8), "14 patches cannot go through in 8 parts"),
    ],
)
def test_what_cannot_be_leaves_nothing(tmp_path: Path, machine: Machine, message: str) -> None:
    with pytest.raises(OutcropError, match=message):
        train(PATCHES, SPLIT, tmp_path / "run", MultiScaleNet(), replace(RECIPE, machine=machine))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["cuda", "mps", "cuda:1"])
def test_no_process_is_started_for_devices_that_are_not_there(
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
    kept = keep(network, torch.rand(number).tolist())
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
        x, *rest = follow(links(network), (network.stem(images),), segments=network.segments)
        assert not rest
        network.linear(network.pooled(x)).square().sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
