"""Timing: calls that are compared take turns, round by round; what a round's times say of their ratio."""

from __future__ import annotations

import contextlib
import math
import timeit
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.measuring.energy import meter
from benchmarks.statistics.scores import CONFIDENCE
from compress.console import console, duration

QUARTILES = (25, 50, 75)
WARM_UP = 1  # calls before every timing: the call before was another network's
SECONDS_A_TIMING = 0.02  # short calls are repeated until a timing takes this long
NOISY = 0.05  # where the reference's times in one round differ by more than that, between quartiles
Call = Callable[[], object]


@contextlib.contextmanager
def conditions(device: torch.device, threads: int) -> Iterator[None]:
    """Torch with so many threads and, on CUDA, with fp32 that is fp32 and not TF32; afterwards as it was."""
    before = torch.get_num_threads()
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32


def interleaved(
    calls: Sequence[Call], *, rounds: int, device: torch.device, what: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Seconds a call, and joules where the machine can tell, `(rounds, calls)`: each is timed once in every round.

    `what` is announced with a duration.
    """
    once = [timed(call, 1, device) for call in calls]
    repeats = [max(1, round(SECONDS_A_TIMING / seconds)) for seconds in once]
    expected = rounds * sum(seconds * (WARM_UP + repeat) for seconds, repeat in zip(once, repeats, strict=True))
    console.print(f"{what}: {rounds} rounds, about {duration(expected)}")
    found, energy = meter(device), np.empty((rounds, len(calls)))
    seconds = np.empty((rounds, len(calls)))
    for turn, (position, call) in product(range(rounds), enumerate(calls)):
        before = found.joules() if found else math.nan
        seconds[turn, position] = timed(call, repeats[position], device)
        used = found.joules() - before if found else math.nan
        energy[turn, position] = used / (repeats[position] + WARM_UP)
    return seconds, energy if found else None


def timed(call: Call, repeats: int, device: torch.device) -> float:
    """Seconds a call, over so many after warming up; on CUDA between events, with nothing else under way."""
    for _ in range(WARM_UP):
        call()
    if device.type != "cuda":
        return timeit.Timer(call).timeit(repeats) / repeats
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    torch.cuda.synchronize(device)
    return float(start.elapsed_time(end)) / 1e3 / repeats


def quartiles(values: np.ndarray) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    low, middle, high = (float(value) for value in np.percentile(values, QUARTILES))
    return low, middle, high


def median_interval(values: np.ndarray) -> tuple[float, float] | None:
    """The 95% interval of the median, from order statistics; None of fewer than 6 values, which have none.

    It covers how one session's rounds scatter, not what another day or machine would give.
    """
    middle = float(np.median(values))
    interval: Any = stats.quantile_test(values, q=middle, p=0.5).confidence_interval(CONFIDENCE)
    low, high = interval
    return (float(low), float(high)) if np.isfinite([low, high]).all() else None


def scatter(values: np.ndarray) -> float:
    """How far apart the quartiles of the values are."""
    low, _, high = quartiles(values)
    return high - low
