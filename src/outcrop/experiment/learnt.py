"""Features that are learnt outside the house, for the classical models of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

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
