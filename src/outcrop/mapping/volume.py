"""Classify every sample of a volume, slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.executors import Scheduler
from outcrop.mapping.classcube import check_cubes, write_cubes
from outcrop.mapping.engine import finished
from outcrop.mapping.pictures import OfVolume
from outcrop.mapping.prepare import (
    Trained,
    Wanted,
    check_files,
    first_of,
    job_for,
    layer_files,
)
from outcrop.mapping.similarity import warn_if_dissimilar
from outcrop.progress import tell
from outcrop.sources.volumes import Volume, open_volume
from outcrop.training.model import Model


def map_volume(
    model: Trained | Sequence[Trained],
    volume: Volume | str | Path,
    axis: int | None,
    output: str | Path,
    confidence: str | Path | None = None,
    step: int = 1,
    overwrite: bool = False,
    *,
    entropy: str | Path | None = None,
    second: str | Path | None = None,
    dissimilarity: str | Path | None = None,
    method: Wanted = "auto",
    turns: bool = False,
    scheduler: Scheduler | None = None,
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
        axis: that the slices are across, from 0, as the patches were cut; None takes that of the
            patches that the model was trained on.
        output: the cube, uint8, 0 = no data, then the classes from 1; what it ends in is the
            format: .zarr; .npy; .sgy or .segy, a copy of the SEG-Y input with other samples.
        confidence, entropy, second, dissimilarity: further cubes, as of scenes.
        step, overwrite, method, turns, scheduler, resume: as of scenes. Turned slices keep the
            order of samples.

    Raises:
        OutcropError: the model has several bands; slices are smaller than its patches, or across
            another axis; it is not known which axis; an ending that tells no format; and as for
            scenes.
    """
    volume = volume if isinstance(volume, Volume) else open_volume(volume)
    axis = _axis_of(first_of(model), volume) if axis is None else axis
    volume.plane(axis)
    files = layer_files(
        output, confidence=confidence, entropy=entropy, second=second, dissimilarity=dissimilarity
    )
    pictures = OfVolume(volume, axis)
    job = job_for(
        model, pictures, tuple(files), method, turns, step, axis, window=max(pictures.shape)
    )
    classes = job.predictor.classes
    check_cubes(files, volume, len(classes))
    check_files(files, (str(volume.path),), overwrite)
    for file in files.values():
        if file.is_dir() and file.suffix.lower() != ".zarr":
            raise OutcropError(file, "is a folder; name a file")
    warn_if_dissimilar(model, job, pictures)
    (whole,) = job.tiling.windows
    slices = [replace(whole, index=k) for k in range(volume.shape[axis])]
    with finished(job, pictures, slices, files["classes"], scheduler, resume) as store:
        done = ((one, store.read(one)) for one in slices)
        write_cubes(files, volume, axis, classes, done, store.folder, overwrite)


def _axis_of(model: Model, volume: Volume) -> int:
    """The axis across which the slices of a volume are those of the training side.

    Raises:
        OutcropError: it is not known, or there are several.
    """
    known = model.trained_on
    axes: list[int] = []
    if known is not None and known.axes:
        axes = [axis for axis in range(3) if known.has_slices(volume.axes, axis)]
    if len(axes) != 1:
        raise OutcropError("--axis", "is missing; pass the axis that the slices are across")
    tell(f"slices across axis {axes[0]}, as the model was trained on")
    return axes[0]
