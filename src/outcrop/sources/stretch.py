"""Bands of a scene or patch as colours of a screen: which bands to show, and their contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outcrop.sources.bands import spectral_bands

_WHITE = 255
# The median of a dark scene is raised to this share of the range, with at least this power.
_MIDDLE, _LEAST_POWER = 0.3, 0.4


@dataclass(frozen=True)
class Stretch:
    """A contrast stretch of three bands that are shown as red, green and blue.

    Values between the ends are stretched linearly, or if most pixels would be dark, as in a scene
    of water with a bright coast, by a power that makes them lighter.

    Attributes:
        bands: indices of the three bands.
        low, high: float, `3`, values shown as 0 and 255: the 2nd and 98th percentile of the band.
        words: title of the picture.
        power: exponent of the shares between the ends, 1 for a linear stretch.
    """

    bands: tuple[int, int, int]
    low: np.ndarray
    high: np.ndarray
    words: str
    power: float = 1.0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Colours of `bands × height × width`: uint8, `height × width × 3`; no data is white."""
        chosen = pixels[list(self.bands)].astype(np.float32)
        span = np.maximum(self.high - self.low, np.finfo(np.float32).tiny)
        spread = (chosen - self.low[:, None, None]) / span[:, None, None]
        known = np.isfinite(chosen).all(axis=0)
        shown = 255 * np.clip(np.nan_to_num(spread), 0, 1) ** self.power
        return np.where(known, np.rint(shown), _WHITE).astype(np.uint8).transpose(1, 2, 0)


def stretches(pixels: np.ndarray, names: Sequence[str], sensor: str = "") -> tuple[Stretch, ...]:
    """Stretches of pixels, `bands × ...`, for the combinations of bands of `ways_to_show`."""
    return tuple(stretch_of(pixels, bands, words) for bands, words in ways_to_show(names, sensor))


def ways_to_show(names: Sequence[str], sensor: str = "") -> list[tuple[tuple[int, int, int], str]]:
    """Combinations of bands to show as red, green and blue, with titles, the best first.

    Args:
        sensor: platform and instrument, if known.

    >>> ways_to_show(["blue", "green", "red", "near infrared"])
    [((2, 1, 0), 'true colour'), ((3, 2, 1), 'false colour: near infrared, red, green')]
    >>> ways_to_show(["amplitude"])
    [((0, 0, 0), 'amplitude')]
    >>> ways_to_show(["B2", "B3", "B4"])
    [((2, 1, 0), 'B4, B3, B2 as red, green, blue')]
    """
    found, sure = spectral_bands(names, sensor)
    red, green, blue, infrared = map(found.get, ("red", "green", "blue", "nir"))
    ways: list[tuple[tuple[int, int, int], str]] = []
    if red is not None and green is not None and blue is not None:
        bands = red, green, blue
        ways.append(
            (bands, "true colour" if sure else f"{_listed(names, bands)} as red, green, blue")
        )
    if infrared is not None and red is not None and green is not None:
        ways.append(((infrared, red, green), "false colour: near infrared, red, green"))
    if not ways and len(names) < 3:
        ways.append(((0, 0, 0), names[0]))
    elif not ways:
        ways.append(((0, 1, 2), f"false colour: {_listed(names, (0, 1, 2))}"))
    return ways


def _listed(names: Sequence[str], bands: Sequence[int]) -> str:
    return ", ".join(names[band] for band in bands)


def stretch_of(pixels: np.ndarray, bands: tuple[int, int, int], words: str) -> Stretch:
    """The stretch of three bands that fits the values of pixels, `bands × ...`."""
    values = pixels[list(bands)].reshape(3, -1).astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all(axis=1).any():
        values = np.zeros_like(values)
    low, middle, high = np.nanpercentile(values, (2, 50, 98), axis=1)
    dark = np.median((middle - low) / np.maximum(high - low, np.finfo(np.float32).tiny))
    power = np.log(_MIDDLE) / np.log(np.clip(dark, 0.01, _MIDDLE))
    return Stretch(bands, low, high, words, float(max(power, _LEAST_POWER)))
