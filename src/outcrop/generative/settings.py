"""The description of generative networks and of their training, as plain data without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from outcrop.errors import OutcropError
from outcrop.models.architectures import check
from outcrop.training.recipe import Augmentation, Machine
from outcrop.typed import typed

SIZES = (32, 64, 128)
_TITLES = {
    "vaegan": "VAE-GAN",
    "vae": "VAE",
    "gan": "GAN",
    "vae-dis": "VAE with a learned metric",
}
PARTS = tuple(_TITLES)
_PAPER_FILTERS = 64


@dataclass(frozen=True)
class VaeGan:
    """A variational autoencoder and a GAN with a common decoder, or parts of them.

    Source: Larsen, Sønderby, Larochelle and Winther 2016, Autoencoding beyond pixels using a
    learned similarity metric (arXiv:1512.09300), table 1, for images of 64 pixels. For 32 pixels
    the same layers work on half the grid; for 128 pixels the widest layer is repeated.

    Attributes:
        parts: "vaegan": encoder, decoder and discriminator; "vae": encoder and decoder, with a
            reconstruction loss on pixels; "gan": decoder and discriminator; "vae-dis": a VAE with a
            reconstruction loss on the features of a discriminator that was trained before and is
            fixed.
        latent: dimensions of the code of an image.
        filters: filters of the first layer of the encoder, 64 in the paper. All other layers are
            scaled in proportion.
        spectral: use spectral normalisation of the weights (Miyato et al. 2018, arXiv:1802.05957)
            instead of batch normalisation in the discriminator.

    Raises:
        OutcropError: a number is out of range, or a word is unknown.

    >>> VaeGan("gan").has_encoder
    False
    """

    parts: Literal["vaegan", "vae", "gan", "vae-dis"] = "vaegan"
    latent: int = 128
    filters: int = _PAPER_FILTERS
    spectral: bool = False

    def __post_init__(self) -> None:
        for name, good, range_ in (
            ("parts", self.parts in _TITLES, ", ".join(_TITLES)),
            ("latent", self.latent >= 1, "1 or more; the default is 128"),
            ("filters", self.filters >= 4, "4 or more; the paper has 64"),
            ("spectral", not self.spectral or self.has_discriminator, "false without a GAN"),
        ):
            if not good:
                raise OutcropError(f"`{name}`", f"is {getattr(self, name)}; take {range_}")

    @property
    def has_encoder(self) -> bool:
        """Whether there is a network from images to codes."""
        return self.parts != "gan"

    @property
    def has_discriminator(self) -> bool:
        """Whether there is a network that separates real images from generated ones."""
        return self.parts != "vae"

    @property
    def adversarial(self) -> bool:
        """Whether decoder and discriminator are trained against each other."""
        return self.parts in ("vaegan", "gan")

    @property
    def title(self) -> str:
        """The name in tables."""
        return _TITLES[self.parts]

    @staticmethod
    def check_size(size: tuple[int, int]) -> None:
        """Check that the layers fit images of a size.

        Raises:
            OutcropError: the images are not squares of 32, 64 or 128 pixels.
        """
        height, width = size
        if height != width or height not in SIZES:
            raise OutcropError(
                "patches",
                f"are of {height} × {width} pixels; generative networks take squares of "
                f"{', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}; cut the patches again with "
                "`size`",
            )

    def halvings(self, size: int) -> int:
        """Number of layers that halve an image of `size` pixels.

        >>> [VaeGan().halvings(size) for size in SIZES]
        [3, 3, 4]
        """
        return 4 if size == 128 else 3

    def scaled(self, filters: int) -> int:
        """The number of filters here where the paper has `filters`.

        >>> VaeGan(filters=16).scaled(2048)
        512
        """
        return max(1, filters * self.filters // _PAPER_FILTERS)

    def features(self, size: int) -> int:
        """Number of discriminator features of an image of `size` pixels.

        >>> VaeGan().features(32), VaeGan().features(64)
        (4096, 16384)
        """
        return self.scaled(256) * (size >> self.halvings(size)) ** 2


@dataclass(frozen=True)
class GenerativeAugmentation(Augmentation):
    """Augmentation of the images of a generative network.

    Only the defaults differ from `outcrop.training.recipe.Augmentation`: whatever is applied here
    also appears in generated samples. See there for details.

    Attributes:
        flip: flip every second image horizontally; in slices of a volume along the axis that keeps
            the order of the samples.
        crop: padding with zeros before a random crop of the original size, in pixels; None takes
            the value for classifiers.
        rotate: rotate by multiples of 90° and flip vertically. None: if images have no fixed
            orientation, which is so if the patches have positions in a scene.
        gain: maximum random gain: each band of an image is multiplied by a factor between 1 - gain
            and 1 + gain.
        jitter: size of random changes of contrast and brightness of each band.
        noise: standard deviation of normal noise, in standard deviations of the band.
        cutout: side in pixels of a square set to 0, with its centre anywhere in the image.
        label_of: centre of flips and rotations. "image": the middle of the image, so that no row or
            column has to be filled; "pixel": the middle pixel; "auto": "pixel" if the patches have
            positions.
        neighbourhood: cut each image again from its source, up to this many pixels from its place,
            but not too near to the validation side; 0: keep the place.
        slices: the same perpendicular to the slices of a volume, in slices.
    """

    crop: int | None = 0
    gain: float | None = 0.0
    jitter: float | None = 0.0
    label_of: Literal["auto", "pixel", "image"] = "image"


@dataclass(frozen=True)
class VaeGanRecipe:
    """Algorithm 1 of Larsen et al. 2016 (arXiv:1512.09300), with later improvements.

    Optimiser, learning rate and batch size are those of the paper. Its losses are
    `decoder_loss="minimax"` with `balance=0`. The defaults are two later improvements, because
    without them the discriminator wins and samples repeat (docs/benchmarks/generative.md). The
    paper gives no value of `gamma`; the default is ours. Images are flipped, and rotated if they
    have no fixed orientation. Padding and random gains are off, because a GAN would generate them.

    Attributes:
        epochs: passes over the training patches.
        batch: maximum number of patches per step; an epoch is cut into batches of equal size.
        learning_rate: learning rate of all networks in all steps.
        optimiser: "rmsprop" as in the paper (decay 0.9), or "adam" with momentum 0.5 (Radford et
            al. 2016, arXiv:1511.06434). For classifiers see `solver`.
        gamma: weight of the reconstruction loss against the GAN loss in the decoder's gradient
            (section 3.3). The reconstruction loss is a sum over features, so None takes 4 over
            their number: 0.001 for 32 pixels and the paper's filters.
        decoder_loss: "minimax": the negative of the discriminator's loss, as in algorithm 1;
            "non-saturating": its gradient does not vanish where the discriminator is certain
            (Goodfellow et al. 2014, arXiv:1406.2661, section 3).
        balance: accuracy of the discriminator, 0.5 to 1, above which it is not updated in a step;
            0: always updated.
        kl_warm_up: epochs in which the weight of the prior rises linearly from 0 to 1 (Bowman et
            al. 2016, arXiv:1511.06349, section 3.1).
        average: decay per step of an exponential moving average of the decoder, which is then
            evaluated and saved, for example 0.999; smaller in the first steps, see
            `outcrop.generative.learner.decay_at`. 0: no average.
        augmentation: changes of the training images.
        seed: random seed of the initial weights, order, augmentation and codes.
        machine: hardware. Several processes use the strategy "ddp" without recomputation.

    Raises:
        OutcropError: a number is out of range, or a word is unknown.
    """

    epochs: int = 50
    batch: int = 64
    learning_rate: float = 3e-4
    optimiser: Literal["rmsprop", "adam"] = "rmsprop"
    gamma: float | None = None
    decoder_loss: Literal["minimax", "non-saturating"] = "non-saturating"
    balance: float = 0.8
    kl_warm_up: float = 0.0
    average: float = 0.0
    augmentation: GenerativeAugmentation = field(default_factory=GenerativeAugmentation)
    seed: int = 0
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        check(
            self,
            "recipe",
            ("epochs", self.epochs >= 1, "1 or more"),
            ("batch", self.batch >= 4, "4 or more"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "above 0"),
            ("gamma", self.gamma is None or 0 <= self.gamma < math.inf, "0 or more"),
            ("balance", self.balance == 0 or 0.5 <= self.balance <= 1, "0 (off), or from 0.5 to 1"),
            ("kl_warm_up", 0 <= self.kl_warm_up < math.inf, "0 (off) or more"),
            ("average", 0 <= self.average < 1, "0 (off) to below 1"),
            ("seed", self.seed >= 0, "0 or more"),
        )
        if self.machine.strategy != "ddp":
            raise OutcropError("`strategy`", f"is {self.machine.strategy}; a VAE-GAN takes ddp")
        if self.machine.recompute:
            raise OutcropError("`recompute`", "does not work with a VAE-GAN; leave it out")

    def gamma_for(self, network: VaeGan, size: int) -> float:
        """The value of `gamma` for images of `size` pixels.

        >>> VaeGanRecipe().gamma_for(VaeGan(filters=16), size=32)
        0.00390625
        """
        return 4 / network.features(size) if self.gamma is None else self.gamma

    def prior_weight_at(self, epoch: float) -> float:
        """The weight of the prior after `epoch` epochs; a fraction is a step within an epoch.

        >>> VaeGanRecipe(kl_warm_up=4).prior_weight_at(1)
        0.25
        """
        return min(1.0, epoch / self.kl_warm_up) if self.kl_warm_up else 1.0


def vaegan_recipe_of(content: Mapping[str, Any]) -> VaeGanRecipe:
    """The recipe whose `dataclasses.asdict` is `content`.

    >>> vaegan_recipe_of({"epochs": 2, "machine": {"device": "cpu"}}).augmentation.crop
    0
    """
    return typed(VaeGanRecipe, content, "recipe")
