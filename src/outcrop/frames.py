"""Results as tables: `to_frame`, and what a notebook shows of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


class Tabular(ABC):
    """A result that is a table: it has `to_frame`, and a notebook shows that."""

    @abstractmethod
    def to_frame(self) -> pandas.DataFrame:
        """The result as a table."""

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(float_format="{:.3g}".format, max_rows=60))


def ends(name: str, estimates: Iterable[Any]) -> dict[str, list[float]]:
    """Columns of the values of intervals and of their ends.

    >>> from types import SimpleNamespace
    >>> ends("recall", [SimpleNamespace(value=0.5, low=0.4, high=0.6)])
    {'recall': [0.5], 'recall_low': [0.4], 'recall_high': [0.6]}
    """
    some = list(estimates)
    return {
        f"{name}{suffix}": [getattr(one, end) for one in some]
        for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


def frame(columns: Mapping[str, Any], index: str | None = None) -> pandas.DataFrame:
    """A table of columns, by one of them if it is named."""
    import pandas as pd

    made = pd.DataFrame(dict(columns))
    return made if index is None else made.set_index(index)
