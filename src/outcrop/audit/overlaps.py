"""Find patches of unknown origin that overlap: cut some pixels apart from the same ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import idctn, irfft2, next_fast_len, rfft2

from outcrop.audit.copies import EVIDENCE, SHARED, Pairs
from outcrop.audit.detail import (
    Descriptor,
    Whitening,
    agreement,
    orient,
    orientations,
    standardised,
    transform,
    unit,
)
from outcrop.audit.pixels import batches
from outcrop.patches.patchset import PatchSet
from outcrop.progress import track

_SIDE = 40
_FREQUENCIES = 48
_ALIKE = 0.6
_NEAREST = 2
_SAMPLE = 1024
_WORK = 1.5e12
_BLOCK_BYTES = 64 << 20
_QUERIES = 512


@dataclass(frozen=True)
class Overlaps:
    """Which patches were looked at, and those that overlap.

    Attributes:
        asked: int, the patches for which all others were searched, ascending.
        pairs: patches that overlap by half or more, at least one of each pair among `asked`.
        shifts: int, `M × 2`, rows and columns between the two.
    """

    asked: np.ndarray
    pairs: Pairs
    shifts: np.ndarray


def overlapping(patches: PatchSet, kept: np.ndarray, seed: int = 0) -> Overlaps:
    """Patches whose middle lies in another patch, at any shift up to a quarter of its side.

    The middle of a patch, in all eight orientations, is sought in every other patch on a reduced
    picture of at most 40 pixels; where it seems to be, cross-correlation of the whitened pictures
    at full size gives the shift, and their agreement where they overlap decides
    (`outcrop.audit.detail.agreement`), as for copies.

    The work is bounded: in a large set a sample of the patches, drawn at random, is asked.

    Args:
        kept: int, the patches to look at.
        seed: of the samples.
    """
    dice = np.random.default_rng(seed)
    reduced = _reduced(patches)[kept]
    search = _Search.of(reduced, dice)
    turns = orientations(patches.size)
    flops = 2.0 * len(kept) * search.windows * len(turns) * _FREQUENCIES
    number = min(len(kept), max(1, int(_WORK / flops))) if len(kept) > 1 else 0
    asked = np.sort(dice.permutation(len(kept))[:number])
    first, second, which = search.nearest(reduced, asked, turns)
    whitening = Whitening.of(standardised(patches.take(np.sort(dice.permutation(kept)[:_SAMPLE]))))
    places = np.log(len(kept) ** 2 / 2 * len(turns) * np.prod(patches.size)) + EVIDENCE
    found: list[tuple[int, int, float, int, int]] = []
    for i, j, o in track(
        list(zip(kept[first].tolist(), kept[second].tolist(), which.tolist(), strict=True)),
        "verifying overlaps",
    ):
        one, other = standardised(patches.take(np.array([i, j])))
        r, evidence, shift = _register(whitening, orient(one, turns[o]), other)
        if r >= SHARED and evidence >= places and shift != (0, 0):
            found.append((min(i, j), max(i, j), r, *shift))
    table = np.array(sorted(set(found)), dtype=float).reshape(-1, 5)
    new = np.unique(table[:, :2], axis=0, return_index=True)[1]
    table = table[new]
    pairs = Pairs(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2].astype(np.float32)
    )
    return Overlaps(kept[asked], pairs, table[:, 3:].astype(np.int64))


@dataclass(frozen=True)
class _Search:
    """How the middle of a reduced picture is described, and where it may lie in another."""

    size: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    descriptor: Descriptor
    matrix: np.ndarray

    @classmethod
    def of(cls, reduced: np.ndarray, dice: np.random.Generator) -> _Search:
        height, width = (max(1, side // 2) for side in reduced.shape[1:])
        rows, columns = (
            np.arange(0, full - part + 1, max(1, part // 8))
            for full, part in zip(reduced.shape[1:], (height, width), strict=True)
        )
        sample = np.sort(dice.permutation(len(reduced))[:_SAMPLE])
        middle = _middle(reduced[sample].astype(np.float32), (height, width))
        descriptor = Whitening.of(middle).describe(_FREQUENCIES)
        return cls((height, width), rows, columns, descriptor, descriptor.matrix((height, width)))

    @property
    def windows(self) -> int:
        return len(self.rows) * len(self.columns)

    def nearest(
        self, reduced: np.ndarray, asked: np.ndarray, turns: list
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each patch asked the few others in which its middle seems to lie, and how turned."""
        middles = _middle(reduced[asked].astype(np.float32), self.size)
        described = unit(middles.reshape(len(asked), -1) @ self.matrix)
        turned = [self.descriptor.orient(described, o) for o in turns]
        step = max(1, _BLOCK_BYTES // (4 * self.windows * max(self.matrix.shape[0], _QUERIES)))
        found = [np.zeros((4, 0))]
        for start in track(range(0, len(reduced), step), "searching overlaps"):
            windows = self._describe(reduced[start : start + step])
            for a in range(0, len(asked), _QUERIES):
                for o, rows in enumerate(turned):
                    product = rows[a : a + _QUERIES] @ windows.T
                    like = product.reshape(len(product), -1, self.windows).max(axis=2)
                    q, t = np.nonzero(like >= _ALIKE)
                    part = np.stack([q + a, t + start, np.full(len(q), o), like[q, t]])
                    found.append(part[:, asked[q + a] != t + start])
        query, target, which, like = np.concatenate(found, axis=1)
        order = np.lexsort((-like, query))
        begin = np.searchsorted(query[order], np.arange(len(asked)))
        rank = np.arange(len(order)) - begin[query[order].astype(int)]
        best = order[rank < _NEAREST]
        return asked[query[best].astype(int)], target[best].astype(int), which[best].astype(int)

    def _describe(self, reduced: np.ndarray) -> np.ndarray:
        every = np.lib.stride_tricks.sliding_window_view(reduced, self.size, axis=(1, 2))
        chosen = every[:, self.rows][:, :, self.columns].astype(np.float32)
        return unit(chosen.reshape(len(reduced) * self.windows, -1) @ self.matrix)


def _reduced(patches: PatchSet) -> np.ndarray:
    """Standardised pictures of at most 40 pixels a side, by means of whole pixels: float16."""
    height, width = patches.size
    factor = -(-max(height, width) // _SIDE)
    rows, columns = height // factor, width // factor
    parts = []
    for _, images in batches(patches, "reducing patches"):
        pictures = standardised(images)[:, : rows * factor, : columns * factor]
        cells = pictures.reshape(len(pictures), rows, factor, columns, factor)
        parts.append(cells.mean(axis=(2, 4)).astype(np.float16))
    return np.concatenate(parts)


def _middle(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    top, left = ((full - part) // 2 for full, part in zip(pictures.shape[1:], size, strict=True))
    return pictures[:, top : top + size[0], left : left + size[1]]


def _register(
    whitening: Whitening, one: np.ndarray, other: np.ndarray
) -> tuple[float, float, tuple[int, int]]:
    """Where two pictures overlap best, by half a side at most apart, and how well they agree there.

    Returns:
        Correlation and evidence where they overlap, and the shift: `other[y, x]` shows what
        `one[y + rows, x + columns]` shows.
    """
    white = idctn(whitening.spectra(np.stack([one, other])), axes=(1, 2), norm="ortho")
    height, width = one.shape
    reach = height // 2, width // 2
    padded = [
        next_fast_len(side + far, real=True) for side, far in zip(one.shape, reach, strict=True)
    ]
    spectra = rfft2(white, s=padded)
    product = irfft2(spectra[0] * spectra[1].conj(), s=padded)
    near = np.roll(product, reach, axis=(0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
    row, column = np.unravel_index(int(near.argmax()), near.shape)
    dy, dx = int(row) - reach[0], int(column) - reach[1]
    crops = [
        unit(transform(picture[None]))
        for picture in (
            white[0][max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)],
            white[1][max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)],
        )
    ]
    r, evidence = agreement(*crops)
    return float(r[0]), float(evidence[0]), (dy, dx)
