"""Labels as polygons with the errors of a human annotator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from outcrop.synthetic.coast.ground import CLASSES, PIXEL, Frame


@dataclass(frozen=True)
class Hand:
    """The habits of a human annotator.

    Attributes:
        polygons: minimum and maximum number of polygons per class on 400 × 400 pixels; in
            proportion for other sizes, but at least two.
        pixels: minimum and maximum area of a polygon in pixels.
        inset: distance in metres of an outline from the edge of the labelled region.
        jitter: standard deviation of a vertex in metres.
        slip: share of careless polygons, which are shifted by one or two pixels.
        mislabelled: share of polygons with the name of another class.
    """

    polygons: tuple[int, int] = (8, 15)
    pixels: tuple[int, int] = (30, 400)
    inset: float = 8.0
    jitter: float = 4.0
    slip: float = 0.25
    mislabelled: float = 0.01


def draw(
    truth: np.ndarray, frame: Frame, hand: Hand, rng: np.random.Generator
) -> list[tuple[int, Any]]:
    """Polygons that do not overlap, each with its index into `CLASSES`.

    If a class has no room for a polygon of the minimum size, it gets a smaller one, or none if it
    has only a few pixels.

    Args:
        truth: uint8, size × size, 0 for nodata, otherwise 1 + class index.
        frame: window of the image.

    Returns:
        (class index, shapely polygon in the coordinates of the frame) pairs, class by class.
    """
    drawn: list[tuple[int, Any]] = []
    low, high = hand.polygons
    for k in range(len(CLASSES)):
        if not (truth == k + 1).any():
            continue
        wanted = max(2, round(rng.integers(low, high + 1) * (frame.size / 400) ** 2))
        outlines = _outlines(truth == k + 1, frame, hand, rng, [p for _, p in drawn], wanted)
        for polygon in outlines:
            wrong = rng.random() < hand.mislabelled
            away = int(rng.integers(1, len(CLASSES))) if wrong else 0
            drawn.append(((k + away) % len(CLASSES), polygon))
    return drawn


def _outlines(
    mask: np.ndarray,
    frame: Frame,
    hand: Hand,
    rng: np.random.Generator,
    taken: list[Any],
    wanted: int,
) -> list[Any]:
    """Up to `wanted` outlines in the mask, without overlap with `taken`."""
    room = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    least = hand.pixels[0]
    found: list[Any] = []
    while not found and least >= 1:
        places = np.argwhere(room >= min(2.5, room.max()))
        # Narrow regions, such as rivers beside the sea, are chosen as often as wide ones.
        order = np.argsort(rng.exponential(size=len(places)) * room[tuple(places.T)])
        for row, column in places[order[: 30 * wanted]]:
            outline = _outline(mask, row, column, frame, hand, rng)
            if outline is None or outline.area < least * PIXEL**2:
                continue
            if any(outline.distance(other) < PIXEL for other in [*taken, *found]):
                continue
            found.append(outline)
            if len(found) == wanted:
                break
        least //= 2
    return found


def _outline(
    mask: np.ndarray, row: int, column: int, frame: Frame, hand: Hand, rng: np.random.Generator
) -> Any | None:
    """The outline around one pixel; None if it is no valid polygon."""
    from rasterio.features import shapes
    from rasterio.transform import Affine
    from shapely import Point, Polygon
    from shapely.geometry import shape
    from shapely.ops import unary_union

    pixels = np.exp(rng.uniform(*np.log(hand.pixels)))
    blob = _blob(pixels, rng)
    reach = int(np.abs(blob).max()) + 3
    top, left = max(row - reach, 0), max(column - reach, 0)
    window = mask[top : row + reach + 1, left : column + reach + 1].astype(np.uint8)
    x, y = frame.x[column], frame.y[row]
    place = Affine(PIXEL, 0, frame.x[left] - PIXEL / 2, 0, -PIXEL, frame.y[top] + PIXEL / 2)
    parts = shapes(window, mask=window > 0, transform=place)
    region = unary_union([shape(part) for part, _ in parts])
    careless = rng.random() < hand.slip
    seen = Polygon(PIXEL * blob + (x, y)).intersection(
        region if careless else region.buffer(-hand.inset)
    )
    pieces = [piece for piece in getattr(seen, "geoms", [seen]) if piece.geom_type == "Polygon"]
    pieces = [piece for piece in pieces if piece.buffer(PIXEL).contains(Point(x, y))]
    if not pieces or pieces[0].is_empty:
        return None
    outline = Polygon(pieces[0].exterior)
    if pieces[0].area < 0.93 * outline.area:  # too many holes
        return None
    vertices = np.array(outline.simplify(0.7 * PIXEL).exterior.coords)[:-1]
    vertices += rng.normal(0, hand.jitter, vertices.shape)
    if careless:
        angle = rng.uniform(0, 2 * np.pi)
        vertices += PIXEL * rng.uniform(1, 2) * np.array([np.cos(angle), np.sin(angle)])
    outline = Polygon(vertices)
    return outline if outline.is_valid else None


def _blob(pixels: float, rng: np.random.Generator) -> np.ndarray:
    """Vertices, N × 2, of an irregular elongated outline of `pixels` around the origin."""
    n = rng.integers(8, 13)
    angle = 2 * np.pi * (np.arange(n) + rng.uniform(-0.3, 0.3, n)) / n
    radius = np.sqrt(pixels / np.pi) * rng.uniform(0.85, 1.15, n)
    stretch, turn = np.sqrt(rng.uniform(1, 2.5)), rng.uniform(0, np.pi)
    x, y = radius * np.cos(angle) * stretch, radius * np.sin(angle) / stretch
    return np.column_stack(
        [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)]
    )
