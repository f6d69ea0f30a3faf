"""Classify every sample of a volume, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.mapping.classcube import check_cubes, write_cubes
from outcrop.mapping.engine import (
    Model,
    Wanted,
    check_files,
    check_pictures,
    check_step,
    classifiers_of,
    finished,
    method_for,
    trust_of,
)
from outcrop.mapping.job import Job
from outcrop.mapping.pictures import OfVolume
from outcrop.mapping.predictor import Predictor, turns_of
from outcrop.mapping.tiling import divide
from outcrop.sources.volumes import Volume, open_volume


def map_volume(
    model: Model | Sequence[Model],
    volume: Volume | str | Path,
    axis: int,
    output: str | Path,
    confidence: str | Path | None = None,
    step: int = 1,
    overwrite: bool = False,
    *,
    entropy: str | Path | None = None,
    second: str | Path | None = None,
    trust: str | Path | None = None,
    method: Wanted = "auto",
    turns: bool = False,
    scheduler: str | None = None,
    resume: bool = False,
) -> None:
    """Write the class cube of a volume, of its own shape.

    The class of a sample is that of the patch of its slice that it is the centre of; patches over
    a slice's edge are completed by mirroring. Samples without data have no class. All else is as
    in `outcrop.mapping.scene.map_scene`, but for what is kept until the cube is whole: a slice at
    a time, and a byte for each sample.

    Args:
        model: a classifier trained on patches of slices, or the run that holds it; or several.
        volume: an open volume, or what `open_volume` opens.
        axis: that the slices are across, from 0, as the patches were cut.
        output: the cube, uint8, 0 = no data, then the classes from 1; what it ends in is the
            format: .zarr; .npy; .sgy or .segy, a copy of the SEG-Y input with other samples.
        confidence, entropy, second, trust: further cubes, as of scenes.
        step, overwrite, method, turns, scheduler, resume: as of scenes. Turned slices keep the
            order of samples.

    Raises:
        OutcropError: the model has several bands; slices are smaller than its patches; an ending
            that tells no format; and as for scenes.
    """
    classifiers = classifiers_of(model)
    volume = volume if isinstance(volume, Volume) else open_volume(volume)
    volume.plane(axis)
    pictures = OfVolume(volume, axis)
    chosen = method_for(classifiers, method)
    check_pictures(classifiers, pictures)
    check_step(step, chosen)
    files = {"classes": Path(output)}
    further = {"confidence": confidence, "entropy": entropy, "second": second, "trust": trust}
    files |= {name: Path(path) for name, path in further.items() if path is not None}
    check_cubes(files, volume, len(classifiers[0].classes))
    check_files(files, (volume.path,), overwrite)
    for file in files.values():
        if file.is_dir() and file.suffix.lower() != ".zarr":
            raise OutcropError(file, "is a folder; name a file")
    turned = turns_of(classifiers, axis) if turns else ("none",)
    predictor = Predictor(classifiers, chosen, turned)
    multiple = int(np.lcm(predictor.multiple, step))
    tiling = divide(*pictures.shape, predictor.largest, multiple, max(pictures.shape))
    (whole,) = tiling.windows
    slices = [replace(whole, index=k) for k in range(volume.shape[axis])]
    far = None if trust is None else trust_of(model)
    job = Job(predictor, tiling, tuple(files), step, far)
    with finished(job, pictures, slices, files["classes"], scheduler, resume) as store:
        windows = ((one, store.read(one)) for one in slices)
        write_cubes(files, volume, axis, classifiers[0].classes, windows, store.folder, overwrite)
