"""The metrics of an epoch: sums over its steps, an evaluation at its end, and alarms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from outcrop.generative.settings import VaeGan, VaeGanRecipe

DOMINATES = 0.98
"""Accuracy of the discriminator on every kind of image, above which it wins."""
ACTIVE_NATS = 0.01
"""Divergence of a dimension of the code from the prior, above which it is active."""
_FEWEST_ACTIVE = 0.05
_REPEATED = 0.1


@dataclass(frozen=True)
class PartResult:
    """The losses and accuracies of one part of a batch: means over its images, on the device.

    Attributes:
        number: number of images.
        divergence: divergence of the code from the prior by dimension, `latent`, in nats.
        likeness: reconstruction loss.
        discriminator, decoder: losses of the GAN.
        right_of_real, right_of_reconstructed, right_of_sampled: accuracy of the discriminator.
    """

    number: int
    divergence: Tensor | None = None
    likeness: Tensor | None = None
    discriminator: Tensor | None = None
    decoder: Tensor | None = None
    right_of_real: Tensor | None = None
    right_of_reconstructed: Tensor | None = None
    right_of_sampled: Tensor | None = None

    def with_logits(
        self, discriminator: Tensor, decoder: Tensor, real: Tensor, generated: Sequence[Tensor]
    ) -> PartResult:
        """The result with the losses of the GAN and the accuracies of the discriminator.

        Args:
            discriminator, decoder: the losses.
            real: logits of real images.
            generated: logits of samples, or of reconstructions and of samples.
        """
        right = [(logits <= 0).float().mean() for logits in generated]
        return replace(
            self,
            discriminator=discriminator,
            decoder=decoder,
            right_of_real=(real > 0).float().mean(),
            right_of_reconstructed=right[0] if len(right) > 1 else None,
            right_of_sampled=right[-1],
        )

    @property
    def right(self) -> Tensor | float:
        """Accuracy of the discriminator: the mean over real and generated images."""
        right = mean_accuracy(accuracies(self))
        return 0.0 if right is None else right


def accuracies(found: PartResult | Means | VaeGanMetrics) -> dict[str, Any]:
    """The accuracy of the discriminator on each kind of image that there is."""
    kinds = ("real", "reconstructed", "sampled")
    known = {kind: getattr(found, f"right_of_{kind}") for kind in kinds}
    return {kind: share for kind, share in known.items() if share is not None}


def mean_accuracy(shares: Mapping[str, Any]) -> Any:
    """The mean over real and generated images of the result of `accuracies`; None without it."""
    if not shares:
        return None
    real, *generated = shares.values()
    return (real + sum(generated) / len(generated)) / 2


@dataclass
class VaeGanTally:
    """The results of all parts of an epoch so far, in one process."""

    rows: list[Tensor] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def add(self, result: PartResult) -> None:
        """Add the result of one part, without a transfer from the device."""
        row = [getattr(result, item.name) for item in fields(result) if item.name != "number"]
        self.rows.append(torch.cat([value.float().view(-1) for value in row if value is not None]))
        self.numbers.append(result.number)

    def tensors(self) -> dict[str, Tensor]:
        """The results on the CPU, for a checkpoint; empty before the first part."""
        if not self.rows:
            return {}
        return {"rows": torch.stack(self.rows).cpu(), "numbers": torch.tensor(self.numbers)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], device: torch.device) -> VaeGanTally:
        """The tally whose `tensors` are given."""
        if not tensors:
            return cls()
        return cls(list(tensors["rows"].to(device).unbind()), tensors["numbers"].tolist())


@dataclass(frozen=True)
class Means:
    """The values of `PartResult` over all images of an epoch; None if a network is missing."""

    likeness: float | None = None
    discriminator: float | None = None
    decoder: float | None = None
    right_of_real: float | None = None
    right_of_reconstructed: float | None = None
    right_of_sampled: float | None = None
    divergence: tuple[float, ...] = ()


def means(tensors: Mapping[str, Tensor], network: VaeGan) -> Means:
    """The means over the tensors of a tally, or of several merged tallies."""
    weights = tensors["numbers"].double()
    found = ((tensors["rows"].double() * weights[:, None]).sum(dim=0) / weights.sum()).tolist()
    coded = network.latent if network.has_encoder else 0
    # In the order of the fields of `PartResult`.
    names = ["likeness"] * network.has_encoder
    if network.adversarial:
        names += ["discriminator", "decoder", "right_of_real"]
        names += ["right_of_reconstructed"] * network.has_encoder + ["right_of_sampled"]
    numbers = dict(zip(names, found[coded:], strict=True))
    return Means(divergence=tuple(found[:coded]), **numbers)


@dataclass(frozen=True)
class Evaluation:
    """Measures of held-out images and samples at the end of an epoch; None if not applicable.

    Attributes:
        pixel_error: mean squared error of reconstructions, over the mean squared difference of two
            images: 0 is perfect, 1 no better than another image.
        feature_error: the same in features of the judge, or else of the discriminator, which
            changes during training.
        frechet: Fréchet distance between held-out images and as many samples, in features of the
            judge.
        precision, recall: share of samples that lie among the held-out images, and vice versa, in
            features of the judge.
        repeats: share of samples that nearly equal another sample.
    """

    pixel_error: float | None = None
    feature_error: float | None = None
    frechet: float | None = None
    precision: float | None = None
    recall: float | None = None
    repeats: float | None = None


@dataclass(frozen=True)
class VaeGanMetrics:
    """One line of `metrics.jsonl`; None if a network or a measure is missing.

    Attributes:
        epoch: number of the epoch, from 1.
        prior: mean divergence of a code from the prior, in nats.
        prior_weight: weight of the prior in the last step.
        awake: number of active dimensions of the code, those with more than 0.01 nats.
        divergence: mean divergence of each dimension, in nats.
        likeness, discriminator, decoder, right_of_real, right_of_reconstructed, right_of_sampled:
            means over the training images of the epoch, see `PartResult`.
        pixel_error, feature_error, frechet, precision, recall, repeats: values at the end of the
            epoch, see `Evaluation`.
        alarms: problems, in words.
        seconds: time of training and evaluation.
        images_per_second: speed of training.
        peak_memory: peak memory in bytes: of tensors on the GPU, or of the process.
    """

    epoch: int
    prior: float | None
    prior_weight: float
    awake: int | None
    divergence: tuple[float, ...]
    likeness: float | None
    discriminator: float | None
    decoder: float | None
    right_of_real: float | None
    right_of_reconstructed: float | None
    right_of_sampled: float | None
    pixel_error: float | None
    feature_error: float | None
    frechet: float | None
    precision: float | None
    recall: float | None
    repeats: float | None
    alarms: tuple[str, ...]
    seconds: float
    images_per_second: float
    peak_memory: int = 0

    def scalars(self) -> Iterator[tuple[str, float]]:
        """Tags and values for TensorBoard."""
        for tag in ("prior", "likeness", "discriminator", "decoder"):
            yield from self._known(f"loss/{tag}", tag)
        for tag in ("real", "reconstructed", "sampled"):
            yield from self._known(f"discriminator is right/of {tag}", f"right_of_{tag}")
        for tag in ("pixel_error", "feature_error", "frechet", "precision", "recall", "repeats"):
            yield from self._known(f"pictures/{tag.replace('_', ' ')}", tag)
        yield from self._known("code/dimensions awake", "awake")
        yield "training/alarms", len(self.alarms)
        yield "training/images per second", self.images_per_second
        yield "training/peak memory in GiB", self.peak_memory / (1 << 30)

    def _known(self, tag: str, name: str) -> Iterator[tuple[str, float]]:
        value = getattr(self, name)
        if value is not None:
            yield tag, value

    @property
    def note(self) -> str:
        """The main values, for progress lines."""
        words = [
            f"{name} {value:.4g}"
            for name, value in (
                ("prior", self.prior),
                ("reconstruction", self.likeness),
                ("discriminator", self.discriminator),
                ("pixel error", self.pixel_error),
                ("feature error", self.feature_error),
                ("Fréchet", self.frechet),
            )
            if value is not None
        ]
        return ", ".join(words)


def active_dimensions(divergence: tuple[float, ...]) -> int | None:
    """Number of active dimensions of the code; None without a code.

    The active units of Burda et al. 2016 (arXiv:1509.00519), section 5.2, by divergence instead of
    the variance of the mean.

    >>> active_dimensions((0.5, 0.001))
    1
    """
    return sum(nats > ACTIVE_NATS for nats in divergence) if divergence else None


def alarms(
    network: VaeGan, recipe: VaeGanRecipe, found: Means, evaluated: Evaluation, prior_weight: float
) -> tuple[str, ...]:
    """Problems of a training in an epoch, with remedies that are not applied yet.

    Args:
        prior_weight: the weight of the prior in the last step.
    """
    raised = []
    balance = ("`balance=0.8`", bool(recipe.balance))
    spectral = ("`spectral=True`", network.spectral)
    least = min(accuracies(found).values(), default=0.0)
    if least > DOMINATES:
        saturating = recipe.decoder_loss == "minimax"
        remedies = _missing(balance, ("`decoder_loss='non-saturating'`", not saturating), spectral)
        raised.append(
            f"the discriminator wins: it is right for {100 * least:.1f} % of the images, and "
            f"the decoder learns little from it; try {remedies or 'a smaller `learning_rate`'}"
        )
    active = active_dimensions(found.divergence)
    if active is not None and active < max(1, _FEWEST_ACTIVE * network.latent):
        warm_up = ("`kl_warm_up=10`", bool(recipe.kl_warm_up))
        remedies = _missing(warm_up, ("a smaller `latent`", False))
        # While the weight of the prior still rises, the remedy is being applied.
        advice = "" if prior_weight < 1 else f"; try {remedies}"
        raised.append(
            f"the posterior has collapsed: {active} of {network.latent} dimensions of the code are "
            f"active{advice}"
        )
    # A VAE generates the mean of many images. Its samples are similar without being repeated.
    if network.adversarial and evaluated.repeats is not None and evaluated.repeats > _REPEATED:
        remedies = _missing(balance, spectral, ("a smaller `learning_rate`", False))
        raised.append(
            f"samples repeat: {100 * evaluated.repeats:.0f} % nearly equal another one; try "
            f"{remedies}"
        )
    return tuple(raised)


def _missing(*remedies: tuple[str, bool]) -> str:
    """The remedies that are not applied yet."""
    return " or ".join(remedy for remedy, applied in remedies if not applied)
