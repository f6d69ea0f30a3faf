"""Steps that are recorded as CUDA graphs and played back: nothing but the GPU is waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from outcrop.models.architectures import Network
from outcrop.patches.patchset import PatchSet
from outcrop.training.batches import Step
from outcrop.training.parallel.learner import ADAMW_BETA_2, ADAMW_EPSILON, Learner, Tell
from outcrop.training.parallel.recording import Play, Recorder, Recording
from outcrop.training.parallel.team import Team
from outcrop.training.recipe import Recipe


class CapturedLearner(Learner):
    """A learner that records a step once for each size of batch and plays it back.

    With stochastic depth every step computes other blocks. The network is then cut into runs of a
    few blocks, and each run is recorded once for each choice of its blocks, when that is first
    drawn; a step plays the run's recordings one after the other. What is computed is what the
    learner computes that records nothing.

    On a CPU nothing is recorded, and the same is computed anew each time.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        patches: PatchSet,
        team: Team,
        first: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(network, recipe, patches, team, first)
        self.rate = torch.tensor(recipe.learning_rate, device=team.device)
        self._recordings: dict[int, Recording] = {}
        self._recorder = Recorder(team.device)
        self._play_average: Play | None = None

    def set_learning_rate(self, rate: float) -> None:
        """Let the next step go so far along the gradient."""
        self.learning_rate = rate
        self.rate.fill_(rate)

    def step(self, step: Step, tell: Tell) -> None:
        """One step of the optimiser; `tell` must keep nothing of the tensors that it gets."""
        (part,) = step.parts
        size = len(part.labels)
        if size not in self._recordings:
            recording = Recording(self, self._recorder, part.images, part.labels)
            self._recordings[size] = recording
        loss, logits = self._recordings[size].play(part.images, part.labels, step.kept)
        tell(loss, logits, part.labels)
        if self.average is not None:
            self._update_average()

    def update(self, parameters: Sequence[Tensor]) -> None:
        """Move parameters along their gradients, as the optimiser does."""
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

    def state_tensors(self) -> list[Tensor]:
        """All that a step changes, but the average."""
        states = self.optimiser.state.values()
        return [
            *self.module.parameters(),
            *self.module.buffers(),
            *(tensor for state in states for tensor in state.values()),
        ]

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
        """As `AveragedModel.update_parameters`, which asks the GPU how often it was called."""
        assert self.average is not None
        pairs = [
            (mean.detach(), value.detach())
            for means, values in (
                (self.average.module.parameters(), self.module.parameters()),
                (self.average.module.buffers(), self.module.buffers()),
            )
            for mean, value in zip(means, values, strict=True)
        ]
        for dtype in {mean.dtype for mean, _ in pairs}:
            means, values = zip(*(pair for pair in pairs if pair[0].dtype == dtype), strict=True)
            self._moving_average()(list(means), list(values), 0)
