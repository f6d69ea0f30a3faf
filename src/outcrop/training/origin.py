"""What a model was trained on: how its scenes were read, which way round, and their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from outcrop.patches.flips import FLIPS
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import in_slice
from outcrop.sources.grids import pixel_metres
from outcrop.sources.scene import Reading
from outcrop.sources.volumes.volume import PLAIN_AXES
from outcrop.typed import typed

_LEVELS = (0.0, 1.0, 50.0, 99.0, 100.0)
_PIXELS = 4_000_000
_SCALE = 100.0
_HALF = 0.5
_QUIETER = 4.0
_BEYOND = 0.1
_UPRIGHT = "none"


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
        axes: of volumes, the axes that the slices are across.
        planes: of volumes whose axes have names, those of the axis that slices are across, and of
            the axes that their rows and columns run down and along.
        flips: how the patches are flipped against their source, names of
            `outcrop.patches.flips.FLIPS`; empty where that is not known.
    """

    reading: Reading
    sensors: tuple[str, ...]
    units: tuple[str, ...]
    pixel: tuple[tuple[float, float], ...]
    values: tuple[Values, ...]
    axes: tuple[int, ...] = ()
    planes: tuple[tuple[str, str, str], ...] = ()
    flips: tuple[str, ...] = ()

    def has_axes(self, axes: Sequence[int]) -> bool:
        """Whether slices across these axes are of those it was trained on, as far as is known."""
        return not self.axes or set(axes) <= set(self.axes)

    def has_slices(self, names: tuple[str, ...], axis: int) -> bool:
        """Whether slices of a volume are of those it was trained on, as far as is known.

        Where the axes of both have names, these decide, and not their order.

        Args:
            names: of the axes of the volume.
        """
        plane = plane_of(names, axis)
        if plane is None or not self.planes:
            return self.has_axes([axis])
        return plane in self.planes

    def has_flips(self, flips: Sequence[str] = (_UPRIGHT,)) -> bool:
        """Whether some that are flipped so are, as far as is known."""
        return not (self.flips and flips) or bool(set(flips) & set(self.flips))

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
    """What the patches at `index` are."""
    sources = [source for source in patches.sources if not source.is_volume]
    pixel = [pixel_metres(source.grid) for source in sources if source.transform and source.crs]
    return TrainedOn(
        reading=patches.reading,
        sensors=tuple(dict.fromkeys(source.sensor for source in sources if source.sensor)),
        units=sources[0].units if sources else (),
        pixel=tuple(dict.fromkeys(pixel)),
        values=values_of(some_pixels(patches, index)),
        axes=axes_of(patches, index),
        planes=_planes_of(patches, index),
        flips=flips_of(patches, index),
    )


def some_pixels(patches: PatchSet, index: np.ndarray) -> np.ndarray:
    """At most four million pixels of each band of the patches at `index`: `bands × ...`."""
    most = max(1, _PIXELS // int(np.prod(patches.size)))
    chosen = index[np.unique(np.linspace(0, len(index) - 1, min(most, len(index))).astype(int))]
    return patches.take(chosen).swapaxes(0, 1)


def axes_of(patches: PatchSet, index: np.ndarray) -> tuple[int, ...]:
    """The axes that slices of volumes are across which the patches at `index` lie in."""
    if patches.positions is None or not patches.from_volume:
        return ()
    return tuple(np.unique(patches.positions.axis[index]).tolist())


def _planes_of(patches: PatchSet, index: np.ndarray) -> tuple[tuple[str, str, str], ...]:
    if patches.positions is None or not patches.from_volume:
        return ()
    at = patches.positions[index]
    slices = np.unique(np.stack([at.source, at.axis], axis=1), axis=0).tolist()
    planes = [plane_of(patches.sources[source].axes, axis) for source, axis in slices]
    return () if None in planes else tuple(dict.fromkeys(one for one in planes if one))


def plane_of(names: tuple[str, ...], axis: int) -> tuple[str, str, str] | None:
    """The names of the axis that slices are across and of those of rows and columns, if they have.

    >>> plane_of(("inline", "crossline", "sample"), 1)
    ('crossline', 'inline', 'sample')
    """
    if not names or set(names) & set(PLAIN_AXES):
        return None
    down, right = in_slice(axis)
    return names[axis], names[down], names[right]


def flips_of(patches: PatchSet, index: np.ndarray) -> tuple[str, ...]:
    """How the patches at `index` are flipped against their source, as far as that is known."""
    column = patches.columns.get("flip")
    if column is None:
        return () if patches.positions is None else (_UPRIGHT,)
    if not set(column.names) <= set(FLIPS):
        return ()
    return tuple(column.names[code] for code in np.unique(column.codes[index]).tolist())


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
    or the reverse. Water or forest alone are neither. Of values about zero, such as seismic
    amplitudes, a fourth of the range is enough: that is another gain.

    >>> reflectance, numbers = Values(0, 0.02, 0.1, 0.4, 0.6), Values(100, 300, 1200, 4000, 6000)
    >>> far_outside([reflectance], [numbers]), far_outside([numbers], [reflectance])
    ([0], [0])
    >>> far_outside([reflectance], [Values(0, 0.01, 0.02, 0.05, 0.3)])
    []
    >>> far_outside([Values(-9, -3, 0, 3, 9)], [Values(-1, -0.5, 0, 0.5, 1)])
    [0]
    """
    far = [i for i, (its, one) in enumerate(zip(trained, seen, strict=True)) if _far(its, one)]
    return far if len(far) > _HALF * len(trained) else []


def _far(trained: Values, seen: Values) -> bool:
    span = trained.most - trained.least or abs(trained.most) or 1.0
    above, below = trained.most + span, trained.least - span
    if seen.median > above or seen.median < below:
        return True
    if trained.low < 0 < trained.high:
        return (seen.high - seen.low) * _QUIETER < trained.high - trained.low
    largest = max(abs(seen.low), abs(seen.high))
    return largest < abs(trained.median) / _SCALE


def far_words(bands: Sequence[str], trained: Sequence[Values], pixels: np.ndarray) -> str | None:
    """What to say of values that lie outside those of the training side; None if few do.

    Args:
        pixels: `bands × ...`; NaN where there is no data.
    """
    seen = values_of(pixels)
    if far := far_outside(trained, seen):
        first = far[0]
        others = f", and of {len(far) - 1} other bands alike" if len(far) > 1 else ""
        return (
            f"values of {bands[first]} are {seen[first]}, and the model was trained on "
            f"{trained[first]}{others}; are scale and offset those of the training data?"
        )
    beyond = np.array([_beyond(*each) for each in zip(trained, pixels, strict=True)])
    worst = int(beyond.argmax())
    if beyond[worst] <= _BEYOND:
        return None
    return (
        f"{beyond[worst]:.0%} of the values of {bands[worst]} lie outside the "
        f"{trained[worst].least:.4g} to {trained[worst].most:.4g} that the model was trained on"
    )


def _beyond(trained: Values, pixels: np.ndarray) -> float:
    """The share of the valid pixels outside the range of the training side."""
    valid = pixels[np.isfinite(pixels)]
    if not len(valid):
        return 0.0
    return float(np.mean((valid < trained.least) | (valid > trained.most)))
