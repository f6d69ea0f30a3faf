"""What is known of the ground of a class map: points, polygons, or a raster of true classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.mapping.layers import NODATA
from outcrop.mapping.openmap import OpenMap
from outcrop.mapping.rasters import (
    open_raster,
    refuse_fractions,
    truth_names,
    truth_on,
    windows,
)
from outcrop.sources.labels import open_labels
from outcrop.sources.vector import read_vector, reproject

CLASS, STRATUM, STRATUM_PIXELS = "class", "stratum", "stratum_pixels"


@dataclass(frozen=True)
class Reference:
    """Places where both the map and the truth are known.

    Attributes:
        classes: those of the map, then those of the truth alone.
        mapped, truth: int64, `N`, indices into `classes`.
        row, column: int64, `N`, in the map; empty for a raster, which is counted by block.
        left_out: how many were left out, by reason.
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
        stratum: object, `N`, the name of the stratum each was drawn in; None if the file does not
            say.
        stratum_pixels: of each stratum, those without a point left included; None if the file does
            not say.
    """

    stratum: np.ndarray | None = None
    stratum_pixels: dict[str, int] | None = None


@dataclass(frozen=True)
class Pieces(Reference):
    """Labelled pixels in pieces of ground that are not independent within.

    Attributes:
        piece: int64, `N`, the polygon, or the block of ground.
        count: int64, `N`, pixels that the entry stands for.
        size: float64, `N`, the same, in square metres where the map's pixels differ in area.
    """

    piece: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    count: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    size: np.ndarray = field(default_factory=lambda: np.empty(0))


def read_points(path: Path, opened: OpenMap, frame: Any, column: str) -> Points:
    """Points of a vector file that fall on pixels with a class and have one themselves.

    Of several points in one pixel the first counts, and none if they differ in class.

    Args:
        frame: what `read_vector` read, with points alone.
        column: that names the class.

    Raises:
        OutcropError: no point is left; none has a class of the map; strata are half told.
    """
    truth = _names(frame[column])
    left_out = {"without a class": int((truth == "").sum())}
    stratum, sizes = _strata(path, frame)
    named = truth != ""
    frame, truth = frame[named], truth[named]
    stratum = None if stratum is None else stratum[named]
    if not len(frame):
        raise OutcropError(path, f"has no class in column '{column}' yet; fill it first")
    place = reproject(frame, opened.scene.crs, path, opened.scene.bounds).geometry
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
    )


def read_polygons(
    path: Path, opened: OpenMap, column: str, crs: str | None, block: float | None
) -> Pieces:
    """The pixels of labelled polygons, each polygon or block of ground a piece.

    Args:
        crs: the coordinate reference system, for files that do not carry one.
        block: side of a block in metres, which keeps polygons whole: one belongs to the block that
            holds most of its pixels.

    Raises:
        OutcropError: no pixel of a polygon has a class in the map; no class is one of the map's.
    """
    from outcrop.splits.ground import most_common

    labels = open_labels(path, column, crs=crs)
    pixels = labels.on(opened.scene)
    value = opened.at(pixels.row, pixels.column).astype(np.int64)
    known = value != NODATA
    if not known.any():
        raise OutcropError(path, "has no polygon over pixels with a class; check its CRS")
    left_out = {
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


def read_raster(path: Path, opened: OpenMap, block: float) -> Pieces:
    """All pixels that a raster of true classes knows, counted by block of ground.

    Args:
        block: side of a block in metres.

    Raises:
        OutcropError: no raster; no pixel is known to both; no class is one of the map's.
    """
    keys, counts = [np.empty((3, 0), np.int64)], [np.empty(0, np.int64)]
    sizes: list[np.ndarray] = [np.empty(0)]
    with open_raster(opened.path) as mapped, truth_on(mapped, path) as truth:
        for window in windows(mapped):
            known = truth.read_masks(1, window=window) > 0
            if not known.any():
                continue
            values = truth.read(1, window=window)[known]
            refuse_fractions(values, path)
            found = mapped.read(1, window=window)[known].astype(np.int64)
            row, column = np.nonzero(known)
            row, column = row + window.row_off, column + window.col_off
            piece = opened.block_of(row, column, block)
            there, value = np.unique(values.astype(np.int64), return_inverse=True)
            key, which, count = np.unique(
                (piece * 256 + found) * len(there) + value, return_inverse=True, return_counts=True
            )
            sizes.append(np.bincount(which, opened.pixel_sizes(row, column), len(key)))
            rest, value = np.divmod(key, len(there))
            keys.append(np.stack([*np.divmod(rest, 256), there[value]]))
            counts.append(count)
    piece, found, value = np.concatenate(keys, axis=1)
    count = np.concatenate(counts)
    here = found != NODATA
    if not here.any():
        raise OutcropError(path, "knows no pixel that the map has a class for; check its place")
    names = truth_names(path)
    named, code = np.unique(value[here], return_inverse=True)
    truth_of = np.array([names.get(int(v), f"class {v}") for v in named])
    classes, truth_index = _matched(path, opened.classes, truth_of[code])
    unmapped = int(count[~here].sum())
    return Pieces(
        classes=classes,
        mapped=found[here] - 1,
        truth=truth_index,
        row=np.empty(0, np.int64),
        column=np.empty(0, np.int64),
        left_out={"where the map has no data": unmapped} if unmapped else {},
        piece=piece[here],
        count=count[here],
        size=np.concatenate(sizes)[here],
    )


def read_shapes(path: Path, column: str | None, crs: str | None) -> tuple[Any, str, bool]:
    """A vector file, the column that names the class, and whether it holds points.

    Args:
        column: "class" if None.

    Raises:
        OutcropError: no such column; neither points nor polygons, or both.
    """
    frame = read_vector(path, crs)
    name = CLASS if column is None else column
    if name not in frame.columns or name == frame.geometry.name:
        there = ", ".join(str(each) for each in frame.columns if each != frame.geometry.name)
        raise OutcropError(
            path, f"has no column '{name}'; name the one with the class by --column, of {there}"
        )
    frame = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
    kinds = set(frame.geom_type)
    if kinds and kinds <= {"Point", "MultiPoint"}:
        return frame.explode(index_parts=False, ignore_index=True), name, True
    if kinds and kinds <= {"Polygon", "MultiPolygon"}:
        return frame, name, False
    raise OutcropError(
        path, f"holds {', '.join(sorted(kinds)) or 'no shape'}; pass points alone or polygons alone"
    )


def _names(values: Any) -> np.ndarray:
    """Class names as text, "" where there is none; whole numbers without their decimals."""
    return np.array(
        [
            ""
            if missing
            else str(int(value))
            if isinstance(value, float) and value.is_integer()
            else str(value).strip()
            for value, missing in zip(values, values.isna(), strict=True)
        ],
        dtype=object,
    )


def _strata(path: Path, frame: Any) -> tuple[np.ndarray | None, dict[str, int] | None]:
    if STRATUM not in frame.columns:
        return None, None
    stratum = _names(frame[STRATUM])
    if (stratum == "").any():
        raise OutcropError(
            path,
            f"does not tell the {STRATUM} of {int((stratum == '').sum())} points; fill it, or drop "
            "the column if strata are the map's classes",
        )
    if STRATUM_PIXELS not in frame.columns:
        return stratum, None
    sizes = frame[STRATUM_PIXELS].to_numpy()
    told: dict[str, int] = {}
    for name, size in zip(stratum, sizes, strict=True):
        if not (isinstance(size, int | float | np.integer | np.floating) and size >= 1):
            raise OutcropError(path, f"has {STRATUM_PIXELS} {size}; it must be a number from 1")
        if told.setdefault(name, int(size)) != int(size):
            raise OutcropError(
                path, f"tells two {STRATUM_PIXELS} of stratum '{name}'; correct one of them"
            )
    return stratum, told


def _one_a_pixel(pixel: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the first point of each pixel, and of those whose pixel has several classes."""
    _, first, same = np.unique(pixel, return_index=True, return_inverse=True)
    is_first = np.zeros(len(pixel), bool)
    is_first[first] = True
    differs = truth != truth[first][same]
    return is_first, np.isin(same, same[differs])


def _matched(
    path: Path, classes: tuple[str, ...], truth: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """All class names, and those of the truth as indices into them."""
    names, code = np.unique(truth.astype(str), return_inverse=True)
    if not set(names) & set(classes):
        raise OutcropError(
            path,
            f"names no class of the map: it has {', '.join(names)}, the map {', '.join(classes)}; "
            "use the map's names",
        )
    every = (*classes, *(str(name) for name in names if name not in classes))
    return every, np.array([every.index(name) for name in names])[code]
