"""The result of a search in words and numbers, for the command line and the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.markup import escape

from outcrop.cli.console import console, say, table_of
from outcrop.locating.intensity import Intensity, Stretch
from outcrop.locating.located import Located
from outcrop.patches.patchset import PatchSet

_ALL = 0.99


def summary(located: Located, bands: Sequence[str]) -> list[str]:
    """Lines without a full stop: scores, margins, contrast, flips, and notes.

    Args:
        bands: names of the patches' bands.
    """
    lines = []
    if located.found.any():
        lines += [_scores(located), _margins(located)]
        several = len(located.bands) > 1
        for name, each, stretch in zip(
            bands, located.bands or (located.intensity,), located.stretches, strict=False
        ):
            words = contrast(each[located.found], stretch)
            lines.append(f"contrast of {name}: {words}" if several else f"contrast: {words}")
        names, counts = np.unique(located.flip[located.found], return_counts=True)
        if set(names) - {"none"}:
            how = (f"{name} {count:,}" for name, count in zip(names, counts, strict=True))
            lines.append(f"flips: {', '.join(how)}")
    elif np.isfinite(located.score).any():
        lines.append(f"score: highest {np.nanmax(located.score):.4f}")
    unusable = np.flatnonzero(~located.usable)
    if len(unusable):
        lines.append(
            f"note: {_patches(len(unusable))} flat or without most pixels cannot be located; "
            f"the first is patch {unusable[0]}"
        )
    duplicates = np.flatnonzero(located.duplicates)
    if len(duplicates):
        lines.append(
            f"note: {_patches(len(duplicates))} at the place of an earlier patch; "
            f"the first is patch {duplicates[0]}"
        )
    return lines


def contrast(each: Intensity, stretch: Stretch) -> str:
    """The change of contrast of N ≥ 1 patches: one stretch for all, or the range of their own."""
    n, residual = len(each.gain), f"residual {np.median(each.residual):.2g}"
    one = f"patch = {stretch.gain:.4g} · source {stretch.offset:+.4g}"
    if stretch.fits >= _ALL * n:
        return f"{one} fits {stretch.fits:,} of {n:,}; {residual}"
    gain, offset = (np.percentile(values, (5, 50, 95)) for values in (each.gain, each.offset))
    return (
        f"differs from patch to patch; gain {gain[1]:.4g} (90 %: {gain[0]:.4g} to {gain[2]:.4g}), "
        f"offset {offset[1]:.4g} (90 %: {offset[0]:.4g} to {offset[2]:.4g}); {residual}"
    )


def _scores(located: Located) -> str:
    found, lost = located.score[located.found], located.score[~located.found & located.usable]
    words = f"score: median {np.median(found):.4f}, lowest {found.min():.4f}"
    known = lost[np.isfinite(lost)]
    return words + (f"; highest of those not found {known.max():.4f}" if len(known) else "")


def _margins(located: Located) -> str:
    margin, nearly = located.margin[located.found], int(located.ambiguous.sum())
    words = f"margin over the next best place: median {np.median(margin):.4f}"
    if not nearly:
        return f"{words}, smallest {margin.min():.4f}"
    return f"{words}; {_patches(nearly)} ambiguous: another place may fit as well"


def _patches(count: int) -> str:
    return f"{count:,} patch{'es' if count > 1 else ''}"


def locate_table(patches: PatchSet, located: Located) -> None:
    """Print the numbers of patches found by class, and the summary."""
    table = table_of("class", "patches", "found", "not found", "ambiguous")
    groups = [(name, patches.labels == k) for k, name in enumerate(patches.classes)]
    if len(groups) > 1:
        groups.append(("all", np.ones(len(patches), bool)))
    for name, here in groups:
        found = int((located.found & here).sum())
        ambiguous = int((located.ambiguous & here).sum())
        counts = (here.sum(), found, here.sum() - found, ambiguous)
        table.add_row(
            escape(name), *(f"{count:,}" for count in counts), style="bold" if name == "all" else ""
        )
    console.print(table)
    for line in summary(located, patches.bands):
        say(line)
