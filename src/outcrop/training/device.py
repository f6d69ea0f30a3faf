"""The device that a name stands for, and what it can bear."""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import Literal

import torch

from outcrop.errors import OutcropError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
_TOP_PAD = 256 << 20


def pick_device(name: str = "auto") -> torch.device:
    """The device called "auto", "cpu", "cuda", "cuda:1" or "mps".

    "auto" takes the GPU with the most free memory, and the CPU where there is none: on a shared
    server the first GPU is the one that everybody else has taken.

    Raises:
        OutcropError: no such device on this machine.
    """
    gpus = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    here = [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    if name == "auto" and len(gpus) > 1:
        return torch.device(max(gpus, key=_free_memory))
    wanted = {"auto": here[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in here:
        raise OutcropError("device", f"{name} is not on this machine; take {' or '.join(here)}")
    return torch.device(wanted)


def _free_memory(gpu: str) -> int:
    return torch.cuda.mem_get_info(gpu)[0]


def cap_memory(device: torch.device, most: int | None) -> None:
    """Never let this process hold more than `most` bytes of a GPU.

    Raises:
        OutcropError: the device is no GPU, or is smaller.
    """
    if most is None:
        return
    if device.type != "cuda":
        raise OutcropError("--gpu-memory", f"caps a GPU, the device is {device}; leave it out")
    whole = torch.cuda.get_device_properties(device).total_memory
    if most > whole:
        raise OutcropError(
            "--gpu-memory", f"{device} has only {whole / (1 << 30):.1f} GiB; take less"
        )
    torch.cuda.set_per_process_memory_fraction(most / whole, device)


def best_precision(device: torch.device) -> Literal["32-true", "bf16-mixed"]:
    """bfloat16 where the device computes in it; where it is emulated it is slower."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return "bf16-mixed" if native else "32-true"


def keep_freed_memory() -> None:
    """Let this process keep the memory that tensors on the CPU give back.

    glibc returns large pieces to the system at once, and every step then pays for fresh pages: a
    fifth of the time of a float32 ResNet-20. Elsewhere than on glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, _TOP_PAD)


def peak_memory(device: torch.device) -> int:
    """The most bytes held so far: of the GPU by tensors, or of RAM by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    kilobyte = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilobyte
