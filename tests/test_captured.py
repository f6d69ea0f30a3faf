"""Captured steps give the same results as other steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from outcrop.models.architectures import ResidualNet
from outcrop.patches.patchset import PatchSet
from outcrop.training.batches import Epoch
from outcrop.training.device import exact_convolutions
from outcrop.training.normalise import Normalisation
from outcrop.training.parallel import captures, make_learner, make_process_group
from outcrop.training.parallel.captured import CapturedLearner, runs
from outcrop.training.parallel.learner import Learner
from outcrop.training.pictures import load_pictures
from outcrop.training.recipe import Augmentation, Machine, Recipe, suited
from tests.tiny import DEVICE

RECIPE = Recipe(
    epochs=2,
    batch=16,
    learning_rate=0.01,
    augmentation=Augmentation(rotate=False, gain=0),
    machine=Machine(device=DEVICE, precision="32-true", compile="never"),
)


@pytest.fixture(scope="module")
def patches() -> PatchSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (45, 2, 16, 16), dtype=np.uint8)
    return PatchSet(images, np.arange(45) % 3, ("a", "b", "c"), ("red", "green"))


def states(
    kind: type[Learner] | None, network: ResidualNet, recipe: Recipe, patches: PatchSet
) -> Iterator[tuple[str, torch.Tensor]]:
    """The state after two epochs of three steps each, and loss and logits of each step."""
    recipe = suited(recipe, network)
    with make_process_group(network, recipe) as group:
        make = make_learner if kind is None else kind
        learner = make(network, recipe, patches, group)
        learner.module.train()
        pictures = load_pictures(patches, np.arange(len(patches)), group.device)
        scale = Normalisation((128.0, 128.0), (64.0, 64.0))
        for number in range(recipe.epochs):
            for step in Epoch(number, recipe, network, pictures, scale).walk():
                learner.set_learning_rate(recipe.learning_rate_at(number + step.number / 3))
                found: list[torch.Tensor] = []
                learner.step(
                    step,
                    lambda loss, logits, labels, into=found: into.extend(
                        (loss.detach().clone(), logits.detach().float().clone())
                    ),
                )
                yield from ((f"{number}, {step.number}: {k}", one) for k, one in enumerate(found))
        yield from learner.state().items()


@pytest.mark.parametrize(
    "network",
    [
        ResidualNet(depth=14),
        ResidualNet(depth=44, survival=0.3),
        ResidualNet(depth=26, survival=0.5, levels=3),
        ResidualNet(depth=44, survival=0.1, levels=4),
        ResidualNet(depth=34, order="pre-activation", shortcut="projection", survival=0.2),
        ResidualNet(depth=29, bottleneck=True, survival=0.4),
        ResidualNet(depth=14, survival=0.5, seen=13, halvings=1, levels=2),
    ],
    ids=lambda network: network.title,
)
def test_captured_steps_learn_the_same(network: ResidualNet, patches: PatchSet) -> None:
    check(network, RECIPE, patches)


@pytest.mark.parametrize(
    "recipe",
    [
        replace(RECIPE, average=0.9),
        replace(RECIPE, momentum=0.0),
        replace(RECIPE, nesterov=True, label_smoothing=0.1),
        replace(RECIPE, machine=replace(RECIPE.machine, recompute=2)),
        replace(RECIPE, machine=replace(RECIPE.machine, precision="bf16-mixed")),
    ],
    ids=["average", "no momentum", "nesterov", "recomputed", "bf16"],
)
def test_captured_steps_follow_every_recipe(recipe: Recipe, patches: PatchSet) -> None:
    check(ResidualNet(depth=38, survival=0.4), recipe, patches)


@pytest.mark.parametrize("survival", [1.0, 0.4])
def test_captured_steps_follow_adamw(survival: float, patches: PatchSet) -> None:
    # AdamW divides gradients by their size and amplifies rounding: with a larger rate the weights
    # would differ.
    recipe = replace(RECIPE, solver="adamw", learning_rate=1e-6)
    check(ResidualNet(depth=20, survival=survival), recipe, patches)


@pytest.mark.parametrize("solver", ["sgd", "adamw"])
def test_the_update_is_that_of_the_optimiser(
    solver: Literal["sgd", "adamw"], patches: PatchSet
) -> None:
    network, recipe = ResidualNet(depth=8, width=4), replace(RECIPE, solver=solver)
    with make_process_group(network, recipe) as group:
        plain, ours = (kind(network, recipe, patches, group) for kind in (Learner, CapturedLearner))
        for number, rate in enumerate((0.01, 0.005)):
            moved: list[list[torch.Tensor]] = [[], []]
            torch.manual_seed(number)
            for k, pair in enumerate(
                zip(plain.module.parameters(), ours.module.parameters(), strict=True)
            ):
                gradient = torch.randn(pair[0].shape)
                for parameter, of in zip(pair, moved, strict=True):
                    # Some have no gradient, as in a dropped block.
                    parameter.grad = None
                    if k % 3 != number:
                        parameter.grad = torch.empty_like(parameter).copy_(gradient)
                        of.append(parameter)
            for learner in (plain, ours):
                learner.set_learning_rate(rate)
            plain.optimiser.step()
            ours.update(moved[1])
        state = ours.state()
        for name, tensor in plain.state().items():
            torch.testing.assert_close(state[name], tensor)
            # A parameter counts the steps in which it has a gradient.
            if name.startswith("step."):
                assert tensor in (1, 2)


def check(network: ResidualNet, recipe: Recipe, patches: PatchSet) -> None:
    with exact_convolutions():
        ours = dict(states(CapturedLearner, network, recipe, patches))
        plain = dict(states(Learner, network, recipe, patches))
    assert list(ours) == list(plain)
    # Where several shortcuts end, gradients are summed in another order.
    near = 1e-3 if DEVICE == "cuda" else 1e-5
    for name, tensor in plain.items():
        torch.testing.assert_close(
            ours[name],
            tensor,
            rtol=10 * near,
            atol=near,
            msg=lambda told, of=name: f"{of}: {told}",
        )


@pytest.mark.parametrize(
    ("machine", "world", "device", "wanted"),
    [
        (Machine(), 1, "cuda:0", True),
        (Machine(recompute=4), 1, "cuda:0", True),
        (Machine(capture="never"), 1, "cuda:0", False),
        (Machine(accumulate=2), 1, "cuda:0", False),
        (Machine(), 2, "cuda:0", False),
        (Machine(), 1, "cpu", False),
    ],
)
def test_steps_are_recorded_on_one_gpu_and_in_one_part(
    machine: Machine, world: int, device: str, wanted: bool
) -> None:
    group = SimpleNamespace(world=world, device=torch.device(device))
    assert captures(machine, group) is wanted  # type: ignore[arg-type]


@given(
    survivals=st.lists(st.floats(0.05, 1), min_size=1, max_size=120),
)
def test_runs_hold_every_block_once_and_few_likely_choices(survivals: list[float]) -> None:
    found = runs(survivals)
    assert [k for run in found for k in range(len(survivals))[run]] == list(range(len(survivals)))
    bits = [-sum(p * math.log2(p) for p in (c, 1 - c) if p > 0) for c in survivals]
    # A cut is at a block, which has at most one bit.
    assert all(sum(bits[run]) <= 3 + 1 + 1e-9 for run in found)
    assert len(found) == 1 or sum(bits) > 3


@pytest.mark.skipif(DEVICE == "cpu", reason="no GPU")
def test_a_gpu_captures_steps_unless_capture_is_never(patches: PatchSet) -> None:
    network = ResidualNet(depth=8)
    never = replace(RECIPE, machine=replace(RECIPE.machine, capture="never"))
    for recipe, kind in ((RECIPE, CapturedLearner), (never, Learner)):
        with make_process_group(network, recipe) as group:
            assert type(make_learner(network, recipe, patches, group)) is kind
