"""From impedance to a seismic section: reflection coefficients and a wavelet."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

SHALLOW, DEEP = 0.105, 0.075  # peak frequencies at the first and last sample, cycles per sample
REACH = 20  # samples that a wavelet reaches either way
_SPREAD = np.array([0.25, 0.5, 0.25])  # what migration leaves of a point, over three traces


def ricker(time: np.ndarray, peak: np.ndarray | float) -> np.ndarray:
    """The Ricker wavelet, 1 at time 0.

    Ricker 1953, "The form and laws of propagation of seismic wavelets", Geophysics 18; in this
    form, Sheriff and Geldart 1995, "Exploration seismology", section 6.2.

    Args:
        time: in samples.
        peak: the frequency at which its amplitude spectrum is largest, in cycles per sample.

    >>> float(ricker(np.array(0.0), 0.1))
    1.0
    """
    square = (np.pi * peak * time) ** 2
    return (1 - 2 * square) * np.exp(-square)


def wavelets(samples: int) -> np.ndarray:
    """A matrix that convolves traces with a wavelet whose frequency falls with depth.

    Row r, column c: what a reflection coefficient between samples r - REACH and r - REACH + 1
    adds to sample c. Superposition of a wavelet for each coefficient is the nonstationary
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
    """The section that reflection coefficients give, one inline and crossline smaller at each side.

    Args:
        coefficients: float32, inlines × crosslines × rows of `matrix`.
        matrix: of `wavelets`.
    """
    for axis in (0, 1):
        coefficients = correlate1d(coefficients, _SPREAD, axis=axis, mode="nearest")
    return coefficients[1:-1, 1:-1] @ matrix


def noise_power(matrix: np.ndarray) -> float:
    """Mean power of the record of uncorrelated coefficients of variance 1."""
    spread = float((_SPREAD**2).sum()) ** 2
    return spread * float((matrix.astype(np.float64) ** 2).sum(axis=0).mean())
