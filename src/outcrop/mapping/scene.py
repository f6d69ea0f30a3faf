"""Classify every pixel of a scene, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any, Literal

import numpy as np
import torch

from outcrop.crew import Crew, cores, crew
from outcrop.errors import OutcropError
from outcrop.files import check_new
from outcrop.mapping.classmap import MOST_CLASSES, write_maps
from outcrop.mapping.job import Job
from outcrop.mapping.partial import Partial, fingerprint, stamps
from outcrop.mapping.predictor import Method, Predictor, turns_of
from outcrop.mapping.tiling import Window, divide
from outcrop.progress import tell
from outcrop.sources.scene import Scene, open_scene
from outcrop.training.classifier import Classifier
from outcrop.training.run import Run, classifier_of

_WINDOW = 1024
_MOST_STEP = 256
_READ_AHEAD = 2

Model = Classifier | Run


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
    method: Literal["auto", "dense", "patches"] = "auto",
    turns: bool = False,
    sieve: int = 0,
    window: int = _WINDOW,
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
        method: "dense", "patches", or what the network was trained for.
        turns: average over the eight turned and mirrored pictures.
        sieve: patches of a class of fewer pixels than this take the class of their largest
            neighbour (the minimum mapping unit); needs two bytes of disk for each pixel.
        window: rows and columns that are read, computed and kept together, in whole tiles.
        scheduler: see `outcrop.crew.crew`; without it, threads of this process.
        resume: go on with a map that was interrupted.

    Raises:
        OutcropError: the scene has not the bands of the models, or is smaller than a patch; models
            of different classes; a file exists; the disk is full.
    """
    classifiers = _classifiers(model)
    scene = scene if isinstance(scene, Scene) else open_scene(scene)
    chosen = _method(classifiers, method)
    _check(classifiers, scene, step, chosen)
    files = {"classes": Path(output)}
    further = {"confidence": confidence, "entropy": entropy, "second": second}
    files |= {name: Path(path) for name, path in further.items() if path is not None}
    _check_files(files, scene, overwrite)
    predictor = Predictor(
        classifiers, chosen, turns_of(classifiers, has_up=False) if turns else ("none",)
    )
    multiple = int(np.lcm(predictor.multiple, step))
    tiling = divide(scene.height, scene.width, predictor.largest, multiple, window)
    job = Job(predictor, tiling, tuple(files), step)
    with _kept(files["classes"], _plan(job, scene), resume) as store:
        todo = [one for one in tiling.windows if one not in store]
        with crew(scheduler, threads_for(classifiers)) as workers:
            for done, layers in _classified(job, scene, todo, workers):
                store.write(done, layers)
        windows = ((one, store.read(one)) for one in tiling.windows)
        write_maps(files, scene, classifiers[0].classes, windows, store.folder, sieve)


def threads_for(classifiers: Sequence[Classifier]) -> int:
    """Threads that compute: as many as torch has on a CPU, one in front of a GPU."""
    if any(one.device.type != "cpu" for one in classifiers):
        return 1
    return min(cores(), torch.get_num_threads())


@contextmanager
def _kept(output: Path, plan: Mapping[str, Any], resume: bool) -> Iterator[Partial]:
    """The windows of a map; they stay if the block is left by an interrupt or an error."""
    store = Partial(output, plan, resume)
    try:
        yield store
    except BaseException:
        if store.done:
            tell(f"{output}: {store.done} windows are done and kept; --resume goes on with them")
        else:
            store.remove()
        raise
    store.remove()


def _plan(job: Job, scene: Scene) -> dict[str, Any]:
    """All that decides what a map will be."""
    return {
        "models": [fingerprint(one.module.state_dict()) for one in job.predictor.classifiers],
        "method": job.predictor.method,
        "turns": list(job.predictor.turns),
        "layers": list(job.layers),
        "step": job.step,
        "scene": [stamps(scene.files), [band.number for band in scene.bands]],
        "windows": [list(job.tiling.tile), list(job.tiling.group)],
    }


@dataclass(frozen=True)
class _OfScene:
    """A job, and the scene that it is done on."""

    job: Job
    scene: Scene


def _classified(
    job: Job, scene: Scene, windows: Sequence[Window], workers: Crew
) -> Iterator[tuple[Window, np.ndarray]]:
    """Every window and its layers; while some are computed others are read and written."""
    if workers.far:
        work = _OfScene(job, scene)
        done = workers.each(_read_and_classify, work, windows, "classifying")
        yield from zip(windows, done, strict=True)
        return
    with _one_thread_each(), _read_ahead(job, scene, windows) as pixels:
        done = workers.each(_classify, job, pixels, "classifying", len(windows))
        yield from zip(windows, done, strict=True)


def _classify(job: Job, read: tuple[Window, np.ndarray]) -> np.ndarray:
    return job.classify(*read)


def _read_and_classify(work: _OfScene, window: Window) -> np.ndarray:
    with _one_thread_each(), work.scene.reader() as reader:
        return work.job.classify(window, work.job.read(reader, window))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Each thread computes its tile alone: they need not wait for each other, and a sum does not
    depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _read_ahead(
    job: Job, scene: Scene, windows: Sequence[Window]
) -> Iterator[Iterator[tuple[Window, np.ndarray]]]:
    """Windows with their pixels, read by a thread of their own, a few ahead."""
    ready: Queue[tuple[Window, np.ndarray] | BaseException] = Queue(_READ_AHEAD)
    stopped = Event()

    def read() -> None:
        try:
            with scene.reader() as reader:
                for window in windows:
                    if stopped.is_set():
                        return
                    ready.put((window, job.read(reader, window)))
        except BaseException as error:  # told where it is waited for
            ready.put(error)

    def give() -> Iterator[tuple[Window, np.ndarray]]:
        for _ in windows:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = Thread(target=read, name="reading", daemon=True)
    thread.start()
    try:
        yield give()
    finally:
        stopped.set()
        while thread.is_alive():
            while not ready.empty():
                ready.get()
            thread.join(0.05)


def _classifiers(model: Model | Sequence[Model]) -> tuple[Classifier, ...]:
    several = model if isinstance(model, Sequence) else [model]
    classifiers = tuple(map(classifier_of, several))
    if not classifiers:
        raise OutcropError("model", "there is none; give one run or several")
    first = classifiers[0]
    for one in classifiers[1:]:
        for what in ("classes", "bands"):
            mine, its = getattr(one, what), getattr(first, what)
            if mine != its:
                raise OutcropError(
                    "--ensemble",
                    f"has a model of the {what} {', '.join(mine)}, the first is of "
                    f"{', '.join(its)}; take runs trained on the same patches",
                )
    return classifiers


def _method(classifiers: Sequence[Classifier], wanted: str) -> Method:
    if wanted == "dense":
        return "dense"
    dense = all(one.network.padding == "none" for one in classifiers)
    return "dense" if dense and wanted == "auto" else "patches"


def _check_files(files: Mapping[str, Path], scene: Scene, overwrite: bool) -> None:
    taken: dict[Path, str] = {}
    for name, file in files.items():
        if file.resolve() in taken:
            raise OutcropError(f"--{name}", f"{file} is the map's name; take another one")
        taken[file.resolve()] = name
        check_new(file, overwrite)
        if file.is_dir():
            raise OutcropError(file, "is a folder; name a file, e.g. map.tif")
        if file.exists() and any(file.samefile(source) for source in scene.files):
            raise OutcropError(file, "is the scene itself; choose another name for the map")


def _check(classifiers: Sequence[Classifier], scene: Scene, step: int, method: Method) -> None:
    bands, classes = classifiers[0].bands, classifiers[0].classes
    if len(scene.bands) != len(bands):
        raise OutcropError(
            scene.title,
            f"has {len(scene.bands)} bands, but the model was trained on "
            f"{len(bands)} ({', '.join(bands)}); choose them with --bands",
        )
    for one in classifiers:
        if one.size[0] > scene.height or one.size[1] > scene.width:
            raise OutcropError(
                scene.title,
                f"is {scene.height} × {scene.width} pixels, smaller than the model's patches of "
                f"{one.size[0]} × {one.size[1]}; train on smaller patches",
            )
    if len(classes) > MOST_CLASSES:
        raise OutcropError(
            "map", f"cannot hold {len(classes)} classes; a map has at most {MOST_CLASSES}"
        )
    if not 1 <= step <= _MOST_STEP:
        raise OutcropError("--step", f"must be from 1 to {_MOST_STEP}, not {step}")
    if step > 1 and method == "dense":
        raise OutcropError(
            "--step", "has no meaning for a dense map, which computes every pixel; leave it out"
        )
