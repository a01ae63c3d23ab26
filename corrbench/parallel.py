"""One process per core for work that is independent per sequence."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, *, ordered: bool = True
) -> Iterator[Result]:
    """Results in the order of `items`, or not `ordered` as they come; an error in a worker is raised here. One worker means this process.

    Workers are started afresh, not forked: a fork of a process whose libraries run threads can hang.
    """
    items = list(items)
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        if ordered:
            yield from pool.map(function, items)
        else:
            yield from (future.result() for future in as_completed([pool.submit(function, item) for item in items]))
