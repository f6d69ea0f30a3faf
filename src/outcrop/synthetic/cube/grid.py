"""Where in the cube one is working, and smooth random fields over that place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outcrop.synthetic.draws import POWER, Draws, spline_weights


@dataclass(frozen=True)
class Grid:
    """A box of voxels, which may reach beyond the cube.

    Attributes:
        inline, crossline, sample: float32, the coordinates along each axis, in voxels.
    """

    inline: np.ndarray
    crossline: np.ndarray
    sample: np.ndarray

    @classmethod
    def of(cls, inlines: range, crosslines: range, samples: range) -> Grid:
        """The grid of three ranges of indices."""
        return cls(*(np.array(axis, dtype=np.float32) for axis in (inlines, crosslines, samples)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of inlines, crosslines and samples."""
        return len(self.inline), len(self.crossline), len(self.sample)

    @property
    def open(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The coordinates, shaped to be broadcast against one another."""
        return self.inline[:, None, None], self.crossline[:, None], self.sample

    def part(self, crosslines: slice, samples: slice) -> Grid:
        """The same inlines, and some of the crosslines and samples."""
        return Grid(self.inline, self.crossline[crosslines], self.sample[samples])

    def field(self, draws: Draws, name: str, scale: Sequence[float]) -> np.ndarray:
        """A smooth random field, float32, of the grid's shape: mean 0, variance 1.

        Normal numbers on a lattice of spacing `scale`, in voxels along the three axes, joined by
        cubic B-splines; the third dimension to `Draws.field`. Grids that touch fit together.
        """
        axes = zip((self.inline, self.crossline, self.sample), scale, strict=True)
        weights = [spline_weights((axis / step).astype(np.float64)) for axis, step in axes]
        rows, columns, layers = (part.astype(np.float32) for part, _ in weights)
        i, j, k = (index for _, index in weights)
        lattice = draws.normal(name, i[:, None, None], j[:, None], k).astype(np.float32)
        lattice /= POWER**1.5
        part = (rows @ lattice.reshape(len(i), -1)).reshape(-1, len(j), len(k))
        return (columns @ part) @ layers.T

    def map(self, draws: Draws, name: str, scale: float) -> np.ndarray:
        """A smooth random map, float32, inlines × crosslines: mean 0, variance 1."""
        return draws.field(name, self.crossline, self.inline, scale).astype(np.float32)
