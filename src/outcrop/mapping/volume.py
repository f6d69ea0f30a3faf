"""Class cubes of volumes: computed slice by slice, written as Zarr, SEG-Y or .npy."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.errors import OutcropError
from outcrop.executors import Scheduler
from outcrop.files import new_file, new_folder, write_json
from outcrop.mapping.engine import finished
from outcrop.mapping.images import VolumeImages
from outcrop.mapping.job import Window
from outcrop.mapping.layers import LAYERS, Layer
from outcrop.mapping.prepare import (
    Trained,
    Wanted,
    all_opened,
    check_files,
    first_of,
    job_for,
    layer_files,
    warn_if_dissimilar,
    with_old_name,
)
from outcrop.progress import warn
from outcrop.sources.volumes import Volume, open_volume
from outcrop.sources.volumes.segy import SegyStore, replace_samples
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
    tta: bool = False,
    scheduler: Scheduler | None = None,
    resume: bool = False,
    turns: bool | None = None,
) -> None:
    """Write the class cube of a volume; it has the shape of the volume.

    A sample gets the class of the patch around it in its slice. Patches over the edge of a slice
    are completed by mirroring. Samples without data have no class. Otherwise it works like
    `outcrop.mapping.scene.map_scene`. Until the cube is complete, finished slices and one byte per
    sample are stored on disk.

    Args:
        model: a model, a run or its folder, trained on patches of slices; or several.
        volume: an open volume, or an argument of `open_volume`.
        axis: axis across the slices, from 0, as for `cut_volume`; if None, that of the training
            patches.
        output: the cube, uint8, 0 = no data, then the classes from 1. Its ending sets the format:
            .zarr; .npy; .sgy or .segy, a copy of the SEG-Y input with other samples.
        confidence, entropy, second, dissimilarity: further cubes, as in `map_scene`.
        step, overwrite, method, tta, scheduler, resume: see `map_scene`. With `tta`,
            slices that contain the sample axis are only mirrored, in the other direction.
        turns: old name of `tta`.

    Raises:
        OutcropError: the model has several bands; slices are smaller than its patches, or across
            another axis; the axis is unknown; the ending sets no format; and as for scenes.
    """
    tta = with_old_name(tta, turns)
    volume = volume if isinstance(volume, Volume) else open_volume(volume)
    model = all_opened(model)
    axis = _axis_of(first_of(model), volume) if axis is None else axis
    files = layer_files(
        output, confidence=confidence, entropy=entropy, second=second, dissimilarity=dissimilarity
    )
    images = VolumeImages.of(volume, axis)
    job = job_for(model, images, tuple(files), method, tta, step, axis, window=max(images.shape))
    classes = job.predictor.classes
    check_cubes(files, volume, len(classes))
    check_files(files, (str(volume.path),), overwrite)
    for file in files.values():
        if file.is_dir() and file.suffix.lower() != ".zarr":
            raise OutcropError(file, "is a folder; name a file")
    warn_if_dissimilar(model, job, images)
    (whole,) = job.tiling.windows
    slices = [replace(whole, index=k) for k in range(volume.shape[axis])]
    with finished(job, images, slices, files["classes"], scheduler, resume) as store:
        done = ((one, store.read(one)) for one in slices)
        write_cubes(files, volume, axis, classes, done, store.folder, overwrite)


def _axis_of(model: Model, volume: Volume) -> int:
    """The axis across which the slices of a volume correspond to the training slices.

    Raises:
        OutcropError: it is unknown, or there are several.
    """
    known = model.trained_on
    axes: list[int] = []
    if known is not None and known.axes:
        axes = [axis for axis in range(3) if known.has_slices(volume.axes, axis)]
    if len(axes) != 1:
        raise OutcropError("`axis`", "is missing; pass the axis across the slices")
    warn(f"slices are across axis {axes[0]}, like those of the training")
    return axes[0]


_CHUNK = 64
_SEGY = (".sgy", ".segy")
_FORMATS = (".zarr", *_SEGY, ".npy")

Windows = Iterable[tuple[Window, np.ndarray]]


def check_cubes(files: Mapping[str, Path], volume: Volume, classes: int) -> None:
    """Check that each name sets a format in which the volume can be written.

    Raises:
        OutcropError: a name does not.
    """
    for file in files.values():
        suffix = file.suffix.lower()
        if suffix not in _FORMATS:
            raise OutcropError(file, f"its ending sets no format; use {', '.join(_FORMATS)}")
        if suffix not in _SEGY:
            continue
        if not isinstance(volume.store, SegyStore):
            raise OutcropError(
                file,
                f"needs the geometry of a SEG-Y file, but {volume.title} is not one; use .zarr",
            )
        most = volume.store.max_class
        if max(classes, 100, *(LAYERS[name].nodata for name in files)) > most:
            raise OutcropError(
                file, f"can hold only numbers up to {most}, like {volume.title}; use .zarr"
            )


def is_cube(path: Path) -> bool:
    """Whether a path is a class cube with the names of its classes beside it."""
    return path.suffix.lower() in _FORMATS and path.with_name(path.name + ".json").exists()


def write_cubes(
    files: Mapping[str, Path],
    volume: Volume,
    axis: int,
    classes: Sequence[str],
    windows: Windows,
    scratch: Path,
    overwrite: bool,
) -> None:
    """Write layers as cubes of the volume's shape; each is renamed to its name when complete.

    Beside a cube of classes, `NAME.json` lists the class names from value 1.

    Args:
        files: path of each layer by its name in `LAYERS`, in the order of `windows`.
        axis: axis across the slices.
        windows: slice by slice, uint8, `layers × height × width`.
        scratch: folder on the same disk for unfinished cubes.

    Raises:
        OutcropError: the disk is full.
    """
    cubes = {name: scratch / f"{name}.npy" for name in files}
    _fill(cubes.values(), volume, axis, windows)
    with ExitStack() as renames:
        for name, path in files.items():
            layer, suffix = LAYERS[name], path.suffix.lower()
            attributes = {"axes": list(volume.axes)}
            if not layer.averages:
                attributes["classes"] = list(classes)
                beside = renames.enter_context(new_file(path.with_name(path.name + ".json")))
                write_json(beside, list(classes))
            values = np.load(cubes[name], mmap_mode="r")
            if suffix == ".zarr":
                _write_zarr(path, values, layer, attributes, overwrite)
                continue
            with new_file(path) as temporary:
                if suffix == ".npy":
                    shutil.copyfile(cubes[name], temporary)
                else:
                    assert isinstance(volume.store, SegyStore)
                    replace_samples(volume.store, temporary, values)


def _fill(cubes: Iterable[Path], volume: Volume, axis: int, windows: Windows) -> None:
    opened = [
        np.moveaxis(np.lib.format.open_memmap(path, "w+", np.uint8, volume.shape), axis, 0)
        for path in cubes
    ]
    waiting: list[np.ndarray] = []
    start = 0
    for window, layers in windows:
        waiting.append(layers)
        # Slices across the last axis are scattered over the file, so several are written at once.
        if len(waiting) == _CHUNK or window.index == volume.shape[axis] - 1:
            for cube, values in zip(opened, np.stack(waiting, axis=1), strict=True):
                cube[start : start + len(values)] = values
            start, waiting = start + len(waiting), []


def _write_zarr(
    path: Path, values: np.ndarray, layer: Layer, attributes: Mapping[str, Any], overwrite: bool
) -> None:
    import zarr

    attributes = {"layer": layer.title, "nodata": layer.nodata, **attributes}
    with new_folder(path, overwrite) as temporary:
        array = zarr.create_array(
            store=temporary,
            shape=values.shape,
            chunks=tuple(min(_CHUNK, length) for length in values.shape),
            dtype="uint8",
            fill_value=layer.nodata,
            attributes=attributes,
            config={"write_empty_chunks": True},
        )
        for start in range(0, len(values), _CHUNK):
            array[start : start + _CHUNK] = values[start : start + _CHUNK]
