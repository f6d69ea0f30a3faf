"""Alarms: raised where necessary, not elsewhere, and without remedies that are applied."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.generative.learner import VaeGanLearner
from outcrop.generative.loop import Evaluator, evenly_spaced, interleaved, repeat_share
from outcrop.generative.metrics import (
    Evaluation,
    Means,
    VaeGanTally,
    active_dimensions,
    alarms,
    means,
)
from outcrop.generative.networks import build
from outcrop.generative.run import VaeGanModel
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.training.batches import Part, Step
from outcrop.training.normalise import Normalisation
from outcrop.training.parallel.process_group import ProcessGroup, open_process_group
from tests.tiny_generative import CPU, IMAGES, SIZE, TINY_NETWORK, TINY_RECIPE

# When an alarm is raised, and what it advises

WON = {"right_of_real": 0.99, "right_of_reconstructed": 0.995, "right_of_sampled": 1.0}
HEALTHY = Means(0.5, 0.5, 0.5, 0.6, 0.7, 0.8, divergence=(0.5,) * 100)
ASLEEP = (0.5,) * 4 + (0.001,) * 96
FIRST = VaeGanRecipe(decoder_loss="minimax", balance=0.0)
NETWORK = VaeGan(latent=100)

TABLE: dict[str, tuple[VaeGan, dict[str, Any], dict[str, Any], str]] = {
    "the discriminator wins": (
        NETWORK, {}, WON,
        "the discriminator wins: it is right for 99.0 % of the images, and the decoder learns "
        "little from it; try `balance=0.8` or `decoder_loss='non-saturating'` or `spectral=True`",
    ),
    "it wins in spite of spectral norms": (
        replace(NETWORK, spectral=True), {}, WON,
        "; try `balance=0.8` or `decoder_loss='non-saturating'`",
    ),
    "it wins in spite of all": (
        replace(NETWORK, spectral=True),
        {"balance": 0.8, "decoder_loss": "non-saturating"},
        WON,
        "; try a smaller `learning_rate`",
    ),
    "a GAN's wins without reconstructions": (
        replace(NETWORK, parts="gan"), {"balance": 0.7},
        {**WON, "right_of_reconstructed": None, "divergence": ()},
        "; try `decoder_loss='non-saturating'` or `spectral=True`",
    ),
    "the posterior collapses": (
        NETWORK, {}, {"divergence": ASLEEP},
        "the posterior has collapsed: 4 of 100 dimensions of the code are active; "
        "try `kl_warm_up=10` or a smaller `latent`",
    ),
    "it collapses in spite of a warm-up": (
        NETWORK, {"kl_warm_up": 3.0}, {"divergence": ASLEEP}, "; try a smaller `latent`",
    ),
    "a small code collapses": (
        TINY_NETWORK, {"kl_warm_up": 3.0}, {"divergence": (0.001,) * 4},
        "0 of 4 dimensions of the code are active; try a smaller `latent`",
    ),
    "samples repeat": (
        NETWORK, {}, {"repeats": 0.4},
        "samples repeat: 40 % nearly equal another one; "
        "try `balance=0.8` or `spectral=True` or a smaller `learning_rate`",
    ),
    "they repeat in spite of all": (
        replace(NETWORK, spectral=True), {"balance": 0.8}, {"repeats": 0.4},
        "nearly equal another one; try a smaller `learning_rate`",
    ),
}  # fmt: skip


def raised(
    network: VaeGan, recipe: dict[str, Any], seen: dict[str, Any], weight: float = 1.0
) -> tuple[str, ...]:
    evaluated = Evaluation(repeats=seen.get("repeats"))
    found = replace(HEALTHY, **{k: value for k, value in seen.items() if k != "repeats"})
    return alarms(network, replace(FIRST, **recipe), found, evaluated, weight)


@pytest.mark.parametrize("case", TABLE)
def test_an_alarm_names_the_problem_and_remedies_not_applied_yet(case: str) -> None:
    network, recipe, seen, line = TABLE[case]
    (alarm,) = raised(network, recipe, seen)
    assert alarm.endswith(line)


@pytest.mark.parametrize(
    "seen",
    [
        {},
        # A discriminator with the same answer for all images does not win.
        {"right_of_real": 1.0, "right_of_reconstructed": 0.0, "right_of_sampled": 0.0},
        {"right_of_real": 0.0, "right_of_reconstructed": 1.0, "right_of_sampled": 1.0},
        {"divergence": (0.5,) * 5 + (0.0,) * 95},
        {"repeats": 0.1},
    ],
)
def test_a_healthy_training_raises_no_alarm(seen: dict[str, Any]) -> None:
    assert raised(NETWORK, {}, seen) == ()


def test_several_alarms_are_raised_at_once() -> None:
    assert len(raised(NETWORK, {}, {**WON, "divergence": ASLEEP, "repeats": 1.0})) == 3


def test_during_the_warm_up_a_collapse_has_no_remedy() -> None:
    (alarm,) = raised(NETWORK, {"kl_warm_up": 10.0}, {"divergence": ASLEEP}, weight=0.4)
    assert alarm.endswith("of the code are active")


def test_similar_samples_of_a_vae_raise_no_alarm() -> None:
    missing = dict.fromkeys(WON)
    assert raised(replace(NETWORK, parts="vae"), {}, {**missing, "repeats": 1.0}) == ()


def test_dimensions_are_active_above_a_hundredth_of_a_nat() -> None:
    assert active_dimensions((0.011, 0.009, 3.0, 0.0)) == 2
    assert active_dimensions(()) is None


# Samples that repeat


def noise(number: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (number, 2, 8, 8)).astype(np.float32)


def test_copies_of_one_image_repeat() -> None:
    assert repeat_share(np.repeat(noise(1, 0), 50, axis=0), noise(50, 1)) == 1


def test_five_images_with_a_little_noise_repeat() -> None:
    drawn = noise(5, 0)[np.arange(50) % 5] + 0.02 * noise(50, 2)
    assert repeat_share(drawn, noise(50, 1)) == 1
    # Now every second image is new.
    drawn[::2] = noise(25, 3)
    assert repeat_share(drawn, noise(50, 1)) == 0.5


def test_real_images_do_not_repeat() -> None:
    images = IMAGES.images.astype(np.float32)
    assert repeat_share(images[::2], images[1::2]) == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_order_and_unit_of_images_do_not_matter(seed: int, unit: float) -> None:
    drawn = noise(4, seed)[np.arange(20) % 4] + np.linspace(0, 0.5, 20)[:, None, None, None]
    real = noise(20, seed + 1)
    found = repeat_share(drawn, real)
    order = np.random.default_rng(seed).permutation(20)
    assert repeat_share(drawn[order], real[order[::-1]]) == found
    assert repeat_share(unit * drawn, unit * real) == found


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_images_give_nan(number: int) -> None:
    assert np.isnan(repeat_share(noise(number, 0), noise(number, 1)))


# The evaluation at the end of an epoch


def a_model(scale: Normalisation, network: VaeGan = TINY_NETWORK) -> VaeGanModel:
    torch.manual_seed(0)
    return VaeGanModel(network, build(network, 2, SIZE), ("a", "b"), scale, SIZE, "float32")


def test_bands_have_equal_weight_whatever_their_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples differ only in the second band, which has small values."""
    rng = np.random.default_rng(0)
    real, drawn = rng.uniform(-1, 1, (2, 20, 2, SIZE, SIZE)).astype(np.float32)
    drawn[:, 0] = 0
    for images in (real, drawn):
        images[:, 0] *= 1e6
    model = a_model(Normalisation((0.0, 0.0), (1e6, 1.0)))
    monkeypatch.setattr(VaeGanModel, "sample", lambda *anything: drawn)
    evaluator = Evaluator(real, real, None, 0)
    assert repeat_share(drawn, real) == 1
    assert evaluator.evaluate(model).repeats == 0


@pytest.mark.parametrize("held_out", [0, 1, 2, 8])
def test_gaps_and_few_held_out_images_are_evaluated(held_out: int) -> None:
    images = IMAGES.images[:20].astype(np.float32)
    images[::2, :, :5] = np.nan
    images[1, 0, 3, 3] = np.inf
    model = a_model(Normalisation((100.0, 100.0), (60.0, 60.0)))
    evaluator = Evaluator(images[:held_out], images, None, 0)
    found = evaluator.evaluate(model)
    assert found.repeats == 1  # the decoder is not trained
    for error in (found.pixel_error, found.feature_error):
        assert (error is None) == (held_out < 2)
    drawn = evaluator.grids(model)
    assert set(drawn) == ({"samples", "reconstructions"} if held_out else {"samples"})
    assert all(grid.dtype == np.uint8 and grid.shape[2] == 3 for grid in drawn.values())


def test_an_evaluation_does_not_change_the_networks() -> None:
    model = a_model(Normalisation((100.0, 100.0), (60.0, 60.0)))
    model.networks.train()
    model.networks.discriminator.eval()
    before = {name: t.clone() for name, t in model.networks.state_dict().items()}
    modes = [module.training for module in model.networks.modules()]
    Evaluator(IMAGES.images[:9], IMAGES.images, None, 0).evaluate(model)
    assert [module.training for module in model.networks.modules()] == modes
    for name, tensor in model.networks.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_grid_has_images_above_their_reconstructions() -> None:
    assert interleaved(3, np.arange(5), -np.arange(5)).tolist() == [
        0,
        1,
        2,
        0,
        -1,
        -2,
        3,
        4,
        -3,
        -4,
    ]
    assert len(evenly_spaced(np.arange(5000))) == 1024
    assert evenly_spaced(np.arange(5000))[[0, -1]].tolist() == [0, 4999]


# Trainings with problems


@pytest.fixture(scope="module")
def group() -> Iterator[ProcessGroup]:
    with open_process_group(CPU, lambda world: None) as alone:  # type: ignore[arg-type, return-value]
        yield alone


def train_on_noise(learner: VaeGanLearner, steps: int) -> Means:
    """The means of the last ten steps on independent random images."""
    learner.train()
    rng = torch.Generator().manual_seed(0)
    tally = VaeGanTally()
    for number in range(steps):
        if number == steps - 10:
            tally = VaeGanTally()
        images = torch.rand(16, 2, SIZE, SIZE, generator=rng).mul(2).sub(1).sign()
        part = Part(images, torch.zeros(16), 1.0)
        learner.step(number, Step(0, None, iter([part])), 1.0, tally.add)
    return means(tally.tensors(), learner.network)


def test_the_posterior_of_a_vae_on_noise_collapses(group: ProcessGroup) -> None:
    network = replace(TINY_NETWORK, parts="vae")
    recipe = replace(TINY_RECIPE, learning_rate=3e-3, optimiser="adam")
    learner = VaeGanLearner(network, recipe, 2, SIZE, group)
    assert active_dimensions(train_on_noise(learner, 10).divergence) == 4
    found = train_on_noise(learner, 100)
    assert active_dimensions(found.divergence) == 0
    (alarm,) = alarms(network, recipe, found, Evaluation(), 1.0)
    assert "0 of 4 dimensions" in alarm


def test_a_discriminator_wins_against_a_fixed_decoder(group: ProcessGroup) -> None:
    network = replace(TINY_NETWORK, parts="gan", spectral=True)
    learner = VaeGanLearner(network, TINY_RECIPE, 2, SIZE, group)
    learner.optimisers["decoder"].param_groups[0]["lr"] = 0.0
    found = train_on_noise(learner, 60)
    (alarm,) = alarms(network, TINY_RECIPE, found, Evaluation(), 1.0)
    assert alarm.startswith("the discriminator wins")
    assert found.right_of_reconstructed is None
    assert found.divergence == ()
