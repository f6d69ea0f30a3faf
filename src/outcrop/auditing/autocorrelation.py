"""Spatial autocorrelation of pixels, labels and errors, and the blocks that follow from it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from outcrop.auditing.variogram import (
    Sources,
    Variogram,
    draw_from_patches,
    draw_from_sources,
    first_component,
    pixel_size,
    variogram,
)
from outcrop.errors import OutcropError
from outcrop.patches.collect import without_images
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions, Source
from outcrop.splits import BlockSplit
from outcrop.splits.geometry import (
    coordinates,
    largest_extent,
    nearest,
    nearest_other,
    prediction_points,
)

FEWEST = 20
FOLDS = 5
_LABELS, _LABEL_DRAWS = 1000, 4
_PROBED, _TREES, _MODEL_FOLDS = 2000, 20, 5
_FROM_VOLUMES = "the volumes"
_TRIED = 5000
_KEPT = 1 / 3
_POINTS, _BETWEEN = 1000, 0.9
# Factors of the wanted block and buffer, the best first.
_COMPROMISES = tuple(
    (block, buffer) for buffer in (1, 0.5, 0) for block in ((1, 2) if buffer else (1, 0.5, 0.25))
)


@dataclass(frozen=True)
class Autocorrelation:
    """Spatial autocorrelation of pixels and labels.

    Attributes:
        pixels: variograms of the first principal component of the bands: one for scenes, one along
            each axis for volumes; None if it cannot be estimated.
        labels: indicator variogram of the classes at the centres of the patches.
        origin: where the pixels were drawn from: "the patches", "the scenes" or "the volumes".
    """

    pixels: tuple[Variogram | None, ...]
    labels: Variogram | None
    origin: str

    @property
    def ranges(self) -> np.ndarray:
        """Range of the pixels along axes 0, 1 and 2: float64, 3; in scenes all are equal.

        It is the longest lag if the range is longer than that, 0 if even neighbours are
        uncorrelated, and NaN if nothing could be estimated.
        """
        return self._along(lambda one: min(one.range, one.lags[-1]))

    @property
    def range(self) -> float:
        """The longest of the ranges; NaN if none could be estimated."""
        known = self.ranges[~np.isnan(self.ranges)]
        return float(known.max()) if len(known) else math.nan

    def through(self, positions: Positions) -> np.ndarray:
        """Number of slices next to a patch of a volume that look almost the same: float64, `N × 3`.

        Along the axis perpendicular to the patch it is the lag at which the semivariance reaches a
        third of its final value (`Variogram.two_thirds`). It is 0 along the other axes and in
        scenes. It is also 0 if the pixels were drawn from the patches, which are one slice thick.
        """
        slack = np.zeros((len(positions), 3))
        if self.origin == _FROM_VOLUMES:
            similar = np.nan_to_num(self._along(lambda one: one.two_thirds))
            slack[np.arange(len(positions)), positions.axis] = similar[positions.axis]
        return slack

    def _along(self, length: Callable[[Variogram], float]) -> np.ndarray:
        each = [math.nan if one is None else length(one) for one in self.pixels]
        return np.broadcast_to(np.array(each), 3)


def measure_autocorrelation(
    patches: PatchSet, opened: Sources = (), seed: int = 0, draws: int = 8
) -> Autocorrelation | None:
    """Estimate the variograms of a patch set's pixels and labels.

    The estimate depends on the size of the area. In an area shorter than about five ranges the
    range may be wrong by half. There is no estimate (None) without positions, or with fewer than
    twenty patches or distinct positions.

    Args:
        opened: sources of the patches, to draw pixels from; without them pixels are drawn from the
            patches.
        seed: random seed of the draws.
        draws: number of draws, of about 1500 pixels each.
    """
    if patches.positions is None or len(patches) < FEWEST:
        return None
    at = coordinates(patches.positions)
    if len(np.unique(at, axis=0)) < FEWEST:
        return None
    shortest = pixel_size(patches)
    longest = shortest * max((max(source.shape) for source in patches.sources), default=np.inf)
    pixels = []
    for axis in range(3) if patches.from_volume else [None]:
        if opened:
            drawn = draw_from_sources(patches, opened, seed, draws, axis)
        else:
            drawn = draw_from_patches(patches, seed, draws)
        drawn = [one for one in drawn if len(one[0]) >= FEWEST]
        field = first_component(drawn) if drawn else []
        direction = None if axis is None else np.eye(3)[axis]
        pixels.append(variogram(field, shortest, longest, direction) if drawn else None)
    origin = _FROM_VOLUMES if patches.from_volume else "the scenes"
    classes = np.eye(len(patches.classes))[patches.labels]
    return Autocorrelation(
        pixels=tuple(pixels),
        labels=_variogram_at_patches(at, classes, longest, seed),
        origin=origin if opened else "the patches",
    )


def measure_residuals(patches: PatchSet, features: np.ndarray, seed: int = 0) -> Variogram | None:
    """The variogram of the residuals of a quick model.

    The residual of a patch is one minus the predicted probability of its class. The model is a
    forest of twenty extremely randomised trees on features, cross-validated in five random folds
    of at most 2000 patches. Blocks should be larger than the range of the residuals. There is no
    estimate (None) without positions, with fewer than twenty patches or distinct positions, or with
    a single class.

    Args:
        features: `N × F`, of the patches.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    if patches.positions is None:
        return None
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(patches))[:_PROBED])
    at, labels = coordinates(patches.positions[some]), patches.labels[some]
    if len(np.unique(at, axis=0)) < FEWEST or len(np.unique(labels)) < 2:
        return None
    folds = PredefinedSplit(rng.permutation(len(some)) % _MODEL_FOLDS)
    trees = ExtraTreesClassifier(_TREES, random_state=seed)
    with warnings.catch_warnings():
        # A class that a fold does not train on has a probability of 0 there.
        warnings.simplefilter("ignore", RuntimeWarning)
        predicted = cross_val_predict(
            trees, features[some], labels, cv=folds, method="predict_proba"
        )
    column = np.unique(labels, return_inverse=True)[1]
    residual = 1 - predicted[np.arange(len(some)), column]
    longest = pixel_size(patches) * max(max(source.shape) for source in patches.sources)
    return _variogram_at_patches(at, residual[:, None], longest, seed)


def _variogram_at_patches(
    at: np.ndarray, values: np.ndarray, longest: float, seed: int
) -> Variogram | None:
    """The variogram of values at the centres of patches."""
    apart = float(nearest_other(np.unique(at, axis=0)).min())
    rng = np.random.default_rng(seed)
    count = min(_LABELS, len(at) * 2 // 3)
    index = [rng.choice(len(at), count, replace=False) for _ in range(_LABEL_DRAWS)]
    return variogram([(at[i], values[i]) for i in index], apart, longest, robust=False)


# Recommended blocks


@dataclass(frozen=True)
class Blocks:
    """Recommended blocks and buffer, in the patch set's unit.

    Attributes:
        block, buffer: parameters of `outcrop.splits.BlockSplit`.
        unit: "m" or "voxels".
        wide: whether they are as wide as the range requires; False if they are the largest that
            the labelled area allows.
    """

    block: float
    buffer: float
    unit: str
    wide: bool

    @property
    def command(self) -> str:
        """The command for such a split."""
        return f"`outcrop split --block {self.block:g} --buffer {self.buffer:g}`"

    def __str__(self) -> str:
        limit = "" if self.wide else "the largest that the labelled area allows: "
        return f"{limit}blocks of {self.block:g} {self.unit}, buffer {self.buffer:g} {self.unit}"


def advise_blocks(
    patches: PatchSet, ranges: np.ndarray | None = None, least: float = 0.0, seed: int = 0
) -> Blocks | None:
    """Blocks and a buffer for a range of autocorrelation, tested on the patches; None if none fit.

    Blocks are not smaller than the range, and centres of patches of different sides are further
    apart than the range: Roberts et al. (2017), Cross-validation strategies for data with temporal,
    spatial, hierarchical, or phylogenetic structure, Ecography 40, 913-929; Valavi et al. (2019),
    blockCV, Methods in Ecology and Evolution 10, 225-232 (`cv_spatial_autocor`, `cv_buffer`). If
    the area is too small for them (less than a third of the patches would be used, or a side would
    lack classes), the buffer is reduced first and then the blocks.

    Such blocks suit a map of a new area, and any model that classifies by features. Their score is
    too low for a model that interpolates between evenly distributed patches (Wadoux et al. 2021,
    Ecological Modelling 457, 109692): see `lies_between`.

    Args:
        ranges: float64, 3, range along axes 0, 1 and 2 in the patch set's unit
            (`Autocorrelation.ranges`); NaN or None if unknown.
        least: smallest buffer that separates slices that look the same.
    """
    if patches.positions is None or not len(patches):
        return None
    ranges = np.zeros(3) if ranges is None else np.nan_to_num(ranges)
    block_wanted = (2 if patches.from_volume else 4) * largest_extent(patches.positions)
    block_wanted = max(block_wanted, float(ranges.max()))
    apart = ranges - patches.positions.extent.min(axis=0)
    buffer_wanted = max(least, float(apart[0 if patches.from_volume else 1 :].max()))
    sample = _sample_without_images(patches, seed)
    for block_share, buffer_share in _COMPROMISES:
        block = round_up(block_wanted * block_share)
        buffer = round_up(max(least, buffer_wanted * buffer_share))
        if patches.from_volume:
            block, buffer = math.ceil(block), math.ceil(buffer)
        try:
            splitter = BlockSplit(block=block, buffer=buffer, n_splits=FOLDS, random_state=seed)
            split = splitter.assign(sample)
        except OutcropError:
            continue
        if len(split.train) + len(split.validation) >= _KEPT * len(sample):
            wide = block >= block_wanted and buffer >= buffer_wanted
            return Blocks(block, buffer, patches.unit, wide)
    return None


def lies_between(
    patches: PatchSet, ranges: np.ndarray | None, sources: Sequence[Source] | None = None
) -> bool | None:
    """Whether the area to be mapped lies between the patches, not in a new area; None if unknown.

    It does if 90 % of its pixels are no further from a patch than the range.

    Args:
        ranges: as in `advise_blocks`.
        sources: scenes or volumes to be mapped; those of the patches by default.
    """
    if patches.positions is None or not patches.sources or ranges is None:
        return None
    if not np.isfinite(ranges).any():
        return None
    if patches.from_volume and sources is not None:  # other volumes are always new areas
        return False
    points = prediction_points(patches, _POINTS, sources).at
    apart = nearest(points, coordinates(patches.positions))
    return bool((apart <= np.nanmax(ranges)).mean() >= _BETWEEN)


def round_up(value: float) -> float:
    """The next number with two significant digits.

    >>> round_up(568.1), round_up(0.0), round_up(1000)
    (570.0, 0.0, 1000.0)
    """
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(round(value / step, 6)) * step


def _sample_without_images(patches: PatchSet, seed: int) -> PatchSet:
    """At most 5000 patches, without images, and without classes that are rarer than folds."""
    index = np.random.default_rng(seed).permutation(len(patches))[:_TRIED]
    counts = np.bincount(patches.labels[index], minlength=len(patches.classes))
    index = index[counts[patches.labels[index]] >= FOLDS]
    bare = replace(patches, images=without_images(len(patches), len(patches.bands)), columns={})
    return bare.subset(index)
