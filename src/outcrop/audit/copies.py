"""Find copies among patches: exact, up to flips and brightness, and overlapping ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from outcrop.audit.detail import (
    Whitening,
    agreement,
    orient,
    orientations,
    standardised,
)
from outcrop.audit.pixels import batches
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions
from outcrop.progress import track

_SAMPLE = 1024
_FREQUENCIES = 128
_ALIKE = 0.6
SHARED = 0.5
EVIDENCE = 7.0
_BLOCK = 1024, 4096
_PER_PATCH = 10
_PRUNE = 50
_PAIR_BYTES = 16 << 20


@dataclass(frozen=True)
class Pairs:
    """M pairs of patches that show the same, the first index the smaller.

    Attributes:
        first, second: int64, `M`.
        likeness: float32, `M`, correlation of the whitened pictures; 1 for exact copies.
    """

    first: np.ndarray
    second: np.ndarray
    likeness: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: np.ndarray) -> Pairs:
        """Some of the pairs, by index or mask."""
        return Pairs(self.first[index], self.second[index], self.likeness[index])

    def __add__(self, other: Pairs) -> Pairs:
        """These pairs and others."""
        return Pairs(
            np.concatenate([self.first, other.first]),
            np.concatenate([self.second, other.second]),
            np.concatenate([self.likeness, other.likeness]),
        )

    def clusters(self, patches: int) -> list[np.ndarray]:
        """Patches that pairs hold together (connected components), the largest first."""
        edges = sparse.coo_array(
            (np.ones(len(self), bool), (self.first, self.second)), shape=(patches, patches)
        )
        label = sparse.csgraph.connected_components(edges, directed=False)[1]
        members = np.unique(np.concatenate([self.first, self.second]))
        order = members[np.argsort(label[members], kind="stable")]
        parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1) if len(order) else []
        return sorted(parts, key=len, reverse=True)


def no_pairs() -> Pairs:
    """None at all."""
    return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def exact_copies(patches: PatchSet, flat: np.ndarray) -> Pairs:
    """Patches whose pixels are the same up to flips and quarter turns.

    Args:
        flat: bool, `N`, patches to pass over because they show nothing.

    Returns:
        Each copy with the first of its kind.
    """
    digests = np.concatenate(
        [_digests(images, patches.size) for _, images in batches(patches, "looking for copies")]
    )
    kept = np.flatnonzero(~flat)
    _, first, number = np.unique(digests[kept], return_index=True, return_inverse=True)
    original = kept[first][number.reshape(-1)]
    copies = original != kept
    ones = np.ones(int(copies.sum()), np.float32)
    return Pairs(original[copies], kept[copies], ones)


def near_copies(patches: PatchSet, kept: np.ndarray, seed: int = 0) -> Pairs:
    """Patches that show the same up to flips, quarter turns, brightness, contrast and mild damage.

    Every patch is held against every other in all eight orientations by a short descriptor; pairs
    that look alike are verified by the correlation of their whitened pictures at full size
    (`outcrop.audit.detail.agreement`). They are copies if it is 0.5 or more, and chance would give
    as much among all comparisons with a probability of exp(-7) at most. Pairs whose positions say
    that they overlap on the ground are alike for that reason, and left out.

    Args:
        kept: int, the patches to look at.
        seed: of the sample from which the set's usual spectrum is taken.
    """
    if len(kept) < 2:
        return no_pairs()
    drawn = np.sort(np.random.default_rng(seed).permutation(kept)[:_SAMPLE])
    whitening = Whitening.of(standardised(patches.take(drawn)))
    describe = whitening.describe(_FREQUENCIES)
    everything = np.concatenate(
        [describe(standardised(images)) for _, images in batches(patches, "describing patches")]
    )
    described = everything[kept]
    turned = [describe.orient(described, o) for o in orientations(patches.size)]
    first, second, which = _candidates(turned, described, patches.positions, kept)
    needed = np.log(len(kept) ** 2 / 2 * len(turned)) + EVIDENCE
    return _verify(patches, whitening, kept[first], kept[second], which, needed)


def _digests(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The smallest digest of each image over all orientations."""
    every = []
    for one in orientations(size):
        turned = np.ascontiguousarray(orient(images, one))
        every.append([hashlib.blake2b(image.data, digest_size=16).digest() for image in turned])
    return np.array([min(digests) for digests in zip(*every, strict=True)], dtype="S16")


def _candidates(
    turned: list[np.ndarray], described: np.ndarray, positions: Positions | None, kept: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Pairs whose descriptors correlate by 0.6 or more: first, second, orientation of the first.

    Of each pair the best orientation, and of each patch the ten nearest others.
    """
    n, (rows, columns) = len(described), _BLOCK
    found, number = [np.zeros((4, 0))], 0
    blocks = [(a, b) for a in range(0, n, rows) for b in range(a, n, columns)]
    for a, b in track(blocks, "comparing patches"):
        for which, oriented in enumerate(turned):
            product = oriented[a : a + rows] @ described[b : b + columns].T
            first, second = np.nonzero(product >= _ALIKE)
            table = np.stack([first + a, second + b, np.full(len(first), which),
                              product[first, second]])  # fmt: skip
            table = table[:, table[0] < table[1]]
            if positions is not None:
                one, other = (positions[kept[end.astype(np.int64)]] for end in table[:2])
                table = table[:, ~_touching(one, other)]
            found.append(table)
            number += found[-1].shape[1]
        if number > _PRUNE * n:
            found = [_strongest(n, np.concatenate(found, axis=1))]
            number = 0
    first, second, which, _ = _strongest(n, np.concatenate(found, axis=1))
    return first.astype(np.int64), second.astype(np.int64), which.astype(np.int64)


def _touching(one: Positions, other: Positions) -> np.ndarray:
    """Mask of the pairs whose extents overlap on the ground."""
    return (np.abs(one.x - other.x) < (one.width + other.width) / 2) & (
        np.abs(one.y - other.y) < (one.height + other.height) / 2
    )


def _strongest(n: int, table: np.ndarray) -> np.ndarray:
    first, second, _, like = table
    table = table[:, np.lexsort((-like, second, first))]
    repeated = (np.diff(table[0], prepend=-1) == 0) & (np.diff(table[1], prepend=-1) == 0)
    table = table[:, ~repeated]
    wanted = np.zeros(table.shape[1], bool)
    for end in table[:2].astype(np.int64):
        order = np.lexsort((-table[3], end))
        start = np.searchsorted(end[order], np.arange(n))
        wanted[order] |= np.arange(len(order)) - start[end[order]] < _PER_PATCH
    return table[:, wanted]


def _verify(
    patches: PatchSet,
    whitening: Whitening,
    first: np.ndarray,
    second: np.ndarray,
    which: np.ndarray,
    needed: float,
) -> Pairs:
    found = no_pairs()
    for part, one, other in pictures_of_pairs(patches, first, second, which, "verifying copies"):
        r, evidence = agreement(whitening.spectra(one), whitening.spectra(other))
        good = (r >= SHARED) & (evidence >= needed)
        found += Pairs(first[part][good], second[part][good], r[good].astype(np.float32))
    return found


def pictures_of_pairs(
    patches: PatchSet, first: np.ndarray, second: np.ndarray, which: np.ndarray, what: str
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """The standardised pictures of pairs of patches, some MiB at a time, with a progress bar.

    Args:
        which: int, the number of the orientation that the first of each pair is brought into.

    Yields:
        Which pairs, and the pictures of their two patches.
    """
    turns = orientations(patches.size)
    step = max(1, _PAIR_BYTES // (4 * int(np.prod(patches.images.shape[1:]))))
    for start in track(range(0, len(first), step), what):
        part = slice(start, start + step)
        one, other = (standardised(patches.take(index[part])) for index in (first, second))
        for number, orientation in enumerate(turns):
            here = which[part] == number
            one[here] = orient(one[here], orientation)
        yield part, one, other
