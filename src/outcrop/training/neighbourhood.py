"""Positions where training patches may be cut again: near their own, away from held-out ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions, Source, in_slice, upper_left
from outcrop.splits.geometry import near
from outcrop.splits.split import Split

_TRIES = 16
# The axes of slices, rows and columns, for slices perpendicular to each axis of a volume.
_AXES = np.array([(across, *in_slice(across)) for across in range(3)])


@dataclass(frozen=True)
class Shifts:
    """The shifts of N patches.

    Attributes:
        by: int64, `N × 3`: slices, rows and columns.
        found: bool, `N`; false if no position was found, so that the patch is not cut again.
    """

    by: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class Neighbourhood:
    """The allowed positions around N training patches.

    Attributes:
        positions: positions of the training patches.
        sources: sources that `positions.source` refers to.
        systems: coordinate reference system of x and y for each scene; empty for volumes.
        judges: positions of the validation and test patches.
        buffer: minimum distance to these, in the unit of the positions
            (`outcrop.splits.geometry.near`).
        corner: int64, `N × 3`, slice, row and column of the upper-left pixel of each patch.
        room: int64, `N × 3`, slices, rows and columns of the source after each patch.
        reach: int64, `N × 3`, the longest shift in either direction that keeps the patch inside its
            source; below 0 if there is none.
    """

    positions: Positions
    sources: tuple[Source, ...]
    systems: tuple[str, ...]
    judges: Positions
    buffer: float
    corner: np.ndarray
    room: np.ndarray
    reach: np.ndarray

    def draw(self, random: np.random.Generator) -> Shifts:
        """A random shift for each patch; all allowed shifts are equally likely.

        A shift is allowed if the opposite shift is allowed too. Otherwise all patches near an edge
        or a held-out patch would be shifted away from it, and the network would learn that their
        label belongs to a pixel beside the middle.

        Shifts within reach are drawn up to 16 times, until they are allowed.
        """
        by, found = np.zeros_like(self.reach), np.zeros(len(self.reach), bool)
        waiting = np.flatnonzero((self.reach >= 0).all(axis=1))
        for _ in range(_TRIES):
            tried = random.integers(-self.reach[waiting], self.reach[waiting], endpoint=True)
            free = ~self._near(waiting, tried) & ~self._near(waiting, -tried)
            by[waiting[free]], found[waiting[free]] = tried[free], True
            waiting = waiting[~free]
            if not len(waiting):
                break
        return Shifts(by, found)

    def _near(self, index: np.ndarray, by: np.ndarray) -> np.ndarray:
        return near(self.moved(index, by), self.judges, self.buffer)

    def moved(self, index: np.ndarray, by: np.ndarray) -> Positions:
        """Positions of the patches at `index` after the shifts `by`, int, `M × 3`."""
        at = self.positions[index]
        at = replace(
            at, index=at.index + by[:, 0], row=at.row + by[:, 1], column=at.column + by[:, 2]
        )
        if not self.systems:
            middle = at.middle
            middle[np.arange(len(at))[:, None], _AXES[at.axis]] += by
            return replace(at, z=middle[:, 0], y=middle[:, 1], x=middle[:, 2])
        x, y = np.empty((2, len(at)))
        for number in np.unique(at.source):
            here = at.source == number
            x[here], y[here] = self.sources[number].xy(
                at.row[here], at.column[here], self.systems[number]
            )
        return replace(at, y=y, x=x)


def neighbourhood_of(
    patches: PatchSet, split: Split, pixels: int, slices: int = 0
) -> Neighbourhood:
    """The neighbourhood of the training patches of a split.

    For a spatial split, no position is nearer to a validation or test patch than the buffer. A
    random split has no buffer.

    Args:
        patches: square patches with positions.
        pixels: maximum shift in rows and columns.
        slices: maximum shift across the slices of a volume.
    """
    assert patches.positions is not None
    at, size = patches.positions[split.train], patches.size[0]
    judging = np.concatenate([split.validation, split.test]) if split.spatial else split.train[:0]
    corner = np.stack([at.index, upper_left(at.row, size), upper_left(at.column, size)], axis=1)
    room = _lengths(at, patches.sources) - (1, size, size) - corner
    reach = np.array([slices, pixels, pixels])
    return Neighbourhood(
        positions=at,
        sources=patches.sources,
        systems=tuple(filter(None, map(patches.crs_of, range(len(patches.sources))))),
        judges=patches.positions[judging],
        buffer=float(split.how.get("buffer", 0.0)),
        corner=corner,
        room=room,
        reach=np.minimum(reach, np.minimum(corner, room)),
    )


def _lengths(at: Positions, sources: tuple[Source, ...]) -> np.ndarray:
    """Slices, rows and columns of each source, int64, `N × 3`; a scene has one slice."""
    shapes = np.array([s.shape if s.is_volume else (1, *s.shape) for s in sources])[at.source]
    return np.take_along_axis(shapes, _AXES[np.maximum(at.axis, 0)], axis=1)
