"""What a device is called, and the energy it uses, if it tells."""

from __future__ import annotations

import math
import platform
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

import torch

_POWERCAP = Path("/sys/class/powercap")
_CPUINFO = Path("/proc/cpuinfo")
_EVERY = 10.0


def device_name(device: torch.device) -> str:
    """The model of a GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*: (.+)$", _CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def driver_version(device: torch.device) -> str | None:
    """The version of a GPU's driver; None on other devices, and where nothing tells."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


class Meter:
    """The energy that a device uses while a block runs.

    It is that of the whole GPU by NVML's counter (if the package nvidia-ml-py is there, from Volta
    on), or of all processor packages by Linux' powercap (if this user may read it): what others do
    on the device at the same time is in it, and the rest of the computer is not.

    Attributes:
        joules: what was used; None while the block runs, and where the device does not tell.
    """

    def __init__(self, device: torch.device) -> None:
        self.joules: float | None = None
        self._counters = list(_nvml(device) if device.type == "cuda" else _powercap(device))
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="outcrop-meter", daemon=True)
        self._last: list[float] = []
        self._used = 0.0

    def __enter__(self) -> Meter:
        if self._counters:
            self._last = [counter.read() for counter in self._counters]
            self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._counters:
            self._ended.set()
            self._watcher.join()
            self._advance()
            self.joules = self._used

    def _watch(self) -> None:
        # Counters of processors begin anew after some minutes at full load.
        while not self._ended.wait(_EVERY):
            self._advance()

    def _advance(self) -> None:
        now = [counter.read() for counter in self._counters]
        for counter, before, after in zip(self._counters, self._last, now, strict=True):
            self._used += after - before + (counter.range if after < before else 0.0)
        self._last = now


@dataclass(frozen=True)
class _Counter:
    """Joules since some beginning; after `range` joules it begins at 0 again."""

    read: Callable[[], float]
    range: float = math.inf


def _powercap(device: torch.device) -> Iterator[_Counter]:
    """One counter for each processor package."""
    if device.type != "cpu":
        return
    for zone in sorted(_POWERCAP.glob("intel-rapl:*")):
        try:
            if not (zone / "name").read_text().startswith("package"):
                continue
            largest = _micro(zone / "max_energy_range_uj")
            _micro(zone / "energy_uj")
        except (OSError, ValueError):
            continue
        yield _Counter(partial(_micro, zone / "energy_uj"), largest)


def _micro(path: Path) -> float:
    return int(path.read_text()) / 1e6


def _nvml(device: torch.device) -> Iterator[_Counter]:
    try:
        import pynvml
    except ImportError:
        return
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(
            f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        )
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return
    yield _Counter(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)
