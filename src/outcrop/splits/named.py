"""Splits by what the user names: zones, scenes, or a column of the labels file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import Column, PatchSet
from outcrop.patches.positions import Positions
from outcrop.sources.vector import read_vector, reproject
from outcrop.splits.split import SIDES
from outcrop.splits.splitters import GroundSplit, positions_of


@dataclass(frozen=True, kw_only=True)
class ZoneSplit(GroundSplit):
    """Zones named by the user validate, the ground outside trains.

    Attributes:
        zones: files of polygons, or boxes (smallest x, smallest y, largest x, largest y) in the
            patch set's metres. A patch is in a zone when its centre is.
    """

    zones: tuple[str | Path | tuple[float, float, float, float], ...]

    def folds_of(self, patches: PatchSet) -> list[np.ndarray]:
        """One fold: the zones."""
        positions = positions_of(patches, "ZoneSplit")
        inside = np.zeros(len(patches), bool)
        for zone in self.zones:
            if isinstance(zone, str | Path):
                inside |= _in_polygons(Path(zone), positions, patches.crs)
            else:
                left, bottom, right, top = zone
                inside |= (
                    (positions.x >= left)
                    & (positions.x <= right)
                    & (positions.y >= bottom)
                    & (positions.y <= top)
                )
        if not inside.any():
            raise OutcropError("--zones", "hold no patch; are they on the labelled ground?")
        return [inside]


@dataclass(frozen=True, kw_only=True)
class SceneSplit(GroundSplit):
    """Whole scenes or volumes: each judges what the others teach (leave one out).

    Attributes:
        hold_out: scenes or volumes, by file or file name without ending, that validate together;
            without it each is a fold.
    """

    hold_out: tuple[str, ...] = ()

    def folds_of(self, patches: PatchSet) -> list[np.ndarray]:
        """The scenes held out, or one fold a scene."""
        positions = positions_of(patches, "SceneSplit")
        names = [source.name for source in patches.sources]
        if len(names) < 2:
            kind = "volume" if patches.from_volume else "scene"
            raise OutcropError(
                "SceneSplit", f"the patches come from one {kind}; split it by blocks"
            )
        if not self.hold_out:
            return [positions.source == i for i in range(len(names))]
        chosen = [_find(name, names) for name in self.hold_out]
        return [np.isin(positions.source, chosen)]


@dataclass(frozen=True, kw_only=True)
class ColumnSplit(GroundSplit):
    """A column of the labels file, kept when cutting (`keep`).

    Attributes:
        column: its name. If its values are names of sides (train, validation, test) they are
            taken as they stand; else every value is a fold.
        hold_out: values that validate together.
    """

    column: str
    hold_out: tuple[str, ...] = ()

    def folds_of(self, patches: PatchSet) -> list[np.ndarray]:
        """The values held out, or one fold a value."""
        column = self._column(patches)
        if self.hold_out:
            missing = [value for value in self.hold_out if value not in column.names]
            if missing:
                raise OutcropError(
                    f"column '{self.column}'",
                    f"has no value '{missing[0]}'; it has {', '.join(column.names)}",
                )
            return [np.isin(column.codes, [column.names.index(v) for v in self.hold_out])]
        if "validation" in column.names and set(column.names) <= set(SIDES):
            return [column.codes == column.names.index("validation")]
        if len(column.names) < 2:
            raise OutcropError(f"column '{self.column}'", "has one value only; nothing to part")
        return [column.codes == i for i in range(len(column.names))]

    def finish(self, patches: PatchSet, sides: np.ndarray) -> np.ndarray:
        """Take test and buffer from the column if it names sides, then put the buffer between."""
        column = self._column(patches)
        if "validation" in column.names and set(column.names) <= set(SIDES):
            sides = np.array([SIDES.index(name) for name in column.names], np.int8)[column.codes]
        if patches.positions is None:
            return sides
        return super().finish(patches, sides)

    def _column(self, patches: PatchSet) -> Column:
        if self.column not in patches.columns:
            have = ", ".join(patches.columns) or "none"
            raise OutcropError(
                "--column",
                f"the patch set has no column '{self.column}' (it has {have}); "
                "keep it when cutting with --keep",
            )
        return patches.columns[self.column]


def _in_polygons(path: Path, positions: Positions, crs: str | None) -> np.ndarray:
    import geopandas as gpd

    assert crs is not None
    area = reproject(read_vector(path), crs, path).geometry.union_all()
    return gpd.GeoSeries.from_xy(positions.x, positions.y, crs=crs).intersects(area).to_numpy()


def _find(name: str, names: Sequence[str]) -> int:
    for i, candidate in enumerate(names):
        if name == candidate or name in (Path(candidate).name, Path(candidate).stem):
            return i
    raise OutcropError("--hold-out", f"no scene '{name}'; there are {', '.join(names)}")
