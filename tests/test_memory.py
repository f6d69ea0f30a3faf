import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.models.cost import cost_of
from outcrop.training import device as devices
from outcrop.training import loop, memory
from outcrop.training.device import capped_memory, free_memory, pick_device
from outcrop.training.engine import train
from outcrop.training.memory import (
    fitting_batch,
    full_memory_explained,
    largest,
    remedies,
    train_on_zeros,
)
from outcrop.training.recipe import Machine
from tests import tiny
from tests.tiny import NETWORK, PATCHES, SPLIT

CPU = torch.device("cpu")
GPU = torch.device("cuda:0")
RECIPE = replace(tiny.RECIPE, epochs=2, machine=Machine(device="cpu", precision="32-true"))


A_PICTURE = 1.2 * cost_of(NETWORK, 2, (8, 8), 3).activations
WEIGHTS = 4 * 4 * cost_of(NETWORK, 2, (8, 8), 3).parameters


# The largest batch that fits


@pytest.mark.parametrize(("limit", "most", "expected"), [
    (100, 5000, 64), (64, 5000, 64), (10**9, 72, 64), (10**9, 64, 64), (4, 72, 4), (3, 72, 0),
    (10**9, 3, 4),
])  # fmt: skip
def test_largest_power_of_two(limit: int, most: int, expected: int) -> None:
    asked = []
    assert largest(lambda batch: not asked.append(batch) and batch <= limit, most) == expected
    assert asked == sorted(set(asked))
    assert max(asked) <= max(2 * expected, 4)


@pytest.mark.parametrize(
    ("machine", "pictures"),
    [
        ({}, 32),
        ({"accumulate": 4}, 128),
        ({"precision": "bf16-mixed"}, 64),
        ({"devices": 2}, 64),
    ],
)
def test_on_the_cpu_it_is_counted(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    machine: dict,
    pictures: int,
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: (40 * A_PICTURE + WEIGHTS) / 0.9)
    recipe = replace(RECIPE, machine=replace(RECIPE.machine, **machine))
    assert fitting_batch(NETWORK, recipe, PATCHES, CPU, most=5000) == pictures
    assert f"a batch of {pictures} fits" in capsys.readouterr().err
    assert fitting_batch(NETWORK, recipe, PATCHES, CPU, most=25) == 16


def test_recomputation_makes_room_for_a_larger_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = ResidualNet(depth=602, width=4)
    monkeypatch.setattr(memory, "free_memory", lambda _: 200 << 20)
    batches = [
        fitting_batch(
            deep, replace(RECIPE, machine=replace(RECIPE.machine, recompute=k)), PATCHES, CPU, 10**6
        )
        for k in (0, 8)
    ]
    assert batches[1] >= 2 * batches[0]


def test_memory_that_holds_no_batch_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: 0)
    with pytest.raises(OutcropError, match="not even a batch of 4 fits") as caught:
        fitting_batch(NETWORK, RECIPE, PATCHES, CPU, 64)
    assert "--batch" not in str(caught.value)
    assert "--recompute" in str(caught.value)


class Gpu:
    """A GPU that only counts: what torch.cuda would say of one with `room` for pictures."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int, a_picture: int) -> None:
        self.free, self.a_picture, self.peak, self.tried = free, a_picture, 0, []
        for name, answer in {
            "mem_get_info": lambda _: (free, 2 * free),
            "memory_reserved": lambda _: 0,
            "memory_allocated": lambda _: 0,
            "max_memory_reserved": lambda _: self.peak,
            "empty_cache": lambda: None,
            "reset_peak_memory_stats": lambda _: None,
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(memory, "train_on_zeros", self.train)

    def train(self, network, recipe, patches, device, pictures: int) -> None:
        self.tried.append(pictures)
        self.peak = pictures * self.a_picture
        if self.peak > self.free:
            raise torch.OutOfMemoryError("CUDA out of memory.")


def test_on_a_gpu_it_is_tried_and_a_tenth_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch, free=1000, a_picture=10)
    assert fitting_batch(NETWORK, RECIPE, PATCHES, GPU, most=5000) == 64
    assert gpu.tried == [4, 8, 16, 32, 64, 128]
    tight = Gpu(monkeypatch, free=1000, a_picture=15)  # 64 would fit, but fill 96 %
    assert fitting_batch(NETWORK, RECIPE, PATCHES, GPU, most=5000) == 32
    assert tight.tried[-1] == 64
    capped = replace(RECIPE, machine=Machine(gpu_memory="0.5KiB", precision="32-true"))
    Gpu(monkeypatch, free=1000, a_picture=10)
    with pytest.raises(OutcropError, match="take a size"):
        Machine(gpu_memory="none")
    assert capped.machine.gpu_bytes == 512
    assert fitting_batch(NETWORK, capped, PATCHES, GPU, most=5000) == 32


def test_an_error_that_is_no_full_memory_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch, free=1000, a_picture=10)
    monkeypatch.setattr(gpu, "train", None)

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(memory, "train_on_zeros", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        fitting_batch(NETWORK, RECIPE, PATCHES, GPU, most=64)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_trial_is_a_real_step_and_takes_no_random_numbers(precision: str) -> None:
    before = torch.get_rng_state()
    machine = Machine(device="cpu", precision=precision, recompute=1)
    network = replace(NETWORK, survival=0.5)
    train_on_zeros(network, replace(RECIPE, machine=machine), PATCHES, CPU, 5)
    assert torch.equal(before, torch.get_rng_state())


def test_a_run_keeps_the_batch_that_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(RECIPE, fit_batch=True)
    free = {"bytes": (20 * A_PICTURE + WEIGHTS) / 0.9}
    monkeypatch.setattr(memory, "free_memory", lambda _: free["bytes"])

    def stopped(*_: object) -> None:
        save(*_)
        raise KeyboardInterrupt

    save = loop.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(PATCHES, SPLIT, tmp_path / "run", NETWORK, recipe)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]
    assert (stored["batch"], stored["fit_batch"]) == (16, True)
    assert "a batch of 16 fits into the memory of this machine" in capsys.readouterr().err

    free["bytes"] = 10**9
    resumed = train(PATCHES, SPLIT, tmp_path / "run", NETWORK, recipe, resume=True)
    by_hand = train(PATCHES, SPLIT, tmp_path / "other", NETWORK, RECIPE)
    for name, tensor in by_hand.classifier.module.state_dict().items():
        assert torch.equal(tensor, resumed.classifier.module.state_dict()[name]), name
    with pytest.raises(OutcropError, match=r"recipe\.fit_batch was True, is False"):
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE, resume=True)

    (tmp_path / "run" / "config.json").write_text('{"format": "outcrop run"}')
    with pytest.raises(OutcropError, match="does not say the batch"):
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, recipe, resume=True)


# Free memory


def test_free_memory_is_that_of_the_system_or_of_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = free_memory(CPU)
    assert 1 << 20 < free < 1 << 50
    group = tmp_path / "job"
    group.mkdir()
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("700\n")
    (group / "memory.stat").write_text("anon 500\ninactive_file 150\nactive_file 50\n")
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(devices, "_GROUPS", tmp_path)
    monkeypatch.setattr(devices, "_group", lambda: "job/step/task")
    assert free_memory(CPU) == 1000 - 700 + 150
    monkeypatch.setattr(devices, "_group", lambda: "")
    assert free_memory(CPU) > 1 << 20


# Full memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=lambda error: str(error)[:20],
)
def test_full_memory_in_training_says_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(loop.Loop, "fit", full)
    with pytest.raises(OutcropError) as caught:
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE)
    assert str(caught.value) == (
        "training: the memory of this machine is full at a batch of 16; take --batch 8, "
        "or --accumulate 2, or --recompute 1, or --precision bf16-mixed, in a new folder"
    )


def test_other_errors_in_training_stay_as_they_are() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        full_memory_explained(NETWORK, RECIPE, (8, 8), CPU),
    ):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_remedies_are_those_not_used_yet() -> None:
    used = Machine(precision="bf16-mixed", recompute=2, accumulate=2, gpu_memory="2GiB")
    recipe = replace(RECIPE, batch=512, machine=used)
    assert remedies(NETWORK, recipe, (150, 150), GPU) == (
        "--batch 256, or --accumulate 4, or --stem large, or --gpu-memory above 2GiB"
    )
    smallest = replace(RECIPE, batch=4, machine=replace(used, gpu_memory=None))
    assert remedies(NETWORK, smallest, (8, 8), GPU) == "a network of less depth or width"


@pytest.mark.parametrize(("depth", "around"), [(20, (1, 2, 3)), (110, (1, 2, 4, 6)), (602, (12,))])
def test_the_segment_that_is_advised_is_about_the_best(depth: int, around: tuple) -> None:
    network = ResidualNet(depth)
    advice = remedies(network, RECIPE, (32, 32), CPU)
    segment = int(advice.partition("--recompute ")[2].partition(",")[0])
    kept, *others = (
        cost_of(network, 3, (32, 32), 10, each).activations for each in (segment, *around)
    )
    assert kept <= 1.05 * min(others)


def test_memory_that_is_really_full() -> None:
    """With an address space too small for the batch."""
    code = """
import resource, torch
from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.training.memory import full_memory_explained, train_on_zeros
from tests.test_memory import CPU, NETWORK, PATCHES, RECIPE
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28),) * 2)
try:
    with full_memory_explained(NETWORK, RECIPE, (8, 8), CPU):
        train_on_zeros(NETWORK, RECIPE, PATCHES, CPU, 1_000_000)
except OutcropError as error:
    print(error)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("the size of a process is not told here")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "the memory of this machine is full at a batch of 16; take --batch 8" in done.stdout
    assert done.stderr == ""


# Devices


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list:
    """Two GPUs of 8 GiB with 1 and 5 GiB free, and what is asked of them."""
    asked: list = []
    free = {0: 1 << 30, 1: 5 << 30}
    for name, answer in {
        "device_count": lambda: 2,
        "mem_get_info": lambda device: (free[device.index], 8 << 30),
        "memory_reserved": lambda _: 0,
        "memory_allocated": lambda _: 0,
        "get_device_properties": lambda _: type("Properties", (), {"total_memory": 8 << 30}),
        "get_per_process_memory_fraction": lambda _: 0.9,
        "set_per_process_memory_fraction": lambda *arguments: asked.append(arguments),
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    return asked


def test_auto_takes_the_gpu_with_most_free_memory(two_gpus: list) -> None:
    assert pick_device("auto") == torch.device("cuda:1")
    assert pick_device("cuda") == torch.device("cuda:0")
    with pytest.raises(OutcropError, match="cuda:2 is not on this machine; take cuda:0 or cuda:1"):
        pick_device("cuda:2")


def test_a_cap_is_a_share_of_the_gpu(two_gpus: list) -> None:
    with capped_memory(GPU, 2 << 30):
        assert two_gpus == [(0.25, GPU)]
    assert two_gpus == [(0.25, GPU), (0.9, GPU)]
    with capped_memory(GPU, None), capped_memory(CPU, None):
        pass
    assert len(two_gpus) == 2
    too_large = capped_memory(GPU, 9 << 30)
    with (
        pytest.raises(OutcropError, match=r"--gpu-memory: cuda:0 has only 8\.0 GiB; take less"),
        too_large,
    ):
        pass
    no_gpu = capped_memory(CPU, 1 << 30)
    with (
        pytest.raises(OutcropError, match="--gpu-memory: caps a GPU, the device is cpu; leave it"),
        no_gpu,
    ):
        pass


# Before training


def test_a_training_says_what_it_is_going_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = replace(NETWORK, survival=0.5)
    train(PATCHES, SPLIT, tmp_path / "run", network, replace(RECIPE, epochs=1))
    line, *_ = capsys.readouterr().err.splitlines()
    cost = cost_of(network, 2, (8, 8), 3)
    assert line == (
        "training ResNet-8 + stochastic depth: 4.85 k parameters, 50.7 k multiply-adds a picture, "
        f"2 of 3 blocks expected in a step, which saves {cost.expected_saving:.1%}; on cpu, 32-true"
    )
