"""Copies of patches, found by the signs of their finest detail.

A *code* holds the signs of 4 × 8 mixed differences x(r, c) - x(r, c + l) - x(r + l, c) +
x(r + l, c + l) at a distance l, the lag. It is a census transform (Zabih and Woodfill 1994,
"Non-parametric Local Transforms for Computing Visual Correspondence", ECCV) of differences: gain
and offset do not change it, and reversed polarity inverts it. Rounding to grey values changes no
sign of a difference of two steps or more, because it changes each of the four values by half a step
at most. Layers along rows or columns cancel, so codes tell windows apart that differ by their noise
alone. Signatures of low frequencies cannot.

A patch is described by the codes at some of its pixels, the *anchors*. All pixels of a source are
looked up in one table of the codes of all anchors. Where a code is equal, the signs at the other
anchors of the patch are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from outcrop.executors import Executor
from outcrop.locating.correlation import batches, quantisation_step
from outcrop.locating.planes import Patches, Planes, Slab
from outcrop.locating.search import CROWD, Candidates, Reach, pieces
from outcrop.patches.flips import unflip

# Differences of a code, down and across.
_ROWS, _COLUMNS = 4, 8
_LAGS = (1, 2, 4)
# Anchors are the best pixels of 8 × 8 cells, so that few of them share pixels. Of 500 patches of 8
# bits of layers that differ by their noise ("channels", 450 × 75 × 900, `benchmarks.hard_cubes`)
# 8 anchors find 489, 32 as many, 4 find 488.
_CELLS, _ANCHORS = 8, 8
# Rounding of float32 values, as a share of the largest one.
_FLOAT32 = 1e-6
# An anchor has a code that occurs at most twice in a sample of about a million of the source.
_COMMON = 2
# Share of equal signs, from -1 to 1: about 0 for unrelated windows, nearly 1 for copies.
_EQUAL = 0.5
_SAMPLE = 64
# Share of the eight anchors that patches have in the mean, from which a lag is used.
_WORTHWHILE = 0.05
# Remainders of codes, a power of two: a table of 4 MB, of which 64,000 codes fill 1.5 %.
_TABLE = 1 << 22
# 2³² divided by the golden ratio spreads the codes (Knuth 1998, "The Art of Computer Programming"
# 3, section 6.4).
_SPREAD = np.uint32(2654435769)


@dataclass(frozen=True, eq=False)
class Codes:
    """What is common to the codes of patches and source.

    Attributes:
        lag: distance of the pixels of a difference.
        band: the band that is compared.
        frequent: uint32, sample of the codes of the source in rising order.
    """

    lag: int
    band: int
    frequent: np.ndarray


@dataclass(frozen=True, eq=False)
class _Described:
    """Codes of N patches at A pixels each, and whether these are anchors: `N × A` arrays."""

    code: np.ndarray
    row: np.ndarray
    column: np.ndarray
    anchor: np.ndarray


@dataclass(frozen=True, eq=False)
class Anchors:
    """The anchors of N patches, A for each in each flip, and a table of their codes.

    Attributes:
        lag: distance of the pixels of a difference.
        band: the band that is compared.
        code: uint32, `flips × N × A`.
        row, column: int, `flips × N × A`, the first pixels of the codes in the patch.
        anchor: bool, `flips × N × A`; the others are no anchors.
        known: uint32, the codes and inverted codes of all anchors, in rising order.
        entry: int, the index in the flattened `code` of each of `known`; -1 minus it if inverted.
        table: bool, whether a code of `known` has this remainder.
    """

    lag: int
    band: int
    code: np.ndarray
    row: np.ndarray
    column: np.ndarray
    anchor: np.ndarray
    known: np.ndarray
    entry: np.ndarray
    table: np.ndarray


def codes_for(patches: Patches, planes: Sequence[Planes]) -> list[Codes]:
    """The codes of each lag that describe the patches, those with most anchors first."""
    some = np.arange(0, len(patches), -(-len(patches) // _SAMPLE))
    # The band with most grey values.
    images = patches.images[some]
    band = int(np.argmax([len(np.unique(images[:, k])) for k in range(images.shape[1])]))
    found = []
    for lag in _LAGS:
        if (_COLUMNS + 1) * lag <= min(patches.size) // 2:
            codes = Codes(lag, band, _some_codes(planes, patches.size, band, lag))
            share = float(_describe((patches, codes), (0, some)).anchor.mean())
            if share >= _WORTHWHILE:
                found.append((-share, lag, codes))
    return [codes for _, _, codes in sorted(found, key=lambda one: one[:2])]


def find_anchors(patches: Patches, codes: Codes, executor: Executor) -> Anchors:
    """The anchors of patches."""
    tasks = [
        (flip, np.arange(len(patches))[few])
        for flip in range(len(patches.flips))
        for few in batches(len(patches), patches.images[0, 0].size)
    ]
    parts = list(executor.each(_describe, (patches, codes), tasks, "describing"))
    shape = len(patches.flips), len(patches), _ANCHORS
    code, row, column, anchor = (
        np.concatenate([getattr(part, name) for part in parts]).reshape(shape)
        for name in ("code", "row", "column", "anchor")
    )
    entry = np.flatnonzero(anchor)
    known = code.ravel()[entry]
    known, entry = np.concatenate([known, ~known]), np.concatenate([entry, -1 - entry])
    order = np.argsort(known, kind="stable")
    table = np.zeros(_TABLE, bool)
    table[_remainders(known)] = True
    return Anchors(
        codes.lag, codes.band, code, row, column, anchor, known[order], entry[order], table
    )


def scan_copies(
    slices: Iterable[tuple[int, np.ndarray]],
    slab: Slab,
    number: int,
    anchors: Anchors,
    size: tuple[int, int],
    most: int,
    reach: Reach,
) -> Candidates:
    """The windows of a slab that have the signs of a patch.

    Args:
        slices: the slices to compare, each with its index.
        number: index of their planes.
        size: height and width of a patch in pixels.
        most: maximum number of candidates for each patch.
        reach: as for `Candidates.suppressed`.
    """
    found = [np.empty((6, 0))]
    for index, pixels in slices:
        there = _codes(pixels[anchors.band], anchors.lag)
        variant, patch, row, column = _windows(there, anchors, pixels.shape[1:], size)
        flip, negative = np.divmod(variant, 2)
        rows = row[:, None] + anchors.row[flip, patch]
        columns = column[:, None] + anchors.column[flip, patch]
        unequal = np.bitwise_count(there[rows, columns] ^ anchors.code[flip, patch])
        known = anchors.anchor[flip, patch]
        score = 1 - (unequal * known).sum(axis=1) / known.sum(axis=1) / (_ROWS * _COLUMNS / 2)
        score = np.where(negative, -score, score)
        every = (patch, score, variant, np.full(len(patch), index), row, column)
        found.append(np.stack(every)[:, score >= _EQUAL])
    patch, score, variant, index, row, column = np.concatenate(found, axis=1)
    return Candidates.ranked(
        anchors.code.shape[1], most + CROWD, patch.astype(int), score=score, variant=variant,
        planes=np.full(len(patch), number), index=index, row=slab.top + row,
        column=slab.left + column,
    ).suppressed(reach, most)  # fmt: skip


def _windows(
    there: np.ndarray, anchors: Anchors, shape: tuple[int, ...], size: tuple[int, int]
) -> tuple[np.ndarray, ...]:
    """Variant, patch, row and column of the windows that share a code with a patch."""
    flat = there.ravel()
    at = np.flatnonzero(anchors.table[_remainders(flat)])
    first = np.searchsorted(anchors.known, flat[at], "left")
    times = np.searchsorted(anchors.known, flat[at], "right") - first
    which = np.repeat(first - np.cumsum(times) + times, times) + np.arange(times.sum())
    entry, row_and_column = anchors.entry[which], divmod(np.repeat(at, times), there.shape[1])
    negative = entry < 0
    entry = np.where(negative, -1 - entry, entry)
    row = row_and_column[0] - anchors.row.ravel()[entry]
    column = row_and_column[1] - anchors.column.ravel()[entry]
    flip, patch = np.divmod(entry // _ANCHORS, anchors.code.shape[1])
    rows, columns = shape[0] - size[0] + 1, shape[1] - size[1] + 1
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    limits = (2 * len(anchors.code), anchors.code.shape[1], rows, columns)
    places = tuple(values[inside] for values in (2 * flip + negative, patch, row, column))
    # Several anchors may lead to one window.
    return np.unravel_index(np.unique(np.ravel_multi_index(places, limits)), limits)


def _describe(shared: tuple[Patches, Codes], task: tuple[int, np.ndarray]) -> _Described:
    """Codes of some patches in one flip, at the pixels whose differences are the most steps."""
    (patches, codes), (flip, which) = shared, task
    name, lag = patches.flips[flip], codes.lag
    images = unflip(patches.images[which, codes.band], name).astype(np.float32)
    known = np.ones(images.shape, bool)
    if patches.missing is not None:
        known = ~unflip(patches.missing[which], name)
    step = [max(quantisation_step(image[there]), _FLOAT32 * np.abs(image).max())
            for image, there in zip(images, known, strict=True)]  # fmt: skip
    across = known[..., lag:] & known[..., :-lag]
    size = np.where(across[:, lag:] & across[:, :-lag], np.abs(_mixed(images, lag)), 0)
    steps = _least(size, lag) / np.maximum(step, 1e-30)[:, None, None]
    at = np.stack(
        [
            _largest(steps, rows, columns)
            for rows in _cells(steps.shape[1])
            for columns in _cells(steps.shape[2])
        ],
        axis=1,
    )
    every = np.arange(len(which))[:, None]
    row, column = np.divmod(at, steps.shape[2])
    code, steps = _codes(images, lag)[every, row, column], steps[every, row, column]
    often = np.searchsorted(codes.frequent, code, "right") - np.searchsorted(codes.frequent, code)
    steps[often > _COMMON] = 0
    best = np.argsort(-steps, axis=1, kind="stable")[:, :_ANCHORS]
    # The errors of four rounded values have a standard deviation of 0.58 steps, so that the sign of
    # a difference of one step changes in one of 25 cases.
    anchor = steps[every, best] >= 1
    return _Described(code[every, best], row[every, best], column[every, best], anchor)


def _cells(length: int) -> list[np.ndarray]:
    return np.array_split(np.arange(length), min(_CELLS, length))


def _largest(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The pixel of each image, `N × height × width`, with the largest value in a rectangle."""
    inside = values[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    row, column = np.divmod(inside.reshape(len(values), -1).argmax(axis=1), len(columns))
    return (rows[0] + row) * values.shape[2] + columns[0] + column


def _some_codes(planes: Sequence[Planes], size: tuple[int, int], band: int, lag: int) -> np.ndarray:
    """The codes of a few slices, in rising order."""
    found = []
    for one in planes:
        with one.open() as read:
            found += [_codes(read(slab)[:, band], lag).ravel() for slab in pieces(one, size, 1)]
    return np.sort(np.concatenate(found))


def _codes(pixels: np.ndarray, lag: int) -> np.ndarray:
    """The code of the block of differences that starts at each pixel, uint32.

    Args:
        pixels: float32, `… × height × width`.
    """
    line = (_mixed(pixels, lag) > 0).view(np.uint8)
    for bits in (1, 2, 4):
        line = line[..., : -bits * lag] | (line[..., bits * lag :] << np.uint8(bits))
    code = line.astype(np.uint32)
    for rows in (1, 2):
        code = code[..., : -rows * lag, :] | (code[..., rows * lag :, :] << np.uint32(8 * rows))
    return code


def _least(size: np.ndarray, lag: int) -> np.ndarray:
    """The least value in the block of differences that starts at each pixel."""
    for n in (1, 2, 4):
        size = np.minimum(size[..., : -n * lag], size[..., n * lag :])
    for n in (1, 2):
        size = np.minimum(size[..., : -n * lag, :], size[..., n * lag :, :])
    return size


def _mixed(pixels: np.ndarray, lag: int) -> np.ndarray:
    across = pixels[..., lag:] - pixels[..., :-lag]
    return np.asarray(across[..., lag:, :] - across[..., :-lag, :])


def _remainders(code: np.ndarray) -> np.ndarray:
    return np.asarray((code * _SPREAD) >> np.uint32(33 - _TABLE.bit_length()))
