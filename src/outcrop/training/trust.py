"""The area of trust of a run: measured after training, kept in its folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from outcrop.errors import OutcropError
from outcrop.evaluation.trust import AreaOfTrust, learn_area
from outcrop.files import decoding, sealed, unsealed
from outcrop.training.checkpoint import checksum, write_tensors
from outcrop.typed import typed

TRUST = "trust.safetensors"
_FORMAT = "outcrop area of trust"
_TENSORS = ("references", "mean", "std", "held_out")
_NUMBERS = ("mean_distance", "threshold")
_MOST = 20_000


def measure_trust(
    training: np.ndarray, held_out: np.ndarray, groups: np.ndarray, seed: int = 0
) -> AreaOfTrust:
    """The area of trust of a model, from the features of patches without augmentation.

    Args:
        training: float32, `N × features`, of the training side.
        held_out: float32, `M × features`, of the validation side, which may be empty.
        groups: the piece of ground of each patch of the training side.
        seed: of the sample of 20 000 patches of a larger training side, and of `learn_area`.
    """
    some = np.sort(np.random.default_rng(seed).permutation(len(training))[:_MOST])
    return learn_area(
        torch.from_numpy(training[some]), groups[some], torch.from_numpy(held_out), seed=seed
    )


def write_trust(folder: Path, area: AreaOfTrust) -> None:
    """Write `trust.safetensors` into the folder of a run.

    Raises:
        OutcropError: the disk is full or read-only.
    """
    tensors = {name: getattr(area, name) for name in _TENSORS}
    # Of several entries safetensors would change the order from one writing to the next.
    numbers = {name: getattr(area, name) for name in (*_NUMBERS, "model")}
    told = json.dumps(sealed(numbers, checksum(tensors)))
    write_tensors(folder / TRUST, tensors, {_FORMAT: told})


def has_trust(folder: Path) -> bool:
    """Whether a run has an area of trust; those of before there was one have none."""
    return (folder / TRUST).exists()


def read_trust(folder: str | Path) -> AreaOfTrust:
    """Read the area of trust of a run.

    Raises:
        OutcropError: missing, as in runs of before there was one, or damaged.
    """
    path = Path(folder) / TRUST
    if not path.exists():
        raise OutcropError(
            path, "no area of trust, this run has none; train it anew with `outcrop train`"
        )
    with decoding(path, "an area of trust", "train the run anew"):
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {})[_FORMAT])
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        content = dict(unsealed(told, checksum(tensors)))
        model = str(content.pop("model", ""))
        numbers = typed(dict[str, float], content)
        found = AreaOfTrust(**{name: numbers[name] for name in _NUMBERS}, model=model, **tensors)
        if not (found.mean_distance > 0 and math.isfinite(found.threshold)):
            raise ValueError("distances must be above 0")
        if not found.references.shape[1:] == found.mean.shape == found.std.shape:
            raise ValueError("channels differ in number")
        return found
