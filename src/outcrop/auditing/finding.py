"""`Finding`: one thing that an audit has to say, with its evidence and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["critical", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that an audit has to say.

    Attributes:
        check: the check that found it, one word or two with a dash, such as "order".
        severity: "critical" makes scores false or training fail, and makes the audit fail;
            "warning" deserves a look; "note" is a measurement.
        title: what was found, in one sentence with its numbers.
        remedy: what to do, in one sentence; empty for a note that asks for nothing.
        numbers: the evidence as plain numbers, words and lists, ready for JSON.
        groups: patches to look at, each group an array of indices into the patch set that belong
            together (a cluster of duplicates, a patch and its neighbours), the worst first.
    """

    check: str
    severity: Severity
    title: str
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[tuple[int, ...], ...] = ()
