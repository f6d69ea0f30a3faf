"""Find overlapping patches whose positions are unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2

from outcrop.auditing.copies import (
    EVIDENCE,
    SHARED,
    Pairs,
    images_of_pairs,
    mean_spectrum,
    no_pairs,
    same_pixels,
)
from outcrop.auditing.detail import (
    Descriptor,
    Orientation,
    Whitening,
    agreement,
    coherence,
    orientations,
    standardised,
    unit,
)
from outcrop.auditing.pixels import batches
from outcrop.patches.patchset import PatchSet
from outcrop.progress import track

_SIDE = 40
_FREQUENCIES = 48
_ALIKE = 0.6
_NEAREST = 2
_SAMPLE = 1024
_WORK = 3e12
_QUERIES, _TARGETS = 512, 128


@dataclass(frozen=True)
class Overlaps:
    """Result of the search for overlaps.

    Attributes:
        asked: int, patches that were searched for in all others, ascending.
        pairs: patches that overlap by half or more; at least one of each pair is in `asked`.
        shifts: int, `M × 2`, rows and columns between the two patches.
    """

    asked: np.ndarray
    pairs: Pairs
    shifts: np.ndarray


def overlapping(patches: PatchSet, kept: np.ndarray, seed: int = 0) -> Overlaps:
    """Patches whose central part is in another patch, shifted by at most a quarter of the side.

    The central part of a patch, in all eight orientations, is searched for in every other patch, in
    reduced images of at most 40 pixels. For candidates, the cross-correlation of the whitened
    images at full size gives the shift. The agreement and the coherence of the overlapping parts
    decide, as for copies (`outcrop.auditing.detail`). Layers that continue from one patch to
    another are similar at some shift without overlapping.

    In a large set, only a random sample of the patches is searched for.

    Args:
        kept: int, indices of the patches to compare.
        seed: random seed of the samples.
    """
    if len(kept) < 2:
        return Overlaps(kept[:0], no_pairs(), np.zeros((0, 2), np.int64))
    rng = np.random.default_rng(seed)
    reduced = _reduced(patches)[kept]
    search = _Search.of(reduced, rng)
    ways = orientations(patches.size)
    flops = 2.0 * len(kept) * search.windows * len(ways) * _FREQUENCIES
    number = min(len(kept), max(1, int(_WORK / flops)))
    asked = np.sort(rng.permutation(len(kept))[:number])
    first, second, which = search.nearest(reduced, asked, ways)
    whitening = mean_spectrum(patches, kept, rng)
    needed = np.log(len(kept) ** 2 / 2 * len(ways) * np.prod(patches.size)) + EVIDENCE
    found = _verify(patches, whitening, kept[first], kept[second], which, needed)
    return Overlaps(kept[asked], *found)


@dataclass(frozen=True)
class _Search:
    """Descriptor of the central part of a reduced image, and its possible locations in another."""

    size: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    descriptor: Descriptor
    matrix: np.ndarray

    @classmethod
    def of(cls, reduced: np.ndarray, rng: np.random.Generator) -> _Search:
        height, width = (max(1, side // 2) for side in reduced.shape[1:])
        rows, columns = (
            np.arange(0, full - part + 1, max(1, part // 16))
            for full, part in zip(reduced.shape[1:], (height, width), strict=True)
        )
        sample = np.sort(rng.permutation(len(reduced))[:_SAMPLE])
        middle = _middle(reduced[sample].astype(np.float32), (height, width))
        descriptor = Whitening.of([middle]).describe(_FREQUENCIES)
        return cls((height, width), rows, columns, descriptor, descriptor.matrix((height, width)))

    @property
    def windows(self) -> int:
        return len(self.rows) * len(self.columns)

    def nearest(
        self, reduced: np.ndarray, asked: np.ndarray, ways: list[Orientation]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each searched patch the two others that most likely contain its central part.

        Returns:
            For each pair the searched patch, the other patch, and the number of the orientation.
        """
        middles = _middle(reduced[asked].astype(np.float32), self.size)
        described = unit(middles.reshape(len(asked), -1) @ self.matrix)
        turned = np.stack([self.descriptor.orient(described, o) for o in ways])
        best = np.zeros((3, len(asked), _NEAREST))
        best[0] = _ALIKE
        for start in track(range(0, len(reduced), _TARGETS), "searching overlaps"):
            number = np.arange(start, min(start + _TARGETS, len(reduced)))
            windows = self._describe(reduced[number])
            for a in range(0, len(asked), _QUERIES):
                part = slice(a, a + _QUERIES)
                like = np.stack([_most_alike(rows, windows) for rows in turned[:, part]])
                like[:, asked[part, None] == number] = 0
                numbers = np.broadcast_to(number, like.shape[1:])
                found = np.stack([like.max(axis=0), numbers, like.argmax(axis=0)])
                # The best so far come first, and precede equals.
                every = np.concatenate([best[:, part], found], axis=2)
                place = np.argsort(-every[0], axis=1, kind="stable")[:, :_NEAREST]
                best[:, part] = np.take_along_axis(every, place[None], axis=2)
        query, rank = np.nonzero(best[0] > _ALIKE)
        _, other, which = best[:, query, rank].astype(np.int64)
        return asked[query], other, which

    def _describe(self, reduced: np.ndarray) -> np.ndarray:
        """Descriptors of the windows of each image: `windows × n × D`."""
        every = np.lib.stride_tricks.sliding_window_view(reduced, self.size, axis=(1, 2))
        chosen = every[:, self.rows][:, :, self.columns].astype(np.float32)
        described = unit(chosen.reshape(len(reduced) * self.windows, -1) @ self.matrix)
        return np.ascontiguousarray(
            described.reshape(len(reduced), self.windows, -1).swapaxes(0, 1)
        )


def _most_alike(middles: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Highest correlation of each central part with a window of each image: `Q × n`."""
    highest = np.full((len(middles), windows.shape[1]), -1, np.float32)
    product = np.empty_like(highest)
    for window in windows:
        np.maximum(highest, np.matmul(middles, window.T, out=product), out=highest)
    return highest


def _reduced(patches: PatchSet) -> np.ndarray:
    """Standardised images, averaged over blocks of pixels to at most 40 pixels a side: float16."""
    height, width = patches.size
    factor = -(-max(height, width) // _SIDE)
    rows, columns = height // factor, width // factor
    parts = []
    for images in batches(patches, "reducing patches"):
        pictures = standardised(images)[:, : rows * factor, : columns * factor]
        cells = pictures.reshape(len(pictures), rows, factor, columns, factor)
        parts.append(cells.mean(axis=(2, 4)).astype(np.float16))
    return np.concatenate(parts)


def _middle(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    top, left = ((full - part) // 2 for full, part in zip(pictures.shape[1:], size, strict=True))
    return pictures[:, top : top + size[0], left : left + size[1]]


def _verify(
    patches: PatchSet,
    whitening: Whitening,
    first: np.ndarray,
    second: np.ndarray,
    which: np.ndarray,
    needed: float,
) -> tuple[Pairs, np.ndarray]:
    """The verified pairs, each once, and their shifts."""
    found: dict[tuple[int, int], tuple[float, float, tuple[int, int]]] = {}
    for part, one, other in images_of_pairs(patches, first, second, which, "verifying overlaps"):
        ends = zip(first[part].tolist(), second[part].tolist(), strict=True)
        whitened = zip(whitening(one), whitening(other), strict=True)
        for (i, j), white, mine, theirs in zip(ends, whitened, one, other, strict=True):
            r, evidence, shift = _register(*white)
            if r >= SHARED and evidence >= needed and shift != (0, 0):
                common = (standardised(part[:, None]) for part in _common(mine, theirs, shift))
                coherent = float(coherence(*common)[0])
                found.setdefault((min(i, j), max(i, j)), (r, coherent, shift))
    kept = sorted(found)
    pairs = np.array(kept, np.int64).reshape(-1, 2)
    likeness = np.array([found[pair][0] for pair in kept], np.float32)
    same = same_pixels(np.array([found[pair][1] for pair in kept]))
    shifts = np.array([found[pair][2] for pair in kept], np.int64).reshape(-1, 2)
    return Pairs(pairs[:, 0], pairs[:, 1], likeness)[same], shifts[same]


def _register(one: np.ndarray, other: np.ndarray) -> tuple[float, float, tuple[int, int]]:
    """The best shift of two whitened images, at most half a side, and their agreement there.

    Returns:
        Correlation and evidence of the overlapping parts, and the shift: `other[y, x]` is the same
        location as `one[y + rows, x + columns]`.
    """
    height, width = one.shape
    reach = height // 2, width // 2
    padded = [
        next_fast_len(side + far, real=True) for side, far in zip(one.shape, reach, strict=True)
    ]
    product = irfft2(rfft2(one, s=padded) * rfft2(other, s=padded).conj(), s=padded)
    near = np.roll(product, reach, axis=(0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    row, column = np.unravel_index(int(near.argmax()), near.shape)
    down, right = int(row) - reach[0], int(column) - reach[1]
    r, evidence = agreement(*_common(one, other, (down, right)))
    return float(r[0]), float(evidence[0]), (down, right)


def _common(
    one: np.ndarray, other: np.ndarray, shift: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The overlapping parts of two images at a shift, `1 × ...`."""
    (height, width), (down, right) = one.shape, shift
    first, second = (
        picture[None, max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)]
        for picture, y, x in ((one, down, right), (other, -down, -right))
    )
    return first, second
