"""`Located`: the origin of each patch, its confidence, and the change of its contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.frames import Tabular
from outcrop.locating.intensity import Intensity, Stretch, common
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.positions import Positions, in_slice, upper_left, volume_positions
from outcrop.sources.collections import UNLABELLED
from outcrop.sources.collections.collection import band_names
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume
from outcrop.sources.volumes.volume import PLAIN_AXES

if TYPE_CHECKING:
    import pandas

_ROUNDING = 12**-0.5
_TAKEN = {"patch", "found", "source", "axis", "index", "row", "column", *PLAIN_AXES}
_COLUMN_OF_AXIS = {"sample": "time"}
# The pandas types of columns that are empty for patches that were not found.
_NULLABLE = {**dict.fromkeys(("axis", "index", "row", "column"), "Int64"), "ambiguous": "boolean"}


@dataclass(frozen=True, eq=False, repr=False)
class Located(Tabular):
    """The origin of each of N patches. Arrays have length N, in the order of the patches.

    For a patch that was not found, `source`, `axis`, `index`, `row` and `column` are -1, `flip` is
    empty, and margin and intensity are NaN.

    Attributes:
        sources: the volumes or scenes that were searched.
        size: height and width of a patch in pixels.
        integer: whether the grey values of the patches are integers.
        usable: bool, whether the patch could be searched for: it has contrast, and less than half
            of its pixels are missing.
        found: bool.
        source: int32, index into `sources`.
        axis: int32, axis of the volume that the slice is perpendicular to; -1 in a scene.
        index: int32, number of the slice; 0 in a scene.
        row, column: int32, the upper-left pixel in the slice or scene, from 0.
        flip: str, name from `outcrop.patches.flips.FLIPS` of the transformation from the window to
            the patch.
        score: normalised cross-correlation at the best place, from -1 to 1; NaN if the patch could
            not be searched for.
        confidence: the probability that a patch of another source fits worse, from 0 to 1
            (`outcrop.locating.null`).
        margin: the score minus the best score in neighbouring slices and at other places.
        ambiguous: bool, whether a found patch may fit another place as well: not every window of
            the sources was compared, or the difference may be chance (`outcrop.locating.find`).
        intensity: gain and offset over all bands.
        bands: gain and offset of each band, if there are several.
    """

    sources: tuple[Scene | Volume, ...]
    size: tuple[int, int]
    integer: bool
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

    def __repr__(self) -> str:
        names = ", ".join(source.title for source in self.sources)
        nearly = f", {self.ambiguous.sum():,} ambiguous" if self.ambiguous.any() else ""
        return f"Located({self.found.sum():,} of {len(self):,} patches found in {names}{nearly})"

    def to_frame(self, patches: AnyPatches | None = None) -> pandas.DataFrame:
        """One row per patch, in their order; `outcrop.patches.at_positions` reads such a table.

        Columns:
            patch: the number of the patch, from 0.
            found: true or false. If false, the columns below are empty, except confidence and
                score.
            source, axis, index, row, column, flip, confidence, margin, ambiguous: as the attributes
                of `Located`.
            inline, crossline, time, or other names of the volume's axes: coordinates of the
                labelled pixel in the middle of the patch, if the volume has them, as SEG-Y does;
                the time in milliseconds, or the depth of a depth volume.
            gain, offset, residual: over all bands, in grey values; for each of several bands also
                `gain of red` and so on.
            score: the normalised cross-correlation.
            label, and names of columns: those of the patch set, if `patches` has them.

        Args:
            patches: the patches that were located, in that order.
        """
        import pandas as pd

        columns = self.columns(patches)
        for name, kind in _NULLABLE.items():
            columns[name] = pd.array(columns[name], kind)
        return pd.DataFrame(columns)

    def columns(self, patches: AnyPatches | None = None) -> dict[str, Any]:
        """The columns of `to_frame` without pandas; None or NaN in empty cells."""
        if patches is not None:
            patches = open_patches(patches, learnable=False)
        found, shown = self.found, self.intensity

        def where_found(values: np.ndarray) -> list[Any]:
            return [
                value if here else None for value, here in zip(values.tolist(), found, strict=True)
            ]

        names = np.array([source.name for source in self.sources])
        columns: dict[str, Any] = {"patch": np.arange(len(self)), "found": found}
        columns["source"] = where_found(names[self.source])
        for name in ("axis", "index", "row", "column"):
            columns[name] = where_found(getattr(self, name))
        columns |= self._coordinates()
        columns["flip"] = [name or None for name in self.flip.tolist()]
        columns |= {"confidence": self.confidence, "margin": self.margin}
        columns["ambiguous"] = where_found(self.ambiguous)
        columns |= {"gain": shown.gain, "offset": shown.offset, "residual": shown.residual}
        columns["score"] = self.score
        bands = band_names(len(self.bands)) if patches is None else patches.bands
        for band, each in zip(bands, self.bands, strict=False):
            for what in ("gain", "offset", "residual"):
                columns[f"{what} of {band}"] = getattr(each, what)
        if patches is not None:
            if patches.classes != UNLABELLED:
                columns["label"] = np.array(patches.classes)[patches.labels]
            for name, column in patches.columns.items():
                columns.setdefault(name, np.array(column.names)[column.codes])
        return columns

    def _coordinates(self) -> dict[str, np.ndarray]:
        """Coordinates of the patches' middles, for each axis of the volumes that has some."""
        found: dict[str, np.ndarray] = {}
        if not self.found.any() or not self.from_volume:
            return found
        at = self.in_volumes()
        voxel = np.empty((3, len(at)), np.int64)
        for across in range(3):
            here, (down, right) = at.axis == across, in_slice(across)
            voxel[across, here] = at.index[here]
            voxel[down, here], voxel[right, here] = at.row[here], at.column[here]
        for number, volume in enumerate(self.sources):
            assert isinstance(volume, Volume)
            mine = at.source == number
            for k, (name, line) in enumerate(zip(volume.axes, volume.coordinates, strict=True)):
                if line is not None and name not in _TAKEN:
                    column = _COLUMN_OF_AXIS.get(name, name)
                    values = found.setdefault(column, np.full(len(self), np.nan))
                    values[np.flatnonzero(self.found)[mine]] = line[voxel[k, mine]]
        return found

    def centres(self, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the labelled pixels of some patches, by index."""
        height, width = self.size
        return self.row[here] - upper_left(0, height), self.column[here] - upper_left(0, width)

    def in_volumes(self) -> Positions:
        """The positions of the patches found, in volumes."""
        here = np.flatnonzero(self.found)
        return volume_positions(
            self.source[here], self.axis[here], self.index[here], *self.centres(here), self.size
        )

    @property
    def from_volume(self) -> bool:
        """Whether volumes were searched, not scenes."""
        return isinstance(self.sources[0], Volume)

    @property
    def duplicates(self) -> np.ndarray:
        """Mask of the patches found at the place of an earlier one, flipped or not."""
        here = np.flatnonzero(self.found)
        place = np.stack([self.source, self.axis, self.index, self.row, self.column])[:, here]
        _, first = np.unique(place, axis=1, return_index=True)
        duplicates = self.found.copy()
        duplicates[here[first]] = False
        return duplicates

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """For each band the gain and offset that fit most patches found, if there are any."""
        if not self.found.any():
            return ()
        rounding = _ROUNDING if self.integer else 0.0
        return tuple(common(one[self.found], rounding) for one in self.bands or (self.intensity,))
