"""Several processes that train one network: how they start, agree and end."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import distributed

from outcrop.errors import OutcropError, Stopped
from outcrop.training.device import pick_device, pick_precision
from outcrop.training.recipe import Machine

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.strategy import Strategy
    from torch.distributed.device_mesh import DeviceMesh


class Team:
    """The processes that train one network together, seen from one of them.

    One process alone is a team too; it has no process group and nothing to agree on.

    Attributes:
        rank: the number of this process, from 0. The first one alone writes and speaks.
        world: how many there are.
        fabric: the strategy, precision and device of this process.
        mixed: whether forward and backward pass compute in bfloat16.
    """

    def __init__(self, fabric: Fabric, mixed: bool) -> None:
        self.fabric, self.mixed = fabric, mixed
        self.rank, self.world = fabric.global_rank, fabric.world_size
        # What is agreed on are numbers of the CPU; no GPU has to be waited for.
        self._group = distributed.new_group(backend="gloo") if self.world > 1 else None

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.fabric.device

    @property
    def mesh(self) -> DeviceMesh:
        """All processes, to deal shards out to."""
        from lightning_fabric.strategies import ModelParallelStrategy

        return cast(ModelParallelStrategy, self.fabric.strategy).device_mesh["data_parallel"]

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes bring."""
        if self.world == 1:
            return number
        numbers = torch.tensor(number)
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self._group)
        return int(numbers)

    def gather(self, mine: Any) -> list[Any]:
        """What each process brings, in all of them; tensors must be on the CPU."""
        if self.world == 1:
            return [mine]
        everyones = [None] * self.world
        distributed.all_gather_object(everyones, mine, group=self._group)
        return everyones

    def collect(self, mine: Any) -> list[Any]:
        """What each process brings, in the first; elsewhere nothing."""
        if self.world == 1:
            return [mine]
        everyones = [None] * self.world if self.first else None
        distributed.gather_object(mine, everyones, group=self._group)
        return everyones or []

    def dissolve(self) -> None:
        """Agree on nothing any more; threads that outlive this end badly when Python does."""
        if self._group is not None:
            distributed.destroy_process_group(self._group)
            self._group = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that all leave at once; if it fails somewhere, all end there.

        It holds nothing that needs the others. Of the processes that fail, the first says why.
        """
        if self.world == 1:
            yield
            return
        failure: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failure = error
        failed = self.gather(failure is not None)
        if any(failed):
            if failure is not None and failed.index(True) == self.rank:
                raise failure
            leave()


def leave() -> None:
    """End this process without a word: another one has said what there is to say.

    With code 0: the launcher kills the others when one of them leaves with another.
    """
    raise SystemExit(0)


def launch(machine: Machine) -> None:
    """Start the other processes of `machine.devices` with the command line of this one.

    For a command that does nothing but train. Where torchrun has started the processes, nothing
    has to be done.

    Raises:
        OutcropError: this machine has not so many GPUs.
    """
    if _started() > 1:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    elif machine.devices > 1:
        device = _device(machine, 0, machine.devices)
        _fabric(device, machine.devices, "32-true", lambda world: "ddp")


def refuse_several(
    machine: Machine, what: str, remedy: str = "use `outcrop train` for more"
) -> None:
    """Refuse to do in several processes what trains more than once.

    Args:
        what: is done.
        remedy: what to do instead.

    Raises:
        OutcropError: several are wanted, or torchrun has started them.
    """
    number = max(machine.devices, _started())
    if number > 1:
        raise OutcropError(
            "--devices",
            f"{what} is done in one process, not {number}; {remedy}",
        )


@contextmanager
def assemble(machine: Machine, strategy: Callable[[int], Strategy]) -> Iterator[Team]:
    """The team that this process belongs to.

    In all processes but the first, the block ends without a word when all were asked to stop.

    Args:
        machine: what to train on; where torchrun has started the processes, `devices` may be 1.
        strategy: for so many processes; not asked for one.

    Raises:
        OutcropError: no such device; fewer GPUs than processes; `machine.devices` processes are
            wanted, and have not been started.
    """
    world = _started()
    if machine.devices not in (1, world):
        raise OutcropError(
            "devices",
            f"{machine.devices} are wanted, "
            + (
                "this is one process; use `outcrop train`, or start your script by `torchrun "
                f"--nproc-per-node {machine.devices}`"
                if world == 1
                else f"torchrun has started {world} processes; take the same number"
            ),
        )
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    local_rank = int(os.environ["LOCAL_RANK"]) if world > 1 else 0
    device = _device(machine, local_rank, local_world)
    precision = pick_precision(machine.precision, device)
    fabric = _fabric(device, world, precision, strategy)
    team = Team(fabric, mixed=precision == "bf16-mixed")
    try:
        yield team
    except (Stopped, KeyboardInterrupt):
        if team.first:
            raise
        leave()
    finally:
        team.dissolve()


def _end_with_parent() -> None:
    """Do not wait for ever for processes that were killed."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _started() -> int:
    """How many processes torchrun or `launch` has started."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1


def _device(machine: Machine, local_rank: int, local_world: int) -> torch.device:
    if local_world == 1:
        return pick_device(machine.device)
    device, gpus = pick_device(machine.device), torch.cuda.device_count()
    if device.type == "cpu":
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
    device: torch.device, world: int, precision: Any, strategy: Callable[[int], Strategy | str]
) -> Fabric:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    # It announces the precision that the user has just asked for.
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
        strategy=strategy(world),
        plugins=[TorchElasticEnvironment() if elastic else LightningEnvironment()],
    )
    fabric.launch()
    return fabric
