"""All that is needed to go on after an epoch, in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from outcrop.errors import OutcropError
from outcrop.files import new_file

_FORMAT = "outcrop checkpoint"


def save_checkpoint(
    path: Path, epoch: int, module: torch.nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    """Write the weights and the momentum after `epoch` epochs, whole or not at all."""
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        for key, value in optimiser.state[parameter].items():
            if isinstance(value, torch.Tensor):
                tensors[f"{key}.{name}"] = value
    write_tensors(path, tensors, {"format": _FORMAT, "epoch": str(epoch)})


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OutcropError: the disk is full or read-only.
    """
    content = save({name: t.cpu().contiguous() for name, t in tensors.items()}, metadata)
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def load_checkpoint(path: Path, module: torch.nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Put weights and momentum back, and return how many epochs they have seen.

    Raises:
        OutcropError: the file is damaged, or belongs to another network.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise KeyError("format")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        epoch = int(metadata["epoch"])
        module.load_state_dict(_below("model", tensors))
        parameters = dict(module.named_parameters())
        for name, momentum in _below("momentum_buffer", tensors).items():
            parameter = parameters[name]
            # The fused optimiser walks parameter and momentum by one stride.
            buffer = torch.empty_like(parameter).copy_(momentum)
            optimiser.state[parameter]["momentum_buffer"] = buffer
        return epoch
    except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
        raise OutcropError(
            path, "is damaged or of another run; delete it to train from the first epoch"
        ) from error


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}.")
    }
