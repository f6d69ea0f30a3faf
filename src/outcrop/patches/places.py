"""The voxels that rows of a table of positions mean: by row and column, or by lines and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.positions import in_slice, upper_left
from outcrop.patches.table import Table
from outcrop.progress import tell
from outcrop.sources.volumes import Volume
from outcrop.sources.volumes.cf import axis_role

_ON_LINE = 1e-3
_BETWEEN = 0.5
"""How many steps a coordinate may lie beside a line, and beside a sample."""


@dataclass(frozen=True)
class Places:
    """The middles of N patches in slices of volumes.

    Attributes:
        index: int, the slices.
        row, column: int, the centre pixels there.
        inside: bool, whether the whole patch lies in its slice.
    """

    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    inside: np.ndarray


def names_lines(table: Table, volumes: Sequence[Volume]) -> bool:
    """Whether a table names places by what the axes of volumes are called, and not by index."""
    if {"index", "row", "column"} <= set(table.frame.columns):
        return False
    axes = {_key(name) for volume in volumes for name in volume.axes}
    axes |= {"inline", "crossline"}
    return any(_axis_of(str(name)) in axes for name in table.frame.columns)


def places_by_lines(
    table: Table, volumes: Sequence[Volume], source: np.ndarray, axis: np.ndarray, size: int
) -> Places:
    """The places of patches by inline, crossline and time or depth, or what else axes are called.

    They are those of the labelled pixel, the middle of the patch. A time between two samples is
    taken to the nearest, and how many are is printed; a line must be there.

    Args:
        source: int, `N`, the volume of each row.
        axis: int, `N`, the axis that its slice is across.

    Raises:
        OutcropError: a column is missing, or is no number somewhere; a volume has no coordinates;
            there is no such line or sample.
    """
    columns = {_axis_of(str(name)): str(name) for name in table.frame.columns}
    voxel = np.zeros((3, len(table)), np.int64)
    between = np.zeros(len(table), bool)
    for number in np.unique(source):
        volume, here = volumes[number], source == number
        for k, name in enumerate(volume.axes):
            line = volume.coordinates[k]
            if line is None:
                raise OutcropError(
                    volume.title,
                    f"does not say where it lies along {name}; give index, row and column of the "
                    f"patches in {table.path}",
                )
            column = columns.get(_key(name))
            if column is None:
                wanted = "time or depth" if name == "sample" else name
                raise OutcropError(
                    table.path,
                    f"has no column '{wanted}'; give one, or index, row and column of the patches",
                )
            values = table.decimals(column)
            at, steps = _nearest(line, values)
            allowed = _BETWEEN if axis_role(name) == "sample" else _ON_LINE
            faulty = np.flatnonzero(here & (steps > allowed))
            if len(faulty):
                said = f"has {column} {values[faulty[0]]:g}"
                raise table.fault(
                    int(faulty[0]), f"{said}, and {volume.title} has {_span(line)}; correct it"
                )
            between |= here & (steps > _ON_LINE)
            voxel[k, here] = at[here]
    if between.any():
        tell(
            f"{table.path}: {int(between.sum())} of {len(table)} rows lie between two samples; the "
            "nearest is taken"
        )
    every = np.arange(len(table))
    down, right = np.array([in_slice(across) for across in range(3)])[axis].T
    row, column = voxel[down, every], voxel[right, every]
    shape = np.array([volume.shape for volume in volumes])[source]
    inside = np.ones(len(table), bool)
    for at, length in ((row, shape[every, down]), (column, shape[every, right])):
        first = upper_left(at, size)
        inside &= (first >= 0) & (first + size <= length)
    return Places(voxel[axis, every], row, column, inside)


def _key(name: str) -> str:
    """By which the names of columns and axes are compared."""
    word = name.strip().casefold()
    return axis_role(word) or word


def _axis_of(column: str) -> str:
    """The axis that a column names the place along; empty if none.

    A column called sample may hold numbers or times, and is not taken.
    """
    word = column.strip().casefold()
    return "" if word in ("sample", "samples", "axis", "index", "row", "column") else _key(word)


def _nearest(line: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each value the nearest place along an axis, and how many steps it lies beside it."""
    line = line.astype(np.float64)
    up = np.argsort(line)
    after = np.searchsorted(line[up], values).clip(1, max(1, len(line) - 1))
    after = np.minimum(after, len(line) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(values - line[up][before]) <= np.abs(values - line[up][after])
    at = up[np.where(nearer, before, after)]
    step = float(np.abs(np.diff(line[up])).min()) if len(line) > 1 else 1.0
    return at, np.abs(values - line[at]) / step


def _span(line: np.ndarray) -> str:
    by = f" by {abs(float(line[1] - line[0])):g}" if len(line) > 1 else ""
    return f"{line[0]:g} to {line[-1]:g}{by}"
