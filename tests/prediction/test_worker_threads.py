"""Worker threads: values come in order, items are taken as they are needed, and an end is an end."""

import threading
import time
from collections.abc import Iterator

import pytest

from compress.prediction.worker_threads import AHEAD, concurrently


def test_values_come_in_the_order_of_items_though_later_ones_are_ready_first() -> None:
    first_done = threading.Event()

    def slow_first(item: int) -> int:
        if item == 0:
            assert first_done.wait(10)  # until another thread has computed the second
        elif item == 1:
            first_done.set()
        return item * item

    assert list(concurrently(slow_first, range(20), 2)) == [number**2 for number in range(20)]


def test_few_items_are_taken_ahead_of_the_values() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    values = concurrently(abs, items(), 3)
    for expected in range(30):
        assert next(values) == expected
        assert taken <= expected + AHEAD * 3
    values.close()


def test_values_do_not_wait_for_an_item_that_is_waited_for() -> None:
    found: list[int] = []

    def items() -> Iterator[int | None]:
        yield from (1, 2, None)
        assert found == [1, 2]
        yield 3

    for value in concurrently(abs, items(), 4):
        found.append(value)
    assert found == [1, 2, 3]


def test_an_error_comes_in_its_place() -> None:
    values = concurrently(lambda item: 1 / item, [2, 1, 0, 4], 2)
    assert [next(values), next(values)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_what_has_not_begun_when_the_iterator_is_closed_never_does() -> None:
    begun: list[int] = []
    go = threading.Event()

    def wait(item: int) -> int:
        begun.append(item)
        if item:
            go.wait(10)
        return item

    values = concurrently(wait, range(9), 1)
    assert next(values) == 0
    threading.Timer(0.1, go.set).start()
    values.close()
    time.sleep(0.05)
    assert len(begun) <= 2
