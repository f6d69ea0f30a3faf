"""How a network is trained: plain data that a config can hold and a run folder can store."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from outcrop.errors import OutcropError


@dataclass(frozen=True)
class Augmentation:
    """What may be done to a training picture without changing its class.

    Attributes:
        flip: mirror left and right, every second picture.
        crop: pad with zeros (the mean, after normalisation) by this many pixels and cut the old
            size out at random; None takes an eighth of the shorter side, 4 pixels of 32 as in
            He et al. 2015.
        rotate: quarter turns and vertical flips too, so that all eight positions of a square are
            equally frequent (half turns only where the patch is not square); None does so
            wherever a picture has no up, which is when the patches have positions in a scene.
        gain: each band of a picture is multiplied by a number of its own between 1 - gain and
            1 + gain, because every scene has a radiometry of its own; None takes 0.2 wherever a
            picture has no up, and 0 elsewhere.
    """

    flip: bool = True
    crop: int | None = None
    rotate: bool | None = None
    gain: float | None = None

    def __post_init__(self) -> None:
        if self.crop is not None and self.crop < 0:
            raise OutcropError("augmentation", f"crop {self.crop} is below 0; 0 turns it off")
        if self.gain is not None and not 0 <= self.gain < 1:
            raise OutcropError("augmentation", f"gain is {self.gain}; take 0 to below 1")


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent with momentum, as in He et al. 2015, section 4.2.

    The defaults suit the few thousand patches that labelled ground gives. The paper, on 50 000
    pictures, has a batch of 128, a learning rate of 0.1 by the "step" schedule, and a weight decay
    of 1e-4.

    Attributes:
        epochs: passes over the training patches.
        batch: largest number of patches in one step; an epoch is cut into batches of equal size.
        learning_rate: the highest of the schedule.
        momentum: of the gradient.
        weight_decay: L2 penalty on all parameters.
        schedule: "cosine" falls to zero along a half wave (Loshchilov and Hutter 2017,
            arXiv:1608.03983, eq. 5, without restarts); "step" divides by ten at 50 % and at 75 %.
        warm_up: epochs during which the learning rate rises linearly to the schedule.
        augmentation: what may be done to a picture.
        seed: of the first weights, of the order and of the augmentation.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: "32-true", or "bf16-mixed" for bfloat16 in forward and backward pass.

    Raises:
        OutcropError: a number out of its range, or an unknown schedule or precision.
    """

    epochs: int = 30
    batch: int = 32
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "step"] = "cosine"
    warm_up: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    device: str = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        for name, good, range_ in (
            ("epochs", self.epochs >= 1, "1 or more"),
            ("batch", self.batch >= 4, "4 or more"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "above 0"),
            ("momentum", 0 <= self.momentum < 1, "from 0 to below 1"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("schedule", self.schedule in ("cosine", "step"), "cosine or step"),
            ("warm_up", 0 <= self.warm_up < math.inf, "0 or more"),
            ("seed", self.seed >= 0, "0 or more"),
            (
                "precision",
                self.precision in ("32-true", "bf16-mixed"),
                "32-true or bf16-mixed",
            ),
        ):
            if not good:
                raise OutcropError("recipe", f"{name} is {getattr(self, name)}; take {range_}")

    def learning_rate_at(self, epoch: float) -> float:
        """The learning rate after so many epochs; fractions are steps within one.

        >>> Recipe(epochs=8, warm_up=0).learning_rate_at(4)
        0.025
        """
        done = epoch / self.epochs
        if self.schedule == "cosine":
            factor = (1 + math.cos(math.pi * done)) / 2
        else:
            factor = 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
        rising = min(1.0, epoch / self.warm_up) if self.warm_up else 1.0
        return self.learning_rate * rising * factor
