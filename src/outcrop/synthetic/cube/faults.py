"""Faults in swarms: planes with dip and strike, throw that dies out towards a tip line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.synthetic.cube.grid import Grid
from outcrop.synthetic.draws import Draws


@dataclass(frozen=True)
class Fault:
    """One normal fault, in voxels.

    Displacement has elliptical contours on the plane and dies out away from it (Barnett et al.
    1987, "Displacement geometry in the volume containing a single normal fault", AAPG Bulletin 71):
    the hanging wall sinks by half the throw, and the footwall rises by the other half.

    Attributes:
        inline, crossline, sample: the centre of the plane.
        strike: radians from the crossline axis to the line that the plane draws on a time slice.
        lean: horizontal distance from the centre line for each sample of depth: the cotangent of
            the dip; its sign, the side to which the plane dips.
        bend: horizontal distance by which the plane curves at its ends along the strike.
        length, height: half axes of the tip ellipse along strike and depth.
        reach: distance from the plane at which nothing is displaced any more.
        zone: distance from the plane up to which horizons are called broken.
        throw: at the centre.
    """

    inline: float
    crossline: float
    sample: float
    strike: float
    lean: float
    bend: float
    length: float
    height: float
    reach: float
    zone: float
    throw: float

    def window(self, grid: Grid) -> tuple[slice, slice]:
        """The crosslines and samples of `grid` that the fault can touch; slices may be empty."""
        along, across = self._turned(grid.inline[:, None], grid.crossline)
        widest = max(self.reach, self.zone) + abs(self.lean) * self.height + abs(self.bend)
        near = ((np.abs(along) < self.length) & (np.abs(across) < widest)).any(axis=0)
        deep = np.abs(grid.sample - self.sample) < self.height
        return _extent(near), _extent(deep)

    def _turned(self, inline: np.ndarray, crossline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance from the centre along and across the strike."""
        sine, cosine = np.float32(np.sin(self.strike)), np.float32(np.cos(self.strike))
        di, dx = inline - np.float32(self.inline), crossline - np.float32(self.crossline)
        return sine * di + cosine * dx, cosine * di - sine * dx

    def at(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Distance from the plane, positive in the hanging wall, and throw there; float32.

        The distance is horizontal, along the dip.
        """
        along, across = self._turned(grid.inline[:, None], grid.crossline)
        along = along / np.float32(self.length)
        down = (grid.sample - np.float32(self.sample)) / np.float32(self.height)
        plane = np.float32(self.lean * self.height) * down
        side = np.float32(np.sign(self.lean))
        distance = side * ((across - np.float32(self.bend) * along**2)[..., None] - plane)
        throw = np.float32(self.throw) * np.clip(1 - (along**2)[..., None] - down**2, 0, None)
        return distance, throw


def displace(depth: np.ndarray, fault: Fault, grid: Grid) -> np.ndarray:
    """Undo a fault's movement in `depth`, in place, and tell where it has broken the horizons.

    Args:
        depth: stratigraphic depth on the grid, in samples, float32.
        fault: whose window the grid is.
        grid: where.

    Returns:
        float32 from 0 to 1, of the grid's shape: 1 at a plane with much throw, 0 where nothing is
        broken.
    """
    distance, throw = fault.at(grid)
    away = np.abs(distance)
    fading = np.clip(1 - away / np.float32(fault.reach), 0, None)
    depth -= np.copysign(throw, distance) * fading * fading / 2
    near = np.clip(2 - 2 * away / np.float32(fault.zone), 0, 1)
    return near * np.clip(throw / np.float32(0.6 * fault.throw), 0, 1)


def swarm(
    draws: Draws, name: str, centre: tuple[float, float, float], shape: tuple[int, int, int]
) -> list[Fault]:
    """Faults side by side with about one strike, most of them dipping to one side.

    Args:
        draws: the cube's chance.
        name: of the swarm.
        centre: inline, crossline and sample of its middle.
        shape: of the cube; the swarm scales with it.
    """
    rng = draws.generator(name)
    inlines, crosslines, samples = shape
    wide = (inlines * crosslines) ** 0.5
    strike = np.pi / 2 + rng.uniform(-0.75, 0.75)
    main = rng.choice([-1.0, 1.0])
    bend = 0.05 * wide * rng.normal()
    # Throws grow less than cubes do, so that small cubes have them too.
    throw = 17 * (samples / 900) ** 0.5
    faults = []
    for place in np.arange(-2.5, 3):
        offset = wide * (0.05 * place + rng.uniform(-0.012, 0.012))
        along = 0.06 * wide * rng.normal()
        side = main if rng.random() < 0.75 else -main
        faults.append(
            Fault(
                inline=centre[0] + offset * np.cos(strike) + along * np.sin(strike),
                crossline=centre[1] - offset * np.sin(strike) + along * np.cos(strike),
                sample=centre[2] + 0.05 * samples * rng.normal(),
                strike=strike + 0.06 * rng.normal(),
                lean=side * rng.uniform(0.35, 0.75) * wide / samples,
                bend=bend,
                length=wide * rng.uniform(0.35, 0.5),
                height=samples * rng.uniform(0.36, 0.5),
                reach=wide * rng.uniform(0.1, 0.22),
                zone=0.05 * wide,
                throw=throw * np.exp(rng.normal(0, 0.3)),
            )
        )
    return faults


def _extent(mask: np.ndarray) -> slice:
    """The smallest slice that holds all that is true in a one-dimensional mask."""
    found = np.flatnonzero(mask)
    return slice(found[0], found[-1] + 1) if len(found) else slice(0, 0)
