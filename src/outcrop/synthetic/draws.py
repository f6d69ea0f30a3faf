"""Random numbers and smooth random fields that depend on the place.

A number depends only on the seed, a name and integer indices. So any window of the ground can be
computed alone, and adjacent windows fit together.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.special import ndtri

_KERNEL = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
POWER = 151 / 315
"""The mean over a lattice cell of the sum of the squared cubic B-spline weights."""


@dataclass(frozen=True)
class Draws:
    """Random numbers by name and place.

    Attributes:
        seed: random seed; numbers of different seeds are independent.
    """

    seed: int

    def generator(self, name: str, *indices: int) -> np.random.Generator:
        """A NumPy generator for numbers that are drawn in sequence."""
        words = (self.seed, zlib.crc32(name.encode()), *(index % 2**32 for index in indices))
        return np.random.default_rng(words)

    def uniform(self, name: str, *indices: np.ndarray | int) -> np.ndarray:
        """Float64 in [0, 1) for integer `indices`, broadcast together.

        The mixing function is that of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable
        pseudorandom number generators", figure 16).

        >>> Draws(1).uniform("field", np.array([0, 1]), 5) == Draws(1).uniform("field", [0, 1], 5)
        array([ True,  True])
        """
        shape = np.broadcast_shapes(*map(np.shape, indices))
        state = np.array([zlib.crc32(name.encode())], dtype=np.uint64)
        for index in (self.seed, *indices):
            state = _mix(state + np.asarray(index, dtype=np.int64).astype(np.uint64))
        return ((state >> np.uint64(11)) * 2.0**-53).reshape(shape)

    def normal(self, name: str, *indices: np.ndarray | int) -> np.ndarray:
        """Standard normal numbers for integer `indices`, broadcast together."""
        return ndtri(self.uniform(name, *indices) + 2.0**-54)

    def field(self, name: str, x: np.ndarray, y: np.ndarray, scale: float) -> np.ndarray:
        """A smooth random field on the grid of `y` (rows) and `x` (columns): mean 0, variance 1.

        Normal numbers on a lattice of spacing `scale`, in the unit of `x` and `y`, interpolated by
        cubic B-splines. Points more than four spacings apart are independent.
        """
        rows, i = spline_weights(y / scale)
        columns, j = spline_weights(x / scale)
        return rows @ self.normal(name, i[:, None], j) @ columns.T / POWER

    def cells(
        self, name: str, x: np.ndarray, y: np.ndarray, spacing: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Voronoi cells around one nucleus in each square of a lattice.

        Args:
            name: name of the set of cells.
            x, y: points, of one shape.
            spacing: side of the squares, in the unit of `x` and `y`.

        Returns:
            For each point: the indices i and j of its cell's square, x and y of the nucleus, and
            the distance of the point to the border of the cell (exact at the border).
        """
        i0, j0 = np.floor(y / spacing).astype(int), np.floor(x / spacing).astype(int)
        near = np.full((5, *x.shape), np.inf)
        second = np.full(x.shape, np.inf)
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                i, j = i0 + di, j0 + dj
                nx = (j + 0.15 + 0.7 * self.uniform(name + " x", i, j)) * spacing
                ny = (i + 0.15 + 0.7 * self.uniform(name + " y", i, j)) * spacing
                here = np.stack([np.hypot(x - nx, y - ny), i, j, nx, ny])
                closer = here[0] < near[0]
                second = np.where(closer, near[0], np.minimum(second, here[0]))
                near = np.where(closer, here, near)
        distance, i, j, nx, ny = near
        return i.astype(int), j.astype(int), nx, ny, (second - distance) / 2


def spline_weights(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cubic B-spline weights of the lattice points around each of `t`, and their indices."""
    index = np.arange(np.floor(t.min()) - 1, np.floor(t.max()) + 3)
    return np.nan_to_num(_KERNEL(t[:, None] - index)), index.astype(int)


def _mix(state: np.ndarray) -> np.ndarray:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@dataclass(frozen=True)
class Grid:
    """A box of voxels, which may extend beyond the cube.

    Attributes:
        inline, crossline, sample: float32, coordinates along each axis in voxels.
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
        """The coordinates, in shapes for broadcasting."""
        return self.inline[:, None, None], self.crossline[:, None], self.sample

    def part(self, crosslines: slice, samples: slice) -> Grid:
        """The same inlines, and some of the crosslines and samples."""
        return Grid(self.inline, self.crossline[crosslines], self.sample[samples])

    def field(self, draws: Draws, name: str, scale: Sequence[float]) -> np.ndarray:
        """A smooth random field, float32, of the grid's shape: mean 0, variance 1.

        As `Draws.field` in three dimensions: normal numbers on a lattice of spacing `scale`, in
        voxels along the three axes, interpolated by cubic B-splines. Adjacent grids fit together.
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
