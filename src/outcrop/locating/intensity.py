"""What was done to brightness and contrast: gain and offset of patches, one by one and together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from outcrop.crew import Crew
from outcrop.locating.planes import Planes, Slab

_MOST_CANDIDATES = 500


@dataclass(frozen=True, eq=False)
class Intensity:
    """patch ≈ gain × window + offset, for each of N patches. All arrays are float64.

    Attributes:
        gain, offset: by least squares.
        residual: root mean square of what they leave, in grey values of the patch.
        mean, spread: mean and standard deviation of the window, in units of the source.
    """

    gain: np.ndarray
    offset: np.ndarray
    residual: np.ndarray
    mean: np.ndarray
    spread: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Intensity:
        """Of some of the patches, by index or mask."""
        return Intensity(*(getattr(self, item.name)[index] for item in fields(self)))

    def among(self, which: np.ndarray, n: int) -> Intensity:
        """As those of some of `n` patches, by index; NaN for the others."""
        every = np.full((len(fields(self)), n), np.nan)
        every[:, which] = [getattr(self, item.name) for item in fields(self)]
        return Intensity(*every)


@dataclass(frozen=True)
class Stretch:
    """One gain and offset for many patches: patch ≈ gain × window + offset.

    Attributes:
        fits: how many of the patches it serves about as well as their own.
    """

    gain: float
    offset: float
    fits: int


def fit(patches: np.ndarray, windows: np.ndarray) -> Intensity:
    """Gains and offsets by least squares.

    Args:
        patches, windows: `N × pixels`. Where a window is flat its gain is 0.
    """
    x, y = np.asarray(windows, np.float64), np.asarray(patches, np.float64)
    mean, level = x.mean(axis=1), y.mean(axis=1)
    x, y = x - mean[:, None], y - level[:, None]
    square = (x * x).sum(axis=1)
    gain = np.where(square > 0, (x * y).sum(axis=1) / np.where(square > 0, square, 1), 0)
    residual = np.sqrt(np.square(y - gain[:, None] * x).mean(axis=1))
    return Intensity(gain, level - gain * mean, residual, mean, np.sqrt(square / x.shape[1]))


def common(each: Intensity, rounding: float) -> Stretch:
    """The stretch that serves most patches.

    It serves a patch if it differs from the patch's own by at most half of what that one leaves, so
    that the residual grows by an eighth at most.

    Args:
        each: of N ≥ 1 patches.
        rounding: root mean square error of the grey values themselves; 0.29 for whole numbers.
    """
    some = np.unique(np.linspace(0, len(each.gain) - 1, _MOST_CANDIDATES).astype(int))
    fits = [_served(each, each.gain[k], each.offset[k], rounding).sum() for k in some]
    best = some[int(np.argmax(fits))]
    served = _served(each, each.gain[best], each.offset[best], rounding)
    gain = float(np.median(each.gain[served]))
    level = each.offset[served] + each.gain[served] * each.mean[served]
    stretch = Stretch(gain, float(np.median(level - gain * each.mean[served])), 0)
    return replace(stretch, fits=int(_served(each, stretch.gain, stretch.offset, rounding).sum()))


def _served(each: Intensity, gain: float, offset: float, rounding: float) -> np.ndarray:
    steeper = (gain - each.gain) * each.spread
    brighter = gain * each.mean + offset - (each.gain * each.mean + each.offset)
    allowed = np.maximum(each.residual, rounding) / 2 + 1e-4 * np.abs(each.gain) * each.spread
    return np.asarray(np.hypot(steeper, brighter) <= allowed)


@dataclass(frozen=True, eq=False)
class _Task:
    """Patches and where each was cut in one slab."""

    number: int
    slab: Slab
    which: np.ndarray
    images: Sequence[np.ndarray]
    missing: Sequence[np.ndarray] | None
    places: np.ndarray


def measure(
    images: Sequence[np.ndarray],
    missing: Sequence[np.ndarray] | None,
    places: Sequence[tuple[int, ...]],
    planes: Sequence[Planes],
    crew: Crew,
) -> list[Intensity]:
    """The intensity of patches over all bands, then over each band if they have several.

    Args:
        images: N patches as they lay in the slices: `bands × height × width`, of one size.
        missing: for each, `height × width`, the pixels that do not count; None if all do.
        places: for each, which of the planes, slice, row and column of the upper-left pixel.
    """
    bands, height, width = images[0].shape if images else (1, 0, 0)
    at = np.array(places, int).reshape(-1, 4)
    tasks = []
    for number, one in enumerate(planes):
        left = np.flatnonzero(at[:, 0] == number)
        for slab in one.slabs((height, width)) if len(left) else ():
            _, index, row, column = at[left].T
            here = (slab.first <= index) & (index < slab.last)
            here &= (slab.top <= row) & (row + height <= slab.top + slab.height)
            here &= (slab.left <= column) & (column + width <= slab.left + slab.width)
            which, left = left[here], left[~here]
            if len(which):
                first, last = int(index[here].min()), int(index[here].max()) + 1
                thin = replace(slab, first=first, last=last)
                some = [images[k] for k in which]
                gaps = None if missing is None else [missing[k] for k in which]
                tasks.append(_Task(number, thin, which, some, gaps, at[which, 1:]))
    found = np.empty((1 if bands == 1 else 1 + bands, len(fields(Intensity)), len(images)))
    for task, measured in zip(
        tasks, crew.each(_measure, planes, tasks, "measuring contrast"), strict=True
    ):
        found[..., task.which] = measured
    return [Intensity(*one) for one in found]


def _measure(planes: Sequence[Planes], task: _Task) -> np.ndarray:
    """`(1 or 1 + bands) × fields of Intensity × patches`."""
    with planes[task.number].open() as read:
        pixels = read(task.slab)
    measured = []
    for k, (index, row, column) in enumerate(task.places):
        patch = task.images[k]
        bands, height, width = patch.shape
        top, left = row - task.slab.top, column - task.slab.left
        window = pixels[index - task.slab.first, :, top : top + height, left : left + width]
        if task.missing is not None:
            known = ~task.missing[k]
            patch, window = patch[:, known], window[:, known]
        parts = [fit(patch.reshape(1, -1), window.reshape(1, -1))]
        if bands > 1:
            parts.append(fit(patch.reshape(bands, -1), window.reshape(bands, -1)))
        measured.append(
            [np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Intensity)]
        )
    return np.array(measured).transpose(2, 1, 0)
