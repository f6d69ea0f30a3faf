"""Classify every pixel of a scene, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.mapping.classmap import write_maps
from outcrop.mapping.engine import finished
from outcrop.mapping.pictures import OfScene
from outcrop.mapping.prepare import Model, Wanted, check_files, job_for, layer_files
from outcrop.sources.scene import Scene, open_scene


def map_scene(
    model: Model | Sequence[Model],
    scene: Scene | str | Path,
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
    sieve: int = 0,
    window: int = 1,
    scheduler: str | None = None,
    resume: bool = False,
) -> None:
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
        model: a trained classifier, or the run that holds it; or several, whose probabilities are
            averaged.
        scene: an open scene or a raster file.
        output: the map: uint8, 0 = nodata, then the classes from 1, with colours and names.
        confidence: a further file: the probability of the class in per cent, uint8, 255 = nodata.
        step: classify one pixel of each cell of `step × step` pixels and give its class to the
            whole cell: coarser, and `step²` times faster. Only patch by patch.
        overwrite: whether the files may exist.
        entropy: a further file: Shannon's entropy of the probabilities in per cent of that of
            equally likely classes, uint8, 255 = nodata.
        second: a further file: the second-best class, as in the map.
        trust: a further file: how far a pixel's features lie from the training data of the first
            run, in per cent of what its area of trust allows (`outcrop.evaluation.trust`), uint8,
            at most 254, 255 = nodata. Above 100 the class is a guess.
        method: "dense", "patches", or what the network was trained for.
        turns: average over the eight turned and mirrored pictures.
        sieve: patches of a class of fewer pixels than this take the class of their largest
            neighbour (the minimum mapping unit); needs three bytes of disk for each pixel.
        window: rows and columns, at least, that are read, computed and kept together, in whole
            tiles of up to 512.
        scheduler: see `outcrop.crew.crew`; without it, threads of this process.
        resume: go on with a map that was interrupted.

    Raises:
        OutcropError: the scene has not the bands of the models, or is smaller than a patch; models
            of different classes; a window below 1, a sieve below 0; a file exists; the disk is
            full.
    """
    for name, number, least in (("window", window, 1), ("sieve", sieve, 0)):
        if number < least:
            raise OutcropError(f"--{name}", f"must be {least} or more, not {number}")
    scene = scene if isinstance(scene, Scene) else open_scene(scene)
    files = layer_files(output, confidence=confidence, entropy=entropy, second=second, trust=trust)
    pictures = OfScene(scene)
    job = job_for(model, pictures, tuple(files), method, turns, step, window=window)
    check_files(files, scene.files, overwrite)
    for file in files.values():
        if file.is_dir():
            raise OutcropError(file, "is a folder; name a file, e.g. map.tif")
    windows = job.tiling.windows
    with finished(job, pictures, windows, files["classes"], scheduler, resume) as store:
        done = ((one, store.read(one)) for one in windows)
        write_maps(files, scene, job.predictor.classes, done, store.folder, sieve)
