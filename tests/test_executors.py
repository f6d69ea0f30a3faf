"""Every executor gives the same results in the same order, and cancels what is pending."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from outcrop.errors import OutcropError
from outcrop.executors import (
    Cluster,
    Given,
    Processes,
    Serial,
    Threads,
    executor,
    process_executor,
)


def add(shared, item):
    return shared + item


def die(shared, item):
    if item == shared:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ["OMP_NUM_THREADS"], item


def fail(shared, item):
    try:
        raise RuntimeError(threading.Lock())  # not picklable
    except RuntimeError as error:
        raise OutcropError("here", "it is wrong; put it right") from error


@pytest.fixture(scope="module")
def cluster():
    with executor("local[2]") as found:
        yield found


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


def test_all_give_the_same(cluster, processes):
    expected = list(range(100, 140))
    with ThreadPoolExecutor(3) as threads:
        kinds = [Serial(), Threads(3), Processes(2), cluster, Given(threads), Given(processes)]
        for kind in kinds:
            assert list(kind.each(add, 100, iter(range(40)), "adding", 40)) == expected


def test_errors_arrive_without_their_cause(cluster, processes):
    for kind in (Threads(2), Processes(2), cluster, Given(processes)):
        with pytest.raises(OutcropError, match="here: it is wrong; put it right"):
            list(kind.each(fail, None, range(3), "failing"))


def test_only_a_few_items_are_submitted_ahead():
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    results = Threads(2).each(add, 0, items(), "adding", 1000)
    assert next(results) == 0
    assert len(taken) <= 6
    results.close()


def test_a_pool_of_the_caller_stays_open_and_pending_items_are_cancelled():
    started = []

    def slowly(shared, item):
        started.append(item)
        time.sleep(0.05)
        return item

    with ThreadPoolExecutor(1) as pool:
        results = Given(pool).each(slowly, None, range(100), "waiting")
        assert next(results) == 0
        results.close()
        assert pool.submit(int, "7").result() == 7
    assert len(started) < 5


def test_a_cluster_whose_workers_all_die_gets_the_shared_argument_again():
    with executor("local[1]") as found:
        assert isinstance(found, Cluster)
        results = found.each(add, 1, range(8), "adding")
        assert next(results) == 1
        (worker,) = found._client.run(os.getpid).values()
        os.kill(worker, signal.SIGKILL)
        assert list(results) == list(range(2, 9))


def test_a_process_that_is_killed_is_one_line():
    assert list(Processes(2).each(die, None, range(3), "x")) == [("1", 0), ("1", 1), ("1", 2)]
    with pytest.raises(OutcropError, match="`workers`: a process was killed"):
        list(Processes(2).each(die, 1, range(3), "x"))


def test_which_executor_is_chosen(processes):
    with process_executor(None, 1) as found:
        assert isinstance(found, Serial)
    with process_executor(None, 2) as found:
        assert isinstance(found, Processes)
    with process_executor(processes, 1) as found:
        assert isinstance(found, Given)
        assert found.remote
        assert found.workers == 2
    with pytest.raises(OutcropError, match="`workers`: must be at least 1"):
        process_executor(None, 0).__enter__()
    with ThreadPoolExecutor(1) as threads, pytest.raises(OutcropError, match="need processes"):
        process_executor(threads, 1).__enter__()
