"""`make_cube`: a folder with a cube and its classes; `random_patches`: places to cut patches."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.lib.stride_tricks import sliding_window_view

from outcrop.errors import OutcropError
from outcrop.files import check_new, new_folder, write_json
from outcrop.progress import track
from outcrop.synthetic.cube.earth import CLASSES, Earth
from outcrop.synthetic.cube.survey import Survey

SHAPE = (450, 600, 900)
NOISE_DB = 15.0
_FAINTEST = -100
_LEAST = (32, 48, 64)
_SLAB = 10  # inlines
_BYTES = 5  # for each voxel, in both files
_TRIES = 100  # per requested patch
_CHUNK = 1 << 24  # voxels examined together


@dataclass(frozen=True)
class Cube:
    """The files of a cube.

    Attributes:
        volume: `cube.npy`, float32, inlines × crosslines × samples: amplitudes, with a root mean
            square of 1 of the signal.
        classes: `classes.npy`, uint8, of the same shape: 1 + index into the names, or 0 near a
            contact.
        names: `classes.json`, the list of class names.
    """

    volume: Path
    classes: Path
    names: Path


def make_cube(
    folder: str | Path,
    shape: Sequence[int] = SHAPE,
    seed: int = 0,
    noise_db: float | None = NOISE_DB,
) -> Cube:
    """Write a synthetic seismic cube with its true classes.

    A few inlines are computed at a time, so that memory does not grow with their number. The folder
    appears only when it is complete.

    Args:
        folder: output folder.
        shape: inlines, crosslines and samples. Bodies scale with it, wavelets do not.
        seed: random seed.
        noise_db: signal-to-noise ratio of the mean power, in dB; None: no noise.

    Returns:
        The files in the folder.

    Raises:
        OutcropError: the folder exists; `shape` is not three numbers of at least 32, 48 and 64;
            `seed` is negative; `noise_db` is below -100; the disk has too little space.
    """
    cube = cube_in(folder)
    check_new(Path(folder), instead="")
    checked = _checked(shape, seed, noise_db, Path(folder))
    survey = Survey(Earth.draw(checked, seed), noise_db)
    inlines = range(checked[0])
    slabs = [inlines[first : first + _SLAB] for first in inlines[::_SLAB]]
    with (
        new_folder(folder) as temporary,
        (temporary / cube.volume.name).open("xb") as volume,
        (temporary / cube.classes.name).open("xb") as classes,
    ):
        for file, kind in ((volume, np.float32), (classes, np.uint8)):
            head = {"descr": dtype_to_descr(np.dtype(kind)), "fortran_order": False}
            write_array_header_1_0(file, head | {"shape": checked})
        for slab in track(slabs, "making the cube"):
            for file, values in zip((volume, classes), survey.slab(slab), strict=True):
                file.write(values.tobytes())
        write_json(temporary / cube.names.name, list(CLASSES))
    return cube


def cube_in(folder: str | Path) -> Cube:
    """The files of `make_cube` in a folder."""
    folder = Path(folder)
    return Cube(folder / "cube.npy", folder / "classes.npy", folder / "classes.json")


def _checked(
    shape: Sequence[int], seed: int, noise_db: float | None, folder: Path
) -> tuple[int, int, int]:
    """The shape as three numbers, after checks of all arguments and of the disk."""
    given = ",".join(map(str, shape))
    if len(shape) != 3:
        raise OutcropError("shape", f"{given} is not inlines, crosslines, samples; give three")
    if any(length < least for length, least in zip(shape, _LEAST, strict=True)):
        least = ",".join(map(str, _LEAST))
        raise OutcropError(
            "shape", f"{given} has no room for salt and slides; take {least} or more"
        )
    if seed < 0:
        raise OutcropError("cube", f"seed {seed} is negative; take 0 or more")
    if noise_db is not None and not noise_db >= _FAINTEST:
        raise OutcropError("noise_db", f"{noise_db} leaves no signal; take {_FAINTEST} or more")
    inlines, crosslines, samples = shape
    wanted, free = _BYTES * inlines * crosslines * samples, shutil.disk_usage(folder.parent).free
    if wanted > free:
        raise OutcropError(
            folder,
            f"a cube of {given} takes {wanted / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
            "make a smaller one or write elsewhere",
        )
    return inlines, crosslines, samples


@dataclass(frozen=True)
class Places:
    """Places of N patches, class by class; int64 arrays of length N.

    Attributes:
        index: number of the slice along the axis.
        row, column: upper-left pixel in the slice, whose rows and columns are the other two axes in
            order.
        label: index into `CLASSES` of the class of the centre voxel.
    """

    index: np.ndarray
    row: np.ndarray
    column: np.ndarray
    label: np.ndarray


def random_patches(
    classes: np.ndarray, axis: int, size: int, per_class: int, seed: int, share: float = 0.6
) -> Places:
    """Random places of patches that lie inside a slice and show mostly one class.

    The class of a patch is that of its centre pixel, which is `size // 2` below and right of the
    upper-left one. Patches differ, but may overlap.

    Args:
        classes: uint8, three axes: 0, or 1 + index into `CLASSES`; may be memory-mapped.
        axis: axis that the slices are perpendicular to, 0 to 2.
        size: height and width of a patch.
        per_class: number of patches of each class.
        seed: random seed.
        share: minimum share of a patch's pixels of its class.

    Raises:
        OutcropError: `axis` or `size` does not fit the cube, or a class has too few such places.
    """
    if axis not in (0, 1, 2):
        raise OutcropError("axis", f"{axis} is not an axis of a cube; take 0, 1 or 2")
    planes = np.moveaxis(classes, axis, 0)
    if not 1 <= size <= min(planes.shape[1:]):
        sides = " × ".join(map(str, planes.shape[1:]))
        raise OutcropError("size", f"a patch of {size} does not fit slices of {sides}; change it")
    windows = sliding_window_view(planes, (size, size), axis=(1, 2))
    places = int(np.prod(windows.shape[:3]))
    tries = min(places, _TRIES * per_class * len(CLASSES))
    drawn = np.random.default_rng(seed).choice(places, tries, replace=False)
    corners = np.stack(np.unravel_index(drawn, windows.shape[:3]))
    centres = windows[..., size // 2, size // 2][tuple(corners)]
    kept = [
        _first(windows, corners[:, centres == k], k, per_class, share)
        for k in range(1, len(CLASSES) + 1)
    ]
    index, row, column = np.concatenate(kept, axis=1)
    return Places(index, row, column, np.repeat(np.arange(len(CLASSES)), per_class))


def _first(
    windows: np.ndarray, corners: np.ndarray, k: int, wanted: int, share: float
) -> np.ndarray:
    """The first corners whose windows have enough of class `k`: 3 × wanted."""
    height, width = windows.shape[-2:]
    chunk = max(1, _CHUNK // (height * width))
    kept = np.empty((3, 0), dtype=np.int64)
    for start in range(0, corners.shape[1], chunk):
        some = corners[:, start : start + chunk]
        shares = (windows[tuple(some)] == k).mean(axis=(1, 2))
        kept = np.concatenate([kept, some[:, shares >= share]], axis=1)
        if kept.shape[1] >= wanted:
            return kept[:, :wanted]
    raise OutcropError(
        f"class '{CLASSES[k - 1]}'",
        f"has {100 * share:.0f} % of {height} × {width} pixels at only {kept.shape[1]} of "
        f"{wanted} places; take fewer or smaller patches, or a smaller share",
    )
