import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from outcrop.errors import OutcropError
from outcrop.models.architectures import ResidualNet
from outcrop.models.cost import cost_of
from outcrop.training import loop
from outcrop.training.device import capped_memory, pick_device
from outcrop.training.engine import train
from outcrop.training.messages import full_memory_as, remedies
from outcrop.training.recipe import Machine
from tests import tiny
from tests.tiny import NETWORK, PATCHES, SPLIT

CPU = torch.device("cpu")
GPU = torch.device("cuda:0")
RECIPE = replace(tiny.RECIPE, epochs=2, machine=Machine(device="cpu", precision="32-true"))


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
def test_an_error_of_full_memory_names_the_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(loop.Loop, "fit", full)
    with pytest.raises(OutcropError) as caught:
        train(PATCHES, SPLIT, tmp_path / "run", NETWORK, RECIPE)
    assert str(caught.value) == (
        "training: the memory of this machine is full at a batch of 16; take `batch=8`, "
        "or `accumulate=2`, or `recompute=1`, or `precision='bf16-mixed'`, in a new folder"
    )


def test_other_errors_are_not_changed() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        full_memory_as(16, CPU, lambda: "less"),
    ):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_remedies_are_settings_that_are_not_used_yet() -> None:
    used = Machine(precision="bf16-mixed", recompute=2, accumulate=2, gpu_memory="2GiB")
    recipe = replace(RECIPE, batch=512, machine=used)
    assert remedies(NETWORK, recipe, (150, 150), GPU) == (
        "`batch=256`, or `accumulate=4`, or `stem='large'`, or `gpu_memory` above 2GiB"
    )
    smallest = replace(RECIPE, batch=4, machine=replace(used, gpu_memory=None))
    assert remedies(NETWORK, smallest, (8, 8), GPU) == "a network of less depth or width"


@pytest.mark.parametrize(("depth", "around"), [(20, (1, 2, 3)), (110, (1, 2, 4, 6)), (602, (12,))])
def test_the_recommended_segment_is_nearly_the_best(depth: int, around: tuple) -> None:
    network = ResidualNet(depth)
    advice = remedies(network, RECIPE, (32, 32), CPU)
    segment = int(advice.partition("`recompute=")[2].partition("`")[0])
    kept, *others = (
        cost_of(network, 3, (32, 32), 10, each).activations for each in (segment, *around)
    )
    assert kept <= 1.05 * min(others)


def test_memory_that_is_actually_full() -> None:
    """The address space is too small for the batch."""
    code = """
import resource, torch
from outcrop.errors import OutcropError
from outcrop.models.factory import build
from outcrop.training.messages import full_memory_as, remedies
from tests.test_memory import CPU, NETWORK, RECIPE
module = build(NETWORK, 2, 3)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28),) * 2)
try:
    with full_memory_as(16, CPU, lambda: remedies(NETWORK, RECIPE, (8, 8), CPU)):
        module(torch.zeros(1_000_000, 2, 8, 8))
except OutcropError as error:
    print(error)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("the size of a process is not told here")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "the memory of this machine is full at a batch of 16; take `batch=8`" in done.stdout
    assert done.stderr == ""


# Devices


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list:
    """Two GPUs of 8 GiB with 1 and 5 GiB free; calls that set a limit are recorded."""
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
        pytest.raises(OutcropError, match=r"`gpu_memory`: cuda:0 has only 8\.0 GiB; take less"),
        too_large,
    ):
        pass
    no_gpu = capped_memory(CPU, 1 << 30)
    with (
        pytest.raises(OutcropError, match="`gpu_memory`: caps a GPU, the device is cpu; leave it"),
        no_gpu,
    ):
        pass


# Before training


def test_a_training_logs_its_cost_and_device(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = replace(NETWORK, survival=0.5)
    train(PATCHES, SPLIT, tmp_path / "run", network, replace(RECIPE, epochs=1))
    line, *_ = capsys.readouterr().err.splitlines()
    cost = cost_of(network, 2, (8, 8), 3)
    assert line == (
        "training ResNet-8 + stochastic depth: 4.85 k parameters, 50.7 k multiply-adds per image, "
        f"2 of 3 blocks expected in a step, which saves "
        f"{100 * cost.expected_saving:.1f} %; on cpu, 32-true"
    )
