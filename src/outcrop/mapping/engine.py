"""What mapping a scene and mapping a volume have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any, Literal

import numpy as np
import torch

from outcrop.crew import Crew, cores, crew
from outcrop.errors import OutcropError
from outcrop.evaluation.intervals import interval, resampled_counts
from outcrop.evaluation.trust import AreaOfTrust
from outcrop.files import check_new
from outcrop.mapping.job import Dissimilarity, Job
from outcrop.mapping.partial import Partial, fingerprint
from outcrop.mapping.pictures import Pictures
from outcrop.mapping.predictor import Method, patch_by_patch
from outcrop.mapping.tiling import Window
from outcrop.progress import tell
from outcrop.training.classifier import Classifier
from outcrop.training.run import Run, classifier_of

MOST_CLASSES = 254
_MOST_STEP = 256
_READ_AHEAD = 2
_MANY_PIXELS = 1 << 20
_PIXELS_SAMPLED, _WINDOWS_SAMPLED, _DRAWS = 2000, 40, 1000

Model = Classifier | Run
Wanted = Literal["auto", "dense", "patches"]


def classifiers_of(model: Model | Sequence[Model]) -> tuple[Classifier, ...]:
    """One classifier or several, which say the same classes of the same bands.

    Raises:
        OutcropError: they do not; there is none; more classes than a map can hold.
    """
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
    if len(first.classes) > MOST_CLASSES:
        raise OutcropError(
            "map",
            f"cannot hold {len(first.classes)} classes; a map has at most {MOST_CLASSES}",
        )
    return classifiers


def method_for(classifiers: Sequence[Classifier], wanted: Wanted) -> Method:
    """Densely if all networks are without padding, and patch by patch otherwise."""
    dense = all(one.network.padding == "none" for one in classifiers)
    if wanted == "auto":
        return "dense" if dense else "patches"
    return wanted


def trust_of(model: Model | Sequence[Model]) -> Dissimilarity:
    """From features to how far they lie from the training data of the first run, 1 being as far
    as is trusted.

    Raises:
        OutcropError: it is no run, or one without an area of trust.
    """
    first = model[0] if isinstance(model, Sequence) else model
    if not isinstance(first, Run):
        raise OutcropError("--trust", "needs a run, not only its classifier; pass the run")
    return partial(_over_threshold, first.trust)


def _over_threshold(area: AreaOfTrust, features: np.ndarray) -> np.ndarray:
    return area.dissimilarity(np.ascontiguousarray(features)) / np.float32(area.threshold or 1)


def check_pictures(classifiers: Sequence[Classifier], pictures: Pictures) -> None:
    """Refuse pictures that the classifiers were not made for.

    Raises:
        OutcropError: other bands; smaller than a patch.
    """
    bands = classifiers[0].bands
    if pictures.bands != len(bands):
        raise OutcropError(
            pictures.title,
            f"has {pictures.bands} bands, but the model was trained on "
            f"{len(bands)} ({', '.join(bands)}); choose them with --bands",
        )
    height, width = pictures.shape
    for one in classifiers:
        if one.size[0] > height or one.size[1] > width:
            raise OutcropError(
                pictures.title,
                f"is {height} × {width} pixels, smaller than the model's patches of "
                f"{one.size[0]} × {one.size[1]}; train on smaller patches",
            )


def check_step(step: int, method: Method) -> None:
    """Refuse a step that is out of range, or beside a dense map.

    Raises:
        OutcropError: it is.
    """
    if not 1 <= step <= _MOST_STEP:
        raise OutcropError("--step", f"must be from 1 to {_MOST_STEP}, not {step}")
    if step > 1 and method == "dense":
        raise OutcropError(
            "--step", "has no meaning for a dense map, which computes every pixel; leave it out"
        )


def check_files(files: Mapping[str, Path], sources: Sequence[Path], overwrite: bool) -> None:
    """Refuse, before hours of work, names that cannot be written.

    Args:
        files: by what they will hold.
        sources: the files that are mapped.

    Raises:
        OutcropError: a name twice; it exists and `overwrite` is false; it is a folder or a source.
    """
    taken: set[Path] = set()
    for name, file in files.items():
        if file.resolve() in taken:
            raise OutcropError(f"--{name}", f"{file} is the map's name; take another one")
        taken.add(file.resolve())
        check_new(file, overwrite)
        if file.exists() and any(file.samefile(source) for source in sources):
            raise OutcropError(file, "is what is to be mapped; choose another name for the map")


@contextmanager
def finished(
    job: Job,
    pictures: Pictures,
    windows: Sequence[Window],
    output: Path,
    scheduler: str | None,
    resume: bool,
) -> Iterator[Partial]:
    """All windows classified, each kept in a file, for the block to make the map of.

    Of several windows, those that are done stay when an interrupt or an error comes.

    Args:
        output: the map; they lie beside it.
        scheduler: see `outcrop.crew.crew`.
        resume: go on with what is there.

    Raises:
        OutcropError: what is there was begun otherwise; the disk is full; a source is damaged.
    """
    store = Partial(output, _plan(job, pictures), resume)
    try:
        todo = [one for one in windows if one not in store]
        if job.predictor.method == "patches" and _pixels(todo) > _MANY_PIXELS:
            tell(
                f"{output}: patch by patch, as networks with padding are trained; one trained "
                "with --padding none gives its map a hundred times faster"
            )
        with crew(scheduler, threads_for(job.predictor.classifiers)) as workers:
            for window, layers in _classified(job, pictures, todo, workers):
                store.write(window, layers)
        if is_approximate(job):
            tell(_agreement(job, pictures, windows, store))
        yield store
    except BaseException:
        if store.done and len(windows) > 1:
            tell(f"{output}: {store.done} windows are done and kept; --resume goes on with them")
        else:
            store.remove()
        raise
    store.remove()


def threads_for(classifiers: Sequence[Classifier]) -> int:
    """Threads that compute: as many as torch has on a CPU, one in front of a GPU."""
    if any(one.device.type != "cpu" for one in classifiers):
        return 1
    return min(cores(), torch.get_num_threads())


def _pixels(windows: Sequence[Window]) -> int:
    return sum(one.height * one.width for one in windows)


def is_approximate(job: Job) -> bool:
    """Whether networks are dense here that were trained with padding."""
    padded = any(one.network.padding != "none" for one in job.predictor.classifiers)
    return padded and job.predictor.method == "dense"


def _agreement(job: Job, pictures: Pictures, windows: Sequence[Window], store: Partial) -> str:
    """How often a dense map says what it would say patch by patch, from a sample of pixels."""
    dice = np.random.default_rng(0)
    some = dice.permutation(len(windows))[:_WINDOWS_SAMPLED]
    agree: list[np.ndarray] = []
    with pictures.reader(ahead=False) as reader:
        for window in (windows[k] for k in some):
            said = store.read(window)[0]
            rows, columns = np.nonzero(said)
            drawn = dice.permutation(len(rows))[: _PIXELS_SAMPLED // len(some)]
            if not len(drawn):
                continue
            row, column = rows[drawn], columns[drawn]
            likely = patch_by_patch(
                job.predictor, reader, window.index, window.row + row, window.column + column
            )
            agree.append(likely.argmax(axis=1) + 1 == said[row, column])
    if not agree:
        return "dense and patch by patch: no pixel has data to compare them on"
    right, groups = np.concatenate(agree), np.repeat(range(len(agree)), [len(a) for a in agree])
    counts = resampled_counts(right.astype(np.int64), 2, groups, _DRAWS, seed=0)
    shares = counts[:, 1] / counts.sum(axis=1)
    share = interval(right.mean(), shares if len(agree) > 1 else np.empty(0))
    return (
        f"dense and patch by patch agree on {share} of {len(right):,} pixels: this network was "
        "trained with zeros around its patches; --method patches maps as it was trained, "
        "--padding none trains as it maps"
    )


def _plan(job: Job, pictures: Pictures) -> dict[str, Any]:
    """All that decides what a map will be."""
    return {
        "models": [
            [fingerprint(one.module.state_dict()), one.description]
            for one in job.predictor.classifiers
        ],
        "method": job.predictor.method,
        "turns": list(job.predictor.turns),
        "layers": list(job.layers),
        "step": job.step,
        "source": pictures.identity,
        "windows": [list(job.tiling.tile), list(job.tiling.group)],
    }


@dataclass(frozen=True)
class _Work:
    job: Job
    pictures: Pictures


def _classified(
    job: Job, pictures: Pictures, windows: Sequence[Window], workers: Crew
) -> Iterator[tuple[Window, np.ndarray]]:
    """Every window and its layers; while some are computed others are read and written."""
    if workers.far:
        done = workers.each(_read_and_classify, _Work(job, pictures), windows, "classifying")
        yield from zip(windows, done, strict=True)
        return
    with _reproducible(), _read_ahead(job, pictures, windows) as pixels:
        done = workers.each(_classify, job, pixels, "classifying", len(windows))
        yield from zip(windows, done, strict=True)


def _classify(job: Job, read: tuple[Window, np.ndarray]) -> np.ndarray:
    return job.classify(*read)


def _read_and_classify(work: _Work, window: Window) -> np.ndarray:
    with _reproducible(), work.pictures.reader(ahead=False) as reader:
        return work.job.classify(window, work.job.read(reader, window))


@contextmanager
def _reproducible() -> Iterator[None]:
    """Each thread computes its tile alone: they need not wait for each other, and a sum does not
    depend on how many there are. On a GPU the kernel is the same for every tile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _read_ahead(
    job: Job, pictures: Pictures, windows: Sequence[Window]
) -> Iterator[Iterator[tuple[Window, np.ndarray]]]:
    """Windows with their pixels, read by a thread of their own, a few ahead."""
    ready: Queue[tuple[Window, np.ndarray] | BaseException] = Queue(_READ_AHEAD)
    stopped = Event()

    def read() -> None:
        try:
            with pictures.reader(ahead=True) as reader:
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
