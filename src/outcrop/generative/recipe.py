"""How a VAE-GAN is trained: plain data that a config can hold and a run folder can store."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from outcrop.errors import OutcropError
from outcrop.generative.network import VaeGan
from outcrop.training.recipe import Augmentation, Machine, check
from outcrop.typed import typed

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class PictureAugmentation(Augmentation):
    """What may be done to a picture that is learnt itself: nothing that a decoder would then draw.

    Only the defaults differ from `outcrop.training.recipe.Augmentation`, which says more.

    Attributes:
        flip: mirror left and right, every second picture; in slices of a volume so that the samples
            keep their order.
        crop: pad with zeros by this many pixels and cut the old size out at random; None takes what
            suits a classifier.
        rotate: quarter turns and vertical flips too; None does so wherever a picture has no up,
            which is when the patches have positions in a scene.
        gain: each band of a picture is multiplied by a number of its own between 1 - gain and
            1 + gain.
        jitter: size of random changes of contrast and brightness of each band.
        noise: standard deviation of normal noise, in standard deviations of the band.
        cutout: side in pixels of a square set to zero, its centre anywhere in the picture.
        label_of: about which place mirrors and turns are: "image": the middle of the picture, so
            that no row or column has to be filled; "pixel": the middle pixel; "auto": "pixel" where
            patches have positions.
        neighbourhood: cut each picture anew from its source, up to so many pixels from its place,
            where that is not too near to what judges; 0 leaves it in its place.
        slices: the same across the slices of a volume, up to so many slices away.
    """

    crop: int | None = 0
    gain: float | None = 0.0
    jitter: float | None = 0.0
    label_of: Literal["auto", "pixel", "image"] = "image"


@dataclass(frozen=True)
class VaeGanRecipe:
    """Algorithm 1 of Larsen et al. 2016 (arXiv:1512.09300), and remedies that came after it.

    Optimiser, learning rate and batch are the paper's. Its losses are `decoder_loss="minimax"` with
    `balance=0`; the defaults are two remedies, because without them the discriminator wins and
    samples repeat (benchmarks/RESULTS.md has both). `gamma` is ours: the paper prints none.
    Pictures are mirrored, and turned where they have no up; padding and gains, which a GAN would
    learn to draw, are off. No label is learnt: mirrors and turns are about the middle of the
    picture, so that no row or column has to be filled.

    Attributes:
        epochs: passes over the training patches.
        batch: largest number of patches in one step; an epoch is cut into batches of equal size.
        learning_rate: of all networks, in all steps.
        optimiser: "rmsprop" as in the paper (decay 0.9), or "adam" with momentum 0.5 (Radford et
            al. 2016, arXiv:1511.06434). A classifier has `solver`.
        gamma: in the decoder's gradient, the weight of likeness against that of the GAN
            (section 3.3): content against style. Likeness is a sum over features, so None takes 4
            over their number: 0.001 for 32 pixels and the paper's filters.
        decoder_loss: "minimax": the decoder makes the discriminator's loss large, as in algorithm
            1; "non-saturating": it makes its own pictures look real, whose gradient does not
            vanish where they do not (Goodfellow et al. 2014, arXiv:1406.2661, section 3).
        balance: the discriminator rests in steps in which it is right of more than this share of
            the pictures, 0.5 to 1; 0 lets it learn in all.
        kl_warm_up: epochs during which the weight of the prior rises linearly from 0 to 1 (Bowman
            et al. 2016, arXiv:1511.06349, section 3.1).
        average: decay per step of an exponential moving average of the decoder, which is then what
            is looked at and kept, for instance 0.999; smaller in the first steps, see
            `outcrop.generative.training.learner.decay_at`. 0 keeps the weights of the last step.
        augmentation: what may be done to a picture.
        seed: of the first weights, of the order, of the augmentation and of the codes.
        machine: where it runs. Of several processes the strategy is "ddp", and nothing is
            recomputed.

    Raises:
        OutcropError: a number out of its range, or an unknown word.
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
    augmentation: PictureAugmentation = field(default_factory=PictureAugmentation)
    seed: int = 0
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        check(
            self,
            "recipe",
            ("epochs", self.epochs >= 1, "1 or more"),
            ("batch", self.batch >= 4, "4 or more"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "above 0"),
            ("optimiser", self.optimiser in ("rmsprop", "adam"), "rmsprop or adam"),
            ("gamma", self.gamma is None or 0 <= self.gamma < math.inf, "0 or more"),
            (
                "decoder_loss",
                self.decoder_loss in ("minimax", "non-saturating"),
                "minimax or non-saturating",
            ),
            (
                "balance",
                self.balance == 0 or 0.5 <= self.balance <= 1,
                "0 (off), or from 0.5 to 1",
            ),
            ("kl_warm_up", 0 <= self.kl_warm_up < math.inf, "0 (off) or more"),
            ("average", 0 <= self.average < 1, "0 (off) to below 1"),
            ("seed", self.seed >= 0, "0 or more"),
        )
        if self.machine.strategy != "ddp":
            raise OutcropError("--strategy", f"is {self.machine.strategy}; a VAE-GAN takes ddp")
        if self.machine.recompute:
            raise OutcropError("--recompute", "has no meaning for a VAE-GAN; leave it out")

    def gamma_for(self, network: VaeGan, size: int) -> float:
        """`gamma` for networks that learn pictures of `size` pixels.

        >>> VaeGanRecipe().gamma_for(VaeGan(filters=16), size=32)
        0.00390625
        """
        return 4 / network.features(size) if self.gamma is None else self.gamma

    def prior_weight_at(self, epoch: float) -> float:
        """The weight of the prior after so many epochs; fractions are steps within one.

        >>> VaeGanRecipe(kl_warm_up=4).prior_weight_at(1)
        0.25
        """
        return min(1.0, epoch / self.kl_warm_up) if self.kl_warm_up else 1.0


def vaegan_recipe_of(content: Mapping[str, Any]) -> VaeGanRecipe:
    """The recipe that `dataclasses.asdict` took apart.

    >>> vaegan_recipe_of({"epochs": 2, "machine": {"device": "cpu"}}).augmentation.crop
    0
    """
    return typed(VaeGanRecipe, content, "recipe")
