"""Messages about a training: what is logged before it starts, and the error of full memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from outcrop.errors import OutcropError
from outcrop.models.architectures import Network, ResidualNet
from outcrop.models.cost import cost_of, short
from outcrop.patches.patchset import PatchSet
from outcrop.progress import tell, warn
from outcrop.training.augment import label_of
from outcrop.training.batches import drawn_numbers
from outcrop.training.device import pick_precision
from outcrop.training.recipe import Augmentation, ClassBalance, Machine, Recipe, suited

_DEEP = 50
_SMALLEST = 4
_SIGNS = ("can't allocate memory", "out of memory", "bad_alloc", "ALLOC_FAILED")
_LARGE = 64


def log_training(
    network: Network, patches: PatchSet, machine: Machine, device: torch.device
) -> None:
    """Log the cost of a training, its device and its precision."""
    where = f"{device}, {pick_precision(machine.precision, device)}"
    if machine.devices > 1:
        where += f", {machine.devices} processes ({machine.strategy})"
    if not isinstance(network, ResidualNet):
        tell(f"training {network.title} on {where}")
        return
    cost = cost_of(network, len(patches.bands), patches.size, len(patches.classes))
    facts = [
        f"{short(cost.parameters)} parameters",
        f"{short(cost.multiply_adds)} multiply-adds per image",
    ]
    if cost.expected_saving:
        facts.append(
            f"{cost.expected_blocks:.4g} of {cost.blocks} blocks expected in a step, "
            f"which saves {100 * cost.expected_saving:.1f} %"
        )
    tell(f"training {network.title}: {', '.join(facts)}; on {where}")
    if cost.blocks >= _DEEP and network.order == "original" and not network.zero_init:
        warn(
            f"{cost.blocks} blocks begin with large gradients, which may keep them from learning "
            "for many epochs; take `zero_init=True` or `order='pre-activation'`"
        )


def log_class_balance(class_balance: ClassBalance, labels: np.ndarray, patches: PatchSet) -> None:
    """Log how often patches of rare classes are repeated, if they are.

    `labels` are those of the training side.
    """
    if class_balance == "none":
        return
    counts = np.bincount(labels, minlength=len(patches.classes))
    drawn = drawn_numbers(counts, class_balance)
    times = drawn / np.maximum(counts, 1)
    most = int(times.argmax())
    there = drawn[counts > 0]
    tell(
        f"`class_balance={class_balance!r}`: an epoch draws {there.min()} to {there.max()} patches "
        f"of a class; each of the {counts[most]} of {patches.classes[most]} some "
        f"{times[most]:.3g} times"
    )


def log_shifts(augmentation: Augmentation, patches: PatchSet) -> None:
    """Log that labels are kept where patches are shifted, if they are."""
    if label_of(augmentation, patches) == "image":
        return
    shifts = {
        "crop": augmentation.crop or 0,
        "neighbourhood": augmentation.neighbourhood,
        "slices": augmentation.slices,
    }
    named = " ".join(f"`{name}={pixels}`" for name, pixels in shifts.items() if pixels)
    if named:
        warn(
            f"{named}: training patches are shifted by up to as much, and each keeps the label of "
            "its own pixel; edges in a map may become less exact by as much"
        )


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
    """The settings that save memory for images of a size and are not used yet, with values."""
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
