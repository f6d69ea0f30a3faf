"""Structures of the cube: faults in swarms, a salt dome, and slides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.synthetic.draws import Draws, Grid


@dataclass(frozen=True)
class Fault:
    """One normal fault, in voxels.

    Displacement has elliptical contours on the plane and dies out away from it (Barnett et al.
    1987, "Displacement geometry in the volume containing a single normal fault", AAPG Bulletin 71):
    the hanging wall sinks by half the throw, and the footwall rises by the other half.

    Attributes:
        inline, crossline, sample: centre of the plane.
        strike: angle in radians from the crossline axis to the line of the plane on a time slice.
        lean: horizontal distance per sample of depth, the cotangent of the dip; its sign is the
            side to which the plane dips.
        bend: horizontal displacement of the plane at its ends along the strike, by curvature.
        length, height: half axes of the tip ellipse along strike and depth.
        reach: distance from the plane beyond which there is no displacement.
        zone: distance from the plane within which horizons count as broken.
        throw: throw at the centre.
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
        """The crosslines and samples of `grid` that the fault can affect; slices may be empty."""
        along, across = self._rotated(grid.inline[:, None], grid.crossline)
        widest = max(self.reach, self.zone) + abs(self.lean) * self.height + abs(self.bend)
        near = ((np.abs(along) < self.length) & (np.abs(across) < widest)).any(axis=0)
        deep = np.abs(grid.sample - self.sample) < self.height
        return _extent(near), _extent(deep)

    def _rotated(self, inline: np.ndarray, crossline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance from the centre along and across the strike."""
        sine, cosine = np.float32(np.sin(self.strike)), np.float32(np.cos(self.strike))
        di, dx = inline - np.float32(self.inline), crossline - np.float32(self.crossline)
        return sine * di + cosine * dx, cosine * di - sine * dx

    def at(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Distance from the plane, positive in the hanging wall, and throw there; float32.

        The distance is horizontal, along the dip.
        """
        along, across = self._rotated(grid.inline[:, None], grid.crossline)
        along = along / np.float32(self.length)
        down = (grid.sample - np.float32(self.sample)) / np.float32(self.height)
        plane = np.float32(self.lean * self.height) * down
        side = np.float32(np.sign(self.lean))
        distance = side * ((across - np.float32(self.bend) * along**2)[..., None] - plane)
        throw = np.float32(self.throw) * np.clip(1 - (along**2)[..., None] - down**2, 0, None)
        return distance, throw


def displace(depth: np.ndarray, fault: Fault, grid: Grid) -> np.ndarray:
    """Undo the displacement of a fault in `depth`, in place, and return where horizons are broken.

    Args:
        depth: stratigraphic depth on the grid, in samples, float32.
        grid: window of the fault.

    Returns:
        float32 from 0 to 1, of the grid's shape: 1 at a plane with much throw, 0 where horizons are
        intact.
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
    """Parallel faults with similar strike, most of which dip to one side.

    Args:
        centre: inline, crossline and sample of its centre.
        shape: shape of the cube; the swarm scales with it.
    """
    rng = draws.generator(name)
    inlines, crosslines, samples = shape
    wide = (inlines * crosslines) ** 0.5
    strike = np.pi / 2 + rng.uniform(-0.75, 0.75)
    main = rng.choice([-1.0, 1.0])
    bend = 0.05 * wide * rng.normal()
    # Throws grow less than the cube, so that small cubes have visible throws too.
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
    """The smallest slice that contains all true values of a one-dimensional mask."""
    found = np.flatnonzero(mask)
    return slice(found[0], found[-1] + 1) if len(found) else slice(0, 0)


@dataclass(frozen=True)
class Salt:
    """A salt dome that pierces the layers, in voxels.

    Attributes:
        inline, crossline: position of its axis.
        radii: half axes of its section, along inlines and crosslines.
        top: sample of its highest point.
        cap: height of the rounded top, above a pillar.
        lift: uplift of the layers at its flank in samples.
    """

    inline: float
    crossline: float
    radii: tuple[float, float]
    top: float
    cap: float
    lift: float

    @classmethod
    def draw(cls, draws: Draws, centre: tuple[float, float], shape: tuple[int, int, int]) -> Salt:
        """A random dome at `centre`; its size scales with the `shape` of the cube."""
        rng = draws.generator("salt")
        inlines, crosslines, samples = shape
        return cls(
            *centre,
            radii=(inlines * rng.uniform(0.2, 0.24), crosslines * rng.uniform(0.19, 0.23)),
            top=samples * rng.uniform(0.18, 0.27),
            cap=samples * rng.uniform(0.13, 0.19),
            lift=samples * rng.uniform(0.12, 0.17),
        )

    @property
    def radius(self) -> float:
        """The mean radius."""
        return (self.radii[0] * self.radii[1]) ** 0.5

    def nearness(self, grid: Grid, draws: Draws) -> np.ndarray:
        """Distance from the axis, 1 at the surface of the dome; float32, of the grid's shape."""
        di = (grid.inline[:, None] - np.float32(self.inline)) / np.float32(self.radii[0])
        dx = (grid.crossline - np.float32(self.crossline)) / np.float32(self.radii[1])
        below = (grid.sample - np.float32(self.top)) / np.float32(self.cap)
        wide = grid.field(draws, "salt flank", (0.9 * self.radius, 0.9 * self.radius, self.cap))
        fine = 0.25 * self.radius
        rough = grid.field(draws, "salt surface", (fine, fine, 0.3 * self.cap))
        # The pillar is narrow below the top and wider at its foot.
        width = 1 - 0.12 * np.sin(np.clip(below - 0.7, 0, None) * np.float32(0.9))
        radial = np.hypot(di, dx)[..., None] / width
        radial *= 1 + np.float32(0.1) * wide + np.float32(0.025) * rough
        return np.hypot(radial, np.clip(1 - below, 0, None))

    def uplift(self, nearness: np.ndarray) -> np.ndarray:
        """Uplift of the layers in samples: upturned at the flanks, with a rim syncline.

        The syncline lies where salt was withdrawn (Trusheim 1960, "Mechanism of salt migration in
        northern Germany", AAPG Bulletin 44).
        """
        away = np.clip(nearness - 1, 0, None)
        drag = np.exp(away * np.float32(-1 / 0.45))
        rim = np.exp(-(((away - np.float32(1.1)) / np.float32(0.55)) ** 2))
        return np.float32(self.lift) * (drag - np.float32(0.25) * rim)


@dataclass(frozen=True)
class Slide:
    """A mass-transport deposit: a lens between two horizons, broken into blocks.

    Attributes:
        inline, crossline: its centre.
        radii: half axes of its outline, along inlines and crosslines.
        depth: stratigraphic depth of its centre in samples.
        thickness: half its thickness at the centre.
        block: mean size of a block along inlines, crosslines and depth.
        jump: maximum vertical displacement of a block in samples.
    """

    name: str
    inline: float
    crossline: float
    radii: tuple[float, float]
    depth: float
    thickness: float
    block: tuple[float, float, float]
    jump: float

    @classmethod
    def draw(
        cls,
        draws: Draws,
        name: str,
        centre: tuple[float, float],
        depth: float,
        shape: tuple[int, int, int],
    ) -> Slide:
        """A random slide at `centre` and a stratigraphic `depth`; its size scales with `shape`."""
        rng = draws.generator(name)
        inlines, crosslines, samples = shape
        wide = (inlines * crosslines) ** 0.5
        side = min(26.0, 0.16 * wide)
        return cls(
            name,
            *centre,
            radii=(inlines * rng.uniform(0.36, 0.46), crosslines * rng.uniform(0.33, 0.43)),
            depth=depth,
            thickness=samples * rng.uniform(0.1, 0.125),
            block=(side, side, min(16.0, 0.07 * samples)),
            jump=min(40.0, 0.08 * samples),
        )

    def inside(self, depth: np.ndarray, grid: Grid, draws: Draws) -> np.ndarray:
        """Distance from the nearer of top and base in samples, negative outside; float32.

        Args:
            depth: stratigraphic depth on the grid.
        """
        scale = 0.5 * (self.radii[0] * self.radii[1]) ** 0.5
        di = (grid.inline[:, None] - np.float32(self.inline)) / np.float32(self.radii[0])
        dx = (grid.crossline - np.float32(self.crossline)) / np.float32(self.radii[1])
        outline = (di**2 + dx**2) * np.exp(np.float32(0.2) * grid.map(draws, self.name, scale))
        half = np.float32(self.thickness) * np.sqrt(np.clip(1 - outline, 0, None))
        uneven = np.exp(np.float32(0.15) * grid.map(draws, self.name + " base", 0.5 * scale))
        away = depth - np.float32(self.depth)
        away *= np.where(away > 0, uneven[..., None], np.float32(1))
        # Beyond the outline the distance is a large negative number.
        half = np.where(outline < 1, half, np.float32(-99))
        return half[..., None] - np.abs(away)

    def tumble(
        self, depth: np.ndarray, where: tuple[np.ndarray, ...], grid: Grid, draws: Draws
    ) -> np.ndarray:
        """The original depth of the rock at some voxels, float32.

        Blocks of a warped lattice are shifted and tilted at random.

        Args:
            depth: stratigraphic depth of the voxels before the slide.
            where: indices of the voxels in the grid.
        """
        scale = tuple(1.1 * side for side in self.block)
        warp = [
            grid.field(draws, f"{self.name} warp {axis}", scale)[where]
            for axis in ("inline", "crossline", "depth")
        ]
        place = (grid.inline[where[0]], grid.crossline[where[1]], depth)
        cells, parts = [], []
        for axis, side, moved in zip(place, self.block, warp, strict=True):
            t = axis / np.float32(side) + np.float32(0.35) * moved
            cell = np.floor(t)
            cells.append(cell.astype(np.int64))
            parts.append(t - cell - np.float32(0.5))

        def chance(what: str) -> np.ndarray:
            return (2 * draws.uniform(f"{self.name} {what}", *cells) - 1).astype(np.float32)

        tilt = np.float32(1.3 * self.block[2])
        moved = depth + np.float32(self.jump) * chance("jump")
        moved += tilt * (chance("tilt inline") * parts[0] + chance("tilt crossline") * parts[1])
        return moved + np.float32(0.3 * self.block[2]) * warp[0]
