"""What is told of an epoch of a VAE-GAN, and when an alarm is raised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outcrop.generative.network import VaeGan
from outcrop.generative.recipe import VaeGanRecipe
from outcrop.generative.training.tally import Means
from outcrop.training.log import read_lines

WINS = 0.98
ASLEEP = 0.01
_FEWEST_AWAKE = 0.05
_REPEATED = 0.1


@dataclass(frozen=True)
class Looked:
    """What a look at held-out pictures and at samples has shown; None where there is no such thing.

    Attributes:
        pixel_error: mean squared difference between pictures and their reconstructions, over that
            between different pictures: 0 is perfect, 1 no better than another picture.
        feature_error: the same in features of the judge, if there is one, or else of the
            discriminator, which changes while it learns.
        frechet: Fréchet distance between held-out pictures and as many samples, in features of the
            judge.
        precision, recall: share of samples that lie among the held-out pictures, and the other way
            round, in features of the judge.
        repeats: share of samples that are nearly the same as another one.
    """

    pixel_error: float | None = None
    feature_error: float | None = None
    frechet: float | None = None
    precision: float | None = None
    recall: float | None = None
    repeats: float | None = None


@dataclass(frozen=True)
class VaeGanMetrics:
    """One line of `metrics.jsonl`; None where a network, or what would be looked at, is missing.

    Attributes:
        epoch: from 1.
        prior: mean divergence of a code from the prior, in nats.
        prior_weight: its weight in the last step.
        awake: dimensions of the code that say something: more than 0.01 nats.
        divergence: mean divergence of each dimension, in nats.
        likeness, discriminator, decoder, right_of_real, right_of_reconstructed, right_of_sampled:
            means over the epoch's training pictures, see `Seen`.
        pixel_error, feature_error, frechet, precision, recall, repeats: at the end of the epoch,
            see `Looked`.
        alarms: what goes wrong, in words.
        seconds: for training and looking.
        images_per_second: while training.
        peak_memory: the most bytes held so far: of the GPU by tensors, or of RAM by the process.
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
        """What TensorBoard draws: tags and values."""
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
        """The numbers to follow, in a few words."""
        words = [
            f"{name} {value:.4g}"
            for name, value in (
                ("prior", self.prior),
                ("likeness", self.likeness),
                ("discriminator", self.discriminator),
                ("pixel error", self.pixel_error),
                ("feature error", self.feature_error),
                ("Fréchet", self.frechet),
            )
            if value is not None
        ]
        return ", ".join(words)


def awake(divergence: tuple[float, ...]) -> int | None:
    """How many dimensions of a code say something of the picture; None without a code.

    >>> awake((0.5, 0.001))
    1
    """
    return sum(nats > ASLEEP for nats in divergence) if divergence else None


def alarms(
    network: VaeGan, recipe: VaeGanRecipe, found: Means, looked: Looked, prior_weight: float
) -> tuple[str, ...]:
    """What goes wrong in a training, and what may help that is not done yet.

    Args:
        network: that is trained.
        recipe: how.
        found: over the epoch.
        looked: at its end.
        prior_weight: of its last step.
    """
    raised = []
    shares = (found.right_of_real, found.right_of_reconstructed, found.right_of_sampled)
    known = [share for share in shares if share is not None]
    if known and min(known) > WINS:
        remedies = _missing(
            ("--balance 0.8", bool(recipe.balance)),
            ("--decoder-loss non-saturating", recipe.decoder_loss == "non-saturating"),
            ("--spectral", network.spectral),
        )
        raised.append(
            f"the discriminator wins: it is right of {min(known):.1%} of the pictures, and the "
            f"decoder learns little from it; try {remedies or 'a smaller --learning-rate'}"
        )
    said = awake(found.divergence)
    if said is not None and said < max(1, _FEWEST_AWAKE * network.latent):
        warm_up = ("--kl-warm-up 10", bool(recipe.kl_warm_up))
        remedies = _missing(warm_up, ("a smaller --latent", False))
        # While the weight of the prior still rises, the remedy is at work.
        weaken = "" if prior_weight < 1 else f"; try {remedies}"
        raised.append(
            f"the posterior has collapsed: {said} of {network.latent} dimensions of the code say "
            f"anything of the picture{weaken}"
        )
    # A VAE draws the mean of what a code may stand for: its samples are alike, not repeated.
    if network.plays and looked.repeats is not None and looked.repeats > _REPEATED:
        remedies = _missing(
            ("--balance 0.8", bool(recipe.balance)),
            ("--spectral", network.spectral),
            ("a smaller --learning-rate", False),
        )
        raised.append(
            f"samples repeat: {looked.repeats:.0%} are nearly the same as another; try {remedies}"
        )
    return tuple(raised)


def _missing(*remedies: tuple[str, bool]) -> str:
    """Those that are not applied yet."""
    return " or ".join(remedy for remedy, applied in remedies if not applied)


def read_vaegan_metrics(path: Path) -> tuple[VaeGanMetrics, ...]:
    """The epochs of a run.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    return read_lines(path, VaeGanMetrics)
