"""Devices: choice, precision, memory, compilation, names."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from outcrop.errors import OutcropError

_M_MXFAST, _M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = 1, -1, -2, -4  # of glibc's malloc.h
_TOP_PAD = 256 << 20
_CPUINFO = Path("/proc/cpuinfo")
_DRIVER = Path("/sys/module/nvidia/version")


def pick_device(name: str = "auto") -> torch.device:
    """The device with a name: "auto", "cpu", "cuda", "cuda:1" or "mps".

    "auto" is the GPU with the most free memory, or the CPU if there is no GPU. On a shared server
    the first GPU is often the one in use.

    Raises:
        OutcropError: no such device on this machine.
    """
    gpus = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    here = [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    if name == "auto" and len(gpus) > 1:
        return max(map(torch.device, gpus), key=free_memory)
    wanted = {"auto": here[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in here:
        raise OutcropError("device", f"{name} is not on this machine; take {' or '.join(here)}")
    return torch.device(wanted)


@contextmanager
def capped_memory(device: torch.device, most: int | None) -> Iterator[None]:
    """A block in which this process allocates at most `most` bytes of a GPU; None: no limit.

    Raises:
        OutcropError: the device is not a GPU, or has less memory.
    """
    if most is None:
        yield
        return
    if device.type != "cuda":
        raise OutcropError("`gpu_memory`", f"caps a GPU, the device is {device}; leave it out")
    whole = torch.cuda.get_device_properties(device).total_memory
    if most > whole:
        raise OutcropError(
            "`gpu_memory`", f"{device} has only {whole / (1 << 30):.1f} GiB; take less"
        )
    before = torch.cuda.get_per_process_memory_fraction(device)
    torch.cuda.set_per_process_memory_fraction(most / whole, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before, device)


def pick_precision(name: str, device: torch.device) -> str:
    """The precision with a name: "32-true", "bf16-mixed" or "auto".

    "auto" is bfloat16 if the hardware supports it; emulated it would be slower than float32.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return "bf16-mixed" if native else "32-true"


_lock, _settings_of_cudnn = Lock(), ExitStack()
_exact_blocks = 0


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """A block in which float32 convolutions on a GPU are exact and deterministic.

    By default, cuDNN rounds factors to TF32, with 10 bits of mantissa instead of 23, and may sum in
    another order in each run. Matrix products are float32 unless
    `torch.set_float32_matmul_precision` allows less.

    The settings of cuDNN are global. They are restored when the last of several overlapping blocks
    ends, in any thread.
    """
    global _exact_blocks
    with _lock:
        if _exact_blocks == 0:
            exact = torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            )
            _settings_of_cudnn.enter_context(exact)
        _exact_blocks += 1
    try:
        yield
    finally:
        with _lock:
            _exact_blocks -= 1
            if _exact_blocks == 0:
                _settings_of_cudnn.close()


def compiles(wish: str, device: torch.device) -> bool:
    """Whether networks are compiled on a device, by the `wish` auto, always or never.

    Raises:
        OutcropError: "always" on a machine without a compiler.
    """
    if wish == "auto":
        return device.type == "cuda" and _can_compile(device)
    if wish == "always" and not _can_compile(device):
        raise OutcropError(
            "`compile`", "needs a C++ compiler, and Triton for a GPU; install it or take never"
        )
    return wish == "always"


def _can_compile(device: torch.device) -> bool:
    """Whether torch.compile finds a compiler, and Triton for a GPU."""
    compilers = (os.environ.get("CXX", ""), "g++", "gcc", "clang++", "clang")
    found = any(name and shutil.which(name) for name in compilers)
    return found and (device.type != "cuda" or find_spec("triton") is not None)


def kept_graphs(compiled: bool) -> AbstractContextManager[Any]:
    """A block in which compiled networks can be differentiated several times after a forward pass.

    Otherwise a compiled backward pass may overwrite activations. The block must contain forward and
    backward pass, because either may compile.
    """
    if not compiled:
        return nullcontext()
    from torch._functorch import config

    return config.patch(donated_buffer=False)


def keep_freed_memory() -> None:
    """Keep the memory of freed CPU tensors in this process.

    glibc returns large allocations to the system at once, and every step then waits for new pages:
    a fifth of the time of a float32 ResNet-20. On systems without glibc nothing happens.

    The setting cannot be undone. The command line calls this function when it trains on a CPU; no
    other function of outcrop does.

    The kept memory becomes fragmented. With recomputed activations it more than doubles; starting
    Python with GLIBC_TUNABLES=glibc.malloc.tcache_count=0 prevents that.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return
    mallopt(_M_MXFAST, 0)
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, _TOP_PAD)


def device_name(device: torch.device) -> str:
    """The model name of a GPU, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*: (.+)$", _CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def driver_version(device: torch.device) -> str | None:
    """The version of the NVIDIA driver, as Linux shows it; None on other devices and systems."""
    if device.type != "cuda":
        return None
    try:
        return _DRIVER.read_text().strip()
    except OSError:
        return None


def peak_memory(device: torch.device) -> int:
    """Peak memory so far in bytes: of tensors on a GPU, or of this process in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte


def free_memory(gpu: torch.device) -> int:
    """Bytes of a GPU that this process can still take."""
    reusable = torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)
    return torch.cuda.mem_get_info(gpu)[0] + reusable
