"""Assess a class map: accuracy and area of its classes from reference data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from outcrop.accuracy.areas import MapAccuracy, Moments, by_map_class, by_piece, by_stratum
from outcrop.accuracy.assessment import Assessment, Basis
from outcrop.accuracy.reference import (
    STRATUM_PIXELS,
    Pieces,
    Points,
    Reference,
    count_within,
    read_points,
    read_polygons,
    read_raster,
    read_shapes,
)
from outcrop.accuracy.sample import WHOLE
from outcrop.errors import OutcropError
from outcrop.mapping.openmap import OpenMap, open_map
from outcrop.patches.collection import AnyPatches, open_patches
from outcrop.sources.names import existing_name
from outcrop.sources.vector import is_vector

_BLOCKS_ALONG = 10
_UNLIKELY = 0.01


def assess(
    class_map: str | Path,
    reference: str | Path,
    column: str | None = None,
    design: Literal["stratified", "simple"] | None = None,
    block: float | None = None,
    patches: AnyPatches | None = None,
    labels_crs: str | None = None,
    draws: int = 2000,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    layer: str | None = None,
    encoding: str | None = None,
) -> Assessment:
    """Compare a class map with reference data that the model was not trained on.

    Points must be a random sample, drawn with `sample` or by the same rules; each point counts for
    its pixel. The file may have a column with the stratum of each point. If a stratum differs from
    the map's class at a point, for example because the map was changed after sampling, the weights
    are those of the strata, and the accuracy of the map's classes is estimated from all strata.
    Polygons and rasters of true classes are no probability sample: their pixels are weighted by the
    areas of the map's classes, and the intervals are from whole polygons or spatial blocks.

    Args:
        class_map: class map made by `map_scene`.
        reference: points or polygons in any vector format, or a raster of true classes; in any
            coordinate reference system.
        column: column of a vector file with the class; "class" if None.
        design: design of points without a column of strata: "stratified" by the map's classes, or
            "simple" random; stratified if None. It changes the description, not the values.
        block: side in metres of spatial blocks that group polygons or the pixels of a raster.
            Default: single polygons; for a raster, a tenth of the map's longer side.
        patches: training patches of the model; points and pixels inside them are counted.
        labels_crs: coordinate reference system of a reference that has none.
        draws: number of bootstrap samples.
        seed: random seed of the bootstrap.
        classes: names for the values of a raster, as for `outcrop.sources.labels.open_labels`.
        layer: layer of a vector file with several layers.
        encoding: text encoding of a vector file that declares none or a wrong one.

    Raises:
        OutcropError: a file is missing or unusable; map and reference have no class in common;
            options cannot be combined.
    """
    opened, path = open_map(class_map), existing_name(reference)
    if block is not None and not block > 0:
        raise OutcropError("`block`", f"must be above 0, not {block:g}")
    if not is_vector(path):
        of_vectors = {"column": column, "layer": layer, "encoding": encoding}
        _refuse("a raster", design=design, patches=patches, **of_vectors)
        side = opened.side / _BLOCKS_ALONG if block is None else block
        pieces = read_raster(path, opened, side, classes, labels_crs)
        return _of_pieces("raster", opened, path, pieces, side, draws, seed)
    _refuse("a vector file", classes=classes)
    features, parts, are_points = read_shapes(path, column, labels_crs, layer, encoding)
    if are_points:
        _refuse("points", block=block)
        points = read_points(path, opened, features, parts)
        made, at = _of_points(opened, path, points, design), (points.row, points.column)
    else:
        _refuse("polygons", design=design)
        pieces = read_polygons(path, opened, parts, block)
        made = _of_pieces("polygons", opened, path, pieces, block, draws, seed)
        at = pieces.row, pieces.column
    if patches is None:
        return made
    return replace(made, trained_on=count_within(open_patches(patches), opened.scene, *at))


def _of_points(
    opened: OpenMap, path: str, points: Points, design: Literal["stratified", "simple"] | None
) -> Assessment:
    K = len(points.classes)
    counts = _matrix(points.mapped, points.truth, np.ones(len(points.truth)), K)
    pixels, sizes = _padded(opened.pixels, K), _padded(opened.sizes, K)
    cell = points.mapped * K + points.truth
    weights = _moments(opened, points, points.mapped, cell, (K, K))
    strata = points.stratum
    basis: Basis
    if strata is not None and design is not None and (design == "simple") != _is_whole(strata):
        was = "simple" if _is_whole(strata) else "stratified"
        raise OutcropError(
            "`design`", f"is {design}, but {path} has strata of a {was} sample; leave it out"
        )
    if strata is None or _is_whole(strata):
        basis = "simple" if strata is not None or design == "simple" else "stratified"
        accuracy = by_map_class(counts, sizes, weights)
    elif (strata == np.array(points.classes, object)[points.mapped]).all() and _same_sizes(
        points, pixels
    ):
        basis, accuracy = "stratified", by_map_class(counts, sizes, weights)
    else:
        basis, accuracy = "other strata", _by_other_strata(opened, path, points, K)
    return _assessment(
        opened,
        path,
        points,
        counts,
        accuracy,
        basis=basis,
        pieces=len(points.truth),
        design_known=strata is not None or design is not None,
    )


def _by_other_strata(opened: OpenMap, path: str, points: Points, K: int) -> MapAccuracy:
    assert points.stratum is not None
    if points.stratum_pixels is None:
        changed = points.stratum != np.array(points.classes, object)[points.mapped]
        raise OutcropError(
            path,
            f"has {changed.sum()} points whose stratum is not the map's class there, but no column "
            f"{STRATUM_PIXELS} with the size of the strata; add it, as `outcrop.sample` does",
        )
    sampled, there = sum(points.stratum_pixels.values()), int(opened.pixels.sum())
    if sampled < there:
        raise OutcropError(
            path,
            f"has strata of {sampled:,} pixels, but the map has {there:,}; restore the points that "
            "were removed from the file, or draw new ones from this map",
        )
    n = len(points.stratum)
    if not len(points.off_map) and (there / sampled) ** n < _UNLIKELY:
        raise OutcropError(
            path,
            f"has strata of {sampled:,} pixels, and the map has only {there:,}, but all of its {n} "
            "points have a class in the map; restore the points that were removed from the file, "
            "or draw new ones from this map",
        )
    names = list(points.stratum_pixels)
    stratum = np.array([names.index(name) for name in points.stratum])
    off_map = np.bincount([names.index(name) for name in points.off_map], minlength=len(names))
    table = np.zeros((len(names), K, K), np.int64)
    np.add.at(table, (stratum, points.mapped, points.truth), 1)
    sizes = np.array([points.stratum_pixels[name] for name in names], np.float64)
    if opened.pixel_areas.are_equal:
        return by_stratum(table, sizes, off_map=off_map)
    area = opened.pixel_areas.at(points.row, points.column)
    drawn = np.bincount(stratum, minlength=len(names))
    # Only the number of pixels of a stratum is known, because the map may have changed. Their mean
    # area is estimated from the samples; without samples all values are unknown anyway.
    mean = np.bincount(stratum, area, len(names)) / np.maximum(drawn, 1)
    sizes *= np.where(drawn > 0, mean, area.mean())
    cell = (stratum * K + points.mapped) * K + points.truth
    weights = _moments(opened, points, stratum, cell, table.shape)
    return by_stratum(table, sizes, weights, off_map)


def _moments(
    opened: OpenMap, points: Points, stratum: np.ndarray, cell: np.ndarray, shape: tuple[int, ...]
) -> Moments | None:
    """Sums of the weights of samples, and of their squares, by cell; None if pixels are equal."""
    if opened.pixel_areas.are_equal:
        return None
    area = opened.pixel_areas.at(points.row, points.column)
    weight = area / (np.bincount(stratum, area) / np.maximum(np.bincount(stratum), 1))[stratum]
    cells = math.prod(shape)
    first, second = (np.bincount(cell, weight**power, cells).reshape(shape) for power in (1, 2))
    return first, second


def _of_pieces(
    basis: Basis,
    opened: OpenMap,
    path: str,
    pieces: Pieces,
    block: float | None,
    draws: int,
    seed: int,
) -> Assessment:
    K = len(pieces.classes)
    numbers, piece = np.unique(pieces.piece, return_inverse=True)
    table = sparse.coo_array(
        (pieces.size, (piece, pieces.mapped * K + pieces.truth)), shape=(len(numbers), K * K)
    ).tocsr()
    counts = _matrix(pieces.mapped, pieces.truth, pieces.count, K)
    wall_to_wall = bool(counts.sum() == opened.pixels.sum())
    accuracy = by_piece(table, _padded(opened.sizes, K), wall_to_wall, draws, seed)
    return _assessment(
        opened, path, pieces, counts, accuracy, basis=basis, pieces=len(numbers), block=block
    )


def _assessment(
    opened: OpenMap,
    path: str,
    found: Reference,
    counts: np.ndarray,
    accuracy: MapAccuracy,
    **behind: Any,
) -> Assessment:
    return Assessment(
        map=str(opened.path),
        reference=str(path),
        classes=found.classes,
        pixels=_padded(opened.pixels, len(found.classes)),
        hectares=_padded(opened.hectares, len(found.classes)),
        unequal=not opened.pixel_areas.are_equal,
        counts=counts,
        accuracy=accuracy,
        left_out=found.left_out,
        **behind,
    )


def _matrix(mapped: np.ndarray, truth: np.ndarray, count: np.ndarray, K: int) -> np.ndarray:
    cells = np.bincount(mapped * K + truth, count, K * K)
    return np.rint(cells).astype(np.int64).reshape(K, K)


def _padded(pixels: np.ndarray, K: int) -> np.ndarray:
    """Values of the map's classes, followed by 0 for the classes that only the reference has."""
    return np.concatenate([pixels, np.zeros(K - len(pixels), pixels.dtype)])


def _is_whole(strata: np.ndarray) -> bool:
    return bool((strata == WHOLE).all())


def _same_sizes(points: Points, pixels: np.ndarray) -> bool:
    """Whether the strata have the same numbers of pixels as the map's classes."""
    now = dict(zip(points.classes, pixels.tolist(), strict=True))
    sizes = points.stratum_pixels or {}
    return all(now.get(name) == size for name, size in sizes.items())


def _refuse(what: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise OutcropError(f"`{name}`", f"has no effect with {what}; leave it out")
