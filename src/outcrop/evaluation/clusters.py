"""Accuracy of a map, and area of its classes, from ground that was labelled in pieces.

The pixels of one polygon, or of one block of ground, are not independent: they share its weather,
its labeller, and mostly its fate in the map. Counted as so many samples they give intervals that
are far too narrow. So whole pieces are drawn anew, in a bootstrap.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from outcrop.evaluation.areas import Estimate, MapAccuracy
from outcrop.evaluation.intervals import interval, resampled_rows


def by_piece(
    table: sparse.csr_array,
    pixels: np.ndarray,
    wall_to_wall: bool = False,
    draws: int = 2000,
    seed: int = 0,
) -> MapAccuracy:
    """Accuracy and area from labelled pieces of ground, each class of the map weighed by its area.

    What is estimated is as in `outcrop.evaluation.areas.by_map_class`, with pixels in the place of
    samples: within a class of the map, the labelled pixels stand for all of it. That is a
    supposition, for pieces that were chosen by hand are no probability sample. Intervals are the
    percentiles, and standard errors the spread, of a bootstrap of whole pieces (Field and Welsh
    2007, see `outcrop.evaluation.intervals.resampled_counts`). They are unknown where a class of
    the map that counts stands on one piece alone.

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

    touched = table[:, cells] > 0
    i, j = np.divmod(cells, K)
    in_map, in_reference = (_pieces_with(touched, kind, K) for kind in (i, j))
    told = wall_to_wall or bool(in_map[share > 0].min() > 1)

    def estimates(what: str, enough: np.ndarray) -> tuple[Estimate, ...]:
        return tuple(
            _estimate(found[what][0, k], redrawn[what][:, k], bool(enough[k]))
            for k in range(found[what].shape[1])
        )

    proportions = np.zeros((K, K))
    proportions[i, j] = share[i] * counts[cells] / np.bincount(i, counts[cells], K)[i]
    proportions[(share > 0) & (in_map == 0)] = np.nan
    return MapAccuracy(
        proportions=proportions,
        overall=estimates("overall", np.array([told]))[0],
        users=estimates("users", in_map > 1),
        producers=estimates("producers", told & (in_reference > 1)),
        area=(
            tuple(Estimate.normal(value, 0) for value in found["area"][0])
            if wall_to_wall
            else estimates("area", told & (in_reference > 0))
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


def _pieces_with(touched: sparse.csr_array, kind: np.ndarray, K: int) -> np.ndarray:
    """In how many pieces each class occurs."""
    one_hot = sparse.coo_array(
        (np.ones(len(kind)), (np.arange(len(kind)), kind)), shape=(len(kind), K)
    )
    return np.asarray(((touched.astype(np.float64) @ one_hot.tocsr()) > 0).sum(axis=0)).reshape(-1)


def _estimate(value: float, draws: np.ndarray, enough: bool) -> Estimate:
    ends = interval(value, draws if enough else np.empty(0))
    if np.isnan(ends.low):
        return Estimate(float(value), np.nan, np.nan, np.nan)
    error = float(np.nanstd(draws, ddof=1))
    return Estimate(float(value), error, ends.low, ends.high)
