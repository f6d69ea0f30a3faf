"""Check for patches without content: no data, one value, or partly filled with one value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import chi2_contingency

from outcrop.auditing.check import Check, Context, Finding, listed, plural, share
from outcrop.auditing.pixels import Pixels
from outcrop.patches.patchset import PatchSet
from outcrop.splits import BUFFER, SIDES, Split

_MANY = 0.01
_MANY_OF_A_CLASS = 0.05
_HALF = 0.5
_UNEVEN = 0.3
_LEAST = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
_CHANCE = 1e-6
_NEARLY = 0.02
_SHOWN = 24
_NAME = "gaps"


class GapsCheck(Check):
    """Patches that are constant, almost constant or mostly without data; gaps that reveal a class.

    A constant patch has one value in each band, or no data. It is critical if 1 % of the patches or
    5 % of a class (at least two patches) are constant.
    """

    name, needs, rank = _NAME, ("images",), 30

    def run(self, context: Context) -> list[Finding]:
        """Patches without content, then bands without contrast, gaps and filled pixels."""
        patches, split, pixels = context.patches, context.split, context.pixels
        empty = pixels.gaps > _HALF
        flat = pixels.flat & ~empty & (max(patches.size) > 1)
        return [
            *_wrong(patches, split, empty, "mostly without data (NaN)"),
            *_wrong(patches, split, flat, "constant: one value in every band"),
            *_nearly_flat(patches, split, pixels, flat | empty),
            *_constant_bands(patches, pixels),
            *_gaps(patches, pixels.gaps > 0),
            *_fillings(patches, pixels.filled),
        ]


def _wrong(
    patches: PatchSet, split: Split | None, wrong: np.ndarray, what: str
) -> Iterator[Finding]:
    if not wrong.any():
        return
    number = int(wrong.sum())
    of_class = np.bincount(patches.labels[wrong], minlength=len(patches.classes))
    of_a_class = (of_class >= 2) & (of_class >= _MANY_OF_A_CLASS * patches.counts)
    many = number >= _MANY * len(patches) or of_a_class.any()
    yield Finding(
        _NAME,
        "critical" if many else "warning",
        f"{plural(number, 'patch is', 'patches are')} {what} "
        f"({share(number / len(patches))} of all; {_largest_class(patches, wrong)})",
        "leave them out, and find the cause",
        _counts(patches, split, wrong),
        (tuple(np.flatnonzero(wrong)[:_SHOWN].tolist()),),
    )


def _nearly_flat(
    patches: PatchSet, split: Split | None, pixels: Pixels, known: np.ndarray
) -> Iterator[Finding]:
    """Patches whose contrast is below 2 % of the median of the set in every band."""
    contrast = np.nan_to_num(pixels.deviation)
    faint = (contrast <= _NEARLY * np.median(contrast, axis=0)).all(axis=1) & ~known
    if not faint.any():
        return
    yield Finding(
        _NAME,
        "warning",
        f"{plural(int(faint.sum()), 'patch has', 'patches have')} almost no contrast "
        f"({_largest_class(patches, faint)})",
        "inspect them, and leave them out if they have no content",
        _counts(patches, split, faint),
        (tuple(np.flatnonzero(faint)[:_SHOWN].tolist()),),
    )


def _constant_bands(patches: PatchSet, pixels: Pixels) -> Iterator[Finding]:
    constant = np.asarray(~(pixels.high > pixels.low).any(axis=0))
    if constant.all() or not constant.any():
        return
    names = [patches.bands[i] for i in np.flatnonzero(constant)]
    yield Finding(
        _NAME,
        "warning",
        f"no patch has contrast in band {listed(names)}",
        "leave the band out",
        {"bands": names},
    )


def _fillings(patches: PatchSet, filled: np.ndarray) -> Iterator[Finding]:
    """Mutes or padding that one class has more often than another."""
    shares = {least: _by_class(patches, filled > least) for least in _LEAST}
    least, (mine, uneven) = max(shares.items(), key=lambda one: np.ptp(one[1][0]))
    if not uneven:
        return
    of = f"more than {share(least)} of their" if least else "some"
    present, mask = _present(patches), filled > least
    yield Finding(
        _NAME,
        "warning",
        f"{plural(int(mask.sum()), 'patch has', 'patches have')} {of} pixels filled with one "
        f"value, as by a mute or padding: {share(mine.max())} of '{present[mine.argmax()]}', "
        f"{share(mine.min())} of '{present[mine.argmin()]}'",
        "leave these patches out, or cut all classes away from the filled pixels: their "
        "location reveals the class",
        {"patches": int(mask.sum()), "share": dict(zip(present, mine.tolist(), strict=True))},
        (tuple(np.flatnonzero(mask)[:_SHOWN].tolist()),),
    )


def _gaps(patches: PatchSet, gaps: np.ndarray) -> Iterator[Finding]:
    """A note about gaps, as at the edge of a scene; a warning if one class has more than others."""
    if not gaps.any():
        return
    shares, uneven = _by_class(patches, gaps)
    number, present = int(gaps.sum()), _present(patches)
    title = f"{plural(number, 'patch has', 'patches have')} pixels without data"
    if uneven:
        most = present[shares.argmax()]
        title += f": {share(shares.max())} of '{most}', but {share(shares.min())} of others"
    yield Finding(
        _NAME,
        "warning" if uneven else "note",
        title,
        "leave these patches out: the missing data reveals the class" if uneven else "",
        {"patches": number, "share": dict(zip(present, shares.tolist(), strict=True))},
        (tuple(np.flatnonzero(gaps)[:_SHOWN].tolist()),),
    )


def _by_class(patches: PatchSet, mask: np.ndarray) -> tuple[np.ndarray, bool]:
    """Share of each present class in the mask, and whether the classes differ significantly."""
    table = np.stack([np.bincount(patches.labels[some], minlength=len(patches.classes))
                      for some in (mask, ~mask)])[:, patches.counts > 0]  # fmt: skip
    shares = table[0] / table.sum(axis=0)
    differ = table.any(axis=1).all() and np.ptp(shares) >= _UNEVEN
    return shares, bool(differ and chi2_contingency(table).pvalue < _CHANCE)


def _present(patches: PatchSet) -> list[str]:
    return [patches.classes[k] for k in np.flatnonzero(patches.counts)]


def _largest_class(patches: PatchSet, mask: np.ndarray) -> str:
    counts = np.bincount(patches.labels[mask], minlength=len(patches.classes))
    most = int(counts.argmax())
    return f"{counts[most]:,} of them in '{patches.classes[most]}'"


def _counts(patches: PatchSet, split: Split | None, mask: np.ndarray) -> dict[str, Any]:
    of_class = np.bincount(patches.labels[mask], minlength=len(patches.classes))
    classes = dict(zip(patches.classes, of_class.tolist(), strict=True))
    numbers: dict[str, Any] = {"patches": int(mask.sum()), "classes": classes}
    if split is not None:
        of_side = np.bincount(split.sides[mask], minlength=BUFFER + 1)
        numbers["sides"] = dict(zip(SIDES, of_side.tolist(), strict=True))
    return numbers
