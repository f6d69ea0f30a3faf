"""Training patches cut again from their sources: where, and with which intensities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.cut import scene_images
from outcrop.patches.cut_volume import volume_images
from outcrop.patches.flips import FLIPS, flip, unflip
from outcrop.patches.patchset import RESIDENT_BYTES, PatchSet
from outcrop.patches.positions import Positions, Source, in_slice, upper_left
from outcrop.patches.reopen import REMEDY, AnySource, reopen
from outcrop.patches.windows import Window, open_windows
from outcrop.progress import track, warn
from outcrop.sources.scene import Scene
from outcrop.sources.volumes import Volume
from outcrop.splits.geometry import near
from outcrop.splits.split import Split
from outcrop.training.recipe import Augmentation

_ALIKE = 0.7
_PIXELS = 1 << 21
_TRIES = 16
# The axes of slices, rows and columns, for slices perpendicular to each axis of a volume.
_AXES = np.array([(across, *in_slice(across)) for across in range(3)])


@dataclass(frozen=True)
class Shifts:
    """The shifts of N patches.

    Attributes:
        by: int64, `N × 3`: slices, rows and columns.
        found: bool, `N`; false if no position was found, so that the patch is not cut again.
    """

    by: np.ndarray
    found: np.ndarray


@dataclass(frozen=True)
class Neighbourhood:
    """The allowed positions around N training patches.

    Attributes:
        positions: positions of the training patches.
        sources: sources that `positions.source` refers to.
        systems: coordinate reference system of x and y for each scene; empty for volumes.
        judges: positions of the validation and test patches.
        buffer: minimum distance to these, in the unit of the positions
            (`outcrop.splits.geometry.near`).
        corner: int64, `N × 3`, slice, row and column of the upper-left pixel of each patch.
        room: int64, `N × 3`, slices, rows and columns of the source after each patch.
        reach: int64, `N × 3`, the longest shift in either direction that keeps the patch inside its
            source; below 0 if there is none.
    """

    positions: Positions
    sources: tuple[Source, ...]
    systems: tuple[str, ...]
    judges: Positions
    buffer: float
    corner: np.ndarray
    room: np.ndarray
    reach: np.ndarray

    def draw(self, random: np.random.Generator) -> Shifts:
        """A random shift for each patch; all allowed shifts are equally likely.

        A shift is allowed if the opposite shift is allowed too. Otherwise all patches near an edge
        or a held-out patch would be shifted away from it, and the network would learn that their
        label belongs to a pixel beside the middle.

        Shifts within reach are drawn up to 16 times, until they are allowed.
        """
        by, found = np.zeros_like(self.reach), np.zeros(len(self.reach), bool)
        waiting = np.flatnonzero((self.reach >= 0).all(axis=1))
        for _ in range(_TRIES):
            tried = random.integers(-self.reach[waiting], self.reach[waiting], endpoint=True)
            free = ~self._near(waiting, tried) & ~self._near(waiting, -tried)
            by[waiting[free]], found[waiting[free]] = tried[free], True
            waiting = waiting[~free]
            if not len(waiting):
                break
        return Shifts(by, found)

    def _near(self, index: np.ndarray, by: np.ndarray) -> np.ndarray:
        return near(self.moved(index, by), self.judges, self.buffer)

    def moved(self, index: np.ndarray, by: np.ndarray) -> Positions:
        """Positions of the patches at `index` after the shifts `by`, int, `M × 3`."""
        at = self.positions[index]
        at = replace(
            at, index=at.index + by[:, 0], row=at.row + by[:, 1], column=at.column + by[:, 2]
        )
        if not self.systems:
            middle = at.middle
            middle[np.arange(len(at))[:, None], _AXES[at.axis]] += by
            return replace(at, z=middle[:, 0], y=middle[:, 1], x=middle[:, 2])
        x, y = np.empty((2, len(at)))
        for number in np.unique(at.source):
            here = at.source == number
            x[here], y[here] = self.sources[number].xy(
                at.row[here], at.column[here], self.systems[number]
            )
        return replace(at, y=y, x=x)


def neighbourhood_of(
    patches: PatchSet, split: Split, pixels: int, slices: int = 0
) -> Neighbourhood:
    """The neighbourhood of the training patches of a split.

    For a spatial split, no position is nearer to a validation or test patch than the buffer. A
    random split has no buffer.

    Args:
        patches: square patches with positions.
        pixels, slices: maximum shift in rows and columns, and across the slices of a volume.
    """
    assert patches.positions is not None
    at, size = patches.positions[split.train], patches.size[0]
    judging = np.concatenate([split.validation, split.test]) if split.spatial else split.train[:0]
    corner = np.stack([at.index, upper_left(at.row, size), upper_left(at.column, size)], axis=1)
    # Slices, rows and columns of each source; a scene has one slice.
    shapes = np.array([s.shape if s.is_volume else (1, *s.shape) for s in patches.sources])
    lengths = np.take_along_axis(shapes[at.source], _AXES[np.maximum(at.axis, 0)], axis=1)
    room = lengths - (1, size, size) - corner
    reach = np.array([slices, pixels, pixels])
    return Neighbourhood(
        positions=at,
        sources=patches.sources,
        systems=tuple(filter(None, map(patches.crs_of, range(len(patches.sources))))),
        judges=patches.positions[judging],
        buffer=float(split.how.get("buffer", 0.0)),
        corner=corner,
        room=room,
        reach=np.minimum(reach, np.minimum(corner, room)),
    )


@dataclass(frozen=True)
class Rendering:
    """How each of N patches renders a window of its source: gain × pixel + offset, flipped.

    Attributes:
        gain, offset: float32, `N × bands`; 1 and 0 for a patch that equals its window.
        flip: str, `N`, one of `FLIPS`.
    """

    gain: np.ndarray
    offset: np.ndarray
    flip: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Rendering:
        """The rendering of some of the patches, by index or mask."""
        return Rendering(self.gain[index], self.offset[index], self.flip[index])

    def show(self, windows: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Windows of the source, rendered as the patches.

        Args:
            windows: float32, `N × bands × size × size`, finite.
            dtype: dtype of the patches; values are rounded and clipped to it.
        """
        shown = windows * self.gain[..., None, None] + self.offset[..., None, None]
        for name in set(self.flip) - {"none"}:
            here = self.flip == name
            shown[here] = flip(shown[here], name)
        if dtype.kind in "iu":
            ends = np.iinfo(dtype)
            np.clip(np.rint(shown, out=shown), ends.min, ends.max, out=shown)
        return shown.astype(dtype, copy=False)


def learn_rendering(
    patches: np.ndarray, windows: np.ndarray, flips: np.ndarray
) -> tuple[Rendering, np.ndarray]:
    """Fit the rendering of patches from their windows, by least squares in each band.

    Args:
        patches, windows: `N × bands × size × size`, any numeric dtypes; NaN is no data.
        flips: str, `N`, stated flips of the patches. A flip is ignored if the window without it
            correlates at least as well.

    Returns:
        The rendering, and float64, `N`, the correlation of each patch with its window in the band
        with the lowest one; 1 for equal pixels.
    """
    n, bands = patches.shape[:2]
    gain, offset, likeness = np.empty((3, n, bands))
    flips = flips.copy()
    step = max(1, _PIXELS // int(np.prod(patches.shape[1:])))
    for part in (slice(start, start + step) for start in range(0, n, step)):
        found = _fit(patches[part], windows[part])
        for name in set(flips[part]) - {"none"}:
            flipped = flips[part] == name
            turned = _fit(unflip(patches[part][flipped], name), windows[part][flipped])
            better = turned[2].min(axis=1) > found[2][flipped].min(axis=1)
            for one, other in zip(found, turned, strict=True):
                one[np.flatnonzero(flipped)[better]] = other[better]
            flips[part][np.flatnonzero(flipped)[~better]] = "none"
        gain[part], offset[part], likeness[part] = found
    rendering = Rendering(gain.astype(np.float32), offset.astype(np.float32), flips)
    return rendering, likeness.min(axis=1)


def _fit(patches: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gain, offset and correlation of each band: float64, `N × bands` each."""
    x, y = windows.astype(np.float64), patches.astype(np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    same = ((x == y) | ~known).all(axis=(2, 3))
    x[~known] = y[~known] = 0
    count = np.maximum(known.sum(axis=(2, 3)), 1)
    middle_x, middle_y = (pixels.sum(axis=(2, 3)) / count for pixels in (x, y))
    x -= middle_x[..., None, None]
    y -= middle_y[..., None, None]
    x[~known] = y[~known] = 0
    xx, xy, yy = ((one * other).sum(axis=(2, 3)) for one, other in ((x, x), (x, y), (y, y)))
    flat = (xx <= 0) | (yy <= 0)
    gain = np.where(flat, 0, xy / np.where(flat, 1, xx))
    correlation = np.where(flat, 0, xy / np.sqrt(np.where(flat, 1, xx * yy)))
    gain, correlation = np.where(same, 1, gain), np.where(same, 1, correlation)
    return gain, np.where(same, 0, middle_y - gain * middle_x), correlation


@dataclass(frozen=True)
class Cutter:
    """Cuts images of the training side again from their sources.

    Attributes:
        index: indices of the training patches.
        neighbourhood: allowed positions.
        windows: function that reads a window, for each source.
        rendering: gain, offset and flip of the patches relative to their source.
        alike: bool, `N`, whether a patch agrees with its source at its position. Others are not
            cut again.
    """

    patches: PatchSet
    index: np.ndarray
    neighbourhood: Neighbourhood
    windows: Sequence[Window]
    rendering: Rendering
    alike: np.ndarray

    def draw(self, random: np.random.Generator) -> Shifts:
        """A random shift for each training patch (`Neighbourhood.draw`)."""
        shifts = self.neighbourhood.draw(random)
        return replace(shifts, found=shifts.found & self.alike)

    def cut(self, which: np.ndarray, shifts: Shifts) -> np.ndarray:
        """The images at the indices `which` into the training side, after shifts.

        If no position was found, or a pixel there has no data, the original image is returned.

        Returns:
            `M × bands × size × size` in the type and the intensities of the patches.
        """
        at, corners = self.neighbourhood.positions, self.neighbourhood.corner[which]
        corners = (corners + shifts.by[which]).tolist()
        axes, sources = at.axis[which].tolist(), at.source[which].tolist()
        shape = (len(which), *self.patches.images.shape[1:])
        cut = np.full(shape, np.nan, np.float32)
        with np.errstate(over="ignore"):
            for k in np.flatnonzero(shifts.found[which]):
                cut[k] = self.windows[sources[k]](axes[k], *corners[k])
        whole = np.isfinite(cut).all(axis=(1, 2, 3))
        images = np.empty(shape, self.patches.images.dtype)
        images[whole] = self.rendering[which[whole]].show(cut[whole], images.dtype)
        if not whole.all():
            images[~whole] = self.patches.take(self.index[which[~whole]])
        return images


@contextmanager
def open_cutter(
    patches: PatchSet,
    split: Split,
    augmentation: Augmentation,
    sources: Sequence[AnySource] | None = None,
) -> Iterator[Cutter | None]:
    """Open the sources of the training side, and fit how its patches render them.

    Patches may differ from the pixels of their source: gain and offset of each band are fitted, and
    the column "flip" may name a flip about the middle of the window at their position. Without a
    shift, the window gives the patch itself, also for even sizes, and the labelled pixel keeps its
    place in the patch. Blur, noise and compression are not reproduced.

    Args:
        sources: present paths of the sources, one for each source of the patch set, in its order;
            None: the paths at the time of cutting.

    Yields:
        None if the augmentation does not cut images again.

    Raises:
        OutcropError: the patches have no positions, are not square, or lie outside their source; a
            source is missing or another one.
    """
    if not augmentation.cuts_anew:
        if sources:
            raise OutcropError(
                "`sources`", "has no meaning without `neighbourhood` or `slices`; leave it out"
            )
        yield None
        return
    _check(patches, augmentation)
    around = neighbourhood_of(patches, split, augmentation.neighbourhood, augmentation.slices)
    _check_inside(patches, around)
    opened = reopen(patches, sources)
    if not isinstance(patches.images, np.ndarray) and patches.nbytes <= RESIDENT_BYTES:
        patches = replace(patches, images=patches.take(np.arange(len(patches))))
    rendering, likeness = _learn(patches, split.train, opened)
    alike = likeness >= _ALIKE
    _check_alike(alike, around.positions.source, opened)
    with open_windows(opened, patches.size[0]) as windows:
        yield Cutter(patches, split.train, around, windows, rendering, alike)


def _check(patches: PatchSet, augmentation: Augmentation) -> None:
    option = "`neighbourhood`" if augmentation.neighbourhood else "`slices`"
    if patches.positions is None:
        raise OutcropError(
            option, "needs patches with positions, and these have none; leave it out"
        )
    if augmentation.slices and not patches.from_volume:
        raise OutcropError("`slices`", "has no meaning for patches of scenes; leave it out")
    height, width = patches.size
    if height != width:
        raise OutcropError(
            option, f"takes square patches, and these are {height} × {width}; leave it out"
        )


def _check_inside(patches: PatchSet, around: Neighbourhood) -> None:
    """Check that patches lie in their source; for scenes, only their centres must."""
    before = 0 if patches.from_volume else patches.size[0] // 2
    behind = 0 if patches.from_volume else patches.size[0] - 1 - before
    outside = ((around.corner < -before) | (around.room < -behind)).any(axis=1)
    if outside.any():
        raise OutcropError(
            patches.sources[around.positions.source[outside][0]].name,
            f"has no such place as {outside.sum()} training patches have for their position; "
            "correct them",
        )


def _check_alike(alike: np.ndarray, source: np.ndarray, sources: Sequence[Scene | Volume]) -> None:
    """Raise an error for a source that most of its patches differ from; log other differences."""
    for number in np.unique(source):
        of_it = alike[source == number]
        if of_it.mean() < 0.5:
            raise OutcropError(
                sources[number].title,
                f"does not show {np.count_nonzero(~of_it)} of {len(of_it)} training patches at "
                f"their positions; {REMEDY}",
            )
    if not alike.all():
        warn(
            f"{np.count_nonzero(~alike)} of {len(alike)} training patches are not what their "
            "source shows at their positions, and are not cut anew"
        )


def _learn(
    patches: PatchSet, index: np.ndarray, sources: Sequence[Volume | Scene]
) -> tuple[Rendering, np.ndarray]:
    """The rendering of the patches at `index`, and how well it explains them."""
    assert patches.positions is not None
    at, bands = patches.positions[index], len(patches.bands)
    flips = _flips(patches)[index]
    gain, offset = np.empty((2, len(index), bands), np.float32)
    likeness = np.empty(len(index))
    volumes = [source for source in sources if isinstance(source, Volume)]
    scenes = [source for source in sources if isinstance(source, Scene)]
    size = patches.size[0]
    cut = volume_images(volumes, at, size) if volumes else scene_images(scenes, at, size)
    for here, windows in track(cut, "comparing with the sources"):
        stored = patches.take(index[here])
        found, likeness[here] = learn_rendering(stored, windows, flips[here])
        gain[here], offset[here], flips[here] = found.gain, found.offset, found.flip
    return Rendering(gain, offset, flips), likeness


def _flips(patches: PatchSet) -> np.ndarray:
    """The flip of each patch, from the column "flip"."""
    if "flip" not in patches.columns:
        return np.full(len(patches), "none", dtype=object)
    column = patches.columns["flip"]
    strange = sorted(set(column.names) - set(FLIPS))
    if strange:
        raise OutcropError(
            "column 'flip'", f"has '{strange[0]}', which is no flip; take {', '.join(FLIPS)}"
        )
    return np.array(column.names, dtype=object)[column.codes]
