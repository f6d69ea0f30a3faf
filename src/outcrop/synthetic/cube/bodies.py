"""Bodies without orderly layers: a salt dome, and slides that have come down a slope."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.synthetic.cube.grid import Grid
from outcrop.synthetic.draws import Draws


@dataclass(frozen=True)
class Salt:
    """A dome that pierces the layers, in voxels.

    Attributes:
        inline, crossline: its axis.
        radii: half axes of its section, along inlines and crosslines.
        top: sample of its highest point.
        cap: height of the rounded head; below it the dome is a pillar.
        lift: samples by which it has dragged the layers up at its flank.
    """

    inline: float
    crossline: float
    radii: tuple[float, float]
    top: float
    cap: float
    lift: float

    @classmethod
    def draw(cls, draws: Draws, centre: tuple[float, float], shape: tuple[int, int, int]) -> Salt:
        """A dome about `centre`; its size follows the cube's `shape`."""
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
        """0 on the axis, 1 on the surface, more outside; float32, of the grid's shape."""
        di = (grid.inline[:, None] - np.float32(self.inline)) / np.float32(self.radii[0])
        dx = (grid.crossline - np.float32(self.crossline)) / np.float32(self.radii[1])
        below = (grid.sample - np.float32(self.top)) / np.float32(self.cap)
        wide = grid.field(draws, "salt flank", (0.9 * self.radius, 0.9 * self.radius, self.cap))
        fine = 0.25 * self.radius
        rough = grid.field(draws, "salt surface", (fine, fine, 0.3 * self.cap))
        # A waist below the head, and a wider foot.
        width = 1 - 0.12 * np.sin(np.clip(below - 0.7, 0, None) * np.float32(0.9))
        radial = np.hypot(di, dx)[..., None] / width
        radial *= 1 + np.float32(0.1) * wide + np.float32(0.025) * rough
        return np.hypot(radial, np.clip(1 - below, 0, None))

    def uplift(self, nearness: np.ndarray) -> np.ndarray:
        """Samples by which layers stand higher than far away: upturned flanks and a rim syncline.

        The syncline lies where salt has flowed away (Trusheim 1960, "Mechanism of salt migration
        in northern Germany", AAPG Bulletin 44).
        """
        away = np.clip(nearness - 1, 0, None)
        drag = np.exp(away * np.float32(-1 / 0.45))
        rim = np.exp(-(((away - np.float32(1.1)) / np.float32(0.55)) ** 2))
        return np.float32(self.lift) * (drag - np.float32(0.25) * rim)


@dataclass(frozen=True)
class Slide:
    """A mass-transport deposit: a lens between two horizons, broken into blocks.

    Attributes:
        name: of the slide.
        inline, crossline: its middle.
        radii: half axes of its outline, along inlines and crosslines.
        depth: stratigraphic depth of its middle, in samples.
        thickness: half of it, in the middle.
        block: mean size of a block along inlines, crosslines and depth.
        jump: samples by which a block may have been moved up or down.
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
        """A slide about `centre` at a stratigraphic `depth`; its size follows the `shape`."""
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
        """Samples from the nearer of its top and base, negative outside; float32.

        Args:
            depth: stratigraphic depth on the grid.
            grid: where.
            draws: the cube's chance.
        """
        scale = 0.5 * (self.radii[0] * self.radii[1]) ** 0.5
        di = (grid.inline[:, None] - np.float32(self.inline)) / np.float32(self.radii[0])
        dx = (grid.crossline - np.float32(self.crossline)) / np.float32(self.radii[1])
        outline = (di**2 + dx**2) * np.exp(np.float32(0.2) * grid.map(draws, self.name, scale))
        half = np.float32(self.thickness) * np.sqrt(np.clip(1 - outline, 0, None))
        uneven = np.exp(np.float32(0.15) * grid.map(draws, self.name + " base", 0.5 * scale))
        away = depth - np.float32(self.depth)
        away *= np.where(away > 0, uneven[..., None], np.float32(1))
        # Beyond the outline, well outside.
        half = np.where(outline < 1, half, np.float32(-99))
        return half[..., None] - np.abs(away)

    def tumble(
        self, depth: np.ndarray, where: tuple[np.ndarray, ...], grid: Grid, draws: Draws
    ) -> np.ndarray:
        """The depth that the rock at some voxels came from, float32.

        Blocks of a warped lattice, each shifted and tilted by chance.

        Args:
            depth: stratigraphic depth of the voxels before the slide.
            where: indices of the voxels in the grid.
            grid: of the voxels.
            draws: the cube's chance.
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
            number = 2 * draws.uniform(f"{self.name} {what}", *cells) - 1
            return number.astype(np.float32)

        tilt = np.float32(1.3 * self.block[2])
        moved = depth + np.float32(self.jump) * chance("jump")
        moved += tilt * (chance("tilt inline") * parts[0] + chance("tilt crossline") * parts[1])
        return moved + np.float32(0.3 * self.block[2]) * warp[0]
