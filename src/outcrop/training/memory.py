"""The largest batch that fits into memory, and what to change when memory is full."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch.nn import functional as F

from outcrop.errors import OutcropError
from outcrop.models.architectures import Network, ResidualNet
from outcrop.models.cost import cost_of
from outcrop.models.factory import build
from outcrop.patches.patchset import PatchSet
from outcrop.progress import tell
from outcrop.training.device import free_memory, pick_precision
from outcrop.training.parallel.learner import optimiser_of
from outcrop.training.recipe import Machine, Recipe, suited

_USED = 0.9
# Bytes of RAM for one of activations, measured with glibc: between tensors that come and go,
# above all those that are recomputed, its heap has gaps that fit nothing.
_HEAP, _HEAP_RECOMPUTED = 1.2, 4.0
_SMALLEST = 4
_SIGNS = ("can't allocate memory", "out of memory", "bad_alloc", "ALLOC_FAILED")
_LARGE = 64


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest power of two that fits, from 4 up to `most`; 0 if not even 4 does.

    >>> largest(lambda batch: batch <= 100, most=5000)
    64
    """
    found, batch = 0, _SMALLEST
    while batch <= max(most, _SMALLEST) and fits(batch):
        found, batch = batch, 2 * batch
    return found


def fitting_batch(
    network: Network, recipe: Recipe, patches: PatchSet, device: torch.device, most: int
) -> int:
    """The largest power of two, at most `most`, that trains in nine tenths of the free memory.

    On a GPU it is found by training a network that is thrown away; elsewhere, where a process that
    takes too much is killed, by what `cost_of` counts. It depends on what else uses the memory.

    Raises:
        OutcropError: not even a batch of 4 fits.
    """
    if not isinstance(network, ResidualNet):
        raise OutcropError("--fit-batch", "knows residual networks only; pass --batch")
    settled = suited(recipe, network)
    by = _by_trial if device.type == "cuda" else _by_count
    found = largest(by(network, settled, patches, device), most)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    if not found:
        ways = remedies(network, replace(settled, batch=_SMALLEST), patches.size, device)
        raise OutcropError(
            "training", f"not even a batch of {_SMALLEST} fits into {_name(device)}; take {ways}"
        )
    steps = math.ceil(most / found)
    tell(f"a batch of {found} fits into {_name(device)}; an epoch has {steps} steps")
    return found


def _by_count(
    network: ResidualNet, recipe: Recipe, patches: PatchSet, device: torch.device
) -> Callable[[int], bool]:
    cost = cost_of(
        network, len(patches.bands), patches.size, len(patches.classes), recipe.machine.recompute
    )
    a_picture = cost.activations * (_HEAP_RECOMPUTED if recipe.machine.recompute else _HEAP)
    if pick_precision(recipe.machine.precision, device) == "bf16-mixed":
        a_picture /= 2
    # Weight, gradient, momentum, the buffer of one of them, and perhaps AdamW's second moment and
    # the average.
    constant = 4 * cost.parameters * (4 + (recipe.solver == "adamw") + (recipe.average > 0))
    room = _USED * free_memory(device) - constant
    return lambda batch: _at_once(recipe, batch) * a_picture <= room


def _by_trial(
    network: ResidualNet, recipe: Recipe, patches: PatchSet, device: torch.device
) -> Callable[[int], bool]:
    held = torch.cuda.memory_allocated(device)
    cap = recipe.machine.gpu_bytes
    free = free_memory(device)
    room = _USED * (free if cap is None else min(free, cap - held))

    def fits(batch: int) -> bool:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        try:
            train_on_zeros(network, recipe, patches, device, _at_once(recipe, batch))
        except torch.OutOfMemoryError:
            return False
        return torch.cuda.max_memory_reserved(device) - held <= room

    return fits


def _at_once(recipe: Recipe, batch: int) -> int:
    """Pictures of a batch that go through the network together."""
    return math.ceil(batch / (recipe.machine.accumulate * recipe.machine.devices))


def train_on_zeros(
    network: ResidualNet, recipe: Recipe, patches: PatchSet, device: torch.device, pictures: int
) -> None:
    """Two steps of a new network on empty pictures: in the second there is momentum, too.

    Nothing is compiled, which takes more memory than compiled blocks do. No random numbers are
    taken from torch's generators.
    """
    with torch.random.fork_rng(devices=[]):
        module = build(network, len(patches.bands), len(patches.classes)).to(device).train()
    module.recompute(recipe.machine.recompute)
    optimiser = optimiser_of(suited(recipe, network), module, fused=True)
    images = torch.zeros(pictures, len(patches.bands), *patches.size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.zeros(pictures, dtype=torch.int64, device=device)
    half = pick_precision(recipe.machine.precision, device) == "bf16-mixed"
    for _ in range(2):
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = module(images, (True,) * len(network.survivals))
            loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        optimiser.step()


@contextmanager
def full_memory_explained(
    network: Network, recipe: Recipe, size: tuple[int, int], device: torch.device
) -> Iterator[None]:
    """Turn an error for want of memory into one that says which setting to change.

    Args:
        size: height and width of a picture in pixels.

    Raises:
        OutcropError: memory was full.
    """
    settled = suited(recipe, network)
    with full_memory_told(settled.batch, device, lambda: remedies(network, settled, size, device)):
        yield


@contextmanager
def full_memory_told(batch: int, device: torch.device, ways: Callable[[], str]) -> Iterator[None]:
    """Turn an error for want of memory into one that says what to change.

    Args:
        batch: at which it was full.
        ways: what to take.

    Raises:
        OutcropError: memory was full.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_full(error):
            raise
        raise OutcropError(
            "training",
            f"{_name(device)} is full at a batch of {batch}; take {ways()}, in a new folder",
        ) from error


def _is_full(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        sign in str(error) for sign in _SIGNS
    )


def _name(device: torch.device) -> str:
    return "the memory of " + (str(device) if device.type == "cuda" else "this machine")


def remedies(network: Network, recipe: Recipe, size: tuple[int, int], device: torch.device) -> str:
    """The options that save memory and are not used yet, with values."""
    machine = recipe.machine
    ways = smaller_parts(suited(recipe, network).batch, machine)
    if not isinstance(network, ResidualNet):
        return ", or ".join(ways) or "smaller patches"
    if machine.recompute == 0:
        ways.append(f"--recompute {_best_segment(network)}")
    if device.type != "mps" and pick_precision(machine.precision, device) == "32-true":
        ways.append("--precision bf16-mixed")
    if network.stem == "small" and max(size) >= _LARGE:
        ways.append("--stem large")
    if machine.gpu_memory:
        ways.append(f"--gpu-memory above {machine.gpu_memory}")
    return ", or ".join(ways) or "a network of less depth or width"


def smaller_parts(batch: int, machine: Machine) -> list[str]:
    """The options by which fewer pictures go through a network at once, with values."""
    ways = []
    if batch // 2 >= _SMALLEST:
        ways.append(f"--batch {batch // 2}")
    if batch // (2 * machine.accumulate) >= _SMALLEST:
        ways.append(f"--accumulate {2 * machine.accumulate}")
    return ways


def _best_segment(network: ResidualNet) -> int:
    """Where what enters the segments and what one of them keeps together need least.

    A block keeps four times what enters it, and the stages halve it: with n blocks in a stage and
    k in a segment the sum of 7/4 n/k and 4k is least.
    """
    return max(1, round(math.sqrt(7 / 16 * network.blocks)))
