"""What every table says of the machine it was made on."""

from __future__ import annotations

import shlex
import sys
from datetime import date

import torch

from outcrop.training.device import device_name, driver_version, keep_freed_memory, pick_device


def keep_memory() -> None:
    """As the command line does before it trains; the library leaves the process as it is."""
    if pick_device().type == "cpu":
        keep_freed_memory()


def describe() -> str:
    """Device, threads or driver, torch version and date."""
    device = pick_device()
    if device.type == "cpu":
        more = f", {torch.get_num_threads()} threads"
    else:
        more = f", driver {driver_version(device) or 'unknown'}"
    return f"{device_name(device)}{more}, torch {torch.__version__}, {date.today()}"


def command(script: str) -> str:
    """What was called, without where its lines went and what it tells processes that it starts."""
    words = sys.argv[1:]
    for name in ("--one", "--lines", "--folder"):
        if name in words:
            at = words.index(name)
            words = words[:at] + words[at + 2 :]
    return shlex.join(["python", "-m", f"benchmarks.{script}", *words])
