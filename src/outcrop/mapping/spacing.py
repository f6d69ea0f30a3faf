"""Points that keep a distance from each other."""

from __future__ import annotations

import operator
from itertools import product

import numpy as np

from outcrop.sources.geodesy import geocentric
from outcrop.sources.scene import Scene

_AROUND = tuple(product((-1, 0, 1), repeat=3))


def far_apart(
    scene: Scene,
    row: np.ndarray,
    column: np.ndarray,
    stratum: np.ndarray,
    wanted: np.ndarray,
    distance: float,
) -> np.ndarray:
    """Indices of the pixels to keep, so that no two are nearer than `distance`.

    They are taken in the order given: one is kept if it is far enough from all that were kept
    before, and its stratum has not all that it wants.

    Args:
        row, column: int, `N`, pixels of the scene.
        stratum: int, `N`.
        wanted: `H`, the most of each stratum.
        distance: metres between the middles of pixels, in a straight line through the earth; the
            way over it is 0.1 % longer at 1000 km.
    """
    at = geocentric(scene.crs, *scene.xy(row, column))
    cells = np.floor(at / distance).astype(np.int64).tolist()
    kept: list[int] = []
    left = wanted.tolist()
    # Of a point only those in the cells around it can be too near.
    grid: dict[tuple[int, ...], list[int]] = {}
    for i, (cell, k) in enumerate(zip(cells, stratum.tolist(), strict=True)):
        if not left[k]:
            continue
        near = [j for step in _AROUND for j in grid.get(tuple(map(operator.add, cell, step)), ())]
        if near and np.linalg.norm(at[near] - at[i], axis=1).min() < distance:
            continue
        grid.setdefault(tuple(cell), []).append(i)
        kept.append(i)
        left[k] -= 1
    return np.array(kept, np.int64)
