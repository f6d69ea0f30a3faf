"""Training steps of generative networks, in one process or in several that share each batch.

The losses are those of Larsen et al. 2016 (arXiv:1512.09300), section 3, one value per image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from outcrop.errors import OutcropError
from outcrop.generative.metrics import PartResult
from outcrop.generative.networks import Decoder, Networks, build
from outcrop.generative.settings import VaeGan, VaeGanRecipe
from outcrop.training.batches import Part, Step, generator
from outcrop.training.checkpoint import Checkpoint
from outcrop.training.device import compiles, kept_graphs
from outcrop.training.parallel.process_group import ProcessGroup, RunningStatistics

Gradients = dict[str, list[Tensor]]


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of an image's code from the prior, by dimension (eq. 4).

    Kingma and Welling 2014 (arXiv:1312.6114), appendix B, for normal distributions.

    Args:
        mean, log_variance: `N × latent`.

    Returns:
        float32, `N × latent`, in nats; the divergence is their sum over dimensions.

    >>> kl_divergence(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([[0., 0.]])
    """
    mean, log_variance = mean.float(), log_variance.float()
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def reconstruction_loss(features: Tensor, reconstructed: Tensor) -> Tensor:
    """Minus the log-likelihood of features under a Gaussian around those of the reconstruction.

    Equation 7 with unit covariance, without the constant. The features are those of a layer of the
    discriminator, or pixels, which gives the loss of a plain VAE (eq. 3).

    Args:
        features, reconstructed: `N × ...`.

    Returns:
        float32, `N`: half the squared distance.
    """
    return (features.float() - reconstructed.float()).square().flatten(1).sum(dim=1) / 2


def discriminator_loss(real: bool, logits: Tensor) -> Tensor:
    """Cross-entropy of the discriminator's logits for images that are all real or all generated.

    The terms of eq. 8 with opposite sign: -log Dis(x), or -log(1 - Dis(x)).
    """
    logits = logits.float()
    return F.softplus(-logits if real else logits)


def generator_loss(logits: Tensor, kind: Literal["minimax", "non-saturating"]) -> Tensor:
    """The decoder's loss from the discriminator's logits for its images.

    "minimax": log(1 - Dis(x)), minus the loss of the discriminator, as in algorithm 1.
    "non-saturating": -log Dis(x).
    """
    if kind == "non-saturating":
        return discriminator_loss(True, logits)
    return -discriminator_loss(False, logits)


class VaeGanLearner:
    """Encoder, decoder and discriminator with one optimiser each.

    Each process takes some parts of a batch. Gradients and the statistics of batch normalisation
    are summed over the processes, so that the networks of all processes stay equal. Up to rounding,
    one process that takes all parts one after the other gives the same result.

    Attributes:
        networks: the networks with their weights.
        average: moving average of the decoder; None without one.
        parts: number of parts of a batch.
    """

    def __init__(
        self,
        network: VaeGan,
        recipe: VaeGanRecipe,
        bands: int,
        size: int,
        group: ProcessGroup,
        similarity: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Initialise networks and optimisers for images of `size` pixels.

        Args:
            similarity: weights of a trained discriminator whose features the reconstruction loss
                uses.
        """
        self.network, self.recipe, self.group = network, recipe, group
        self.gamma = recipe.gamma_for(network, size)
        self.parts = recipe.machine.accumulate * group.world
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.networks = build(network, bands, size)
        if similarity is not None and self.networks.discriminator is not None:
            self.networks.discriminator.load_state_dict(dict(similarity))
        if self.networks.discriminator is not None and not network.adversarial:
            self.networks.discriminator.requires_grad_(False)
        self.networks.to(group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = average_of(self.networks.decoder, recipe.average) if recipe.average else None
        self._compiled = compiles(recipe.machine.compile, group.device)
        self._run = {
            name: torch.compile(module, options={"deterministic": True})
            if self._compiled
            else module
            for name, module in self.networks.named_children()
        }
        self.optimisers = {
            name: self._optimiser(list(module.parameters()))
            for name, module in self.networks.named_children()
            if name != "discriminator" or network.adversarial
        }
        self._norms = [
            module
            for module in (self.networks.discriminator or nn.Module()).modules()
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        ]
        trained = nn.ModuleList(getattr(self.networks, name) for name in self.optimisers)
        self._spectral = [m for m in trained.modules() if isinstance(m, ParametrizationList)]
        if group.world > 1:
            self._statistics = RunningStatistics(trained, group)

    @property
    def saved(self) -> Networks:
        """The networks that are evaluated and saved: with the average of the decoder, if any."""
        if self.average is None:
            return self.networks
        decoder = cast(Decoder, self.average.module)
        return Networks(decoder, self.networks.encoder, self.networks.discriminator)

    def check_parts(self, images: int) -> None:
        """Check that the parts of a batch of so many training images are large enough.

        Raises:
            OutcropError: a part is too small for batch normalisation.
        """
        smallest = images // math.ceil(images / self.recipe.batch) if images else 0
        if smallest // self.parts < 2:
            raise OutcropError(
                "batch",
                f"{smallest} patches in {self.parts} parts are too few for batch normalisation; "
                "take a larger batch, more patches, fewer devices, or a smaller accumulate",
            )

    def train(self) -> None:
        """Set the networks to training mode."""
        self.networks.train()
        if not self.network.adversarial and self.networks.discriminator is not None:
            self.networks.discriminator.eval()
        for weight in self._spectral:
            weight.eval()

    def step(
        self, epoch: int, step: Step, prior_weight: float, report: Callable[[PartResult], None]
    ) -> None:
        """One step of all optimisers, with the parts of this process.

        Args:
            epoch: its number, for the random codes.
            prior_weight: see `VaeGanRecipe.kl_warm_up`.
            report: gets the result of each part.
        """
        self._power_iteration()
        whole: Gradients = {}
        right = torch.zeros((), device=self.group.device)
        for k, part in enumerate(step.parts):
            number = self.group.rank + k * self.group.world
            rng = generator(self.group.device, self.recipe.seed, epoch, step.number, number, 1)
            with kept_graphs(self._compiled):
                gradients, result = self._differentiate(part, rng, prior_weight)
            for name, its in gradients.items():
                torch._foreach_mul_(its, part.share)
                if name in whole:
                    torch._foreach_add_(whole[name], its)
                else:
                    whole[name] = its
            right += result.right * part.share
            report(result)
        if self.group.world > 1:
            every = [tensor for its in whole.values() for tensor in its]
            self.group.all_reduce([*every, right])
            self._statistics.share()
        pauses = bool(self.recipe.balance) and float(right) > self.recipe.balance
        for name, optimiser in self.optimisers.items():
            if not (pauses and name == "discriminator"):
                for parameter, gradient in zip(_parameters(optimiser), whole[name], strict=True):
                    parameter.grad = gradient
                optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.networks.decoder)

    def _power_iteration(self) -> None:
        """One power iteration for each spectrally normalised weight.

        It precedes the step, so that all parts and processes use the same weights.
        """
        with torch.no_grad():
            for weight in self._spectral:
                weight.train()()
                weight.eval()

    def _differentiate(
        self, part: Part, rng: torch.Generator, prior_weight: float
    ) -> tuple[Gradients, PartResult]:
        """The gradients of one part by network, as in algorithm 1, and the result.

        The encoder gets gradients of prior and reconstruction, the decoder of gamma times
        reconstruction and of the GAN loss, the discriminator of the GAN loss alone.
        """
        images = part.images.clamp(-1, 1).contiguous(memory_format=torch.channels_last)
        n, latent, device = len(images), self.network.latent, self.group.device
        noise, drawn = torch.randn(2, n, latent, generator=rng, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.group.mixed):
            codes = []
            if self.network.has_encoder:
                mean, log_variance = self._run["encoder"](images)
                divergence = kl_divergence(mean, log_variance)
                codes.append(mean.float() + (log_variance.float() / 2).exp() * noise)
            if self.network.adversarial:
                codes.append(drawn)
            generated = self._run["decoder"](torch.cat(codes))
            if self.network.has_discriminator:
                features, logits = self._discriminate(images, generated)
        result = PartResult(n)
        losses: dict[str, Tensor] = {}
        if self.network.has_encoder:
            each = (
                reconstruction_loss(features[0], features[1])
                if self.network.has_discriminator
                else reconstruction_loss(images, generated[:n])
            )
            reconstruction, divergences = each.mean(), divergence.sum(dim=1).mean()
            losses["encoder"] = prior_weight * divergences + reconstruction
            losses["decoder"] = (self.gamma if self.network.adversarial else 1.0) * reconstruction
            result = replace(
                result, divergence=divergence.detach().mean(dim=0), likeness=reconstruction.detach()
            )
        if self.network.adversarial:
            real, *others = logits
            losses["discriminator"] = sum(
                (discriminator_loss(False, some).mean() for some in others),
                discriminator_loss(True, real).mean(),
            )
            adversarial = torch.stack(
                [generator_loss(some, self.recipe.decoder_loss).mean() for some in others]
            )
            losses["decoder"] = losses.get("decoder", 0) + adversarial.sum()
            result = result.with_logits(
                losses["discriminator"].detach(), adversarial.sum().detach(), real, others
            )
        return self._gradients(losses), result

    def _discriminate(self, images: Tensor, generated: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features and logits of real images, and then of each kind of generated ones.

        Each kind is normalised separately. In one batch the features of an image would depend on
        the quality of the generated ones. The running statistics are those of the real images.
        """
        found = [self._run["discriminator"](images)]
        with unmoved(self._norms):
            found += [
                self._run["discriminator"](some)
                for some in generated.to(images.dtype).split(len(images))
            ]
        return [features for features, _ in found], [logits for _, logits in found]

    def _gradients(self, losses: Mapping[str, Tensor]) -> Gradients:
        last = list(self.optimisers)[-1]
        found: Gradients = {}
        for name, optimiser in self.optimisers.items():
            weights, more = _parameters(optimiser), name != last
            found[name] = list(torch.autograd.grad(losses[name], weights, retain_graph=more))
        return found

    def _optimiser(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        rate = self.recipe.learning_rate
        if self.recipe.optimiser == "adam":
            return torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999), foreach=True)
        return torch.optim.RMSprop(parameters, lr=rate, alpha=0.9, foreach=True)

    def state(self) -> dict[str, Tensor]:
        """All tensors that change in training, by name."""
        modules = {"networks": self.networks} | ({"average": self.average} if self.average else {})
        found = {
            f"{prefix}.{name}": tensor
            for prefix, module in modules.items()
            for name, tensor in module.state_dict().items()
        }
        for name, optimiser in self.optimisers.items():
            for k, parameter in enumerate(_parameters(optimiser)):
                for key, tensor in optimiser.state[parameter].items():
                    found[f"optimiser.{name}.{k}.{key}"] = tensor
        return found

    def restore(self, begun: Checkpoint) -> None:
        """Continue from a checkpoint of `state`.

        Raises:
            RuntimeError, KeyError: the checkpoint is of another network.
        """
        self.networks.load_state_dict(begun.below("networks"))
        if self.average is not None:
            self.average.load_state_dict(begun.below("average"))
        for name, optimiser in self.optimisers.items():
            for k, parameter in enumerate(_parameters(optimiser)):
                # torch counts the steps on the CPU.
                optimiser.state[parameter] = {
                    key: tensor if key == "step" else torch.empty_like(parameter).copy_(tensor)
                    for key, tensor in begun.below(f"optimiser.{name}.{k}").items()
                }


@contextmanager
def unmoved(norms: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]) -> Iterator[None]:
    """Keep running statistics unchanged while the block runs."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return optimiser.param_groups[0]["params"]


def average_of(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and of the statistics of batch normalisation.

    Args:
        network: the network that `update_parameters` gets after every step.
        decay: final decay per step, 0 to 1; see `decay_at`.
    """
    return AveragedModel(network, multi_avg_fn=partial(_add_to_average, decay), use_buffers=True)


def decay_at(step: int, decay: float) -> float:
    """The decay in a step, counted from 0: small at first, so that initial weights are forgotten.

    The rule of `num_updates` in TensorFlow's `tf.train.ExponentialMovingAverage`.

    >>> [round(decay_at(step, 0.999), 3) for step in (0, 10, 100, 10_000)]
    [0.1, 0.55, 0.918, 0.999]
    """
    return min(decay, (1 + step) / (10 + step))


def _add_to_average(
    decay: float, averages: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int
) -> None:
    """Update the averages in place after one more step."""
    update = get_ema_multi_avg_fn(decay_at(int(steps), decay))
    update(cast(list[Tensor], averages), cast(list[Tensor], weights), steps)
