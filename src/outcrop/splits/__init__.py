"""Spatial and random splitters, which are cross-validators of scikit-learn, and their splits."""

from outcrop.splits.base import SpatialSplit, Splitter
from outcrop.splits.choose import block_split, default_folds, delivered_split, make_splitter
from outcrop.splits.counterparts import random_counterpart, random_counterparts, random_folds
from outcrop.splits.folds import Folds, read_folds
from outcrop.splits.geometry import suggest_block, suggest_buffer
from outcrop.splits.matching import MatchingSplit
from outcrop.splits.split import BUFFER, SIDES, TEST, TRAIN, VALIDATION, Split, read_split
from outcrop.splits.splitters import (
    BlockSplit,
    ColumnSplit,
    RandomSplit,
    SceneSplit,
    SlabSplit,
    ZoneSplit,
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
    "MatchingSplit",
    "RandomSplit",
    "SceneSplit",
    "SlabSplit",
    "SpatialSplit",
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
