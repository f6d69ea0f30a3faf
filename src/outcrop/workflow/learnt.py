"""Encoders that give features to the classical models of a comparison: trained, or a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from outcrop.errors import OutcropError
from outcrop.models.features import FEATURES
from outcrop.patches.patchset import PatchSet
from outcrop.patches.reopen import AnySource
from outcrop.splits import Split

Measure = Callable[[np.ndarray], np.ndarray]
"""Function from images, `N × bands × height × width`, to features, float, `N × F`."""


@runtime_checkable
class LearntFeatures(Protocol):
    """Training of an encoder on the training patches of a split.

    It must be picklable, because a comparison calls it in other processes.
    """

    @property
    def title(self) -> str:
        """Name of the features in tables, such as "VAE-GAN code"."""

    def check(self, patches: PatchSet) -> None:
        """Check the patches before the training.

        Raises:
            OutcropError: they have a wrong size, or this kind of training gives no features.
        """

    def learn(
        self,
        patches: PatchSet,
        split: Split,
        folder: Path,
        seed: int,
        sources: Sequence[AnySource] | None,
    ) -> None:
        """Train in `folder`, or continue an interrupted training there.

        Afterwards `outcrop.training.folder.is_finished(folder)` must be true.

        Args:
            patches: the patch set.
            split: the split; only its training patches are used.
            folder: folder of the run.
            seed: random seed.
            sources: see `outcrop.training.engine.train`.

        Raises:
            OutcropError: the training is impossible, or the folder was made with other settings.
        """

    def read(self, folder: Path) -> tuple[Measure, float]:
        """Read the function from images to features, and the seconds of its training.

        Raises:
            OutcropError: the folder is damaged.
        """


@dataclass(frozen=True)
class GivenFeatures:
    """A function from images to features, without training.

    Attributes:
        function: function from images, `N × bands × height × width`, to features, float, `N × F`.

    >>> GivenFeatures(np.atleast_2d).title
    'atleast_2d'
    """

    function: Measure

    @property
    def title(self) -> str:
        """Name of the function."""
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return name.strip("<>")

    def check(self, patches: PatchSet) -> None:
        """Call the function on a few patches before anything is trained.

        Raises:
            OutcropError: its result is not an array of features.
        """
        self(patches.take(np.arange(min(2, len(patches)))))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The features of some images.

        Raises:
            OutcropError: the result is not an array of features.
        """
        found = np.asarray(self.function(images))
        if found.ndim != 2 or len(found) != len(images) or found.dtype.kind not in "iuf":
            raise OutcropError(
                "encoder",
                f"{self.title} returns {found.dtype} of shape {found.shape} for {len(images)} "
                f"images; it must return numbers of shape ({len(images)}, F)",
            )
        return found


Encoder = LearntFeatures | GivenFeatures


def encoder_of(given: LearntFeatures | Measure | None) -> Encoder | None:
    """The encoder of a comparison from an argument of the user.

    Raises:
        OutcropError: the argument is neither `LearntFeatures` nor a function, or has the name of
            other features of the comparison.
    """
    if given is None:
        return None
    # A class has the methods of its instances.
    if isinstance(given, type) or not isinstance(given, LearntFeatures | Callable):
        raise OutcropError("encoder", f"is {given!r}; pass a plan, or a function of images")
    if isinstance(given, LearntFeatures):
        return given
    found = GivenFeatures(given)
    if found.title in ("patch", *FEATURES):
        raise OutcropError("encoder", f"has the name '{found.title}' of other features; rename it")
    return found
