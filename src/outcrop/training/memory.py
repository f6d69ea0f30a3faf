"""Errors of full memory, explained by the settings that save memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from outcrop.errors import OutcropError
from outcrop.models.architectures import Network, ResidualNet
from outcrop.training.device import pick_precision
from outcrop.training.recipe import Machine, Recipe, suited

_SMALLEST = 4
_SIGNS = ("can't allocate memory", "out of memory", "bad_alloc", "ALLOC_FAILED")
_LARGE = 64


@contextmanager
def full_memory_as(batch: int, device: torch.device, remedy: Callable[[], str]) -> Iterator[None]:
    """Turn an error of full memory into one with the settings to change, which `remedy` returns.

    Raises:
        OutcropError: memory was full.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not (full or any(sign in str(error) for sign in _SIGNS)):
            raise
        where = device if device.type == "cuda" else "this machine"
        raise OutcropError(
            "training",
            f"the memory of {where} is full at a batch of {batch}; take {remedy()}, in a new "
            "folder",
        ) from error


def remedies(network: Network, recipe: Recipe, size: tuple[int, int], device: torch.device) -> str:
    """The settings that save memory and are not used yet, with values.

    Args:
        size: height and width of an image in pixels.
    """
    machine = recipe.machine
    options = smaller_parts(suited(recipe, network).batch, machine)
    if not isinstance(network, ResidualNet):
        return ", or ".join(options) or "smaller patches"
    if machine.recompute == 0:
        options.append(f"`recompute={_best_segment(network)}`")
    if device.type != "mps" and pick_precision(machine.precision, device) == "32-true":
        options.append("`precision='bf16-mixed'`")
    if network.stem == "small" and max(size) >= _LARGE:
        options.append("`stem='large'`")
    if machine.gpu_memory:
        options.append(f"`gpu_memory` above {machine.gpu_memory}")
    return ", or ".join(options) or "a network of less depth or width"


def smaller_parts(batch: int, machine: Machine) -> list[str]:
    """The settings that put fewer images through the network at once, with values."""
    options = []
    if batch // 2 >= _SMALLEST:
        options.append(f"`batch={batch // 2}`")
    if batch // (2 * machine.accumulate) >= _SMALLEST:
        options.append(f"`accumulate={2 * machine.accumulate}`")
    return options


def _best_segment(network: ResidualNet) -> int:
    """The number of blocks per segment that needs least memory.

    A block keeps four times the size of its input, and each stage halves that size. For n blocks
    per stage and k per segment, the inputs of all segments and the content of one need
    7/4 n/k + 4k, which is smallest at k = √(7n/16).
    """
    return max(1, round(math.sqrt(7 / 16 * network.blocks)))
