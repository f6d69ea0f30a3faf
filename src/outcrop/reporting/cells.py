"""Rasters of any size counted into the cells of a small picture, window by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.mapping.layers import LAYERS, NODATA
from outcrop.mapping.rasters import open_raster, truth_names, truth_on, windows

_THRESHOLD = 100


@dataclass(frozen=True)
class Cells:
    """How many pixels of each cell are known, and of how many of them something holds.

    Attributes:
        known, holds: int64, `h × w`.
    """

    known: np.ndarray
    holds: np.ndarray

    @property
    def overall(self) -> float:
        """The share of all known pixels of which it holds; NaN if none is known."""
        known = int(self.known.sum())
        return int(self.holds.sum()) / known if known else np.nan

    @property
    def shares(self) -> np.ndarray:
        """The same by cell: float64, `h × w`, NaN where nothing is known."""
        nothing = np.full(self.known.shape, np.nan)
        return np.divide(self.holds, self.known, out=nothing, where=self.known > 0)


def count_cells(
    masks: Iterable[tuple[Any, np.ndarray]], shape: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Count pixels by the cell of a picture that they fall into.

    Args:
        masks: windows that cover a raster once, and in each bool, `masks × rows × columns`.
        shape: rows and columns of the raster.
        size: those of the picture, no larger.

    Returns:
        int64, `masks × h × w`.
    """
    found: np.ndarray | None = None
    for window, mask in masks:
        corner, part = (window.row_off, window.col_off), mask.shape[1:]
        cells = [
            np.arange(start, start + length) * few // many
            for start, length, few, many in zip(corner, part, size, shape, strict=True)
        ]
        sums = mask.astype(np.int64)
        for axis, cell in enumerate(cells, start=1):
            first = np.flatnonzero(np.diff(cell, prepend=-1))
            sums = np.add.reduceat(sums, first, axis=axis)
        if found is None:
            found = np.zeros((len(mask), *size), np.int64)
        down, right = (slice(cell[0], cell[-1] + 1) for cell in cells)
        found[:, down, right] += sums
    assert found is not None
    return found


def wrong_cells(
    path: Path, truth: Path, classes: Sequence[str], size: tuple[int, int]
) -> tuple[Cells, np.ndarray]:
    """Where a class map differs from a raster of true classes.

    Args:
        path: the map.
        truth: on any grid; it is brought onto the map's by nearest neighbour.
        classes: of the map, from value 1, then others of the truth.
        size: height and width of the picture.

    Returns:
        The pixels known to both, and those that differ; and a picture of the truth, nearest pixels
        taken: uint8, `h × w`, as `class_codes` gives it.

    Raises:
        OutcropError: a file is missing or damaged.
    """
    names = truth_names(truth)
    with open_raster(path) as mapped, truth_on(mapped, truth) as reference:

        def masks() -> Iterator[tuple[Any, np.ndarray]]:
            for window in windows(mapped):
                said = mapped.read(1, window=window)
                values = reference.read(1, window=window, masked=True)
                true = class_codes(values, names, classes)
                known = (said != NODATA) & (true != 0)
                yield window, np.stack([known, known & (said != true)])

        known, wrong = count_cells(masks(), mapped.shape, size)
        sample = reference.read(1, out_shape=size, masked=True)
    return Cells(known, wrong), class_codes(sample, names, classes)


def outside_cells(path: Path, size: tuple[int, int]) -> Cells:
    """The pixels of a layer of trust, and those outside the area of trust.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    with open_raster(path) as dataset:

        def masks() -> Iterator[tuple[Any, np.ndarray]]:
            for window in windows(dataset):
                dissimilarity = dataset.read(1, window=window)
                known = dissimilarity != LAYERS["trust"].nodata
                yield window, np.stack([known, known & (dissimilarity > _THRESHOLD)])

        return Cells(*count_cells(masks(), dataset.shape, size))


def class_codes(
    values: np.ma.MaskedArray[Any, Any], names: dict[int, str], classes: Sequence[str]
) -> np.ndarray:
    """The classes of a truth raster's values: uint8, from 1 in the order of `classes`.

    Args:
        values: masked where unknown.
        names: of values; another value v is called "class v".
        classes: names; a class that is not among them has the number after the last.
    """
    there, which = np.unique(values.filled(0), return_inverse=True)
    named = [names.get(int(value), f"class {int(value)}") for value in there]
    codes = np.array(
        [classes.index(name) + 1 if name in classes else len(classes) + 1 for name in named]
    )
    return np.where(np.ma.getmaskarray(values), 0, codes[which].reshape(values.shape)).astype(
        np.uint8
    )
