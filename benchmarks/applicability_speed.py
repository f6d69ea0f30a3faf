"""What the dissimilarity index costs a map: all training patches as references, and 512 of them.

    .venv/bin/python -m benchmarks.applicability_speed

The scene is agnet (OUTCROP_SHARED names the folder that has `data`), the network the default one.
Earlier versions thinned the references to 512.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import rasterio

from benchmarks.machine import describe, keep_memory
from outcrop.mapping.scene import map_scene
from outcrop.patches.cut import cut
from outcrop.progress import silence
from outcrop.splits import BlockSplit
from outcrop.training.engine import train
from outcrop.training.recipe import Recipe
from outcrop.training.run import Run

REPEATS, FEW = 3, 512


def main() -> None:
    """Map in three ways by turns; print the medians."""
    keep_memory()
    data = Path(os.environ.get("OUTCROP_SHARED", "../shared")) / "data" / "real" / "agnet"
    scene = data / "agnet_l8.tif"
    with silence(), TemporaryDirectory() as folder:
        patches = cut([scene], data / "agnet_points.gpkg", "name", 33)
        split = BlockSplit(block=3_000, buffer=0).assign(patches)
        run = train(patches, split, Path(folder) / "run", recipe=Recipe(epochs=3))
        area = run.applicability
        chosen = np.random.default_rng(0).permutation(len(area.references))[:FEW]
        ways = {
            "classes only": (area, False),
            f"with {len(area.references)} references": (area, True),
            f"with {FEW} references": (replace(area, references=area.references[chosen]), True),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(REPEATS):
            for number, (name, (references, mapped)) in enumerate(ways.items()):
                with patch.object(Run, "applicability", references):
                    made = Path(folder) / f"{repeat}-{number}"
                    seconds[name].append(timed(run, scene, made, mapped))
    with rasterio.open(scene) as file:
        pixels = file.width * file.height
    for name, each in seconds.items():
        middle = statistics.median(each)
        print(f"{name}: {middle:.2f} s, {pixels / middle:,.0f} pixels/s; all {np.round(each, 2)}")
    print(f"{pixels:,} pixels, {area.references.shape[1]} features; {describe()}")


def timed(run: Run, scene: Path, made: Path, dissimilarity: bool) -> float:
    """Seconds of one map."""
    started = time.perf_counter()
    far = f"{made}-far.tif" if dissimilarity else None
    map_scene(run, scene, f"{made}.tif", dissimilarity=far)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
