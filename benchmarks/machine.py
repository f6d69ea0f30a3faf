"""What every table says of the machine it was made on."""

from __future__ import annotations

import platform
from datetime import date
from pathlib import Path

import torch


def describe() -> str:
    """Device, threads, torch version and date."""
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    else:
        where = f"{_processor()}, {torch.get_num_threads()} threads"
    return f"{where}, torch {torch.__version__}, {date.today()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
