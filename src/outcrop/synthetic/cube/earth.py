"""The ground under the survey: layers, what changed them, and the class of every voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from outcrop.synthetic.cube.bodies import Fault, Salt, Slide, displace, swarm
from outcrop.synthetic.draws import Draws, Grid

CLASSES = ("parallel", "chaotic", "faulted", "salt")
PARALLEL, CHAOTIC, FAULTED, SALT = range(1, 5)
_SALT_IMPEDANCE = 0.55  # above the layers' mean, in natural logarithm
_STEPS = 8  # entries of the log per sample
_BLUR = 1.5  # samples: finer detail would alias


@dataclass(frozen=True)
class Strata:
    """Undisturbed layers with their acoustic impedance, as in a well log.

    Attributes:
        top: stratigraphic depth of the first entry in samples.
        level: float32, natural logarithm of the impedance, eight entries per sample of
            stratigraphic depth; its mean is 0 and it varies by about 0.1.
        change: float32, as `level`: change of the impedance of each layer with facies.
    """

    top: float
    level: np.ndarray
    change: np.ndarray

    @classmethod
    def draw(cls, draws: Draws, top: float, bottom: float) -> Strata:
        """Random units of about 60 samples, each with its mean layer thickness and contrast.

        Within a unit, thicknesses have a gamma distribution, and hard and soft layers tend to
        alternate. So the reflectivity has little energy at low frequencies, as in wells (Walden and
        Hosken 1985, "An investigation of the spectral properties of primary reflection
        coefficients").
        """
        rng = draws.generator("log")
        bounds, levels, changes = [top], [], []
        level = 0.0
        while bounds[-1] < bottom:
            end = bounds[-1] + rng.gamma(4, 15)
            thickness = np.exp(rng.normal(np.log(5.5), 0.35))
            contrast = 0.07 * np.exp(rng.normal(0, 0.25))
            while bounds[-1] < end:
                bounds.append(bounds[-1] + 1 + rng.gamma(2, thickness / 2))
                level = -0.3 * level + contrast * rng.normal()
                levels.append(level)
                changes.append(0.6 * contrast * rng.normal())
        depths = np.arange(top, bottom, 1 / _STEPS)
        layer = np.searchsorted(bounds, depths, side="right") - 1
        smooth = (
            uniform_filter1d(np.array(values, dtype=np.float32)[layer], int(_BLUR * _STEPS))
            for values in (levels, changes)
        )
        return cls(top, *smooth)

    def impedance(self, depth: np.ndarray, facies: np.ndarray) -> np.ndarray:
        """Natural logarithm of the impedance, float32.

        Args:
            depth: stratigraphic depth in samples, float32; beyond the ends the last layer is used.
            facies: difference of the rock from that of the log, about -1 to 1, float32.
        """
        entry = ((depth - np.float32(self.top)) * np.float32(_STEPS)).astype(np.int32)
        np.clip(entry, 0, len(self.level) - 1, out=entry)
        return self.level[entry] + facies * self.change[entry]


@dataclass(frozen=True)
class Earth:
    """Layers, and the events that changed them, oldest first: slides, folds, faults, salt.

    Attributes:
        shape: inlines, crosslines and samples of the survey.
    """

    shape: tuple[int, int, int]
    draws: Draws
    strata: Strata
    slides: tuple[Slide, ...]
    faults: tuple[Fault, ...]
    salt: Salt

    @classmethod
    def draw(cls, shape: tuple[int, int, int], seed: int) -> Earth:
        """A random earth in which bodies are apart, so that each class has a share."""
        draws = Draws(seed)
        rng = draws.generator("layout")
        inlines, crosslines, samples = shape
        bearing = rng.uniform(0, 2 * np.pi)

        def place(turn: float, away: float) -> tuple[float, float]:
            angle = bearing + turn
            return (
                inlines * (0.5 + away * np.sin(angle)),
                crosslines * (0.5 + away * np.cos(angle)),
            )

        opposite = np.pi + rng.uniform(-0.3, 0.3)
        aside = opposite + rng.choice([-1, 1]) * rng.uniform(1.2, 1.6)
        swarms = (
            swarm(draws, "swarm 1", (*place(opposite, 0.2), 0.6 * samples), shape),
            swarm(draws, "swarm 2", (*place(aside, 0.28), 0.45 * samples), shape),
        )
        turns = opposite + rng.uniform(-1, 1, 2)
        depths = samples * rng.uniform((0.25, 0.7), (0.35, 0.8))
        slides = tuple(
            Slide.draw(draws, f"slide {k}", place(turns[k], 0.22), depths[k], shape)
            for k in range(2)
        )
        return cls(
            shape,
            draws,
            Strata.draw(draws, -0.5 * samples, 1.5 * samples),
            slides,
            faults=tuple(fault for faults in swarms for fault in faults),
            salt=Salt.draw(draws, place(0, 0.2), shape),
        )

    @property
    def margin(self) -> float:
        """Voxels without a class on each side of a contact: 3, fewer in small cubes."""
        return min(3.0, 0.012 * (self.shape[0] * self.shape[1]) ** 0.5)

    def voxels(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Natural logarithm of the impedance, float32, and class, uint8, of each voxel."""
        inlines, crosslines, _ = self.shape
        depth = self._folds(grid)
        nearness = self.salt.nearness(grid, self.draws)
        depth += self.salt.uplift(nearness)
        classes = self._break(depth, grid)
        calm = np.ones(grid.shape, dtype=np.float32)
        for slide in self.slides:
            inside = slide.inside(depth, grid, self.draws)
            where = np.nonzero(inside > 0)
            if len(where[0]):
                depth[where] = slide.tumble(depth[where], where, grid, self.draws)
                calm[where] = 0.8
            classes[inside > -self.margin] = 0
            classes[inside > self.margin] = CHAOTIC
        facies = grid.field(self.draws, "facies", (0.15 * inlines, 0.15 * crosslines, 25))
        impedance = self.strata.impedance(depth, facies) * calm
        return self._intrude(impedance, nearness, classes, grid), classes

    def gain(self, grid: Grid) -> np.ndarray:
        """A factor for the local strength of reflections, float32."""
        inlines, crosslines, samples = self.shape
        scale = (0.2 * inlines, 0.2 * crosslines, 0.2 * samples)
        return np.exp(np.float32(0.3) * grid.field(self.draws, "gain", scale))

    def _folds(self, grid: Grid) -> np.ndarray:
        """Stratigraphic depth of inclined, folded layers; folds grow with depth."""
        inlines, crosslines, samples = self.shape
        rng = self.draws.generator("dip")
        inline, crossline, sample = grid.open
        slope = samples * rng.uniform(-0.05, 0.05, 2)
        dip = slope[0] * (inline / inlines - 0.5) + slope[1] * (crossline / crosslines - 0.5)
        growth = (0.4 + 0.6 * sample / samples).astype(np.float32)
        long = grid.field(
            self.draws, "long folds", (0.35 * inlines, 0.3 * crosslines, 0.4 * samples)
        )
        short = grid.field(
            self.draws, "short folds", (0.12 * inlines, 0.1 * crosslines, 0.15 * samples)
        )
        bend = np.float32(0.035 * samples) * long + np.float32(0.006 * samples) * short
        return sample + (dip + bend) * growth

    def _break(self, depth: np.ndarray, grid: Grid) -> np.ndarray:
        """Undo the faults in `depth`, in place, and return the classes of the voxels."""
        broken = np.zeros(grid.shape, dtype=np.float32)
        for fault in self.faults:
            window = fault.window(grid)
            part = (slice(None), *window)
            if depth[part].size:
                hurt = displace(depth[part], fault, grid.part(*window))
                np.maximum(broken[part], hurt, out=broken[part])
        return np.select([broken > 0.5, broken > 0.2], [FAULTED, 0], PARALLEL).astype(np.uint8)

    def _intrude(
        self, impedance: np.ndarray, nearness: np.ndarray, classes: np.ndarray, grid: Grid
    ) -> np.ndarray:
        """The impedance with salt in the layers; `classes` is changed in place."""
        outside = (nearness - 1) * np.float32(self.salt.radius)
        salt = np.clip(0.5 - outside, 0, 1)
        texture = grid.field(self.draws, "salt grain", (5, 5, 3.5))
        inner = np.float32(_SALT_IMPEDANCE) + np.float32(0.03) * texture
        classes[outside < self.margin] = 0
        classes[outside < -self.margin] = SALT
        return impedance + salt * (inner - impedance)
