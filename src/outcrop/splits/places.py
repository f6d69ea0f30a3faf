"""Places on the ground: where patches lie, where a map is wanted, and how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Positions, Source
from outcrop.sources.metric import metric_system_near

# Between volumes: further than any voxel is from another of its volume, and exact in float64.
_APART = float(1 << 24)


def coordinates(positions: Positions) -> np.ndarray:
    """Where the middles of patches lie, so that distances can be taken between any two of them.

    Volumes share no ground: each is put far from the others, along its last axis.

    Returns:
        float64, `N × 2` (y, x in metres) for scenes, `N × 3` (z, y, x in voxels) for volumes.
    """
    if (positions.axis < 0).all():
        return positions.middle[:, 1:]
    return positions.middle + np.array([0, 0, _APART]) * positions.source[:, None]


@dataclass(frozen=True)
class Places:
    """M places that a map is wanted of.

    Attributes:
        source: int64, `M`, an index into the sources to be mapped.
        pixel: int64, `M × 2` (row and column) in scenes, `M × 3` (along axes 0, 1, 2) in volumes.
        at: float64, `M × 2` or `M × 3`, as `coordinates` gives them.
    """

    source: np.ndarray
    pixel: np.ndarray
    at: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray) -> Places:
        """Some of the places, by index or mask."""
        return Places(self.source[index], self.pixel[index], self.at[index])


def places_to_map(
    patches: PatchSet, count: int = 2000, sources: Sequence[Source] | None = None
) -> Places:
    """A regular grid of about `count` pixels over all that is to be mapped.

    Every source gets its share by its number of pixels, and at least one place. No file is
    opened, so that pixels without data are among them.

    Args:
        sources: what is to be mapped; all that the patches were cut from if not given.
    """
    sources = patches.sources if sources is None else sources
    total = sum(float(np.prod(source.shape)) for source in sources)
    step = (total / count) ** (1 / len(sources[0].shape))
    pixels = [_grid(source.shape, step) for source in sources]
    at = [
        on_ground(source, i, pixels[i], _system(patches, source))
        for i, source in enumerate(sources)
    ]
    number = np.repeat(np.arange(len(pixels)), [len(part) for part in pixels])
    return Places(number, np.concatenate(pixels), np.concatenate(at))


def on_ground(source: Source, number: int, pixel: np.ndarray, crs: str | None) -> np.ndarray:
    """Where pixels of a source lie, as `coordinates` says it of patches.

    Args:
        number: which of the patch set's sources it is.
        pixel: `M × 2` rows and columns of a scene, `M × 3` voxels of a volume.
        crs: the system in metres of the source, as the patch set has it (`PatchSet.crs_of`).

    Returns:
        float64, `M × 2` or `M × 3`.
    """
    if source.transform is None:
        return pixel + np.array([0, 0, _APART]) * number
    row, column = pixel.T
    x, y = source.xy(row, column, source.crs if crs is None else crs)
    return np.stack([y, x], axis=1)


def _system(patches: PatchSet, source: Source) -> str | None:
    """The system in metres of what is to be mapped, beside those of the patches."""
    systems = [patches.crs_of(i) or "" for i in range(len(patches.sources))]
    for known, crs in zip(patches.sources, systems, strict=True):
        if (known.crs, known.transform, known.shape) == (
            source.crs,
            source.transform,
            source.shape,
        ):
            return crs or None
    return None if source.is_volume else metric_system_near(source, patches.sources, systems)


def nearest(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The distance of each of `one` to the nearest of `other`: `M × D` and `N × D` to `M`."""
    from scipy.spatial import KDTree

    return KDTree(other).query(one)[0]


def _grid(shape: tuple[int, ...], step: float) -> np.ndarray:
    """The middles of cells of `step` pixels (or of the whole length, where that is shorter)."""
    axes = []
    for length in shape:
        cells = max(1, round(length / step))
        axes.append(((np.arange(cells) + 0.5) * length / cells).astype(np.int64))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shape))
