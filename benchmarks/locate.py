"""`outcrop locate`: patches found, time compared with OpenCV, and memory."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import describe
from outcrop.locating.locate import locate
from outcrop.synthetic.cube import make_cube
from outcrop.synthetic.damage import damage

SHAPE, SIZE = (450, 600, 900), 150
SMALL, FEW = (450, 75, 900), 500


@dataclass(frozen=True)
class Case:
    """One search.

    Attributes:
        patches: number of patches of the cube.
        others: number of patches of another cube.
        slices: number of slices that are searched.
        axis: axis that the slices are perpendicular to; None if all axes are searched.
        noise_db: signal-to-noise ratio of the patches; None: no noise.
        flips: whether patches were flipped and rotated, and are searched so.
        rough: whether the darkest and brightest 2.5 % were clipped, and the patches blurred by a
            pixel and compressed to a JPEG of quality 75.
    """

    patches: int = 4000
    others: int = 0
    slices: int = SHAPE[0]
    axis: int | None = 0
    noise_db: float | None = None
    flips: bool = False
    rough: bool = False


@dataclass(frozen=True)
class Measured:
    """The result of one process.

    Attributes:
        seconds: time of `locate` alone.
        exact: patches whose slice, row, column and flip are right.
        missed: patches of the cube that were not found.
        false: patches of the other cube that were found.
        peak: peak memory of the process in bytes.
    """

    seconds: float
    exact: int
    missed: int
    false: int
    peak: int


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cubes", type=Path, default=Path("build/locate"), help="made if missing")
    options.add_argument("--repeats", type=int, default=3, help="of the case beside OpenCV")
    options.add_argument("--only", default="", help="part of the name of the cases to run")
    options.add_argument("--case", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.case is not None:
        print(json.dumps(asdict(measure(chosen.cubes, Case(**json.loads(chosen.case))))))
        return
    for seed in (0, 1) if "small" not in chosen.only else ():
        if not (chosen.cubes / str(seed)).exists():
            chosen.cubes.mkdir(parents=True, exist_ok=True)
            make_cube(chosen.cubes / str(seed), SHAPE, seed)
    print(f"cube of {' x '.join(map(str, SHAPE))}, patches of {SIZE} x {SIZE}, {describe()}\n")
    if chosen.only in "opencv":
        beside_opencv(chosen.cubes, chosen.repeats)
    if chosen.only in "small, opencv":
        small_beside_opencv(chosen.cubes, chosen.repeats)
    table(chosen.cubes, chosen.only)


def beside_opencv(cubes: Path, repeats: int) -> None:
    """Measure both in turn, so that other work of the machine affects both."""
    full = Case()
    slices = np.load(cubes / "0" / "cube.npy", mmap_mode="r")
    rounds = [(in_a_process(cubes, full), opencv(slices)) for _ in range(repeats)]
    searches = full.patches * SHAPE[0]
    ours = statistics.median(one.seconds for one, _ in rounds)
    theirs = searches * statistics.median(each for _, each in rounds)
    ratios = sorted(searches * each / one.seconds for one, each in rounds)
    print("| | seconds | exact | peak memory / cube |")
    print("| --- | --- | --- | --- |")
    exact = min(one.exact for one, _ in rounds)
    peak = max(one.peak for one, _ in rounds) / (4 * np.prod(SHAPE))
    print(f"| `outcrop locate` | {ours:.1f} | {exact} of {full.patches} | {peak:.2f} |")
    print(f"| `cv2.matchTemplate`, scaled | {theirs:,.0f} ({theirs / 3600:.1f} h) | | |")
    print(
        f"\nratio {statistics.median(ratios):.0f} ({ratios[0]:.0f} to {ratios[-1]:.0f}), "
        f"median of {repeats} rounds\n"
    )


def small_beside_opencv(cubes: Path, repeats: int) -> None:
    """Measure a search of a small cube by the command, with the start of the process."""
    folder = cubes / "small"
    cubes.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        make_cube(folder, SMALL, 2)
    images, places = cut(folder / "cube.npy", FEW, 1, seed=0)
    images, _, truth = damage(images, np.zeros(FEW, int), 0)
    np.savez(cubes / "small.npz", images=images)
    table = cubes / "small.csv"
    words = [sys.executable, "-m", "outcrop", "locate", str(cubes / "small.npz")]
    words += [str(folder / "cube.npy"), "-o", str(table), "--overwrite"]
    slices = np.moveaxis(np.load(folder / "cube.npy", mmap_mode="r"), 1, 0)
    # As after an installation: modules are compiled once.
    settings = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    ours, theirs = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True, env=settings)
        ours.append(time.perf_counter() - start)
        theirs.append(FEW * SMALL[1] * opencv(slices))
    found = np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding=None)
    at = np.stack([found[name] for name in ("index", "row", "column")], axis=1)
    exact = int((at == places[truth.order]).all(axis=1).sum())
    ratios = sorted(np.divide(theirs, ours))
    print(
        f"{' x '.join(map(str, SMALL))}, {FEW} patches, process start counted: `outcrop locate` "
        f"{statistics.median(ours):.2f} s, {exact} exact; OpenCV {statistics.median(theirs):.0f} s;"
        f" ratio {statistics.median(ratios):.0f} ({ratios[0]:.0f} to {ratios[-1]:.0f})\n",
        flush=True,
    )


CASES = {
    "noise at 10 dB": Case(noise_db=10),
    "10 % of another cube": Case(others=400),
    "10 % of another cube, noise at 10 dB": Case(others=400, noise_db=10),
    "clipped, blurred and compressed": Case(rough=True),
    "the same, 10 % of another cube": Case(rough=True, others=400),
    "axis 1": Case(axis=1),
    "axis 2": Case(axis=2),
    "axis unknown": Case(axis=None),
    "axis known again": Case(),
    "flipped and rotated": Case(patches=1000, flips=True),
    "1000 patches": Case(patches=1000),
    "2000 patches": Case(patches=2000),
    "8000 patches": Case(patches=8000),
    "a quarter of the cube": Case(slices=SHAPE[0] // 4),
    "half of the cube": Case(slices=SHAPE[0] // 2),
}


def table(cubes: Path, only: str) -> None:
    print("| case | patches | seconds | exact | missed | falsely located | peak memory / cube |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, case in CASES.items():
        if only in name:
            found = in_a_process(cubes, case)
            false = f"{found.false} of {case.others}" if case.others else ""
            print(
                f"| {name} | {case.patches} | {found.seconds:.1f} | {found.exact} | {found.missed} "
                f"| {false} | {found.peak / (4 * np.prod(SHAPE)):.2f} |",
                flush=True,
            )


def in_a_process(cubes: Path, case: Case) -> Measured:
    """Measure in a process of its own, so that peak memory belongs to this case."""
    words = [sys.executable, "-m", "benchmarks.locate", "--cubes", str(cubes)]
    done = subprocess.run(
        [*words, "--case", json.dumps(asdict(case))], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure(cubes: Path, case: Case) -> Measured:
    """Cut patches, damage and locate them, and compare with the truth."""
    across = case.axis or 0
    cube = source(cubes, 0, case.slices)
    images, places = cut(cube, case.patches, across, seed=0)
    if case.others:
        others, nowhere = cut(source(cubes, 1, SHAPE[0]), case.others, across, seed=1)
        images = np.concatenate([images, others])
        places = np.concatenate([places, np.full_like(nowhere, -1)])
    labels = np.zeros(len(images), int)
    rough = {"clip": (2.5, 97.5), "blur": 1.0, "jpeg_quality": 75} if case.rough else {}
    images, _, truth = damage(images, labels, 0, noise_db=case.noise_db, flips=case.flips, **rough)
    places = places[truth.order]
    start = time.perf_counter()
    found = locate(images, cube, case.axis, case.flips)
    seconds = time.perf_counter() - start
    at = np.stack([found.index, found.row, found.column], axis=1)
    ours = places[:, 0] >= 0
    right = found.found & (at == places).all(axis=1) & (found.axis == across)
    return Measured(
        seconds,
        exact=int((right & (found.flip == truth.flip)).sum()),
        missed=int((ours & ~found.found).sum()),
        false=int((~ours & found.found).sum()),
        peak=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )


def source(cubes: Path, seed: int, slices: int) -> Path:
    """The file of a cube or of its first slices."""
    whole = cubes / str(seed) / "cube.npy"
    if slices == SHAPE[0]:
        return whole
    part = cubes / f"{seed}-{slices}.npy"
    if not part.exists():
        np.save(part, np.load(whole, mmap_mode="r")[:slices])
    return part


def cut(path: Path, n: int, axis: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Patches at random places of a cube, and slice, row and column of each."""
    cube = np.moveaxis(np.load(path, mmap_mode="r"), axis, 0)
    most = np.subtract(cube.shape, (1, SIZE, SIZE)) + 1
    places = np.random.default_rng(seed).integers(most, size=(n, 3))
    places = places[np.argsort(places[:, 0], kind="stable")]
    images = np.empty((n, SIZE, SIZE), np.float32)
    for k, (index, row, column) in enumerate(places):
        images[k] = cube[index, row : row + SIZE, column : column + SIZE]
    return images, places


def opencv(slices: np.ndarray, searches: int = 60) -> float:
    """Seconds of one search of one slice for one patch, with all cores in use.

    The faster of two ways: its own threads, or a search on each core.
    """
    import cv2

    wanted = np.linspace(0, len(slices) - 1, searches).astype(int)
    pairs = [(np.ascontiguousarray(slices[k]), slices[k, :SIZE, :SIZE].copy()) for k in wanted]

    def search(pair: tuple[np.ndarray, np.ndarray]) -> float:
        return float(cv2.matchTemplate(*pair, cv2.TM_CCOEFF_NORMED).max())

    cores = len(os.sched_getaffinity(0))
    ways = []
    for inside, beside in ((cores, 1), (1, cores)):
        cv2.setNumThreads(inside)
        with ThreadPoolExecutor(beside) as pool:
            list(pool.map(search, pairs[:4]))
            start = time.perf_counter()
            best = list(pool.map(search, pairs))
            ways.append((time.perf_counter() - start) / searches)
        assert min(best) > 0.99
    return min(ways)


if __name__ == "__main__":
    main()
