"""Candidate places of patches: all windows of a source, by signatures or by correlation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np

from outcrop.locating.correlation import SliceSpectrum, spectra
from outcrop.locating.planes import Planes, Slab
from outcrop.locating.signature import Grid, Signature, cells

# Windows and patches that are compared at once, and numbers in memory: for caches and memory.
_WINDOWS, _PATCHES = 2048, 512
_SIGNATURE_NUMBERS, _SPECTRA_SAMPLES = 1 << 24, 1 << 20
# Signatures of 64 numbers of two unrelated windows correlate by 0.125 in the root mean square, and
# one in a million such pairs by 0.6. So 0.7 is no chance. A slice represents at most two neighbours
# on each side: a fifth of the slices is then compared, which takes little of the whole time.
_ALIKE, _FARTHEST, _PLACES, _SAMPLE = 0.7, 2, 3, 512

Places = tuple[np.ndarray, np.ndarray]
Where = Callable[[np.ndarray], Places]
Reach = tuple[int, int, int]
"""Slices, rows and columns to each side of a place."""
# Windows near one place that may score higher than all other places: in three compared slices, two
# groups of windows in each, or more at the edges of tiles.
CROWD = 8


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidate places of N patches, M for each.

    All fields are `N × M` arrays.

    Attributes:
        score: float32, the similarity; -inf where a patch has fewer than M candidates.
        variant: int16, variant of the patch (`outcrop.locating.planes.Patches`).
        planes: int16, index of the planes that were searched.
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
    def empty(cls, n: int, most: int) -> Candidates:
        """No candidates yet."""
        kinds = (np.int16, np.int16, np.int32, np.int32, np.int32)
        places = (np.zeros((n, most), kind) for kind in kinds)
        return cls(np.full((n, most), -np.inf, np.float32), *places)

    @classmethod
    def ranked(
        cls, n: int, most: int, patch: np.ndarray, score: np.ndarray, **place: np.ndarray
    ) -> Candidates:
        """The best candidates of N patches, of those in a list.

        Args:
            most: maximum number for each patch.
            patch: int, the patch of each.
            score: the similarity of each.
            place: the other fields.
        """
        order = np.lexsort((-score, patch))
        patch = patch[order]
        rank = np.arange(len(patch)) - np.searchsorted(patch, patch)
        order, at = order[rank < most], (patch[rank < most], rank[rank < most])
        found = cls.empty(n, most)
        for name, values in {"score": score, **place}.items():
            getattr(found, name)[at] = values[order]
        return found

    def offer(self, which: slice, similarity: np.ndarray, where: Where, **place: int) -> None:
        """Replace the worst candidate of each patch by the best of some windows, if that is better.

        Args:
            which: the patches.
            similarity: `patches × windows`.
            where: function from window numbers to rows and columns.
            place: the other fields, common to all.
        """
        best = similarity.argmax(axis=1)
        score = similarity[np.arange(len(best)), best]
        mine = self.score[which]
        least = mine.argmin(axis=1)
        rows = np.flatnonzero(score > mine[np.arange(len(mine)), least])
        at = rows, least[rows]
        mine[at] = score[rows]
        self.row[which][at], self.column[which][at] = where(best[rows])
        for name, value in place.items():
            getattr(self, name)[which][at] = value

    def joined(self, other: Candidates) -> Candidates:
        """The candidates of both."""
        joined = (np.concatenate(both, axis=1) for both in zip(self, other, strict=True))
        return Candidates(*joined)

    def suppressed(self, reach: Reach, most: int) -> Candidates:
        """The best candidates in falling order, after non-maximum suppression.

        Args:
            reach: distance up to which a candidate suppresses worse ones.
            most: maximum number for each patch.
        """
        ordered = self._sorted()
        for k in range(1, ordered.score.shape[1]):
            _, *place = (values[:, k : k + 1] for values in ordered)
            near = ordered.near(place, reach)[:, :k].any(axis=1)
            ordered.score[near, k] = -np.inf
        return Candidates(*(values[:, :most] for values in ordered._sorted()))

    def near(self, place: Sequence[np.ndarray], reach: Reach) -> np.ndarray:
        """Mask of the candidates near one place of each patch.

        Args:
            place: variant, planes, index, row and column, each `N × 1`.
            reach: distance up to which a candidate is near.
        """
        near = np.isfinite(self.score)
        _, *mine = self
        for values, value, limit in zip(mine, place, (0, 0, *reach), strict=True):
            near &= np.abs(values - value) <= limit
        return near

    def _sorted(self) -> Candidates:
        order = np.argsort(-self.score, axis=1, kind="stable")
        return Candidates(*(np.take_along_axis(values, order, axis=1) for values in self))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (getattr(self, field.name) for field in fields(self))


def spacing(planes: Planes, signature: Signature) -> int:
    """Number of successive slices of which one is compared: 1, 3 or 5.

    The signatures of windows at one place in these slices are similar at all but a twentieth of the
    places. A few parts of the source are examined.
    """
    farthest = min(_FARTHEST, (planes.count - 1) // 2)
    if farthest < 1:
        return 1
    # A sixteenth of the windows is enough.
    sparse = replace(signature, stride=(4 * signature.stride[0], 4 * signature.stride[1]))
    alike: list[list[np.ndarray]] = [[] for _ in range(farthest)]
    with planes.open() as read:
        for slab in pieces(planes, signature.size, 2 * farthest + 1):
            windows = [sparse.of_slice(plane) for plane in read(slab)]
            for away in range(1, farthest + 1):
                for other in (farthest - away, farthest + away):
                    product = np.vecdot(windows[farthest], windows[other])
                    alike[away - 1].append(product)
    least = [np.quantile(np.concatenate(parts), 0.05) for parts in alike]
    return 1 + 2 * sum(np.minimum.accumulate(least) >= _ALIKE)


def some_windows(planes: Sequence[Planes], size: tuple[int, int]) -> np.ndarray:
    """Windows at random places in a few slices of each source.

    Returns:
        float32, `N × bands × height × width`.
    """
    rng, found = np.random.default_rng(0), []
    each = max(1, _SAMPLE // (_PLACES * len(planes)))
    for one in planes:
        with one.open() as read:
            for slab in pieces(one, size, 1):
                pixels = read(slab)[0]
                rows = rng.integers(slab.height - size[0] + 1, size=each)
                columns = rng.integers(slab.width - size[1] + 1, size=each)
                found += [pixels[:, r : r + size[0], c : c + size[1]]
                          for r, c in zip(rows, columns, strict=True)]  # fmt: skip
    return np.stack(found)


def pieces(planes: Planes, size: tuple[int, int], thick: int) -> list[Slab]:
    """Evenly spaced pieces of a source, each `thick` slices thick."""
    slabs, pieces = planes.slabs(size), []
    for k in range(_PLACES):
        slab = slabs[(2 * k + 1) * len(slabs) // (2 * _PLACES)]
        first = (slab.first + slab.last - thick + 1) // 2
        first = min(max(0, first), planes.count - thick)
        pieces.append(replace(slab, first=first, last=first + thick))
    return pieces


def scan(
    slices: Iterable[tuple[int, np.ndarray]],
    slab: Slab,
    number: int,
    signature: Signature,
    known: np.ndarray,
    signs: Sequence[int],
    most: int,
    reach: Reach,
) -> Candidates:
    """The best candidates of every patch in a slab, by signatures.

    Args:
        slices: the slices to compare, each with its index.
        number: index of their planes.
        known: float32, `flips × N × D`, the signatures of the patches.
        signs: 1 for the patches, -1 for their negatives, or both in this order.
        most: maximum number of candidates for each patch.
        reach: as for `Candidates.suppressed`.
    """
    found = Candidates.empty(known.shape[1], most + CROWD)
    columns = signature.grid(slab.height, slab.width).columns
    rows = signature.stride[0] * (_SIGNATURE_NUMBERS // (columns * known.shape[2]))
    # The memory is reused, because allocating it each time takes a fifth of the time.
    room = np.empty(_PATCHES * _WINDOWS, np.float32)
    for index, pixels in slices:
        for top, height in _strips(slab.height, signature.size[0], rows):
            windows = signature.of_slice(pixels[:, top : top + height])
            grid = signature.grid(height, slab.width)
            for tile in _runs(len(windows), _WINDOWS):
                there = windows[tile].T
                place_of = partial(_on_grid, grid, slab.top + top, slab.left, tile.start)
                for flip, signatures in enumerate(known):
                    for which in _runs(len(signatures), _PATCHES):
                        shape = which.stop - which.start, tile.stop - tile.start
                        similarity = room[: shape[0] * shape[1]].reshape(shape)
                        np.matmul(signatures[which], there, out=similarity)
                        for sign in signs:
                            if sign < 0:
                                np.negative(similarity, out=similarity)
                            found.offer(
                                which, similarity, place_of,
                                variant=2 * flip + (sign < 0), planes=number, index=index,
                            )  # fmt: skip
    return found.suppressed(reach, most)


def scan_fully(
    slices: Iterable[tuple[int, np.ndarray]],
    slab: Slab,
    number: int,
    cell: tuple[int, int],
    known: np.ndarray,
    signs: Sequence[int],
    size: tuple[int, int],
    most: int,
    reach: Reach,
) -> Candidates:
    """The best candidates of every patch in a slab, by correlation with every window.

    Slices and patches are first reduced to means of cells. At most one candidate is taken from each
    group of rows that is half as high as a patch.

    Args:
        slices: the slices to compare, each with its index.
        number: index of their planes.
        cell: rows and columns that are averaged.
        known: float32, `flips × N × bands × …`, the reduced patches, standardised.
        signs: as for `scan`.
        size: height and width of a patch in pixels.
        most: maximum number of candidates for each patch.
        reach: as for `Candidates.suppressed`.
    """
    found = Candidates.empty(known.shape[1], most + CROWD)
    reduced = {index: cells(pixels, cell) for index, pixels in slices}
    bands, window = known.shape[2], known.shape[3:]
    lines, columns = slab.height // cell[0], slab.width // cell[1]
    group = max(1, window[0] // 2)
    for top, height in _strips(lines, window[0], _SPECTRA_SAMPLES // (bands * columns)):
        shape = height, columns
        strips = {
            k: SliceSpectrum(some[:, top : top + height], window) for k, some in reduced.items()
        }
        together = max(1, _SPECTRA_SAMPLES // (bands * height * columns))
        for flip, patches in enumerate(known):
            for which in _runs(len(patches), together):
                waves = spectra(patches[which], shape)
                for index, strip in strips.items():
                    scores = strip.correlate(waves)
                    for rows in _runs(scores.shape[1], group):
                        each = scores[:, rows].reshape(len(waves), -1)
                        first = top + rows.start
                        place_of = partial(_of_cells, slab, size, cell, first, scores.shape[2])
                        for sign in signs:
                            found.offer(
                                which, each if sign > 0 else -each, place_of,
                                variant=2 * flip + (sign < 0), planes=number, index=index,
                            )  # fmt: skip
    return found.suppressed(reach, most)


def _strips(height: int, window: int, rows: int) -> Iterator[tuple[int, int]]:
    """Start and height of strips that together hold every window once, about `rows` rows in each.

    A strip is at least so high that most of its pixels are in no other strip.
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
    # The last rows and columns of a slice may be in no cell.
    return (
        slab.top + np.minimum((top + row) * cell[0], slab.height - size[0]),
        slab.left + np.minimum(column * cell[1], slab.width - size[1]),
    )


def compared_slices(slab: Slab, spacing: int) -> list[int]:
    """Slices of a slab, so that every slice is within half a spacing of one of them."""
    middle = spacing // 2
    found = list(range(slab.first + middle, slab.last, spacing))
    if not found or slab.last - 1 - found[-1] > middle:
        found.append(slab.last - 1)
    return found


def _runs(n: int, length: int) -> Iterator[slice]:
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))
