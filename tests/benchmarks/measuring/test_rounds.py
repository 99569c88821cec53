"""Rounds: every call is timed in every round, and statistics over rounds are those worked by hand."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.measuring.energy import Counter, Meter
from benchmarks.measuring.rounds import conditions, interleaved, median_interval, timed

CPU = torch.device("cpu")


def test_every_other_round_runs_backwards_and_joules_are_counted_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    counter = Counter(name="calls", read=lambda: len(made), joules=1.0, span=1 << 32)
    monkeypatch.setattr("benchmarks.measuring.rounds.meter", lambda device: Meter([counter]))
    calls = [partial(made.append, name) for name in "abc"]
    seconds, joules = interleaved(calls, rounds=3, device=CPU, warm_up=0, shortest=0.0)
    assert "".join(made) == "aabbcc" + "abc" + "cba" + "abc"  # at first each call warms up and is timed once
    assert seconds.shape == (3, 3)
    assert (seconds > 0).all()
    assert joules is not None
    assert (joules == 1).all()
    made.clear()
    interleaved(calls[:1], rounds=1, device=CPU, warm_up=2, shortest=0.0)
    assert len(made) == 2 + 2 + 1


def test_no_round_but_the_first_begins_when_the_time_is_up() -> None:
    seconds, _ = interleaved([time.monotonic] * 2, rounds=9, device=CPU, shortest=0.0, until=time.monotonic())
    assert seconds.shape == (1, 2)
    seconds, _ = interleaved([time.monotonic] * 2, rounds=9, device=CPU, shortest=0.0, until=time.monotonic() + 99)
    assert seconds.shape == (9, 2)


def test_a_gpus_time_is_between_two_events_with_nothing_else_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            done.append("event")

        def elapsed_time(self, end: "Event") -> float:
            return 6.0  # milliseconds

    @contextlib.contextmanager
    def device(device: torch.device) -> Iterator[None]:
        done.append(f"on {device}")
        yield
        done.append("back")

    monkeypatch.setattr("torch.cuda.Event", Event)
    monkeypatch.setattr("torch.cuda.device", device)
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: done.append("wait"))
    seconds = timed(lambda: done.append("call"), device=torch.device("cuda:1"), repeats=3, warm_up=2)
    assert done == ["call", "call", "on cuda:1", "wait", "event", "call", "call", "call", "event", "wait", "back"]
    assert seconds == pytest.approx(0.002)


def test_conditions_are_restored() -> None:
    def settings() -> tuple[object, ...]:
        cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
        return torch.get_num_threads(), cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark

    before = settings()
    with conditions(threads=2):
        assert settings() == (2, False, False, True)
    assert settings() == before


def test_the_interval_of_a_median_is_that_of_order_statistics() -> None:
    """For nine values the second and eighth (96.1% by the binomial distribution); for five none reaches 95%."""
    values = np.array([9.0, 1, 8, 2, 7, 3, 6, 4, 5])
    assert median_interval(values) == (2, 8)
    assert median_interval(values[:5]) is None
