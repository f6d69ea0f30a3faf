"""The data that a model was trained on: reading, orientation and values of its sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from outcrop.frames import Colour
from outcrop.patches.flips import FLIPS
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import in_slice
from outcrop.sources.grids import pixel_metres
from outcrop.sources.reading import Reading
from outcrop.sources.volumes.volume import PLAIN_AXES

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
    """The data of the training side.

    Attributes:
        reading: settings with which the scenes were read.
        sensors: platforms and instruments, as far as files name them.
        units: units of the bands, as far as files name them.
        pixel: distinct pixel sizes of the scenes, width and height in metres.
        values: percentiles of each band.
        axes: for volumes, the axes perpendicular to the slices.
        planes: for volumes with named axes, the names of the axis perpendicular to a slice and of
            the axes of its rows and columns.
        flips: flips of the patches relative to their source, names of
            `outcrop.patches.flips.FLIPS`; empty if unknown.
        colours: red, green and blue of the classes whose colours were given.
    """

    reading: Reading
    sensors: tuple[str, ...]
    units: tuple[str, ...]
    pixel: tuple[tuple[float, float], ...]
    values: tuple[Values, ...]
    axes: tuple[int, ...] = ()
    planes: tuple[tuple[str, str, str], ...] = ()
    flips: tuple[str, ...] = ()
    colours: Mapping[str, Colour] = field(default_factory=dict)

    def has_axes(self, axes: Sequence[int]) -> bool:
        """Whether the model was trained on slices across these axes; true if unknown."""
        return not self.axes or set(axes) <= set(self.axes)

    def has_slices(self, names: tuple[str, ...], axis: int) -> bool:
        """Whether the model was trained on such slices of a volume; true if unknown.

        If the axes of both volumes have names, these `names` are compared, not the order.
        """
        plane = plane_of(names, axis)
        if plane is None or not self.planes:
            return self.has_axes([axis])
        return plane in self.planes

    def has_flips(self, flips: Sequence[str] = (_UPRIGHT,)) -> bool:
        """Whether the model was trained on patches with one of these flips; true if unknown."""
        return not (self.flips and flips) or bool(set(flips) & set(self.flips))

    @property
    def for_others(self) -> Reading:
        """Settings to read other scenes in the same way, with their own names and masks."""
        reading = replace(self.reading, mask=[], band_names=[])
        if reading.resolution in ("finest", "coarsest") or not self.pixel:
            return reading
        return replace(reading, resolution=f"{self.pixel[0][0]:.6g}")


def origin_of(patches: PatchSet, index: np.ndarray) -> TrainedOn:
    """The data of the patches at `index`."""
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
        colours=dict(patches.colours),
    )


def some_pixels(patches: PatchSet, index: np.ndarray) -> np.ndarray:
    """At most four million pixels of each band of the patches at `index`: `bands × ...`."""
    most = max(1, _PIXELS // int(np.prod(patches.size)))
    chosen = index[np.unique(np.linspace(0, len(index) - 1, min(most, len(index))).astype(int))]
    return patches.take(chosen).swapaxes(0, 1)


def axes_of(patches: PatchSet, index: np.ndarray) -> tuple[int, ...]:
    """The axes perpendicular to the slices of the patches at `index`; empty for scenes."""
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
    """The names of the axis perpendicular to a slice and of its rows and columns, if there are any.

    >>> plane_of(("inline", "crossline", "sample"), 1)
    ('crossline', 'inline', 'sample')
    """
    if not names or set(names) & set(PLAIN_AXES):
        return None
    down, right = in_slice(axis)
    return names[axis], names[down], names[right]


def flips_of(patches: PatchSet, index: np.ndarray) -> tuple[str, ...]:
    """The flips of the patches at `index` relative to their source; empty if unknown."""
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
    """Bands whose values are far from those of the training side, if most bands are.

    A band is far if half of its values lie outside the range of the training side by more than the
    width of this range, or if its values are a hundred times smaller, as with digital numbers
    instead of reflectances or the reverse. Scenes of water or forest only are not far. For values
    around zero, such as seismic amplitudes, a quarter of the range counts as another gain.

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
    """A message about values outside the range of the training side; None if there are few.

    `pixels` are `bands × ...`, with NaN where there is no data.
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
        f"{100 * beyond[worst]:.0f} % of the values of {bands[worst]} lie outside the "
        f"{trained[worst].least:.4g} to {trained[worst].most:.4g} that the model was trained on"
    )


def _beyond(trained: Values, pixels: np.ndarray) -> float:
    """The share of valid pixels outside the range of the training side."""
    valid = pixels[np.isfinite(pixels)]
    if not len(valid):
        return 0.0
    return float(np.mean((valid < trained.least) | (valid > trained.most)))
