"""Accuracy of a map, and area of its classes, from ground that was labelled in pieces.

The pixels of one polygon, or of one block of ground, are not independent: they share its weather,
its labeller, and mostly its fate in the map. Counted as so many samples they give intervals that
are far too narrow. So whole pieces are drawn anew, in a bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from outcrop.accuracy.areas import Estimate, MapAccuracy
from outcrop.metrics.intervals import Support, interval_of_share, resampled_rows

_NOTHING = Support(0, 0, 0)


def by_piece(
    table: sparse.csr_array,
    pixels: np.ndarray,
    wall_to_wall: bool = False,
    draws: int = 2000,
    seed: int = 0,
) -> MapAccuracy:
    """Accuracy and area from labelled pieces of ground, each class of the map weighed by its area.

    What is estimated is as in `outcrop.accuracy.areas.by_map_class`, with pixels in the place of
    samples: within a class of the map, the labelled pixels stand for all of it. That is a
    supposition, for pieces that were chosen by hand are no probability sample. Standard errors and
    intervals are from a bootstrap of whole pieces (`outcrop.metrics.intervals`:
    `resampled_rows`, `interval_of_share`). They are unknown where a class of the map that counts
    stands on one piece alone.

    Args:
        table: `G × K²`, labelled pixels of each piece; column `i K + j` counts those that are class
            i in the map and class j in the reference.
        pixels: `K`, of each class in the whole map; 0 for a class of the reference alone.
        wall_to_wall: whether the pieces are all of the map. Then areas are counted and have no
            error, and in a draw the classes of the map are as large as the draw has them: the
            intervals say how far accuracies would move on other ground like it.
        draws: number of bootstrap samples.
        seed: of the bootstrap.
    """
    K = len(pixels)
    share = np.asarray(pixels, np.float64) / np.sum(pixels)
    table = sparse.csr_array(table, dtype=np.float64)
    counts = np.asarray(table.sum(axis=0)).reshape(-1)
    cells = np.flatnonzero(counts)
    drawn = resampled_rows(table[:, cells], np.ones(table.shape[0], np.int64), draws, seed)
    found = _measures(counts[None, cells], cells, share)
    redrawn = _measures(drawn, cells, share, wall_to_wall)

    i, j = np.divmod(cells, K)
    table = table[:, cells].tocsc()
    # A pixel weighs as much as the pixels of its class of the map that it stands for.
    stands_for = share[i] / np.bincount(i, counts[cells], K)[i]
    weighed = table if wall_to_wall else table.multiply(stands_for).tocsc()
    of_map = [_support(table, table, i == k) for k in range(K)]
    of_reference = [_support(table, weighed, j == k) for k in range(K)]
    whole = _support(table, weighed, cells >= 0)
    known = wall_to_wall or all(of_map[k].pieces > 1 for k in np.flatnonzero(share))

    def estimates(what: str, standing: Sequence[Support], known: bool) -> tuple[Estimate, ...]:
        return tuple(
            _estimate(found[what][0, k], redrawn[what][:, k], one if known else _NOTHING)
            for k, one in enumerate(standing)
        )

    proportions = np.zeros((K, K))
    proportions[i, j] = stands_for * counts[cells]
    proportions[(share > 0) & (np.bincount(i, minlength=K) == 0)] = np.nan
    return MapAccuracy(
        proportions=proportions,
        overall=estimates("overall", [whole], known)[0],
        users=estimates("users", of_map, True),
        producers=estimates("producers", of_reference, known),
        area=(
            tuple(Estimate.normal(value, 0) for value in found["area"][0])
            if wall_to_wall
            else estimates("area", [whole] * K, known)
        ),
    )


def _measures(
    counts: np.ndarray, cells: np.ndarray, share: np.ndarray, as_counted: bool = False
) -> dict[str, np.ndarray]:
    """What is estimated, `D × K` each (overall `D × 1`), from D times the counts of C cells."""
    K = len(share)
    i, j = np.divmod(cells, K)
    # Sparse, for a map of many classes has many cells.
    to_map, to_reference, to_right = (
        sparse.coo_array((weight, (np.arange(len(cells)), kind)), shape=(len(cells), K)).tocsr()
        for kind, weight in ((i, np.ones(len(i))), (j, np.ones(len(j))), (i, (i == j) * 1.0))
    )
    in_map = counts @ to_map
    weight = np.divide(share, in_map, out=np.zeros_like(in_map), where=in_map > 0)
    area = counts / counts.sum(axis=1, keepdims=True) if as_counted else counts * weight[:, i]
    right, reference = area @ to_right, area @ to_reference
    # A class of the map that no pixel tells of leaves the truth of its area open.
    untold = ((in_map == 0) & (share > 0)).any(axis=1, keepdims=True) & (not as_counted)
    return {
        "overall": np.where(untold, np.nan, right.sum(axis=1, keepdims=True)),
        "users": _ratio(counts @ to_right, in_map),
        "producers": np.where(untold, np.nan, _ratio(right, reference)),
        "area": np.where(untold, np.nan, reference),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _support(table: sparse.csc_array, weighed: sparse.csc_array, chosen: np.ndarray) -> Support:
    """What a measure stands on that is of some of the cells, each weighed."""
    weights = np.asarray(weighed[:, chosen].sum(axis=1)).reshape(-1)
    return Support.of(weights, float(table[:, chosen].sum()))


def _estimate(value: float, draws: np.ndarray, standing: Support) -> Estimate:
    ends = interval_of_share(value, draws, standing)
    if np.isnan(ends.low):
        return Estimate(float(value), np.nan, np.nan, np.nan)
    scale = standing.pieces / (standing.pieces - 1)
    error = float(np.sqrt(np.nanvar(draws, ddof=1) * scale))
    return Estimate(float(value), error, ends.low, ends.high)
