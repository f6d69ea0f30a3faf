"""Reference data of a class map: points, polygons, or a raster of true classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.mapping.layers import NODATA
from outcrop.mapping.openmap import OpenMap, open_raster
from outcrop.patches.patchset import PatchSet
from outcrop.patches.positions import Source, upper_left
from outcrop.sources.antimeridian import wrap_x
from outcrop.sources.class_raster import open_class_raster, windows
from outcrop.sources.features import Parts, class_names, note_similar_names, parts_of
from outcrop.sources.labels import vector_labels
from outcrop.sources.scene import Scene
from outcrop.sources.vector import read_vector, reproject

CLASS, STRATUM, STRATUM_PIXELS = "class", "stratum", "stratum_pixels"


@dataclass(frozen=True)
class Reference:
    """Places with a class in both the map and the reference.

    Attributes:
        classes: classes of the map, then those that only the reference has.
        mapped, truth: int64, `N`, indices into `classes`.
        row, column: int64, `N`, position in the map; empty for a raster, which is counted by block.
        left_out: number of places that were left out, by reason.
    """

    classes: tuple[str, ...]
    mapped: np.ndarray
    truth: np.ndarray
    row: np.ndarray
    column: np.ndarray
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Points(Reference):
    """Reference points, each in a pixel of its own.

    Attributes:
        stratum: object, `N`, name of the stratum of each point; None if the file has none.
        stratum_pixels: pixels of each stratum, including strata without remaining points; None if
            the file does not have them.
        off_map: object, strata of the points where the map has no class.
    """

    stratum: np.ndarray | None = None
    stratum_pixels: dict[str, int] | None = None
    off_map: np.ndarray = field(default_factory=lambda: np.empty(0, object))


@dataclass(frozen=True)
class Pieces(Reference):
    """Labelled pixels in polygons or blocks; pixels of one of them are not independent.

    Attributes:
        piece: int64, `N`, number of the polygon or the spatial block.
        count: int64, `N`, number of pixels of the entry.
        size: float64, `N`, the same, in square metres if the map's pixels differ in area.
    """

    piece: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    count: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    size: np.ndarray = field(default_factory=lambda: np.empty(0))


def read_points(path: str, opened: OpenMap, features: Any, parts: Parts) -> Points:
    """Points of a vector file with a class, on pixels with a class.

    If several points are in one pixel, the first counts; if their classes differ, none does.

    Args:
        features: a GeoDataFrame of all features of the file, with or without a class.
        parts: the points with a class.

    Raises:
        OutcropError: no point remains; none has a class of the map; strata are incomplete.
    """
    truth, left_out = parts.names, _reasons(parts)
    stratum, sizes = _strata(path, features)
    stratum = None if stratum is None else stratum[parts.feature]
    place = reproject(parts.frame, opened.scene.crs, path, opened.scene.bounds).geometry
    row, column_ = opened.scene.row_column(place.x.to_numpy(), place.y.to_numpy())
    inside = opened.inside(row, column_)
    value = np.full(len(row), NODATA, np.int64)
    value[inside] = opened.at(row[inside], column_[inside])
    known = value != NODATA
    left_out["outside the map"] = int((~inside).sum())
    left_out["where the map has no data"] = int((inside & ~known).sum())
    pixel = row * opened.scene.width + column_
    first, clash = _one_a_pixel(np.where(known, pixel, -1 - np.arange(len(pixel))), truth)
    left_out["in a pixel that has another point"] = int((known & ~first & ~clash).sum())
    left_out["in one pixel but of different classes"] = int((known & clash).sum())
    kept = known & first & ~clash
    if not kept.any():
        raise OutcropError(path, "has no point on a pixel with a class; check its place and CRS")
    classes, truth_index = _matched(path, opened.classes, truth[kept])
    return Points(
        classes=classes,
        mapped=value[kept] - 1,
        truth=truth_index,
        row=row[kept],
        column=column_[kept],
        left_out={reason: n for reason, n in left_out.items() if n},
        stratum=None if stratum is None else stratum[kept],
        stratum_pixels=sizes,
        off_map=np.empty(0, object) if stratum is None else stratum[~known],
    )


def read_polygons(path: str, opened: OpenMap, parts: Parts, block: float | None) -> Pieces:
    """The pixels of labelled polygons; each polygon or spatial block is a piece.

    Args:
        parts: the polygons with a class.
        block: side of a block in metres. Polygons stay whole: a polygon belongs to the block with
            most of its pixels.

    Raises:
        OutcropError: no pixel of a polygon has a class in the map; no class is one of the map's.
    """
    from outcrop.splits.geometry import most_common

    labels = vector_labels(path, parts)
    pixels = labels.on(opened.scene)
    value = opened.at(pixels.row, pixels.column).astype(np.int64)
    known = value != NODATA
    if not known.any():
        raise OutcropError(path, "has no polygon over pixels with a class; check its CRS")
    left_out = _reasons(parts) | {
        "where the map has no data": int((~known).sum()),
        "claimed by polygons of different classes": pixels.dropped.get("conflict", 0),
    }
    pixels, value = pixels[known], value[known]
    classes, truth = _matched(path, opened.classes, np.array(labels.classes)[pixels.label])
    piece = pixels.polygon
    if block is not None:
        piece = most_common(opened.block_of(pixels.row, pixels.column, block), piece)
    return Pieces(
        classes=classes,
        mapped=value - 1,
        truth=truth,
        row=pixels.row,
        column=pixels.column,
        left_out={reason: n for reason, n in left_out.items() if n},
        piece=piece,
        count=np.ones(len(value), np.int64),
        size=opened.pixel_sizes(pixels.row, pixels.column),
    )


def read_raster(
    path: str, opened: OpenMap, block: float, classes: Sequence[str] | None, crs: str | None
) -> Pieces:
    """All pixels with a class in a raster of true classes, counted by spatial block.

    Args:
        block: side of a block in metres.
        classes: names for its values, as for `outcrop.sources.labels.open_labels`.
        crs: coordinate reference system of a raster that has none.

    Raises:
        OutcropError: the file is not a raster; no pixel has a class in both; no class is one of the
            map's.
    """
    truth = open_class_raster(path, crs, classes)
    truth.note_zero()
    grid = opened.scene
    number = len(truth.classes)
    keys, counts = [np.empty((3, 0), np.int64)], [np.empty(0, np.int64)]
    sizes: list[np.ndarray] = [np.empty(0)]
    with (
        open_raster(opened.path) as mapped,
        truth.reader(grid.crs, grid.transform, grid.height, grid.width) as reader,
    ):
        for window in windows(mapped):
            codes = reader.read(window.row_off, window.col_off, window.height, window.width)
            known = codes >= 0
            if not known.any():
                continue
            found = mapped.read(1, window=window)[known].astype(np.int64)
            row, column = np.nonzero(known)
            row, column = row + window.row_off, column + window.col_off
            piece = opened.block_of(row, column, block)
            key, which, count = np.unique(
                (piece * 256 + found) * number + codes[known],
                return_inverse=True,
                return_counts=True,
            )
            sizes.append(np.bincount(which, opened.pixel_sizes(row, column), len(key)))
            rest, code = np.divmod(key, number)
            keys.append(np.stack([*np.divmod(rest, 256), code]))
            counts.append(count)
    piece, found, code = np.concatenate(keys, axis=1)
    count = np.concatenate(counts)
    here = found != NODATA
    if not here.any():
        raise OutcropError(path, "has no pixel where the map has a class; check its position")
    every, truth_index = _matched(path, opened.classes, np.array(truth.classes)[code[here]])
    unmapped = int(count[~here].sum())
    return Pieces(
        classes=every,
        mapped=found[here] - 1,
        truth=truth_index,
        row=np.empty(0, np.int64),
        column=np.empty(0, np.int64),
        left_out={"where the map has no data": unmapped} if unmapped else {},
        piece=piece[here],
        count=count[here],
        size=np.concatenate(sizes)[here],
    )


def read_shapes(
    path: str,
    column: str | None,
    crs: str | None,
    layer: str | None = None,
    encoding: str | None = None,
) -> tuple[Any, Parts, bool]:
    """All features of a vector file, their parts with a class, and whether these are points.

    Args:
        column: column with the class; "class" if None.
        crs: coordinate reference system of files that have none.
        layer, encoding: see `outcrop.sources.vector.read_vector`.

    Raises:
        OutcropError: there is no such column, or no class in it; the file has neither points nor
            polygons, or both.
    """
    name = CLASS if column is None else column
    frame = read_vector(path, crs, layer, encoding, name)
    if name not in frame.columns or name == frame.geometry.name:
        there = ", ".join(str(each) for each in frame.columns if each != frame.geometry.name)
        raise OutcropError(
            path, f"has no column '{name}'; name the column of the class with `column`: {there}"
        )
    parts = parts_of(frame, name)
    kinds = set(parts.frame.geom_type)
    if not kinds and set(parts.dropped) == {"features without a class"}:
        raise OutcropError(path, f"has no class in column '{name}' yet; fill it first")
    if not kinds:
        reasons = ", ".join(f"{n} {reason}" for reason, n in _reasons(parts).items()) or "no shape"
        raise OutcropError(
            path, f"has no point or polygon with a class ({reasons}); pass another file"
        )
    if "Point" in kinds and len(kinds) > 1:
        raise OutcropError(
            path, "has points and polygons; pass only points or only polygons, e.g. with `layer`"
        )
    return frame, parts, kinds == {"Point"}


def _reasons(parts: Parts) -> dict[str, int]:
    """Number of features that were left out, by reason."""
    return {reason.removeprefix("features "): count for reason, count in parts.dropped.items()}


def _strata(path: str, frame: Any) -> tuple[np.ndarray | None, dict[str, int] | None]:
    if STRATUM not in frame.columns:
        return None, None
    stratum = class_names(frame[STRATUM])
    missing = sum(name is None for name in stratum)
    if missing:
        raise OutcropError(
            path,
            f"has {missing} points without {STRATUM}; fill it, or remove the column if strata are "
            "the map's classes",
        )
    if STRATUM_PIXELS not in frame.columns:
        return stratum, None
    sizes = frame[STRATUM_PIXELS].to_numpy()
    found: dict[str, int] = {}
    for name, size in zip(stratum, sizes, strict=True):
        if not (isinstance(size, int | float | np.integer | np.floating) and size >= 1):
            raise OutcropError(path, f"has {STRATUM_PIXELS} {size}; it must be a number from 1")
        if found.setdefault(name, int(size)) != int(size):
            raise OutcropError(
                path, f"has two {STRATUM_PIXELS} for stratum '{name}'; correct one of them"
            )
    return stratum, found


def _one_a_pixel(pixel: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the first point of each pixel, and of the points in pixels with several classes."""
    _, first, same = np.unique(pixel, return_index=True, return_inverse=True)
    is_first = np.zeros(len(pixel), bool)
    is_first[first] = True
    differs = truth != truth[first][same]
    return is_first, np.isin(same, same[differs])


def _matched(
    path: str, classes: tuple[str, ...], truth: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """All class names, and the classes of the truth as indices into them."""
    names, code = np.unique(truth.astype(str), return_inverse=True)
    if not set(names) & set(classes):
        raise OutcropError(
            path,
            f"has no class of the map: its classes are {', '.join(names)}, those of the map "
            f"{', '.join(classes)}; use the map's names, or name the values of a raster with "
            "`classes`",
        )
    every = (*classes, *(str(name) for name in names if name not in classes))
    note_similar_names(path, every, "use the map's names if they mean the same class")
    return every, np.array([every.index(name) for name in names])[code]


def count_within(patches: PatchSet, scene: Scene, row: np.ndarray, column: np.ndarray) -> int:
    """Number of pixels of a scene whose centre is inside the extent of a patch.

    Args:
        row, column: int, `N`, pixels of the scene.

    Raises:
        OutcropError: the patches have no positions, or are from volumes.
    """
    if patches.positions is None or patches.from_volume:
        raise OutcropError("`patches`", "are from volumes, or have no positions; leave them out")
    x, y = scene.xy(row, column)
    within, (height, width) = np.zeros(len(row), bool), patches.size
    for number, source in enumerate(patches.sources):
        mine = patches.positions[patches.positions.source == number]
        if len(mine):
            top, left = upper_left(mine.row, height), upper_left(mine.column, width)
            corner = np.stack([top, left], axis=1)
            within |= _within(_pixels(source, x, y, scene.crs), corner, patches.size)
    return int(within.sum())


def _within(at: np.ndarray, corner: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mask of the positions inside a patch, in pixels of one source.

    Args:
        at: `N × 2`, positions.
        corner: `P × 2`, upper-left corners of the patches.
        size: rows and columns of a patch.
    """
    from scipy.spatial import KDTree

    # Scaled so that a position in a patch is at most one half from its centre along either axis.
    middles = KDTree(corner / size + 0.5)
    distance, _ = middles.query(at / size, p=np.inf, distance_upper_bound=0.5 + 1e-9)
    return distance <= 0.5


def _pixels(source: Source, x: np.ndarray, y: np.ndarray, crs: str) -> np.ndarray:
    """Fractional row and column in a source of positions in another CRS: `N × 2`."""
    from pyproj import Transformer

    assert source.transform is not None
    if crs != source.crs:
        x, y = Transformer.from_crs(crs, source.crs, always_xy=True).transform(x, y)
    a, b, c, d, e, f = source.transform
    x = wrap_x(x, a * source.width / 2 + b * source.height / 2 + c, source.crs)
    column, row = np.linalg.inv(np.array([[a, b], [d, e]])) @ np.stack([x - c, y - f])
    return np.stack([row, column], axis=1)
