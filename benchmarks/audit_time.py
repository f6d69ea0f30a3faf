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
from outcrop.patches.patchset import PatchSet, read_patches
from outcrop.splits import RandomSplit
from outcrop.synthetic.cube import CLASSES, cube_in, make_cube, random_patches
from outcrop.synthetic.damage import damage

AXIS, SIZE, PER_CLASS = 0, 150, 1000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--cube", type=Path, help="made by `outcrop synthetic cube`; made anew if not given"
    )
    chosen = options.parse_args()
    with TemporaryDirectory() as folder:
        # In a process of its own, so that the peak is that of the audit.
        with ProcessPoolExecutor(1) as pool:
            pool.submit(make_patches, chosen.cube, Path(folder)).result()
        patches = read_patches(Path(folder) / "lost.zarr")
        split, profile = RandomSplit(seed=0).assign(patches), Profile(time.process_time)
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
    """Sections of a cube as they lie about: 8 bits, brightness changed, turned, no positions."""
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
    """The checks of an audit and what each took, the longest first; then the whole."""
    called = {
        name: entry[3]
        for (file, _, name), entry in pstats.Stats(profile).stats.items()
        if Path(file).parent.name == "auditing"
    }
    checks = {name: called[name] for name in called if name.startswith(("check_", "measure"))}
    longest = sorted(checks.items(), key=lambda one: -one[1])
    every = [*longest, ("all", called["audit"])]
    return [(name.removeprefix("check_"), took) for name, took in every if took >= 0.05]


if __name__ == "__main__":
    main()
