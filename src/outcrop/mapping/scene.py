"""Classify every pixel of a scene, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from outcrop.errors import OutcropError
from outcrop.executors import Scheduler
from outcrop.mapping.classmap import sidecars, write_maps
from outcrop.mapping.engine import finished
from outcrop.mapping.pictures import OfScene
from outcrop.mapping.prepare import (
    Trained,
    Wanted,
    check_files,
    first_of,
    job_for,
    layer_files,
)
from outcrop.mapping.result import MappedScene
from outcrop.mapping.similarity import warn_if_dissimilar
from outcrop.progress import tell
from outcrop.sources.grids import pixel_metres
from outcrop.sources.memory import AnyScene
from outcrop.sources.opening import open_scene, with_bands
from outcrop.sources.scene import Reading, Scene
from outcrop.training.model import Model

_PIXEL = 0.1  # relative difference of pixel sizes that is pointed out


def map_scene(
    model: Trained | Sequence[Trained],
    scene: AnyScene,
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
    sieve: int = 0,
    window: int = 1,
    extent: Sequence[float] | None = None,
    scheduler: Scheduler | None = None,
    resume: bool = False,
) -> MappedScene:
    """Write the class map of a scene as a Cloud-Optimized GeoTIFF on the scene's own grid.

    The class of a pixel is that of the patch it is the centre of; patches over the scene's edge
    are completed by mirroring, as in cutting. Pixels without data in any band are nodata.

    A network without padding is laid over the scene densely, which gives every pixel what its
    patch would, up to rounding, some hundred times faster. One that was trained with padding sees
    zeros around each patch, and the scene itself around a dense window: it is therefore run patch
    by patch, unless `method` says otherwise.

    Classes do not depend on `window` or on who computes them, bit by bit. Memory is bounded by a
    few windows, not by the scene. Finished windows are kept beside the map until it is whole.

    Args:
        model: a trained model, or the run that holds it; or several, whose probabilities are
            averaged.
        scene: an open scene or a DataArray, or a raster or product by name, which is then read as
            the scenes of the training side were. Bands are matched by name.
        output: the map: uint8, 0 = nodata, then the classes from 1, with colours and names. Beside
            each file lies its style for QGIS, and beside the map a table of its classes for GDAL
            (`outcrop.mapping.classmap.write_maps`).
        confidence: a further file: the probability of the class in per cent, uint8, 255 = nodata.
        step: classify one pixel of each cell of `step × step` pixels and give its class to the
            whole cell: coarser, and `step²` times faster. Only patch by patch.
        overwrite: whether the files, and those that belong to them by name, may exist.
        entropy: a further file: Shannon's entropy of the probabilities in per cent of that of
            equally likely classes, uint8, 255 = nodata.
        second: a further file: the second-best class, as in the map.
        dissimilarity: a further file: the dissimilarity index between a pixel and the training
            data of the first run, in per cent of the threshold of its area of applicability
            (`outcrop.metrics.applicability`), uint8, at most 254, 255 = nodata. Pixels above 100
            lie outside.
        method: "dense", "patches", or what the network was trained for.
        turns: average over the eight turned and mirrored pictures.
        sieve: patches of a class of fewer pixels than this take the class of their largest
            neighbour (the minimum mapping unit); needs three bytes of disk for each pixel.
        window: rows and columns, at least, that are read, computed and kept together, in whole
            tiles of up to 512.
        extent: map only this part: smallest x and y, largest x and y in the scene's CRS. Nothing
            else is read than it and its surroundings.
        scheduler: see `outcrop.executors.executor`; without it, threads of this process.
        resume: go on with a map that was interrupted.

    Returns:
        The files, and what their values mean.

    Raises:
        OutcropError: the scene has not the bands of the models, or is smaller than a patch; models
            of different classes; a window below 1, a sieve below 0; a file exists; the disk is
            full.
    """
    for name, number, least in (("window", window, 1), ("sieve", sieve, 0)):
        if number < least:
            raise OutcropError(f"--{name}", f"must be {least} or more, not {number}")
    first = first_of(model)
    if not isinstance(scene, Scene):
        scene = open_scene(scene, reading=reading_of(first))
    scene = _with_bands_of(first, scene)
    files = layer_files(
        output, confidence=confidence, entropy=entropy, second=second, dissimilarity=dissimilarity
    )
    part = None if extent is None else part_within(scene, extent)
    pictures = OfScene(scene, part)
    job = job_for(model, pictures, tuple(files), method, turns, step, window=window)
    for file in files.values():
        if file.is_dir():
            raise OutcropError(file, "is a folder; name a file, e.g. map.tif")
    check_files(files, scene.files, overwrite, sidecars)
    _tell_pixels(first, scene)
    warn_if_dissimilar(model, job, pictures)
    windows = job.tiling.windows
    grid = scene if part is None else cropped(scene, part)
    with finished(job, pictures, windows, files["classes"], scheduler, resume) as store:
        done = ((one, store.read(one)) for one in windows)
        write_maps(files, grid, job.predictor.classes, done, store.folder, sieve)
    return MappedScene(files, tuple(job.predictor.classes))


def reading_of(model: Model) -> Reading:
    """How scenes are to be read for a model: as those of its training side were."""
    return Reading() if model.trained_on is None else model.trained_on.for_others


def part_within(scene: Scene, extent: Sequence[float]) -> tuple[int, int, int, int]:
    """Row and column, height and width of the pixels that an extent touches.

    Args:
        extent: smallest x and y, largest x and y in the scene's CRS.

    Raises:
        OutcropError: it is no extent, or touches no pixel of the scene.
    """
    if len(extent) != 4 or not (extent[0] < extent[2] and extent[1] < extent[3]):
        raise OutcropError(
            "--extent", "takes smallest x and y, then largest x and y, as 4 numbers with commas"
        )
    x, y = np.array(extent)[[0, 0, 2, 2]], np.array(extent)[[1, 3, 1, 3]]
    near = 1e-6
    row, column = scene.place(x, y)
    top, left = (max(0, int(np.floor(at.min() + near))) for at in (row, column))
    bottom = min(scene.height, int(np.ceil(row.max() - near)))
    right = min(scene.width, int(np.ceil(column.max() - near)))
    if bottom <= top or right <= left:
        bounds = ", ".join(f"{at:.9g}" for at in scene.bounds)
        raise OutcropError("--extent", f"lies outside {scene.title}, which covers {bounds}")
    return top, left, bottom - top, right - left


def cropped(scene: Scene, part: tuple[int, int, int, int]) -> Scene:
    """The grid of a part of a scene, for writing."""
    row, column, height, width = part
    a, b, c, d, e, f = scene.transform
    corner = a * column + b * row + c, d * column + e * row + f
    transform = (a, b, corner[0], d, e, corner[1])
    return replace(scene, transform=transform, height=height, width=width)


def _with_bands_of(model: Model, scene: Scene) -> Scene:
    remedy = "choose them with --bands, or name them with --band-names"
    found, note = with_bands(scene, model.bands, "the model", remedy)
    if note:
        tell(f"note: {note}")
    return found


def _tell_pixels(model: Model, scene: Scene) -> None:
    """Say that pixels are of another size than those of the training side."""
    known = model.trained_on
    if known is None:
        return
    size = pixel_metres(scene)[0]
    if known.pixel and not any(np.isclose(size, wide, rtol=_PIXEL) for wide, _ in known.pixel):
        tell(
            f"note: {scene.title} has pixels of {size:.4g} m, and the model was trained on "
            f"{known.pixel[0][0]:.4g} m; pass --resolution if the scene can be read so"
        )
