"""One training in several processes, which share the images of a batch or the blocks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.models.architectures import Network, ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.training.parallel.learner import Learner
from outcrop.training.parallel.process_group import ProcessGroup, open_process_group
from outcrop.training.recipe import Machine, Recipe

if TYPE_CHECKING:
    from lightning_fabric.strategies.strategy import Strategy


def make_process_group(network: Network, recipe: Recipe) -> AbstractContextManager[ProcessGroup]:
    """The processes that train `network`, as described by `recipe.machine`.

    Raises:
        OutcropError: see `open_process_group`.
    """

    def strategy() -> Strategy:
        from lightning_fabric.strategies import DDPStrategy

        return DDPStrategy(
            # A dropped block has no gradients.
            find_unused_parameters=network.survival < 1,
            # The learner combines the running statistics.
            broadcast_buffers=False,
        )

    return open_process_group(recipe.machine, strategy)


def captures(machine: Machine, group: ProcessGroup) -> bool:
    """Whether training steps are recorded as CUDA graphs."""
    alone = group.world == machine.accumulate == 1
    return machine.capture == "auto" and alone and group.device.type == "cuda"


def make_learner(
    network: Network,
    recipe: Recipe,
    patches: PatchSet,
    group: ProcessGroup,
    first: Mapping[str, Tensor] | None = None,
) -> Learner:
    """The learner of `network` in this process; weights that are not in `first` are drawn.

    Raises:
        OutcropError: a pipeline of more processes than the network has blocks.
    """
    strategy = "ddp" if group.world == 1 else recipe.machine.strategy
    blocks, residual = len(network.survivals), isinstance(network, ResidualNet)
    with group.all_or_none():
        if strategy == "pipeline" and not residual:
            raise OutcropError("`strategy`", "pipeline takes residual networks only; take ddp")
        if strategy == "pipeline" and group.world > blocks:
            raise OutcropError(
                "devices",
                f"{group.world} are wanted for a pipeline of only {blocks} blocks; take fewer",
            )
    # Each of these takes a while to import.
    if strategy == "pipeline":
        from outcrop.training.parallel.pipeline import PipelineLearner

        return PipelineLearner(network, recipe, patches, group, first)
    if residual and captures(recipe.machine, group):
        from outcrop.training.parallel.captured import CapturedLearner

        return CapturedLearner(network, recipe, patches, group, first)
    return Learner(network, recipe, patches, group, first)
