"""`locate`: where were these patches cut?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outcrop.crew import Crew, crew
from outcrop.errors import OutcropError
from outcrop.locating.find import find
from outcrop.locating.impostors import impostors
from outcrop.locating.intensity import Intensity, measure
from outcrop.locating.located import Located
from outcrop.locating.planes import Planes
from outcrop.locating.verify import Peak
from outcrop.patches.flips import FLIPS, KEEP_SHAPE, unflip
from outcrop.patches.patchset import PatchSet
from outcrop.progress import tell
from outcrop.sources.bands import listed, match
from outcrop.sources.kinds import are_volumes, open_all_scenes, open_all_volumes, refuse_for
from outcrop.sources.scene import Reading, Scene
from outcrop.sources.volumes import Volume

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

    Every window of every slice is compared by a signature; what is likely is climbed from and
    judged by normalised cross-correlation at full resolution (Lewis 1995, eq. 2). A patch counts
    as found if patches from elsewhere would hardly fit as well, which surrogates of the patches
    tell (`outcrop.locating.impostors`). On smooth ground, where everything fits everywhere, that
    takes a better fit than on rough ground.

    Patches without contrast or with missing pixels cannot be located; the others go on. Missing
    samples of a source count as the mean of their slice.

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
    usable = has_contrast(images)
    if not usable.any():
        raise OutcropError(
            "patches",
            f"all {len(images)} are flat or miss pixels and cannot be located; take others",
        )
    names = FLIPS if size[0] == size[1] else KEEP_SHAPE
    with crew(scheduler) as workers:
        believed = _believe(
            images if usable.all() else images[usable],
            stacks,
            tuple(names) if flips else ("none",),
            sure,
            workers,
        )
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
        flip: of these.
        intensity: of these, over all bands, then for each if they are several.
    """

    score: np.ndarray
    confidence: np.ndarray
    which: np.ndarray
    best: list[Peak]
    margin: list[float]
    flip: list[str]
    intensity: list[Intensity]

    @property
    def fits(self) -> bool:
        """Whether anything fits anywhere at all."""
        return bool((self.score > 0).any())


def _believe(
    images: np.ndarray, stacks: Sequence[Planes], ways: Sequence[str], sure: float, workers: Crew
) -> _Believed:
    def variants(pictures: np.ndarray) -> list[np.ndarray]:
        return [unflip(pictures, way) for way in ways]

    peaks = find(variants(images), stacks, workers)
    score = np.array([each[0].score if each else np.nan for each in peaks])
    elsewhere = impostors(images, variants, stacks, workers)
    confidence = np.nan_to_num(elsewhere.refuted(score))
    which = np.flatnonzero((confidence >= sure) & (score > 0))
    best = [peaks[k][0] for k in which]
    flip = [ways[peak.variant] for peak in best]
    upright = [unflip(images[k], way) for k, way in zip(which, flip, strict=True)]
    return _Believed(
        score,
        confidence,
        which,
        best,
        [_margin(peaks[k]) for k in which],
        flip,
        measure(upright, [peak.place[1:] for peak in best], stacks, workers),
    )


def _margin(peaks: Sequence[Peak]) -> float:
    best, *others = peaks
    return best.score - max(best.rival, *(peak.score for peak in others), 0.0)


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
        index=whole([peak.index for peak in best]),
        row=whole([peak.row for peak in best]),
        column=whole([peak.column for peak in best]),
        flip=every(believed.flip, which, "", f"U{max(map(len, FLIPS))}"),
        score=every(believed.score, usable, np.nan),
        confidence=every(believed.confidence, usable, 0),
        margin=every(believed.margin, which, np.nan),
        intensity=intensity,
        bands=tuple(bands),
    )


def _number(opened: Sequence[Scene | Volume], source: Scene | Volume) -> int:
    return next(k for k, one in enumerate(opened) if one is source)


def has_contrast(images: np.ndarray) -> np.ndarray:
    """Mask of the pictures that are whole, and not flat in every band.

    Args:
        images: `N × bands × height × width`.
    """
    low, high = (
        np.asarray(extreme(images, axis=(2, 3)), np.float64) for extreme in (np.min, np.max)
    )
    # What is missing is NaN, and so are then the extremes; of infinite ones the difference is.
    with np.errstate(invalid="ignore"):
        span = high - low
    steps = span > _FAINTEST * np.maximum(np.abs(low), np.abs(high))
    return np.asarray(steps.any(axis=1) & np.isfinite(span).all(axis=1))


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
    several = [sources] if isinstance(sources, str | Path | Scene | Volume) else list(sources)
    if are_volumes(several):
        refuse_for("volumes", bands=bands, crs=crs)
        return open_all_volumes(several)
    refuse_for("scenes", axis=axis)
    return open_all_scenes(several, bands, crs, reading)


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
    return source.with_order(found.order)


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
