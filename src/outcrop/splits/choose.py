"""The splitter that a user's words stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.splits.ground import suggest_block, suggest_buffer
from outcrop.splits.named import ColumnSplit, SceneSplit, ZoneSplit
from outcrop.splits.split import Split
from outcrop.splits.splitters import BlockSplit, RandomSplit, Splitter, positions_of

By = Literal["blocks", "zones", "scenes", "column", "random"]


def block_split(
    patches: PatchSet, block: float | None, buffer: float | None, folds: int, seed: int
) -> BlockSplit:
    """A `BlockSplit` with the sizes that the patches suggest where none are given."""
    positions = positions_of(patches, "BlockSplit")
    return BlockSplit(
        block=suggest_block(positions) if block is None else block,
        buffer=suggest_buffer(positions) if buffer is None else buffer,
        folds=folds,
        seed=seed,
    )


def make_splitter(
    patches: PatchSet,
    by: By,
    block: float | None = None,
    buffer: float | None = None,
    zones: Sequence[str | Path] = (),
    boxes: Sequence[float] = (),
    column: str | None = None,
    hold_out: Sequence[str] = (),
    folds: int = 5,
    seed: int = 0,
) -> Splitter:
    """The splitter for these words (see `outcrop split`).

    Args:
        boxes: four numbers for each box.

    Raises:
        OutcropError: a word that the way of splitting needs is missing or malformed.
    """
    if buffer is None:
        buffer = 0.0 if patches.positions is None else suggest_buffer(patches.positions)
    if by == "random":
        return RandomSplit(folds=folds, seed=seed)
    if by == "blocks":
        return block_split(patches, block, buffer, folds, seed)
    if by == "scenes":
        return SceneSplit(buffer=buffer, hold_out=tuple(hold_out))
    if by == "column":
        if column is None:
            raise OutcropError("--by column", "needs --column with the column's name")
        return ColumnSplit(buffer=buffer, column=column, hold_out=tuple(hold_out))
    if len(boxes) % 4:
        raise OutcropError("--boxes", f"takes four numbers for each box, not {len(boxes)} in all")
    corners = list(zip(boxes[::4], boxes[1::4], boxes[2::4], boxes[3::4], strict=True))
    if not zones and not corners:
        raise OutcropError("--by zones", "needs --zones with a file or --boxes with numbers")
    return ZoneSplit(buffer=buffer, zones=(*zones, *corners))


def delivered_split(patches: PatchSet) -> Split:
    """The split that a collection came with: its test side validates.

    Raises:
        OutcropError: it came with none.
    """
    if "side" not in patches.columns:
        raise OutcropError(
            "--split", "is needed: these patches came with no sides; make one with `outcrop split`"
        )
    return ColumnSplit(column="side").assign(patches)
