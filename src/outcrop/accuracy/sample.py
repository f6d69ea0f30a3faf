"""Reference points drawn from a class map."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from outcrop.accuracy.allocation import (
    Allocation,
    SamplePlan,
    allocate,
    sample_size,
    smallest_plan,
)
from outcrop.errors import OutcropError
from outcrop.files import check_new, new_file
from outcrop.mapping.openmap import OpenMap, open_map, open_raster
from outcrop.sources.class_raster import windows
from outcrop.sources.metric import geocentric
from outcrop.sources.scene import Scene

Design = Literal["stratified", "simple"]
WHOLE = "whole map"
_SUFFIXES = (".gpkg", ".geojson")
_NONE = 255
_MOST_CANDIDATES = 1_000_000


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
    """Draw reference points, each in the middle of a pixel of its own, and write them.

    Every pixel with a class has a known chance to be drawn, all pixels of a stratum the same; that
    is what makes the intervals of `assess` hold. The map is read in windows of bounded memory.

    The file's columns: id, from 1, in random order; class, empty, to be filled with what is found
    on the ground; stratum, the class of the map (of a simple sample "whole map"); stratum_pixels,
    how many pixels the stratum has; probability, the chance that a pixel of it had to be drawn; x
    and y in the map's CRS. Whoever looks should not know what the map says, or will be led by it:
    hide the columns stratum, stratum_pixels and probability, but keep them in the file, for
    `assess` needs them if the map is changed after the points were drawn.

    Args:
        class_map: made by `map_scene`.
        output: a new .gpkg or .geojson.
        design: stratified by the map's classes, or simple: all pixels alike.
        n: points in all; if None, as many as `standard_error` asks for.
        expected: the user's accuracies that are hoped for, one for all or by class.
        standard_error: of the overall accuracy, where `n` is None.
        allocation: of a stratified sample, see `outcrop.accuracy.allocation.allocate`.
        floor: with the compromise, the least points of a class.
        minimum_distance: metres between any two points. Points near many others of their kind are
            then a little less likely than the column says.
        seed: the same seed draws the same points.
        overwrite: whether the file may exist.

    Returns:
        The plan that was carried out, with the standard errors to be expected.

    Raises:
        OutcropError: no class map; n too small or too large; a class that is not there; no room
            for the distance; the file exists.
    """
    output = Path(output)
    if output.suffix.lower() not in _SUFFIXES:
        raise OutcropError(output, f"ends neither in {' nor in '.join(_SUFFIXES)}; take one")
    check_new(output, overwrite)
    if minimum_distance < 0:
        raise OutcropError("--minimum-distance", f"must be 0 or more, not {minimum_distance:g}")
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
    _write(
        output,
        opened.scene.crs,
        {
            "stratum": strata[stratum],
            "stratum_pixels": sizes[stratum],
            "probability": wanted[stratum] / sizes[stratum],
            "x": x,
            "y": y,
        },
    )
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
        raise OutcropError("--standard-error", f"must be between 0 and 1, not {standard_error}")
    if floor < 2:
        raise OutcropError("--floor", f"must be 2 or more, not {floor}")
    if n is None and np.isnan(hoped[pixels > 0]).any():
        raise OutcropError(
            "--n", "is missing; give it, or --expected with the user's accuracies hoped for"
        )
    least = 2 if simple else 1
    if n is not None and n < least:
        raise OutcropError("--n", f"must be {least} or more, not {n}")

    def plan_of(n: int) -> SamplePlan:
        if n > pixels.sum():
            raise OutcropError("--n", f"is {n}, more than the {pixels.sum()} pixels; lower it")
        points = (
            n * pixels / pixels.sum()
            if simple
            else allocate(pixels, n, allocation, floor, opened.sizes)
        )
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
                "--expected", f"names '{name}', but the map has {', '.join(classes)}; take those"
            )
        if not 0 <= value <= 1:
            raise OutcropError("--expected", f"must be from 0 to 1, not {value:g}")
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
        ranks = [
            random.choice(size, count, replace=False)
            for size, count in zip(sizes, tries, strict=True)
        ]
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
                "--minimum-distance",
                f"leaves room for {found.sum()} of {wanted.sum()} points; lower it, or --n",
            )
        tries = np.minimum(4 * tries, most)


def _pixels_at(
    opened: OpenMap, stratum_of: np.ndarray, ranks: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the pixels with these numbers among those of their stratum.

    Pixels are numbered window by window.

    Args:
        stratum_of: uint8, 256, the stratum of each pixel value, or 255.
        ranks: for each stratum numbers of its pixels, from 0.
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
                output, f"could not be written whole; is the disk full? ({error})"
            ) from error


_AROUND = tuple(product((-1, 0, 1), repeat=3))


def far_apart(
    scene: Scene,
    row: np.ndarray,
    column: np.ndarray,
    stratum: np.ndarray,
    wanted: np.ndarray,
    distance: float,
) -> np.ndarray:
    """Indices of the pixels to keep, so that no two are nearer than `distance`.

    They are taken in the order given: one is kept if it is far enough from all that were kept
    before, and its stratum has not all that it wants.

    Args:
        row, column: int, `N`, pixels of the scene.
        stratum: int, `N`.
        wanted: `H`, the most of each stratum.
        distance: metres between the middles of pixels, in a straight line through the earth; the
            way over it is 0.1 % longer at 1000 km.
    """
    at = geocentric(scene.crs, *scene.xy(row, column))
    cells = np.floor(at / distance).astype(np.int64).tolist()
    kept: list[int] = []
    left = wanted.tolist()
    # Of a point only those in the cells around it can be too near.
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
