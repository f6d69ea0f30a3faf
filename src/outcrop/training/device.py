"""The device that a name stands for."""

from __future__ import annotations

import torch

from outcrop.errors import OutcropError


def pick_device(name: str = "auto") -> torch.device:
    """The device called "auto", "cpu", "cuda", "cuda:1" or "mps"; "auto" prefers a GPU.

    Raises:
        OutcropError: no such device on this machine.
    """
    here = ["cpu"]
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    here[:0] = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    wanted = {"auto": here[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in here:
        raise OutcropError("device", f"{name} is not on this machine; take {' or '.join(here)}")
    return torch.device(wanted)
