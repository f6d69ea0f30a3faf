"""Log messages about a training before it starts."""

from __future__ import annotations

import numpy as np
import torch

from outcrop.models.architectures import Network, ResidualNet
from outcrop.models.cost import cost_of, short
from outcrop.patches.patchset import PatchSet
from outcrop.progress import tell, warn
from outcrop.training.augment import label_of
from outcrop.training.batches import drawn_numbers
from outcrop.training.device import pick_precision
from outcrop.training.recipe import Augmentation, ClassBalance, Machine

_DEEP = 50


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
        f"{short(cost.multiply_adds)} multiply-adds a picture",
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

    Args:
        labels: of the training side.
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
