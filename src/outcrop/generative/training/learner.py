"""Networks that learn pictures, alone or as one of several copies that share out each batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from outcrop.errors import OutcropError
from outcrop.generative.autoencoder import Decoder, PictureNetworks, build
from outcrop.generative.network import VaeGan
from outcrop.generative.recipe import VaeGanRecipe
from outcrop.generative.training.losses import fooled, judged_as, likeness, prior
from outcrop.generative.training.tally import Seen
from outcrop.training.batches import Part, Step, generator
from outcrop.training.checkpoint import Checkpoint
from outcrop.training.device import compiles, kept_graphs
from outcrop.training.parallel import ProcessGroup
from outcrop.training.parallel.process_group import RunningStatistics

Gradients = dict[str, list[Tensor]]


class VaeGanLearner:
    """Encoder, decoder and discriminator with an optimiser each.

    The parts of a batch are dealt out to the processes. After each step the copies are the same
    again: gradients are summed over the processes, and the running statistics of batch
    normalisation are combined. Up to rounding, this is what one process computes that takes the
    same parts in turn.

    Attributes:
        networks: with their weights.
        average: of the decoder, if there is one.
        parts: how many a batch is cut into.
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
        """Begin.

        Args:
            similarity: weights of the discriminator whose features are compared, if it was trained
                before.
        """
        self.network, self.recipe, self.group = network, recipe, group
        self.bands, self.size = bands, size
        self.gamma = recipe.gamma_for(network, size)
        self.parts = recipe.machine.accumulate * group.world
        self.networks = self.plain()
        if similarity is not None and self.networks.discriminator is not None:
            self.networks.discriminator.load_state_dict(dict(similarity))
        if self.networks.discriminator is not None and not network.plays:
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
        self.optimisers = {name: self._optimiser(learns) for name, learns in self._learning()}
        self._norms = [
            module
            for module in (self.networks.discriminator or nn.Module()).modules()
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        ]
        learning = nn.ModuleList(getattr(self.networks, name) for name in self.optimisers)
        self._spectral = [m for m in learning.modules() if isinstance(m, ParametrizationList)]
        if group.world > 1:
            self._statistics = RunningStatistics(learning, group)

    def plain(self) -> PictureNetworks:
        """The networks with their first weights, on the CPU."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            return build(self.network, self.bands, self.size)

    @property
    def kept(self) -> PictureNetworks:
        """The networks as they are looked at and kept: with the average of the decoder, if any."""
        if self.average is None:
            return self.networks
        decoder = cast(Decoder, self.average.module)
        return PictureNetworks(decoder, self.networks.encoder, self.networks.discriminator)

    def check_parts(self, pictures: int) -> None:
        """Refuse batches of so many training pictures that cannot be cut into all parts.

        Raises:
            OutcropError: a part would be too small to normalise by.
        """
        smallest = pictures // math.ceil(pictures / self.recipe.batch) if pictures else 0
        if smallest // self.parts < 2:
            raise OutcropError(
                "batch",
                f"{smallest} patches in {self.parts} parts are too few to normalise by; take a "
                "larger batch or more patches, or less of devices and accumulate",
            )

    def train(self) -> None:
        """Make ready for steps."""
        self.networks.train()
        if not self.network.plays and self.networks.discriminator is not None:
            self.networks.discriminator.eval()
        for weight in self._spectral:
            weight.eval()

    def step(
        self, epoch: int, step: Step, prior_weight: float, tell: Callable[[Seen], None]
    ) -> None:
        """One step of all optimisers, with the parts of this process.

        Args:
            epoch: its number, for the codes that are drawn.
            step: what to learn from.
            prior_weight: see `VaeGanRecipe.kl_warm_up`.
            tell: gets what was seen of each part.
        """
        self._iterate()
        whole: Gradients = {}
        right = torch.zeros((), device=self.group.device)
        for k, part in enumerate(step.parts):
            number = self.group.rank + k * self.group.world
            random = generator(self.group.device, self.recipe.seed, epoch, step.number, number, 1)
            with kept_graphs(self._compiled):
                gradients, seen = self._differentiate(part, random, prior_weight)
            for name, its in gradients.items():
                torch._foreach_mul_(its, part.share)
                if name in whole:
                    torch._foreach_add_(whole[name], its)
                else:
                    whole[name] = its
            right += seen.right * part.share
            tell(seen)
        if self.group.world > 1:
            self._add_up(whole, right)
        rests = bool(self.recipe.balance) and float(right) > self.recipe.balance
        for name, optimiser in self.optimisers.items():
            if not (rests and name == "discriminator"):
                for parameter, gradient in zip(_learned(optimiser), whole[name], strict=True):
                    parameter.grad = gradient
                optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.networks.decoder)

    def _iterate(self) -> None:
        """One power iteration for each spectrally normalised weight.

        All passes of a step, in all parts and processes, then see the same weights.
        """
        with torch.no_grad():
            for weight in self._spectral:
                weight.train()()
                weight.eval()

    def _differentiate(
        self, part: Part, random: torch.Generator, prior_weight: float
    ) -> tuple[Gradients, Seen]:
        """The gradients of one part, each where algorithm 1 sends it: by network, of its weights.

        The encoder's are of prior and likeness, the decoder's of gamma times likeness and of the
        GAN, the discriminator's of the GAN alone.
        """
        pictures = part.images.clamp(-1, 1).contiguous(memory_format=torch.channels_last)
        n, latent, device = len(pictures), self.network.latent, self.group.device
        noise, drawn = torch.randn(2, n, latent, generator=random, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.group.mixed):
            codes = []
            if self.network.has_encoder:
                mean, log_variance = self._run["encoder"](pictures)
                divergence = prior(mean, log_variance)
                codes.append(mean.float() + (log_variance.float() / 2).exp() * noise)
            if self.network.plays:
                codes.append(drawn)
            made = self._run["decoder"](torch.cat(codes))
            if self.network.has_discriminator:
                features, verdicts = self._judge(pictures, made)
        seen = Seen(n)
        losses: dict[str, Tensor] = {}
        if self.network.has_encoder:
            compared = (
                likeness(features[0], features[1])
                if self.network.has_discriminator
                else likeness(pictures, made[:n])
            )
            alike, divergences = compared.mean(), divergence.sum(dim=1).mean()
            losses["encoder"] = prior_weight * divergences + alike
            losses["decoder"] = (self.gamma if self.network.plays else 1.0) * alike
            seen = seen.with_code(divergence.detach().mean(dim=0), alike.detach())
        if self.network.plays:
            real, *others = verdicts
            losses["discriminator"] = sum(
                (judged_as(False, some).mean() for some in others), judged_as(True, real).mean()
            )
            fooling = torch.stack(
                [fooled(some, self.recipe.decoder_loss).mean() for some in others]
            )
            losses["decoder"] = losses.get("decoder", 0) + fooling.sum()
            seen = seen.with_verdicts(
                losses["discriminator"].detach(), fooling.sum().detach(), real, others
            )
        return self._gradients(losses), seen

    def _judge(self, pictures: Tensor, made: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features and verdicts of the pictures, then of each kind of made ones.

        Each kind is normalised by itself: were they in one batch, what the discriminator sees of a
        picture would depend on how well others are made. The running statistics are those of the
        real ones.
        """
        judged = [self._run["discriminator"](pictures)]
        with unmoved(self._norms):
            judged += [
                self._run["discriminator"](some)
                for some in made.to(pictures.dtype).split(len(pictures))
            ]
        return [features for features, _ in judged], [verdicts for _, verdicts in judged]

    def _gradients(self, losses: Mapping[str, Tensor]) -> Gradients:
        wanted = list(self.optimisers)
        return {
            name: list(
                torch.autograd.grad(
                    losses[name], _learned(self.optimisers[name]), retain_graph=name != wanted[-1]
                )
            )
            for name in wanted
        }

    def _add_up(self, gradients: Gradients, right: Tensor) -> None:
        """Make gradients, statistics and what is right those of all parts of the batch."""
        every = [tensor for its in gradients.values() for tensor in its]
        self.group.all_reduce([*every, right])
        self._statistics.share()

    def _learning(self) -> Iterator[tuple[str, list[nn.Parameter]]]:
        """The networks that learn, by name, and their weights."""
        for name, module in self.networks.named_children():
            if name != "discriminator" or self.network.plays:
                yield name, list(module.parameters())

    def _optimiser(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        rate = self.recipe.learning_rate
        if self.recipe.optimiser == "adam":
            return torch.optim.Adam(parameters, lr=rate, betas=(0.5, 0.999), foreach=True)
        return torch.optim.RMSprop(parameters, lr=rate, alpha=0.9, foreach=True)

    def state(self) -> dict[str, Tensor]:
        """All that changes in training, by name."""
        return dict(self._state())

    def restore(self, begun: Checkpoint) -> None:
        """Go on from what `state` gave.

        Raises:
            RuntimeError, KeyError: it was of another network.
        """
        self.networks.load_state_dict(begun.below("networks"))
        if self.average is not None:
            self.average.load_state_dict(begun.below("average"))
        for name, optimiser in self.optimisers.items():
            kept = begun.below(f"optimiser.{name}")
            for k, parameter in enumerate(_learned(optimiser)):
                its = {
                    key.partition(".")[2]: tensor
                    for key, tensor in kept.items()
                    if key.partition(".")[0] == str(k)
                }
                # The number of steps stays on the CPU, where torch counts them.
                optimiser.state[parameter] = {
                    key: tensor if key == "step" else torch.empty_like(parameter).copy_(tensor)
                    for key, tensor in its.items()
                }

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for prefix, module in (("networks", self.networks), ("average", self.average)):
            for name, tensor in module.state_dict().items() if module is not None else ():
                yield f"{prefix}.{name}", tensor
        for name, optimiser in self.optimisers.items():
            for k, parameter in enumerate(_learned(optimiser)):
                for key, tensor in optimiser.state[parameter].items():
                    yield f"optimiser.{name}.{k}.{key}", tensor


@contextmanager
def unmoved(norms: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]) -> Iterator[None]:
    """Leave running statistics as they are while the block runs."""
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def _learned(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return optimiser.param_groups[0]["params"]


def average_of(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and of batch normalisation's statistics.

    Args:
        network: what `update_parameters` will be given after every step.
        decay: of the average per step, 0 to 1, when training has gone on for long; see `decay_at`.
    """
    return AveragedModel(network, multi_avg_fn=partial(_add_to_average, decay), use_buffers=True)


def decay_at(step: int, decay: float) -> float:
    """The decay in a step, counted from 0: smaller at first, or first weights would linger.

    As `num_updates` does in TensorFlow's `tf.train.ExponentialMovingAverage`.

    >>> [round(decay_at(step, 0.999), 3) for step in (0, 10, 100, 10_000)]
    [0.1, 0.55, 0.918, 0.999]
    """
    return min(decay, (1 + step) / (10 + step))


def _add_to_average(
    decay: float, averages: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int
) -> None:
    """Move averages in place towards the weights after one more step."""
    update = get_ema_multi_avg_fn(decay_at(int(steps), decay))
    update(cast(list[Tensor], averages), cast(list[Tensor], weights), steps)
