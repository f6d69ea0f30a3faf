"""The second look: candidates are climbed from, slice by slice and pixel by pixel, and judged.

Nothing is believed for its signature. From each of the likeliest places the normalised
cross-correlation (`outcrop.locate.correlation`) is climbed: first with patch and window reduced to
some fifty pixels, over neighbouring pixels and slices until no neighbour is better, then at full
resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outcrop.locate.correlation import correlate, standardise
from outcrop.locate.planes import Planes, Read, Slab
from outcrop.locate.signature import cells

Place = tuple[int, int, int, int, int]
"""Variant, planes, slice, row and column."""

_COARSE = 48
_SLICES, _STEP = 4, (3, 2)
_MOST_STEPS = 24


@dataclass(frozen=True)
class Peak:
    """A place where no neighbouring pixel or slice fits a patch better.

    Attributes:
        score: the normalised cross-correlation there, at full resolution.
        rival: the best of the neighbouring slices; -1 if there are none.
        gain, offset: with which patch ≈ gain × window + offset (`intensity`).
        settled: false where the climb had to stop at the edge of what was read.
    """

    score: float
    rival: float
    variant: int
    planes: int
    index: int
    row: int
    column: int
    gain: float
    offset: float
    settled: bool

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.variant, self.planes, self.index, self.row, self.column


class Patches:
    """Patches in every variant, ready to be correlated.

    Args:
        variants: for each variant the pictures, `N × bands × height × width`, uint8 or others.
        stride: of the signatures: how fast the pictures change, down and across.
    """

    def __init__(self, variants: Sequence[np.ndarray], stride: tuple[int, int]) -> None:
        self._variants = variants
        height, width = self.size = variants[0].shape[2:]
        self.cell = (
            max(1, min(round(height / _COARSE), stride[0] // 2)),
            max(1, min(round(width / _COARSE), stride[1] // 2)),
        )
        self.coarse = [standardise(cells(images, self.cell)) for images in variants]

    def fine(self, patch: int, variant: int) -> np.ndarray:
        """One patch at full resolution, standardised."""
        return standardise(self._variants[variant][patch : patch + 1])[0]

    def raw(self, patch: int, variant: int) -> np.ndarray:
        """One patch as it came."""
        return self._variants[variant][patch]


class View:
    """A slab that was read, with correlations of patches in it."""

    def __init__(self, read: Read, planes: Planes, slab: Slab, patches: Patches) -> None:
        self.slab, self.patches = slab, patches
        self.count = planes.count
        self.pixels = read(slab)

    def holds(self, index: int) -> bool:
        """Whether a slice was read."""
        return self.slab.first <= index < self.slab.last

    def coarse(
        self, patch: int, variant: int, index: int, row: int, column: int, reach: tuple[int, int]
    ) -> tuple[float, int, int]:
        """The best of the reduced windows within reach (in cells): its score, row and column."""
        cell = self.patches.cell
        down, up = self._steps(row - self.slab.top, 0, cell[0], reach[0])
        right, left = self._steps(column - self.slab.left, 1, cell[1], reach[1])
        template = self.patches.coarse[variant][patch]
        region = cells(
            self._cut(index, row - up * cell[0], column - left * cell[1],
                      (template.shape[1] + up + down) * cell[0],
                      (template.shape[2] + left + right) * cell[1]),
            cell,
        )  # fmt: skip
        score = correlate(region, template)
        i, j = np.unravel_index(int(score.argmax()), score.shape)
        return (
            float(score[i, j]),
            row + (int(i) - up) * cell[0],
            column + (int(j) - left) * cell[1],
        )

    def fine(
        self, template: np.ndarray, index: int, row: int, column: int, reach: tuple[int, int]
    ) -> tuple[float, int, int]:
        """The best of the windows within reach (in pixels): its score, row and column."""
        down, up = self._steps(row - self.slab.top, 0, 1, reach[0])
        right, left = self._steps(column - self.slab.left, 1, 1, reach[1])
        region = self._cut(
            index, row - up, column - left,
            template.shape[1] + up + down, template.shape[2] + left + right,
        )  # fmt: skip
        score = correlate(region, template)
        i, j = np.unravel_index(int(score.argmax()), score.shape)
        return float(score[i, j]), row + int(i) - up, column + int(j) - left

    def window(self, index: int, row: int, column: int) -> np.ndarray:
        """The pixels of a window: `bands × height × width`."""
        return self._cut(index, row, column, *self.patches.size)

    def _steps(self, start: int, axis: int, cell: int, reach: int) -> tuple[int, int]:
        """How many cells a window can move towards the end, and towards the beginning."""
        length = self.pixels.shape[2 + axis]
        after = (length - start - self.patches.size[axis]) // cell
        return max(0, min(reach, after)), max(0, min(reach, start // cell))

    def _cut(self, index: int, row: int, column: int, height: int, width: int) -> np.ndarray:
        top, left = row - self.slab.top, column - self.slab.left
        return self.pixels[index - self.slab.first, :, top : top + height, left : left + width]


def climb(view: View, patch: int, place: Place) -> Peak:
    """Go uphill from a place to a peak, first on reduced windows, then at full resolution."""
    variant, planes, index, row, column = place
    score = -1.0
    for _ in range(_MOST_STEPS):
        found = max(
            (*view.coarse(patch, variant, other, row, column, _STEP), other)
            for other in range(index - _SLICES, index + _SLICES + 1)
            if view.holds(other)
        )
        if found[0] <= score:
            break
        score, row, column, index = found
    template = view.patches.fine(patch, variant)
    reach = view.patches.cell
    here = view.fine(template, index, row, column, reach)
    for _ in range(_MOST_STEPS):
        beside = {
            other: view.fine(template, other, here[1], here[2], reach)
            for other in (index - 1, index + 1)
            if view.holds(other)
        }
        again = view.fine(template, index, here[1], here[2], reach)
        best_other = max(beside, key=lambda other: beside[other][0], default=index)
        if beside and beside[best_other][0] > max(here[0], again[0]):
            index, here = best_other, beside[best_other]
        elif again[0] > here[0]:
            here = again
        else:
            break
    rival = max((found[0] for found in beside.values()), default=-1.0)
    return Peak(
        here[0], rival, variant, planes, index, here[1], here[2],
        *intensity(view.patches.raw(patch, variant), view.window(index, here[1], here[2])),
        settled=_settled(view, index),
    )  # fmt: skip


def intensity(patch: np.ndarray, window: np.ndarray) -> tuple[float, float]:
    """Gain and offset with which patch ≈ gain × window + offset, by least squares over all bands.

    Args:
        patch, window: `bands × height × width`; the window is not flat.
    """
    x, y = np.asarray(window, np.float64).ravel(), np.asarray(patch, np.float64).ravel()
    spread = ((x - x.mean()) ** 2).sum()
    gain = float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else 0.0
    return gain, float(y.mean() - gain * x.mean())


def _settled(view: View, index: int) -> bool:
    ends = (index == view.slab.first and index > 0) or (
        index == view.slab.last - 1 and index < view.count - 1
    )
    return not ends
