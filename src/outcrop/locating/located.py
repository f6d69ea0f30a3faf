"""`Located`: where each patch was cut, how sure that is, and what was done to its contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.locating.intensity import Intensity, Stretch, common
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume

_ROUNDING = 12**-0.5


@dataclass(frozen=True, eq=False)
class Located:
    """Where each of N patches was cut. Arrays are of length N, in the order of the patches.

    Of a patch that was not found, `source`, `axis`, `index`, `row` and `column` are -1, `flip` is
    empty, and margin and intensity are NaN.

    Attributes:
        sources: what was searched.
        size: height and width of a patch in pixels.
        whole: whether the patches have whole grey values.
        usable: bool, whether it could be looked for: not flat, and no pixel missing.
        found: bool.
        source: int32, index into `sources`.
        axis: int8, the axis of the volume that the slice is across; -1 in a scene.
        index: int32, the slice; 0 in a scene.
        row, column: int32, the upper-left pixel in the slice or scene, from 0.
        flip: str, of `outcrop.patches.flips.FLIPS`: what the window has to go through to look like
            the patch.
        score: the normalised cross-correlation of the best place, from -1 to 1; NaN where it could
            not be looked for.
        confidence: the probability that a patch from elsewhere would fit worse, from 0 to 1
            (`outcrop.locating.null`).
        margin: the score minus the best of the neighbouring slices and of other places.
        ambiguous: bool, of those found, whether another place may fit as well: where not every
            window of the sources was compared, or the difference may be chance
            (`outcrop.locating.peaks`).
        intensity: over all bands.
        bands: for each band, where there are several.
    """

    sources: tuple[Scene | Volume, ...]
    size: tuple[int, int]
    whole: bool
    usable: np.ndarray
    found: np.ndarray
    source: np.ndarray
    axis: np.ndarray
    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    flip: np.ndarray
    score: np.ndarray
    confidence: np.ndarray
    margin: np.ndarray
    ambiguous: np.ndarray
    intensity: Intensity
    bands: tuple[Intensity, ...]

    def __len__(self) -> int:
        return len(self.found)

    @property
    def from_volume(self) -> bool:
        """Whether volumes were searched, not scenes."""
        return isinstance(self.sources[0], Volume)

    @property
    def twins(self) -> np.ndarray:
        """Mask of the patches found where an earlier one was found too, flipped or not."""
        here = np.flatnonzero(self.found)
        place = np.stack([self.source, self.axis, self.index, self.row, self.column])[:, here]
        _, first = np.unique(place, axis=1, return_index=True)
        twins = self.found.copy()
        twins[here[first]] = False
        return twins

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """For each band the gain and offset that serve most of the patches found, if any was."""
        if not self.found.any():
            return ()
        rounding = _ROUNDING if self.whole else 0.0
        return tuple(common(one[self.found], rounding) for one in self.bands or (self.intensity,))
