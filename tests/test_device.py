"""Settings of devices in training and prediction, and their restoration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch

from outcrop.mapping.predictor import Predictor
from outcrop.training import device as devices
from outcrop.training.device import device_name, driver_version, exact_convolutions
from outcrop.training.recipe import Machine
from outcrop.training.run import Run
from tests.test_training import trained
from tests.tiny import DEVICE, PATCHES


def settings() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark


EXACT = (False, True, False)


@pytest.fixture(params=[(True, False, False), (False, True, True)])
def before(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple:
    for name, value in zip(
        ("allow_tf32", "deterministic", "benchmark"), request.param, strict=True
    ):
        monkeypatch.setattr(torch.backends.cudnn, name, value)
    return request.param


def test_settings_are_restored_however_the_block_ends(before: tuple) -> None:
    with exact_convolutions():
        with exact_convolutions():
            assert settings() == EXACT
        assert settings() == EXACT
    assert settings() == before
    with pytest.raises(KeyError), exact_convolutions():
        raise KeyError
    assert settings() == before


def test_blocks_of_two_threads_may_overlap(before: tuple) -> None:
    begun, end = Event(), Event()

    def other() -> None:
        with exact_convolutions():
            begun.set()
            end.wait(10)

    thread = Thread(target=other)
    with exact_convolutions():
        thread.start()
        assert begun.wait(10)
    assert settings() == EXACT
    end.set()
    thread.join()
    assert settings() == before


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set:
    """The settings that convolutions ran under."""
    found: set = set()
    original = torch.nn.Conv2d.forward

    def forward(self: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        found.add(settings())
        return original(self, x)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", forward)
    return found


def test_training_and_evaluation_are_exact(before: tuple, seen: set, tmp_path: Path) -> None:
    machine = Machine(device=DEVICE, compile="never")
    trained(tmp_path / "run", epochs=1, machine=machine)
    assert seen == {EXACT}
    assert settings() == before


def by_classifier(run: Run) -> None:
    run.classifier.predict_proba(PATCHES.images[:4])


def by_tiles(run: Run) -> None:
    predictor = Predictor((run.classifier,), "patches")
    pixels = np.zeros((2, 10, 10), np.float32)
    predictor.predict(pixels, np.ones((3, 3), bool), features=False)


def dense(run: Run) -> None:
    predictor = Predictor((run.classifier,), "dense")
    above, left, below, right = predictor.margins
    tall, wide = above + 4 + below, left + 4 + right
    pixels = np.zeros((2, tall, wide), np.float32)
    predictor.predict(pixels, np.ones((4, 4), bool), features=False)


@pytest.mark.parametrize("use", [by_classifier, by_tiles, dense])
def test_a_model_is_used_exactly(
    run: Run, before: tuple, seen: set, use: Callable[[Run], None]
) -> None:
    use(run)
    assert seen == {EXACT}
    assert settings() == before


def test_a_processor_without_proc_still_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_CPUINFO", tmp_path / "none")
    assert device_name(torch.device("cpu"))
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n")
    monkeypatch.setattr(devices, "_CPUINFO", tmp_path / "cpuinfo")
    assert device_name(torch.device("cpu")) == "Some CPU @ 2 GHz"


def test_the_driver_version_is_read_from_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_DRIVER", tmp_path / "version")
    assert driver_version(torch.device("cuda:0")) is None
    (tmp_path / "version").write_text("580.159.04\n")
    assert driver_version(torch.device("cuda:0")) == "580.159.04"
    assert driver_version(torch.device("cpu")) is None
