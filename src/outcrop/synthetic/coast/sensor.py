"""How the ground is seen: sun, haze, optics, calibration and noise, other in every image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from outcrop.synthetic.coast.frame import Frame
from outcrop.synthetic.draws import Draws

_HAZE_COLOUR = np.array([1.0, 0.72, 0.5, 0.25])  # scattering falls with wavelength


@dataclass(frozen=True)
class Radiometry:
    """What one overpass does to a surface reflectance.

    Attributes:
        gain, offset: one for each band: calibration and what is left of the correction for the
            atmosphere.
        haze: mean path reflectance in the blue band; it drifts over some kilometres.
        drift: relative amplitude of the illumination over some kilometres.
        blur: standard deviation of the point spread in pixels.
        noise: standard deviation of the sensor's noise in reflectance, for a dark pixel.
        date: shift of the rice calendar, as a share of the season.
    """

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    haze: float
    drift: float
    blur: float
    noise: float
    date: float

    @classmethod
    def draw(cls, index: int, draws: Draws) -> Radiometry:
        """The radiometry of image `index`."""
        rng = draws.generator("radiometry", index)
        sun = rng.normal(1, 0.05)
        return cls(
            gain=tuple(sun * rng.normal(1, 0.03, 4)),
            offset=tuple(rng.normal(0, 0.003, 4)),
            haze=rng.uniform(0.004, 0.022),
            drift=rng.uniform(0.02, 0.05),
            blur=rng.uniform(0.55, 0.8),
            noise=rng.uniform(0.0015, 0.003),
            date=rng.normal(0, 0.05),
        )


def observe(
    surface: np.ndarray, radiometry: Radiometry, frame: Frame, index: int, draws: Draws
) -> np.ndarray:
    """The reflectance that image `index` reports, float32, 4 × size × size.

    Args:
        surface: true surface reflectance, 4 × size × size.
        radiometry: of this overpass.
        frame: where the image lies.
        index: the image's number, so that two overpasses differ in weather and noise.
        draws: the world's chance.
    """
    blurred = gaussian_filter(surface, radiometry.blur, axes=(1, 2), mode="nearest")
    sun = 1 + radiometry.drift * draws.field(f"sun {index}", frame.x, frame.y, 1500)
    haze = radiometry.haze * (1 + 0.4 * draws.field(f"haze {index}", frame.x, frame.y, 1200))
    path = np.clip(haze, 0, None) * _HAZE_COLOUR[:, None, None]
    gain, offset = (
        np.array(values)[:, None, None] for values in (radiometry.gain, radiometry.offset)
    )
    seen = gain * (blurred * sun + path * (1 - blurred)) + offset
    # Shot noise: its variance grows with the signal.
    noise = radiometry.noise * np.sqrt(0.5 + 5 * np.clip(seen, 0, None))
    seen += noise * draws.generator("noise", index).standard_normal(seen.shape)
    return seen.astype(np.float32)


def swath(index: int, size: int, draws: Draws) -> np.ndarray:
    """True where image `index` was scanned, bool, size × size.

    A slanted edge cuts off a strip, less than a tenth of the image, of every third image.
    """
    if index % 3:
        return np.ones((size, size), dtype=bool)
    rng = draws.generator("swath", index)
    row, column = np.mgrid[:size, :size]
    edge = size * rng.uniform(0.02, 0.04) + row * rng.uniform(0.05, 0.12)
    return column >= edge if rng.random() < 0.5 else size - 1 - column >= edge
