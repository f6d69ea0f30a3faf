"""Points that keep a distance from each other."""

from __future__ import annotations

import numpy as np

from outcrop.sources.scene import Scene


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
        distance: metres between the middles of pixels.
    """
    x, y = _metres(scene, row, column)
    cell_x, cell_y = (np.floor(z / distance).astype(np.int64).tolist() for z in (x, y))
    kept: list[int] = []
    left = wanted.tolist()
    # Of a point only those in the cells around it can be too near.
    grid: dict[tuple[int, int], list[int]] = {}
    for i, (cx, cy, k) in enumerate(zip(cell_x, cell_y, stratum.tolist(), strict=True)):
        if not left[k]:
            continue
        near = [
            j
            for across in (-1, 0, 1)
            for down in (-1, 0, 1)
            for j in grid.get((cx + across, cy + down), ())
        ]
        if near and np.hypot(x[near] - x[i], y[near] - y[i]).min() < distance:
            continue
        grid.setdefault((cx, cy), []).append(i)
        kept.append(i)
        left[k] -= 1
    return np.array(kept, np.int64)


def _metres(scene: Scene, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from pyproj import Transformer

    x, y = scene.xy(row, column)
    if scene.metric_crs == scene.crs:
        return x, y
    return Transformer.from_crs(scene.crs, scene.metric_crs, always_xy=True).transform(x, y)
