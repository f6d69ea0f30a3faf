"""What a shift of training patches costs or gives, on scenes and labels of the field.

A patch is cut around a labelled pixel. `--crop N` shifts it by up to N pixels and leaves the label.
Polygons, tiles or blocks are held out, never single pixels (`benchmarks.scenes`).
Prints a line of JSON for each setting, and at the end a table of mean balanced accuracies in per
cent:

    OUTCROP_SHARED=../shared python -m benchmarks.real_scenes --seeds 0,1 > real_scenes.jsonl

OUTCROP_SHARED has the folder `data` with `real` and `nc_landsat`. With `--edges` the same settings
are tried on a checker with fields of 8 pixels, and the share of the map is printed that is right.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from rasterio.transform import from_origin
from sklearn.metrics import balanced_accuracy_score

from benchmarks.scenes import SCENES
from outcrop.mapping.scene import map_scene
from outcrop.models.architectures import ResidualNet
from outcrop.patches.cut import cut
from outcrop.patches.patchset import PatchSet
from outcrop.progress import silence
from outcrop.splits import RandomSplit, Split
from outcrop.training.engine import train
from outcrop.training.recipe import Augmentation, Machine, Recipe

FOLDS = 3
FEW = {"agnet": 50, "fieldrs": 150}
SCENES_TRIED = (
    "agnet",
    "open_geo_landsat_1999",
    "fieldrs",
    "geology",
    "lulc_py",
    "eolearn",
    "nc_landsat",
)


def train_folds(patches: PatchSet, splits: Sequence[Split], crop: int, seed: int) -> float:
    """Balanced accuracy over the patches of all folds."""
    said = np.empty(len(patches), np.int64)
    recipe = Recipe(
        epochs=25, seed=seed, augmentation=Augmentation(crop=crop), machine=Machine(device="cpu")
    )
    for split in splits:
        with TemporaryDirectory() as folder, silence(True):
            run = train(
                patches, split, Path(folder) / "run", ResidualNet(8, 8), recipe, graph=False
            )
        said[run.predictions.index] = run.predictions.probabilities.argmax(axis=1)
    return float(balanced_accuracy_score(patches.labels, said))


def right_of_checker(crop: int, size: int, seed: int) -> float:
    """Which share of the map of a checker is right, without turns."""
    rng = np.random.default_rng(seed)
    truth = 1 + np.kron(rng.random((12, 14)) > 0.5, np.ones((8, 8), int)).astype("uint8")
    pixels = rng.normal(100, 3, (2, *truth.shape)) + 50 * truth
    grid = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
    recipe = Recipe(
        epochs=8, seed=seed, augmentation=Augmentation(crop=crop), machine=Machine(device="cpu")
    )
    with TemporaryDirectory() as name, silence(True):
        folder = Path(name)
        for file, image in (("scene", pixels.astype("uint16")), ("labels", truth[None])):
            bands, height, width = image.shape
            shape = {"count": bands, "height": height, "width": width, "dtype": image.dtype}
            with rasterio.open(folder / f"{file}.tif", "w", **shape, **grid) as target:
                target.write(image)
        patches = cut(folder / "scene.tif", folder / "labels.tif", size=size, stride=3)
        split = RandomSplit().assign(patches)
        run = train(patches, split, folder / "run", ResidualNet(8, 4), recipe, graph=False)
        map_scene(run, folder / "scene.tif", folder / "map.tif")
        with rasterio.open(folder / "map.tif") as found:
            return float((found.read(1) == truth).mean())


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", default=",".join(SCENES_TRIED))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--size", type=int, default=17)
    parser.add_argument("--edges", action="store_true")
    options = parser.parse_args()
    shifts = sorted({0, 1, options.size // 8})
    if options.edges:
        for crop, seed in product(shifts, map(int, options.seeds.split(","))):
            right = right_of_checker(crop, options.size, seed)
            line = {"size": options.size, "crop": crop, "seed": seed, "right": round(right, 4)}
            print(json.dumps(line), flush=True)
        return
    data = Path(os.environ["OUTCROP_SHARED"]) / "data"
    found = defaultdict(list)
    for seed in map(int, options.seeds.split(",")):
        for name in options.scenes.split(","):
            scene = SCENES[name]
            patches = scene.cut(data, options.size, FEW.get(name, 80), seed)
            splits = scene.splitter(FOLDS, seed=seed).assign_all(patches).splits
            for crop in shifts:
                started = time.process_time()
                score = train_folds(patches, splits, crop, seed)
                found[name, crop].append(score)
                line = {
                    "scene": name,
                    "size": options.size,
                    "patches": len(patches),
                    "crop": crop,
                    "seed": seed,
                    "balanced_accuracy": round(score, 4),
                    "cpu_seconds": round(time.process_time() - started, 1),
                }
                print(json.dumps(line), flush=True)
    print("| scene |" + "".join(f" crop {crop} |" for crop in shifts), file=sys.stderr)
    for name in options.scenes.split(","):
        cells = (f" {100 * np.mean(found[name, crop]):.1f} |" for crop in shifts)
        print(f"| {name} |" + "".join(cells), file=sys.stderr)


if __name__ == "__main__":
    main()
