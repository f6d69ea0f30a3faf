"""What is on the ground: the class of every pixel, and what the cover's spectrum needs to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from outcrop.synthetic.coast.frame import Frame, shore
from outcrop.synthetic.coast.rivers import Waterways, waterways
from outcrop.synthetic.draws import Draws

CLASSES = ("aquaculture", "mudflat", "mangrove", "rice field", "built-up", "water")
AQUACULTURE, MUDFLAT, MANGROVE, RICE, BUILT, WATER = range(1, 7)


@dataclass(frozen=True)
class Parcels:
    """A rectangular lattice, turned another way in every district.

    Attributes:
        i, j: int, which parcel of which district a pixel lies in; with the district's indices
            they name a parcel.
        edge: metres from the pixel to the parcel's edge.
    """

    i: np.ndarray
    j: np.ndarray
    edge: np.ndarray


@dataclass(frozen=True)
class Ground:
    """One frame of ground; all arrays are size × size.

    Attributes:
        frame: where it lies.
        truth: uint8, 1 + index into `CLASSES`.
        inland: metres from the shoreline, negative in the sea.
        bank: metres from the bank of the nearest waterway, negative in the water.
        district: the indices i and j of the farming district, which share an orientation.
        border: metres to the district's border.
        parcels: ponds or rice parcels.
        plots: house plots.
    """

    frame: Frame
    truth: np.ndarray
    inland: np.ndarray
    bank: np.ndarray
    district: tuple[np.ndarray, np.ndarray]
    border: np.ndarray
    parcels: Parcels
    plots: Parcels


def ground(frame: Frame, draws: Draws) -> Ground:
    """Lay out a frame: belts along the shore, districts of ponds and rice, villages, waterways."""
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
    return Ground(frame, truth.astype(np.uint8), inland, bank, (i, j), border, parcels, plots)


def _inland(frame: Frame, bank: np.ndarray, draws: Draws) -> np.ndarray:
    """Metres from a winding shoreline, with lobes of sediment where channels meet the sea."""
    smooth = frame.y[:, None] - shore(frame.x, draws)
    wide = 0.045 * frame.depth * draws.field("shore wide", frame.x, frame.y, 900)
    fine = 35 * draws.field("shore fine", frame.x, frame.y, 150)
    lobe = 0.05 * frame.depth * np.exp(-np.clip(bank, 0, None) / (0.04 * frame.depth))
    return smooth + wide + fine + lobe


def _belts(frame: Frame, inland: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Where the mangrove and the mudflat belts are."""
    flat = 0.065 + 0.02 * draws.field("mudflat belt", frame.x, frame.y, 800)
    grown = 0.11 + 0.04 * draws.field("mangrove belt", frame.x, frame.y, 700)
    ragged = 18 * draws.field("belt edge", frame.x, frame.y, 60)
    flat_end = frame.depth * np.clip(flat, 0.025, None) + ragged
    grown_end = flat_end + frame.depth * np.clip(grown, 0.04, None)
    return (inland >= flat_end) & (inland < grown_end), (inland >= 0) & (inland < flat_end)


def _fringe(frame: Frame, inland: np.ndarray, bank: np.ndarray, draws: Draws) -> np.ndarray:
    """Mangrove along the channels, as far up as the tide goes."""
    width = 30 + 25 * draws.field("fringe", frame.x, frame.y, 260)
    return (bank < width) & (inland < 0.4 * frame.depth)


def _villages(
    frame: Frame,
    x: np.ndarray,
    y: np.ndarray,
    bank: np.ndarray,
    water: Waterways,
    draws: Draws,
) -> np.ndarray:
    """Towns where rivers fork, hamlets, and ribbons of houses on the levees."""
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
    """Rows of rectangles of uneven size, each row shifted against the next."""
    along = (x * np.sin(angle) - y * np.cos(angle)) / wide
    across = (x * np.cos(angle) + y * np.sin(angle)) / deep
    row, edge_across = _uneven(across, lambda k: draws.uniform(name + " row", *district, k))
    along = along + draws.uniform(name + " shift", *district, row)
    place, edge_along = _uneven(along, lambda k: draws.uniform(name + " cut", *district, row, k))
    return Parcels(row, place, np.minimum(edge_across * deep, edge_along * wide))


def _uneven(
    t: np.ndarray, chance: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Index of the interval that `t` lies in, and the distance to its nearer end.

    The intervals' ends are the integers, each moved by up to a quarter by `chance(integer)`.
    """
    k = np.round(t).astype(int)
    below, here, above = (k + d + 0.5 * (chance(k + d) - 0.5) for d in (-1, 0, 1))
    beyond = t >= here
    edge = np.minimum(np.abs(t - here), np.where(beyond, above - t, t - below))
    return k - 1 + beyond, edge
