"""The reflectance of the ground, and what a sensor measures of it through the atmosphere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from outcrop.synthetic.coast.ground import CLASSES, PIXEL, Frame, Ground
from outcrop.synthetic.draws import Draws

BANDS = ("blue", "green", "red", "near infrared")

# Surface reflectance in the four bands, similar to Sentinel-2 spectra of tropical deltas.
_CLEAR = (0.045, 0.050, 0.030, 0.015)
_TURBID = (0.080, 0.110, 0.105, 0.055)
_SILTY = (0.095, 0.125, 0.130, 0.085)
_GREEN = (0.055, 0.075, 0.052, 0.025)
_ALGAE = (0.042, 0.078, 0.048, 0.085)
_WET_MUD = (0.078, 0.100, 0.108, 0.105)
_DRY_MUD = (0.105, 0.135, 0.160, 0.205)
_DYKE = (0.090, 0.115, 0.135, 0.200)
_CANOPY = (0.030, 0.052, 0.032, 0.300)
_SHADE = (0.028, 0.040, 0.030, 0.130)
_BRIGHT_ROOF = (0.175, 0.185, 0.195, 0.230)
_RUST_ROOF = (0.095, 0.100, 0.135, 0.190)
_DARK_ROOF = (0.085, 0.090, 0.095, 0.120)
_STREET = (0.110, 0.125, 0.140, 0.175)
_GARDEN = (0.038, 0.060, 0.045, 0.270)

# Rice from flooded field to stubble, and ponds from clear water to drained bed.
_RICE_STAGES = (
    _TURBID,
    (0.062, 0.085, 0.078, 0.085),
    (0.050, 0.075, 0.060, 0.190),
    (0.033, 0.060, 0.034, 0.330),
    (0.045, 0.078, 0.062, 0.300),
    (0.065, 0.095, 0.105, 0.250),
    _DRY_MUD,
)
_POND_STATES = (_CLEAR, _ALGAE, _TURBID, _SILTY, _WET_MUD, _DRY_MUD)


def reflectance(ground: Ground, draws: Draws, date: float) -> np.ndarray:
    """Surface reflectance of a frame, float64, 4 × size × size.

    Args:
        date: shift of the rice calendar, as a share of the season.
    """
    cover = _Cover(ground, draws, date)
    layers = (cover.ponds, cover.mudflat, cover.mangrove, cover.rice, cover.built, cover.water)
    spectrum = np.zeros((len(BANDS), *ground.truth.shape))
    for k, layer in enumerate(layers):
        here = ground.truth == k + 1
        spectrum[:, here] = (layer() * cover.tint(CLASSES[k]))[:, here]
    return spectrum


class _Cover:
    """The spectra of the six classes, each over the whole frame."""

    def __init__(self, ground: Ground, draws: Draws, date: float) -> None:
        self.ground, self.draws, self.date = ground, draws, date

    def field(self, name: str, scale: float) -> np.ndarray:
        return self.draws.field(name, self.ground.frame.x, self.ground.frame.y, scale)

    def parcel(self, name: str) -> np.ndarray:
        """One normal number per pond or rice parcel."""
        parcels = self.ground.parcels
        return self.draws.normal(name, *self.ground.district, parcels.i, parcels.j)

    def plot(self, name: str) -> np.ndarray:
        """One uniform number per house plot."""
        plots = self.ground.plots
        return self.draws.uniform(name, *self.ground.district, plots.i, plots.j)

    def tint(self, cover: str) -> np.ndarray:
        """A factor common to neighbours of one class, such as soil, variety, age or practice."""
        bright, red, infrared = (
            self.field(f"{cover} {what}", 450) for what in ("brightness", "redness", "infrared")
        )
        strength = 0.05 if cover == "water" else 0.14
        blue_to_red = np.array([-1.0, -0.2, 0.8, 0.4])[:, None, None]
        change = bright + 0.7 * blue_to_red * red
        change[3] += 0.8 * infrared
        return np.exp(strength * change)

    def contrast(self, cover: str) -> np.ndarray:
        """A factor for the local strength of the pattern of a class."""
        return np.exp(0.6 * self.field(f"{cover} contrast", 500))

    def ponds(self) -> np.ndarray:
        """Ponds with water or a drained bed, and dykes around them."""
        state = 0.4 + 0.18 * self.field("pond practice", 420)
        state += 0.15 * self.contrast("pond") * self.parcel("pond state")
        state += 0.04 * self.contrast("pond patch") * self.field("pond patches", 35)
        water = _along(_POND_STATES, state)
        width = np.clip(4.5 + 2 * self.field("dyke width", 400), 1.5, None)
        dyke = _along((_DYKE, _CANOPY), 0.35 + 0.2 * self.field("dyke grass", 60))
        return _blend(water, dyke, _within(self.ground.parcels.edge, width))

    def mudflat(self) -> np.ndarray:
        """Mud that is wet near the water and drier inland, with patches, ripples and algae."""
        share = self.ground.inland / (0.08 * self.ground.frame.depth)
        dry = 0.1 + 0.5 * share + 0.22 * self.field("mud patches", 110)
        dry += 0.14 * self.contrast("mud") * self.field("mud ripples", 28)
        mud = _along((_TURBID, _WET_MUD, _WET_MUD, _DRY_MUD), dry)
        film = np.clip(0.15 * self.field("mud algae", 90), 0, 0.35)
        return _blend(mud, _column(_CANOPY), film)

    def mangrove(self) -> np.ndarray:
        """Crowns and gaps, in stands of different density."""
        density = 0.72 + 0.15 * self.field("stand density", 260) + 0.1 * self.field("stand", 70)
        crowns = density + 0.14 * self.contrast("crown") * self.field("crowns", 16)
        canopy = _along((_WET_MUD, _SHADE, _CANOPY), crowns)
        return _blend(canopy, _column(_TURBID), 0.6 * _within(self.ground.bank, 4.0))

    def rice(self) -> np.ndarray:
        """Parcels by growth stage, similar among neighbours, with narrow bunds."""
        stage = 0.47 + self.date + 0.22 * self.field("planting", 420)
        stage += 0.12 * self.contrast("rice parcel") * self.parcel("rice stage")
        stage += 0.045 * self.contrast("rice stand") * self.field("rice stand", 26)
        crop = _along(_RICE_STAGES, stage)
        bund = _along((_DYKE, _CANOPY), 0.4 + 0.2 * self.field("bund grass", 60))
        return _blend(crop, bund, _within(self.ground.parcels.edge, 3.0))

    def built(self) -> np.ndarray:
        """House plots of roofs, yards and gardens, and streets between them."""
        kind = self.plot("roof") + 0.15 * self.field("quarter", 420)
        spectra = np.array([_GARDEN, _RUST_ROOF, _STREET, _DARK_ROOF, _BRIGHT_ROOF])
        plots = np.moveaxis(spectra[np.digitize(kind, (0.4, 0.6, 0.8, 0.93))], -1, 0)
        plots = plots * (1 + 0.1 * (2 * self.plot("upkeep") - 1))
        trees = 0.4 + 0.18 * self.field("green quarter", 300) + 0.25 * self.field("trees", 22)
        plots = _blend(plots, _column(_GARDEN), np.clip(trees, 0, 0.9))
        return _blend(plots, _column(_STREET), _within(self.ground.plots.edge, 2.5))

    def water(self) -> np.ndarray:
        """Water that is turbid near the shore and in rivers, clearer at sea, with plumes."""
        frame = self.ground.frame
        away = np.clip(-self.ground.inland / (0.25 * frame.depth), 0, 1)
        # The longshore current stretches plumes along the coast.
        plumes = self.draws.field("plumes", frame.x / 3, frame.y, 220)
        turbid = 0.78 - 0.5 * away + 0.13 * plumes
        turbid += 0.06 * self.field("eddies", 90)
        # Swell has crests parallel to the shore.
        swell = self.draws.field("swell", frame.x / 4, frame.y, 18)
        turbid += 0.05 * self.contrast("water") * swell
        return _along((_CLEAR, _GREEN, _TURBID, _SILTY), turbid)


def _column(spectrum: tuple[float, ...]) -> np.ndarray:
    return np.array(spectrum)[:, None, None]


def _along(spectra: tuple[tuple[float, ...], ...], t: np.ndarray) -> np.ndarray:
    """The spectrum at `t`, interpolated from the first (0) to the last (1) of `spectra`."""
    stops = np.linspace(0, 1, len(spectra))
    return np.stack([np.interp(t, stops, band) for band in zip(*spectra, strict=True)])


def _blend(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    return below + share * (above - below)


def _within(edge: np.ndarray, half_width: np.ndarray | float) -> np.ndarray:
    """The share of a pixel that a line at a distance of `edge` metres covers."""
    return np.clip((half_width + PIXEL / 2 - edge) / PIXEL, 0, 1) * np.minimum(
        1, 2 * np.asarray(half_width) / PIXEL
    )


_HAZE_COLOUR = np.array([1.0, 0.72, 0.5, 0.25])  # scattering decreases with wavelength


@dataclass(frozen=True)
class Radiometry:
    """The radiometry of one image: illumination, atmosphere, optics, calibration and noise.

    Attributes:
        gain, offset: one value per band: calibration, and errors of the atmospheric correction.
        haze: mean path reflectance in the blue band; it varies over some kilometres.
        drift: relative amplitude of the illumination over some kilometres.
        blur: standard deviation of the point spread function in pixels.
        noise: standard deviation of the sensor noise in reflectance, for a dark pixel.
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
        """The random radiometry of image `index`."""
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
    """The reflectance that image `index` measures, float32, 4 × size × size.

    Args:
        surface: true surface reflectance, 4 × size × size.
        index: number of the image, which selects its haze, illumination and noise.
    """
    blurred = gaussian_filter(surface, radiometry.blur, axes=(1, 2), mode="nearest")
    sun = 1 + radiometry.drift * draws.field(f"sun {index}", frame.x, frame.y, 1500)
    haze = radiometry.haze * (1 + 0.4 * draws.field(f"haze {index}", frame.x, frame.y, 1200))
    path = np.clip(haze, 0, None) * _HAZE_COLOUR[:, None, None]
    gain, offset = (
        np.array(values)[:, None, None] for values in (radiometry.gain, radiometry.offset)
    )
    seen = gain * (blurred * sun + path * (1 - blurred)) + offset
    # Shot noise has a variance that grows with the signal.
    noise = radiometry.noise * np.sqrt(0.5 + 5 * np.clip(seen, 0, None))
    seen += noise * draws.generator("noise", index).standard_normal(seen.shape)
    return seen.astype(np.float32)


def swath(index: int, size: int, draws: Draws) -> np.ndarray:
    """Mask of the pixels that image `index` covers, bool, size × size.

    A slanted swath edge cuts off a strip of every third image, less than a tenth of it.
    """
    if index % 3:
        return np.ones((size, size), dtype=bool)
    rng = draws.generator("swath", index)
    row, column = np.mgrid[:size, :size]
    edge = size * rng.uniform(0.02, 0.04) + row * rng.uniform(0.05, 0.12)
    return column >= edge if rng.random() < 0.5 else size - 1 - column >= edge
