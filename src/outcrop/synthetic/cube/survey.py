"""The survey: from impedance to amplitudes, by reflection coefficients, a wavelet and noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import correlate1d

from outcrop.synthetic.cube.earth import Earth
from outcrop.synthetic.draws import Grid

SHALLOW, DEEP = 0.105, 0.075  # peak frequencies at the first and last sample, cycles per sample
REACH = 20  # half length of a wavelet in samples
_SPREAD = np.array([0.25, 0.5, 0.25])  # a point after migration, over three traces
_PILOTS = 8  # inlines for measuring the signal's power
_WHITE = 0.1  # share of white noise in the power of the noise


def ricker(time: np.ndarray, peak: np.ndarray | float) -> np.ndarray:
    """The Ricker wavelet, 1 at time 0.

    Ricker 1953, "The form and laws of propagation of seismic wavelets", Geophysics 18; in this form
    in Sheriff and Geldart 1995, "Exploration seismology", section 6.2.

    Args:
        time: in samples.
        peak: frequency of the maximum of its amplitude spectrum, in cycles per sample.

    >>> float(ricker(np.array(0.0), 0.1))
    1.0
    """
    square = (np.pi * peak * time) ** 2
    return (1 - 2 * square) * np.exp(-square)


def wavelets(samples: int) -> np.ndarray:
    """A matrix that convolves traces with a wavelet whose frequency decreases with depth.

    Row r, column c: the contribution of a reflection coefficient between samples r - REACH and
    r - REACH + 1 to sample c. The superposition of one wavelet per coefficient is the nonstationary
    convolution of Margrave 1998, "Theory of nonstationary linear filtering in the Fourier domain",
    Geophysics 63, equation 3.

    Returns:
        float32, (samples + 2 REACH - 1) × samples.
    """
    interface = np.arange(0.5 - REACH, samples + REACH - 1)[:, None]
    depth = np.clip(interface / samples, 0, 1)
    time = np.arange(samples) - interface
    matrix = ricker(time, SHALLOW + depth * (DEEP - SHALLOW))
    return np.where(np.abs(time) <= REACH, matrix, 0).astype(np.float32)


def reflectivity(impedance: np.ndarray) -> np.ndarray:
    """Reflection coefficients between successive samples along the last axis.

    Half the difference of the logarithm of impedance, the limit for small contrasts (Peterson,
    Fillippone and Coker 1955, "The synthesis of seismograms from well log data", Geophysics 20).

    Args:
        impedance: its natural logarithm.
    """
    return np.diff(impedance) / 2


def record(coefficients: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The section of reflection coefficients, one inline and crossline smaller on each side.

    Args:
        coefficients: float32, inlines × crosslines × rows of `matrix`.
        matrix: result of `wavelets`.
    """
    for axis in (0, 1):
        coefficients = correlate1d(coefficients, _SPREAD, axis=axis, mode="nearest")
    return coefficients[1:-1, 1:-1] @ matrix


def noise_power(matrix: np.ndarray) -> float:
    """Mean power of the section of uncorrelated coefficients with variance 1."""
    spread = float((_SPREAD**2).sum()) ** 2
    return spread * float((matrix.astype(np.float64) ** 2).sum(axis=0).mean())


@dataclass(frozen=True)
class Survey:
    """A seismic survey over an earth.

    Attributes:
        noise_db: signal-to-noise ratio of the mean power, in dB; None: no noise.
    """

    earth: Earth
    noise_db: float | None

    def slab(self, inlines: range) -> tuple[np.ndarray, np.ndarray]:
        """Successive inlines of the survey.

        Returns:
            Amplitudes, float32, with a root mean square of 1 of the signal; and classes, uint8, 0
            near a contact. Both inlines × crosslines × samples.
        """
        coefficients, classes = self._reflections(inlines)
        coefficients *= np.float32(self._strength)
        if self.noise_db is None:
            return record(coefficients, self._wavelets), classes
        power = 10 ** (-self.noise_db / 10)
        banded = (power * (1 - _WHITE) / noise_power(self._wavelets)) ** 0.5
        halo = range(inlines.start - 1, inlines.stop + 1)
        coefficients += np.float32(banded) * self._noise("noise", halo, coefficients.shape[1:])
        amplitudes = record(coefficients, self._wavelets)
        white = np.float32((power * _WHITE) ** 0.5)
        amplitudes += white * self._noise("white noise", inlines, amplitudes.shape[1:])
        return amplitudes, classes

    @cached_property
    def _wavelets(self) -> np.ndarray:
        return wavelets(self.earth.shape[2])

    @cached_property
    def _strength(self) -> float:
        """The factor that gives the signal a root mean square of 1."""
        pilots = np.linspace(0, self.earth.shape[0] - 1, _PILOTS).round().astype(int)
        signals = (self._reflections(range(k, k + 1))[0] for k in pilots)
        power = np.mean([np.mean(record(signal, self._wavelets) ** 2) for signal in signals])
        return float(power**-0.5)

    def _reflections(self, inlines: range) -> tuple[np.ndarray, np.ndarray]:
        """Reflection coefficients with the margin that `record` needs, and classes without it."""
        _, crosslines, samples = self.earth.shape
        grid = Grid.of(
            range(inlines.start - 1, inlines.stop + 1),
            range(-1, crosslines + 1),
            range(-REACH, samples + REACH),
        )
        impedance, classes = self.earth.voxels(grid)
        coefficients = reflectivity(impedance) * self.earth.gain(grid)[..., 1:]
        return coefficients, classes[1:-1, 1:-1, REACH:-REACH]

    def _noise(self, name: str, inlines: range, shape: tuple[int, ...]) -> np.ndarray:
        """Normal numbers, float32, that depend on the inline but not on the slab."""
        generators = (self.earth.draws.generator(name, inline) for inline in inlines)
        return np.stack([each.standard_normal(shape, dtype=np.float32) for each in generators])
