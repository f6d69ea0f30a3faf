"""What a survey records of the ground: amplitudes with noise, slab by slab."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from outcrop.synthetic.cube.earth import Earth
from outcrop.synthetic.cube.grid import Grid
from outcrop.synthetic.cube.wavelet import REACH, noise_power, record, reflectivity, wavelets

_PILOTS = 8  # inlines on which the strength of the signal is measured
_WHITE = 0.1  # share of the noise's power that lies in no band


@dataclass(frozen=True)
class Survey:
    """A seismic survey over an earth.

    Attributes:
        earth: what is below.
        noise_db: mean power of the signal over that of the noise, in dB; no noise if None.
    """

    earth: Earth
    noise_db: float | None

    def slab(self, inlines: range) -> tuple[np.ndarray, np.ndarray]:
        """Some successive inlines of the survey.

        Returns:
            Amplitudes, float32, the signal's root mean square being 1; and classes, uint8, 0 near a
            contact. Both inlines × crosslines × samples.
        """
        coefficients, classes = self._reflections(inlines)
        coefficients *= np.float32(self._strength)
        if self.noise_db is None:
            return record(coefficients, self._wavelets), classes
        power = 10 ** (-self.noise_db / 10)
        banded = (power * (1 - _WHITE) / noise_power(self._wavelets)) ** 0.5
        halo = range(inlines.start - 1, inlines.stop + 1)
        coefficients += np.float32(banded) * self._chance("noise", halo, coefficients.shape[1:])
        amplitudes = record(coefficients, self._wavelets)
        white = np.float32((power * _WHITE) ** 0.5)
        amplitudes += white * self._chance("white noise", inlines, amplitudes.shape[1:])
        return amplitudes, classes

    @cached_property
    def _wavelets(self) -> np.ndarray:
        return wavelets(self.earth.shape[2])

    @cached_property
    def _strength(self) -> float:
        """What makes the signal's root mean square 1."""
        pilots = np.linspace(0, self.earth.shape[0] - 1, _PILOTS).round().astype(int)
        signals = (self._reflections(range(k, k + 1))[0] for k in pilots)
        power = np.mean([np.mean(record(signal, self._wavelets) ** 2) for signal in signals])
        return float(power**-0.5)

    def _reflections(self, inlines: range) -> tuple[np.ndarray, np.ndarray]:
        """Reflection coefficients with what `record` needs around them, and classes without."""
        _, crosslines, samples = self.earth.shape
        grid = Grid.of(
            range(inlines.start - 1, inlines.stop + 1),
            range(-1, crosslines + 1),
            range(-REACH, samples + REACH),
        )
        impedance, classes = self.earth.look(grid)
        coefficients = reflectivity(impedance) * self.earth.gain(grid)[..., 1:]
        return coefficients, classes[1:-1, 1:-1, REACH:-REACH]

    def _chance(self, name: str, inlines: range, shape: tuple[int, ...]) -> np.ndarray:
        """Normal numbers, float32, that depend on the inline and not on the slab."""
        generators = (self.earth.draws.generator(name, inline) for inline in inlines)
        return np.stack([each.standard_normal(shape, dtype=np.float32) for each in generators])
