"""Features that are learnt or given outside the house, for the classical models of a comparison."""

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
"""Images, `N × bands × height × width`, to features, float, `N × F`."""


@runtime_checkable
class LearntFeatures(Protocol):
    """How features of patches are learnt from the training side of a split.

    A comparison calls it in other processes too, so that it must be possible to pickle it.
    """

    @property
    def title(self) -> str:
        """What a table calls the features, such as "VAE-GAN code"."""

    def check(self, patches: PatchSet) -> None:
        """Refuse patches that nothing can be learnt from.

        Raises:
            OutcropError: they are of a wrong size, or this kind of learning gives no features.
        """

    def learn(
        self,
        patches: PatchSet,
        split: Split,
        folder: Path,
        seed: int,
        sources: Sequence[AnySource] | None,
    ) -> None:
        """Train in `folder`, or go on with what is there.

        When it is done, `outcrop.training.folder.is_finished(folder)` must be true.

        Args:
            split: the training side is learnt.
            seed: random seed.
            sources: see `outcrop.training.engine.train`.

        Raises:
            OutcropError: it cannot be done, or the folder was made with other settings.
        """

    def read(self, folder: Path) -> tuple[Measure, float]:
        """What turns images into features, and how many seconds it took to learn them.

        Raises:
            OutcropError: the folder is damaged.
        """


@dataclass(frozen=True)
class GivenFeatures:
    """A function that turns images into features; nothing is learnt.

    Attributes:
        function: images, `N × bands × height × width`, to features, float, `N × F`.

    >>> GivenFeatures(np.atleast_2d).title
    'atleast_2d'
    """

    function: Measure

    @property
    def title(self) -> str:
        """The name of the function."""
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return name.strip("<>")

    def check(self, patches: PatchSet) -> None:
        """Try the function on a few patches, before anything is trained.

        Raises:
            OutcropError: it gives something else than features.
        """
        self(patches.take(np.arange(min(2, len(patches)))))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The features of some images.

        Raises:
            OutcropError: the function gives something else.
        """
        found = np.asarray(self.function(images))
        if found.ndim != 2 or len(found) != len(images) or found.dtype.kind not in "iuf":
            raise OutcropError(
                "encoder",
                f"{self.title} gives {found.dtype} of shape {found.shape} for {len(images)} "
                f"images; it must give numbers of shape ({len(images)}, F)",
            )
        return found


Encoder = LearntFeatures | GivenFeatures


def encoder_of(given: LearntFeatures | Measure | None) -> Encoder | None:
    """What a user gave as an encoder, ready for a comparison.

    Raises:
        OutcropError: it is neither learnt features nor a function, or has the name of features
            that take part anyway.
    """
    if given is None:
        return None
    # A class has the methods of its instances.
    if isinstance(given, type) or not isinstance(given, LearntFeatures | Callable):
        raise OutcropError("encoder", f"is {given!r}; take a plan, or a function of images")
    if isinstance(given, LearntFeatures):
        return given
    found = GivenFeatures(given)
    if found.title in ("patch", *FEATURES):
        raise OutcropError("encoder", f"is called '{found.title}' as others are; rename it")
    return found
