"""`locate`: search for the origin of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.executors import Executor, executor
from outcrop.locating.find import find
from outcrop.locating.intensity import Intensity, intensities
from outcrop.locating.located import Located
from outcrop.locating.null import null_distribution
from outcrop.locating.planes import Patches, Planes
from outcrop.locating.refinement import Peak
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.patches.flips import FLIPS, KEEP_SHAPE
from outcrop.patches.patchset import PatchSet
from outcrop.progress import warn
from outcrop.sources.bands import listed, match
from outcrop.sources.kinds import are_volumes, open_all_scenes, open_all_volumes, reject_options
from outcrop.sources.memory import as_list
from outcrop.sources.reading import Reading
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume
from outcrop.sources.volumes.volume import sum_is_finite

SURE = 0.9999
_MIN_CONTRAST = 1e-6


def locate(
    patches: AnyPatches | np.ndarray,
    sources: str | Path | Scene | Volume | Sequence[str | Path | Scene | Volume],
    axis: int | None = None,
    flips: bool = False,
    *,
    bands: Sequence[int | str] | None = None,
    reading: Reading = Reading(),
    crs: str | None = None,
    sure: float = SURE,
    scheduler: str | None = None,
) -> Located:
    """Search for the origin of patches, whatever their brightness and contrast.

    Exact copies are found first, by the signs of their finest detail. For other patches, every
    window of every slice is compared by a signature, which gives candidate places. These are
    refined locally: normalised cross-correlation at full resolution (Lewis 1995, eq. 2) of the
    patches and of their negatives. A patch is found if it fits one place clearly better than all
    others, or if patches of another source would hardly fit as well according to the null
    distribution (`outcrop.locating.null`). It is `ambiguous` if another place may fit as well.

    If a patch misses less than half of its pixels, the others are compared. A patch without
    contrast cannot be located. Missing samples of a source count as the mean of their slice.

    Args:
        patches: a patch set, the name of one or of a collection, or an array, `N × height × width`
            or `N × bands × height × width`, of any type. Patches of several equal bands count as
            grey ones.
        sources: volumes or scenes, opened or by name. Scenes have as many bands as the patches.
        axis: axis of volumes that the slices are perpendicular to, from 0. Default: all three.
        flips: whether to search also for flipped and rotated patches: eight orientations, or four
            if patches are not square. The time grows in proportion.
        bands: bands of scenes to use, by number (from 1) or by name.
        reading: how rasters are read.
        crs: coordinate reference system of scenes that have none.
        sure: minimum confidence of a patch that counts as found, from 0 to 1.
        scheduler: address of a Dask cluster whose workers see the sources under the same names.
            Default: threads of this process.

    Raises:
        OutcropError: patches or sources are missing, damaged, or do not fit together.
    """
    if not 0 <= sure <= 1:
        raise OutcropError("`sure`", f"must be a probability from 0 to 1, not {sure:g}")
    if isinstance(patches, str | Path):
        patches = open_patches(patches, learnable=False)
    images = _images(patches)
    size = (images.shape[2], images.shape[3])
    opened = _open(sources, axis, bands, crs, reading)
    if isinstance(patches, PatchSet):
        opened = [_with_bands_of(patches, source) for source in opened]
    stacks = _stacks(opened, axis, size)
    images = _in_bands(images, opened[0], stacks[0].bands)
    images, missing = _filled(images)
    usable = has_contrast(images, missing)
    if not usable.any():
        raise OutcropError(
            "patches",
            f"all {len(images)} are flat or miss most pixels and cannot be located; take others",
        )
    names = FLIPS if size[0] == size[1] else KEEP_SHAPE
    every = Patches(images, missing, tuple(names) if flips else ("none",))
    wanted = every if usable.all() else every.some(np.flatnonzero(usable).tolist())
    with executor(scheduler) as workers:
        matches = _match(wanted, stacks, sure, workers)
    if not matches.any_fit:
        raise OutcropError(
            opened[0].title, "has no contrast anywhere to locate patches by; check its content"
        )
    return _located(opened, stacks, images, usable, matches)


@dataclass(frozen=True, eq=False)
class _Matches:
    """The search results of the K usable patches.

    Attributes:
        score: float, `K`, the score of the best peak; NaN without a peak.
        confidence: float, `K`.
        which: int, `M`, the indices of the patches found; the attributes below are theirs.
        best: the best peaks.
        margin: the margins.
        ambiguous: whether another place may fit as well.
        flip: the orientations.
        intensity: gain and offset over all bands, then for each band if there are several.
    """

    score: np.ndarray
    confidence: np.ndarray
    which: np.ndarray
    best: list[Peak]
    margin: list[float]
    ambiguous: list[bool]
    flip: list[str]
    intensity: list[Intensity]

    @property
    def any_fit(self) -> bool:
        """Whether any patch fits anywhere."""
        return bool((self.score > 0).any())


def _match(patches: Patches, stacks: Sequence[Planes], sure: float, workers: Executor) -> _Matches:
    found = find(patches, stacks, workers)
    score = np.array([one.best.score if one.peaks else np.nan for one in found])
    unique = np.array([bool(one.peaks) and one.unique for one in found])
    confidence = np.array([one.confidence for one in found])
    if not unique.all():
        null = null_distribution(patches, stacks, workers)
        confidence = np.maximum(confidence, np.nan_to_num(null.cdf(score)))
    which = np.flatnonzero((confidence >= sure) & (score > 0))
    best = [found[k].best for k in which]
    flip = [patches.flips[peak.place[0] // 2] for peak in best]
    signs = [-1 if peak.place[0] % 2 else 1 for peak in best]
    return _Matches(
        score,
        confidence,
        which,
        best,
        [found[k].margin for k in which],
        [not unique[k] for k in which],
        flip,
        intensities([peak.fit for peak in best], signs),
    )


def _located(
    opened: Sequence[Scene | Volume],
    stacks: Sequence[Planes],
    images: np.ndarray,
    usable: np.ndarray,
    matches: _Matches,
) -> Located:
    n, which = len(images), np.flatnonzero(usable)[matches.which]

    def every(values: object, where: np.ndarray, other: object, kind: str = "f8") -> np.ndarray:
        """One value per patch: these at `where`, the other elsewhere."""
        full = np.full(n, other, kind)
        full[where] = values
        return full

    def integers(values: Sequence[int]) -> np.ndarray:
        return every(values, which, -1, "i4")

    best = matches.best
    intensity, *bands = (one.among(which, n) for one in matches.intensity)
    return Located(
        sources=tuple(opened),
        size=(images.shape[2], images.shape[3]),
        integer=images.dtype.kind in "iu",
        usable=usable,
        found=every(True, which, False, "?"),
        source=integers([_number(opened, stacks[peak.planes].source) for peak in best]),
        axis=integers([stacks[peak.planes].axis for peak in best]),
        index=integers([peak.place[2] for peak in best]),
        row=integers([peak.place[3] for peak in best]),
        column=integers([peak.place[4] for peak in best]),
        flip=every(matches.flip, which, "", f"U{max(map(len, FLIPS))}"),
        score=every(matches.score, usable, np.nan),
        confidence=every(matches.confidence, usable, 0),
        margin=every(matches.margin, which, np.nan),
        ambiguous=every(matches.ambiguous, which, False, "?"),
        intensity=intensity,
        bands=tuple(bands),
    )


def _number(opened: Sequence[Scene | Volume], source: Scene | Volume) -> int:
    return next(k for k, one in enumerate(opened) if one is source)


def has_contrast(images: np.ndarray, missing: np.ndarray | None = None) -> np.ndarray:
    """Mask of the images with contrast in some band and with more than half of their pixels.

    Args:
        images: `N × bands × height × width`, finite.
        missing: bool, `N × height × width`; None if no pixel is missing.
    """
    low, high = (
        np.asarray(extreme(images, axis=(2, 3)), np.float64) for extreme in (np.min, np.max)
    )
    steps = high - low > _MIN_CONTRAST * np.maximum(np.abs(low), np.abs(high))
    usable = np.asarray(steps.any(axis=1))
    return usable if missing is None else usable & (missing.mean(axis=(1, 2)) < 0.5)


def _filled(images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Images whose missing pixels get the mean of the others, and the mask of missing pixels.

    A pixel that is missing in one band counts as missing in all.
    """
    if images.dtype.kind not in "fc" or sum_is_finite(images):
        return images, None
    missing = ~np.isfinite(images).all(axis=1)
    count = np.maximum((~missing).sum(axis=(1, 2)), 1)[:, None]
    known = np.where(missing[:, None], 0, images)
    mean = known.sum(axis=(2, 3), dtype=np.float64) / count
    return np.where(missing[:, None], mean[..., None, None], images).astype(images.dtype), missing


def _images(patches: PatchSet | np.ndarray) -> np.ndarray:
    """The images, `N × bands × height × width`, in memory."""
    if isinstance(patches, PatchSet):
        return patches.take(np.arange(len(patches)))
    images = patches[:, None] if patches.ndim == 3 else patches
    if images.ndim != 4 or 0 in images.shape:
        raise OutcropError(
            "patches",
            f"have shape {patches.shape}; pass N × height × width, or N × bands × height × width",
        )
    return images


def _open(
    sources: str | Path | Scene | Volume | Sequence[str | Path | Scene | Volume],
    axis: int | None,
    bands: Sequence[int | str] | None,
    crs: str | None,
    reading: Reading,
) -> Sequence[Scene | Volume]:
    given = as_list(sources)
    if are_volumes(given):
        reject_options("volumes", bands=bands, crs=crs)
        return open_all_volumes(given)
    reject_options("scenes", axis=axis)
    return open_all_scenes(given, bands, crs, reading)


def _with_bands_of(patches: PatchSet, source: Scene | Volume) -> Scene | Volume:
    """A scene with its bands in the order of the patches, if their names give one.

    Bands of image files are named after colours (red, green, blue), whatever they show. In a wrong
    order the pixels do not match, and no patch is found.
    """
    if isinstance(source, Volume):
        return source
    found = match(source.band_names, patches.bands)
    if found is None or found.assumed:
        if patches.bands != source.band_names and len(patches.bands) == len(source.bands) > 1:
            warn(
                f"{source.title}: {listed(source.band_names)} are taken in this order for "
                f"{listed(patches.bands)} of the patches"
            )
        return source
    return source.take_bands(found.order)


def _stacks(
    opened: Sequence[Scene | Volume], axis: int | None, size: tuple[int, int]
) -> list[Planes]:
    """The stacks of slices that are large enough for the patches."""
    stacks = [
        Planes(source, across)
        for source in opened
        for across in (
            (-1,) if isinstance(source, Scene) else range(3) if axis is None else (axis,)
        )
    ]
    fitting = [one for one in stacks if size[0] <= one.size[0] and size[1] <= one.size[1]]
    if fitting:
        return fitting
    largest = max((one.size for one in stacks), key=min)
    raise OutcropError(
        opened[0].title,
        f"has no slice or scene larger than {largest[0]} × {largest[1]}, and the patches are "
        f"{size[0]} × {size[1]}; check the source, or `axis`",
    )


def _in_bands(images: np.ndarray, source: Scene | Volume, bands: int) -> np.ndarray:
    """The images, with as many bands as the source."""
    have = images.shape[1]
    if have == bands:
        return images
    if bands == 1 and all(np.array_equal(images[:, 0], images[:, k]) for k in range(1, have)):
        return images[:, :1]
    remedy = "choose its bands with `bands`" if isinstance(source, Scene) else "take grey ones"
    raise OutcropError("patches", f"have {have} bands where {source.title} has {bands}; {remedy}")
