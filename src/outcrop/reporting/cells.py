"""Rasters of any size counted into the cells of a small picture, window by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.mapping.layers import LAYERS, NODATA
from outcrop.mapping.rasters import open_raster
from outcrop.sources.class_raster import ClassRaster, windows

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
    path: Path, truth: ClassRaster, classes: Sequence[str], size: tuple[int, int]
) -> tuple[Cells, np.ndarray]:
    """Where a class map differs from a raster of true classes.

    Args:
        path: the map.
        truth: on any grid; it is brought onto the map's by nearest neighbour.
        classes: of the map, from value 1, then others of the truth.
        size: height and width of the picture.

    Returns:
        The pixels known to both, and those that differ; and a picture of the truth, nearest pixels
        taken: uint8, `h × w`, from 1 in the order of `classes`, the number after the last for any
        other class, 0 where the truth is unknown.

    Raises:
        OutcropError: a file is missing or damaged; the truth has no class in common with `classes`.
    """
    if not set(truth.classes) & set(classes):
        raise OutcropError(
            truth.path,
            f"names no class of the map: it has {', '.join(truth.classes)}, the map "
            f"{', '.join(classes)}; name its values by --classes",
        )
    codes = np.array([_code(name, classes) for name in (*truth.classes, None)], np.uint8)
    with open_raster(path) as mapped:
        crs, transform = mapped.crs.to_wkt(), tuple(mapped.transform)[:6]
        with truth.reader(crs, transform, mapped.height, mapped.width) as reader:

            def masks() -> Iterator[tuple[Any, np.ndarray]]:
                for window in windows(mapped):
                    said = mapped.read(1, window=window)
                    where = window.row_off, window.col_off, window.height, window.width
                    true = codes[reader.read(*where)]
                    known = (said != NODATA) & (true != 0)
                    yield window, np.stack([known, known & (said != true)])

            known, wrong = count_cells(masks(), mapped.shape, size)
            sample = codes[reader.sample(size)]
    return Cells(known, wrong), sample


def outside_cells(path: Path, size: tuple[int, int]) -> Cells:
    """The pixels of a layer of dissimilarity, and those outside the area of applicability.

    Raises:
        OutcropError: the file is missing or damaged.
    """
    with open_raster(path) as dataset:

        def masks() -> Iterator[tuple[Any, np.ndarray]]:
            for window in windows(dataset):
                dissimilarity = dataset.read(1, window=window)
                known = dissimilarity != LAYERS["dissimilarity"].nodata
                yield window, np.stack([known, known & (dissimilarity > _THRESHOLD)])

        return Cells(*count_cells(masks(), dataset.shape, size))


def _code(name: str | None, classes: Sequence[str]) -> int:
    """From 1 in the order of `classes`; the number after the last of another, 0 of none."""
    if name is None:
        return 0
    return classes.index(name) + 1 if name in classes else len(classes) + 1
