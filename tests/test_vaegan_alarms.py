"""Alarms: each where it has to be raised, none where not, and no advice that is followed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.generative.autoencoder import build
from outcrop.generative.metrics import Looked, alarms, awake
from outcrop.generative.model import VaeGanModel
from outcrop.generative.network import VaeGan
from outcrop.generative.recipe import VaeGanRecipe
from outcrop.generative.training.learner import VaeGanLearner
from outcrop.generative.training.look import Looker, beneath, evenly, repeats
from outcrop.generative.training.tally import Means, VaeGanTally, means
from outcrop.training.batches import Part, Step
from outcrop.training.normalise import Normalisation
from outcrop.training.parallel import ProcessGroup
from outcrop.training.parallel.process_group import open_process_group
from tests.tiny_pictures import CPU, PICTURE_NETWORK, PICTURE_RECIPE, PICTURES, SIZE

# When an alarm is raised, and what it advises

WON = {"right_of_real": 0.99, "right_of_reconstructed": 0.995, "right_of_sampled": 1.0}
HEALTHY = Means(0.5, 0.5, 0.5, 0.6, 0.7, 0.8, divergence=(0.5,) * 100)
ASLEEP = (0.5,) * 4 + (0.001,) * 96
FIRST = VaeGanRecipe(decoder_loss="minimax", balance=0.0)
NETWORK = VaeGan(latent=100)

TABLE: dict[str, tuple[VaeGan, dict[str, Any], dict[str, Any], str]] = {
    "the discriminator wins": (
        NETWORK, {}, WON,
        "the discriminator wins: it is right of 99.0% of the pictures, and the decoder learns "
        "little from it; try --balance 0.8 or --decoder-loss non-saturating or --spectral",
    ),
    "it wins in spite of spectral norms": (
        replace(NETWORK, spectral=True), {}, WON,
        "; try --balance 0.8 or --decoder-loss non-saturating",
    ),
    "it wins in spite of all": (
        replace(NETWORK, spectral=True),
        {"balance": 0.8, "decoder_loss": "non-saturating"},
        WON,
        "; try a smaller --learning-rate",
    ),
    "a GAN's wins without reconstructions": (
        replace(NETWORK, parts="gan"), {"balance": 0.7},
        {**WON, "right_of_reconstructed": None, "divergence": ()},
        "; try --decoder-loss non-saturating or --spectral",
    ),
    "the posterior collapses": (
        NETWORK, {}, {"divergence": ASLEEP},
        "the posterior has collapsed: 4 of 100 dimensions of the code say anything of the picture; "
        "try --kl-warm-up 10 or a smaller --latent",
    ),
    "it collapses in spite of a warm-up": (
        NETWORK, {"kl_warm_up": 3.0}, {"divergence": ASLEEP}, "; try a smaller --latent",
    ),
    "a small code collapses": (
        PICTURE_NETWORK, {"kl_warm_up": 3.0}, {"divergence": (0.001,) * 4},
        "0 of 4 dimensions of the code say anything of the picture; try a smaller --latent",
    ),
    "samples repeat": (
        NETWORK, {}, {"repeats": 0.4},
        "samples repeat: 40% are nearly the same as another; "
        "try --balance 0.8 or --spectral or a smaller --learning-rate",
    ),
    "they repeat in spite of all": (
        replace(NETWORK, spectral=True), {"balance": 0.8}, {"repeats": 0.4},
        "nearly the same as another; try a smaller --learning-rate",
    ),
}  # fmt: skip


def raised(
    network: VaeGan, recipe: dict[str, Any], seen: dict[str, Any], weight: float = 1.0
) -> tuple[str, ...]:
    looked = Looked(repeats=seen.get("repeats"))
    found = replace(HEALTHY, **{k: value for k, value in seen.items() if k != "repeats"})
    return alarms(network, replace(FIRST, **recipe), found, looked, weight)


@pytest.mark.parametrize("case", TABLE)
def test_an_alarm_says_what_is_wrong_and_what_is_not_tried_yet(case: str) -> None:
    network, recipe, seen, line = TABLE[case]
    (alarm,) = raised(network, recipe, seen)
    assert alarm.endswith(line)


@pytest.mark.parametrize(
    "seen",
    [
        {},
        # Who says "real" of everything, or "made" of everything, does not win.
        {"right_of_real": 1.0, "right_of_reconstructed": 0.0, "right_of_sampled": 0.0},
        {"right_of_real": 0.0, "right_of_reconstructed": 1.0, "right_of_sampled": 1.0},
        {"divergence": (0.5,) * 5 + (0.0,) * 95},
        {"repeats": 0.1},
    ],
)
def test_there_is_no_alarm_where_all_is_well(seen: dict[str, Any]) -> None:
    assert raised(NETWORK, {}, seen) == ()


def test_several_alarms_are_raised_at_once() -> None:
    assert len(raised(NETWORK, {}, {**WON, "divergence": ASLEEP, "repeats": 1.0})) == 3


def test_during_the_warm_up_a_collapse_needs_no_advice() -> None:
    (alarm,) = raised(NETWORK, {"kl_warm_up": 10.0}, {"divergence": ASLEEP}, weight=0.4)
    assert alarm.endswith("say anything of the picture")


def test_samples_of_a_vae_may_be_alike() -> None:
    nobody = dict.fromkeys(WON)
    assert raised(replace(NETWORK, parts="vae"), {}, {**nobody, "repeats": 1.0}) == ()


def test_dimensions_are_awake_above_a_hundredth_of_a_nat() -> None:
    assert awake((0.011, 0.009, 3.0, 0.0)) == 2
    assert awake(()) is None


# Samples that repeat


def noise(number: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (number, 2, 8, 8)).astype(np.float32)


def test_one_picture_drawn_again_and_again_repeats() -> None:
    assert repeats(np.repeat(noise(1, 0), 50, axis=0), noise(50, 1)) == 1


def test_five_pictures_with_a_little_noise_repeat() -> None:
    drawn = noise(5, 0)[np.arange(50) % 5] + 0.02 * noise(50, 2)
    assert repeats(drawn, noise(50, 1)) == 1
    # Every second one is new.
    drawn[::2] = noise(25, 3)
    assert repeats(drawn, noise(50, 1)) == 0.5


def test_real_pictures_do_not_repeat() -> None:
    images = PICTURES.images.astype(np.float32)
    assert repeats(images[::2], images[1::2]) == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_order_and_unit_of_pictures_do_not_matter(seed: int, unit: float) -> None:
    drawn = noise(4, seed)[np.arange(20) % 4] + np.linspace(0, 0.5, 20)[:, None, None, None]
    real = noise(20, seed + 1)
    found = repeats(drawn, real)
    order = np.random.default_rng(seed).permutation(20)
    assert repeats(drawn[order], real[order[::-1]]) == found
    assert repeats(unit * drawn, unit * real) == found


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_pictures_tell_nothing(number: int) -> None:
    assert np.isnan(repeats(noise(number, 0), noise(number, 1)))


# The look at the end of an epoch


def a_model(scale: Normalisation, network: VaeGan = PICTURE_NETWORK) -> VaeGanModel:
    torch.manual_seed(0)
    return VaeGanModel(network, build(network, 2, SIZE), ("a", "b"), scale, SIZE, "float32")


def test_bands_count_alike_whatever_their_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that differ in the second band alone, whose numbers are small, do differ."""
    random = np.random.default_rng(0)
    real, drawn = random.uniform(-1, 1, (2, 20, 2, SIZE, SIZE)).astype(np.float32)
    drawn[:, 0] = 0
    for images in (real, drawn):
        images[:, 0] *= 1e6
    model = a_model(Normalisation((0.0, 0.0), (1e6, 1.0)))
    monkeypatch.setattr(VaeGanModel, "sample", lambda *anything: drawn)
    looker = Looker(real, real, None, 0)
    assert repeats(drawn, real) == 1
    assert looker.look(model).repeats == 0


@pytest.mark.parametrize("held_out", [0, 1, 2, 8])
def test_gaps_and_few_held_out_pictures_are_looked_at(held_out: int) -> None:
    images = PICTURES.images[:20].astype(np.float32)
    images[::2, :, :5] = np.nan
    images[1, 0, 3, 3] = np.inf
    model = a_model(Normalisation((100.0, 100.0), (60.0, 60.0)))
    looker = Looker(images[:held_out], images, None, 0)
    found = looker.look(model)
    assert found.repeats == 1  # of a decoder that has learnt nothing
    for error in (found.pixel_error, found.feature_error):
        assert (error is None) == (held_out < 2)
    drawn = looker.grids(model)
    assert set(drawn) == ({"samples", "reconstructions"} if held_out else {"samples"})
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in drawn.values())


def test_looking_leaves_networks_as_they_were() -> None:
    model = a_model(Normalisation((100.0, 100.0), (60.0, 60.0)))
    model.networks.train()
    model.networks.discriminator.eval()
    before = {name: t.clone() for name, t in model.networks.state_dict().items()}
    modes = [module.training for module in model.networks.modules()]
    Looker(PICTURES.images[:9], PICTURES.images, None, 0).look(model)
    assert [module.training for module in model.networks.modules()] == modes
    for name, tensor in model.networks.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_grid_has_pictures_above_their_reconstructions() -> None:
    assert beneath(3, np.arange(5), -np.arange(5)).tolist() == [0, 1, 2, 0, -1, -2, 3, 4, -3, -4]
    assert len(evenly(np.arange(5000))) == 1024
    assert evenly(np.arange(5000))[[0, -1]].tolist() == [0, 4999]


# Trainings that go wrong


@pytest.fixture(scope="module")
def group() -> Iterator[ProcessGroup]:
    with open_process_group(CPU, lambda world: None) as alone:  # type: ignore[arg-type, return-value]
        yield alone


def train_on_noise(learner: VaeGanLearner, steps: int) -> Means:
    """What is told of the last ten steps on pictures of which no two have anything in common."""
    learner.train()
    random = torch.Generator().manual_seed(0)
    tally = VaeGanTally()
    for number in range(steps):
        if number == steps - 10:
            tally = VaeGanTally()
        images = torch.rand(16, 2, SIZE, SIZE, generator=random).mul(2).sub(1).sign()
        part = Part(images, torch.zeros(16), 1.0)
        learner.step(number, Step(0, None, iter([part])), 1.0, tally.add)
    return means(tally.tensors(), learner.network)


def test_a_vae_that_learns_from_noise_falls_asleep(group: ProcessGroup) -> None:
    network = replace(PICTURE_NETWORK, parts="vae")
    recipe = replace(PICTURE_RECIPE, learning_rate=3e-3, optimiser="adam")
    learner = VaeGanLearner(network, recipe, 2, SIZE, group)
    assert awake(train_on_noise(learner, 10).divergence) == 4
    found = train_on_noise(learner, 100)
    assert awake(found.divergence) == 0
    (alarm,) = alarms(network, recipe, found, Looked(), 1.0)
    assert "0 of 4 dimensions" in alarm


def test_a_discriminator_wins_against_a_decoder_that_does_not_learn(group: ProcessGroup) -> None:
    network = replace(PICTURE_NETWORK, parts="gan", spectral=True)
    learner = VaeGanLearner(network, PICTURE_RECIPE, 2, SIZE, group)
    learner.optimisers["decoder"].param_groups[0]["lr"] = 0.0
    found = train_on_noise(learner, 60)
    (alarm,) = alarms(network, PICTURE_RECIPE, found, Looked(), 1.0)
    assert alarm.startswith("the discriminator wins")
    assert found.right_of_reconstructed is None
    assert found.divergence == ()
