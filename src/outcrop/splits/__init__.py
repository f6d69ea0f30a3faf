"""Spatial and random splits; they are scikit-learn cross-validators too."""

from outcrop.splits.choose import block_split, default_folds, delivered_split, make_splitter
from outcrop.splits.folds import Folds, read_folds
from outcrop.splits.ground import suggest_block, suggest_buffer
from outcrop.splits.matching import MatchingSplit
from outcrop.splits.named import ColumnSplit, SceneSplit, ZoneSplit
from outcrop.splits.slabs import SlabSplit
from outcrop.splits.split import BUFFER, SIDES, TEST, TRAIN, VALIDATION, Split, read_split
from outcrop.splits.splitters import (
    BlockSplit,
    GroundSplit,
    RandomSplit,
    Splitter,
    random_counterpart,
    random_counterparts,
    random_folds,
)

__all__ = [
    "BUFFER",
    "SIDES",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "BlockSplit",
    "ColumnSplit",
    "Folds",
    "GroundSplit",
    "MatchingSplit",
    "RandomSplit",
    "SceneSplit",
    "SlabSplit",
    "Split",
    "Splitter",
    "ZoneSplit",
    "block_split",
    "default_folds",
    "delivered_split",
    "make_splitter",
    "random_counterpart",
    "random_counterparts",
    "random_folds",
    "read_folds",
    "read_split",
    "suggest_block",
    "suggest_buffer",
]
