"""The processes that train one network: start, communication and end."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from outcrop.errors import OutcropError, Stopped
from outcrop.training.device import capped_memory, pick_device, pick_precision
from outcrop.training.recipe import Machine

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.strategy import Strategy


class ProcessGroup:
    """The processes that train one network together, seen from one of them.

    A single process is a group of one, without communication.

    Attributes:
        rank: number of this process, from 0. Only rank 0 writes files and logs.
        world: number of processes.
        fabric: the strategy, precision and device of this process.
        mixed: whether forward and backward pass compute in bfloat16.
    """

    def __init__(self, fabric: Fabric, mixed: bool) -> None:
        self.fabric, self.mixed = fabric, mixed
        self.rank, self.world = fabric.global_rank, fabric.world_size
        # The processes exchange numbers on the CPU, so that none waits for a GPU.
        self._group = distributed.new_group(backend="gloo") if self.world > 1 else None

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.fabric.device

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes files and logs."""
        return self.rank == 0

    def maximum(self, number: int) -> int:
        """The maximum of a number over the processes."""
        if self.world == 1:
            return number
        numbers = torch.tensor(number)
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self._group)
        return int(numbers)

    def all_gather(self, mine: Any) -> list[Any]:
        """The objects of all processes, by rank, in every process; tensors must be on the CPU."""
        if self.world == 1:
            return [mine]
        gathered = [None] * self.world
        distributed.all_gather_object(gathered, mine, group=self._group)
        return gathered

    def gather(self, mine: Any) -> list[Any]:
        """The objects of all processes, by rank, in the first process; elsewhere an empty list."""
        if self.world == 1:
            return [mine]
        gathered = [None] * self.world if self.first else None
        distributed.gather_object(mine, gathered, group=self._group)
        return gathered or []

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes; all lie on the device, float32."""
        together = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(together)
        sums = together.split([tensor.numel() for tensor in tensors])
        with torch.no_grad():
            torch._foreach_copy_(
                list(tensors), [one.view_as(t) for one, t in zip(sums, tensors, strict=True)]
            )

    def close(self) -> None:
        """End the communication: its threads must not outlive Python."""
        if self._group is not None:
            distributed.destroy_process_group(self._group)
            self._group = None

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """A block that all processes end together; an error in one of them ends all.

        The block must not communicate. The lowest rank that failed raises its error.
        """
        if self.world == 1:
            yield
            return
        failure: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failure = error
        failed = self.all_gather(failure is not None)
        if any(failed):
            if failure is not None and failed.index(True) == self.rank:
                raise failure
            exit_silently()


class RunningStatistics:
    """The running statistics of batch normalisation in one of several copies of a network.

    Each process normalises its parts of a batch by themselves. `share` then makes the running
    statistics those of one process that takes all parts in turn, in the order of the ranks.
    `nn.SyncBatchNorm` would normalise by the whole batch instead, and needs a GPU.

    With d = 1 - momentum, the statistics s_0, s_1, ... of the parts turn r into
    dʷ r + Σ (1 - d) d^(w - 1 - k) s_k in one process, w being the number of processes. Here the
    momentum is 1 - dʷ, so that rank k holds dʷ r + (1 - dʷ) s_k, and the ranks are weighted by
    (1 - d) d^(w - 1 - k) / (1 - dʷ), which sum to 1.
    """

    def __init__(self, module: nn.Module, group: ProcessGroup) -> None:
        norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        decay = 1 - (norms[0].momentum or 0) if norms else 0
        for norm in norms:
            norm.momentum = 1 - decay**group.world
        both = [each for norm in norms for each in (norm.running_mean, norm.running_var)]
        self._tensors = [each for each in both if each is not None]
        last = group.world - 1 - group.rank
        self._weight = (1 - decay) * decay**last / (1 - decay**group.world)
        self._group = group

    def share(self) -> None:
        """Make the running statistics those of all parts of the batch."""
        if self._tensors:
            torch._foreach_mul_(self._tensors, self._weight)
            self._group.all_reduce(self._tensors)


def exit_silently() -> None:
    """End this process without a message, because another process prints it.

    The exit code is 0: the launcher kills all processes if one of them ends with another code.
    """
    raise SystemExit(0)


def launch(machine: Machine) -> None:
    """Start the other processes of `machine.devices` with the command line of this process.

    For commands that only train. If torchrun has started the processes, none is started.

    Raises:
        OutcropError: this machine has fewer GPUs.
    """
    if _started() > 1:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    elif machine.devices > 1:
        device = _device(machine, 0, machine.devices)
        _fabric(device, machine.devices, "32-true", lambda: "ddp")


def refuse_several(
    machine: Machine, what: str, remedy: str = "use `outcrop.train` for more"
) -> None:
    """Raise an error if several processes would do `what`, which only one process can do.

    Raises:
        OutcropError: several processes are requested, or torchrun has started them.
    """
    number = max(machine.devices, _started())
    if number > 1:
        raise OutcropError("`devices`", f"{what} is done in one process, not {number}; {remedy}")


@contextmanager
def open_process_group(
    machine: Machine, strategy: Callable[[], Strategy | str]
) -> Iterator[ProcessGroup]:
    """The process group of this process, which takes at most `machine.gpu_memory` of its GPU.

    If the training is interrupted, all processes but the first end without a message.

    Args:
        machine: device, precision and number of processes. If torchrun has started the processes,
            `devices` may be 1.
        strategy: returns the strategy of Fabric; called for several processes only.

    Raises:
        OutcropError: no such device; fewer GPUs than processes, or less memory than the limit;
            `machine.devices` processes are requested and were not started.
    """
    world = _started()
    if machine.devices not in (1, world):
        found = f"torchrun has started {world} processes; take the same number"
        if world == 1:
            found = (
                "this is one process; use `outcrop.train`, or start your script with torchrun, "
                f"{machine.devices} processes per node"
            )
        raise OutcropError("`devices`", f"{machine.devices} are wanted, {found}")
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    local_rank = int(os.environ["LOCAL_RANK"]) if world > 1 else 0
    device = _device(machine, local_rank, local_world)
    precision = pick_precision(machine.precision, device)
    fabric = _fabric(device, world, precision, strategy)
    group = ProcessGroup(fabric, mixed=precision == "bf16-mixed")
    try:
        with ExitStack() as stack:
            with group.all_or_none():
                stack.enter_context(capped_memory(device, machine.gpu_bytes))
            yield group
    except (Stopped, KeyboardInterrupt):
        if group.first:
            raise
        exit_silently()
    finally:
        group.close()


def _end_with_parent() -> None:
    """End this process when its parent process was killed."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _started() -> int:
    """Number of processes that torchrun or `launch` has started."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1


def _device(machine: Machine, local_rank: int, local_world: int) -> torch.device:
    device, gpus = pick_device(machine.device), torch.cuda.device_count()
    if local_world == 1 or device.type == "cpu":
        return device
    if machine.device not in ("auto", "cuda"):
        raise OutcropError(
            "device", f"{machine.device} serves one process; take cuda or cpu for several"
        )
    if local_world > gpus:
        raise OutcropError(
            "devices", f"{local_world} are wanted, this machine has {gpus} GPUs; take fewer"
        )
    return torch.device("cuda", local_rank)


def _fabric(
    device: torch.device, world: int, precision: Any, strategy: Callable[[], Strategy | str]
) -> Fabric:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    # Fabric logs the precision, which the user has chosen.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if world == 1:
        devices: Any = 1 if device.index is None else [device.index]
        return Fabric(accelerator=device.type, devices=devices, precision=precision)
    elastic = "LOCAL_WORLD_SIZE" in os.environ
    local_world = int(os.environ["LOCAL_WORLD_SIZE"]) if elastic else world
    fabric = Fabric(
        accelerator=device.type,
        devices=local_world,
        num_nodes=world // local_world,
        precision=precision,
        strategy=strategy(),
        plugins=[TorchElasticEnvironment() if elastic else LightningEnvironment()],
    )
    fabric.launch()
    return fabric
