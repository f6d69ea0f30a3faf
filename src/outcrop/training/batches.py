"""The batches of an epoch: patches in random order, with random augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from outcrop.models.architectures import Network, ResidualNet
from outcrop.models.residual import draw_kept
from outcrop.training.augment import (
    add_noise,
    cover,
    draw,
    draw_centres,
    draw_gains,
    draw_jitter,
    move,
    settled,
)
from outcrop.training.normalise import Normalisation
from outcrop.training.pictures import Pictures
from outcrop.training.recipe import Augmentation, ClassBalance

_MOVED_VALUES = 1 << 23


class Plan(Protocol):
    """The settings of a recipe that batches depend on."""

    @property
    def seed(self) -> int:
        """Random seed of order and augmentation."""

    @property
    def batch(self) -> int:
        """Maximum number of images in a step."""

    @property
    def augmentation(self) -> Augmentation:
        """Random changes of an image."""


@dataclass(frozen=True)
class Part:
    """Images that go through the network at once.

    Attributes:
        images: float32, `M × bands × height × width`, normalised.
        labels: int64, `M`.
        share: M divided by the size of the batch.
        seeds: random seeds of the network itself.
        weights: float32, `M`, the weight of each image in the loss; None: 1 each.
    """

    images: Tensor
    labels: Tensor
    share: float
    seeds: tuple[int, ...] = ()
    weights: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """One step of the optimiser.

    Attributes:
        number: number of the step in the epoch, from 0.
        kept: for each block whether it is computed; None: all.
        parts: parts of the batch in this process.
    """

    number: int
    kept: tuple[bool, ...] | None
    parts: Iterator[Part]


class Epoch:
    """All random decisions of one pass over the training side.

    They follow from the seed of the recipe and the number of the epoch, not from earlier steps or
    the number of processes. All random numbers are drawn for every augmentation, so that switching
    one part off does not change the others.

    Args:
        class_balance: as in `Recipe`.

    Attributes:
        number: number of the epoch, from 0.
        steps: number of steps of the optimiser.
        kept_share: share of the blocks that are computed, over all steps.
    """

    def __init__(
        self,
        number: int,
        recipe: Plan,
        network: Network | None,
        pictures: Pictures,
        normalisation: Normalisation,
        parts: int = 1,
        class_balance: ClassBalance = "none",
    ) -> None:
        random = np.random.default_rng((recipe.seed, number))
        # Generators of their own: how many numbers they need depends on the patches.
        cutting, balancing = random.spawn(2)
        n, patches = len(pictures), pictures.patches
        size, bands = patches.size, len(normalisation.mean)
        augmentation = settled(recipe.augmentation, patches)
        device = pictures.labels.device
        self.number, self._recipe, self._parts = number, recipe, parts
        self._pictures, self._normalisation = pictures, normalisation
        self._order = random.permutation(n)
        if class_balance != "none":
            labels = np.asarray(patches.labels[pictures.index])
            self._order = balanced_order(labels, class_balance, balancing)
        lying = None
        if patches.positions is not None and patches.from_volume:
            # In slices along the samples, these run along the rows.
            lying = np.asarray(patches.positions.axis[pictures.index[self._order]] != 2)
        self._moves = draw(augmentation, n, size, random, lying).to(device)
        self._gains = draw_gains(augmentation, n, bands, random).to(device)
        self._centres = draw_centres(n, size, random).to(device)
        self.steps = math.ceil(n / recipe.batch)
        survivals = () if network is None else network.survivals
        draws = random.random((self.steps, len(survivals)))
        self._jitter = draw_jitter(augmentation, n, bands, random, device)
        cutter = pictures.cutter
        self._shifts = None if cutter is None else cutter.draw(cutting)
        self._kept = [
            draw_kept(network, row.tolist())
            if isinstance(network, ResidualNet) and network.survival < 1
            else None
            for row in draws
        ]
        self.kept_share = float(np.mean([np.mean(kept or [True]) for kept in self._kept]))

    def walk(self, first: int = 0, rank: int = 0, world: int = 1) -> Iterator[Step]:
        """The steps from `first` on, with every `world`-th part of each, from part `rank` on.

        Batches and parts differ by at most one patch, because batch normalisation fails on a
        last batch of one patch.
        """
        slices = [
            pieces(whole.stop - whole.start, self._parts, whole.start)
            for whole in pieces(len(self._order), self.steps)
        ]
        mine = [part for parts in slices[first:] for part in parts[rank::world]]
        seen = self._moved(mine, self._at_once if world == 1 else 1)
        for number in range(first, self.steps):
            parts = self._augmented(number, slices[number], rank, world, seen)
            yield Step(number, self._kept[number], parts)

    @property
    def _at_once(self) -> int:
        """Number of parts that are augmented together.

        On a GPU, launching many small operations takes longer than computing them.
        """
        if self._pictures.resident is None or not self._pictures.resident.is_cuda:
            return 1
        part = math.ceil(self._recipe.batch / self._parts)
        return max(1, _MOVED_VALUES // (part * math.prod(self._pictures.resident.shape[1:])))

    def _moved(self, parts: Sequence[slice], at_once: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each part: moved, with gain and jitter, and normalised.

        Parts that are augmented together must be adjacent.
        """
        groups = [parts[start : start + at_once] for start in range(0, len(parts), at_once)]
        wholes = [slice(group[0].start, group[-1].stop) for group in groups]
        read = self._pictures.batches([self._order[whole] for whole in wholes], self._shifts)
        for group, whole, (images, labels) in zip(groups, wholes, read, strict=True):
            moved, inside = move(images, self._moves[whole])
            jitter = None if self._jitter is None else self._jitter[whole]
            moved = self._normalisation(moved * self._gains[whole], jitter)
            moved = moved.masked_fill_(~inside, 0)
            lengths = [part.stop - part.start for part in group]
            yield from zip(moved.split(lengths), labels.split(lengths), strict=True)

    def _augmented(
        self,
        step: int,
        parts: Sequence[slice],
        rank: int,
        world: int,
        seen: Iterator[tuple[Tensor, Tensor]],
    ) -> Iterator[Part]:
        whole = parts[-1].stop - parts[0].start
        for k in range(rank, len(parts), world):
            images, labels = next(seen)
            augmentation = self._recipe.augmentation
            seeds = (self._recipe.seed, self.number, step, k)
            if augmentation.noise:
                images = add_noise(images, augmentation.noise, generator(images.device, *seeds))
            if augmentation.cutout:
                images = cover(images, self._centres[parts[k]], augmentation.cutout)
            weights = self._pictures.weights
            if weights is not None:
                weights = weights[torch.from_numpy(self._order[parts[k]]).to(weights.device)]
            yield Part(images, labels, len(labels) / whole, (*seeds, 1), weights)


def generator(device: torch.device, *numbers: int) -> torch.Generator:
    """A generator on a device, seeded by `numbers`."""
    seeds = np.random.SeedSequence(numbers)
    return torch.Generator(device).manual_seed(int(seeds.generate_state(1)[0]))


def balanced_order(
    labels: np.ndarray, class_balance: ClassBalance, random: np.random.Generator
) -> np.ndarray:
    """Random indices of labels, int64, as many as labels, with classes balanced as in `Recipe`.

    Within a class, the numbers of repeats differ by at most one.

    >>> labels = np.repeat([0, 1], [98, 2])
    >>> order = balanced_order(labels, "full", np.random.default_rng(0))
    >>> np.bincount(labels[order]), np.bincount(order)[98:]
    (array([50, 50]), array([25, 25]))
    """
    numbers = drawn_numbers(np.bincount(labels), class_balance)
    drawn = [
        np.resize(random.permutation(np.flatnonzero(labels == class_)), number)
        for class_, number in enumerate(numbers)
    ]
    return random.permutation(np.concatenate(drawn))


def drawn_numbers(counts: np.ndarray, class_balance: ClassBalance) -> np.ndarray:
    """Number of patches of each class in an epoch; their sum is that of `counts`.

    >>> drawn_numbers(np.array([80, 0, 16, 4]), "sqrt")
    array([60,  0, 27, 13])
    """
    power = {"none": 1.0, "sqrt": 0.5, "full": 0.0}[class_balance]
    weights = np.where(counts > 0, counts**power, 0)
    ends = np.rint(np.cumsum(weights) / weights.sum() * counts.sum()).astype(np.int64)
    return np.diff(ends, prepend=0)


def pieces(n: int, number: int, start: int = 0) -> list[slice]:
    """Cut n indices from `start` on into pieces whose lengths differ by at most one.

    >>> pieces(10, 3)
    [slice(0, 4, None), slice(4, 7, None), slice(7, 10, None)]
    """
    small, larger = divmod(n, number)
    ends = np.cumsum([start] + [small + 1] * larger + [small] * (number - larger)).tolist()
    return [slice(*each) for each in pairwise(ends)]
