"""Patches with nothing to see: without data, of one value, or filled with one in part."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2_contingency

from outcrop.auditing.finding import Finding
from outcrop.auditing.pixels import Pixels
from outcrop.auditing.words import listed, plural, share
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


def check_gaps(patches: PatchSet, split: Split | None, pixels: Pixels) -> list[Finding]:
    """Patches that are flat, nearly so or mostly without data; gaps and mutes that tell the class.

    A flat patch has one value in each band, or no data. Critical from 1 % of the patches or 5 %
    of a class (at least two patches of it).
    """
    empty = pixels.gaps > _HALF
    flat = pixels.flat & ~empty & (max(patches.size) > 1)
    return [
        *_wrong(patches, split, empty, "mostly without data (NaN)"),
        *_wrong(patches, split, flat, "constant: one value in every band"),
        *_nearly_flat(patches, split, pixels, flat | empty),
        *_dead_bands(patches, pixels),
        *_gaps(patches, pixels.gaps > 0),
        *_fillings(patches, pixels.filled),
    ]


def _wrong(patches: PatchSet, split: Split | None, wrong: np.ndarray, what: str) -> list[Finding]:
    if not wrong.any():
        return []
    number = int(wrong.sum())
    of_class = np.bincount(patches.labels[wrong], minlength=len(patches.classes))
    of_a_class = (of_class >= 2) & (of_class >= _MANY_OF_A_CLASS * patches.counts)
    many = number >= _MANY * len(patches) or of_a_class.any()
    return [
        Finding(
            "gaps",
            "critical" if many else "warning",
            f"{plural(number, 'patch is', 'patches are')} {what} "
            f"({share(number / len(patches))} of all; {_by(patches, wrong)})",
            "leave them out, and find out where they come from",
            {"patches": number, **_counts(patches, split, wrong)},
            (tuple(np.flatnonzero(wrong)[:_SHOWN].tolist()),),
        )
    ]


def _nearly_flat(
    patches: PatchSet, split: Split | None, pixels: Pixels, known: np.ndarray
) -> list[Finding]:
    """Patches whose contrast is below 2 % of the set's median in every band."""
    contrast = np.nan_to_num(pixels.deviation)
    faint = (contrast <= _NEARLY * np.median(contrast, axis=0)).all(axis=1) & ~known
    if not faint.any():
        return []
    return [
        Finding(
            "gaps",
            "warning",
            f"{plural(int(faint.sum()), 'patch has', 'patches have')} hardly any contrast "
            f"({_by(patches, faint)})",
            "look at them; leave them out if they show nothing",
            {"patches": int(faint.sum()), **_counts(patches, split, faint)},
            (tuple(np.flatnonzero(faint)[:_SHOWN].tolist()),),
        )
    ]


def _dead_bands(patches: PatchSet, pixels: Pixels) -> list[Finding]:
    dead = np.asarray(~(pixels.high > pixels.low).any(axis=0))
    if dead.all() or not dead.any():
        return []
    names = [band for band, is_dead in zip(patches.bands, dead, strict=True) if is_dead]
    return [
        Finding(
            "gaps",
            "warning",
            f"no patch has contrast in band {listed(names)}",
            "leave the band out",
            {"bands": names},
        )
    ]


def _fillings(patches: PatchSet, filled: np.ndarray) -> list[Finding]:
    """Mutes or padding that one class has more of than another."""
    shares = {least: _by_class(patches, filled > least) for least in _LEAST}
    least, (mine, uneven) = max(shares.items(), key=lambda one: np.ptp(one[1][0]))
    if not uneven:
        return []
    of = f"more than {share(least)} of their" if least else "some"
    present, there = _present(patches), filled > least
    return [
        Finding(
            "gaps",
            "warning",
            f"{plural(int(there.sum()), 'patch has', 'patches have')} {of} pixels filled with one "
            f"value, as by a mute or padding: {share(mine.max())} of '{present[mine.argmax()]}', "
            f"{share(mine.min())} of '{present[mine.argmin()]}'",
            "leave these patches out, or cut all classes clear of it: where they are filled tells "
            "the class",
            {
                "patches": int(there.sum()),
                "share": dict(zip(present, mine.tolist(), strict=True)),
            },
            (tuple(np.flatnonzero(there)[:_SHOWN].tolist()),),
        )
    ]


def _gaps(patches: PatchSet, gaps: np.ndarray) -> list[Finding]:
    """Gaps where they are normal, such as at the edge of a scene; a warning if a class has more."""
    if not gaps.any():
        return []
    shares, uneven = _by_class(patches, gaps)
    number, present = int(gaps.sum()), _present(patches)
    title = f"{plural(number, 'patch has', 'patches have')} pixels without data"
    if uneven:
        most = present[shares.argmax()]
        title += f", {share(shares.max())} of '{most}' but {share(shares.min())} of others"
    return [
        Finding(
            "gaps",
            "warning" if uneven else "note",
            title,
            "leave these patches out: where data is missing tells the class" if uneven else "",
            {"patches": number, "share": dict(zip(present, shares.tolist(), strict=True))},
            (tuple(np.flatnonzero(gaps)[:_SHOWN].tolist()),),
        )
    ]


def _by_class(patches: PatchSet, mask: np.ndarray) -> tuple[np.ndarray, bool]:
    """Which share of each class that has patches is of the mask, and whether classes differ."""
    table = np.stack([np.bincount(patches.labels[some], minlength=len(patches.classes))
                      for some in (mask, ~mask)])[:, patches.counts > 0]  # fmt: skip
    shares = table[0] / table.sum(axis=0)
    differ = table.any(axis=1).all() and np.ptp(shares) >= _UNEVEN
    return shares, bool(differ and chi2_contingency(table).pvalue < _CHANCE)


def _present(patches: PatchSet) -> list[str]:
    return [patches.classes[k] for k in np.flatnonzero(patches.counts)]


def _by(patches: PatchSet, mask: np.ndarray) -> str:
    counts = np.bincount(patches.labels[mask], minlength=len(patches.classes))
    most = int(counts.argmax())
    return f"{counts[most]:,} of them in '{patches.classes[most]}'"


def _counts(patches: PatchSet, split: Split | None, mask: np.ndarray) -> dict[str, dict[str, int]]:
    of_class = np.bincount(patches.labels[mask], minlength=len(patches.classes))
    numbers = {"classes": dict(zip(patches.classes, of_class.tolist(), strict=True))}
    if split is not None:
        of_side = np.bincount(split.sides[mask], minlength=BUFFER + 1)
        numbers["sides"] = dict(zip(SIDES, of_side.tolist(), strict=True))
    return numbers
