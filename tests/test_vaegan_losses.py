"""Losses compared with the distributions of torch, and gradients with algorithm 1."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_divergence
from torch.nn import functional as F
from torch.nn.utils.parametrize import ParametrizationList

from outcrop.generative.learner import (
    VaeGanLearner,
    discriminator_loss,
    generator_loss,
    kl_divergence,
    reconstruction_loss,
)
from outcrop.generative.metrics import PartResult
from outcrop.generative.networks import Networks
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.training.batches import Part, Step, generator
from outcrop.training.parallel.process_group import ProcessGroup, open_process_group
from tests.tiny_generative import CPU, TINY_NETWORK

seeds = st.integers(0, 2**31)
several = settings(deadline=None, max_examples=30)


def normal(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Losses


@several
@given(seeds)
def test_the_divergence_is_that_of_two_normal_distributions(seed: int) -> None:
    mean, log_variance = normal(seed, 5, 3), normal(seed + 1, 5, 3)
    code = Normal(mean, (log_variance / 2).exp())
    expected = torch_divergence(code, Normal(torch.zeros(5, 3), torch.ones(5, 3)))
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected, rtol=1e-4, atol=1e-4)


@several
@given(seeds)
def test_the_reconstruction_loss_is_a_gaussian_log_likelihood(
    seed: int,
) -> None:
    features, around = normal(seed, 4, 2, 3, 3), normal(seed + 1, 4, 2, 3, 3)
    gaussian = Normal(around, torch.ones_like(around))
    density, peak = (
        gaussian.log_prob(values).flatten(1).sum(dim=1) for values in (features, around)
    )
    torch.testing.assert_close(
        reconstruction_loss(features, around), peak - density, rtol=1e-4, atol=1e-4
    )


@several
@given(seeds)
def test_gan_losses_are_binary_cross_entropy(seed: int) -> None:
    logits = normal(seed, 20)
    # In float32 the expression below loses digits for large logits.
    chance = logits.double().sigmoid()
    for real in (True, False):
        expected = F.binary_cross_entropy(
            chance, torch.full_like(chance, float(real)), reduction="none"
        )
        close(discriminator_loss(real, logits), expected)
    close(generator_loss(logits, "minimax"), (1 - chance).log())
    close(generator_loss(logits, "non-saturating"), -chance.log())


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-6)


def test_losses_of_large_logits_are_finite() -> None:
    logits = torch.tensor([-1e4, 1e4])
    for loss in (
        discriminator_loss(True, logits),
        discriminator_loss(False, logits),
        generator_loss(logits, "minimax"),
    ):
        assert loss.isfinite().all()


def test_only_the_non_saturating_loss_has_a_gradient_where_the_discriminator_is_certain() -> None:
    logits = torch.full((1,), -20.0, requires_grad=True)
    slopes = {}
    for kind in ("minimax", "non-saturating"):
        (slope,) = torch.autograd.grad(generator_loss(logits, kind).sum(), logits)
        slopes[kind] = slope.item()
    assert slopes == pytest.approx({"minimax": 0, "non-saturating": -1}, abs=1e-6)


# Gradients

BANDS, SIZE, N, SEED = 2, 32, 6, 3
RECIPE = VaeGanRecipe(
    decoder_loss="minimax", balance=0.0, gamma=0.3, learning_rate=1e-30, seed=SEED, machine=CPU
)
WEIGHT = 0.7  # of the prior
Gradients = dict[str, list[Tensor]]


@pytest.fixture(scope="module")
def group() -> Iterator[ProcessGroup]:
    with open_process_group(CPU, lambda world: None) as alone:  # type: ignore[arg-type, return-value]
        yield alone


def some_images() -> Tensor:
    # Values beyond -1 to 1 are clipped.
    return normal(7, N, BANDS, SIZE, SIZE) / 4


def a_step(*images: Tensor) -> Step:
    number = sum(map(len, images))
    parts = (Part(some, torch.zeros(len(some)), len(some) / number) for some in images)
    return Step(5, None, parts)


def learner_of(
    group: ProcessGroup, network: VaeGan, recipe: VaeGanRecipe = RECIPE
) -> VaeGanLearner:
    begun = VaeGanLearner(network, recipe, BANDS, SIZE, group)
    # With the first weights all verdicts and features are nearly the same.
    torch.manual_seed(1)
    for parameter in begun.networks.parameters():
        nn.init.normal_(parameter, std=0.2)
    begun.train()
    return begun


def gradients_of(
    group: ProcessGroup, network: VaeGan, weight: float = WEIGHT, **changes: Any
) -> tuple[Gradients, PartResult]:
    """The gradients that the learner gives to its optimisers in one step, and its result."""
    learner = learner_of(group, network, replace(RECIPE, **changes))
    results: list[PartResult] = []
    learner.step(2, a_step(some_images()), weight, results.append)
    return {
        name: [p.grad for p in module.parameters() if p.grad is not None]
        for name, module in learner.networks.named_children()
    }, results[0]


def by_algorithm_1(
    networks: Networks, network: VaeGan, weight: float, recipe: VaeGanRecipe
) -> Gradients:
    """One backward pass for each network, with the other networks fixed."""
    real = some_images().clamp(-1, 1)
    random = generator(torch.device("cpu"), SEED, 2, 5, 0, 1)
    noise, drawn = torch.randn(2, N, network.latent, generator=random)
    chance: Callable[[Tensor], Tensor] = torch.sigmoid
    found: Gradients = {}

    def passed(trained: str) -> dict[str, Any]:
        """All values of a pass in which one network is trained."""
        copy = deepcopy(networks)
        for name, module in copy.named_children():
            module.requires_grad_(name == trained)
        its: dict[str, Any] = {"weights": list(getattr(copy, trained).parameters())}
        made = []
        if copy.encoder is not None:
            mean, log_variance = copy.encoder(real)
            code = Normal(mean, (log_variance / 2).exp())
            its["prior"] = torch_divergence(code, Normal(0.0, 1.0)).sum(dim=1).mean()
            made.append(mean + (log_variance / 2).exp() * noise)
        if network.adversarial:
            made.append(drawn)
        shown = copy.decoder(torch.cat(made)).split(N)
        its["reconstruction"] = its["gan"] = its["adversarial"] = torch.zeros(())
        if copy.discriminator is None:
            its["reconstruction"] = (real - shown[0]).square().sum(dim=(1, 2, 3)).mean() / 2
            return its
        features, logits = copy.discriminator(real)
        judged = [copy.discriminator(some) for some in shown]
        if copy.encoder is not None:
            its["reconstruction"] = (features - judged[0][0]).square().sum(dim=1).mean() / 2
        if network.adversarial:
            its["gan"] = chance(logits).log().mean() + sum(
                (1 - chance(some)).log().mean() for _, some in judged
            )
            its["adversarial"] = -sum(chance(some).log().mean() for _, some in judged)
        return its

    def differentiate(name: str, loss: Callable[[dict[str, Any]], Tensor]) -> None:
        its = passed(name)
        loss(its).backward()
        found[name] = [parameter.grad for parameter in its["weights"]]

    if networks.encoder is not None:
        differentiate("encoder", lambda its: weight * its["prior"] + its["reconstruction"])
    non_saturating = recipe.decoder_loss == "non-saturating"
    gamma = recipe.gamma_for(network, 32) if network.adversarial else 1.0
    differentiate(
        "decoder",
        lambda its: gamma * its["reconstruction"] + its["adversarial" if non_saturating else "gan"],
    )
    if network.adversarial:
        differentiate("discriminator", lambda its: -its["gan"])
    return found


KINDS = {
    "vaegan": TINY_NETWORK,
    "spectral": replace(TINY_NETWORK, spectral=True),
    "vae": replace(TINY_NETWORK, parts="vae"),
    "gan": replace(TINY_NETWORK, parts="gan"),
    "vae-dis": replace(TINY_NETWORK, parts="vae-dis"),
}


@pytest.mark.parametrize("decoder_loss", ["minimax", "non-saturating"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_algorithm_1(
    group: ProcessGroup, kind: str, decoder_loss: str
) -> None:
    network, recipe = KINDS[kind], replace(RECIPE, decoder_loss=decoder_loss)
    networks = learner_of(group, network).networks
    if network.spectral:
        # One power iteration precedes the step; all passes then use the same weights.
        with torch.no_grad():
            for module in networks.discriminator.modules():
                if isinstance(module, ParametrizationList):
                    module.train()()
                    module.eval()
    expected = by_algorithm_1(networks, network, WEIGHT, recipe)
    found, _ = gradients_of(group, network, decoder_loss=decoder_loss)
    assert {name for name, its in found.items() if its} == expected.keys()
    for name, its in expected.items():
        assert len(found[name]) == len(its)
        scale = max(gradient.abs().max().item() for gradient in its)
        assert scale > 0
        for one, other in zip(found[name], its, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("change", "reached"),
    [
        ({"weight": 0.1}, {"encoder"}),
        ({"gamma": 0.1}, {"decoder"}),
        ({"decoder_loss": "non-saturating"}, {"decoder"}),
    ],
)
def test_each_setting_changes_only_its_network(
    group: ProcessGroup, change: dict[str, Any], reached: set[str]
) -> None:
    before, _ = gradients_of(group, TINY_NETWORK)
    after, _ = gradients_of(group, TINY_NETWORK, **change)
    changed = {
        name
        for name in before
        if any(not torch.equal(*pair) for pair in zip(before[name], after[name], strict=True))
    }
    assert changed == reached


def test_the_decoder_of_a_plain_vae_has_no_gamma(group: ProcessGroup) -> None:
    one, other = (gradients_of(group, KINDS["vae"], gamma=gamma)[0] for gamma in (0.3, 9.0))
    assert all(torch.equal(*pair) for pair in zip(one["decoder"], other["decoder"], strict=True))


def test_gradients_of_parts_are_averaged_by_size(group: ProcessGroup) -> None:
    """A part of four images counts twice as much as one of two."""
    network = KINDS["vaegan"]
    four, two = some_images().split([4, 2])
    learner = learner_of(group, network)
    results: list[PartResult] = []
    learner.step(2, a_step(four, two), WEIGHT, results.append)
    assert [one.number for one in results] == [4, 2]
    alone = []
    for k, images in enumerate((four, two)):
        other = learner_of(group, network)
        # Random codes depend on the number of the part.
        random = generator(torch.device("cpu"), SEED, 2, 5, k, 1)
        alone.append(other._differentiate(Part(images, None, 1.0), random, WEIGHT)[0])
    for name, its in alone[0].items():
        module = getattr(learner.networks, name)
        for parameter, one, second in zip(module.parameters(), its, alone[1][name], strict=True):
            expected = (4 * one + 2 * second) / 6
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


def test_the_result_has_the_losses_and_the_accuracy_of_the_discriminator(
    group: ProcessGroup,
) -> None:
    learner = learner_of(group, TINY_NETWORK)
    copy = deepcopy(learner.networks)
    results: list[PartResult] = []
    learner.step(2, a_step(some_images()), WEIGHT, results.append)
    real = some_images().clamp(-1, 1)
    random = generator(torch.device("cpu"), SEED, 2, 5, 0, 1)
    noise, drawn = torch.randn(2, N, 4, generator=random)
    mean, log_variance = copy.encoder(real)
    code = Normal(mean, (log_variance / 2).exp())
    again, sampled = copy.decoder(torch.cat([code.mean + code.stddev * noise, drawn])).split(N)
    (features, logits), (its, others), (_, thirds) = map(copy.discriminator, (real, again, sampled))
    divergence = torch_divergence(code, Normal(0.0, 1.0)).mean(dim=0)
    torch.testing.assert_close(results[0].divergence, divergence, rtol=1e-3, atol=1e-5)
    expected = {
        "likeness": (features - its).square().sum(dim=1).mean() / 2,
        "discriminator": F.softplus(-logits).mean()
        + F.softplus(others).mean()
        + F.softplus(thirds).mean(),
        "decoder": -F.softplus(others).mean() - F.softplus(thirds).mean(),
        "right_of_real": (logits > 0).float().mean(),
        "right_of_reconstructed": (others <= 0).float().mean(),
        "right_of_sampled": (thirds <= 0).float().mean(),
    }
    for name, value in expected.items():
        assert getattr(results[0], name).item() == pytest.approx(value.item(), rel=1e-3), name
    made = (expected["right_of_reconstructed"] + expected["right_of_sampled"]) / 2
    assert float(results[0].right) == pytest.approx((expected["right_of_real"] + made).item() / 2)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_the_discriminator_is_not_updated_above_the_balance(
    group: ProcessGroup, balance: float
) -> None:
    learner = learner_of(group, KINDS["gan"], replace(RECIPE, learning_rate=1e-3, balance=balance))
    results: list[PartResult] = []
    paused = []
    for number in range(12):
        before = learner.networks.discriminator.verdict.weight.detach().clone()
        learner.step(number, a_step(some_images()), 1.0, results.append)
        paused.append(torch.equal(before, learner.networks.discriminator.verdict.weight))
    assert paused == [bool(balance) and float(one.right) > balance for one in results]
    assert any(paused) == (balance == 0.5)
    assert not all(paused)
