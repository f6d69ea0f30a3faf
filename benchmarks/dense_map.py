"""Whole maps: pixels per second against patch by patch, agreement, memory, and Dask workers."""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torch.nn import functional as F

from benchmarks.machine import describe, keep_memory
from benchmarks.throughput import limits
from outcrop.mapping.scene import map_scene
from outcrop.models.architectures import ResidualNet
from outcrop.models.factory import build
from outcrop.patches.cut import cut, cut_at
from outcrop.progress import silence
from outcrop.sources.opening import open_scene
from outcrop.splits import RandomSplit
from outcrop.synthetic.coast import coast_in, make_coast
from outcrop.training.classifier import Classifier
from outcrop.training.engine import train
from outcrop.training.normalise import Normalisation
from outcrop.training.recipe import Recipe
from outcrop.training.run import read_run

DEPTH, BANDS, SIZE, CLASSES = 20, 4, 32, 6
GRID = rasterio.Affine(10, 0, 600_000, 0, -10, 1_200_000)
BATCHES = (32, 128, 512)


def main() -> None:
    parts: dict[str, Callable[[Path, int], None]] = {
        "speed": speed, "agreement": agreement, "memory": memory, "workers": workers,
    }  # fmt: skip
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default=",".join(parts))
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--folder", type=Path, default=Path("build/dense_map"))
    options.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if chosen.one:
        print(peak_of_a_map(*map(Path, chosen.one)))
        return
    print(f"{describe()}\n")
    for name in chosen.only.split(","):
        with silence():
            parts[name](chosen.folder, chosen.repeats)


def network(padding: str, size: int, seed: int = 0) -> Classifier:
    """A network with new weights, as far as speed and memory need one."""
    torch.manual_seed(seed)
    description = ResidualNet(DEPTH, padding=padding)
    return Classifier(
        network=description,
        module=build(description, BANDS, CLASSES).eval(),
        classes=tuple("abcdef"[:CLASSES]),
        bands=tuple(f"band {k + 1}" for k in range(BANDS)),
        normalisation=Normalisation((100.0,) * BANDS, (50.0,) * BANDS),
        size=(size, size),
    )


def around() -> int:
    """Pixels along each side of the patches of a network without padding that averages over as
    many units as one with padding does over patches of 32."""
    description = ResidualNet(DEPTH)
    return description.footprint + description.stride * (description.units(SIZE) - 1)


def write_scene(path: Path, side: int, valid: int | None = None) -> Path:
    """A scene of noise, of which only the middle has data, if so many pixels are named."""
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=BANDS, photometric="minisblack",
        height=side, width=side, crs="EPSG:32648", transform=GRID, nodata=0, tiled=True,
        sparse_ok=True,
    ) as dataset:  # fmt: skip
        whole = side if valid is None else valid
        start = (side - whole) // 2
        for row in range(start, start + whole, 512):
            tall = min(512, start + whole - row)
            pixels = rng.integers(1, 256, (BANDS, tall, whole), dtype=np.uint8)
            dataset.write(pixels, window=Window(start, row, whole, tall))
    return path


def speed(folder: Path, repeats: int) -> None:
    """Pixels per second of a whole map, reading and writing included, against plain PyTorch, which
    is spared both."""
    scene = write_scene(folder / "2048.tif", 2048)
    dense, padded = network("none", around()), network("zeros", SIZE)
    padded.module.load_state_dict(dense.module.state_dict())
    found: dict[str, list[float]] = {"dense": [], "padded": [], "same": []}
    peaks = []
    for _ in range(repeats):
        peaks.append(limits(torch.device("cpu"), "32-true")[0])
        found["padded"].append(patch_by_patch(padded, SIZE, 4096))
        found["same"].append(patch_by_patch(dense, around(), 512))
        started = time.perf_counter()
        map_scene(dense, scene, folder / "map.tif", overwrite=True)
        found["dense"].append(2048**2 / (time.perf_counter() - started))
    multiply_adds = sum(
        part.weight.numel()
        for part in dense.module.modules()
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear)
    )
    print(
        f"ResNet-{DEPTH}, {BANDS} bands, 2048 × 2048 pixels; median of {repeats}; float32 matrix "
        f"product: {statistics.median(peaks) / 1e9:.0f} GFLOP/s\n"
    )
    print("| way | pixels/s | dense is faster | range | share of float32 peak |")
    print("| --- | --- | --- | --- | --- |")
    names = {
        "dense": "dense, `outcrop map`: read, computed, written",
        "padded": f"patch by patch, {SIZE} × {SIZE}, zeros around (plain PyTorch, same weights)",
        "same": f"patch by patch, {around()} × {around()}, not padded (the same result)",
    }
    for way, title in names.items():
        ratios = [mine / its for mine, its in zip(found["dense"], found[way], strict=True)]
        pixels = statistics.median(found[way])
        share = ""
        if way == "dense":
            shares = [
                2 * multiply_adds * mine / peak
                for mine, peak in zip(found["dense"], peaks, strict=True)
            ]
            share = f"{statistics.median(shares):.0%}"
        print(
            f"| {title} | {pixels:,.0f} | {statistics.median(ratios):.0f} × | "
            f"{min(ratios):.0f} to {max(ratios):.0f} | {share} |"
        )
    print(f"\nMultiply-adds a pixel, dense: {multiply_adds:,}.\n")


def patch_by_patch(model: Classifier, size: int, number: int) -> float:
    """Pixels per second of the network alone, in the batches that suit it best."""
    best = 0.0
    for batch in BATCHES:
        if batch > number:
            continue
        images = torch.randn(batch, BANDS, size, size).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            model.module(images)
            started = time.perf_counter()
            for _ in range(max(1, number // (8 * batch))):
                F.softmax(model.module(images), dim=1)
            done = batch * max(1, number // (8 * batch))
        best = max(best, done / (time.perf_counter() - started))
    return best


def agreement(folder: Path, repeats: int) -> None:
    """How often a map of a trained network says what plain PyTorch says of single patches."""
    made = coast_in(folder / "coast", 2) if (folder / "coast").exists() else make_coast(
        folder / "coast", 2, 400, 0
    )  # fmt: skip
    print("| network | pixels | same class | of them at the edge | largest margin where not |")
    print("| --- | --- | --- | --- | --- |")
    for padding, size in (("none", around()), ("zeros", SIZE)):
        model = trained(folder, made, padding, size)
        scene = open_scene(made.scenes[1])
        path = folder / f"agreement-{padding}.tif"
        map_scene(model, scene, path, method="dense", overwrite=True)
        rng = np.random.default_rng(0)
        row, column = rng.integers(0, (scene.height, scene.width), (10_000, 2)).T
        with rasterio.open(path) as dataset:
            said = dataset.read(1)[row, column]
        likely = np.empty((len(row), len(model.classes)), np.float32)
        with scene.reader() as reader:
            for index, images in cut_at(reader, row, column, size):
                for start in range(0, len(index), 128):
                    part = slice(start, start + 128)
                    likely[index[part]] = model.predict_proba(images[part])
        known, edge = said > 0, size // 2
        inside = (row >= edge) & (row < scene.height - edge)
        inside &= (column >= edge) & (column < scene.width - edge)
        same = said == likely.argmax(axis=1) + 1
        two = np.sort(likely, axis=1)[:, -2:]
        margins = (two[:, 1] - two[:, 0])[known & ~same]
        shares = [
            f"{same[known & here].mean():.2%} ({(~same[known & here]).sum()} others)"
            for here in (inside, ~inside)
        ]
        largest = f"{margins.max():.1e}" if len(margins) else "none"
        how = "not padded" if padding == "none" else "zeros around, dense on request"
        print(
            f"| ResNet-{DEPTH}, {size} × {size}, {how} | {known.sum():,} | {shares[0]} | "
            f"{shares[1]} | {largest} |"
        )
    print("\nMargin: probability of the likeliest class minus that of the next.\n")


def trained(folder: Path, made: object, padding: str, size: int) -> Classifier:
    """A network trained on the first image of the coast."""
    where = folder / f"run-{padding}-{size}"
    if not where.exists():
        patches = cut(made.scenes[0], made.labels, "class", size, per_class=150)
        split = RandomSplit(n_splits=5).assign(patches)
        keep_memory()
        train(
            patches, split, where, ResidualNet(DEPTH, padding=padding), Recipe(epochs=4, batch=32)
        )
    model = read_run(where, "cpu").classifier
    return replace(model, flip=False)


def memory(folder: Path, repeats: int) -> None:
    """Peak memory of mapping large scenes against one of 2 000 × 2 000."""
    scenes = {
        f"2 000 × 2 000 × {BANDS}, all data": write_scene(folder / "2000.tif", 2000),
        f"10 000 × 10 000 × {BANDS}, all data": write_scene(folder / "10000.tif", 10_000),
        f"20 000 × 20 000 × {BANDS}, data in the middle 4 000 × 4 000": write_scene(
            folder / "20000.tif", 20_000, valid=4000
        ),
    }
    print("| scene | seconds | peak memory, MiB | ratio |\n| --- | --- | --- | --- |")
    smallest = None
    for name, scene in scenes.items():
        told = subprocess.run(
            [sys.executable, "-m", "benchmarks.dense_map", "--one", scene, folder / "memory.tif"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        peak, seconds = map(float, told.splitlines()[-1].split())
        smallest = smallest or peak
        print(f"| {name} | {seconds:.0f} | {peak:,.0f} | {peak / smallest:.2f} |")
    print()


def peak_of_a_map(scene: Path, output: Path) -> str:
    """MiB that a process holds at most while it maps a scene, all that is imported included, and
    the seconds of the map."""
    started = time.perf_counter()
    map_scene(
        network("none", around()), scene, output, output.with_name("memory-sure.tif"),
        overwrite=True,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024} {seconds}"


def workers(folder: Path, repeats: int) -> None:
    """Two Dask workers of one thread each against one."""
    from distributed import Client, LocalCluster

    scene, model = write_scene(folder / "3072.tif", 3072), network("none", around())
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(min(3, repeats)):
        for number, found in seconds.items():
            with LocalCluster(
                n_workers=number, threads_per_worker=1, dashboard_address=None
            ) as cluster:
                with Client(cluster) as client:
                    # So that no worker has to import torch on the clock.
                    client.run(lambda: __import__("outcrop.mapping.engine"))
                started = time.perf_counter()
                map_scene(
                    model, scene, folder / f"{number}.tif", overwrite=True,
                    scheduler=cluster.scheduler_address,
                )  # fmt: skip
                found.append(time.perf_counter() - started)
    same = (folder / "1.tif").read_bytes() == (folder / "2.tif").read_bytes()
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    print("| Dask workers of one thread | seconds, 3072 × 3072 | faster | range |")
    print("| --- | --- | --- | --- |")
    for number, found in seconds.items():
        faster = statistics.median(ratios) if number == 2 else 1.0
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}" if number == 2 else ""
        print(f"| {number} | {statistics.median(found):.1f} | {faster:.2f} | {spread} |")
    print(f"\nBoth maps have the same bytes: {'yes' if same else 'NO'}.\n")


if __name__ == "__main__":
    main()
