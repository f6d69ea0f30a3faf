"""Splits by what the user names: zones, scenes, or a column of the labels file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.names import fitting
from outcrop.patches.patchset import Column, PatchSet
from outcrop.sources.vector import read_vector, reproject
from outcrop.splits.ground import from_corner
from outcrop.splits.split import SIDES
from outcrop.splits.splitters import GroundSplit, check_axis, positions_of


@dataclass(frozen=True, kw_only=True)
class ZoneSplit(GroundSplit):
    """Zones named by the user validate, the ground outside trains.

    A patch is in a zone when its middle is. With several volumes a zone is in each of them.

    Attributes:
        zones: files of polygons, for scenes, or boxes in the patch set's unit, ends included:
            smallest x, smallest y, largest x, largest y of a scene; for a volume the smallest
            along axis 0, 1 and 2, then the largest.
        slices: of a volume: axis, first slice and last slice, from 0, the last not included.
    """

    zones: tuple[str | Path | tuple[float, ...], ...] = ()
    slices: tuple[tuple[int, int, int], ...] = ()

    def folds_of(self, patches: PatchSet) -> list[np.ndarray]:
        """One fold: the zones."""
        positions_of(patches, "ZoneSplit")
        inside = np.zeros(len(patches), bool)
        for option, zone, held in self._zones(patches):
            if not held.any():
                raise OutcropError(option, f"{zone} holds no patch; is it on the labelled ground?")
            inside |= held
        return [inside]

    def _zones(self, patches: PatchSet) -> Iterator[tuple[str, str, np.ndarray]]:
        """The option that names each zone, the zone in words, and the mask of its patches."""
        for zone in self.zones:
            if isinstance(zone, str | Path):
                yield "--zones", str(zone), _in_polygons(Path(zone), patches)
            else:
                yield "--boxes", ",".join(f"{at:g}" for at in zone), _in_box(zone, patches)
        for piece in self.slices:
            yield "--slices", ":".join(map(str, piece)), _in_slices(*piece, patches)


@dataclass(frozen=True, kw_only=True)
class SceneSplit(GroundSplit):
    """Whole scenes or volumes: each judges what the others teach (leave one out).

    Attributes:
        hold_out: scenes or volumes, by file, end of the path, or file name without ending, that
            validate together; without it each is a fold. A name that fits several is refused.
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
            held = [i for i, name in enumerate(column.names) if name in self.hold_out]
            return [np.isin(column.codes, held)]
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


def _in_polygons(path: Path, patches: PatchSet) -> np.ndarray:
    import geopandas as gpd

    if patches.from_volume:
        raise OutcropError(
            "--zones", "are polygons on scenes; name zones of a volume with --slices or --boxes"
        )
    at, zones = patches.positions, read_vector(path)
    assert at is not None
    inside = np.zeros(len(at), bool)
    systems = np.array([patches.crs_of(i) for i in range(len(patches.sources))])[at.source]
    for crs in dict.fromkeys(systems.tolist()):
        here = systems == crs
        x, y = at.x[here], at.y[here]
        bounds = float(x.min()), float(y.min()), float(x.max()), float(y.max())
        area = reproject(zones, crs, path, bounds).geometry.make_valid().union_all()
        inside[here] = gpd.GeoSeries.from_xy(x, y, crs=crs).intersects(area)
    return inside


def _in_box(box: tuple[float, ...], patches: PatchSet) -> np.ndarray:
    at = patches.positions
    assert at is not None
    if not patches.from_volume and patches.crs is None:
        raise OutcropError(
            "--boxes", "the scenes lie too far apart for one system of x and y; pass --zones a file"
        )
    middle = at.middle if patches.from_volume else np.stack([at.x, at.y], axis=1)
    axes = middle.shape[1]
    if len(box) != 2 * axes:
        raise OutcropError("--boxes", f"takes {2 * axes} numbers for each box, not {len(box)}")
    inside = (middle >= box[:axes]) & (middle <= box[axes:])
    return np.asarray(inside.all(axis=1))


def _in_slices(axis: int, first: int, last: int, patches: PatchSet) -> np.ndarray:
    assert patches.positions is not None
    if not patches.from_volume:
        raise OutcropError(
            "--slices", "is for volumes; name zones of a scene by --boxes or --zones"
        )
    check_axis(axis, "--slices")
    length = max(source.shape[axis] for source in patches.sources)
    if not 0 <= first < last <= length:
        raise OutcropError(
            "--slices",
            f"{first}:{last} across axis {axis} is no range of slices; "
            f"take a first and a last within 0:{length}",
        )
    at = from_corner(patches.positions)[:, axis]
    return (at >= first) & (at < last)


def _find(word: str, names: Sequence[str]) -> int:
    found = fitting(word, names)
    if not found:
        raise OutcropError("--hold-out", f"no scene '{word}'; there are {', '.join(names)}")
    if len(found) > 1:
        several = ", ".join(names[i] for i in found)
        if len({names[i] for i in found}) == 1:
            raise OutcropError(
                "--hold-out", f"'{word}' is the name of several; cut patches of each scene once"
            )
        raise OutcropError(
            "--hold-out", f"'{word}' fits several: {several}; name it with its folder"
        )
    return found[0]
