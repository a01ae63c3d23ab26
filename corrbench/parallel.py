"""One process per core for work that is independent per sequence, and threads that give up when the work is given up."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


ALONE = 1.0
"""Seconds that a process works alone before it starts others, each of which imports all libraries first (2 s of CPU)."""


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, *, ordered: bool = True
) -> Iterator[Result]:
    """Results in the order of `items`, or not `ordered` as they come; an error in a worker is raised here. One worker means this process.

    Short work (`ALONE`) is done in this process. Workers are started afresh, not forked: a fork of a process whose libraries
    run threads can hang. When the caller stops (an error, Ctrl-C), what waits is canceled and the workers are ended at once.
    """
    items = list(items)
    spent = 0.0
    while items and (workers <= 1 or spent < ALONE):
        start = time.monotonic()
        result = function(items.pop(0))
        spent += time.monotonic() - start  # not the caller's time
        yield result
    workers = min(workers, len(items))
    if not items:
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_leave_signals_to_parent
    )
    try:
        futures = [pool.submit(function, item) for item in items]
        yield from (future.result() for future in (futures if ordered else as_completed(futures)))
    except BaseException:
        # no public way before Python 3.14; the pool then fails what waits, so nothing needs to be canceled
        processes: Any = list((pool._processes or {}).values())
        for process in processes:
            process.terminate()
        pool.shutdown(wait=False)
        raise
    pool.shutdown()


def _leave_signals_to_parent() -> None:
    """Ctrl-C reaches every process of a terminal: the parent answers, and ends its workers."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def threads(count: int, **options: Any) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads; when the block ends by an error or a signal, what waits in it is canceled.

    After an error what runs is waited for, so that it writes nothing into a folder that is being removed; after a signal
    it is not: the process ends.
    """
    pool = ThreadPoolExecutor(count, **options)
    try:
        yield pool
    except Exception:
        pool.shutdown(cancel_futures=True)
        raise
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
