"""Windows of a map: computed by an executor, kept on disk until the map is complete, resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from outcrop.errors import OutcropError
from outcrop.executors import Executor, Scheduler, cores, executor
from outcrop.files import decoding, explain, new_file, sweep, write_json
from outcrop.mapping.images import Images
from outcrop.mapping.job import Job, Window
from outcrop.mapping.predictor import patch_by_patch
from outcrop.metrics.intervals import interval_of_share, resampled_counts, support
from outcrop.progress import tell, warn
from outcrop.training.model import Model
from outcrop.typed import typed


class Partial:
    """The finished windows of a map, each in a file of its own.

    Attributes:
        folder: hidden folder `.NAME.windows` beside the map.
    """

    def __init__(self, output: Path, plan: Mapping[str, Any], resume: bool) -> None:
        """Create the folder, or continue with the one that is there.

        Args:
            output: the map.
            plan: plain data, everything that determines the map.
            resume: continue with finished windows; otherwise they are removed.

        Raises:
            OutcropError: the windows belong to another plan; the disk is full.
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
        remedy = "leave `resume=True` out to start again"
        with decoding(self.folder / "plan.json", "the plan of a map", remedy):
            text = (self.folder / "plan.json").read_text(encoding="utf-8")
            stored = typed(dict[str, Any], json.loads(text))
            if "turns" in stored:  # the name in older versions
                stored["tta"] = stored.pop("turns")
        changed = sorted(
            key for key in wanted.keys() | stored.keys() if wanted.get(key) != stored.get(key)
        )
        if changed:
            raise OutcropError(
                output,
                f"was started with another {' and '.join(changed)}; "
                "use the old settings, or leave `resume=True` out to start again",
            )

    def __contains__(self, window: Window) -> bool:
        return self._file(window).exists()

    @property
    def done(self) -> int:
        """Number of finished windows."""
        return sum(1 for _ in self.folder.glob("*.npz"))

    def write(self, window: Window, layers: np.ndarray) -> None:
        """Store a window: uint8, `layers × height × width`."""
        with new_file(self._file(window), self._output) as temporary:
            np.savez_compressed(temporary, layers=layers)

    def read(self, window: Window) -> np.ndarray:
        """Read a window that `write` stored.

        Raises:
            OutcropError: the file is damaged.
        """
        path = self._file(window)
        with (
            decoding(path, "a window of a map", "delete it and continue with `resume=True`"),
            np.load(path, allow_pickle=False) as arrays,
        ):
            layers = arrays["layers"]
            if layers.dtype != np.uint8 or layers.shape[1:] != (window.height, window.width):
                raise ValueError("wrong shape or type of the layers")
            return layers

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, window: Window) -> Path:
        return self.folder / f"{window.index}-{window.row}-{window.column}.npz"


_READ_AHEAD = 2
_MANY_PIXELS = 1 << 20


@contextmanager
def finished(
    job: Job,
    images: Images,
    windows: Sequence[Window],
    output: Path,
    scheduler: Scheduler | None,
    resume: bool,
) -> Iterator[Partial]:
    """Context with all windows classified and stored, in which the map is written.

    After an interrupt or an error, finished windows stay on disk if there are several windows.

    Args:
        output: the map; the windows are stored beside it.
        scheduler: see `outcrop.executors.executor`.
        resume: continue with the finished windows.

    Raises:
        OutcropError: the finished windows belong to other settings; the disk is full; a source is
            damaged.
    """
    store = Partial(output, _plan(job, images), resume)
    try:
        todo = [one for one in windows if one not in store]
        pixels = sum(one.height * one.width for one in todo)
        by_patch = job.predictor.networks and job.predictor.method == "patches"
        if by_patch and pixels > _MANY_PIXELS:
            tell(
                f"{output}: mapped patch by patch, because the network was trained with padding; "
                "a network trained with `padding='none'` maps about a hundred times faster"
            )
        with executor(scheduler, threads_for(job.predictor.models)) as workers:
            for window, layers in _classified(job, images, todo, workers):
                store.write(window, layers)
        if is_approximate(job):
            warn(agreement(job, images, windows, store))
        yield store
    except BaseException:
        if store.done and len(windows) > 1:
            tell(f"{output}: {store.done} finished windows are kept; continue with `resume=True`")
        else:
            store.remove()
        raise
    store.remove()


def threads_for(models: Sequence[Model]) -> int:
    """Number of computing threads: that of torch on a CPU, one for a GPU."""
    if any(one.device.type != "cpu" for one in models):
        return 1
    return min(cores(), torch.get_num_threads())


def _plan(job: Job, images: Images) -> dict[str, Any]:
    """Everything that determines the map."""
    return {
        "models": [[one.identity, one.description] for one in job.predictor.models],
        "method": job.predictor.method,
        "tta": list(job.predictor.flips),
        "layers": list(job.layers),
        "step": job.step,
        "source": images.identity,
        "windows": [list(job.tiling.tile), list(job.tiling.group)],
    }


def _classified(
    job: Job, images: Images, windows: Sequence[Window], workers: Executor
) -> Iterator[tuple[Window, np.ndarray]]:
    """Every window and its layers; reading, computing and writing overlap."""
    if workers.remote:
        done = workers.each(_read_and_classify, (job, images), windows, "classifying")
        yield from zip(windows, done, strict=True)
        return
    with torch_threads(1), _read_ahead(job, images, windows) as pixels:
        done = workers.each(_classify, job, pixels, "classifying", len(windows))
        yield from zip(windows, done, strict=True)


def _classify(job: Job, read: tuple[Window, np.ndarray]) -> np.ndarray:
    return job.classify(*read)


def _read_and_classify(work: tuple[Job, Images], window: Window) -> np.ndarray:
    job, images = work
    with torch_threads(1), images.reader(ahead=False) as reader:
        return job.classify(window, job.read(reader, window))


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Context with a number of torch threads, on which the last digits of sums depend."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _read_ahead(
    job: Job, images: Images, windows: Sequence[Window]
) -> Iterator[Iterator[tuple[Window, np.ndarray]]]:
    """Windows with their pixels, read in advance by a separate thread."""
    ready: Queue[tuple[Window, np.ndarray] | BaseException] = Queue(_READ_AHEAD)
    stopped = Event()

    def read() -> None:
        try:
            with images.reader(ahead=True) as reader:
                for window in windows:
                    if stopped.is_set():
                        return
                    ready.put((window, job.read(reader, window)))
        except BaseException as error:  # Raised in the thread that waits for the window.
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
    """Whether networks that were trained with padding predict densely."""
    padded = any(one.network.padding != "none" for one in job.predictor.networks)
    return padded and job.predictor.method == "dense"


def agreement(job: Job, images: Images, windows: Sequence[Window], store: Partial) -> str:
    """Agreement of a dense map with prediction patch by patch, from a sample of pixels."""
    rng = np.random.default_rng(0)
    some = rng.permutation(len(windows))[:_WINDOWS_SAMPLED]
    agree: list[np.ndarray] = []
    with images.reader(ahead=False) as reader:
        for window in (windows[k] for k in some):
            mapped = store.read(window)[0]
            rows, columns = np.nonzero(mapped)
            drawn = rng.permutation(len(rows))[: _PIXELS_SAMPLED // len(some)]
            if not len(drawn):
                continue
            row, column = rows[drawn], columns[drawn]
            likely = patch_by_patch(
                job.predictor, reader, window.index, window.row + row, window.column + column
            )
            agree.append(likely.argmax(axis=1) + 1 == mapped[row, column])
    if not agree:
        return "dense and patch by patch: no pixel has data for a comparison"
    right, groups = np.concatenate(agree), np.repeat(range(len(agree)), [len(a) for a in agree])
    counts = resampled_counts(right.astype(np.int64), 2, groups, _DRAWS, seed=0)
    shares = counts[:, 1] / counts.sum(axis=1)
    share = interval_of_share(right.mean(), shares, support(groups, len(right)))
    return (
        f"dense and patch by patch agree on {share} of {len(right):,} pixels: this network was "
        "trained with zeros around its patches; for an exact map, use `method='patches'` or train "
        "with `padding='none'`"
    )
