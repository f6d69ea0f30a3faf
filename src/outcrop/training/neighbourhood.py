"""Where training patches may be cut anew: around their places, but never near what judges."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions, Source, in_slice, upper_left
from outcrop.splits.geometry import near
from outcrop.splits.split import Split

_TRIES = 16
# The axes of a volume that slices, rows and columns run along, for slices across each axis.
_AXES = np.array([(across, *in_slice(across)) for across in range(3)])


@dataclass(frozen=True)
class Shifts:
    """How far each of N patches is shifted.

    Attributes:
        by: int64, `N × 3`: slices, rows and columns.
        found: bool, `N`; false where no place was found, so that the patch stays as it is.
    """

    by: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class Neighbourhood:
    """The places around N training patches.

    Attributes:
        positions: of the training patches.
        sources: what `positions.source` points to.
        systems: of x and y, for patches of scenes: one for each source; none for volumes.
        judges: positions of the patches that no training patch may come near to.
        buffer: how near that is, in the unit of the positions (`outcrop.splits.ground.near`).
        corner: int64, `N × 3`, slice, row and column of the upper-left pixel of each patch.
        room: int64, `N × 3`, slices, rows and columns that the source has behind each patch.
        reach: int64, `N × 3`, the longest shift, either way, that leaves the patch wholly inside
            its source; below 0 where there is none.
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
        """A shift for each patch; all that are allowed are equally likely.

        A shift is allowed if the opposite one is too. Otherwise patches at an edge, or beside what
        judges, would all be shifted away from it, and the network would learn that their label
        belongs to a pixel on one side of the middle.

        Shifts are drawn from all within reach, and drawn again where they are not allowed. A patch
        for which that fails 16 times stays as it is.
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
        """The positions of the patches at `index` after shifts `by`: int, `M × 3`."""
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

    A split by ground keeps its buffer: no place is nearer to a patch of the validation or test side
    than that. A split at random has none to keep, for its sides share their ground anyway.

    Args:
        patches: square, with positions.
        pixels: reach in the plane, up or down and left or right.
        slices: reach across the slices of a volume.
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
    """Slices, rows and columns of each patch's source, a scene being one slice: int64, `N × 3`."""
    shapes = np.array([s.shape if s.is_volume else (1, *s.shape) for s in sources])[at.source]
    return np.take_along_axis(shapes, _AXES[np.maximum(at.axis, 0)], axis=1)
