"""Worker threads: a function of many items, computed by several threads at once, in order and in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")
AHEAD = 2  # items under way for every thread, so that none waits for the one that takes the values


def concurrently(
    function: Callable[[Item], Value], items: Iterable[Item | None], workers: int
) -> Generator[Value, None, None]:
    """Yield the function's value for every item, in order; items are taken a few at a time, as values are.

    None among the items says that the next one has to be waited for: all values are yielded before it is asked for.
    Pillow decodes and networks compute without Python's lock, so that threads do what would otherwise take processes.
    When the iterator is closed, what has not begun never does.
    """
    under_way: deque[Future[Value]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            if item is not None:
                under_way.append(pool.submit(function, item))
            while under_way and (item is None or under_way[0].done() or len(under_way) >= AHEAD * workers):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
