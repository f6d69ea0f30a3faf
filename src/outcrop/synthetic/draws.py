"""Chance that belongs to a place: random numbers and fields over an endless ground.

A number depends on the seed, a name and integer indices, and on nothing else. So any window of the
ground can be made alone, and windows that touch fit together.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.special import ndtri

_KERNEL = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
POWER = 151 / 315
"""The mean over a cell of the sum of the squared cubic B-spline weights."""


@dataclass(frozen=True)
class Draws:
    """Random numbers by name and place.

    Attributes:
        seed: worlds of different seeds have nothing in common.
    """

    seed: int

    def generator(self, name: str, *indices: int) -> np.random.Generator:
        """A NumPy generator for things made one after the other."""
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

        Normal numbers on a lattice of spacing `scale`, in the unit of `x` and `y`, joined by cubic
        B-splines. Points more than four spacings apart are independent.
        """
        rows, i = spline_weights(y / scale)
        columns, j = spline_weights(x / scale)
        return rows @ self.normal(name, i[:, None], j) @ columns.T / POWER

    def cells(
        self, name: str, x: np.ndarray, y: np.ndarray, spacing: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Voronoi cells around one nucleus in each square of a lattice.

        Args:
            name: which set of cells.
            x, y: points, of one shape.
            spacing: side of the lattice's squares, in the unit of `x` and `y`.

        Returns:
            Of the cell that each point lies in: the square's indices i and j, the nucleus' x and y;
            and the point's distance to the border with the next cell (exact at the border).
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
