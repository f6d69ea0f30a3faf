"""How a network is trained: plain data that a config can hold and a run folder can store."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from outcrop.models.architectures import MultiScaleNet, Network, check
from outcrop.typed import typed

LabelOf = Literal["pixel", "image"]
"""What the label of a patch belongs to: the pixel at row `height // 2` and column `width // 2`, or
the whole image."""

ClassBalance = Literal["none", "sqrt", "full"]
"""Sampling of classes in an epoch; see `Recipe`."""


_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image that keep its class.

    Attributes:
        flip: mirror every second image left to right; slices of a volume so that the order of the
            samples is kept.
        crop: pad the image by this many pixels with zeros (the mean, after normalisation) and cut
            the original size at a random place. The label is kept, so that the labelled pixel is no
            longer in the middle. None: 0 where the label belongs to one pixel or images are cut
            again, otherwise an eighth of the shorter side (4 of 32 pixels, as in He et al. 2015).
        rotate: rotate by multiples of 90° and mirror vertically, so that all eight orientations of
            a square are equally frequent (only 180° if the patch is not square). None: on where
            images have no up, that is, where the patches have positions in a scene.
        gain: multiply each band of an image by a random number between 1 - gain and 1 + gain. None:
            0.1 if slices of a volume are cut again, otherwise 0. It acts on the raw values; where
            the mean of a band is many times its standard deviation, use `jitter`.
        jitter: random contrast and brightness per band, as scenes differ in radiometry: the
            difference from the mean of the band is multiplied by exp(jitter · a), and jitter · b
            standard deviations of the band are added, with a and b from the standard normal
            distribution. None: 0.
        noise: standard deviation of added Gaussian noise, in standard deviations of the band.
        cutout: side in pixels of a square that is set to zero at a random place (DeVries and Taylor
            2017, arXiv:1708.04552).
        label_of: pixel: the label belongs to the middle pixel, row `height // 2` and column `width
            // 2`, and flips and rotations keep this pixel in place; image: the label belongs to the
            whole image; auto: pixel where patches have positions. For odd sizes only the default of
            `crop` differs.
        neighbourhood: cut each training image again from its source, shifted by up to this many
            pixels, at a distance from validation patches; 0: off. The label is assumed to hold at
            the shifted place.
        slices: the same across the slices of a volume: maximum number of slices.

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
            ("neighbourhood", self.neighbourhood >= 0, "0 (off) or more"),
            ("slices", self.slices >= 0, "0 (off) or more"),
        )

    @property
    def cuts_anew(self) -> bool:
        """Whether training images are cut again from their source."""
        return self.neighbourhood > 0 or self.slices > 0


@dataclass(frozen=True)
class Machine:
    """Device, precision and memory of a training.

    Attributes:
        device: auto (the GPU with most free memory, if there is one), cpu, cuda, cuda:1 or mps.
        devices: number of processes that train together, one per device.
        strategy: how several processes share the work: ddp: each trains on a part of every batch;
            pipeline: each holds some of the blocks of a residual network.
        precision: auto (bfloat16 where the device supports it, otherwise float32), 32-true, or
            bf16-mixed for bfloat16 in the forward and backward pass.
        compile: compile each block: auto (on CUDA, if a compiler is available), always or never.
        capture: auto: record the training step of a classifier as CUDA graphs, if one process
            trains on CUDA and each batch is processed at once; never: launch every operation
            separately, which is slower for small networks.
        recompute: keep the activations of every n-th block only and recompute the others for the
            gradients, which saves memory and takes time; 0: keep all.
        accumulate: number of parts that a batch is processed in. More parts save memory; batch
            normalisation sees single parts.
        gpu_memory: maximum GPU memory of this process, for example 6GiB.

    Raises:
        OutcropError: a number out of its range, or an unknown word.
    """

    device: str = "auto"
    devices: int = 1
    strategy: Literal["ddp", "pipeline"] = "ddp"
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
    """Optimisation of a network.

    None stands for the default of the network (`suited`). Residual networks are trained as in He et
    al. 2015, section 4.2, with settings for the few thousand patches of labelled sites; the paper,
    with 50 000 images, has a batch of 128, a learning rate of 0.1 with the "step" schedule, and a
    weight decay of 1e-4. The defaults of the multi-scale network are those that were best on twelve
    labelled scenes (docs/benchmarks/real-scenes.md).

    Attributes:
        epochs: number of passes over the training patches. None: 30, multi-scale network 45.
        batch: maximum number of patches per step; an epoch is divided into batches of equal size.
            None: 32, multi-scale network 64.
        class_balance: sampling of classes in an epoch: none: each patch once; sqrt: in proportion
            to the square root of the class size; full: all classes equally often. Patches of rare
            classes are repeated and some of frequent classes left out, others in each epoch; the
            length of an epoch does not change. The probabilities of the model then refer to this
            mixture of classes. None: none, multi-scale network full.
        solver: sgd: stochastic gradient descent with momentum; adamw: Loshchilov and Hutter 2019,
            arXiv:1711.05101. None: sgd, multi-scale network adamw.
        learning_rate: maximum of the schedule. None: 0.05 for sgd, 0.002 for adamw, 0.003 for the
            multi-scale network.
        momentum: momentum of sgd, or beta 1 of adamw (beta 2 is 0.98).
        nesterov: Nesterov momentum, for sgd.
        weight_decay: L2 penalty of sgd, or decoupled weight decay of adamw, on all parameters.
            None: 0.0005 for sgd, 0.05 for adamw, 0.01 for the multi-scale network. Blocks dropped
            by stochastic depth are not updated in that step.
        schedule: cosine: half a cosine to zero (Loshchilov and Hutter 2017, arXiv:1608.03983, eq.
            5, without restarts); step: multiplied by `drop` at each milestone; one-cycle: rises
            from a 25th over 30 % of the training and falls to nearly zero (Smith and Topin 2018,
            arXiv:1708.07120).
        milestones: fractions of the epochs at which the step schedule drops.
        drop: factor of the step schedule.
        warm_up: number of epochs in which the learning rate rises linearly to the schedule (not for
            one-cycle). None: 1, multi-scale network a tenth of all.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016,
            arXiv:1512.00567, section 7).
        average: decay per step of an exponential moving average of the weights, for example 0.999;
            the averaged weights are evaluated and saved. 0: off.
        test_flip: average the probabilities of an image and its mirror image in validation.
        augmentation: random changes of training images.
        seed: random seed for initial weights, order, augmentation and stochastic depth.
        machine: device, precision and memory.

    Raises:
        OutcropError: a number out of its range, or an unknown schedule.
    """

    epochs: int | None = None
    batch: int | None = None
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
    """Limits of the search for a network and its settings.

    Variants are compared by folds inside the training side. The given settings are kept unless a
    variant is better by 5 points of balanced accuracy.

    Attributes:
        trials: number of variants of the network and its recipe that are compared; the first are
            the given settings. 0 or 1: no tuning.
        tuning_folds: number of folds of the training side, made of whole spatial blocks. After
            each fold the better half of the variants is kept, without those that are 5 points
            behind the given settings.

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
        """Whether there are variants to choose from."""
        return self.trials > 1


@dataclass(frozen=True)
class Settled(Recipe):
    """A recipe without None: the result of `suited`."""

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
_MULTI_SCALE = Settled(
    epochs=45, batch=64, class_balance="full", solver="adamw", learning_rate=3e-3, weight_decay=0.01
)


def suited(recipe: Recipe, network: Network) -> Settled:
    """The recipe with the defaults of the network for None.

    >>> from outcrop.models.architectures import ResidualNet
    >>> suited(Recipe(), MultiScaleNet()).epochs, suited(Recipe(epochs=3), ResidualNet()).batch
    (45, 32)
    """
    multi_scale = isinstance(network, MultiScaleNet)
    usual = _MULTI_SCALE if multi_scale else Settled()
    solver = recipe.solver or usual.solver
    if not multi_scale or solver != usual.solver:
        rate, decay = _RATES[solver]
        usual = replace(usual, solver=solver, learning_rate=rate, weight_decay=decay)
    if multi_scale:
        epochs = usual.epochs if recipe.epochs is None else recipe.epochs
        usual = replace(usual, warm_up=epochs / 10)
        if recipe.machine.precision == "auto":
            # Its matrices are too small for a gain by bfloat16.
            recipe = replace(recipe, machine=replace(recipe.machine, precision="32-true"))
    given = {item.name: getattr(recipe, item.name) for item in fields(recipe)}
    return replace(usual, **{name: value for name, value in given.items() if value is not None})


REMOVED: Mapping[str, str] = {"fit_batch": "set the number of patches with batch instead"}
"""Settings of older versions that are off in every recipe, and what replaces them."""


def recipe_of(content: Mapping[str, Any]) -> Recipe:
    """The recipe of a run, from the content of its `config.json`.

    >>> recipe_of({"epochs": 2, "augmentation": {"flip": False}}).augmentation.flip
    False
    """
    return typed(Recipe, as_now(content), "recipe")


def as_now(content: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a run of any version, in the settings of this version.

    A run stores the batch size that `fit_batch` found, and all strategies compute the same: runs
    that used FSDP go on with DDP.

    >>> as_now({"batch": 64, "fit_batch": True, "machine": {"strategy": "fsdp"}})
    {'batch': 64, 'machine': {'strategy': 'ddp'}}
    """
    now = {name: value for name, value in content.items() if name not in REMOVED}
    machine = now.get("machine")
    if isinstance(machine, Mapping) and machine.get("strategy") == "fsdp":
        now["machine"] = {**machine, "strategy": "ddp"}
    return now


def _one_cycle(done: float) -> float:
    """The schedule of torch's OneCycleLR: two half cosines, relative to the maximum."""
    if done < 0.3:
        return _half_wave(1 / 25, 1, done / 0.3)
    return _half_wave(1, 4e-6, (done - 0.3) / 0.7)


def _half_wave(first: float, last: float, done: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


def _size(text: str) -> int | None:
    """Bytes of a size such as "6GiB"; None for other text."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]iB)", text.strip())
    bytes_ = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    return bytes_ or None
