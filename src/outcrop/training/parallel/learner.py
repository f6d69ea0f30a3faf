"""A network and its optimiser, alone or as one of several copies that share each batch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from outcrop.errors import OutcropError
from outcrop.models.architectures import MultiScaleNet, Network
from outcrop.models.factory import NetworkModule, build
from outcrop.models.multiscale import MultiScaleNetwork
from outcrop.models.residual import ResidualNetwork
from outcrop.patches.patchset import PatchSet
from outcrop.training.augment import label_of
from outcrop.training.batches import Epoch, Step, generator, pieces
from outcrop.training.checkpoint import Checkpoint
from outcrop.training.classifier import averaged_probabilities
from outcrop.training.device import compiles
from outcrop.training.normalise import Normalisation
from outcrop.training.parallel.process_group import ProcessGroup, RunningStatistics
from outcrop.training.pictures import Pictures
from outcrop.training.recipe import Recipe, Settled, suited

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricOptimizer

_EVALUATION_BATCH = 512

ADAMW_BETA_2, ADAMW_EPSILON = 0.98, 1e-8

Record = Callable[[Tensor, Tensor, Tensor], None]
Named = Iterable[tuple[str, Tensor]]


def optimiser_of(recipe: Settled, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a network by a recipe, in torch's fused form."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.solver == "adamw":
        betas = (recipe.momentum, ADAMW_BETA_2)
        return torch.optim.AdamW(
            module.parameters(), rate, betas, ADAMW_EPSILON, weight_decay=decay, fused=True
        )
    return torch.optim.SGD(
        module.parameters(),
        rate,
        recipe.momentum,
        weight_decay=decay,
        nesterov=recipe.nesterov,
        fused=True,
    )


class Learner:
    """A network and its optimiser; with several processes (DDP) one of several copies.

    Each process takes some parts of each batch. After a step the copies are the same: gradients
    are averaged over the processes, and the running statistics of batch normalisation are
    combined. Up to rounding, this is what one process computes that takes the same parts in turn.

    Attributes:
        module: the network, or the part of it in this process.
        evaluated: the network that is evaluated and saved: `module`, or its average.
        parts: number of parts of a batch.
        rank, world: this process takes every `world`-th part, from part `rank` on.
        learning_rate: learning rate of the next step.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        patches: PatchSet,
        group: ProcessGroup,
        first: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._first = first or {}
        self.recipe = recipe = suited(recipe, network)
        self.network, self.patches, self.group = network, patches, group
        self.bands, self.classes = len(patches.bands), len(patches.classes)
        self.rank, self.world, self.parts = self._shares()
        machine = recipe.machine
        self.module = self._hold(self.plain()).to(group.device)
        self.average = (
            AveragedModel(self.module, multi_avg_fn=self._moving_average(), use_buffers=True)
            if recipe.average
            else None
        )
        self.evaluated: NetworkModule = (
            self.module if self.average is None else self.average.module  # type: ignore[assignment]
        )
        compiled = compiles(machine.compile, group.device)
        if isinstance(self.module, ResidualNetwork):
            self.module.recompute(machine.recompute)
            if compiled:
                self.module.compile_blocks()
        self._join()
        self.optimiser = optimiser_of(recipe, self.module)
        # A block that is dropped in the first step has no gradient, and fused optimisers need
        # their state for all parameters or none. They would start with zeros.
        for parameter in self.module.parameters():
            self.optimiser.state[parameter].update(self._first_state(parameter))
        self.stepper = cast("_FabricOptimizer", group.fabric.setup_optimizers(self.optimiser))
        self.learning_rate = recipe.learning_rate

    def plain(self) -> NetworkModule:
        """The whole network with its initial weights, on the CPU."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            module = build(self.network, self.bands, self.classes, self.patches.size)
        module.load_state_dict(self._first, strict=False)
        return module

    @property
    def residual(self) -> ResidualNetwork:
        """The module, which must be a residual network."""
        assert isinstance(self.module, ResidualNetwork)
        return self.module

    def check_parts(self, pictures: int) -> None:
        """Check that every batch of so many training images can be cut into all parts.

        Raises:
            OutcropError: a part would be empty, or one patch for a multi-scale network.
        """
        smallest = pictures // math.ceil(pictures / self.recipe.batch)
        # Its last layers have one unit per patch, and a single unit has no variance.
        needs_two = isinstance(self.network, MultiScaleNet)
        if smallest < self.parts * (2 if needs_two else 1):
            raise OutcropError(
                "batch",
                f"{smallest} patches cannot go through in {self.parts} parts; "
                "take a larger batch, or less of devices and accumulate",
            )

    def plan(self, number: int, pictures: Pictures, normalisation: Normalisation) -> Epoch:
        """The batches of an epoch."""
        recipe = self.recipe
        return Epoch(
            number, recipe, self.network, pictures, normalisation, self.parts, recipe.class_balance
        )

    def steps(self, plan: Epoch, record: Record, first: int = 0) -> Iterator[Step]:
        """Train on the batches of an epoch from `first` on; gives each step after it is done."""
        self.module.train()
        for step in plan.walk(first, self.rank, self.world):
            # At the middle of the step, so that neither warm-up nor cosine gives a rate of 0.
            done = plan.number + (step.number + 0.5) / plan.steps
            self.set_learning_rate(self.recipe.learning_rate_at(done))
            self.step(step, record)
            yield step

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        self.learning_rate = rate
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def step(self, step: Step, record: Record) -> None:
        """One step of the optimiser, with the parts of this process.

        `record` is called with loss, logits and labels of each part.
        """
        self.optimiser.zero_grad(set_to_none=True)
        self._differentiate(step, record)
        self.stepper.step()
        if self.world > 1:
            self._statistics.share()
        if self.average is not None:
            self.average.update_parameters(self.module)

    def predict_proba(self, pictures: Pictures, normalisation: Normalisation) -> Tensor:
        """Probabilities, float32 `M × classes`, on the CPU, in all processes, which share the work.

        They are computed in float32, as by the saved model, whatever the precision of the recipe.
        """
        self.evaluated.eval()
        number = self.world * math.ceil(len(pictures) / _EVALUATION_BATCH / self.world)
        wanted = [pictures.all[piece] for piece in pieces(len(pictures), number)]
        mine = wanted[self.rank :: self.world]
        flip, centre = self.recipe.test_flip, label_of(self.recipe.augmentation, pictures.patches)
        with torch.no_grad():
            parts = [
                averaged_probabilities(self._logits, normalisation(images), flip, centre)
                for images, _ in pictures.batches(mine)
            ]
            found = torch.cat(parts).cpu()
        gathered = self.group.all_gather((np.concatenate(mine), found) if self._answers else None)
        together = torch.empty(len(pictures), self.classes)
        for index, part in filter(None, gathered):
            together[index] = part
        return together

    def state(self) -> dict[str, Tensor]:
        """All tensors that training changes, by name; complete in the first process."""
        return self._whole(self._state())

    def restore(self, begun: Checkpoint) -> None:
        """Continue from the result of `state`.

        Raises:
            RuntimeError, KeyError: it belongs to another network.
        """
        self._load(self.module, begun.below("model"))
        if self.average is not None:
            self._load(self.average, begun.below("average"))
        for name, parameter in self.module.named_parameters():
            # In place: fused optimisers use the memory layout of the parameter for its state.
            for key, tensor in self.optimiser.state[parameter].items():
                with torch.no_grad():
                    tensor.copy_(begun.tensors[f"{key}.{name}"])

    def kept(self) -> NetworkModule:
        """The evaluated network, whole, on the CPU; in the first process only."""
        module, whole = self.plain(), self._whole(self.evaluated.state_dict().items())
        if self.group.first:
            module.load_state_dict(whole)
        return module

    def loss(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean over a part of weight times cross-entropy, in nats.

        Args:
            logits: `N × classes`, or `N × members × classes` for the mean over members.
            labels: int64, `N`.
            weights: float32, `N`; None: 1 each.
        """
        if logits.ndim == 3:
            members = logits.shape[1]
            labels, logits = labels.repeat_interleave(members), logits.flatten(0, 1)
            weights = None if weights is None else weights.repeat_interleave(members)
        smoothing = self.recipe.label_smoothing
        if weights is None:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        each = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        return (each * weights).mean()

    def prepare(self, pictures: Pictures, normalisation: Normalisation) -> None:
        """Learn the scale of the input from the training side, if the network has one."""
        starts = range(0, len(pictures), _EVALUATION_BATCH)
        wanted = [pictures.all[start : start + _EVALUATION_BATCH] for start in starts]
        for module in {id(one): one for one in (self.module, self.evaluated)}.values():
            if isinstance(module, MultiScaleNetwork):
                module.learn_scale(
                    lambda: (normalisation(images) for images, _ in pictures.batches(wanted))
                )

    # Overridden by other learners.

    _answers = True

    def _shares(self) -> tuple[int, int, int]:
        """`rank`, `world` and `parts`."""
        return self.group.rank, self.group.world, self.recipe.machine.accumulate * self.group.world

    def _hold(self, whole: NetworkModule) -> NetworkModule:
        """The part of the network in this process."""
        return whole

    def _moving_average(self) -> Callable[..., None]:
        return get_ema_multi_avg_fn(self.recipe.average)

    def _join(self) -> None:
        """Connect the copies of the network."""
        with warnings.catch_warnings():
            # torch 2.13 renames `broadcast_buffers`; 2.11 does not know the new name.
            warnings.simplefilter("ignore")
            self.forward = self.group.fabric.setup_module(self.module)
        if self.world > 1:
            self._statistics = RunningStatistics(self.module, self.group)

    def _first_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of the optimiser for a parameter before the first step."""
        if self.recipe.solver == "sgd":
            return {"momentum_buffer": torch.zeros_like(parameter)} if self.recipe.momentum else {}
        return {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }

    def _differentiate(self, step: Step, record: Record) -> None:
        fabric, last = self.group.fabric, self.parts // self.world - 1
        for k, part in enumerate(step.parts):
            wait = self.world > 1 and k < last
            with fabric.no_backward_sync(self.forward) if wait else nullcontext():
                if isinstance(self.module, MultiScaleNetwork):
                    self.module.rng = generator(part.images.device, *part.seeds)
                logits = self.forward(part.images, step.kept)
                loss = self.loss(logits, part.labels, part.weights)
                # DDP averages over the processes; the result is the sum over the parts.
                fabric.backward(loss * (part.share * self.world))
            record(loss, logits, part.labels)

    def _logits(self, images: Tensor) -> Tensor:
        return self.evaluated(images)

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for prefix, module in (("model", self.module), ("average", self.average)):
            for name, tensor in module.state_dict().items() if module is not None else ():
                yield f"{prefix}.{name}", tensor
        for name, parameter in self.module.named_parameters():
            for key, tensor in self.optimiser.state[parameter].items():
                yield f"{key}.{name}", tensor

    def _whole(self, named: Named) -> dict[str, Tensor]:
        """The tensors of the whole network, in the first process."""
        return dict(named)

    def _load(self, module: nn.Module, whole: dict[str, Tensor]) -> None:
        module.load_state_dict(whole)
