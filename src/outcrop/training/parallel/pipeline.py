"""Consecutive blocks in each process; the parts of a batch pass through the processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.nn import functional as F

from outcrop.models.block_graph import block_graph, divide, keep_only, run_blocks
from outcrop.models.factory import NetworkModule
from outcrop.models.residual import Kept, ResidualNetwork
from outcrop.training.batches import Part, Step
from outcrop.training.parallel.learner import Learner, Named, Record

Shapes = Sequence[tuple[int, int, int]]


class PipelineLearner(Learner):
    """A learner that holds some consecutive blocks of the network.

    The parts of a batch pass through the processes one after the other, forward and backward in
    turn (1F1B: Narayanan et al. 2019, PipeDream, doi:10.1145/3341301.3359646). Weights are updated
    after the last part, and batch normalisation sees each part by itself, so that the result is
    that of one process with the same parts.

    Every process draws all parts: the first needs their images, the last their labels.
    """

    def _shares(self) -> tuple[int, int, int]:
        return 0, 1, max(self.recipe.machine.accumulate, self.group.world)

    def _hold(self, whole: NetworkModule) -> NetworkModule:
        assert isinstance(whole, ResidualNetwork)
        rank, world = self.group.rank, self.group.world
        self._blocks = divide(self.network.survivals, world)[rank]
        picture = (self.bands, *self.patches.size)
        self._given = boundary(whole, self._blocks.start, picture)
        self._passed = boundary(whole, self._blocks.stop, picture)
        keep_only(whole, self._blocks)
        return whole

    def _join(self) -> None:
        rank, world, last = self.group.rank, self.group.world, self.group.world - 1
        self._answers = rank == last
        assert isinstance(self.evaluated, ResidualNetwork)
        self._judge = Stage(self.evaluated, self._blocks, self._given)
        self._stage = _PaddedStage(
            Stage(self.residual, self._blocks, self._given),
            rows=-(-self.recipe.batch // self.parts),
            mixed=self.group.mixed,
        )
        logits = torch.empty(self._stage.rows, self.classes, device="meta", requires_grad=True)
        self._schedule = Schedule1F1B(
            PipelineStage(
                self._stage,
                rank,
                world,
                self.group.device,
                input_args=self._between(self._given) if rank else self._room(1, "meta"),
                output_args=self._between(self._passed) if rank < last else logits,
            ),
            self.parts,
            loss_fn=self._loss_of_part,
            scale_grads=False,
        )

    def _between(self, shapes: Shapes) -> Tensor:
        """A tensor of the shape and dtype that pass between two stages, as torch requires."""
        width = sum(int(np.prod(shape)) for shape in shapes)
        dtype = torch.bfloat16 if self.group.mixed else torch.float32
        rows = self._stage.rows
        return torch.empty(rows, width, dtype=dtype, device="meta", requires_grad=True)

    def _room(self, parts: int, device: torch.device | str) -> Tensor:
        """Memory for the images of several parts with the same number of rows each.

        In channels-last order, as the networks compute: torch compares strides too.
        """
        return torch.empty(
            (parts * self._stage.rows, self.bands, *self.patches.size),
            memory_format=torch.channels_last,
            device=device,
        )

    def _pictures(self, parts: Sequence[Part]) -> Tensor:
        together = self._room(len(parts), self.group.device)
        for room, part in zip(together.split(self._stage.rows), parts, strict=True):
            room[: len(part.labels)] = part.images
        return together

    def _differentiate(self, step: Step, record: Record) -> None:
        stage, parts = self._stage, list(step.parts)
        stage.kept, stage.sizes = step.kept, iter([len(part.labels) for part in parts])
        self._whole_batch, self._record = sum(len(part.labels) for part in parts), record
        self._schedule.step(
            *([self._pictures(parts)] if self.group.first else []),
            target=torch.cat([part.labels for part in parts]) if self._answers else None,
        )

    def _loss_of_part(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits[: len(labels)]
        loss = self.loss(logits, labels)
        self._record(loss, logits, labels)
        return loss * (len(labels) / self._whole_batch)

    def _logits(self, images: Tensor) -> Tensor:
        """The logits of images in the last process; zeros in the others."""
        rank, number = self.group.rank, len(images)
        given = images
        if rank:
            width = sum(int(np.prod(shape)) for shape in self._given)
            given = torch.empty(number, width, device=images.device)
            distributed.recv(given, rank - 1)
        found = self._judge(given)
        if self._answers:
            return found
        distributed.send(found, rank + 1)
        return torch.zeros(number, self.classes, device=images.device)

    def _whole(self, named: Named) -> dict[str, Tensor]:
        mine = {name: tensor.cpu() for name, tensor in named}
        return {name: tensor for one in self.group.gather(mine) for name, tensor in one.items()}

    def _load(self, module: nn.Module, whole: dict[str, Tensor]) -> None:
        module.load_state_dict({name: whole[name] for name in module.state_dict()})


class Stage(nn.Module):
    """Consecutive blocks, with the stem before the first block and the head after the last.

    The first stage takes images, the last gives logits. Between two stages, tensors are float32 or
    bfloat16, `N × features`: the activations and the inputs of open shortcuts, flattened.
    """

    def __init__(self, network: ResidualNetwork, blocks: slice, given: Shapes) -> None:
        super().__init__()
        chain = block_graph(network)
        self.network, self.chain, self.given = network, chain[blocks], given
        self.segments = network.segments
        self.first, self.last = blocks.start == 0, blocks.stop == len(chain)

    def forward(self, given: Tensor, kept: Kept | None = None) -> Tensor:
        """Compute the part of the network in this stage."""
        tensors = (self.network.stem(given),) if self.first else _unpack(given, self.given)
        tensors = run_blocks(self.chain, tensors, kept, self.segments)
        if not self.last:
            return _pack(tensors)
        return self.network.linear(self.network.pooled(tensors[0]))


class _PaddedStage(nn.Module):
    """A stage in training that takes and gives parts with the same number of rows.

    Parts differ by one image, and torch's stages take tensors of one shape only. Padding rows are
    removed before the computation and added again after it.

    Attributes:
        rows: number of rows of each part.
        kept: which blocks of the network are computed in this step.
        sizes: number of images in each part of this step, in the order of the forward passes.
    """

    def __init__(self, stage: Stage, rows: int, mixed: bool) -> None:
        super().__init__()
        self.stage, self.rows, self.mixed = stage, rows, mixed
        self.kept: Kept | None = None
        self.sizes: Iterator[int] = iter(())

    def forward(self, given: Tensor) -> Tensor:
        number = next(self.sizes)
        with torch.autocast(given.device.type, torch.bfloat16) if self.mixed else nullcontext():
            found = self.stage(given[:number], self.kept)
        found = found.float() if self.stage.last else found
        return F.pad(found, (0, 0, 0, self.rows - number))


def boundary(network: ResidualNetwork, at: int, picture: tuple[int, int, int]) -> Shapes:
    """Channels, height and width of the activations and open shortcuts before a block."""
    network.eval()
    with torch.no_grad():
        tensors = run_blocks(block_graph(network)[:at], (network.stem(torch.zeros(1, *picture)),))
    return [(tensor.shape[1], tensor.shape[2], tensor.shape[3]) for tensor in tensors]


def _pack(tensors: Sequence[Tensor]) -> Tensor:
    # Channels last, as in memory.
    return torch.cat([tensor.permute(0, 2, 3, 1).flatten(1) for tensor in tensors], dim=1)


def _unpack(packed: Tensor, shapes: Shapes) -> tuple[Tensor, ...]:
    flat = packed.split([int(np.prod(shape)) for shape in shapes], dim=1)
    return tuple(
        part.unflatten(1, (height, width, channels)).permute(0, 3, 1, 2)
        for part, (channels, height, width) in zip(flat, shapes, strict=True)
    )
