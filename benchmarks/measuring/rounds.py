"""Rounds: calls timed in turn, so that whatever slows the machine slows all of them, and statistics over the rounds."""

from __future__ import annotations

import contextlib
import math
import time
import timeit
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from benchmarks.measuring.energy import meter
from benchmarks.statistics.scores import CONFIDENCE
from compress.console import console, duration

WARM_UP = 1  # untimed calls before every timing, since the call before it ran another network
SHORTEST = 0.02  # seconds; shorter calls are repeated until one timing takes this long
NOISY = 0.05  # interquartile range of the reference's ratio to itself above which a measurement is called noisy
Call = Callable[[], object]


@contextlib.contextmanager
def conditions(threads: int) -> Iterator[None]:
    """Set torch's number of threads; on CUDA compute fp32 without TF32, by cuDNN's fastest kernels for each shape.

    All is restored afterwards.
    """
    before, cudnn, products = torch.get_num_threads(), torch.backends.cudnn, torch.backends.cuda.matmul
    chosen = cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark
    torch.set_num_threads(threads)
    cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark = False, False, True
    try:
        yield
    finally:
        torch.set_num_threads(before)
        cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark = chosen


def interleaved(
    calls: Sequence[Call],
    *,
    rounds: int,
    device: torch.device,
    warm_up: int = WARM_UP,
    shortest: float = SHORTEST,
    until: float = math.inf,
    what: str = "",
) -> tuple[np.ndarray, np.ndarray | None]:
    """Seconds a call and, where the machine has a counter, joules a call, `(rounds, calls)` each.

    Every call is timed once in every round; every other round runs backwards, so that a steady drift cancels out.

    Args:
        warm_up: untimed calls before every timing.
        shortest: seconds that a timing takes at least, by repeating the call.
        until: moment, as `time.monotonic` has it, after which no round is begun but the first.
        what: is printed with the expected duration; nothing is printed where it is empty.
    """
    once = [timed(call, device=device, warm_up=1) for call in calls]
    repeats = [max(1, round(shortest / seconds)) for seconds in once]
    if what:
        expected = rounds * sum(seconds * (warm_up + repeat) for seconds, repeat in zip(once, repeats, strict=True))
        console.print(f"{what}: {rounds} rounds, about {duration(expected)}")
    counters = meter(device)
    seconds, joules = np.empty((2, rounds, len(calls)))
    done = 0
    while done < rounds and (not done or time.monotonic() < until):
        for position in list(range(len(calls)))[:: -1 if done % 2 else 1]:
            before = counters.joules() if counters else math.nan
            repeat = repeats[position]
            seconds[done, position] = timed(calls[position], device=device, repeats=repeat, warm_up=warm_up)
            used = counters.joules() - before if counters else math.nan
            joules[done, position] = used / (warm_up + repeat)
        done += 1
    return seconds[:done], joules[:done] if counters else None


def timed(call: Call, *, device: torch.device, repeats: int = 1, warm_up: int = 0) -> float:
    """Seconds a call, averaged over the repeats; on CUDA between two events, with nothing else under way."""
    for _ in range(warm_up):
        call()
    if device.type != "cuda":
        return timeit.Timer(call).timeit(repeats) / repeats
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.device(device):  # the present one's stream is where events are recorded
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize(device)
    return float(start.elapsed_time(end)) / 1e3 / repeats


def clock(device: torch.device) -> float:
    """Seconds since some moment in the past, read when the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def quartiles(values: np.ndarray) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    low, middle, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return low, middle, high


def median_interval(values: np.ndarray) -> tuple[float, float] | None:
    """The 95% interval of the median, from order statistics; None for fewer than 6 values, which have no such interval.

    It covers the scatter between the rounds of one session, not what another day or machine would give.
    """
    count = len(values)
    below = np.cumsum([math.comb(count, number) for number in range(count)]) / 2**count  # shares of a fair coin
    left_out = int(np.searchsorted(below, (1 - CONFIDENCE) / 2))  # values on either side of the interval
    ordered = np.sort(values)
    return (float(ordered[left_out - 1]), float(ordered[count - left_out])) if left_out else None
