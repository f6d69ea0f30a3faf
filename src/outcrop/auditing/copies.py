"""Find copies among patches: exact, and up to flips, rotations, brightness and mild damage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from outcrop.auditing.detail import (
    Whitening,
    agreement,
    coherence,
    orient,
    orientations,
    standardised,
)
from outcrop.auditing.pixels import batches
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions, Rows
from outcrop.progress import track
from outcrop.splits.geometry import volume_of

_SAMPLE = 1024
_FREQUENCIES = 128
_ALIKE = 0.6
SHARED = 0.5
EVIDENCE = 7.0
_SAME, _CERTAIN = 0.98, 0.998
_FEW, _MOST, _SOME = 20, 0.75, 0.05
_CHAIN, _MEMBERS, _CHAINS = 0.9, 12, 64
_BLOCK = 1024, 4096
_PER_PATCH = 10
_PRUNE = 50
_WORK = 4e12
_PAIR_BYTES = 16 << 20


@dataclass(frozen=True)
class Pairs(Rows):
    """M pairs of similar patches; the first index is the smaller one.

    Attributes:
        first, second: int64, `M`.
        likeness: float32, `M`, absolute correlation of the whitened images; 1 for exact copies.
    """

    first: np.ndarray
    second: np.ndarray
    likeness: np.ndarray

    def __add__(self, other: Pairs) -> Pairs:
        """These pairs and the others."""
        return Pairs(
            *map(np.concatenate, zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def clusters(self, patches: int) -> list[np.ndarray]:
        """Connected components of the pairs, the largest first."""
        edges = sparse.coo_array(
            (np.ones(len(self), bool), (self.first, self.second)), shape=(patches, patches)
        )
        label = sparse.csgraph.connected_components(edges, directed=False)[1]
        members = np.unique(np.concatenate([self.first, self.second]))
        order = members[np.argsort(label[members], kind="stable")]
        parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1) if len(order) else []
        return sorted(parts, key=len, reverse=True)


def no_pairs() -> Pairs:
    """No pairs."""
    return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


@dataclass(frozen=True)
class NearCopies:
    """Result of the search for near copies.

    Attributes:
        asked: int, patches that were compared with all others, ascending.
        pairs: copies; at least one patch of each pair is in `asked`.
        alike: other pairs that share their detail without being copies, such as neighbouring
            slices of a volume.
    """

    asked: np.ndarray
    pairs: Pairs
    alike: Pairs


def exact_copies(patches: PatchSet, flat: np.ndarray) -> Pairs:
    """Patches whose pixels are equal up to flips and rotations by 90°.

    Args:
        flat: bool, `N`, mask of constant patches, which are left out.

    Returns:
        Each copy, paired with the first patch that it equals.
    """
    kept = np.flatnonzero(~flat)
    if not len(kept):
        return no_pairs()
    digests = np.concatenate(
        [_digests(images, patches.size) for images in batches(patches, "searching copies", kept)]
    )
    _, first, number = np.unique(digests, return_index=True, return_inverse=True)
    original = kept[first][number.reshape(-1)]
    copies = original != kept
    ones = np.ones(int(copies.sum()), np.float32)
    return Pairs(original[copies], kept[copies], ones)


def near_copies(patches: PatchSet, kept: np.ndarray, seed: int = 0) -> NearCopies:
    """Patches that are equal up to flips, rotations by 90°, brightness, contrast and mild damage.

    The contrast may be reversed: the negative of a patch is a copy of it.

    Every patch is compared with every other in all eight orientations by a short descriptor.
    Similar pairs are verified by the correlation of their whitened images at full size
    (`outcrop.auditing.detail.agreement`). They share their detail if the correlation is 0.5 or more
    and the probability of such a correlation in all comparisons is exp(-7) at most. They are copies
    if they are also coherent (`same_pixels`), and otherwise alike. Pairs in clusters whose members
    are mostly not copies of each other are alike too, as in a sequence of slices of which each is
    similar to the next. Pairs whose positions overlap are left out, because they are expected to
    look alike.

    In a set of more than about 60 000 patches, only a random sample is compared with all others.

    Args:
        kept: int, ascending, indices of the patches to compare.
        seed: random seed of this sample, and of the sample for the mean spectrum.
    """
    if len(kept) < 2:
        return NearCopies(kept[:0], no_pairs(), no_pairs())
    rng = np.random.default_rng(seed)
    whitening = mean_spectrum(patches, kept, rng)
    describe = whitening.describe(_FREQUENCIES)
    ways = orientations(patches.size)
    number = min(len(kept), max(1, int(_WORK / (len(kept) * len(ways) * _FREQUENCIES))))
    order = rng.permutation(kept)
    order = np.concatenate([np.sort(order[:number]), np.sort(order[number:])])
    described = np.concatenate(
        [describe(standardised(images)) for images in batches(patches, "describing patches", order)]
    )
    turned = [describe.orient(described[:number], one) for one in ways]
    positions = None if patches.positions is None else patches.positions[order]
    first, second, which = _candidates(turned, described, positions)
    needed = np.log(len(kept) ** 2 / 2 * 2 * len(ways)) + EVIDENCE
    pairs, alike = _verify(patches, whitening, order[first], order[second], which, needed)
    chained = _chained(patches, pairs)
    return NearCopies(order[:number], pairs[~chained], alike + pairs[chained])


def same_pixels(coherent: np.ndarray) -> np.ndarray:
    """Mask of the pairs that are copies, among pairs that share their detail.

    Copies have a coherence of 0.98 or more, also if they are damaged. If there are twenty pairs or
    more and less than three quarters of them reach 0.98, most pairs are similar for another reason,
    as neighbouring slices are, and the nearest slices reach 0.98 too. Then 0.998 is required, which
    undamaged copies and copies with fewer grey levels have. If less than a twentieth of the pairs
    reach it, these may be random, and no pair is a copy.

    Args:
        coherent: `M`, coherence of each pair (`coherence`).
    """
    same = coherent >= _SAME
    if len(same) < _FEW or same.sum() >= _MOST * len(same):
        return same
    same = coherent >= _CERTAIN
    return same & (same.sum() >= _SOME * len(same))


def mean_spectrum(patches: PatchSet, kept: np.ndarray, rng: np.random.Generator) -> Whitening:
    """The whitening of a patch set, from a random sample."""
    drawn = np.sort(rng.permutation(kept)[:_SAMPLE])
    return Whitening.of(map(standardised, batches(patches, "sampling patches", drawn)))


def _digests(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The smallest hash of each image over all orientations."""
    every = []
    for one in orientations(size):
        turned = np.ascontiguousarray(orient(images, one))
        every.append([hashlib.blake2b(image.data, digest_size=16).digest() for image in turned])
    return np.array([min(digests) for digests in zip(*every, strict=True)], dtype="S16")


def _candidates(
    turned: list[np.ndarray], described: np.ndarray, positions: Positions | None
) -> tuple[np.ndarray, ...]:
    """Pairs whose descriptors have an absolute correlation of 0.6 or more.

    Each pair has its best orientation, and each patch its ten most similar patches.

    Args:
        turned: descriptors of the first patches in every orientation; these patches are compared
            with all.
        described: float32, `N × D`, descriptors of all patches.
        positions: positions of the N patches, if they are known.

    Returns:
        First patch, second patch, and number of the orientation of the first.
    """
    (asked, _), n, (rows, columns) = turned[0].shape, len(described), _BLOCK
    found, number = [np.zeros((4, 0))], 0
    blocks = [(a, b) for a in range(0, asked, rows) for b in range(a, n, columns)]
    for a, b in track(blocks, "comparing patches"):
        for which, oriented in enumerate(turned):
            product = oriented[a : a + rows] @ described[b : b + columns].T
            # A negative is a copy too, as from a reversed polarity or colour table.
            product = np.abs(product)
            first, second = np.nonzero(product >= _ALIKE)
            like = product[first, second]
            table = np.stack([first + a, second + b, np.full(len(first), which), like])
            table = table[:, table[0] < table[1]]
            if positions is not None:
                one, other = (positions[end.astype(np.int64)] for end in table[:2])
                table = table[:, ~_overlap(one, other)]
            found.append(table)
            number += table.shape[1]
            if number > _PRUNE * n:
                found = [_strongest(n, np.concatenate(found, axis=1))]
                number = 0
    first, second, which, _ = _strongest(n, np.concatenate(found, axis=1))
    return first.astype(np.int64), second.astype(np.int64), which.astype(np.int64)


def _overlap(one: Positions, other: Positions) -> np.ndarray:
    """Mask of the pairs whose extents overlap; in a volume, also of those closer than half a patch.

    Neighbouring slices of a volume look almost the same.
    """
    reach = (one.extent + other.extent) / 2
    reach += np.where(one.axis >= 0, one.extent.max(axis=1) / 2, 0)[:, None]
    near = (np.abs(one.middle - other.middle) < reach).all(axis=1)
    return near & (volume_of(one) == volume_of(other))


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
) -> tuple[Pairs, Pairs]:
    """Copies, and pairs that are only similar."""
    pairs, coherent = no_pairs(), [np.zeros(0)]
    for part, one, other in images_of_pairs(patches, first, second, which, "verifying copies"):
        r, evidence = agreement(whitening(one), whitening(other))
        good = (np.abs(r) >= SHARED) & (evidence >= needed)
        lower, upper = np.sort([first[part][good], second[part][good]], axis=0)
        found = Pairs(lower, upper, np.abs(r[good]).astype(np.float32))
        pairs += found
        coherent.append(np.abs(coherence(one[good], other[good])))
    same = same_pixels(np.concatenate(coherent))
    return pairs[same], pairs[~same]


def _chained(patches: PatchSet, pairs: Pairs) -> np.ndarray:
    """Mask of the pairs in clusters whose members are mostly not copies of each other.

    A few members of each of the largest clusters are compared.
    """
    ways, chained = orientations(patches.size), np.zeros(len(pairs), bool)
    for cluster in pairs.clusters(len(patches))[:_CHAINS]:
        if len(cluster) < 3:
            break
        some = cluster[np.unique(np.linspace(0, len(cluster) - 1, _MEMBERS).astype(int))]
        pictures = standardised(patches.take(some))
        first, second = np.triu_indices(len(some), 1)
        alike = np.max(
            [np.abs(coherence(orient(pictures[first], one), pictures[second])) for one in ways],
            axis=0,
        )
        if np.median(alike) < _CHAIN:
            chained |= np.isin(pairs.first, cluster)
    return chained


def images_of_pairs(
    patches: PatchSet, first: np.ndarray, second: np.ndarray, which: np.ndarray, what: str
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """The standardised images of pairs of patches, in batches, with a progress bar.

    Args:
        which: int, number of the orientation that the first of each pair is brought into.

    Yields:
        The slice of the pairs, and the images of their two patches.
    """
    ways = orientations(patches.size)
    step = max(1, _PAIR_BYTES // (4 * int(np.prod(patches.images.shape[1:]))))
    for start in track(range(0, len(first), step), what):
        part = slice(start, start + step)
        one, other = (standardised(patches.take(index[part])) for index in (first, second))
        for number, orientation in enumerate(ways):
            here = which[part] == number
            one[here] = orient(one[here], orientation)
        yield part, one, other
