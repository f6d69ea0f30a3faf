"""Who does the work: threads of this process, or the workers of a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from outcrop.errors import OutcropError
from outcrop.progress import track

_PATIENCE = 10  # seconds

Item = TypeVar("Item")
Result = TypeVar("Result")


class Crew(Protocol):
    """Does one thing to many items."""

    def each(
        self, work: Callable[[Any, Item], Result], shared: Any, items: Sequence[Item], what: str
    ) -> Iterator[Result]:
        """Yield `work(shared, item)` for every item, in the order of the items.

        Args:
            work: a function of a module, which a cluster can import.
            shared: large, the same for all items; it is sent to each worker once.
            what: for the progress bar.
        """


class _Threads:
    def __init__(self, number: int) -> None:
        self._number = number

    def each(
        self, work: Callable[[Any, Item], Result], shared: Any, items: Sequence[Item], what: str
    ) -> Iterator[Result]:
        from threadpoolctl import threadpool_limits

        # Each thread multiplies matrices by itself: faster here than all of them at one product.
        with threadpool_limits(1), ThreadPoolExecutor(self._number) as pool:
            try:
                done = pool.map(lambda item: work(shared, item), items)
                yield from track(done, what, len(items))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


class _Cluster:
    def __init__(self, client: Any) -> None:
        self._client = client

    def each(
        self, work: Callable[[Any, Item], Result], shared: Any, items: Sequence[Item], what: str
    ) -> Iterator[Result]:
        there = self._client.scatter(shared, broadcast=True, hash=False)
        # Impure, so that a second search on the same cluster does not get the first one's answer.
        waiting = [self._client.submit(work, there, item, pure=False) for item in items]
        try:
            for future in track(waiting, what, len(items)):
                yield future.result()
                future.release()
        finally:
            self._client.cancel(waiting)


@contextmanager
def crew(scheduler: str | None = None) -> Iterator[Crew]:
    """A crew for the block: the workers of the Dask cluster at an address, or as many threads as
    this process may use cores.

    Raises:
        OutcropError: no cluster answers at the address.
    """
    if scheduler is None:
        yield _Threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
        return
    from distributed import Client

    try:
        client = Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise OutcropError(
            "--scheduler",
            f"no Dask scheduler answers at {scheduler}; start one with dask scheduler",
        ) from error
    with client:
        yield _Cluster(client)
