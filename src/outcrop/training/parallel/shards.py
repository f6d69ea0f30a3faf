"""Weights, gradients and momentum in shards, one in each process (FSDP2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from outcrop.models.network import NetworkModule
from outcrop.models.residual import ResidualNetwork
from outcrop.training.parallel.learner import Learner, Named, optimiser_of


class ShardedLearner(Learner):
    """A learner that holds a shard of each weight, and gathers a block only while it computes it.

    Statistics of batch normalisation are whole in every process, and the same.
    """

    def _hold(self, whole: NetworkModule) -> NetworkModule:
        # Shards of tensors in channels-last order are not supported.
        return whole.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def _join(self) -> None:
        if self.average is not None:
            assert isinstance(self.judged, ResidualNetwork)
            shard(self.judged, self.team.mesh)
        super()._join()

    def _optimiser(self) -> torch.optim.Optimizer:
        # torch has no fused step for shards.
        return optimiser_of(self.recipe, self.module, foreach=True)

    def _moving_average(self) -> Callable[..., None]:
        update = super()._moving_average()

        def update_shards(averages: list[Tensor], weights: list[Tensor], number: Tensor) -> None:
            # No operation takes shards and the statistics, which are none, in one list.
            update([_local(t) for t in averages], [_local(t) for t in weights], number)

        return update_shards

    def _whole(self, named: Named) -> dict[str, Tensor]:
        found = {}
        for name, tensor in named:
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self.team.first:
                found[name] = whole.cpu()
        return found

    def _held(self, whole: Tensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor):
            return whole
        return distribute_tensor(whole.to(self.team.device), like.device_mesh, like.placements)

    def _load(self, module: nn.Module, whole: dict[str, Tensor]) -> None:
        held = module.state_dict()
        module.load_state_dict(
            {
                name: self._held(tensor, held[name]) if name in held else tensor
                for name, tensor in whole.items()
            }
        )


def shard(module: ResidualNetwork, mesh: DeviceMesh) -> ResidualNetwork:
    """Deal the weights out to the processes of a mesh; each block is gathered by itself.

    A dropped block is not gathered, unless its shortcut has weights.
    """
    for block in module.blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
        if block.projects:
            register_fsdp_forward_method(block, "skip")
        if block.compiled is not None:
            register_fsdp_forward_method(block, "compiled")
    # Were the rest left whole after a forward pass, it would be neither saved nor found.
    fully_shard(module, mesh=mesh, reshard_after_forward=True)
    return module


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
