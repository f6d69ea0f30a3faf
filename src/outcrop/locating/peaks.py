"""Is a patch found beyond doubt?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outcrop.locating.verify import Peak, Place

Peaks = dict[Place, Peak]
"""What was found of one patch."""

_WELL = 0.9
_TIMES_BESIDE = 10


def ranked(peaks: Peaks) -> list[Peak]:
    """The highest first."""
    return sorted(peaks.values(), key=lambda peak: (-peak.score, peak.place))


def best(peaks: Peaks) -> Peak:
    """The highest of some."""
    return ranked(peaks)[0]


def fits_well(peaks: Peaks) -> bool:
    """Whether there is a peak of 0.9 or more."""
    return bool(peaks) and best(peaks).score >= _WELL


def unusual(peaks: Sequence[Peaks], times: float) -> list[int]:
    """The patches that fit well, but far worse than most, and hardly better in one place than else.

    Args:
        times: how many times what is usual their fits lack of a correlation of 1.
    """
    well = [patch for patch, some in enumerate(peaks) if fits_well(some)]
    lack = np.array([1 - best(peaks[patch]).score for patch in well])
    far = lack > times * np.median(lack) if well else []
    return [patch for patch, is_far in zip(well, far, strict=True)
            if is_far and not _stands_out(peaks[patch])]  # fmt: skip


def _stands_out(peaks: Peaks) -> bool:
    first, *others = ranked(peaks)
    beside = max([first.rival, *(peak.score for peak in others)])
    return _TIMES_BESIDE * (1 - first.score) <= 1 - beside
