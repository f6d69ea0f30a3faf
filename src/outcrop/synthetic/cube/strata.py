"""The rock column before anything happened to it: layers, as a well log would show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from outcrop.synthetic.draws import Draws

_STEPS = 8  # entries of the log for each sample
_BLUR = 1.5  # samples: finer detail would alias


@dataclass(frozen=True)
class Strata:
    """Layers upon layers, each with its acoustic impedance.

    Attributes:
        top: stratigraphic depth of the first entry, in samples.
        level: float32, natural logarithm of the impedance, eight entries for each sample of
            stratigraphic depth; about 0.1 either way of its mean, 0.
        change: float32, as `level`: how each layer's impedance changes where the rock does.
    """

    top: float
    level: np.ndarray
    change: np.ndarray

    @classmethod
    def draw(cls, draws: Draws, top: float, bottom: float) -> Strata:
        """Units some 60 samples thick, each with layers of its own mean thickness and contrast.

        Within a unit thicknesses are gamma distributed, and a hard layer tends to follow a soft
        one, which makes the reflectivity poor in low frequencies, as that of wells is (Walden and
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
            depth: stratigraphic depth in samples, float32; beyond the ends, the end's layer.
            facies: how far the rock differs from the well's, about -1 to 1, float32.
        """
        entry = ((depth - np.float32(self.top)) * np.float32(_STEPS)).astype(np.int32)
        np.clip(entry, 0, len(self.level) - 1, out=entry)
        return self.level[entry] + facies * self.change[entry]
