"""How long does `outcrop audit` take, and how much memory, on patches whose origin was lost?"""

from __future__ import annotations

import argparse
import pstats
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from cProfile import Profile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.machine import describe
from outcrop.auditing.audit import audit
from outcrop.auditing.check import CHECKS
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.splits import RandomSplit
from outcrop.synthetic.cube import CLASSES, cube_in, make_cube, random_patches
from outcrop.synthetic.damage import damage

AXIS, SIZE, PER_CLASS = 0, 150, 1000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--cube", type=Path, help="cube made by `outcrop synthetic cube`; default: a new one"
    )
    chosen = options.parse_args()
    with TemporaryDirectory() as folder:
        # In another process, so that the peak memory is that of the audit.
        with ProcessPoolExecutor(1) as pool:
            pool.submit(make_patches, chosen.cube, Path(folder)).result()
        patches = read_patches(Path(folder) / "lost.zarr")
        split, profile = RandomSplit(random_state=0).assign(patches), Profile(time.process_time)
        with threadpool_limits(1):
            found = profile.runcall(audit, patches, split)
    height, width = patches.size
    print(f"{len(patches):,} patches of {height} × {width}, {describe()}\n")
    print("| stage | CPU seconds |\n| --- | --- |")
    for stage, seconds in stages(profile):
        print(f"| {stage} | {seconds:.1f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"\npeak memory {peak:.2f} GB\n\n{found}")


def make_patches(folder: Path | None, target: Path) -> None:
    """Damaged sections of a cube: 8 bits, other brightness, flipped, without positions."""
    cube = make_cube(target / "cube") if folder is None else cube_in(folder)
    volume, classes = (np.load(file, mmap_mode="r") for file in (cube.volume, cube.classes))
    at = random_patches(classes, AXIS, SIZE, PER_CLASS, seed=0)
    images = np.stack([
        np.take(volume, index, AXIS)[row : row + SIZE, column : column + SIZE]
        for index, row, column in zip(at.index, at.row, at.column, strict=True)
    ])  # fmt: skip
    images, labels, _ = damage(images, at.label, seed=0, flips=True)
    PatchSet(images[:, None], labels, CLASSES, ("grey",)).save(target / "lost.zarr")


def stages(profile: Profile) -> list[tuple[str, float]]:
    """CPU seconds of each check, the longest first, and of the whole audit.

    A measurement that several checks share counts for the first of them.
    """
    names = {
        (check.run.__code__.co_filename, check.run.__code__.co_firstlineno): check.name
        for check in CHECKS
    } | {(audit.__code__.co_filename, audit.__code__.co_firstlineno): "all"}
    took = {
        names[file, line]: entry[3]
        for (file, line, _), entry in pstats.Stats(profile).stats.items()
        if (file, line) in names
    }
    every = sorted(took.items(), key=lambda one: (one[0] == "all", -one[1]))
    return [(name, seconds) for name, seconds in every if seconds >= 0.05]


if __name__ == "__main__":
    main()
