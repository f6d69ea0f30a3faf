"""Splitters: random, by spatial blocks or slabs, and by zones, scenes or columns."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import Column, PatchSet
from outcrop.patches.positions import fitting
from outcrop.sources.vector import read_vector, reproject
from outcrop.splits.base import (
    SpatialSplit,
    Splitter,
    check_axis,
    check_folds,
    masks_of,
    positions_of,
    stratified_masks,
)
from outcrop.splits.folds import untrained_classes
from outcrop.splits.geometry import blocks, from_corner, volume_of
from outcrop.splits.split import SIDES

_ATTEMPTS, _QUICK = 8, 20_000


@dataclass(frozen=True, kw_only=True)
class RandomSplit(Splitter):
    """Stratified random split.

    Its score is usually too high, because neighbours of the validation patches are in the training
    side. It is here to measure that leak gap, and for collections of independent images.

    Attributes:
        n_splits: number of folds, one of which is for validation.
        random_state: random seed.
    """

    n_splits: int = 5
    random_state: int = 0
    spatial: ClassVar[bool] = False

    def validation_masks(self, patches: PatchSet) -> list[np.ndarray]:
        """Stratified folds (`sklearn.model_selection.StratifiedKFold`)."""
        from sklearn.model_selection import StratifiedKFold

        check_folds(patches, self.n_splits, self.random_state)
        if patches.counts.max() < self.n_splits:  # scikit-learn raises an error for these
            every = np.arange(len(patches))
            return stratified_masks(patches, every, self.n_splits, self.random_state)
        stratified = StratifiedKFold(self.n_splits, shuffle=True, random_state=self.random_state)
        masks = np.zeros((self.n_splits, len(patches)), bool)
        with warnings.catch_warnings():
            # The warning is about classes with fewer patches than folds; `Split.warnings` names
            # them.
            warnings.simplefilter("ignore", UserWarning)
            for mask, (_, held_out) in zip(
                masks, stratified.split(patches.labels, patches.labels), strict=True
            ):
                mask[held_out] = True
        return list(masks)


@dataclass(frozen=True, kw_only=True)
class BlockSplit(SpatialSplit):
    """Spatial blocks, assigned to folds such that the classes are in proportion.

    Blocks are the squares of a grid over a scene, or the cubes of a grid through a volume. A
    labelled polygon belongs to the block with most of its patches. Blocks are assigned to folds by
    `sklearn.model_selection.StratifiedGroupKFold`, repaired by `stratified_folds`.

    Sources: spatial block cross-validation, Roberts et al. 2017, Ecography 40, 913-929; buffer,
    Le Rest et al. 2014, Global Ecology and Biogeography 23, 811-820.

    Attributes:
        block: side of a block in metres, or in voxels of a volume. It should not be smaller than
            the range of spatial autocorrelation.
        n_splits: number of folds, one of which is for validation.
        random_state: random seed for assigning blocks to folds.

    >>> BlockSplit(block=2_000, buffer=320)
    BlockSplit(buffer=320, block=2000, n_splits=5, random_state=0)
    """

    block: float
    n_splits: int = 5
    random_state: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.block > 0:
            raise OutcropError("`block`", f"must be more than 0, not {self.block:g}")

    def validation_masks(self, patches: PatchSet) -> list[np.ndarray]:
        """Folds of whole blocks."""
        check_folds(patches, self.n_splits, self.random_state)
        groups = self.groups_of(patches)
        count = groups.max() + 1
        if count < self.n_splits:
            raise OutcropError(
                "`block`",
                f"blocks of {self.block:g} {patches.unit} give {count} spatial groups, fewer than "
                f"{self.n_splits} folds; use smaller blocks or fewer folds",
            )
        return self._with_fewest_untrained_classes(patches, groups)

    def _with_fewest_untrained_classes(
        self, patches: PatchSet, groups: np.ndarray
    ) -> list[np.ndarray]:
        """The assignment, of several, whose buffer removes fewest classes from training sides.

        A class in a single group cannot be both trained on and validated, so the number of such
        classes is the lower bound.
        """
        counts = [len(np.unique(groups[patches.labels == k])) for k in np.unique(patches.labels)]
        least = counts.count(1)
        attempts = _ATTEMPTS if len(patches) <= _QUICK else 1
        best, fewest = [], len(patches) * self.n_splits
        for seed in range(self.random_state, self.random_state + attempts):
            masks = stratified_masks(patches, groups, self.n_splits, seed % (1 << 32))
            sides = self._sides(patches, masks)
            untrained = sum(len(untrained_classes(one, patches.labels)) for one in sides)
            if untrained < fewest:
                best, fewest = masks, untrained
            if untrained <= least:
                break
        return best

    def groups_of(self, patches: PatchSet) -> np.ndarray:
        """The blocks."""
        return blocks(positions_of(patches, "BlockSplit"), self.block)


@dataclass(frozen=True, kw_only=True)
class SlabSplit(SpatialSplit):
    """Slabs of a volume, assigned to folds in turn: slab 0 to fold 0, slab 1 to fold 1, ...

    A slab is a number of successive slices across one axis, through the whole volume. A patch
    belongs to the slab that contains its centre. Slabs without patches are not counted.

    Attributes:
        axis: axis that the slabs are perpendicular to, from 0.
        thickness: thickness of a slab in voxels. It should be much larger than the buffer, which
            is removed on both sides of every slab of another fold.
        n_splits: number of folds, one of which is for validation.

    >>> SlabSplit(axis=0, thickness=50, buffer=10).describe()["thickness"]
    50
    """

    axis: int
    thickness: int
    n_splits: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_axis(self.axis, "`axis`")
        for name, least in (("thickness", 1), ("n_splits", 2)):
            if not (number := getattr(self, name)) >= least:
                raise OutcropError(f"`{name}`", f"must be at least {least}, not {number}")

    def validation_masks(self, patches: PatchSet) -> list[np.ndarray]:
        """Every `n_splits`-th slab, starting from each of the first slabs."""
        slab = self._slab(patches)
        count = int(slab.max()) + 1
        if count < self.n_splits:
            raise OutcropError(
                "`thickness`",
                f"{count} slabs of {self.thickness} voxels across axis {self.axis} contain "
                f"patches, fewer than {self.n_splits} folds; use thinner slabs or fewer folds",
            )
        return masks_of(slab % self.n_splits, self.n_splits)

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


@dataclass(frozen=True, kw_only=True)
class ZoneSplit(SpatialSplit):
    """Validation on zones named by the user, training on the rest.

    A patch is in a zone if its centre is. With several volumes a zone is in each of them.

    Attributes:
        zones: polygon files for scenes, or boxes in the patch set's unit, ends included: smallest
            x, smallest y, largest x, largest y in a scene; in a volume the smallest coordinates
            along axes 0, 1 and 2, then the largest.
        slices: ranges of slices of a volume: axis, first slice and last slice, from 0, the last
            not included.
    """

    zones: tuple[str | Path | tuple[float, ...], ...] = ()
    slices: tuple[tuple[int, int, int], ...] = ()

    def validation_masks(self, patches: PatchSet) -> list[np.ndarray]:
        """One fold: the zones."""
        positions_of(patches, "ZoneSplit")
        inside = np.zeros(len(patches), bool)
        for where, mask in self._zones(patches):
            if not mask.any():
                raise OutcropError(where, "holds no patch; choose a zone in the labelled area")
            inside |= mask
        return [inside]

    def _zones(self, patches: PatchSet) -> Iterator[tuple[str, np.ndarray]]:
        """For each zone the argument that gives it, and the mask of its patches."""
        for zone in self.zones:
            if isinstance(zone, str | Path):
                yield f"`zones={str(zone)!r}`", _in_polygons(Path(zone), patches)
            else:
                yield f"`zones={_words(zone)}`", _in_box(zone, patches)
        for one in self.slices:
            yield f"`slices=[{one}]`", _in_slices(*one, patches)


@dataclass(frozen=True, kw_only=True)
class SceneSplit(SpatialSplit):
    """Validation on whole scenes or volumes (leave one out).

    Attributes:
        hold_out: scenes or volumes for validation, by file, end of the path, or file name without
            extension. By default every scene is a fold. A name that matches several is an error.
    """

    hold_out: tuple[str, ...] = ()

    def validation_masks(self, patches: PatchSet) -> list[np.ndarray]:
        """The scenes held out, or one fold per scene."""
        positions = positions_of(patches, "SceneSplit")
        names = [source.name for source in patches.sources]
        if len(names) < 2:
            kind = "volume" if patches.from_volume else "scene"
            raise OutcropError(
                "SceneSplit", f"the patches come from one {kind}; split it by blocks"
            )
        if not self.hold_out:
            return masks_of(positions.source, len(names))
        chosen = [_find(name, names) for name in self.hold_out]
        return [np.isin(positions.source, chosen)]


@dataclass(frozen=True, kw_only=True)
class ColumnSplit(SpatialSplit):
    """Validation on values of a column of the labels file, kept when cutting (`keep`).

    Attributes:
        column: name of the column. If its values are names of sides (train, validation, test),
            these are the sides. Otherwise every value is a fold.
        hold_out: values for validation.
    """

    column: str
    hold_out: tuple[str, ...] = ()

    def validation_masks(self, patches: PatchSet) -> list[np.ndarray]:
        """The values held out, or one fold per value."""
        column = self._column(patches)
        if self.hold_out:
            missing = [value for value in self.hold_out if value not in column.names]
            if missing:
                raise OutcropError(
                    f"column '{self.column}'",
                    f"has no value '{missing[0]}'; it has {', '.join(column.names)}",
                )
            held_out = [i for i, name in enumerate(column.names) if name in self.hold_out]
            return [np.isin(column.codes, held_out)]
        if _names_sides(column):
            return [column.codes == column.names.index("validation")]
        if len(column.names) < 2:
            raise OutcropError(
                f"column '{self.column}'", "has only one value; choose a column with several"
            )
        return masks_of(column.codes, len(column.names))

    def with_buffer(self, patches: PatchSet, sides: np.ndarray) -> np.ndarray:
        """The sides of the column if it names sides, then with the buffer between them."""
        column = self._column(patches)
        if _names_sides(column):
            sides = np.array([SIDES.index(name) for name in column.names], np.int8)[column.codes]
        if patches.positions is None:
            return sides
        return super().with_buffer(patches, sides)

    def _column(self, patches: PatchSet) -> Column:
        if self.column not in patches.columns:
            have = ", ".join(patches.columns) or "none"
            raise OutcropError(
                "`column`",
                f"the patch set has no column '{self.column}' (it has {have}); "
                "keep it when cutting with `keep`",
            )
        return patches.columns[self.column]


def _names_sides(column: Column) -> bool:
    return "validation" in column.names and set(column.names) <= set(SIDES)


def _in_polygons(path: Path, patches: PatchSet) -> np.ndarray:
    import geopandas as gpd

    if patches.from_volume:
        raise OutcropError(
            "`zones`", "are polygons on scenes; name zones of a volume with `slices` or boxes"
        )
    at, zones = patches.positions, read_vector(path)
    assert at is not None
    inside = np.zeros(len(at), bool)
    of_sources = [patches.crs_of(i) for i in range(len(patches.sources))] or [patches.crs]
    if None in of_sources:
        raise OutcropError(
            "`zones`", "need a coordinate reference system; pass a GeoDataFrame as X, or boxes"
        )
    systems = np.array(of_sources)[at.source]
    for crs in dict.fromkeys(systems.tolist()):
        here = systems == crs
        x, y = at.x[here], at.y[here]
        bounds = float(x.min()), float(y.min()), float(x.max()), float(y.max())
        area = reproject(zones, crs, path, bounds).geometry.make_valid().union_all()
        inside[here] = gpd.GeoSeries.from_xy(x, y, crs=crs).intersects(area)
    return inside


def _words(box: Sequence[float]) -> str:
    return f"({', '.join(f'{at:g}' for at in box)})"


def _in_box(box: tuple[float, ...], patches: PatchSet) -> np.ndarray:
    at = patches.positions
    assert at is not None
    # Coordinates without a source, such as an array X of scikit-learn, have one system.
    if not patches.from_volume and patches.crs is None and patches.sources:
        raise OutcropError(
            f"`zones={_words(box)}`",
            "boxes need a common coordinate system, and the scenes are too far apart; pass a file",
        )
    middle = at.middle if patches.from_volume else np.stack([at.x, at.y], axis=1)
    axes = middle.shape[1]
    if len(box) != 2 * axes:
        raise OutcropError(f"`zones={_words(box)}`", f"takes {2 * axes} numbers for each box")
    inside = (middle >= box[:axes]) & (middle <= box[axes:])
    return np.asarray(inside.all(axis=1))


def _in_slices(axis: int, first: int, last: int, patches: PatchSet) -> np.ndarray:
    assert patches.positions is not None
    if not patches.from_volume:
        raise OutcropError("`slices`", "is for volumes; name zones of a scene with `zones`")
    check_axis(axis, "`slices`")
    length = max(source.shape[axis] for source in patches.sources)
    if not 0 <= first < last <= length:
        raise OutcropError(
            "`slices`",
            f"{first}:{last} across axis {axis} is no range of slices; "
            f"use a first and a last within 0:{length}",
        )
    at = from_corner(patches.positions)[:, axis]
    return (at >= first) & (at < last)


def _find(word: str, names: Sequence[str]) -> int:
    found = fitting(word, names)
    if not found:
        raise OutcropError("`hold_out`", f"no scene '{word}'; there are {', '.join(names)}")
    if len(found) > 1:
        several = ", ".join(names[i] for i in found)
        if len({names[i] for i in found}) == 1:
            raise OutcropError(
                "`hold_out`", f"'{word}' is the name of several; cut patches of each scene once"
            )
        raise OutcropError(
            "`hold_out`", f"'{word}' matches several: {several}; name it with its folder"
        )
    return found[0]
