"""Pixels per second of a forest over a scene: compiled trees, scikit-learn, and OTB in one run."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas
import numpy as np
import rasterio
import sklearn
from rasterio.windows import Window
from sklearn.ensemble import RandomForestClassifier

from benchmarks.machine import describe
from outcrop.models.baselines import Baseline, FittedBaseline

TREES, DEPTH, TILE = 200, 25, 256


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scene", type=Path, default=Path("../shared/data/real/agnet"))
    options.add_argument("--side", type=int, default=768, help="of the square that is mapped")
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--lines", type=Path, default=Path("benchmarks/forest_map.jsonl"))
    chosen = options.parse_args()
    with TemporaryDirectory() as folder:
        run(chosen, Path(folder))


def run(chosen: argparse.Namespace, folder: Path) -> None:
    features, labels, names = places(chosen.scene)
    image = square(chosen.scene / "agnet_l8.tif", chosen.side, folder / "square.tif")
    pixels = image.reshape(len(image), -1).T.astype(np.float32)
    forest = RandomForestClassifier(TREES, random_state=0, n_jobs=chosen.jobs)
    fitted = Baseline("200 trees", "centre pixel", forest).fit(features, labels)
    theirs: Callable[[], np.ndarray] = partial(fitted.estimator.predict, pixels)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "scikit-learn, in memory": theirs,
        "compiled, in memory": partial(in_memory, fitted, pixels, chosen.jobs),
        "compiled, read and written by tiles": partial(
            by_tiles, fitted, folder / "square.tif", folder / "ours.tif", chosen.jobs
        ),
    }
    if shutil.which("otbcli_ImageClassifier"):
        otb_train(features, labels, folder)
        ways["OTB"] = partial(otb_map, folder, chosen.jobs)
    else:
        print("OTB is absent (Debian: otb-bin): left out")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(chosen.repeats + 1):
        maps = {}
        for way, work in ways.items():
            started = time.perf_counter()
            maps[way] = work()
            if repeat:  # the first one warms up
                seconds[way].append(time.perf_counter() - started)
    differing = max(
        float(np.mean(maps[way].ravel() != maps["scikit-learn, in memory"].ravel()))
        for way in ways
        if way.startswith("compiled")
    )
    found = fitted.probabilities_of(pixels)
    furthest = float(np.abs(found - fitted.estimator.predict_proba(pixels)).max())
    print(f"{describe()}, scikit-learn {sklearn.__version__}; {TREES} trees, {len(names)} classes,")
    print(f"{chosen.side} × {chosen.side} pixels, {chosen.jobs} jobs; median of {chosen.repeats}.")
    print(f"Pixels of another class than scikit-learn's: {differing:.2%}; probabilities differ")
    print(f"by at most {furthest:.1e}.\n")
    print("| way | pixels/s | compiled by tiles is faster | range |\n| --- | --- | --- | --- |")
    ours = seconds["compiled, read and written by tiles"]
    for way, taken in seconds.items():
        ratios = [its / mine for its, mine in zip(taken, ours, strict=True)]
        line = {
            "way": way,
            "pixels_per_second": round(chosen.side**2 / statistics.median(taken)),
            "ratio": round(statistics.median(ratios), 2),
            "range": [round(min(ratios), 2), round(max(ratios), 2)],
            "side": chosen.side,
            "jobs": chosen.jobs,
            "machine": describe(),
        }
        print(
            f"| {way} | {line['pixels_per_second']:,} | {line['ratio']} × | "
            f"{min(ratios):.2f} to {max(ratios):.2f} |"
        )
        with chosen.lines.open("a") as lines:
            lines.write(json.dumps(line) + "\n")


def places(folder: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Band values and classes of the labelled pixels."""
    points = geopandas.read_file(folder / "agnet_points.gpkg")
    with rasterio.open(folder / "agnet_l8.tif") as scene:
        points = points.to_crs(scene.crs)
        at = zip(points.geometry.x, points.geometry.y, strict=True)
        features = np.array(list(scene.sample(at)))
        kept = (features != scene.nodata).all(axis=1)
    names, labels = np.unique(points["name"], return_inverse=True)
    return features[kept].astype(np.float32), labels[kept], list(names)


def square(scene: Path, side: int, path: Path) -> np.ndarray:
    """The square of the scene that has most data, written by itself too."""
    with rasterio.open(scene) as dataset:
        valid = dataset.read(1) != dataset.nodata
        starts = [
            (row, column)
            for row in range(0, dataset.height - side + 1, 64)
            for column in range(0, dataset.width - side + 1, 64)
        ]
        row, column = max(starts, key=lambda at: valid[at[0] :, at[1] :][:side, :side].sum())
        window = Window(column, row, side, side)
        image = dataset.read(window=window)
        profile = {**dataset.profile, "width": side, "height": side, "tiled": True,
                   "transform": dataset.window_transform(window)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(image)
    return image


def in_memory(fitted: FittedBaseline, pixels: np.ndarray, jobs: int) -> np.ndarray:
    with ThreadPoolExecutor(jobs) as threads:
        return np.concatenate(list(threads.map(fitted.predict, np.array_split(pixels, 8 * jobs))))


def by_tiles(fitted: FittedBaseline, scene: Path, path: Path, jobs: int) -> np.ndarray:
    """Tiles are read one after another, predicted by threads, and written in their order."""
    with rasterio.open(scene) as dataset:
        profile = {**dataset.profile, "count": 1, "dtype": "uint8", "nodata": 255}
        whole = Window(0, 0, dataset.width, dataset.height)
        corners = [
            (column, row)
            for row in range(0, dataset.height, TILE)
            for column in range(0, dataset.width, TILE)
        ]
        windows = [Window(*corner, TILE, TILE).intersection(whole) for corner in corners]
        tiles = [dataset.read(window=window).astype(np.float32) for window in windows]

    def classes(tile: np.ndarray) -> np.ndarray:
        found = fitted.predict(tile.reshape(len(tile), -1).T)
        return found.reshape(tile.shape[1:]).astype(np.uint8)

    with ThreadPoolExecutor(jobs) as threads, rasterio.open(path, "w", **profile) as dataset:
        for window, found in zip(windows, threads.map(classes, tiles), strict=True):
            dataset.write(found, 1, window=window)
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def otb_train(features: np.ndarray, labels: np.ndarray, folder: Path) -> None:
    columns = [f"b{k}" for k in range(features.shape[1])]
    table = geopandas.GeoDataFrame(
        {**dict(zip(columns, features.T.astype(float), strict=True)), "class": labels},
        geometry=geopandas.points_from_xy(np.arange(len(labels)), np.zeros(len(labels))),
        crs=32614,
    )
    table.to_file(folder / "places.shp")
    subprocess.run(
        [
            "otbcli_TrainVectorClassifier", "-io.vd", folder / "places.shp", "-feat", *columns,
            "-cfield", "class", "-classifier", "rf", "-classifier.rf.max", str(DEPTH),
            "-classifier.rf.min", "1", "-classifier.rf.nbtrees", str(TREES),
            "-classifier.rf.acc", "0", "-io.out", folder / "forest.otb",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


def otb_map(folder: Path, jobs: int) -> np.ndarray:
    subprocess.run(
        [
            "otbcli_ImageClassifier", "-in", folder / "square.tif", "-model",
            folder / "forest.otb", "-out", folder / "theirs.tif", "uint8",
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(jobs),
             "OMP_NUM_THREADS": str(jobs)},
    )  # fmt: skip
    with rasterio.open(folder / "theirs.tif") as dataset:
        return dataset.read(1)


if __name__ == "__main__":
    main()
