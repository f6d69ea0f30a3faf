"""Who does the work: this process, its threads, other processes, or workers of a Dask cluster."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeVar

from outcrop.errors import OutcropError
from outcrop.extras import need
from outcrop.progress import track

_PATIENCE = 10  # seconds
_AHEAD = 2
_LOSSES = 3

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Does one thing to many items."""

    @property
    def remote(self) -> bool:
        """Whether the work is done in other processes."""

    def each(
        self,
        work: Callable[[Any, Item], Result],
        shared: Any,
        items: Iterable[Item],
        what: str,
        total: int | None = None,
    ) -> Iterator[Result]:
        """Yield `work(shared, item)` for every item, in the order of the items.

        Only a few items are taken ahead of the one whose result is yielded, so that neither items
        nor results pile up.

        Args:
            work: a function of a module, which a cluster can import.
            shared: the same for all items; it is sent to each worker once.
            what: for the progress bar.
            total: the number of items, if they have no length.
        """


class Threads:
    """As many threads of this process."""

    remote = False

    def __init__(self, number: int) -> None:
        self._number = number

    def each(
        self,
        work: Callable[[Any, Item], Result],
        shared: Any,
        items: Iterable[Item],
        what: str,
        total: int | None = None,
    ) -> Iterator[Result]:
        """See `Executor`."""
        from threadpoolctl import threadpool_limits

        # Each thread multiplies matrices by itself: faster here than all of them at one product.
        with threadpool_limits(1), ThreadPoolExecutor(self._number) as pool:
            try:
                waiting = (pool.submit(work, shared, item) for item in items)
                done = (future.result() for future in _ahead(waiting, _AHEAD * self._number))
                yield from track(done, what, _length(items, total))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


class Processes:
    """As many other processes, of one thread each as far as libraries of numbers go.

    They import nothing of the program that starts them, so that it needs no guard of its main part.
    When the block ends before the work, they are killed; when this process is, they end.
    """

    remote = True

    def __init__(self, number: int) -> None:
        self._number = number

    def each(
        self,
        work: Callable[[Any, Item], Result],
        shared: Any,
        items: Iterable[Item],
        what: str,
        total: int | None = None,
    ) -> Iterator[Result]:
        """See `Executor`; a work that is killed, for want of memory say, is an `OutcropError`."""
        from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

        # A process that has grown by 300 MB is replaced by a new one, which loses nothing. The
        # warning comes from a thread of the library, where only a filter of the program holds.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        pool = ProcessPoolExecutor(
            self._number, initializer=_begin, initargs=(shared, os.getpid()), env=_ALONE
        )
        ended = False
        try:
            waiting = (pool.submit(_with_shared, work, item) for item in items)
            done = (future.result() for future in _ahead(waiting, _AHEAD * self._number))
            yield from track(done, what, _length(items, total))
            ended = True
        except BrokenProcessPool:
            raise OutcropError(
                "--workers",
                "one of the processes was killed, perhaps for want of memory; take fewer: "
                "--workers 1",
            ) from None
        finally:
            pool.shutdown(kill_workers=not ended)


_ALONE = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LOKY_MAX_CPU_COUNT": "1",
}
_shared: list[Any] = []


def _begin(shared: Any, parent: int) -> None:
    """What a process of `Processes` does first."""

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    # Ctrl-C reaches all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    _shared[:] = [shared]


def _with_shared(work: Callable[[Any, Item], Result], item: Item) -> Result:
    return _plainly(work, _shared[0], item)


class Alone:
    """This process itself, one item after the other, each of which shows its own progress."""

    remote = False

    def each(
        self,
        work: Callable[[Any, Item], Result],
        shared: Any,
        items: Iterable[Item],
        what: str,
        total: int | None = None,
    ) -> Iterator[Result]:
        """See `Executor`."""
        return (work(shared, item) for item in items)


class _Cluster:
    remote = True

    def __init__(self, client: Any) -> None:
        self._client = client

    def each(
        self,
        work: Callable[[Any, Item], Result],
        shared: Any,
        items: Iterable[Item],
        what: str,
        total: int | None = None,
    ) -> Iterator[Result]:
        workers = max(1, len(self._client.scheduler_info()["workers"]))
        done = self._results(work, shared, items, _AHEAD * workers)
        yield from track(done, what, _length(items, total))

    def _results(
        self,
        work: Callable[[Any, Item], Result],
        shared: Any,
        items: Iterable[Item],
        ahead: int,
    ) -> Iterator[Result]:
        from concurrent.futures import CancelledError

        waiting: deque[tuple[Item, Any]] = deque()
        there = self._send(shared)
        lost = 0

        def give(item: Item) -> tuple[Item, Any]:
            # Impure, so that a second run on the same cluster does not get the first one's answer.
            return item, self._client.submit(_plainly, work, there, item, pure=False)

        def take() -> Result:
            nonlocal there, lost
            while True:
                try:
                    result = waiting[0][1].result()
                    waiting.popleft()
                    return result
                except CancelledError:
                    # Every worker that held what is shared has died. Others may take over.
                    lost += 1
                    if lost > _LOSSES:
                        raise OutcropError(
                            "--scheduler", "its workers die again and again; have they the memory?"
                        ) from None
                    there = self._send(shared)
                    again = [give(item) for item, _ in waiting]
                    waiting.clear()
                    waiting.extend(again)

        try:
            for item in items:
                waiting.append(give(item))
                if len(waiting) > ahead:
                    yield take()
            while waiting:
                yield take()
        finally:
            self._client.cancel([there, *(future for _, future in waiting)])

    def _send(self, shared: Any) -> Any:
        return self._client.scatter(shared, broadcast=True, hash=False)


def _plainly(work: Callable[[Any, Item], Result], shared: Any, item: Item) -> Result:
    """Errors for the user come home as they are, without the libraries' own that led to them: some
    of those cannot be sent."""
    try:
        return work(shared, item)
    except OutcropError as error:
        told = error
    told.__cause__ = told.__context__ = None
    raise told


def _ahead(items: Iterator[Item], number: int) -> Iterator[Item]:
    """The items, each of them taken so many before it is yielded."""
    taken: deque[Item] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > number:
            yield taken.popleft()
    yield from taken


def _length(items: Iterable[Any], total: int | None) -> int | None:
    return len(items) if total is None and isinstance(items, Sized) else total


@contextmanager
def executor(scheduler: str | None = None, threads: int | None = None) -> Iterator[Executor]:
    """An executor for the block.

    Args:
        scheduler: the address of a Dask cluster, or `local[N]` for N processes of one thread each
            on this machine; without it threads of this process.
        threads: how many; as many as this process may use cores, if not given.

    Raises:
        OutcropError: no cluster answers at the address.
    """
    if scheduler is None:
        yield Threads(cores() if threads is None else threads)
        return
    with ExitStack() as stack:
        yield _Cluster(stack.enter_context(_client(scheduler, stack)))


@contextmanager
def solitary(scheduler: str | None, workers: int) -> Iterator[Executor]:
    """An executor for items of which no two may be done in one process at once, such as trainings.

    Args:
        scheduler: as for `executor`.
        workers: how many processes, without a scheduler; with one the work is done in this one.

    Raises:
        OutcropError: no cluster answers at the address; no worker is wanted.
    """
    if workers < 1:
        raise OutcropError("--workers", f"must be at least 1, not {workers}")
    if scheduler is not None:
        with executor(scheduler) as cluster:
            yield cluster
    else:
        yield Alone() if workers == 1 else Processes(workers)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _client(scheduler: str, stack: ExitStack) -> Any:
    need("distributed", "--scheduler")
    from distributed import Client, LocalCluster

    if local := re.fullmatch(r"local\[(\d+)\]", scheduler):
        if not 1 <= int(local[1]) <= 1024:
            raise OutcropError("--scheduler", f"no cluster is {scheduler}; take local[1] or more")
        cluster = LocalCluster(
            n_workers=int(local[1]), threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        return Client(stack.enter_context(cluster), set_as_default=False)
    try:
        return Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise OutcropError(
            "--scheduler",
            f"no Dask scheduler answers at {scheduler}; start one with dask scheduler, "
            "or pass local[2] for two processes here",
        ) from error
