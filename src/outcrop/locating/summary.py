"""What was located, in words: for the command line and the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outcrop.locating.intensity import Intensity, Stretch
from outcrop.locating.located import Located

_ALL = 0.99


def summary(located: Located, bands: Sequence[str]) -> list[str]:
    """Sentences without a full stop: how sure, how exact, what was done, what to look at.

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
    twins = np.flatnonzero(located.twins)
    if len(twins):
        lines.append(
            f"note: {_patches(len(twins))} of a place that an earlier one is of; "
            f"the first is patch {twins[0]}"
        )
    return lines


def contrast(each: Intensity, stretch: Stretch) -> str:
    """What was done to the contrast of N ≥ 1 patches, by one stretch for all or by their own."""
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
    return words + (f"; highest of those not found {np.nanmax(lost):.4f}" if len(lost) else "")


def _margins(located: Located) -> str:
    margin, nearly = located.margin[located.found], int(located.ambiguous.sum())
    words = f"margin over the next best place: median {np.median(margin):.4f}"
    if not nearly:
        return f"{words}, smallest {margin.min():.4f}"
    return f"{words}; {_patches(nearly)} ambiguous: another place may fit as well"


def _patches(count: int) -> str:
    return f"{count:,} patch{'es' if count > 1 else ''}"
