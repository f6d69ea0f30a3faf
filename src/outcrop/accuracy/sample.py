"""Reference points drawn from a class map."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from outcrop.accuracy.allocation import Allocation, SamplePlan, allocate, sample_size, smallest_plan
from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file
from outcrop.mapping.openmap import OpenMap, open_map, open_raster
from outcrop.sources.class_raster import windows
from outcrop.sources.geodesy import geocentric
from outcrop.sources.scene import Scene

Design = Literal["stratified", "simple"]
WHOLE = "whole map"
_SUFFIXES = (".gpkg", ".geojson")
_NONE = 255
_MOST_CANDIDATES = 1_000_000
_AROUND = tuple(product((-1, 0, 1), repeat=3))


def sample(
    class_map: str | Path,
    output: str | Path,
    design: Design = "stratified",
    n: int | None = None,
    expected: float | Mapping[str, float] | None = None,
    standard_error: float = 0.01,
    allocation: Allocation = "compromise",
    floor: int = 50,
    minimum_distance: float = 0,
    seed: int = 0,
    overwrite: bool = False,
) -> SamplePlan:
    """Draw reference points, each at the centre of a different pixel, and write them.

    Every pixel with a class has a known inclusion probability, the same for all pixels of a
    stratum; the intervals of `assess` rely on it. The map is read in windows of bounded memory.

    Columns of the file: id, from 1, in random order; class, empty, to be filled with the true
    class; stratum, the class in the map ("whole map" for a simple sample); stratum_pixels, number
    of pixels of the stratum; probability, inclusion probability of its pixels; x and y in the map's
    coordinate reference system. Whoever interprets the points should not see the class of the map:
    hide the columns stratum, stratum_pixels and probability, but keep them in the file. `assess`
    needs them if the map is changed after the points were drawn.

    Args:
        class_map: class map made by `map_scene`.
        output: a new .gpkg or .geojson file.
        design: "stratified" by the map's classes, or "simple" random.
        n: total number of points; if None, it follows from `standard_error`.
        expected: expected user's accuracies, one for all or by class.
        standard_error: wanted standard error of the overall accuracy, if `n` is None.
        allocation: allocation of a stratified sample; see `outcrop.accuracy.allocation.allocate`.
        floor: minimum points of a class in the compromise.
        minimum_distance: minimum distance in metres between two points. Points near many others of
            their stratum are then slightly less likely than the column states.
        seed: random seed.
        overwrite: whether the file may exist.

    Returns:
        The plan of the sample, with the expected standard errors.

    Raises:
        OutcropError: `class_map` is not a class map; n is too small or too large; a class does not
            exist; the distance leaves too little room; the file exists.
    """
    output = Path(output)
    if output.suffix.lower() not in _SUFFIXES:
        raise OutcropError(output, f"must end in {' or '.join(_SUFFIXES)}; change the name")
    check_new(output, overwrite)
    if minimum_distance < 0:
        raise OutcropError("`minimum_distance`", f"must be 0 or more, not {minimum_distance:g}")
    opened = open_map(class_map)
    plan = _plan(opened, design, n, expected, standard_error, allocation, floor)
    random = np.random.default_rng(seed)
    stratum_of = np.full(256, _NONE, np.uint8)
    if plan.simple:
        strata = np.array([WHOLE], object)
        sizes, wanted = np.array([plan.pixels.sum()]), np.array([round(plan.points.sum())])
        stratum_of[1 : len(plan.classes) + 1] = 0
    else:
        strata = np.array(plan.classes, object)
        sizes, wanted = plan.pixels, plan.points
        stratum_of[1 : len(plan.classes) + 1] = np.arange(len(plan.classes))
    row, column, stratum = _draw(opened, stratum_of, sizes, wanted, minimum_distance, random)
    x, y = opened.scene.xy(row, column)
    columns = {
        "stratum": strata[stratum],
        "stratum_pixels": sizes[stratum],
        "probability": wanted[stratum] / sizes[stratum],
        "x": x,
        "y": y,
    }
    _write(output, opened.scene.crs, columns)
    return plan


def _plan(
    opened: OpenMap,
    design: Design,
    n: int | None,
    expected: float | Mapping[str, float] | None,
    standard_error: float,
    allocation: Allocation,
    floor: int,
) -> SamplePlan:
    pixels, simple = opened.pixels, design == "simple"
    hoped = _expected(opened.classes, expected)
    if not 0 < standard_error < 1:
        raise OutcropError("`standard_error`", f"must be between 0 and 1, not {standard_error}")
    if floor < 2:
        raise OutcropError("`floor`", f"must be 2 or more, not {floor}")
    if n is None and np.isnan(hoped[pixels > 0]).any():
        raise OutcropError(
            "`n`", "is missing; pass it, or `expected` with the expected user's accuracies"
        )
    least = 2 if simple else 1
    if n is not None and n < least:
        raise OutcropError("`n`", f"must be {least} or more, not {n}")

    def plan_of(n: int) -> SamplePlan:
        if n > pixels.sum():
            raise OutcropError("`n`", f"is {n}, more than the {pixels.sum()} pixels; lower it")
        expected_points = n * pixels / pixels.sum()
        points = expected_points if simple else allocate(pixels, n, allocation, floor, opened.sizes)
        return SamplePlan(opened.classes, pixels, points, hoped, simple, opened.sizes)

    if n is not None:
        return plan_of(n)
    fewest = sample_size(opened.sizes, np.nan_to_num(hoped), standard_error, simple)
    floors = 0 if simple else np.minimum(floor if allocation == "compromise" else 2, pixels).sum()
    least = max(fewest, int(floors), least)
    return smallest_plan(plan_of, standard_error, least, int(pixels.sum()))


def _expected(classes: tuple[str, ...], expected: float | Mapping[str, float] | None) -> np.ndarray:
    if expected is None:
        return np.full(len(classes), np.nan)
    if not isinstance(expected, Mapping):
        expected = dict.fromkeys(classes, expected)
    for name, value in expected.items():
        if name not in classes:
            raise OutcropError(
                "`expected`", f"names '{name}', but the map has {', '.join(classes)}; use these"
            )
        if not 0 <= value <= 1:
            raise OutcropError("`expected`", f"must be from 0 to 1, not {value:g}")
    return np.array([expected.get(name, np.nan) for name in classes])


def _draw(
    opened: OpenMap,
    stratum_of: np.ndarray,
    sizes: np.ndarray,
    wanted: np.ndarray,
    distance: float,
    random: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and stratum of the points, in random order."""
    most = np.maximum(wanted, np.minimum(sizes, _MOST_CANDIDATES))
    tries = wanted if distance <= 0 else np.minimum(2 * wanted, most)
    while True:
        counts = zip(sizes, tries, strict=True)
        ranks = [random.choice(size, count, replace=False) for size, count in counts]
        row, column = _pixels_at(opened, stratum_of, ranks)
        stratum = np.repeat(np.arange(len(sizes)), tries)
        order = random.permutation(len(row))
        row, column, stratum = row[order], column[order], stratum[order]
        if distance <= 0:
            return row, column, stratum
        kept = far_apart(opened.scene, row, column, stratum, wanted, distance)
        found = np.bincount(stratum[kept], minlength=len(sizes))
        if (found == wanted).all():
            return row[kept], column[kept], stratum[kept]
        if (tries == most)[found < wanted].all():
            raise OutcropError(
                "`minimum_distance`",
                f"leaves room for {found.sum()} of {wanted.sum()} points; lower it or `n`",
            )
        tries = np.minimum(4 * tries, most)


def _pixels_at(
    opened: OpenMap, stratum_of: np.ndarray, ranks: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of pixels that are given by their numbers in their stratum.

    Pixels are numbered window by window.

    Args:
        stratum_of: uint8, 256, stratum of each pixel value, or 255 for none.
        ranks: for each stratum, numbers of pixels from 0.
    """
    rows, columns = ([np.empty(len(each), np.int64) for each in ranks] for _ in range(2))
    order = [np.argsort(each) for each in ranks]
    passed, done = np.zeros((2, len(ranks)), np.int64)
    with open_raster(opened.path) as dataset:
        for window in windows(dataset):
            stratum = stratum_of[dataset.read(1, window=window).reshape(-1)]
            passing = passed + np.bincount(stratum, minlength=256)[: len(ranks)]
            for k, mine in enumerate(ranks):
                upto = int(np.searchsorted(mine, passing[k], sorter=order[k]))
                chosen = order[k][done[k] : upto]
                if len(chosen):
                    at = np.flatnonzero(stratum == k)[mine[chosen] - passed[k]]
                    rows[k][chosen] = window.row_off + at // window.width
                    columns[k][chosen] = window.col_off + at % window.width
                done[k] = upto
            passed = passing
    return np.concatenate(rows), np.concatenate(columns)


def _write(output: Path, crs: str, columns: dict[str, np.ndarray]) -> None:
    import geopandas as gpd
    import pandas as pd

    n = len(columns["x"])
    frame = pd.DataFrame({"id": np.arange(1, n + 1), "class": pd.array([None] * n, "string")})
    frame = frame.assign(**columns)
    points = gpd.points_from_xy(columns["x"], columns["y"], crs=crs)
    with new_file(output) as temporary:
        try:
            gpd.GeoDataFrame(frame, geometry=points).to_file(
                temporary, layer=output.stem, engine="pyogrio"
            )
        except RuntimeError as error:
            raise OutcropError(
                output, f"could not be written completely; is the disk full? ({error})"
            ) from error


def far_apart(
    scene: Scene,
    row: np.ndarray,
    column: np.ndarray,
    stratum: np.ndarray,
    wanted: np.ndarray,
    distance: float,
) -> np.ndarray:
    """Indices of the pixels to keep so that no two are nearer than `distance`.

    Pixels are visited in the given order. A pixel is kept if it is far enough from all kept pixels
    and its stratum still needs pixels.

    Args:
        scene: grid of the pixels.
        row, column: int, `N`, pixels of the scene.
        stratum: int, `N`, stratum of each pixel.
        wanted: `H`, maximum number of pixels of each stratum.
        distance: metres between the centres of pixels, in a straight line through the earth; the
            distance on its surface is 0.1 % longer at 1000 km.
    """
    at = geocentric(scene.crs, *scene.xy(row, column))
    cells = np.floor(at / distance).astype(np.int64).tolist()
    kept: list[int] = []
    left = wanted.tolist()
    # Only points in the neighbouring cells can be too near.
    grid: dict[tuple[int, ...], list[int]] = {}
    for i, (cell, k) in enumerate(zip(cells, stratum.tolist(), strict=True)):
        if not left[k]:
            continue
        near = [j for step in _AROUND for j in grid.get(tuple(map(operator.add, cell, step)), ())]
        if near and np.linalg.norm(at[near] - at[i], axis=1).min() < distance:
            continue
        grid.setdefault(tuple(cell), []).append(i)
        kept.append(i)
        left[k] -= 1
    return np.array(kept, np.int64)
