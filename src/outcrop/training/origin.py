"""What a model was trained on: how its scenes were read, and the values of its bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from outcrop.patches.patchset import PatchSet
from outcrop.sources.grids import pixel_metres
from outcrop.sources.scene import Reading
from outcrop.typed import typed

_LEVELS = (0.0, 1.0, 50.0, 99.0, 100.0)
_PIXELS = 4_000_000
_SCALE = 100.0
_HALF = 0.5


@dataclass(frozen=True)
class Values:
    """The values of one band: percentiles 0, 1, 50, 99 and 100 of its valid pixels."""

    least: float
    low: float
    median: float
    high: float
    most: float

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class TrainedOn:
    """What the patches of the training side are.

    Attributes:
        reading: how their scenes were read.
        sensors: platforms and instruments, where the files tell.
        units: of the bands, where the files tell.
        pixel: width and height of a pixel in metres, of each scene whose pixels differ.
        values: of each band, of the training side.
    """

    reading: Reading
    sensors: tuple[str, ...]
    units: tuple[str, ...]
    pixel: tuple[tuple[float, float], ...]
    values: tuple[Values, ...]

    @property
    def for_others(self) -> Reading:
        """How other scenes are read in the same way: with their own names and masks."""
        reading = replace(self.reading, mask=[], band_names=[])
        if reading.resolution in ("finest", "coarsest") or not self.pixel:
            return reading
        return replace(reading, resolution=f"{self.pixel[0][0]:.6g}")

    def to_json(self) -> dict[str, Any]:
        """Plain data for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrainedOn:
        """What `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return typed(cls, content, "trained_on")


def origin_of(patches: PatchSet, index: np.ndarray) -> TrainedOn:
    """What the patches at `index` are; values are those of at most four million pixels a band."""
    each = int(np.prod(patches.size))
    most = max(1, _PIXELS // each)
    chosen = index[np.unique(np.linspace(0, len(index) - 1, min(most, len(index))).astype(int))]
    sources = [source for source in patches.sources if not source.is_volume]
    pixel = [pixel_metres(source.grid) for source in sources if source.transform and source.crs]
    return TrainedOn(
        reading=patches.reading,
        sensors=tuple(dict.fromkeys(source.sensor for source in sources if source.sensor)),
        units=sources[0].units if sources else (),
        pixel=tuple(dict.fromkeys(pixel)),
        values=values_of(patches.take(chosen).swapaxes(0, 1)),
    )


def values_of(pixels: np.ndarray) -> tuple[Values, ...]:
    """Percentiles of each band of `bands × ...`; NaN for a band without a valid pixel."""
    found = []
    for band in pixels:
        valid = band[np.isfinite(band)]
        levels = np.percentile(valid, _LEVELS) if len(valid) else np.full(len(_LEVELS), np.nan)
        found.append(Values(*map(float, levels)))
    return tuple(found)


def far_outside(trained: Sequence[Values], seen: Sequence[Values]) -> list[int]:
    """Bands of which values are nothing like those of the training side, if most bands are so.

    A band is so if half of its values lie farther outside the training side's range than that is
    wide, or if they are a hundred times smaller: digital numbers where reflectances were learnt,
    or the reverse. Water or forest alone are neither.

    >>> reflectance, numbers = Values(0, 0.02, 0.1, 0.4, 0.6), Values(100, 300, 1200, 4000, 6000)
    >>> far_outside([reflectance], [numbers]), far_outside([numbers], [reflectance])
    ([0], [0])
    >>> far_outside([reflectance], [Values(0, 0.01, 0.02, 0.05, 0.3)])
    []
    """
    far = [i for i, (its, one) in enumerate(zip(trained, seen, strict=True)) if _far(its, one)]
    return far if len(far) > _HALF * len(trained) else []


def _far(trained: Values, seen: Values) -> bool:
    span = trained.most - trained.least or abs(trained.most) or 1.0
    above, below = trained.most + span, trained.least - span
    if seen.median > above or seen.median < below:
        return True
    largest = max(abs(seen.low), abs(seen.high))
    return largest < abs(trained.median) / _SCALE


def far_words(
    bands: Sequence[str], trained: Sequence[Values], seen: Sequence[Values]
) -> str | None:
    """What to say of values that lie far outside; None if they do not."""
    far = far_outside(trained, seen)
    if not far:
        return None
    first = far[0]
    others = f", and of {len(far) - 1} other bands alike" if len(far) > 1 else ""
    return (
        f"values of {bands[first]} are {seen[first]}, and the model was trained on "
        f"{trained[first]}{others}; are scale and offset those of the training data?"
    )
