"""Which pixels of a map lie within the patches of a patch set."""

from __future__ import annotations

import numpy as np

from outcrop.errors import OutcropError
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source, upper_left
from outcrop.sources.antimeridian import wrap_x
from outcrop.sources.scene import Scene


def count_within(patches: PatchSet, scene: Scene, row: np.ndarray, column: np.ndarray) -> int:
    """How many pixels of a scene have their middle within the extent of any patch.

    Args:
        row, column: int, `N`, pixels of the scene.

    Raises:
        OutcropError: the patches know no place, or are of volumes.
    """
    if patches.positions is None or patches.from_volume:
        raise OutcropError(
            "--patches", "are of volumes, or have lost their place; leave the option out"
        )
    x, y = scene.xy(row, column)
    within = np.zeros(len(row), bool)
    for number, source in enumerate(patches.sources):
        mine = patches.positions[patches.positions.source == number]
        if len(mine):
            corner = np.stack(
                [
                    upper_left(centre, size)
                    for centre, size in zip((mine.row, mine.column), patches.size, strict=True)
                ],
                axis=1,
            )
            within |= _within(_pixels(source, x, y, scene.crs), corner, patches.size)
    return int(within.sum())


def _within(at: np.ndarray, corner: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which places lie in a patch, all in pixels of one source: `N × 2`, upper-left `P × 2`."""
    from scipy.spatial import KDTree

    # Scaled so that a patch is the places at most one half from its middle along either axis.
    middles = KDTree(corner / size + 0.5)
    distance, _ = middles.query(at / size, p=np.inf, distance_upper_bound=0.5 + 1e-9)
    return distance <= 0.5


def _pixels(source: Source, x: np.ndarray, y: np.ndarray, crs: str) -> np.ndarray:
    """Row and column, with fractions, of places in another CRS: `N × 2`."""
    from pyproj import Transformer

    assert source.transform is not None
    if crs != source.crs:
        x, y = Transformer.from_crs(crs, source.crs, always_xy=True).transform(x, y)
    a, b, c, d, e, f = source.transform
    x = wrap_x(x, a * source.width / 2 + b * source.height / 2 + c, source.crs)
    column, row = np.linalg.inv(np.array([[a, b], [d, e]])) @ np.stack([x - c, y - f])
    return np.stack([row, column], axis=1)
