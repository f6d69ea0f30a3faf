"""`locate`: where were these patches cut?"""

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
from outcrop.locating.planes import Planes
from outcrop.locating.verify import Patches, Peak
from outcrop.patches.flips import FLIPS, KEEP_SHAPE
from outcrop.patches.patchset import PatchSet
from outcrop.progress import tell
from outcrop.sources.bands import listed, match
from outcrop.sources.kinds import are_volumes, open_all_scenes, open_all_volumes, reject_options
from outcrop.sources.memory import as_list
from outcrop.sources.scene import Reading, Scene
from outcrop.sources.volumes import Volume
from outcrop.sources.volumes.volume import sum_is_finite

SURE = 0.9999
_FAINTEST = 1e-6


def locate(
    patches: PatchSet | np.ndarray,
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
    """Find where patches were cut, whatever was done to their brightness and contrast.

    Every window of every slice is compared by a signature. From likely places a local refinement
    goes on, by normalised cross-correlation at full resolution (Lewis 1995, eq. 2) of the patches
    as they are and of their negatives. A patch counts as found if one place fits it clearly better
    than all others, or if patches from elsewhere would hardly fit as well, which surrogates of the
    patches tell (`outcrop.locating.null`). Where another place may fit as well, it is
    `ambiguous`.

    Of patches with missing pixels the others are compared, if they are more than half; of a patch
    without contrast there is nothing to compare. Missing samples of a source count as the mean of
    their slice.

    Args:
        patches: a patch set, or `N × height × width`, or `N × bands × height × width`, of any
            type. Patches of three bands that are alike are taken for grey ones.
        sources: volumes or scenes, by name or opened; scenes have as many bands as the patches.
        axis: of volumes, the axis that the slices are across, from 0; all three are searched if
            not given.
        flips: whether patches may have been flipped or turned: eight ways, four if they are not
            square. It takes as many times as long.
        bands: of scenes, numbers of the bands to use, from 1.
        crs: of scenes that carry none.
        sure: the confidence from which a patch counts as found, from 0 to 1.
        scheduler: address of a Dask cluster to work on, whose workers see the sources under the
            same names; without it, the threads of this process do.

    Raises:
        OutcropError: anything wrong with patches or sources, said in one line.
    """
    if not 0 <= sure <= 1:
        raise OutcropError("--sure", f"is a probability and must be from 0 to 1, not {sure:g}")
    images = _images(patches)
    size = (images.shape[2], images.shape[3])
    opened = _open(sources, axis, bands, crs, reading)
    if isinstance(patches, PatchSet):
        opened = [_with_bands_of(patches, source) for source in opened]
    stacks = _stacks(opened, axis, size)
    images = _in_bands(images, opened[0], stacks[0].bands)
    images, missing = _known(images)
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
        believed = _believe(wanted, stacks, sure, workers)
    if not believed.fits:
        raise OutcropError(
            opened[0].title, "has no contrast anywhere to locate patches by; check what is in it"
        )
    return _located(opened, stacks, images, usable, believed)


@dataclass(frozen=True, eq=False)
class _Believed:
    """What is known of K patches that could be looked for.

    Attributes:
        score: of their best peaks, NaN without one.
        confidence: that they are from there.
        which: those of them, M, that are believed, by index.
        best: the peaks of these.
        margin: of these.
        ambiguous: of these, whether another place may fit as well.
        flip: of these.
        intensity: of these, over all bands, then for each if they are several.
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
    def fits(self) -> bool:
        """Whether anything fits anywhere at all."""
        return bool((self.score > 0).any())


def _believe(
    patches: Patches, stacks: Sequence[Planes], sure: float, workers: Executor
) -> _Believed:
    found = find(patches, stacks, workers)
    score = np.array([one.best.score if one.peaks else np.nan for one in found])
    unique = np.array([bool(one.peaks) and one.unique for one in found])
    confidence = np.array([one.confidence for one in found])
    if not unique.all():
        elsewhere = null_distribution(patches, stacks, workers)
        confidence = np.maximum(confidence, np.nan_to_num(elsewhere.refuted(score)))
    which = np.flatnonzero((confidence >= sure) & (score > 0))
    best = [found[k].best for k in which]
    flip = [patches.flips[peak.place[0] // 2] for peak in best]
    signs = [-1 if peak.place[0] % 2 else 1 for peak in best]
    return _Believed(
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
    believed: _Believed,
) -> Located:
    n, which = len(images), np.flatnonzero(usable)[believed.which]

    def every(values: object, where: np.ndarray, other: object, kind: str = "f8") -> np.ndarray:
        """One for each patch: values where they are known, else the other."""
        full = np.full(n, other, kind)
        full[where] = values
        return full

    def whole(values: Sequence[int]) -> np.ndarray:
        return every(values, which, -1, "i4")

    best = believed.best
    intensity, *bands = (one.among(which, n) for one in believed.intensity)
    return Located(
        sources=tuple(opened),
        size=(images.shape[2], images.shape[3]),
        whole=images.dtype.kind in "iu",
        usable=usable,
        found=every(True, which, False, "?"),
        source=whole([_number(opened, stacks[peak.planes].source) for peak in best]),
        axis=whole([stacks[peak.planes].axis for peak in best]),
        index=whole([peak.place[2] for peak in best]),
        row=whole([peak.place[3] for peak in best]),
        column=whole([peak.place[4] for peak in best]),
        flip=every(believed.flip, which, "", f"U{max(map(len, FLIPS))}"),
        score=every(believed.score, usable, np.nan),
        confidence=every(believed.confidence, usable, 0),
        margin=every(believed.margin, which, np.nan),
        ambiguous=every(believed.ambiguous, which, False, "?"),
        intensity=intensity,
        bands=tuple(bands),
    )


def _number(opened: Sequence[Scene | Volume], source: Scene | Volume) -> int:
    return next(k for k, one in enumerate(opened) if one is source)


def has_contrast(images: np.ndarray, missing: np.ndarray | None = None) -> np.ndarray:
    """Mask of the pictures that are not flat in every band, and not mostly missing.

    Args:
        images: `N × bands × height × width`, finite.
        missing: bool, `N × height × width`; None if no pixel is.
    """
    low, high = (
        np.asarray(extreme(images, axis=(2, 3)), np.float64) for extreme in (np.min, np.max)
    )
    steps = high - low > _FAINTEST * np.maximum(np.abs(low), np.abs(high))
    usable = np.asarray(steps.any(axis=1))
    return usable if missing is None else usable & (missing.mean(axis=(1, 2)) < 0.5)


def _known(images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Images with the mean of the other pixels where some are missing, and which those are.

    A pixel that is missing in one band is in all.
    """
    if images.dtype.kind not in "fc" or sum_is_finite(images):
        return images, None
    missing = ~np.isfinite(images).all(axis=1)
    count = np.maximum((~missing).sum(axis=(1, 2)), 1)[:, None]
    known = np.where(missing[:, None], 0, images)
    mean = known.sum(axis=(2, 3), dtype=np.float64) / count
    return np.where(missing[:, None], mean[..., None, None], images).astype(images.dtype), missing


def _images(patches: PatchSet | np.ndarray) -> np.ndarray:
    """`N × bands × height × width`, in memory."""
    if isinstance(patches, PatchSet):
        return patches.take(np.arange(len(patches)))
    images = patches[:, None] if patches.ndim == 3 else patches
    if images.ndim != 4 or 0 in images.shape:
        raise OutcropError(
            "patches",
            f"are {patches.shape}; pass N × height × width, or N × bands × height × width",
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
    """A scene with its bands in the order of the patches, as far as names tell.

    Names of image files are those of colours (red, green, blue), whatever bands were drawn so;
    what is located is checked against the pixels, so that another order finds nothing.
    """
    if isinstance(source, Volume):
        return source
    found = match(source.band_names, patches.bands)
    if found is None or found.assumed:
        if patches.bands != source.band_names and len(patches.bands) == len(source.bands) > 1:
            tell(
                f"note: {source.title}: {listed(source.band_names)} are taken in this order for "
                f"{listed(patches.bands)} of the patches"
            )
        return source
    return source.take_bands(found.order)


def _stacks(
    opened: Sequence[Scene | Volume], axis: int | None, size: tuple[int, int]
) -> list[Planes]:
    """The slices that patches of a size may lie in."""
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
        f"{size[0]} × {size[1]}; check the source, or --axis",
    )


def _in_bands(images: np.ndarray, source: Scene | Volume, bands: int) -> np.ndarray:
    """The images, if they have as many bands as the source."""
    have = images.shape[1]
    if have == bands:
        return images
    if bands == 1 and all(np.array_equal(images[:, 0], images[:, k]) for k in range(1, have)):
        return images[:, :1]
    remedy = "choose its bands with --bands" if isinstance(source, Scene) else "take grey ones"
    raise OutcropError("patches", f"have {have} bands where {source.title} has {bands}; {remedy}")
