"""Alternating slabs of a volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.splits.ground import from_corner, volume_of
from outcrop.splits.splitters import GroundSplit, check_axis, positions_of


@dataclass(frozen=True, kw_only=True)
class SlabSplit(GroundSplit):
    """Slabs of a volume, dealt to folds in turn: the first to fold 0, the next to fold 1, ...

    A slab is so many successive slices across one axis, through the whole volume; a patch belongs
    to the slab that holds its middle. Slabs without patches are passed over.

    Attributes:
        axis: that the slabs lie across, from 0.
        thickness: of a slab, in voxels; choose it well above the buffer, for each slab loses the
            buffer on both sides of every slab of another fold.
        folds: one of them validates.

    >>> SlabSplit(axis=0, thickness=50, buffer=10).describe()["thickness"]
    50
    """

    axis: int
    thickness: int
    folds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_axis(self.axis, "--axis")
        for option, number, least in (("thickness", self.thickness, 1), ("folds", self.folds, 2)):
            if not number >= least:
                raise OutcropError(f"--{option}", f"must be at least {least}, not {number}")

    def folds_of(self, patches: PatchSet) -> list[np.ndarray]:
        """One slab in so many, from each of the first ones on."""
        slab = self._slab(patches)
        count = int(slab.max()) + 1
        if count < self.folds:
            raise OutcropError(
                "--thickness",
                f"slabs of {self.thickness} voxels across axis {self.axis} give {count} with "
                f"patches, fewer than {self.folds} folds; take thinner slabs or fewer folds",
            )
        return [slab % self.folds == fold for fold in range(self.folds)]

    def _slab(self, patches: PatchSet) -> np.ndarray:
        """The slab of each patch, numbered along the axis and volume after volume, no gaps."""
        positions = positions_of(patches, "SlabSplit")
        if not patches.from_volume:
            raise OutcropError(
                "SlabSplit", "is for volumes, and these patches are from scenes; split by blocks"
            )
        slab = np.floor(from_corner(positions)[:, self.axis] / self.thickness)
        pairs = np.stack([volume_of(positions), slab], axis=1)
        return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
