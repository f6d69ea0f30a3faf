"""A folder with the cube, its truth and the names of its classes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

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


@dataclass(frozen=True)
class Cube:
    """What `make_cube` wrote.

    Attributes:
        volume: `cube.npy`, float32, inlines × crosslines × samples: amplitudes, the signal's root
            mean square being 1.
        classes: `classes.npy`, uint8, of the same shape: 1 + index into the names, or 0 near a
            contact, where textures mix.
        names: `classes.json`, the list of names.
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
    """Make a seismic cube and write it and its truth into `folder`.

    It is made and written a few inlines at a time, so that memory does not grow with their number.
    `folder` appears only when it is whole.

    Args:
        folder: a new folder.
        shape: inlines, crosslines and samples; bodies grow with it, wavelets do not.
        seed: which cube.
        noise_db: mean power of the signal over that of the noise, in dB; no noise if None.

    Returns:
        The files in `folder`.

    Raises:
        OutcropError: `folder` exists; `shape` is not three numbers of at least 32, 48 and 64;
            `seed` is negative; `noise_db` is below -100; the disk has no room.
    """
    cube = cube_in(folder)
    check_new(Path(folder), instead="")
    inlines, crosslines, samples = _checked(shape, seed, noise_db, Path(folder))
    survey = Survey(Earth.draw((inlines, crosslines, samples), seed), noise_db)
    slabs = [range(first, min(first + _SLAB, inlines)) for first in range(0, inlines, _SLAB)]
    with (
        new_folder(folder) as temporary,
        (temporary / cube.volume.name).open("xb") as volume,
        (temporary / cube.classes.name).open("xb") as classes,
    ):
        for file, kind in ((volume, np.float32), (classes, np.uint8)):
            _head(file, (inlines, crosslines, samples), np.dtype(kind))
        for slab in track(slabs, "making the cube"):
            for file, values in zip((volume, classes), survey.slab(slab), strict=True):
                file.write(values.tobytes())
        write_json(temporary / cube.names.name, list(CLASSES))
    return cube


def cube_in(folder: str | Path) -> Cube:
    """The files that `make_cube` gives a folder."""
    folder = Path(folder)
    return Cube(folder / "cube.npy", folder / "classes.npy", folder / "classes.json")


def _checked(
    shape: Sequence[int], seed: int, noise_db: float | None, folder: Path
) -> tuple[int, int, int]:
    """`shape` as three numbers, if a cube of it can be made and written."""
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


def _head(file: BinaryIO, shape: tuple[int, ...], kind: np.dtype) -> None:
    """The head of an npy file; the values, in C order, are to follow."""
    head = {"descr": dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    write_array_header_1_0(file, head)
