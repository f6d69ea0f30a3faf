"""Does `locate` ever believe a place that another place of the source beats? Cubes of many kinds.

No cube here is from outcrop's own generator. Patches are cut from each of them and changed as in
practice; of every place that is given, the correlation at full resolution is held against that of
the place where the patch was cut.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, rotate, uniform_filter1d, zoom

import outcrop as oc
from benchmarks.machine import command, describe
from outcrop.locating import find

SHARED = Path(os.environ.get("OUTCROP_SHARED", "../shared"))
SHAPE, SIZE, PATCHES = (60, 72, 130), 40, 60
_FITS_BETTER = 1e-7
"""Correlations in float64 that differ by less say nothing of float32 samples."""


def wavelet(frequency: float, samples: int = 31) -> np.ndarray:
    """Ricker's, by its share of the sampling frequency."""
    t = (np.pi * frequency * (np.arange(samples) - samples // 2)) ** 2
    return (1 - 2 * t) * np.exp(-t)


def trace(rng: np.random.Generator, length: int, frequency: float) -> np.ndarray:
    """A reflectivity with gaps, convolved with a wavelet."""
    spikes = rng.normal(size=length) * (rng.random(length) < 0.35)
    return np.convolve(spikes, wavelet(frequency), "same")


def layered(seed: int) -> np.ndarray:
    """Horizontal layers whose amplitude drifts sideways, with a little noise."""
    rng = np.random.default_rng(seed)
    layers = trace(rng, SHAPE[2], 0.1)
    drift = 1 + 0.1 * unit(gaussian_filter(rng.normal(size=SHAPE), (8, 8, 2)))
    noise = unit(gaussian_filter(rng.normal(size=SHAPE), 0.7))
    return layers * drift + 0.1 * layers.std() * noise


def folded(seed: int) -> np.ndarray:
    """Folds, two faults, and a gain that changes sideways."""
    rng = np.random.default_rng(seed)
    layers = trace(rng, 2 * SHAPE[2], rng.uniform(0.06, 0.14))
    i, x, t = np.indices(SHAPE)
    fold = gaussian_filter(rng.normal(size=SHAPE[:2]), 12)
    fold *= rng.uniform(8, 16) / np.abs(fold).max()
    depth = t + fold[..., None] + SHAPE[2] / 2
    for _ in range(2):
        a, b = rng.normal(size=2)
        depth = depth + np.where(a * (i - 30) + b * (x - 36) + 0.2 * (t - 65) > 0, 6.0, 0)
    cube = np.interp(depth, np.arange(len(layers)), layers)
    gain = 1 + 0.4 * unit(gaussian_filter(rng.normal(size=SHAPE), (6, 6, 3)))
    return cube * gain + 0.05 * cube.std() * unit(gaussian_filter(rng.normal(size=SHAPE), 0.7))


def channels(seed: int) -> np.ndarray:
    """Winding channels with fills of their own in quiet layers."""
    rng = np.random.default_rng(seed)
    i, x, t = np.ogrid[tuple(map(slice, SHAPE))]
    cube = 0.5 * trace(rng, SHAPE[2], 0.05)[None, None] + np.zeros(SHAPE)
    for _ in range(14):
        middle = rng.uniform(0, SHAPE[1]) + rng.uniform(3, 14) * np.sin(
            i / rng.uniform(6, 15) + rng.uniform(0, 6)
        )
        top, width, thick = rng.uniform(0, SHAPE[2]), rng.uniform(3, 9), rng.uniform(3, 10)
        inside = (np.abs(x - middle) / width) ** 2 + (np.abs(t - top) / thick) ** 2 < 1
        fill = gaussian_filter(rng.normal(size=SHAPE), (1.5, 1.5, 1))
        cube = np.where(inside, rng.normal() + 2 * unit(fill), cube)
    return gaussian_filter(cube, 0.6) + 0.05 * rng.normal(size=SHAPE)


def alike(seed: int) -> np.ndarray:
    """Slices across axis 0 that differ by 0.1 % of their contrast."""
    rng = np.random.default_rng(seed)
    one = unit(gaussian_filter(rng.normal(size=SHAPE[1:]), (2, 1)))
    return one + 0.001 * rng.normal(size=SHAPE)


def noisy(seed: int) -> np.ndarray:
    """Noise of three times the contrast of the layers in it."""
    rng = np.random.default_rng(seed)
    noise = unit(gaussian_filter(rng.normal(size=SHAPE), (0.4, 0.4, 0.8)))
    return unit(layered(seed)) + 3 * noise


def twins(
    seed: int,
    kind: Callable[[int], np.ndarray] = channels,
    shift: tuple[int, int] = (7, 5),
) -> np.ndarray:
    """A cube that comes a second time, shifted, with noise of 0.3 % of the contrast."""
    rng = np.random.default_rng(seed)
    once = unit(kind(seed))[: SHAPE[0] // 2]
    again = np.roll(once, shift, axis=(1, 2))
    return np.concatenate([once, again + 0.003 * rng.normal(size=once.shape)])


def f3(seed: int) -> np.ndarray:
    """A corner of the F3 survey."""
    del seed
    volume = oc.open_volume(SHARED / "data/segy/f3.sgy")
    with volume.reader() as reader:
        return reader.box((0, 0, 0), volume.shape)


def landsat(seed: int) -> np.ndarray:
    """A band of a Landsat scene."""
    path = sorted((SHARED / "data/nc_landsat").glob("lsat7_2000_*.tif"))[seed % 5]
    scene = oc.open_scene(path)
    with scene.reader() as reader:
        return reader.read(0, 0, scene.height, scene.width)


def unit(values: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1."""
    return (values - values.mean()) / values.std()


SOURCES: dict[str, Callable[[int], np.ndarray]] = {
    "layered": layered,
    "folded and faulted": folded,
    "channels": channels,
    "slices alike to 0.1 %": alike,
    "noise-dominated": noisy,
    "channels that come twice": twins,
    "F3": f3,
    "Landsat": landsat,
}
TWINS: dict[str, Callable[[int], np.ndarray]] = {
    f"{kind}, twice{moved}": partial(twins, kind=SOURCES[kind], shift=shift)
    for kind in ("layered", "folded and faulted", "channels", "noise-dominated")
    for moved, shift in (("", (0, 0)), (", shifted", (7, 5)))
}


def gain_controlled(values: np.ndarray) -> np.ndarray:
    """Over 25 samples of the last axis."""
    power = uniform_filter1d(np.square(values, dtype="f8"), 25, axis=-1, mode="nearest")
    return values / np.sqrt(power + 1e-6 * np.square(values, dtype="f8").mean())


def eight_bits(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers from 0 up to 60 to 255."""
    return np.round((patch - patch.min()) / np.ptp(patch) * rng.uniform(60, 255))


def five_bits(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers from 0 to 31."""
    del rng
    return np.round((patch - patch.min()) / np.ptp(patch) * 31)


def jpeg(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Eight bits, then quality 75."""
    from PIL import Image

    with io.BytesIO() as file:
        Image.fromarray(eight_bits(patch, rng).astype("u1")).save(file, "jpeg", quality=75)
        return np.asarray(Image.open(file), float)


Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CHANGES: dict[str, Change] = {
    "none": lambda patch, rng: patch,
    "gain and offset": lambda patch, rng: rng.uniform(0.1, 9) * patch + 3 * rng.normal(),
    "8 bits": eight_bits,
    "JPEG": jpeg,
    "polarity reversed": lambda patch, rng: -patch,
    "8 bits, gray_r": lambda patch, rng: 255 - eight_bits(patch, rng),
    "gain control in the patch": lambda patch, rng: gain_controlled(patch - patch.mean()),
    "rotated by 3°": lambda patch, rng: rotate(patch, 3, reshape=False, order=1, mode="nearest"),
    "resized by 1.03": lambda patch, rng: zoom(patch, 1.03, order=1)[
        : patch.shape[0], : patch.shape[1]
    ],
}
BEFORE = "gain control before cutting"
OF_TWINS: dict[str, Change] = {"8 bits": eight_bits, "5 bits": five_bits}


@dataclass
class Count:
    """What became of patches.

    Attributes:
        exact: found where they were cut and not ambiguous.
        exact_flagged: found where they were cut, ambiguous.
        lost: not found.
        flagged: elsewhere, ambiguous.
        believed: elsewhere, not ambiguous.
        beaten: of the believed, those whose true place fits better.
        beaten_flagged: of the flagged, the same.
    """

    patches: int = 0
    exact: int = 0
    exact_flagged: int = 0
    lost: int = 0
    flagged: int = 0
    believed: int = 0
    beaten: int = 0
    beaten_flagged: int = 0
    seconds: float = 0.0

    def add(self, other: Count) -> None:
        """Sums of both."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def main() -> None:
    global SHAPE, SIZE
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--patches", type=int, default=PATCHES)
    options.add_argument("--sources", default="", help="part of the names of those to run")
    options.add_argument("--changes", default="", help="part of the names of those to run")
    options.add_argument("--twins", action="store_true", help="cubes that come a second time")
    options.add_argument("--quick", action="store_true", help="force the search of large sources")
    options.add_argument("--shape", default=",".join(map(str, SHAPE)), help="of the cubes")
    options.add_argument("--size", type=int, default=SIZE, help="of the patches")
    options.add_argument("--folder", type=Path, default=Path("build/hard_cubes"))
    chosen = options.parse_args()
    SHAPE, SIZE = tuple(map(int, chosen.shape.split(","))), chosen.size
    if chosen.quick:
        find._EXHAUSTIVE = find._UNSETTLED = 0
    sources, changes = (TWINS, OF_TWINS) if chosen.twins else (SOURCES, CHANGES | {BEFORE: None})
    chosen.folder.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    print(f"`{command('hard_cubes')}`, {describe()}\n")
    print(
        "| source | change | patches | exact | exact, ambiguous | elsewhere, ambiguous "
        "| not found | elsewhere, believed | of these beaten | of the ambiguous beaten | seconds |"
    )
    print("| --- " * 11 + "|")
    for source in sources:
        if chosen.sources not in source:
            continue
        for change in changes:
            if chosen.changes not in change or (change == BEFORE and source in ("F3", "Landsat")):
                continue
            count = Count()
            for seed in seeds:
                for one in measure(source, change, seed, chosen.patches, chosen.folder):
                    count.add(one)
            print(
                f"| {source} | {change} | {count.patches} | {count.exact} | {count.exact_flagged} "
                f"| {count.flagged} | {count.lost} | {count.believed} | {count.beaten} "
                f"| {count.beaten_flagged} | {count.seconds:.0f} |",
                flush=True,
            )


def measure(source: str, change: str, seed: int, n: int, folder: Path) -> Iterator[Count]:
    """Locate patches of one source under one change."""
    values = np.asarray((SOURCES | TWINS)[source](seed), np.float32)
    file = folder / f"{source.replace(' ', '-').replace('%', '').replace(',', '')}.npy"
    np.save(file, values)
    rng = np.random.default_rng(100 + seed)
    size = {"F3": 16}.get(source, SIZE)
    places = drawn(values.shape, size, n, rng, axes=(0,) if source == "Landsat" else range(3))
    cut_from = gain_controlled(values) if change == BEFORE else values
    made = [windowed(cut_from, place, size) for place in places]
    if change != BEFORE:
        made = [(CHANGES | OF_TWINS)[change](window.astype("f8"), rng) for window in made]
    images = np.stack(made).astype(np.float32)
    if source == "F3" and change == "none":
        images = np.stack(made)
    start = time.perf_counter()
    found = oc.locate(images, str(file))
    seconds = time.perf_counter() - start
    count = Count(len(images), seconds=seconds)
    got = np.stack([found.axis, found.index, found.row, found.column], axis=1)
    flagged = found.ambiguous
    for k, place in enumerate(places):
        if not found.found[k]:
            count.lost += 1
            continue
        if tuple(got[k]) == place:
            count.exact += not flagged[k]
            count.exact_flagged += flagged[k]
            continue
        there = windowed(values, tuple(map(int, got[k])), size)
        beaten = (
            fits(images[k], windowed(values, place, size)) > fits(images[k], there) + _FITS_BETTER
        )
        count.flagged += flagged[k]
        count.believed += not flagged[k]
        count.beaten += beaten and not flagged[k]
        count.beaten_flagged += beaten and flagged[k]
    yield count


def drawn(
    shape: tuple[int, ...], size: int, n: int, rng: np.random.Generator, axes: object
) -> list[tuple[int, int, int, int]]:
    """Axis, slice, row and column of patches, across each axis that is large enough."""
    fitting = [
        axis for axis in axes if min(length for k, length in enumerate(shape) if k != axis) >= size
    ]
    places = []
    for k in range(n):
        axis = fitting[k % len(fitting)]
        plane = [length for j, length in enumerate(shape) if j != axis]
        index, row, column = (
            int(rng.integers(most))
            for most in (shape[axis], plane[0] - size + 1, plane[1] - size + 1)
        )
        places.append((axis, index, row, column))
    return places


def windowed(values: np.ndarray, place: tuple[int, int, int, int], size: int) -> np.ndarray:
    axis, index, row, column = place
    return np.take(values, index, axis=axis)[row : row + size, column : column + size]


def fits(one: np.ndarray, other: np.ndarray) -> float:
    """The size of their correlation in float64, whatever its sign."""
    return abs(float(np.corrcoef(one.ravel().astype("f8"), other.ravel().astype("f8"))[0, 1]))


if __name__ == "__main__":
    main()
