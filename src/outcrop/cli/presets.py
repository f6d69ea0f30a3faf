"""Presets: defaults for several options at once, by one word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

PresetName = Literal["quick", "standard", "deep", "paper"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"epochs": 10, "trials": 0},
    "standard": {},
    "deep": {"depth": 110, "survival": 0.5, "epochs": 100, "trials": 0},
    # He et al. 2015 (arXiv:1512.03385), section 4.2: 64,000 steps of 128 images are 164 epochs of
    # the 50,000; the rate falls at 32,000 and 48,000.
    "paper": {
        "depth": 110,
        "epochs": 164,
        "batch": 128,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "step",
        "milestones": [0.5, 0.75],
        "drop": 0.1,
        "gain": 0.0,
        "trials": 0,
    },
}
"""Options that each preset sets, by name; `--option` on the command line overrides them."""
