"""What every table says of the machine it was made on."""

from __future__ import annotations

from datetime import date

import torch

from outcrop.experiment.meter import device_name
from outcrop.training.device import pick_device


def describe() -> str:
    """Device, threads, torch version and date."""
    device = pick_device()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{device_name(device)}{threads}, torch {torch.__version__}, {date.today()}"
