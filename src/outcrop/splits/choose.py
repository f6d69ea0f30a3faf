"""Choose a splitter from the options of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from outcrop.errors import OutcropError
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.progress import warn
from outcrop.splits.base import Splitter, positions_of
from outcrop.splits.folds import Folds
from outcrop.splits.geometry import suggest_block, suggest_buffer
from outcrop.splits.matching import MatchingSplit
from outcrop.splits.split import Split
from outcrop.splits.splitters import (
    BlockSplit,
    ColumnSplit,
    RandomSplit,
    SceneSplit,
    SlabSplit,
    ZoneSplit,
)

By = Literal["blocks", "matching", "zones", "slabs", "scenes", "column", "random"]


def block_split(
    patches: AnyPatches, block: float | None, buffer: float | None, folds: int, seed: int
) -> BlockSplit:
    """A `BlockSplit`; block and buffer default to `suggest_block` and `suggest_buffer`."""
    positions = positions_of(open_patches(patches), "BlockSplit")
    return BlockSplit(
        block=suggest_block(positions, folds) if block is None else block,
        buffer=suggest_buffer(positions) if buffer is None else buffer,
        n_splits=folds,
        random_state=seed,
    )


def default_folds(
    patches: AnyPatches,
    folds: int = 5,
    block: float | None = None,
    buffer: float | None = None,
    seed: int = 0,
) -> Folds:
    """The default folds of a comparison: spatial blocks, each held out once.

    Patches without positions use the sides that their collection was published with. If there are
    none, the folds are random, and a note is printed.

    Args:
        patches: patch set, or its name.
        folds: number of folds; 1 holds out one fold of five.
        block, buffer: as in `block_split`.
        seed: random seed for assigning blocks to folds.

    Raises:
        OutcropError: such folds cannot be made.
    """
    if folds < 1:
        raise OutcropError("`folds`", f"must be at least 1, not {folds}")
    patches, several = open_patches(patches), folds if folds > 1 else 5
    if patches.positions is not None:
        splitter: Splitter = block_split(patches, block, buffer, several, seed)
    else:
        if block is not None or buffer is not None:
            option = "`buffer`" if block is None else "`block`"
            raise OutcropError(option, "needs patches with positions; leave it out")
        if "side" in patches.columns:
            warn("the patches have no positions; the split of their collection is used")
            return Folds((delivered_split(patches),))
        warn(
            "the patches have no positions, so the folds are random; scores are too high if "
            "several images show the same place"
        )
        splitter = RandomSplit(n_splits=several, random_state=seed)
    return splitter.assign_all(patches) if folds > 1 else Folds((splitter.assign(patches),))


def make_splitter(
    patches: AnyPatches,
    by: By,
    *,
    block: float | None = None,
    buffer: float | None = None,
    zones: Sequence[str | Path] = (),
    boxes: Sequence[float] = (),
    slices: Sequence[str] = (),
    axis: int | None = None,
    thickness: int | None = None,
    column: str | None = None,
    hold_out: Sequence[str] = (),
    folds: int = 5,
    seed: int = 0,
) -> Splitter:
    """The splitter for the options of `outcrop split`.

    Args:
        boxes: four numbers per box, in a volume six.
        slices: ranges of slices, each as axis:first:last.

    Raises:
        OutcropError: an option that the kind of split needs is missing or malformed.
    """
    patches = open_patches(patches)
    if by == "random":
        return RandomSplit(n_splits=folds, random_state=seed)
    if by == "blocks":
        return block_split(patches, block, buffer, folds, seed)
    if by == "matching":
        return MatchingSplit(buffer=buffer or 0.0, n_splits=folds, random_state=seed)
    if buffer is None:
        buffer = 0.0 if patches.positions is None else suggest_buffer(patches.positions)
    if by == "scenes":
        return SceneSplit(buffer=buffer, hold_out=tuple(hold_out))
    if by == "slabs":
        if axis is None or thickness is None:
            raise OutcropError("`by='slabs'`", "needs `axis` and `thickness`, in voxels")
        return SlabSplit(buffer=buffer, axis=axis, thickness=thickness, n_splits=folds)
    if by == "column":
        if column is None:
            raise OutcropError("`by='column'`", "needs `column` with the name of the column")
        return ColumnSplit(buffer=buffer, column=column, hold_out=tuple(hold_out))
    if not (zones or boxes or slices):
        kinds = "`slices` or `boxes`" if patches.from_volume else "`zones` with a file or `boxes`"
        raise OutcropError("`by='zones'`", f"needs {kinds} with numbers")
    every = (*zones, *_boxes(boxes, 6 if patches.from_volume else 4))
    return ZoneSplit(buffer=buffer, zones=every, slices=tuple(map(_slices, slices)))


def _boxes(numbers: Sequence[float], each: int) -> list[tuple[float, ...]]:
    if len(numbers) % each:
        count = {4: "four numbers", 6: "six numbers in a volume"}[each]
        raise OutcropError("`boxes`", f"takes {count} for each box, not {len(numbers)} in all")
    return [tuple(numbers[i : i + each]) for i in range(0, len(numbers), each)]


def _slices(words: str) -> tuple[int, int, int]:
    try:
        axis, first, last = map(int, words.split(":"))
    except ValueError:
        raise OutcropError(
            "`slices`", f"expected axis:first:last such as 0:100:200, not '{words}'"
        ) from None
    return axis, first, last


def delivered_split(patches: AnyPatches) -> Split:
    """The split that a collection was published with; its test side is for validation.

    Raises:
        OutcropError: it was published without one.
    """
    patches = open_patches(patches)
    if "side" not in patches.columns:
        raise OutcropError(
            "`split`",
            "is required: these patches have no published split; make one with `outcrop.splits`",
        )
    return ColumnSplit(column="side").assign(patches)
