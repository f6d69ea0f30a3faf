"""The waterways of the delta: rivers that fork on their way to the sea, and tidal creeks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from outcrop.synthetic.coast.frame import Frame, shore
from outcrop.synthetic.draws import Draws

_SPACING = 1500.0  # least metres of coast for each river
_STEP = 6.0  # metres between the points of a waterway
_SOUTH, _NORTH = 0.0, np.pi


@dataclass(frozen=True)
class Waterways:
    """Points every few metres along all waterways near a frame.

    Attributes:
        x, y: metres, N points.
        width: metres.
        heading: radians from south, counter-clockwise, in the direction of the walk.
        forks: K × 2, where rivers part; metres.
    """

    x: np.ndarray
    y: np.ndarray
    width: np.ndarray
    heading: np.ndarray
    forks: np.ndarray

    def nearest(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance in metres to the bank (negative in the water) and heading of the waterway."""
        tree = cKDTree(np.column_stack([self.x, self.y]))
        distance, index = tree.query(np.column_stack([x.ravel(), y.ravel()]))
        bank = distance - self.width[index] / 2
        return bank.reshape(x.shape), self.heading[index].reshape(x.shape)


def waterways(frame: Frame, draws: Draws) -> Waterways:
    """The waterways of every river that may reach into the frame."""
    spacing = max(_SPACING, 0.45 * frame.depth)
    first, last = np.floor(frame.x[[0, -1]] / spacing).astype(int)
    rivers = [_river(k, spacing, frame.depth, draws) for k in range(first - 1, last + 2)]
    points = np.concatenate([reach for reaches, _ in rivers for reach in reaches], axis=1)
    x, y, width, heading = points
    return Waterways(x, y, width, heading, forks=np.array([fork for _, fork in rivers]))


def _river(
    k: int, spacing: float, depth: float, draws: Draws
) -> tuple[list[np.ndarray], np.ndarray]:
    """Reaches of river `k`, and the place where it forks."""
    rng = draws.generator("river", k)
    x = (k + rng.uniform(0.35, 0.65)) * spacing
    width = rng.uniform(45, 80)
    source = (x, float(shore(x, draws)) + 1.4 * depth)
    trunk = _reach(rng, source, _SOUTH, 1.6 * depth, (width, width))
    trunk = trunk[:, _inland(trunk, draws) > depth * rng.uniform(0.38, 0.5)]
    fork = trunk[:2, -1]
    arms = []
    for side in (-1, 1):
        widths = (width * rng.uniform(0.55, 0.8), width * rng.uniform(1.0, 1.8))
        arm = _reach(rng, fork, side * rng.uniform(0.25, 0.6), depth, widths)
        arms.append(arm[:, _inland(arm, draws) > -0.1 * depth])
    creeks = [creek for arm in arms for creek in _creeks(rng, arm, depth, draws)]
    for mouth in np.arange((k + 0.05) * spacing, (k + 1) * spacing, 210.0):
        start = (mouth + rng.uniform(-60, 60), float(shore(mouth, draws)) - 0.02 * depth)
        length = depth * rng.uniform(0.08, 0.22)
        creek = _reach(rng, start, _NORTH + rng.normal(0, 0.3), length, (26, 7))
        creeks += [creek, *_creeks(rng, creek, depth, draws)]
    return [trunk, *arms, *creeks], fork


def _creeks(
    rng: np.random.Generator, parent: np.ndarray, depth: float, draws: Draws
) -> list[np.ndarray]:
    """Creeks that leave `parent` on either side within the tidal belt."""
    inland = _inland(parent, draws)
    tidal = np.flatnonzero((inland > 0) & (inland < 0.24 * depth))
    creeks = []
    for x, y, width, heading in parent.T[tidal[:: int(rng.uniform(110, 170) / _STEP)]]:
        turn = rng.choice([-1, 1]) * rng.uniform(0.7, 1.3)
        wide = min(0.6 * width, 20.0)
        creeks.append(_reach(rng, (x, y), heading + turn, rng.uniform(5, 15) * wide, (wide, 6)))
    return creeks


def _inland(reach: np.ndarray, draws: Draws) -> np.ndarray:
    """Metres from the smoothed shore, negative in the sea."""
    return reach[1] - shore(reach[0], draws)


def _reach(
    rng: np.random.Generator,
    start: tuple[float, float] | np.ndarray,
    heading: float,
    length: float,
    width: tuple[float, float],
) -> np.ndarray:
    """A meandering reach that narrows or widens from `width[0]` to `width[1]`.

    A sine-generated curve (Langbein and Leopold 1966, USGS Professional Paper 422-H, equation 2),
    its wavelength 11 to 16 channel widths, with a slower wave upon it.

    Returns:
        4 × N: x, y, width, heading.
    """
    s = np.arange(0, length, _STEP)
    wave = max(sum(width) / 2, 15) * rng.uniform(11, 16)
    theta = heading + rng.uniform(0.3, 0.8) * np.sin(2 * np.pi * (s / wave + rng.uniform()))
    theta += rng.uniform(0.1, 0.4) * np.sin(2 * np.pi * (s / (3.7 * wave) + rng.uniform()))
    x = start[0] + np.cumsum(_STEP * np.sin(theta))
    y = start[1] - np.cumsum(_STEP * np.cos(theta))
    return np.stack([x, y, np.linspace(*width, len(s)), theta])
