"""Windows are read, computed and kept, by threads or a cluster, and again after an interrupt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from outcrop.executors import Executor, Scheduler, cores, executor
from outcrop.mapping.approximate import is_approximate, told_agreement
from outcrop.mapping.job import Job
from outcrop.mapping.partial import Partial
from outcrop.mapping.pictures import Pictures
from outcrop.mapping.tiling import Window
from outcrop.progress import tell
from outcrop.training.model import Model

_READ_AHEAD = 2
_MANY_PIXELS = 1 << 20


@contextmanager
def finished(
    job: Job,
    pictures: Pictures,
    windows: Sequence[Window],
    output: Path,
    scheduler: Scheduler | None,
    resume: bool,
) -> Iterator[Partial]:
    """All windows classified, each kept in a file, for the block to make the map of.

    Of several windows, those that are done stay when an interrupt or an error comes.

    Args:
        output: the map; they lie beside it.
        scheduler: see `outcrop.executors.executor`.
        resume: go on with what is there.

    Raises:
        OutcropError: what is there was begun otherwise; the disk is full; a source is damaged.
    """
    store = Partial(output, _plan(job, pictures), resume)
    try:
        todo = [one for one in windows if one not in store]
        by_patch = job.predictor.networks and job.predictor.method == "patches"
        if by_patch and _pixels(todo) > _MANY_PIXELS:
            tell(
                f"{output}: patch by patch, as networks with padding are trained; one trained "
                "with --padding none gives its map a hundred times faster"
            )
        with executor(scheduler, threads_for(job.predictor.models)) as workers:
            for window, layers in _classified(job, pictures, todo, workers):
                store.write(window, layers)
        if is_approximate(job):
            tell(told_agreement(job, pictures, windows, store))
        yield store
    except BaseException:
        if store.done and len(windows) > 1:
            tell(f"{output}: {store.done} windows are done and kept; --resume goes on with them")
        else:
            store.remove()
        raise
    store.remove()


def threads_for(models: Sequence[Model]) -> int:
    """Threads that compute: as many as torch has on a CPU, one in front of a GPU."""
    if any(one.device.type != "cpu" for one in models):
        return 1
    return min(cores(), torch.get_num_threads())


def _pixels(windows: Sequence[Window]) -> int:
    return sum(one.height * one.width for one in windows)


def _plan(job: Job, pictures: Pictures) -> dict[str, Any]:
    """All that decides what a map will be."""
    return {
        "models": [[one.identity, one.description] for one in job.predictor.models],
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
    job: Job, pictures: Pictures, windows: Sequence[Window], workers: Executor
) -> Iterator[tuple[Window, np.ndarray]]:
    """Every window and its layers; while some are computed others are read and written."""
    if workers.remote:
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
    depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
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
