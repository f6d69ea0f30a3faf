"""Do the labels come sorted, so that a split by position gives a class to one side only?"""

from __future__ import annotations

import numpy as np

from outcrop.auditing.finding import Finding, Severity
from outcrop.auditing.words import listed
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BUFFER, Split

_END = 0.2
_SURE = 6.0
_LEAST = 10
_ALMOST = 0.9


def check_order(patches: PatchSet, split: Split | None) -> list[Finding]:
    """Labels that come sorted, nearly sorted, or in runs so long that position tells the class.

    Critical if the split goes by position and a class therefore stands on one side only. Where
    positions are known, runs are the order of cutting, and only noted.
    """
    changes, expected, z = label_changes(patches.labels)
    gathered = gathered_classes(patches.labels, len(patches.classes))
    if not len(gathered):
        return []
    names = [patches.classes[k] for k in gathered]
    how = "sorted" if changes < 2 * len(patches.classes) else "in long runs"
    severity, what, remedy = _judge(patches, split, names)
    return [
        Finding(
            check="order",
            severity=severity,
            title=f"labels come {how}: {changes:,} changes from one patch to the next where "
            f"{expected:,.0f} are expected of a random order; {what}",
            remedy=remedy,
            numbers={
                "changes": changes,
                "expected": expected,
                "z": z,
                "gathered": names,
                "last fifth": _last_fifth(patches),
            },
        )
    ]


def label_changes(labels: np.ndarray) -> tuple[int, float, float]:
    """How often the label changes from one patch to the next, and what a random order gives.

    The runs test of Wald and Wolfowitz for several kinds. Source: Barton and David (1957),
    Multiple runs, Biometrika 44, 168-178: mean and variance of the number of runs.

    Args:
        labels: int, `N`.

    Returns:
        The changes, their expectation under a random order, and how many standard deviations
        they are above it (0 where a random order leaves no choice).

    >>> changes, expected, z = label_changes(np.repeat([0, 1, 2], 20))
    >>> changes, expected, round(z, 1)
    (2, 40.0, -10.6)
    """
    n = len(labels)
    changes = int(np.count_nonzero(np.diff(labels)))
    if n < 2:
        return changes, 0.0, 0.0
    counts = np.bincount(labels).astype(float)
    squares, cubes = (counts**2).sum(), (counts**3).sum()
    expected = n - squares / n
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    z = (changes - expected) / np.sqrt(variance) if variance > 0 else 0.0
    return changes, float(expected), float(z)


def gathered_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    """Classes that the first or the last fifth of the set holds hardly any or nearly all of.

    Hardly any is less than a tenth of what a random order gives, nearly all nine tenths of the
    class, of ten patches or more. None where the number of changes may be chance
    (`label_changes`: 6 deviations).

    Returns:
        int, indices of the classes.
    """
    end, counts = round(_END * len(labels)), np.bincount(labels, minlength=classes)
    found = np.zeros(classes, bool)
    if label_changes(labels)[2] <= -_SURE:
        for part in (labels[:end], labels[len(labels) - end :]):
            seen = np.bincount(part, minlength=classes)
            found |= (seen <= (1 - _ALMOST) * counts * _END) | (seen >= _ALMOST * counts)
    return np.flatnonzero(found & (counts >= _LEAST))


def _judge(
    patches: PatchSet, split: Split | None, gathered: list[str]
) -> tuple[Severity, str, str]:
    if split is not None:
        lacking = _lacking(patches, split)
        if lacking and _by_position(split):
            return (
                "critical",
                "the split goes by position, and a side has none or hardly any of "
                f"{listed(lacking)}",
                f"split anew: {_how(patches)}",
            )
        return "note", "the split given does not go by this order", ""
    what = f"a split by position would give {listed(gathered)} to one side only, or nearly so"
    if patches.positions is not None:
        return "note", what, f"split by ground: {_how(patches)}"
    return "warning", what, f"never split by position: {_how(patches)}"


def _how(patches: PatchSet) -> str:
    by = "random" if patches.positions is None else "blocks"
    return f"`outcrop split --by {by}`"


def _lacking(patches: PatchSet, split: Split) -> list[str]:
    """Classes of which a side has less than a tenth of what its size would give."""
    table = split.counts(patches.labels, len(patches.classes))[:BUFFER]
    used = table[table.any(axis=1)]
    due = used.sum(axis=1, keepdims=True) * used.sum(axis=0) / used.sum()
    lacking = ((used <= (1 - _ALMOST) * due) & (due >= 1)).any(axis=0)
    return [patches.classes[k] for k in np.flatnonzero(lacking)]


def _by_position(split: Split) -> bool:
    """Whether each side is one piece of the order, or two."""
    sides = split.sides[split.sides != BUFFER]
    return bool(np.count_nonzero(np.diff(sides)) <= 2 * (len(np.unique(sides)) - 1))


def _last_fifth(patches: PatchSet) -> dict[str, int]:
    end = round(_END * len(patches))
    seen = np.bincount(patches.labels[len(patches) - end :], minlength=len(patches.classes))
    return dict(zip(patches.classes, seen.tolist(), strict=True))
