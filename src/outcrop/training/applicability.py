"""The area of applicability in the folder of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from safetensors import safe_open

from outcrop.errors import OutcropError
from outcrop.files import decoding, sealed, unsealed
from outcrop.metrics.applicability import AreaOfApplicability
from outcrop.splits.folds import Folds
from outcrop.splits.split import TRAIN, VALIDATION
from outcrop.training.checkpoint import checksum, write_tensors
from outcrop.typed import typed

AREA = "trust.safetensors"
_FORMAT = "outcrop area of applicability"
_TENSORS = ("references", "mean", "std", "weights", "held_out")
_NUMBERS = ("mean_distance", "mean_distance_error", "threshold")
_VERSION = 2


def folds_within(folds: Folds | None, train: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The training and held-out patches of each fold, as indices into the patches `train`.

    `outcrop.metrics.applicability.learn_area` takes them.
    """
    sides = [] if folds is None else [split.sides[train] for split in folds.splits]
    return [(np.flatnonzero(one == TRAIN), np.flatnonzero(one == VALIDATION)) for one in sides]


def write_applicability(folder: Path, area: AreaOfApplicability) -> None:
    """Write `trust.safetensors` into the folder of a run.

    Raises:
        OutcropError: the disk is full or read-only.
    """
    tensors = {name: getattr(area, name) for name in _TENSORS}
    # One entry only: safetensors does not keep the order of several.
    numbers = {name: getattr(area, name) for name in (*_NUMBERS, "model")}
    numbers["version"] = _VERSION
    entry = json.dumps(sealed(numbers, checksum(tensors)))
    write_tensors(folder / AREA, tensors, {_FORMAT: entry})


def has_applicability(folder: Path) -> bool:
    """Whether a run has a usable area of applicability.

    Runs of older versions have none, or one from a part of the training patches, which finds less
    than half of the patches outside.
    """
    path = folder / AREA
    return path.exists() and not _is_thinned(path)


def read_applicability(folder: str | Path) -> AreaOfApplicability:
    """Read the area of applicability of a run.

    Raises:
        OutcropError: missing or incomplete, as in runs of older versions, or damaged.
    """
    path = Path(folder) / AREA
    if not path.exists():
        raise OutcropError(
            path, "no area of applicability, this run has none; train it anew with `outcrop.train`"
        )
    if _is_thinned(path):
        raise OutcropError(
            path,
            "keeps 512 training patches at most and so finds less than half of what lies outside; "
            "train the run anew with `outcrop.train`",
        )
    with decoding(path, "an area of applicability", "train the run anew"):
        with safe_open(path, "pt") as file:
            entry = json.loads((file.metadata() or {})[_FORMAT])
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        content = dict(unsealed(entry, checksum(tensors)))
        if content.pop("version") != _VERSION:
            raise ValueError("another version")
        model = str(content.pop("model", ""))
        numbers = typed(dict[str, float], content)
        found = AreaOfApplicability(
            **{name: numbers[name] for name in _NUMBERS}, model=model, **tensors
        )
        if not (found.mean_distance > 0 and math.isfinite(found.threshold)):
            raise ValueError("distances must be above 0")
        channels = found.references.shape[1:]
        if not channels == found.mean.shape == found.std.shape == found.weights.shape:
            raise ValueError("channels differ in number")
        return found


def _is_thinned(path: Path) -> bool:
    """Whether an older version wrote the file, which has no version entry."""
    try:
        with safe_open(path, "pt") as file:
            entry = json.loads((file.metadata() or {})[_FORMAT])
        return "threshold" in entry and "version" not in entry
    except Exception:  # a damaged file: `read_applicability` says so
        return False
