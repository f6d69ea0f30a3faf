"""Executors: threads, processes or a Dask cluster apply a function to many items, in order."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar
from weakref import WeakSet

from outcrop.errors import OutcropError
from outcrop.extras import need
from outcrop.progress import length, track

_TIMEOUT = 10  # seconds until a Dask scheduler must answer
_AHEAD = 2  # items submitted per worker before the first result is awaited
_LOSSES = 3  # times that all workers of a cluster may die

Item = TypeVar("Item")
Result = TypeVar("Result")
Work: TypeAlias = Callable[[Any, Item], Result]
Submit: TypeAlias = Callable[[Item], Callable[[], Result]]
"""Submits an item; what it returns waits for the result, or raises the exception of the work."""


class Executor(ABC):
    """Applies one function to many items.

    Attributes:
        remote: whether the work is done in other processes.
        counts: whether a progress bar counts the items.
        workers: number of threads or processes.
    """

    remote: bool = False
    counts: bool = True

    def __init__(self, workers: int) -> None:
        self.workers = workers

    @abstractmethod
    def submitting(
        self, work: Work[Item, Result], shared: Any
    ) -> AbstractContextManager[Submit[Item, Result]]:
        """A function that submits an item; the end of the block cancels what is pending."""

    def each(
        self,
        work: Work[Item, Result],
        shared: Any,
        items: Iterable[Item],
        what: str,
        total: int | None = None,
    ) -> Iterator[Result]:
        """Yield `work(shared, item)` for every item, in the order of the items.

        Only a few items are submitted before the first result is yielded, so that neither items
        nor results fill the memory.

        Args:
            work: a function at module level, so that other processes can import it.
            shared: first argument of every call; each process receives it once.
            what: text of the progress bar.
            total: number of items, if `items` has no length.

        Raises:
            OutcropError: from `work`; or the processes that did the work died.
        """
        with self.submitting(work, shared) as submit:
            pending = (submit(item) for item in items)
            done = (result() for result in _ahead(pending, _AHEAD * self.workers))
            yield from track(done, what, length(items, total)) if self.counts else done


class Serial(Executor):
    """This process, one item after the other; every item shows its own progress."""

    counts = False

    def __init__(self) -> None:
        super().__init__(0)

    @contextmanager
    def submitting(self, work: Work[Item, Result], shared: Any) -> Iterator[Submit[Item, Result]]:
        """See `Executor.submitting`; the work is done when the result is wanted."""
        yield lambda item: partial(work, shared, item)


class Threads(Executor):
    """Threads of this process."""

    @contextmanager
    def submitting(self, work: Work[Item, Result], shared: Any) -> Iterator[Submit[Item, Result]]:
        """See `Executor.submitting`."""
        from threadpoolctl import threadpool_limits

        # One BLAS thread in each of our threads is faster than all BLAS threads on one product.
        with threadpool_limits(1), futures.ThreadPoolExecutor(self.workers) as pool:
            try:
                yield lambda item: pool.submit(work, shared, item).result
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


class Processes(Executor):
    """Processes with one thread each.

    They do not import the main module of the program, so the program needs no `__main__` guard.
    They are killed if the block ends before the work, and end when this process ends.
    """

    remote = True

    @contextmanager
    def submitting(self, work: Work[Item, Result], shared: Any) -> Iterator[Submit[Item, Result]]:
        """See `Executor.submitting`."""
        from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor

        # loky replaces a process that has grown by 300 MB; no result is lost. The warning comes
        # from a thread of loky, where only a filter of the whole program has an effect.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
        pool = ProcessPoolExecutor(
            self.workers, initializer=_begin, initargs=(shared, os.getpid()), env=_ONE_THREAD
        )
        ended = False
        try:
            yield lambda item: pool.submit(_with_shared, work, item).result
            ended = True
        except BrokenProcessPool:
            raise OutcropError(
                "`workers`",
                "a process was killed, perhaps because memory ran out; pass fewer: `workers=1`",
            ) from None
        finally:
            pool.shutdown(kill_workers=not ended)


_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
_ONE_THREAD = dict.fromkeys(_LIMITS, "1")
_shared: list[Any] = []


def _begin(shared: Any, parent: int) -> None:
    """Initialise a process of `Processes`."""

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    # Ctrl-C reaches all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    _shared[:] = [shared]


def _with_shared(work: Work[Item, Result], item: Item) -> Result:
    return _without_cause(work, _shared[0], item)


class Given(Executor):
    """A `concurrent.futures.Executor` of the caller, who shuts it down."""

    def __init__(self, pool: futures.Executor) -> None:
        super().__init__(getattr(pool, "_max_workers", None) or cores())
        self._pool = pool
        self.remote = not isinstance(pool, futures.ThreadPoolExecutor)

    @contextmanager
    def submitting(self, work: Work[Item, Result], shared: Any) -> Iterator[Submit[Item, Result]]:
        """See `Executor.submitting`; `shared` is sent with every item."""
        pending: set[futures.Future[Any]] = set()

        def submit(item: Item) -> Callable[[], Result]:
            future = self._pool.submit(_without_cause, work, shared, item)
            pending.add(future)
            future.add_done_callback(pending.discard)
            return future.result

        try:
            yield submit
        finally:
            for one in tuple(pending):
                one.cancel()


class Cluster(Executor):
    """The workers of a Dask cluster."""

    remote = True

    def __init__(self, client: Any) -> None:
        super().__init__(max(1, len(client.scheduler_info()["workers"])))
        self._client = client

    @contextmanager
    def submitting(self, work: Work[Item, Result], shared: Any) -> Iterator[Submit[Item, Result]]:
        """See `Executor.submitting`."""
        scattered = _Scattered(self._client, shared)
        pending: WeakSet[_Task] = WeakSet()

        def submit(item: Item) -> Callable[[], Result]:
            task = _Task(self._client, scattered, work, item)
            pending.add(task)
            return task.result

        try:
            yield submit
        finally:
            self._client.cancel([scattered.future, *(one.future for one in pending)])


class _Scattered:
    """The shared argument on the workers of a cluster, sent again if all that had it have died."""

    def __init__(self, client: Any, shared: Any) -> None:
        self._client, self._shared = client, shared
        self.sent = 0
        self.send()

    def send(self) -> None:
        if self.sent > _LOSSES:
            raise OutcropError(
                "`scheduler`", "all its workers died several times; give them more memory"
            )
        self.sent += 1
        self.future = self._client.scatter(self._shared, broadcast=True, hash=False)


class _Task:
    """One item on a cluster. It is submitted again if the shared argument was lost."""

    def __init__(
        self, client: Any, shared: _Scattered, work: Callable[..., Any], item: Any
    ) -> None:
        self._client, self._shared, self._call = client, shared, (work, item)
        self._submit()

    def _submit(self) -> None:
        work, item = self._call
        self._sent = self._shared.sent
        # Impure, so that a second call on the same cluster does not return the first one's result.
        # The futures of `Client.get_executor` never end if the shared argument is lost.
        self.future = self._client.submit(
            _without_cause, work, self._shared.future, item, pure=False
        )

    def result(self) -> Any:
        while True:
            try:
                return self.future.result()
            except futures.CancelledError:
                if self._sent == self._shared.sent:
                    self._shared.send()
                self._submit()


def _without_cause(work: Work[Item, Result], shared: Any, item: Item) -> Result:
    """`work(shared, item)`; an `OutcropError` loses its cause, which may not be picklable."""
    try:
        return work(shared, item)
    except OutcropError as error:
        raised = error
    raised.__cause__ = raised.__context__ = None
    raise raised


def _ahead(items: Iterator[Item], number: int) -> Iterator[Item]:
    """The items; `number` further ones are taken before each is yielded."""
    taken: deque[Item] = deque()
    for item in items:
        taken.append(item)
        if len(taken) > number:
            yield taken.popleft()
    yield from taken


Scheduler = str | futures.Executor


@contextmanager
def executor(scheduler: Scheduler | None = None, threads: int | None = None) -> Iterator[Executor]:
    """An executor for the block.

    Args:
        scheduler: address of a Dask scheduler; `local[N]` for N processes with one thread each on
            this machine; or a `concurrent.futures.Executor`, such as `client.get_executor()` of a
            Dask client. None for threads of this process.
        threads: number of threads; the cores that this process may use, if None.

    Raises:
        OutcropError: no Dask scheduler answers at the address.
    """
    if scheduler is None:
        yield Threads(cores() if threads is None else threads)
    elif isinstance(scheduler, futures.Executor):
        yield Given(scheduler)
    else:
        with ExitStack() as stack:
            yield Cluster(stack.enter_context(_client(scheduler, stack)))


@contextmanager
def process_executor(scheduler: Scheduler | None, workers: int) -> Iterator[Executor]:
    """An executor that never runs two items in one process at once, as trainings need it.

    Args:
        scheduler: as for `executor`; no pool of threads.
        workers: number of processes if `scheduler` is None; 1 is this process.

    Raises:
        OutcropError: no Dask scheduler answers at the address; `workers` is below 1.
    """
    if workers < 1:
        raise OutcropError("`workers`", f"must be at least 1, not {workers}")
    if isinstance(scheduler, futures.ThreadPoolExecutor):
        raise OutcropError("`scheduler`", "trainings need processes; pass a pool of processes")
    if scheduler is not None:
        with executor(scheduler) as found:
            yield found
    else:
        yield Serial() if workers == 1 else Processes(workers)


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _client(scheduler: str, stack: ExitStack) -> Any:
    need("distributed", "`scheduler`")
    from distributed import Client, LocalCluster

    if local := re.fullmatch(r"local\[(\d+)\]", scheduler):
        if not 1 <= int(local[1]) <= 1024:
            raise OutcropError("`scheduler`", f"{scheduler} is not possible; pass local[1] or more")
        cluster = LocalCluster(
            n_workers=int(local[1]), threads_per_worker=1, dashboard_address=None, silence_logs=50
        )
        return Client(stack.enter_context(cluster), set_as_default=False)
    try:
        return Client(scheduler, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise OutcropError(
            "`scheduler`",
            f"no Dask scheduler answers at {scheduler}; start one with `dask scheduler`, "
            "or pass local[2] for two processes on this machine",
        ) from error
