"""Tables of positions: CSV or Parquet, one row a patch, checked row by row."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.files import decoding
from outcrop.sources.features import column_text
from outcrop.sources.vector import decode_text

_FOUND = {"true": True, "1": True, "false": False, "0": False}
_MOST = 2**31


@dataclass(frozen=True)
class Table:
    """Rows of text or numbers.

    Attributes:
        path: the file, for messages.
        frame: pandas, indexed by line of the file as a spreadsheet counts: the header is line 1.
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
        """A column as text, in which whole numbers have no decimals.

        Raises:
            OutcropError: no such column, or a row without a value.
        """
        values = self._column(column)
        self.refuse(values.isna(), lambda i: f"has no {column}; fill it in or remove the line")
        return column_text(values).astype(str)

    def numbers(self, column: str) -> np.ndarray:
        """A column as whole numbers, int64.

        Raises:
            OutcropError: no such column, or a row without a whole number.
        """
        import pandas as pd

        values = self._column(column)
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        whole = (np.abs(numbers) < _MOST) & (numbers == np.round(numbers))
        self.refuse(
            ~whole,
            lambda i: (
                f"has '{'' if pd.isna(values.iloc[i]) else values.iloc[i]}' as {column}; "
                "positions are whole numbers, counted from 0"
            ),
        )
        return numbers.astype(np.int64)

    def decimals(self, column: str) -> np.ndarray:
        """A column as finite numbers, float64.

        Raises:
            OutcropError: no such column, or a row without a number.
        """
        import pandas as pd

        values = self._column(column)
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        self.refuse(
            ~np.isfinite(numbers),
            lambda i: (
                f"has '{'' if pd.isna(values.iloc[i]) else values.iloc[i]}' as {column}; "
                "write a number"
            ),
        )
        return numbers

    def refuse(self, faulty: Any, what: Callable[[int], str]) -> None:
        """Raise an error about the first faulty row, if there is one.

        Args:
            faulty: bool, `N`.
            what: from the row's number, from 0, the cause and after a semicolon the remedy.
        """
        at = np.flatnonzero(np.asarray(faulty))
        if len(at):
            raise self.fault(int(at[0]), what(int(at[0])))

    def fault(self, row: int, what: str) -> OutcropError:
        """An error about a row, by its number from 0."""
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

    Text is kept as it stands, so that a class may be called NA. Empty lines are passed over.

    Raises:
        OutcropError: no such file, no table, or a table of no rows.
    """
    import pandas as pd

    path = Path(path)
    parquet = path.suffix.lower() == ".parquet"
    if not path.exists():
        raise OutcropError(path, "no such file; check the name")
    kind = "a Parquet file" if parquet else "a CSV table"
    remedy = "write it again" if parquet else "write one with a header and commas between"
    with decoding(path, kind, remedy), warnings.catch_warnings():
        # Of lines with more fields than the header pandas would only warn.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_parquet(path) if parquet else _read_csv(path)
        decode_text(frame)
    frame = frame.reset_index(drop=True)
    frame.index += 2
    frame = frame.dropna(how="all")
    if frame.empty:
        raise OutcropError(path, "holds no rows; write one for each patch")
    return Table(path, frame)


def found(table: Table) -> np.ndarray:
    """Mask of the rows that `outcrop locate` has found; all where there is no column "found".

    Raises:
        OutcropError: a row that is neither true nor false.
    """
    if "found" not in table:
        return np.ones(len(table), bool)
    words = table.words("found")
    said = [_FOUND.get(word.strip().lower()) for word in words]
    table.refuse(
        [one is None for one in said],
        lambda i: f"has '{words[i]}' as found; it is true or false",
    )
    return np.array(said, bool)


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
