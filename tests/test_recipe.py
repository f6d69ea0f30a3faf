import json
from dataclasses import asdict

import pytest
import torch

from outcrop.errors import OutcropError
from outcrop.training.recipe import Augmentation, Machine, Recipe, Settled, recipe_of


def test_learning_rate_follows_the_papers_steps_and_the_cosine() -> None:
    step = Settled(epochs=100, learning_rate=0.1, schedule="step", warm_up=0)
    rates = [step.learning_rate_at(epoch) for epoch in (0, 49.9, 50, 74.9, 75, 99)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    cosine = Settled(epochs=100, learning_rate=0.1, warm_up=2)
    rates = [cosine.learning_rate_at(epoch) for epoch in (1, 50, 100)]
    assert rates == pytest.approx([0.05, 0.05, 0], abs=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 3},
        {"learning_rate": 0.0},
        {"solver": "adam"},
        {"nesterov": True, "solver": "adamw"},
        {"class_balance": "half"},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"schedule": "linear"},
        {"seed": -1},
    ],
)
def test_wrong_recipes_are_refused_by_name(wrong: dict) -> None:
    with pytest.raises(OutcropError, match=f"recipe: {next(iter(wrong))} is"):
        Recipe(**wrong)


def test_steps_go_down_at_their_milestones() -> None:
    # Zagoruyko and Komodakis 2016: 200 epochs, a fifth at 60, 120 and 160.
    wide = Settled(
        epochs=200,
        learning_rate=0.1,
        schedule="step",
        milestones=[0.3, 0.6, 0.8],
        drop=0.2,
        warm_up=0,
    )
    rates = [wide.learning_rate_at(epoch) for epoch in (59, 60, 120, 160)]
    assert rates == pytest.approx([0.1, 0.02, 0.004, 0.0008])


def test_one_cycle_is_that_of_torch() -> None:
    steps = 1000
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.4, total_steps=steps + 1)
    ours = Settled(epochs=10, learning_rate=0.4, schedule="one-cycle")
    for step in range(steps):
        # torch's peak lies a step before 30 % of the way.
        assert ours.learning_rate_at(10 * step / steps) == pytest.approx(
            theirs.get_last_lr()[0], abs=2e-3
        )
        optimiser.step()
        theirs.step()


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Augmentation, {"noise": -1.0}),
        (Augmentation, {"cutout": -1}),
        (Augmentation, {"gain": 1.0}),
        (Machine, {"devices": 0}),
        (Machine, {"strategy": "horovod"}),
        (Machine, {"precision": "16"}),
        (Machine, {"compile": "maybe"}),
        (Machine, {"recompute": -1}),
        (Machine, {"accumulate": 0}),
        (Machine, {"gpu_memory": "0GiB"}),
        (Machine, {"gpu_memory": "6 GB"}),
        (Recipe, {"milestones": [0.5, 1.0]}),
        (Recipe, {"drop": 0.0}),
        (Recipe, {"label_smoothing": 1.0}),
        (Recipe, {"average": 1.0}),
    ],
)
def test_wrong_settings_are_refused_by_name(kind: type, wrong: dict) -> None:
    with pytest.raises(OutcropError, match=f"{next(iter(wrong))} is"):
        kind(**wrong)


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(
        epochs=3,
        milestones=[0.2],
        augmentation=Augmentation(cutout=8),
        machine=Machine(recompute=4, gpu_memory="6GiB"),
    )
    assert recipe_of(json.loads(json.dumps(asdict(recipe)))) == recipe
    assert recipe.machine.gpu_bytes == 6 << 30


def test_removed_settings_of_older_runs_are_read() -> None:
    old = asdict(Recipe(batch=16)) | {"fit_batch": True}
    old["machine"] = old["machine"] | {"strategy": "fsdp"}
    assert recipe_of(old) == Recipe(batch=16)
