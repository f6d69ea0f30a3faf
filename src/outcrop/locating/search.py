"""Where patches may lie: windows of a source against patches, by signatures or in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np

from outcrop.locating.correlation import Slice, spectra
from outcrop.locating.planes import Planes, Slab
from outcrop.locating.signature import Grid, Signature, cells

# Windows and patches that are compared at once, and samples that are held: for caches and memory.
_WINDOWS, _PATCHES = 2048, 512
_SIGNATURE_NUMBERS, _SPECTRA_SAMPLES = 1 << 24, 1 << 20
# Of two windows that have nothing in common, 64 numbers are alike by 0.125 in the mean square, and
# of a million such pairs one by 0.6: what is alike by 0.7 is so for a reason. A slice stands for
# two on each side at most: a fifth is looked at then, which is little beside the rest.
_ALIKE, _FARTHEST, _PLACES, _SAMPLE = 0.7, 2, 3, 512


Places = tuple[np.ndarray, np.ndarray]
Where = Callable[[np.ndarray], Places]
Apart = tuple[int, int, int]
# Windows near one place that may be likelier than any other: in three slices that are looked at,
# and two groups of windows in each, or more at the edges of tiles.
_CROWD = 8


@dataclass(frozen=True, eq=False)
class Candidates:
    """Places where each of N patches may have been cut, M for each.

    All fields are `N × M` arrays.

    Attributes:
        score: float32, the likeness, -inf where there are fewer than M.
        variant: int16, which variant of the patch (`outcrop.patches.flips`).
        planes: int16, which of the planes that were searched.
        index: int32, the slice.
        row, column: int32, the upper-left pixel.
    """

    score: np.ndarray
    variant: np.ndarray
    planes: np.ndarray
    index: np.ndarray
    row: np.ndarray
    column: np.ndarray

    @classmethod
    def none(cls, n: int, most: int) -> Candidates:
        """No places yet."""
        kinds = (np.int16, np.int16, np.int32, np.int32, np.int32)
        places = (np.zeros((n, most), kind) for kind in kinds)
        return cls(np.full((n, most), -np.inf, np.float32), *places)

    def offer(self, which: slice, likeness: np.ndarray, where: Where, **place: int) -> None:
        """Put the likeliest of some windows where it is likelier than the least likely there.

        Args:
            which: some of the patches.
            likeness: for each of these, of each window.
            where: rows and columns of windows, by their number.
            place: the other fields, one for all.
        """
        best = likeness.argmax(axis=1)
        score = likeness[np.arange(len(best)), best]
        mine = self.score[which]
        least = mine.argmin(axis=1)
        rows = np.flatnonzero(score > mine[np.arange(len(mine)), least])
        at = rows, least[rows]
        mine[at] = score[rows]
        self.row[which][at], self.column[which][at] = where(best[rows])
        for name, value in place.items():
            getattr(self, name)[which][at] = value

    def with_(self, other: Candidates) -> Candidates:
        """Those of both."""
        joined = (np.concatenate(both, axis=1) for both in zip(self, other, strict=True))
        return Candidates(*joined)

    def spread(self, apart: Apart, most: int) -> Candidates:
        """The likeliest, the first the likeliest, no two of them near each other.

        Args:
            apart: slices, rows and columns up to which two places are near each other.
            most: how many for each patch.
        """
        ordered = self._sorted()
        for k in range(1, ordered.score.shape[1]):
            _, *place = (values[:, k : k + 1] for values in ordered)
            near = ordered.near(place, apart)[:, :k].any(axis=1)
            ordered.score[near, k] = -np.inf
        return Candidates(*(values[:, :most] for values in ordered._sorted()))

    def near(self, place: Sequence[np.ndarray], apart: Apart) -> np.ndarray:
        """Mask of the places that lie near one place of each patch.

        Args:
            place: variant, planes, index, row and column, each `N × 1`.
            apart: as for `spread`.
        """
        near = np.isfinite(self.score)
        _, *mine = self
        for values, value, limit in zip(mine, place, (0, 0, *apart), strict=True):
            near &= np.abs(values - value) <= limit
        return near

    def _sorted(self) -> Candidates:
        order = np.argsort(-self.score, axis=1, kind="stable")
        return Candidates(*(np.take_along_axis(values, order, axis=1) for values in self))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (getattr(self, field.name) for field in fields(self))


def spacing(planes: Planes, signature: Signature) -> int:
    """Of how many slices one may stand for its neighbours: 1, 3 or 5.

    As many as look alike, by the signatures of windows at one place in neighbouring slices, at
    all but a twentieth of the places. Looked at in a few parts of the source.
    """
    farthest = min(_FARTHEST, (planes.count - 1) // 2)
    if farthest < 1:
        return 1
    # A sixteenth of the windows tells it as well.
    sparse = replace(signature, stride=(4 * signature.stride[0], 4 * signature.stride[1]))
    alike: list[list[np.ndarray]] = [[] for _ in range(farthest)]
    with planes.open() as read:
        for slab in _pieces(planes, signature.size, 2 * farthest + 1):
            windows = [sparse.of_slice(plane) for plane in read(slab)]
            for away in range(1, farthest + 1):
                for other in (farthest - away, farthest + away):
                    product = np.vecdot(windows[farthest], windows[other])
                    alike[away - 1].append(product)
    least = [np.quantile(np.concatenate(parts), 0.05) for parts in alike]
    return 1 + 2 * sum(np.minimum.accumulate(least) >= _ALIKE)


def some_windows(planes: Sequence[Planes], size: tuple[int, int]) -> np.ndarray:
    """Windows at random places of a few slices of each source.

    Returns:
        float32, `N × bands × height × width`.
    """
    rng, found = np.random.default_rng(0), []
    each = max(1, _SAMPLE // (_PLACES * len(planes)))
    for one in planes:
        with one.open() as read:
            for slab in _pieces(one, size, 1):
                pixels = read(slab)[0]
                rows = rng.integers(slab.height - size[0] + 1, size=each)
                columns = rng.integers(slab.width - size[1] + 1, size=each)
                found += [pixels[:, r : r + size[0], c : c + size[1]]
                          for r, c in zip(rows, columns, strict=True)]  # fmt: skip
    return np.stack(found)


def _pieces(planes: Planes, size: tuple[int, int], thick: int) -> list[Slab]:
    """Some evenly spread pieces of a source, each so many slices thick."""
    slabs, pieces = planes.slabs(size), []
    for k in range(_PLACES):
        slab = slabs[(2 * k + 1) * len(slabs) // (2 * _PLACES)]
        first = (slab.first + slab.last - thick + 1) // 2
        first = min(max(0, first), planes.count - thick)
        pieces.append(replace(slab, first=first, last=first + thick))
    return pieces


def scan(
    pictures: Iterable[tuple[int, np.ndarray]],
    slab: Slab,
    number: int,
    signature: Signature,
    known: np.ndarray,
    signs: Sequence[int],
    most: int,
    apart: Apart,
) -> Candidates:
    """The likeliest windows of a slab for every patch; at most one of each group of neighbours.

    Args:
        pictures: slices of the slab to look at, each with its index.
        number: of the planes that they are of.
        known: float32, `flips × N × D`, the signatures of the patches.
        signs: 1 for the patches as they are, then -1 for their negatives; both, or one of them.
        most: how many windows for each patch.
        apart: as for `Candidates.spread`.
    """
    found = Candidates.none(known.shape[1], most + _CROWD)
    columns = signature.grid(slab.height, slab.width).columns
    rows = signature.stride[0] * (_SIGNATURE_NUMBERS // (columns * known.shape[2]))
    # Memory that is used again: to ask for it each time takes a fifth of the time.
    room = np.empty(_PATCHES * _WINDOWS, np.float32)
    for index, pixels in pictures:
        for top, height in _strips(slab.height, signature.size[0], rows):
            windows = signature.of_slice(pixels[:, top : top + height])
            grid = signature.grid(height, slab.width)
            for tile in _runs(len(windows), _WINDOWS):
                there = windows[tile].T
                place_of = partial(_on_grid, grid, slab.top + top, slab.left, tile.start)
                for flip, signatures in enumerate(known):
                    for which in _runs(len(signatures), _PATCHES):
                        shape = which.stop - which.start, tile.stop - tile.start
                        likeness = room[: shape[0] * shape[1]].reshape(shape)
                        np.matmul(signatures[which], there, out=likeness)
                        for sign in signs:
                            if sign < 0:
                                np.negative(likeness, out=likeness)
                            found.offer(
                                which, likeness, place_of,
                                variant=2 * flip + (sign < 0), planes=number, index=index,
                            )  # fmt: skip
    return found.spread(apart, most)


def scan_fully(
    pictures: Iterable[tuple[int, np.ndarray]],
    slab: Slab,
    number: int,
    cell: tuple[int, int],
    known: np.ndarray,
    signs: Sequence[int],
    size: tuple[int, int],
    most: int,
    apart: Apart,
) -> Candidates:
    """The same by the correlation of reduced pictures with every window.

    At most one window of each group of rows of a slice that is half as high as a patch.

    Args:
        pictures: slices of the slab to look at, each with its index.
        number: of the planes that they are of.
        cell: rows and columns that are averaged.
        known: float32, `flips × N × bands × …`, the patches in cells, standardised.
        signs: as for `scan`.
        size: of a patch in pixels.
        most: how many windows for each patch.
        apart: as for `Candidates.spread`.
    """
    found = Candidates.none(known.shape[1], most + _CROWD)
    reduced = {index: cells(pixels, cell) for index, pixels in pictures}
    bands, window = known.shape[2], known.shape[3:]
    lines, columns = slab.height // cell[0], slab.width // cell[1]
    group = max(1, window[0] // 2)
    for top, height in _strips(lines, window[0], _SPECTRA_SAMPLES // (bands * columns)):
        shape = height, columns
        strips = {k: Slice(some[:, top : top + height], window) for k, some in reduced.items()}
        together = max(1, _SPECTRA_SAMPLES // (bands * height * columns))
        for flip, patches in enumerate(known):
            for which in _runs(len(patches), together):
                waves = spectra(patches[which], shape)
                for index, strip in strips.items():
                    likeness = strip.correlate(waves)
                    for rows in _runs(likeness.shape[1], group):
                        each = likeness[:, rows].reshape(len(waves), -1)
                        first = top + rows.start
                        place_of = partial(_of_cells, slab, size, cell, first, likeness.shape[2])
                        for sign in signs:
                            found.offer(
                                which, each if sign > 0 else -each, place_of,
                                variant=2 * flip + (sign < 0), planes=number, index=index,
                            )  # fmt: skip
    return found.spread(apart, most)


def _strips(height: int, window: int, rows: int) -> Iterator[tuple[int, int]]:
    """Start and height of strips that hold every window once: about so many rows of them in each.

    Strips are not so low that most of their pixels would be looked at twice.
    """
    step = max(rows, window)
    for top in range(0, height - window + 1, step):
        yield top, min(step + window - 1, height - top)


def _on_grid(grid: Grid, top: int, left: int, first: int, window: np.ndarray) -> Places:
    row, column = grid.place(first + window)
    return top + row, left + column


def _of_cells(
    slab: Slab, size: tuple[int, int], cell: tuple[int, int], top: int, columns: int,
    window: np.ndarray,
) -> Places:  # fmt: skip
    row, column = np.divmod(window, columns)
    # What is left over at the end of a slice is in no cell.
    return (
        slab.top + np.minimum((top + row) * cell[0], slab.height - size[0]),
        slab.left + np.minimum(column * cell[1], slab.width - size[1]),
    )


def looked_at(slab: Slab, spacing: int) -> list[int]:
    """Slices of a slab, so that none of it is further than half a spacing from one of them."""
    middle = spacing // 2
    found = list(range(slab.first + middle, slab.last, spacing))
    if not found or slab.last - 1 - found[-1] > middle:
        found.append(slab.last - 1)
    return found


def _runs(n: int, length: int) -> Iterator[slice]:
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))
