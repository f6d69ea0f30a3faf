"""What was found of one patch, and whether that is beyond doubt."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from outcrop.locating.comparison import clearer
from outcrop.locating.verify import NEIGHBOURHOOD, WELL, Peak, Place

# In standard errors: of 7,000 patches that were turned, resized or gain-controlled two had a place
# that was off and stood out so clearly from all others (`benchmarks.hard_cubes`).
CLEAR = 5.0
# What patches of other cubes stand out by is far below a standard error, as of many places the
# second best is nearly as good as the best; among 1,000 of them, of four kinds, the most was 2.7,
# and the spread 0.4. Twice that is assumed.
_CHANCE = 0.8
# In 464 of 480 patches (`benchmarks.hard_cubes`, seed 7, four changes) the first place leads to the
# best one, in 16 the second to eighth; none of these was worse by more than 0.001. Those that are
# worse by more are compared as rivals.
_STARTS, WORSE = 6, 0.1


@dataclass(eq=False)
class Found:
    """The peaks of one patch.

    Attributes:
        complete: whether every window of every slice was compared in full, or all that look as
            likely as the places of other patches.
    """

    peaks: dict[Place, Peak] = field(default_factory=dict)
    complete: bool = False

    def add(self, peak: Peak) -> None:
        """One more."""
        self.peaks[peak.place] = peak

    def clear(self) -> None:
        """None is left."""
        self.peaks.clear()

    @property
    def ranked(self) -> list[Peak]:
        """The highest first."""
        return sorted(self.peaks.values(), key=lambda peak: (-peak.score, peak.place))

    @property
    def best(self) -> Peak:
        """The highest of at least one."""
        return self.ranked[0]

    @property
    def certain(self) -> bool:
        """Whether it was found exactly, and nothing that was looked at fits nearly as well."""
        return bool(self.peaks) and self.best.fit.exact and self.stands == np.inf

    @property
    def stands(self) -> float:
        """How clearly all other places fit worse than the best (`clearer`)."""
        best, *others = self.ranked
        return min([best.stands, *(clearer(best.fit, other.fit) for other in others)])

    @property
    def unique(self) -> bool:
        """Whether no other place of the sources fits as well, but by chance."""
        return self.certain or (self.complete and self.stands >= CLEAR)

    @property
    def confidence(self) -> float:
        """The probability that a patch from elsewhere has no place that stands out so clearly."""
        if not self.peaks:
            return 0.0
        if self.certain:
            return 1.0
        return 0.5 * (1 + math.erf(self.stands / _CHANCE / math.sqrt(2))) if self.complete else 0.0

    @property
    def margin(self) -> float:
        """The score less that of the neighbouring slices and of other peaks."""
        best, *others = self.ranked
        return best.score - max(best.rival, *(peak.score for peak in others), 0.0)


def fits_well(found: Found) -> bool:
    """Whether there is a peak of 0.9 or more."""
    return bool(found.peaks) and found.best.score >= WELL


def likeliest(peaks: dict[Place, Peak]) -> Iterable[Place]:
    """The best places, one of each neighbourhood."""
    chosen: list[Place] = []
    ordered = sorted(peaks.values(), key=lambda peak: (-peak.score, peak.place))
    for peak in ordered:
        if len(chosen) == _STARTS or peak.score < ordered[0].score - WORSE:
            break
        if not any(near(peak.place, other, NEIGHBOURHOOD) for other in chosen):
            chosen.append(peak.place)
    return chosen


def near(one: Place, other: Place, limits: tuple[int, int, int]) -> bool:
    """Whether places of one variant and planes are at most so many slices and pixels apart."""
    apart = zip(one[2:], other[2:], limits, strict=True)
    return one[:2] == other[:2] and all(abs(a - b) <= limit for a, b, limit in apart)
