"""How a network is trained: plain data that a config can hold and a run folder can store."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from outcrop.errors import OutcropError
from outcrop.models.architectures import MultiScaleNet, Network
from outcrop.typed import typed

LabelOf = Literal["pixel", "image"]
"""What a patch's label is said of: the pixel at row `height // 2` and column `width // 2`, or the
whole image."""

ClassBalance = Literal["none", "sqrt", "full"]
"""How often an epoch draws the patches of each class; see `Recipe`."""


_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class Augmentation:
    """What may be done to a training picture without changing its class.

    Attributes:
        flip: mirror left and right, every second picture; in slices of a volume so that the samples
            keep their order.
        crop: pad with zeros (the mean, after normalisation) by this many pixels and cut the old
            size out at random; None takes 0 where the label is that of one pixel or pictures are
            cut anew, and elsewhere an eighth of the shorter side, 4 pixels of 32 as in He et al.
            2015. The label stays, so that the labelled pixel is no longer in the middle.
        rotate: quarter turns and vertical flips too, so that all eight positions of a square are
            equally frequent (half turns only where the patch is not square); None does so
            wherever a picture has no up, which is when the patches have positions in a scene.
        gain: each band of a picture is multiplied by a number of its own between 1 - gain and
            1 + gain; None takes 0.1 if slices of a volume are cut anew, and else 0. It acts on the
            values as they are: where a band's mean is many times its spread, `jitter` is better.
        jitter: each band of a picture gets a contrast and a brightness of its own, because every
            scene has a radiometry of its own: its difference from the band's mean is multiplied by
            exp(jitter · a), and jitter · b is added in standard deviations of the band on the
            training side, with a and b drawn from the standard normal distribution. None takes 0.
        noise: standard deviation of normal noise, in standard deviations of the band.
        cutout: side in pixels of a square set to zero, its centre anywhere in the picture (DeVries
            and Taylor 2017, arXiv:1708.04552).
        label_of: "pixel": the label is that of the middle pixel, row `height // 2` and column
            `width // 2`, and mirrors and turns are about it, so that it stays there; "image": the
            label is that of the whole image, which is mirrored and turned about its middle; "auto":
            "pixel" where patches have positions. For odd sizes only the default of `crop` differs.
        neighbourhood: cut each picture anew from its source, up to so many pixels from its place,
            up or down and left or right, where that is not too near to what judges; 0 leaves it in
            its place. Its label is assumed to hold there too: take no more than that is true for.
        slices: the same across the slices of a volume, up to so many slices away.

    Raises:
        OutcropError: a number out of its range.
    """

    flip: bool = True
    crop: int | None = None
    rotate: bool | None = None
    gain: float | None = None
    jitter: float | None = None
    noise: float = 0.0
    cutout: int = 0
    label_of: Literal["auto", "pixel", "image"] = "auto"
    neighbourhood: int = 0
    slices: int = 0

    def __post_init__(self) -> None:
        check(
            self,
            "augmentation",
            ("crop", self.crop is None or self.crop >= 0, "0 (off) or more"),
            ("gain", self.gain is None or 0 <= self.gain < 1, "0 to below 1"),
            ("jitter", self.jitter is None or 0 <= self.jitter <= 2, "0 (off) to 2"),
            ("noise", 0 <= self.noise < math.inf, "0 (off) or more"),
            ("cutout", self.cutout >= 0, "0 (off) or more"),
            ("label_of", self.label_of in ("auto", "pixel", "image"), "auto, pixel or image"),
            ("neighbourhood", self.neighbourhood >= 0, "0 (off) or more"),
            ("slices", self.slices >= 0, "0 (off) or more"),
        )

    @property
    def cuts_anew(self) -> bool:
        """Whether pictures are cut from the source in the neighbourhood of their places."""
        return self.neighbourhood > 0 or self.slices > 0


@dataclass(frozen=True)
class Machine:
    """Where a training runs, and how it uses the machine.

    Attributes:
        device: "auto" (the GPU with most free memory, if there is one), "cpu", "cuda", "cuda:1" or
            "mps".
        devices: how many processes train together, one for each device.
        strategy: what several processes share out: "ddp" the pictures, "fsdp" the pictures, weights
            and optimiser (FSDP2), "pipeline" the blocks.
        precision: "auto" (bfloat16 where the device computes in it, else float32), "32-true", or
            "bf16-mixed" for bfloat16 in forward and backward pass.
        compile: compile each block: "auto" (on CUDA, if there is a compiler), "always" or "never".
        capture: "auto" records each step of a classifier as CUDA graphs and plays them back, where
            one process trains on CUDA and a batch goes through in one part; "never" starts every
            operation anew, which takes a small network most of its time.
        recompute: keep the activations of every so many blocks only and compute the others again
            for the gradients: less memory, more time; 0 keeps all.
        accumulate: a batch goes through the network in so many parts; less memory, and batch
            normalisation sees the parts.
        gpu_memory: the most that this process may take of a GPU, such as 6GiB.

    Raises:
        OutcropError: a number out of its range, or an unknown word.
    """

    device: str = "auto"
    devices: int = 1
    strategy: Literal["ddp", "fsdp", "pipeline"] = "ddp"
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    capture: Literal["auto", "never"] = "auto"
    recompute: int = 0
    accumulate: int = 1
    gpu_memory: str | None = None

    def __post_init__(self) -> None:
        check(
            self,
            "machine",
            ("devices", self.devices >= 1, "1 or more"),
            ("strategy", self.strategy in ("ddp", "fsdp", "pipeline"), "ddp, fsdp or pipeline"),
            (
                "precision",
                self.precision in ("auto", "32-true", "bf16-mixed"),
                "auto, 32-true or bf16-mixed",
            ),
            ("compile", self.compile in ("auto", "always", "never"), "auto, always or never"),
            ("capture", self.capture in ("auto", "never"), "auto or never"),
            ("recompute", self.recompute >= 0, "0 (off) or more"),
            ("accumulate", self.accumulate >= 1, "1 or more"),
            (
                "gpu_memory",
                self.gpu_memory is None or _size(self.gpu_memory) is not None,
                "a size such as 6GiB or 500MiB",
            ),
        )

    @property
    def gpu_bytes(self) -> int | None:
        """`gpu_memory` in bytes.

        >>> Machine(gpu_memory="1.5GiB").gpu_bytes
        1610612736
        """
        return None if self.gpu_memory is None else _size(self.gpu_memory)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Where it says None the network's own default is taken (`suited`). Residual networks are trained
    as in He et al. 2015, section 4.2, with settings for the few thousand patches that labelled
    sites give; the paper, on 50 000 pictures, has a batch of 128, a learning rate of 0.1 by the
    "step" schedule, and a weight decay of 1e-4. The multi-scale network is trained as was best on
    twelve labelled scenes (benchmarks/RESULTS.md).

    Attributes:
        epochs: passes over the training patches; None takes 30, for the multi-scale network 45.
        batch: the largest number of patches in one step; an epoch is cut into batches of equal
            size. None takes 32, for the multi-scale network 64.
        fit_batch: find the largest power of two that fits into memory, and take it for the batch.
        class_balance: how often an epoch draws the patches of each class: "none": each patch once;
            "sqrt": classes by the square root of their number of patches; "full": all classes
            equally often. Patches of rare classes are repeated and some of frequent classes left
            out, others in each epoch, so that an epoch is as long as before. The probabilities of
            the model are then those of such a mixture of classes.
            None takes "none", for the multi-scale network "full".
        solver: "sgd": stochastic gradient descent with momentum; "adamw" (Loshchilov and Hutter
            2019, arXiv:1711.05101), which None takes for the multi-scale network.
        learning_rate: the highest of the schedule; None takes 0.05 for "sgd", 0.002 for "adamw",
            and 0.003 for the multi-scale network.
        momentum: of the gradient: for "adamw" the decay of its mean, beta 1; beta 2 is 0.98.
        nesterov: look ahead along the momentum; for "sgd" alone.
        weight_decay: of all parameters: for "sgd" an L2 penalty; for "adamw" the share, times the
            learning rate, that every step takes from them. None takes 0.0005 for "sgd", 0.05 for
            "adamw", and 0.01 for the multi-scale network. Blocks dropped by stochastic depth are
            left alone for the step: neither decay nor momentum moves them.
        schedule: "cosine" falls to zero along a half wave (Loshchilov and Hutter 2017,
            arXiv:1608.03983, eq. 5, without restarts); "step" multiplies by `drop` at each of the
            milestones; "one-cycle" rises from a 25th along 30 % of the way and falls to next to
            nothing (Smith and Topin 2018, arXiv:1708.07120).
        milestones: shares of the epochs after which "step" goes down.
        drop: the factor of "step".
        warm_up: epochs during which the learning rate rises linearly to the schedule; one-cycle
            has its own. None takes 1, for the multi-scale network a tenth of all.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016,
            arXiv:1512.00567, section 7).
        average: decay per step of an exponential moving average of the weights, which is then what
            is judged and kept, for instance 0.999; 0 keeps the weights of the last step.
        test_flip: when judging, average the probabilities of a picture and its mirror image.
        augmentation: what may be done to a picture.
        seed: of the first weights, of the order, of the augmentation and of the dropped blocks.
        machine: where it runs.

    Raises:
        OutcropError: a number out of its range, or an unknown schedule.
    """

    epochs: int | None = None
    batch: int | None = None
    fit_batch: bool = False
    class_balance: ClassBalance | None = None
    solver: Literal["sgd", "adamw"] | None = None
    learning_rate: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float | None = None
    schedule: Literal["cosine", "step", "one-cycle"] = "cosine"
    milestones: list[float] = field(default_factory=lambda: [0.5, 0.75])
    drop: float = 0.1
    warm_up: float | None = None
    label_smoothing: float = 0.0
    average: float = 0.0
    test_flip: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        check(
            self,
            "recipe",
            ("epochs", self.epochs is None or self.epochs >= 1, "1 or more"),
            ("batch", self.batch is None or self.batch >= 4, "4 or more"),
            (
                "class_balance",
                self.class_balance in (None, *get_args(ClassBalance)),
                "none, sqrt or full",
            ),
            ("solver", self.solver in (None, "sgd", "adamw"), "sgd or adamw"),
            (
                "learning_rate",
                self.learning_rate is None or 0 < self.learning_rate < math.inf,
                "above 0",
            ),
            ("momentum", 0 <= self.momentum < 1, "from 0 to below 1"),
            ("nesterov", not self.nesterov or self.momentum > 0, "false without momentum"),
            ("nesterov", not self.nesterov or self.solver != "adamw", "false with adamw"),
            (
                "weight_decay",
                self.weight_decay is None or 0 <= self.weight_decay < math.inf,
                "0 or more",
            ),
            (
                "schedule",
                self.schedule in ("cosine", "step", "one-cycle"),
                "cosine, step or one-cycle",
            ),
            (
                "milestones",
                all(0 < share < 1 for share in self.milestones),
                "shares of the epochs between 0 and 1",
            ),
            ("drop", 0 < self.drop <= 1, "above 0, at most 1"),
            ("warm_up", self.warm_up is None or 0 <= self.warm_up < math.inf, "0 or more"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "0 to below 1"),
            ("average", 0 <= self.average < 1, "0 (off) to below 1"),
            ("seed", self.seed >= 0, "0 or more"),
        )


@dataclass(frozen=True)
class Tuning:
    """How much is spent on choosing a network and its settings, as classical models are tuned.

    Variants are held against each other by folds inside the training side, and the given settings
    stay unless a variant is better by 2 points of balanced accuracy.

    Attributes:
        trials: how many variants of the network and its recipe are tried, as given being the
            first; 0 or 1 tries none.
        tuning_folds: parts of the training side, made of whole pieces of ground, that are held out
            one after the other; after each the better half of the variants stays, and of these
            none that is 5 points behind the given settings.

    Raises:
        OutcropError: a number out of its range.
    """

    trials: int = 3
    tuning_folds: int = 3

    def __post_init__(self) -> None:
        check(
            self,
            "tuning",
            ("trials", self.trials >= 0, "2 or more, or 0 to tune nothing"),
            ("tuning_folds", self.tuning_folds >= 2, "2 or more"),
        )

    @property
    def tries(self) -> bool:
        """Whether there is anything to choose from."""
        return self.trials > 1


@dataclass(frozen=True)
class Settled(Recipe):
    """A recipe in which nothing is left to the network (`suited`)."""

    epochs: int = 30
    batch: int = 32
    class_balance: ClassBalance = "none"
    solver: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    warm_up: float = 1.0

    def learning_rate_at(self, epoch: float) -> float:
        """The learning rate after so many epochs; fractions are steps within one.

        >>> Settled(epochs=8, warm_up=0).learning_rate_at(4)
        0.025
        """
        done = epoch / self.epochs
        if self.schedule == "one-cycle":
            return self.learning_rate * _one_cycle(done)
        if self.schedule == "cosine":
            factor = _half_wave(1, 0, done)
        else:
            factor = self.drop ** sum(done >= share for share in self.milestones)
        rising = min(1.0, epoch / self.warm_up) if self.warm_up else 1.0
        return self.learning_rate * rising * factor


_RATES = {"sgd": (0.05, 5e-4), "adamw": (2e-3, 0.05)}


def suited(recipe: Recipe, network: Network) -> Settled:
    """The recipe with what suits the network where it says None.

    >>> from outcrop.models.architectures import ResidualNet
    >>> suited(Recipe(), MultiScaleNet()).epochs, suited(Recipe(epochs=3), ResidualNet()).batch
    (45, 32)
    """
    multi_scale = isinstance(network, MultiScaleNet)
    usual = _of_multi_scale() if multi_scale else Settled()
    solver = recipe.solver or usual.solver
    rate, decay = _RATES[solver]
    if multi_scale and solver == usual.solver:
        rate, decay = usual.learning_rate, usual.weight_decay
    epochs = usual.epochs if recipe.epochs is None else recipe.epochs
    fallback: dict[str, Any] = {
        "epochs": epochs,
        "batch": usual.batch,
        "class_balance": usual.class_balance,
        "solver": solver,
        "learning_rate": rate,
        "weight_decay": decay,
        "warm_up": epochs / 10 if multi_scale else usual.warm_up,
    }
    chosen: dict[str, Any] = {item.name: getattr(recipe, item.name) for item in fields(recipe)}
    if multi_scale and recipe.machine.precision == "auto":
        # Its matrices are too small to gain by bfloat16.
        chosen["machine"] = replace(recipe.machine, precision="32-true")
    return Settled(**{k: fallback[k] if v is None else v for k, v in chosen.items()})


def _of_multi_scale() -> Settled:
    return Settled(
        epochs=45,
        batch=64,
        class_balance="full",
        solver="adamw",
        learning_rate=3e-3,
        weight_decay=0.01,
    )


def recipe_of(content: Mapping[str, Any]) -> Recipe:
    """The recipe that `dataclasses.asdict` took apart.

    >>> recipe_of({"epochs": 2, "augmentation": {"flip": False}}).augmentation.flip
    False
    """
    return typed(Recipe, content, "recipe")


def _one_cycle(done: float, up: float = 0.3, start: float = 1 / 25, end: float = 4e-6) -> float:
    """The two half waves of torch's OneCycleLR, as a share of the highest rate."""
    if done < up:
        return _half_wave(start, 1, done / up)
    return _half_wave(1, end, (done - up) / (1 - up))


def _half_wave(first: float, last: float, done: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


def _size(text: str) -> int | None:
    """Bytes of a size such as "6GiB"; None if it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]iB)", text.strip())
    bytes_ = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    return bytes_ or None


def check(settings: Any, what: str, *rules: tuple[str, bool, str]) -> None:
    """Refuse settings out of their range.

    Args:
        settings: a dataclass.
        what: it is.
        rules: for each field its name, whether it is good, and what to take.

    Raises:
        OutcropError: one is not.
    """
    for name, good, range_ in rules:
        if not good:
            raise OutcropError(what, f"{name} is {getattr(settings, name)}; take {range_}")
