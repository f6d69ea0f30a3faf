"""Windows of a map: computed by an executor, kept on disk until the map is complete, resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from outcrop.errors import OutcropError
from outcrop.executors import Executor, Scheduler, cores, executor
from outcrop.files import decoding, explain, new_file, sweep, write_json
from outcrop.mapping.job import Job, Window
from outcrop.mapping.pictures import Pictures
from outcrop.mapping.predictor import patch_by_patch
from outcrop.metrics.intervals import interval_of_share, resampled_counts, support
from outcrop.progress import tell
from outcrop.training.model import Model
from outcrop.typed import typed


class Partial:
    """The windows of a map that are done, each in a file that is whole.

    Attributes:
        folder: beside the map, `.NAME.windows`.
    """

    def __init__(self, output: Path, plan: Mapping[str, Any], resume: bool) -> None:
        """Begin, or go on.

        Args:
            output: the map.
            plan: plain data; all that decides what the map will be.
            resume: go on with what is there; without it, that is removed.

        Raises:
            OutcropError: what is there is of another plan; the disk is full.
        """
        self._output = output
        self.folder = output.with_name(f".{output.name}.windows")
        wanted = json.loads(json.dumps(dict(plan)))
        if self.folder.exists() and resume:
            self._check(output, wanted)
            sweep(self.folder)
            return
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
        except OSError as error:
            raise explain(error, output) from error
        try:
            write_json(self.folder / "plan.json", wanted, output)
        except OutcropError:
            self.remove()
            raise

    def _check(self, output: Path, wanted: Mapping[str, Any]) -> None:
        remedy = "leave --resume out to begin anew"
        with decoding(self.folder / "plan.json", "the plan of a map", remedy):
            text = (self.folder / "plan.json").read_text(encoding="utf-8")
            stored = typed(dict[str, Any], json.loads(text))
        changed = sorted(
            key for key in wanted.keys() | stored.keys() if wanted.get(key) != stored.get(key)
        )
        if changed:
            raise OutcropError(
                output,
                f"was begun with another {' and '.join(changed)}; "
                "take the old settings, or leave --resume out to begin anew",
            )

    def __contains__(self, window: Window) -> bool:
        return self._file(window).exists()

    @property
    def done(self) -> int:
        """How many windows are there."""
        return sum(1 for _ in self.folder.glob("*.npz"))

    def write(self, window: Window, layers: np.ndarray) -> None:
        """Keep a window: uint8, `layers × height × width`."""
        with new_file(self._file(window), self._output) as temporary:
            np.savez_compressed(temporary, layers=layers)

    def read(self, window: Window) -> np.ndarray:
        """The window that `write` has kept.

        Raises:
            OutcropError: it is damaged.
        """
        path = self._file(window)
        with (
            decoding(path, "a window of a map", "delete it and go on with --resume"),
            np.load(path, allow_pickle=False) as arrays,
        ):
            layers = arrays["layers"]
            if layers.dtype != np.uint8 or layers.shape[1:] != (window.height, window.width):
                raise ValueError("its layers have another shape or type")
            return layers

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, window: Window) -> Path:
        return self.folder / f"{window.name}.npz"


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


_PIXELS_SAMPLED, _WINDOWS_SAMPLED, _DRAWS = 2000, 40, 1000


def is_approximate(job: Job) -> bool:
    """Whether networks are dense here that were trained with padding."""
    padded = any(one.network.padding != "none" for one in job.predictor.networks)
    return padded and job.predictor.method == "dense"


def told_agreement(job: Job, pictures: Pictures, windows: Sequence[Window], store: Partial) -> str:
    """How often a dense map says what it would say patch by patch, from a sample of pixels."""
    rng = np.random.default_rng(0)
    some = rng.permutation(len(windows))[:_WINDOWS_SAMPLED]
    agree: list[np.ndarray] = []
    with pictures.reader(ahead=False) as reader:
        for window in (windows[k] for k in some):
            said = store.read(window)[0]
            rows, columns = np.nonzero(said)
            drawn = rng.permutation(len(rows))[: _PIXELS_SAMPLED // len(some)]
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
    share = interval_of_share(right.mean(), shares, support(groups, len(right)))
    return (
        f"dense and patch by patch agree on {share} of {len(right):,} pixels: this network was "
        "trained with zeros around its patches; --method patches maps as it was trained, "
        "--padding none trains as it maps"
    )
