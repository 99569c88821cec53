"""Rounds: every call is timed in every round, and statistics over rounds are those worked by hand."""

from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.measuring.energy import Counter, Meter
from benchmarks.measuring.rounds import interleaved, median_interval

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


def test_the_interval_of_a_median_is_that_of_order_statistics() -> None:
    """For nine values the second and eighth (96.1% by the binomial distribution); for five none reaches 95%."""
    values = np.array([9.0, 1, 8, 2, 7, 3, 6, 4, 5])
    assert median_interval(values) == (2, 8)
    assert median_interval(values[:5]) is None
