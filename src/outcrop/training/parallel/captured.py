"""Training steps that are recorded as CUDA graphs and replayed, whole or in runs of blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from outcrop.models.block_graph import block_graph, divide, run_blocks
from outcrop.models.residual import Kept
from outcrop.training.batches import Part, Step
from outcrop.training.parallel.learner import ADAMW_BETA_2, ADAMW_EPSILON, Learner, Record

_BITS = 3.0

Play = Callable[[], None]


class CapturedLearner(Learner):
    """A learner that captures the training step as CUDA graphs, once for each batch size.

    With stochastic depth every step computes other blocks. The network is then cut into runs of a
    few blocks. Each run is captured once for each choice of its blocks, when this choice is first
    drawn, and a step replays the graphs of its runs one after the other. The results are those of
    `Learner`.

    On a CPU nothing is captured: the same functions are called in every step.
    """

    def _join(self) -> None:
        super()._join()
        self.rate = torch.tensor(self.recipe.learning_rate, device=self.group.device)
        self._recordings: dict[int, Recording] = {}
        self._recorder = Recorder(self.group.device)
        self._play_average: Play | None = None

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        self.learning_rate = rate
        self.rate.fill_(rate)

    def step(self, step: Step, record: Record) -> None:
        """One step of the optimiser; the next step overwrites the tensors given to `record`."""
        (part,) = step.parts
        size = len(part.labels)
        if size not in self._recordings:
            self._recordings[size] = Recording(self, self._recorder, part)
        loss, logits = self._recordings[size].play(part, step.kept)
        record(loss, logits, part.labels)
        if self.average is not None:
            self._update_average()

    def update(self, parameters: Sequence[Tensor]) -> None:
        """Update parameters by their gradients, as the optimiser does."""
        recipe, state = self.recipe, self.optimiser.state
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if recipe.solver == "adamw":
            adamw(
                list(parameters),
                gradients,
                [state[parameter]["exp_avg"] for parameter in parameters],
                [state[parameter]["exp_avg_sq"] for parameter in parameters],
                [],
                [state[parameter]["step"] for parameter in parameters],
                capturable=True,
                fused=True,
                amsgrad=False,
                beta1=recipe.momentum,
                beta2=ADAMW_BETA_2,
                lr=self.rate,
                weight_decay=recipe.weight_decay,
                eps=ADAMW_EPSILON,
                maximize=False,
            )
            return
        sgd(
            list(parameters),
            gradients,
            [state[parameter].get("momentum_buffer") for parameter in parameters],
            fused=True,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            lr=self.rate,  # type: ignore[arg-type]
            dampening=0,
            nesterov=recipe.nesterov,
            maximize=False,
        )

    def _update_average(self) -> None:
        assert self.average is not None
        if self.average.n_averaged == 0:
            self.average.update_parameters(self.module)
            return
        if self._play_average is None:
            self._play_average = self._recorder.record(self._average, self._recorder.pool(0))
        self._play_average()
        self.average.n_averaged += 1

    def _average(self) -> None:
        """As `AveragedModel.update_parameters`, without reading its counter from the GPU."""
        assert self.average is not None
        averages = [*self.average.module.parameters(), *self.average.module.buffers()]
        present = [*self.module.parameters(), *self.module.buffers()]
        pairs = [
            (mean.detach(), value.detach()) for mean, value in zip(averages, present, strict=True)
        ]
        for dtype in {mean.dtype for mean, _ in pairs}:
            means, values = zip(*(pair for pair in pairs if pair[0].dtype == dtype), strict=True)
            self._moving_average()(list(means), list(values), 0)


def runs(survivals: Sequence[float]) -> list[slice]:
    """Cut blocks into runs, each with about eight likely choices of kept blocks.

    The number of likely choices is two to the power of their entropy in bits. Longer runs pass
    fewer tensors on but have more choices, and each is captured when it is first drawn: by an
    estimate for ResNet-110 on an H100, eight runs instead of fourteen pay after 20 000 steps.

    >>> runs([1.0] * 9), len(runs([0.5] * 9))
    ([slice(0, 9, None)], 3)
    """
    bits = [-sum(p * math.log2(p) for p in (chance, 1 - chance) if p > 0) for chance in survivals]
    return divide(bits, max(1, math.ceil(sum(bits) / _BITS)))


class Recorder:
    """Captures callables as CUDA graphs; on a CPU it returns them unchanged."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self.on_gpu else None
        self._pools: dict[int, Any] = {}

    def pool(self, number: int) -> Any:
        """A memory pool for graphs that are never needed at the same time."""
        if self.on_gpu and number not in self._pools:
            self._pools[number] = torch.cuda.graph_pool_handle()
        return self._pools.get(number)

    def record(self, work: Play, pool: Any) -> Play:
        """A callable that replays `work`; on a GPU `work` is captured, not executed."""
        if not self.on_gpu:
            return work
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            # Another thread reads images and may use the GPU meanwhile.
            graph.capture_begin(pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        return graph.replay

    @contextmanager
    def beside(self) -> Iterator[None]:
        """A block that runs on the stream of the captures."""
        if self._stream is None:
            yield
            return
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            yield
        here.wait_stream(self._stream)


@dataclass
class Border:
    """The tensors between two runs of blocks.

    Attributes:
        values: activations and inputs of open shortcuts, as leaves of autograd.
        gradients: gradients of the loss by them.
    """

    values: tuple[Tensor, ...] = ()
    gradients: tuple[Tensor, ...] = ()

    @classmethod
    def like(cls, tensors: Sequence[Tensor]) -> Border:
        """Memory for tensors of the same shapes."""
        return cls(
            tuple(torch.zeros_like(tensor).requires_grad_() for tensor in tensors),
            tuple(torch.zeros_like(tensor) for tensor in tensors),
        )


@dataclass
class Run:
    """Consecutive blocks that are captured together.

    Attributes:
        blocks: indices of the blocks in the network.
        before, behind: input and output; empty at the ends of the network.
        recorded: forward and backward pass for each choice of its blocks.
        held: output of the forward pass, until the backward pass.
    """

    blocks: slice
    before: Border = field(default_factory=Border)
    behind: Border = field(default_factory=Border)
    recorded: dict[Kept | None, tuple[Play, Play]] = field(default_factory=dict)
    held: tuple[Tensor, ...] = ()


class Recording:
    """The captured training step for one batch size."""

    def __init__(self, learner: CapturedLearner, recorder: Recorder, part: Part) -> None:
        self._learner, self._recorder = learner, recorder
        self._images, self._labels = part.images.clone(), part.labels.clone()
        self._weights = None if part.weights is None else part.weights.clone()
        self._chain = block_graph(learner.residual)
        network = learner.network
        self._runs = [Run(blocks) for blocks in runs(network.survivals)]
        device = part.images.device
        self._loss = torch.zeros((), device=device)
        self._logits = torch.zeros(len(part.labels), learner.classes, device=device)
        with recorder.beside(), self._unchanged():
            for run, after in pairwise(self._runs):
                run.behind = after.before = Border.like(self._through(run, None))
            # Compile and load everything first: neither can be captured.
            for kept in (None, *([(False,) * len(self._chain)] if network.survival < 1 else [])):
                for run in self._runs:
                    self._forward(run, kept)
                for run in reversed(self._runs):
                    self._backward(run, kept)

    def play(self, part: Part, kept: Kept | None) -> tuple[Tensor, Tensor]:
        """Loss and logits of a step; the next step overwrites them."""
        self._images.copy_(part.images)
        self._labels.copy_(part.labels)
        if self._weights is not None and part.weights is not None:
            self._weights.copy_(part.weights)
        recorded = [self._recorded(number, run, kept) for number, run in enumerate(self._runs)]
        for forward, _ in recorded:
            forward()
        for _, backward in reversed(recorded):
            backward()
        return self._loss, self._logits

    def _recorded(self, number: int, run: Run, kept: Kept | None) -> tuple[Play, Play]:
        chosen = None if kept is None else tuple(kept[run.blocks])
        if chosen not in run.recorded:
            # Two choices of a run, or two batch sizes, are never replayed at once: they share the
            # memory between forward and backward pass.
            pool = self._recorder.pool(number)
            forward, backward = (
                partial(work, run, kept) for work in (self._forward, self._backward)
            )
            run.recorded[chosen] = (
                # The last run has its forward pass in the backward pass.
                forward if run is self._runs[-1] else self._recorder.record(forward, pool),
                self._recorder.record(backward, pool),
            )
        return run.recorded[chosen]

    def _forward(self, run: Run, kept: Kept | None) -> None:
        if run is self._runs[-1]:
            return
        run.held = self._through(run, kept)
        with torch.no_grad():
            for room, tensor in zip(run.behind.values, run.held, strict=True):
                room.copy_(tensor)

    def _backward(self, run: Run, kept: Kept | None) -> None:
        learner = self._learner
        if run is self._runs[-1]:
            with self._precision():
                module, units = learner.residual, self._through(run, kept)[0]
                logits = module.linear(module.pooled(units))
            logits = logits.float()
            loss = learner.loss(logits, self._labels, self._weights)
            loss.backward()
            with torch.no_grad():
                self._loss.copy_(loss)
                self._logits.copy_(logits)
        else:
            torch.autograd.backward(run.held, run.behind.gradients)
            run.held = ()
        for room, value in zip(run.before.gradients, run.before.values, strict=True):
            assert value.grad is not None
            room.copy_(value.grad)
            value.grad = None
        moved = [one for one in learner.module.parameters() if one.grad is not None]
        learner.update(moved)
        for parameter in moved:
            parameter.grad = None

    def _through(self, run: Run, kept: Kept | None) -> tuple[Tensor, ...]:
        module = self._learner.residual
        with self._precision():
            first = run is self._runs[0]
            tensors = (module.stem(self._images),) if first else run.before.values
            return run_blocks(self._chain[run.blocks], tensors, kept, module.segments)

    def _precision(self) -> torch.autocast | nullcontext[None]:
        # No cache of casts: a cached tensor would be in the memory of another graph.
        group = self._learner.group
        if not group.mixed:
            return nullcontext()
        return torch.autocast(group.device.type, torch.bfloat16, cache_enabled=False)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """A block after which weights and optimiser are as before."""
        module, states = self._learner.module, self._learner.optimiser.state.values()
        of_optimiser = [tensor for state in states for tensor in state.values()]
        tensors = [*module.parameters(), *module.buffers(), *of_optimiser]
        before = [tensor.detach().clone() for tensor in tensors]
        yield
        with torch.no_grad():
            for tensor, its_before in zip(tensors, before, strict=True):
                tensor.copy_(its_before)
