"""Tables of patch positions: CSV or Parquet, one row per patch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.patches.positions import in_slice, upper_left
from outcrop.progress import warn
from outcrop.sources.features import column_text
from outcrop.sources.vector import decode_text
from outcrop.sources.volumes import Volume
from outcrop.sources.volumes.cf import axis_role

_FOUND = {"true": True, "1": True, "false": False, "0": False}
_MOST = 2**31
_ON_LINE = 1e-3
_BETWEEN = 0.5
"""Largest distance of a coordinate to a line, and to a sample, in steps."""


@dataclass(frozen=True)
class Table:
    """Rows of text or numbers.

    Attributes:
        path: file, for error messages.
        frame: DataFrame, indexed by the line number in the file; the header is line 1.
    """

    path: Path
    frame: Any

    def __len__(self) -> int:
        return len(self.frame)

    def __contains__(self, column: str) -> bool:
        return column in self.frame.columns

    def __getitem__(self, rows: np.ndarray) -> Table:
        """Some of the rows, by index or mask."""
        return replace(self, frame=self.frame.iloc[rows])

    def words(self, column: str) -> np.ndarray:
        """A column as text; integers have no decimals.

        Raises:
            OutcropError: there is no such column; a row has no value.
        """
        values = self._column(column)
        self.refuse(values.isna(), lambda i: f"has no {column}; fill it in or remove the line")
        return column_text(values).astype(str)

    def numbers(self, column: str) -> np.ndarray:
        """A column as integers, int64.

        Raises:
            OutcropError: there is no such column; a row has no integer.
        """
        numbers, said = self._parsed(column)
        whole = (np.abs(numbers) < _MOST) & (numbers == np.round(numbers))
        self.refuse(~whole, lambda i: f"{said(i)}; positions are whole numbers, counted from 0")
        return numbers.astype(np.int64)

    def decimals(self, column: str) -> np.ndarray:
        """A column as finite numbers, float64.

        Raises:
            OutcropError: there is no such column; a row has no number.
        """
        numbers, said = self._parsed(column)
        self.refuse(~np.isfinite(numbers), lambda i: f"{said(i)}; write a number")
        return numbers

    def _parsed(self, column: str) -> tuple[np.ndarray, Callable[[int], str]]:
        """A column as numbers, NaN for other text, and a function that quotes a row's text."""
        import pandas as pd

        values = self._column(column)
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)

        def said(i: int) -> str:
            return f"has '{'' if pd.isna(values.iloc[i]) else values.iloc[i]}' as {column}"

        return numbers, said

    def refuse(self, faulty: Any, what: Callable[[int], str]) -> None:
        """Raise an error about the first faulty row, if there is one.

        Args:
            faulty: bool, `N`.
            what: function of the row number, from 0, that returns the cause and, after a semicolon,
                the remedy.
        """
        at = np.flatnonzero(np.asarray(faulty))
        if len(at):
            raise self.fault(int(at[0]), what(int(at[0])))

    def fault(self, row: int, what: str) -> OutcropError:
        """An error about a row; the number is counted from 0."""
        return OutcropError(self.path, f"line {self.frame.index[row]} {what}")

    def _column(self, column: str) -> Any:
        if column not in self:
            have = ", ".join(map(str, self.frame.columns))
            raise OutcropError(
                self.path, f"has no column '{column}'; it has {have}, with commas between"
            )
        return self.frame[column]


def read_table(path: str | Path) -> Table:
    """Read a CSV file, or Parquet if the name ends in .parquet.

    Text is not interpreted, so that a class may have the name NA. Empty lines are skipped.

    Raises:
        OutcropError: the file does not exist, is not a table, or has no rows.
    """
    import pandas as pd

    path = Path(path)
    parquet = path.suffix.lower() == ".parquet"
    if not path.exists():
        raise OutcropError(path, "no such file; check the name")
    kind = "a Parquet file" if parquet else "a CSV table"
    remedy = "write it again" if parquet else "write one with a header and commas between"
    with decoding(path, kind, remedy), warnings.catch_warnings():
        # pandas only warns about lines with more fields than the header.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_parquet(path) if parquet else _read_csv(path)
        decode_text(frame)
    frame = frame.reset_index(drop=True)
    frame.index += 2
    frame = frame.dropna(how="all")
    if frame.empty:
        raise OutcropError(path, "contains no rows; write one row per patch")
    return Table(path, frame)


def found(table: Table) -> np.ndarray:
    """Mask of the rows that `outcrop locate` found; all rows if there is no column "found".

    Raises:
        OutcropError: a row is neither true nor false.
    """
    if "found" not in table:
        return np.ones(len(table), bool)
    words = table.words("found")
    values = [_FOUND.get(word.strip().lower()) for word in words]
    table.refuse(
        [one is None for one in values], lambda i: f"has '{words[i]}' as found; it is true or false"
    )
    return np.array(values, bool)


def _read_csv(path: Path) -> Any:
    import pandas as pd

    return pd.read_csv(
        path,
        dtype=str,
        keep_default_na=False,
        na_values=[""],
        skip_blank_lines=False,
        skipinitialspace=True,
        index_col=False,
        encoding="utf-8-sig",
    )


# Lines and samples


Centres = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Slice, row and column of the centre pixels of N patches of volumes, int; and whether the patch
lies inside its slice, bool."""


def names_lines(table: Table, volumes: Sequence[Volume]) -> bool:
    """Whether a table has positions by the names of the volumes' axes, not by index."""
    if {"index", "row", "column"} <= set(table.frame.columns):
        return False
    axes = {_key(name) for volume in volumes for name in volume.axes}
    axes |= {"inline", "crossline"}
    return any(_axis_of(str(name)) in axes for name in table.frame.columns)


def centres_by_lines(
    table: Table, volumes: Sequence[Volume], source: np.ndarray, axis: np.ndarray, size: int
) -> Centres:
    """Centre pixels by inline, crossline and time or depth, or other names of axes.

    A time between two samples is rounded to the nearest sample, and the number of such rows is
    printed. A line must exist.

    Args:
        source: int, `N`, volume of each row.
        axis: int, `N`, axis perpendicular to the slice of each row.

    Raises:
        OutcropError: a column is missing or has a value that is no number; a volume has no
            coordinates; a line or sample does not exist.
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
                    f"has no coordinates along {name}; give index, row and column of the "
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
                value = f"has {column} {values[faulty[0]]:g}"
                raise table.fault(
                    int(faulty[0]), f"{value}, but {volume.title} has {_span(line)}; correct it"
                )
            between |= here & (steps > _ON_LINE)
            voxel[k, here] = at[here]
    if between.any():
        warn(
            f"{table.path}: {int(between.sum())} of {len(table)} rows lie between two samples; the "
            "nearest sample is used"
        )
    index, row, column = by_slice(voxel, axis)
    shape = np.array([volume.shape for volume in volumes])[source].T
    inside = np.ones(len(table), bool)
    for at, length in zip((row, column), by_slice(shape, axis)[1:], strict=True):
        first = upper_left(at, size)
        inside &= (first >= 0) & (first + size <= length)
    return index, row, column, inside


def by_slice(of_axes: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Values along the axes 0, 1 and 2, `3 × N`, as values across slices, down and right: `3 × N`.

    Args:
        axis: int, `N`, axis perpendicular to each slice.
    """
    order = np.array([(across, *in_slice(across)) for across in range(3)])[axis].T
    return np.take_along_axis(of_axes, order, axis=0)


def _key(name: str) -> str:
    """Key for comparing the names of columns and axes."""
    word = name.strip().casefold()
    return axis_role(word) or word


def _axis_of(column: str) -> str:
    """The axis of the coordinates in a column; empty if there is none.

    A column called "sample" may contain numbers or times, and is not used.
    """
    word = column.strip().casefold()
    return "" if word in ("sample", "samples", "axis", "index", "row", "column") else _key(word)


def _nearest(line: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each value the index of the nearest coordinate, and the distance to it in steps."""
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
