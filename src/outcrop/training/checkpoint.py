"""Checkpoints of a training and weights of models, as safetensors files."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from outcrop.errors import OutcropError
from outcrop.files import decoding, file_hash, new_file, write_json
from outcrop.progress import warn

_FORMAT = "outcrop checkpoint"
_NEWEST, _BEFORE = "checkpoint.safetensors", "checkpoint-before.safetensors"
_WEIGHTS = "model.safetensors"

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training between two steps.

    Order, augmentation, dropped blocks and learning rate are not stored: they follow from the
    seed of the recipe and the numbers of epoch and step.

    Attributes:
        epoch: number of complete epochs.
        step: number of completed steps of the next epoch.
        tensors: by name: weights, running statistics, momentum, averages, and the scores of the
            unfinished epoch so far.
    """

    epoch: int
    step: int = 0
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix` and a dot, without it."""
        return {
            name.removeprefix(f"{prefix}."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(f"{prefix}.")
        }


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the newest checkpoint, completely or not at all, and keep the one before it.

    Raises:
        OutcropError: the disk is full or read-only.
    """
    newest = folder / _NEWEST
    tensors = {name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    metadata = {
        "format": _FORMAT,
        "epoch": str(checkpoint.epoch),
        "step": str(checkpoint.step),
        "crc32": str(checksum(tensors)),
    }
    with new_file(newest) as temporary:
        temporary.write_bytes(save(tensors, metadata))
        if newest.exists():
            newest.replace(folder / _BEFORE)


def read_checkpoint(folder: Path) -> Checkpoint:
    """The newest undamaged checkpoint of a run; epoch 0 if there is no checkpoint.

    Raises:
        OutcropError: all checkpoints are damaged.
    """
    there = [path for path in (folder / _NEWEST, folder / _BEFORE) if path.exists()]
    for path in there:
        try:
            return _read(path)
        except OutcropError:
            if path is not there[-1]:
                warn(f"{path} is damaged; going on from the one before it")
    if there:
        raise OutcropError(there[0], "is damaged; delete it to train from the first epoch")
    return Checkpoint(epoch=0)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, completely or not at all.

    Raises:
        OutcropError: the disk is full or read-only.
    """
    content = save({name: t.cpu().contiguous() for name, t in tensors.items()}, metadata)
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def save_model(folder: Path, module: nn.Module, description: Mapping[str, Any]) -> None:
    """Write `model.safetensors`, and then `model.json` with the hash of the weights.

    Raises:
        OutcropError: the folder is missing, or the disk is full.
    """
    write_tensors(folder / _WEIGHTS, module.state_dict())
    content = {**description, "weights": file_hash(folder / _WEIGHTS)}
    write_json(folder / "model.json", content)


def load_model(folder: Path, description: Mapping[str, Any], build: Callable[[], M]) -> M:
    """The module from `build` in evaluation mode, with the weights that `save_model` wrote.

    They are checked by their hash in the description, because safetensors has no checksum; models
    of older versions have no hash.

    Raises:
        OutcropError: the file is missing, damaged, changed, or of another model.
    """
    path, written = folder / _WEIGHTS, description.get("weights")
    with decoding(path, "the weights of this model", "train the model anew"):
        if written is not None and file_hash(path) != written:
            raise ValueError("it is not what model.json says it should be")
        tensors = load_file(path)
    with torch.random.fork_rng(devices=[]):
        module = build()
    try:
        module.load_state_dict(tensors)
    except RuntimeError:
        raise OutcropError(
            path, "holds the weights of another model; train the model anew"
        ) from None
    return module.eval()


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """A CRC-32 of all tensors: safetensors detects truncation, but not a changed byte."""
    total = 0
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        # The same bytes are other numbers in another dtype or shape.
        total = zlib.crc32(repr((name, tensor.dtype, tuple(tensor.shape))).encode(), total)
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, total)
    return total


def _read(path: Path) -> Checkpoint:
    with decoding(path, "a checkpoint", "delete it to train from the first epoch"):
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["format"] != _FORMAT or int(metadata["crc32"]) != checksum(tensors):
            raise ValueError("not what was written")
        return Checkpoint(int(metadata["epoch"]), int(metadata["step"]), tensors)
