"""The ground of the coast: image windows, waterways, and the class of every pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from outcrop.synthetic.draws import Draws

PIXEL = 10.0  # metres
CRS = "EPSG:32648"
_WEST, _NORTH = 600_000.0, 1_050_000.0


@dataclass(frozen=True)
class Frame:
    """A square window of ground.

    Attributes:
        west, north: upper-left corner in metres.
        size: pixels along a side.
    """

    west: float
    north: float
    size: int

    @property
    def x(self) -> np.ndarray:
        """Eastings of the centres of the columns."""
        return self.west + PIXEL * (np.arange(self.size) + 0.5)

    @property
    def y(self) -> np.ndarray:
        """Northings of the centres of the rows, falling."""
        return self.north - PIXEL * (np.arange(self.size) + 0.5)

    @property
    def depth(self) -> float:
        """Side in metres; the belts along the shore scale with it."""
        return PIXEL * self.size

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """The affine map from (column, row) to (x, y)."""
        return PIXEL, 0.0, self.west, 0.0, -PIXEL, self.north


def frame(index: int, size: int, draws: Draws) -> Frame:
    """The window of image `index`. Adjacent windows touch, and they follow the shore."""
    west = _WEST + index * size * PIXEL
    middle = float(shore(west + size * PIXEL / 2, draws))
    return Frame(west, round(middle / PIXEL + 0.77 * size) * PIXEL, size)


def shore(x: np.ndarray | float, draws: Draws) -> np.ndarray:
    """Northing of the smooth shoreline at easting `x`, in metres."""
    phases = 2 * np.pi * draws.uniform("shore", np.arange(2))
    long = 500 * np.sin(2 * np.pi * np.asarray(x) / 11_000 + phases[0])
    return _NORTH + long + 180 * np.sin(2 * np.pi * np.asarray(x) / 4_700 + phases[1])


_SPACING = 1500.0  # minimum metres of coast per river
_STEP = 6.0  # metres between the points of a waterway
_SOUTHWARD, _NORTHWARD = 0.0, np.pi


@dataclass(frozen=True)
class Waterways:
    """Points every few metres along all waterways near a frame.

    Attributes:
        x, y: N points in metres.
        width: width at each point in metres.
        heading: direction at each point, in radians from south, counter-clockwise.
        forks: K × 2, points in metres at which rivers fork.
    """

    x: np.ndarray
    y: np.ndarray
    width: np.ndarray
    heading: np.ndarray
    forks: np.ndarray

    def nearest(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance to the nearest bank in metres, negative in water, and heading of the channel."""
        tree = cKDTree(np.column_stack([self.x, self.y]))
        distance, index = tree.query(np.column_stack([x.ravel(), y.ravel()]))
        bank = distance - self.width[index] / 2
        return bank.reshape(x.shape), self.heading[index].reshape(x.shape)


def waterways(frame: Frame, draws: Draws) -> Waterways:
    """The waterways of every river that may reach the frame."""
    spacing = max(_SPACING, 0.45 * frame.depth)
    first, last = np.floor(frame.x[[0, -1]] / spacing).astype(int)
    rivers = [_river(k, spacing, frame.depth, draws) for k in range(first - 1, last + 2)]
    points = np.concatenate([reach for reaches, _ in rivers for reach in reaches], axis=1)
    x, y, width, heading = points
    return Waterways(x, y, width, heading, forks=np.array([fork for _, fork in rivers]))


def _river(
    k: int, spacing: float, depth: float, draws: Draws
) -> tuple[list[np.ndarray], np.ndarray]:
    """Reaches of river `k`, and the point of its fork."""
    rng = draws.generator("river", k)
    x = (k + rng.uniform(0.35, 0.65)) * spacing
    width = rng.uniform(45, 80)
    source = (x, float(shore(x, draws)) + 1.4 * depth)
    trunk = _reach(rng, source, _SOUTHWARD, 1.6 * depth, (width, width))
    trunk = trunk[:, _from_shore(trunk, draws) > depth * rng.uniform(0.38, 0.5)]
    fork = trunk[:2, -1]
    arms = []
    for side in (-1, 1):
        widths = (width * rng.uniform(0.55, 0.8), width * rng.uniform(1.0, 1.8))
        arm = _reach(rng, fork, side * rng.uniform(0.25, 0.6), depth, widths)
        arms.append(arm[:, _from_shore(arm, draws) > -0.1 * depth])
    creeks = [creek for arm in arms for creek in _creeks(rng, arm, depth, draws)]
    for mouth in np.arange((k + 0.05) * spacing, (k + 1) * spacing, 210.0):
        start = (mouth + rng.uniform(-60, 60), float(shore(mouth, draws)) - 0.02 * depth)
        length = depth * rng.uniform(0.08, 0.22)
        creek = _reach(rng, start, _NORTHWARD + rng.normal(0, 0.3), length, (26, 7))
        creeks += [creek, *_creeks(rng, creek, depth, draws)]
    return [trunk, *arms, *creeks], fork


def _creeks(
    rng: np.random.Generator, parent: np.ndarray, depth: float, draws: Draws
) -> list[np.ndarray]:
    """Creeks that branch from `parent` within the tidal belt."""
    inland = _from_shore(parent, draws)
    tidal = np.flatnonzero((inland > 0) & (inland < 0.24 * depth))
    creeks = []
    for x, y, width, heading in parent.T[tidal[:: int(rng.uniform(110, 170) / _STEP)]]:
        turn = rng.choice([-1, 1]) * rng.uniform(0.7, 1.3)
        wide = min(0.6 * width, 20.0)
        creeks.append(_reach(rng, (x, y), heading + turn, rng.uniform(5, 15) * wide, (wide, 6)))
    return creeks


def _from_shore(reach: np.ndarray, draws: Draws) -> np.ndarray:
    """Distance of a reach from the smooth shore in metres, negative in the sea."""
    return reach[1] - shore(reach[0], draws)


def _reach(
    rng: np.random.Generator,
    start: tuple[float, float] | np.ndarray,
    heading: float,
    length: float,
    width: tuple[float, float],
) -> np.ndarray:
    """A meandering reach whose width changes from `width[0]` to `width[1]`.

    A sine-generated curve (Langbein and Leopold 1966, USGS Professional Paper 422-H, equation 2)
    with a wavelength of 11 to 16 channel widths, plus a longer wave.

    Returns:
        4 × N: x, y, width, heading.
    """
    s = np.arange(0, length, _STEP)
    wave = max(sum(width) / 2, 15) * rng.uniform(11, 16)
    theta = heading + rng.uniform(0.3, 0.8) * np.sin(2 * np.pi * (s / wave + rng.uniform()))
    theta += rng.uniform(0.1, 0.4) * np.sin(2 * np.pi * (s / (3.7 * wave) + rng.uniform()))
    x = start[0] + np.cumsum(_STEP * np.sin(theta))
    y = start[1] - np.cumsum(_STEP * np.cos(theta))
    return np.stack([x, y, np.linspace(*width, len(s)), theta])


CLASSES = ("aquaculture", "mudflat", "mangrove", "rice field", "built-up", "water")
AQUACULTURE, MUDFLAT, MANGROVE, RICE, BUILT, WATER = range(1, 7)


@dataclass(frozen=True)
class Parcels:
    """A rectangular lattice with another orientation in every district.

    Attributes:
        i, j: int, indices of the parcel of each pixel within its district.
        edge: distance from the pixel to the edge of the parcel in metres.
    """

    i: np.ndarray
    j: np.ndarray
    edge: np.ndarray


@dataclass(frozen=True)
class Ground:
    """One frame of ground; all arrays are size × size.

    Attributes:
        truth: uint8, 1 + index into `CLASSES`.
        inland: distance from the shoreline in metres, negative in the sea.
        bank: distance from the bank of the nearest waterway in metres, negative in water.
        district: indices i and j of the farming district, whose parcels have one orientation.
        parcels: ponds or rice parcels.
        plots: house plots.
    """

    frame: Frame
    truth: np.ndarray
    inland: np.ndarray
    bank: np.ndarray
    district: tuple[np.ndarray, np.ndarray]
    parcels: Parcels
    plots: Parcels


def ground(frame: Frame, draws: Draws) -> Ground:
    """The layout of a frame: belts along the shore, ponds, rice fields, villages and waterways."""
    x, y = np.meshgrid(frame.x, frame.y)
    water = waterways(frame, draws)
    bank, _ = water.nearest(x, y)
    inland = _inland(frame, bank, draws)

    wobble = draws.field("district wobble", frame.x, frame.y, 150)
    i, j, nx, ny, border = draws.cells("district", x + 25 * wobble, y - 25 * wobble, 520)
    _, heading = water.nearest(nx, ny)
    angle = heading + 0.15 * draws.normal("district turn", i, j)
    depth_share = (ny - shore(nx, draws)) / frame.depth
    farmed = depth_share + 0.07 * draws.normal("district use", i, j)
    ponds = farmed < 0.42
    wide = np.where(ponds, 95, 130) * np.exp(0.25 * draws.normal("district width", i, j))
    deep = np.where(ponds, 55, 75) * np.exp(0.2 * draws.normal("district height", i, j))
    parcels = _parcels("parcel", x - nx, y - ny, angle, wide, deep, (i, j), draws)
    plots = _parcels("plot", x - nx, y - ny, angle, 34.0, 26.0, (i, j), draws)

    truth = np.where(ponds, AQUACULTURE, RICE)
    grove = draws.uniform("grove", i, j, parcels.i, parcels.j) < 0.5 - 1.5 * depth_share
    truth[ponds & grove] = MANGROVE
    truth[_fringe(frame, inland, bank, draws)] = MANGROVE
    truth[_villages(frame, x, y, bank, water, draws)] = BUILT
    mangrove, mudflat = _belts(frame, inland, draws)
    truth[mangrove] = MANGROVE
    truth[mudflat | ((bank < 14) & (inland < 0.16 * frame.depth))] = MUDFLAT
    canal = (border < 8) & (draws.uniform("canal", i, j) < 0.6) & ponds
    truth[(inland < 0) | (bank < 0) | (canal & ~mangrove & ~mudflat)] = WATER
    return Ground(frame, truth.astype(np.uint8), inland, bank, (i, j), parcels, plots)


def _inland(frame: Frame, bank: np.ndarray, draws: Draws) -> np.ndarray:
    """Distance from an irregular shoreline in metres, with lobes of sediment at channel mouths."""
    smooth = frame.y[:, None] - shore(frame.x, draws)
    wide = 0.045 * frame.depth * draws.field("shore wide", frame.x, frame.y, 900)
    fine = 35 * draws.field("shore fine", frame.x, frame.y, 150)
    lobe = 0.05 * frame.depth * np.exp(-np.clip(bank, 0, None) / (0.04 * frame.depth))
    return smooth + wide + fine + lobe


def _belts(frame: Frame, inland: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the mangrove and the mudflat belts."""
    flat = 0.065 + 0.02 * draws.field("mudflat belt", frame.x, frame.y, 800)
    grown = 0.11 + 0.04 * draws.field("mangrove belt", frame.x, frame.y, 700)
    ragged = 18 * draws.field("belt edge", frame.x, frame.y, 60)
    flat_end = frame.depth * np.clip(flat, 0.025, None) + ragged
    grown_end = flat_end + frame.depth * np.clip(grown, 0.04, None)
    return (inland >= flat_end) & (inland < grown_end), (inland >= 0) & (inland < flat_end)


def _fringe(frame: Frame, inland: np.ndarray, bank: np.ndarray, draws: Draws) -> np.ndarray:
    """Mask of mangrove along the channels within reach of the tide."""
    width = 30 + 25 * draws.field("fringe", frame.x, frame.y, 260)
    return (bank < width) & (inland < 0.4 * frame.depth)


def _villages(
    frame: Frame, x: np.ndarray, y: np.ndarray, bank: np.ndarray, water: Waterways, draws: Draws
) -> np.ndarray:
    """Mask of towns at river forks, hamlets, and rows of houses on the levees."""
    ragged = 1 + 0.4 * draws.field("village edge", frame.x, frame.y, 100)
    inland = frame.y[:, None] - shore(frame.x, draws)
    town = np.zeros(x.shape, dtype=bool)
    for fork_x, fork_y in water.forks:
        town |= np.hypot(x - fork_x, y - fork_y) < 220 * ragged
    i, j, nx, ny, _ = draws.cells("hamlet", x, y, 800)
    reach = 70 + 110 * draws.uniform("hamlet size", i, j)
    hamlet = (np.hypot(x - nx, y - ny) < reach * ragged) & (draws.uniform("hamlet", i, j) < 0.8)
    settled = draws.field("ribbon", frame.x, frame.y, 330) > 0.1
    ribbon = settled & (bank < 60 * ragged)
    return (town | hamlet | ribbon) & (inland > 0.27 * frame.depth)


def _parcels(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    angle: np.ndarray,
    wide: np.ndarray | float,
    deep: np.ndarray | float,
    district: tuple[np.ndarray, np.ndarray],
    draws: Draws,
) -> Parcels:
    """Rows of rectangles of different size, each row shifted against the next."""
    along = (x * np.sin(angle) - y * np.cos(angle)) / wide
    across = (x * np.cos(angle) + y * np.sin(angle)) / deep
    row, edge_across = _uneven(across, lambda k: draws.uniform(name + " row", *district, k))
    along = along + draws.uniform(name + " shift", *district, row)
    place, edge_along = _uneven(along, lambda k: draws.uniform(name + " cut", *district, row, k))
    return Parcels(row, place, np.minimum(edge_across * deep, edge_along * wide))


def _uneven(
    t: np.ndarray, chance: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Index of the interval of `t`, and the distance to its nearer end.

    The ends of the intervals are the integers, each shifted by up to a quarter by
    `chance(integer)`.
    """
    k = np.round(t).astype(int)
    below, here, above = (k + d + 0.5 * (chance(k + d) - 0.5) for d in (-1, 0, 1))
    beyond = t >= here
    edge = np.minimum(np.abs(t - here), np.where(beyond, above - t, t - below))
    return k - 1 + beyond, edge
